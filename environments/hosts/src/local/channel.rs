//! What control and init say to each other.
//!
//! One message is one JSON document in the packets of a `SOCK_SEQPACKET` socket pair (one, unless it is long): packets keep
//! their bounds, file descriptors travel beside them (`SCM_RIGHTS`), and the death of either end is an end of file for the
//! other. Control gives one order at a time and gets exactly one answer to it; [`Report::Exited`] comes unasked between
//! answers.
use crate::processes::{Exit, Spawn};
use crate::sabotage::Sabotage;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use splitbrain_core::{Disk, Link, Name, Proof, Shape, Skew, Unsynced};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What init needs to build the hosts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// In the order of their addresses.
    pub hosts: Vec<Name>,
    /// Of the run; the switch draws from it.
    pub seed: u64,
    /// Whether a file for captured packets comes with the message.
    pub pcap: bool,
    /// For tests.
    pub sabotage: Option<Sabotage>,
}

/// From control to init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Setup(Setup),
    /// Its standard input, output and error come with the message, in this order.
    Spawn(Spawn),
    Kill(Vec<Name>, Unsynced),
    Pause(Vec<Name>),
    Resume(Vec<Name>),
    Block(Vec<Link>),
    Unblock(Vec<Link>),
    Shape(Vec<Link>, Shape),
    Disk(Vec<Name>, Disk),
    Clock(Vec<Name>, Skew),
    /// Report what each link has carried.
    Traffic,
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The link.
    pub link: Link,
    /// Packets that were delivered.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that a block dropped.
    pub blocked: u64,
}

/// From init to control.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The namespaces exist; orders are taken from now on.
    Entered,
    /// The order was carried out and verified.
    Done(Vec<Proof>),
    /// It was not, and why.
    Failed(String),
    /// The answer to [`Order::Traffic`].
    Traffic(Vec<Traffic>),
    /// Unasked: a process ended that nobody had killed.
    Exited(Exit),
}

/// Bytes of a message in one packet, after the byte that says whether more follow. The kernel's default send buffer
/// (212,992 bytes, of which a packet's own bookkeeping takes some) bounds a packet.
const PART: usize = 64 * 1024;
/// Longest message in bytes: room for the proofs of every link of the largest cluster.
const MAX_MESSAGE: usize = 32 << 20;
/// Most descriptors that come with a message.
const MAX_FDS: usize = 3;
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Sends one message; its descriptors go with the first packet.
pub(crate) fn send<T: Serialize>(socket: &impl AsFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).expect("plain data always becomes JSON");
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::other(format!(
            "a message of {} bytes is too long",
            bytes.len()
        )));
    }
    let parts = bytes.chunks(PART);
    let last = parts.len() - 1;
    for (n, part) in parts.enumerate() {
        let more = if n == last { LAST } else { MORE };
        send_packet(socket, more, part, if n == 0 { fds } else { &[] })?;
    }
    Ok(())
}

fn send_packet(socket: &impl AsFd, more: u8, part: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let (raw, more) = (socket.as_fd().as_raw_fd(), [more]);
    let slices = [IoSlice::new(&more), IoSlice::new(part)];
    loop {
        match sendmsg::<UnixAddr>(raw, &slices, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one message, or `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: &impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut message, mut fds) = (Vec::new(), Vec::new());
    let mut packet = vec![0; PART + 1];
    loop {
        let Some(length) = receive_packet(socket, &mut packet, &mut fds)? else {
            return Ok(None);
        };
        message.extend_from_slice(&packet[1..length]);
        if packet[0] == LAST {
            return Ok(Some((serde_json::from_slice(&message)?, fds)));
        }
        if message.len() > MAX_MESSAGE {
            return Err(io::Error::other("a message without an end"));
        }
    }
}

fn receive_packet(socket: &impl AsFd, packet: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Option<usize>> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    loop {
        let mut slices = [IoSliceMut::new(packet)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = match recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => return Ok(None),
            other => other.map_err(io::Error::from)?,
        };
        for message in got.cmsgs().map_err(io::Error::from)? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us; nobody else knows their numbers.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        // A packet has at least its first byte: an empty one is the end.
        return Ok((got.bytes > 0).then_some(got.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read, Write};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn messages_keep_their_bounds_and_bring_their_descriptors() {
        let (a, b) = pair();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&a, &Order::Pause(vec!["n1".parse().unwrap()]), &[writer.as_raw_fd()]).unwrap();
        send(&a, &Order::Traffic, &[]).unwrap();
        drop(writer);
        let (first, fds) = receive::<Order>(&b).unwrap().unwrap();
        assert!(matches!(first, Order::Pause(hosts) if hosts.len() == 1));
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap();
        std::fs::File::from(fd).write_all(b"hi").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        assert!(matches!(receive::<Order>(&b).unwrap().unwrap(), (Order::Traffic, fds) if fds.is_empty()));
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (a, b) = pair();
        drop(a);
        assert!(receive::<Order>(&b).unwrap().is_none());
    }

    #[test]
    fn a_long_message_takes_several_packets() {
        let (a, b) = pair();
        for length in [0, PART - 13, PART - 12, PART - 11, PART, 3 * PART, 2_000_000] {
            let text = "x".repeat(length);
            let sent = Report::Failed(text.clone());
            let got = std::thread::scope(|scope| {
                scope.spawn(|| send(&a, &sent, &[]).unwrap());
                receive::<Report>(&b).unwrap().unwrap().0
            });
            assert!(matches!(got, Report::Failed(got) if got == text), "{length}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let (a, _b) = pair();
        let error = send(&a, &Report::Failed("x".repeat(MAX_MESSAGE)), &[]).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
