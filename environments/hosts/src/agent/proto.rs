//! What control and a host's agent say to each other.
//!
//! One stream both ways. A frame is a length (4 bytes, little-endian, of what follows), a kind (1 byte) and a body: either
//! one JSON document or, for what processes read and write, a stream's number (4 bytes) and bytes. Control gives orders
//! that carry an id, several at a time if it wants; each gets exactly one [`FromHost::Done`]. The agent carries orders out one
//! after the other.
//!
//! **Flow.** A process that floods must not hold up its host's answers, nor fill anybody's memory: the agent sends no more
//! bytes of a stream than control has granted ([`ToHost::Credit`], [`WINDOW`] from the start), and otherwise leaves them in the
//! process's pipe. What control writes to a process waits in the agent, at most [`WINDOW`] bytes; then control waits.
//!
//! **Life.** Control beats at least every second; each beat is answered. Who hears nothing for long takes the other for
//! dead: the agent then heals its host ([`Hello::dead_man`]), control reports the host as lost.
use crate::sabotage::Sabotage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::system::Stdio;
use splitbrain_core::{Disk, Name, Nanos, Proof, Shape, Skew, Unsynced};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;

/// Of this protocol; agent and control must have the same.
pub const VERSION: u32 = 1;
/// Bytes of a stream that may be under way without a grant.
pub const WINDOW: u32 = 256 * 1024;
/// Longest body of a frame.
pub const MAX_FRAME: usize = 16 << 20;
/// Most bytes of a stream in one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// The first word, from control.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Our mark on what is made there.
    pub run: String,
    /// What this machine is called in the run.
    pub host: Name,
    /// Silence of control after which the agent heals its host and ends.
    pub dead_man: Nanos,
    /// Of the run, for this host.
    pub seed: u64,
    /// For tests.
    pub sabotage: Option<Sabotage>,
}

/// The first word, from the agent: what this machine is like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// [`VERSION`].
    pub version: u32,
    /// Its addresses that are not loopback, with the interface and the length of the prefix.
    pub addresses: Vec<Address>,
    /// Of its kernel's present life: machines with the same one share a clock.
    pub boot_id: String,
    /// Where it runs our processes and keeps its ledger; empty, but for the ledger.
    pub dir: PathBuf,
    /// Where our own program is.
    pub program: PathBuf,
    /// What it cannot do, with the reason and the remedy: `iptables`, `netem`, `nfqueue`, `vdso`, `host-clock`, `fuse`.
    pub missing: BTreeMap<String, String>,
}

/// One of a machine's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `eth0`.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Of its network: 24 for `/24`.
    pub prefix: u8,
}

/// From control to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToHost {
    /// First of all.
    Hello(Hello),
    /// Control is alive.
    Beat {
        /// Comes back.
        n: u64,
    },
    /// To be done, once what came before is done.
    Do {
        /// Comes back.
        id: u64,
        /// What.
        order: Order,
    },
    /// The agent may send so many bytes more of this stream.
    Credit {
        /// Which.
        stream: u32,
        /// How many.
        bytes: u32,
    },
    /// Control writes no more to this stream.
    Close {
        /// Which.
        stream: u32,
    },
}

/// From the agent to control.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromHost {
    /// The answer to [`ToHost::Hello`].
    Hello(Greeting),
    /// The host cannot be used, and why: it carries what another run left, it lacks a right. The agent ends.
    Refused(String),
    /// The answer to a beat.
    Beat {
        /// As it came.
        n: u64,
        /// The host's own clock (`CLOCK_MONOTONIC_RAW`, which no fault moves).
        raw: Nanos,
    },
    /// An order was carried out and verified as far as this host can see, or was not.
    Done {
        /// As it came.
        id: u64,
        /// What came of it, or why nothing did.
        result: Result<Reply, String>,
    },
    /// All was read of this stream.
    Closed {
        /// Which.
        stream: u32,
    },
    /// Control may write so many bytes more to this stream.
    Credit {
        /// Which.
        stream: u32,
        /// How many.
        bytes: u32,
    },
    /// A process ended that nobody had killed.
    Exited {
        /// Which.
        process: String,
        /// In which life of the host.
        life: u32,
        /// `exit status 1`, `signal 11 (SIGSEGV)`.
        how: String,
    },
}

/// What is asked of an agent. All but [`Order::Heal`] are about this host alone, and
/// all but [`Order::Put`] are idempotent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Who else there is, with all addresses of each; given once, before anything else.
    Peers(BTreeMap<Name, Vec<IpAddr>>),
    /// Write a piece of a file for the processes to come.
    Put(Put),
    /// Start a process.
    Spawn(Spawn),
    /// End every process of ours.
    Kill(Unsynced),
    /// Stop every process of ours.
    Pause,
    /// Let them go on.
    Resume,
    /// Drop what comes from these hosts.
    Block(Vec<Name>),
    /// Take it again.
    Unblock(Vec<Name>),
    /// Give what goes to these hosts a shape (netem, at the sender).
    ShapeOut(Vec<Name>, Shape),
    /// Give what comes from these hosts a shape (a queue of ours, at the receiver).
    ShapeIn(Vec<Name>, Shape),
    /// Skew the clocks that processes read here.
    Clock(Skew, ClockOf),
    /// Make the disk misbehave.
    Disk(Disk),
    /// Send probes.
    Probe(Vec<Burst>),
    /// What probes have come since they were last asked for, and what was dropped so far.
    Probes,
    /// Undo everything, end every process, and say what is left. The last order of a run.
    Heal,
}

/// A piece of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    /// The host's directory.
    pub dir: PathBuf,
    /// As in [`Spawn`].
    pub layered: bool,
    /// The file's name there.
    pub name: String,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether this is not its first piece.
    pub append: bool,
    /// In base64.
    pub content: String,
}

/// A process to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spawn {
    /// As control calls it.
    pub process: String,
    /// The host's how-manieth life this process belongs to.
    pub life: u32,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the agent's small fixed environment.
    pub env: Vec<(String, String)>,
    /// Working directory; made if need be.
    pub dir: PathBuf,
    /// Whether that directory is to stand on a disk that can be broken ([`crate::fuse`]).
    #[serde(default)]
    pub layered: bool,
    /// Whether its input and output are control's. If not, its output joins its standard error.
    pub stdio: SpawnStdio,
    /// Its streams are `stream` (input), `stream + 1` (output) and `stream + 2` (error); never used before.
    pub stream: u32,
}

/// As [`Stdio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnStdio {
    /// Input and output are control's; error is log.
    Protocol,
    /// Both outputs are log, in the stream of the error.
    Log,
}

impl From<Stdio> for SpawnStdio {
    fn from(stdio: Stdio) -> SpawnStdio {
        match stdio {
            Stdio::Protocol => SpawnStdio::Protocol,
            Stdio::Log => SpawnStdio::Log,
        }
    }
}

/// Probes to send to one host: UDP packets with consecutive serial numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// To whom.
    pub to: Name,
    /// The first one's serial; unique in the run, so that a late probe is never taken for a new one.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Bytes of each, at least 16.
    pub payload: u32,
}

/// What came of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What was seen here.
    pub proofs: Vec<Proof>,
    /// For [`Order::Probe`]: when each probe left, by serial.
    pub sent: Vec<(u64, Nanos)>,
    /// For [`Order::Probes`]: serial, time and whether its bytes were as sent, of each that came. A probe that came twice
    /// stands here twice.
    pub came: Vec<Arrival>,
    /// For [`Order::Probes`]: packets from each peer that a block of ours has dropped since it was set.
    pub dropped: BTreeMap<Name, u64>,
    /// For [`Order::Probes`]: packets that the kernel threw away for a wrong checksum, since boot.
    pub damaged: u64,
}

/// A probe that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Its own.
    pub serial: u64,
    /// The host's raw clock when the kernel took it in.
    pub raw: Nanos,
}

/// One frame.
#[derive(Debug, PartialEq)]
pub enum Frame<T> {
    /// A message.
    Message(T),
    /// Bytes of a stream.
    Data(u32, Vec<u8>),
}

const MESSAGE: u8 = 0;
const DATA: u8 = 1;

/// Writes a message. One call of `write_all`, so that frames of several threads behind one lock do not mix.
pub fn send<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let mut frame = vec![0, 0, 0, 0, MESSAGE];
    serde_json::to_writer(&mut frame, message)?;
    finish(stream, frame)
}

/// Writes at most [`MAX_DATA`] bytes of a stream.
pub fn send_data(stream: &mut impl Write, number: u32, bytes: &[u8]) -> io::Result<()> {
    assert!(bytes.len() <= MAX_DATA, "data goes in frames of bounded size");
    let mut frame = vec![0, 0, 0, 0, DATA];
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(bytes);
    finish(stream, frame)
}

fn finish(stream: &mut impl Write, mut frame: Vec<u8>) -> io::Result<()> {
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(io::Error::other(format!("a frame of {length} bytes is too long")));
    }
    frame[..4].copy_from_slice(&u32::try_from(length).expect("bounded above").to_le_bytes());
    stream.write_all(&frame)?;
    stream.flush()
}

/// Reads a frame; `None` at the end of the stream, be it in the middle of one.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<Frame<T>>> {
    let mut length = [0; 4];
    if !filled(stream, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(io::Error::other(format!("a frame of {length} bytes: no frame of ours")));
    }
    let mut body = vec![0; length];
    if !filled(stream, &mut body)? {
        return Ok(None);
    }
    match (body[0], body[1..].split_first_chunk::<4>()) {
        (MESSAGE, _) => Ok(Some(Frame::Message(serde_json::from_slice(&body[1..])?))),
        (DATA, Some((number, bytes))) => Ok(Some(Frame::Data(u32::from_le_bytes(*number), bytes.to_vec()))),
        (kind, _) => Err(io::Error::other(format!("a frame of the unknown kind {kind}"))),
    }
}

fn filled(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_were_sent() {
        let mut bytes = Vec::new();
        send(&mut bytes, &ToHost::Beat { n: 7 }).unwrap();
        send_data(&mut bytes, 3, b"hello").unwrap();
        send_data(&mut bytes, 4, b"").unwrap();
        let mut stream = &bytes[..];
        let first = receive::<ToHost>(&mut stream).unwrap().unwrap();
        assert!(matches!(first, Frame::Message(ToHost::Beat { n: 7 })));
        let second = receive::<ToHost>(&mut stream).unwrap().unwrap();
        assert!(matches!(second, Frame::Data(3, bytes) if bytes == b"hello"));
        let third = receive::<ToHost>(&mut stream).unwrap().unwrap();
        assert!(matches!(third, Frame::Data(4, bytes) if bytes.is_empty()));
        assert!(receive::<ToHost>(&mut stream).unwrap().is_none());
        for cut in 1..bytes.len() {
            let mut stream = &bytes[..cut];
            while let Ok(Some(_)) = receive::<ToHost>(&mut stream) {}
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bad in [&b"Last login: Friday\n"[..], &[0, 0, 0, 0], &[1, 0, 0, 0, 9]] {
            assert!(receive::<ToHost>(&mut &bad[..]).is_err());
        }
    }
}
