//! A netfilter queue: packets that a rule hands to us, and what is to become of each.
//!
//! The kernel holds a queued packet until it hears a verdict for its number, in any order and however late. We are sent
//! the packet's bytes, checksums filled in and large ones cut to what a wire carries, but need not keep them: only what
//! is changed goes back. The messages are those of linux/netfilter/nfnetlink_queue.h, over a netlink socket of our own (the
//! crate for it shows no descriptor to wait on and keeps 64 KiB for each packet that waits).
//!
//! When nobody listens to a queue any more, the kernel drops what is handed to it: a queue that dies cuts its links off,
//! and never opens them in silence.
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The first number that is tried.
const FIRST_NUMBER: u16 = 0x5b1d;
/// How many are tried.
const NUMBERS: u16 = 16;
/// Packets that the kernel holds for us, over all links.
const MAX_HELD: u32 = 100_000;
/// Room for packets that we have not read yet, in bytes, if the kernel grants it.
const ROOM: usize = 32 << 20;
/// Longer than any message.
const BUFFER: usize = 65_536 + 4_096;

const NETLINK_NETFILTER: isize = 12;
/// The subsystem, in the upper half of a message's type.
const QUEUE: u16 = 3 << 8;
const PACKET: u16 = QUEUE;
const VERDICT: u16 = QUEUE | 1;
const CONFIG: u16 = QUEUE | 2;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;

const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_MAXLEN: u16 = 3;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;

const PACKET_HDR: u16 = 1;
const VERDICT_HDR: u16 = 2;
const PAYLOAD: u16 = 10;

/// Length of the netlink header, and of netfilter's behind it.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;

/// A queue of ours. Closed when dropped; what the kernel holds for it is then dropped as well.
pub struct Queue {
    socket: Socket,
    number: u16,
    buffer: Vec<u8>,
}

/// What came out of a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Came<'a> {
    /// A packet, by its number in this queue.
    Packet(u32, &'a [u8]),
    /// The kernel did not like an order of ours: an error's number.
    Refused(i32),
    /// Something else.
    Other,
}

/// What is to become of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is dropped.
    Drop,
    /// It goes on as it is.
    Accept,
    /// It goes on with these bytes.
    AcceptAs(&'a [u8]),
}

impl Queue {
    /// Binds the first free number in the network namespace of the calling thread.
    pub fn open() -> io::Result<Queue> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A full buffer drops packets, which the kernel counts; an error for each would not help.
        socket.set_no_enobufs(true)?;
        // SAFETY: the socket lives longer than this.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        if setsockopt(&fd, sockopt::RcvBufForce, &ROOM).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &ROOM);
        }
        let mut queue = Queue {
            socket,
            number: FIRST_NUMBER,
            buffer: vec![0; BUFFER],
        };
        queue.bind()?;
        let params = [&65_535_u32.to_be_bytes()[..], &[COPY_PACKET]].concat();
        queue.configure(CFG_PARAMS, &params)?;
        queue.configure(CFG_MAXLEN, &MAX_HELD.to_be_bytes())?;
        queue.socket.set_non_blocking(true)?;
        Ok(queue)
    }

    fn bind(&mut self) -> io::Result<()> {
        for number in FIRST_NUMBER..FIRST_NUMBER + NUMBERS {
            self.number = number;
            match self.configure(CFG_CMD, &[CMD_BIND, 0, 0, 0]) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EPERM)) => {}
                result => return result,
            }
        }
        let last = FIRST_NUMBER + NUMBERS - 1;
        Err(io::Error::other(format!(
            "queues {FIRST_NUMBER} to {last} are all in use, or need root with CAP_NET_ADMIN (in a container: \
             --cap-add NET_ADMIN)"
        )))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn configure(&mut self, attribute: u16, value: &[u8]) -> io::Result<()> {
        self.send(&message(CONFIG, REQUEST | ACK, self.number, &[(attribute, value)]))?;
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        match parse(&self.buffer[..length]) {
            Came::Refused(0) => Ok(()),
            Came::Refused(error) => Err(io::Error::from_raw_os_error(error)),
            _ => Err(io::Error::other("the kernel's answer about a queue is none")),
        }
    }

    /// What comes next; `None` when nothing does for now.
    pub fn next(&mut self) -> io::Result<Option<Came<'_>>> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(Some(parse(&self.buffer[..length]))),
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Says what is to become of packet `id`.
    pub fn verdict(&self, id: u32, verdict: &Verdict) -> io::Result<()> {
        let word = u32::from(*verdict != Verdict::Drop);
        let head = [word.to_be_bytes(), id.to_be_bytes()].concat();
        let mut attributes = vec![(VERDICT_HDR, &head[..])];
        if let Verdict::AcceptAs(bytes) = verdict {
            attributes.push((PAYLOAD, bytes));
        }
        self.send(&message(VERDICT, REQUEST, self.number, &attributes))
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), message, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as the queue.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

fn message(kind: u16, flags: u16, number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // serial and port: not needed, one question at a time
    bytes.extend([0, 0]); // any family, version 0
    bytes.extend(number.to_be_bytes());
    for (attribute, value) in attributes {
        let length = u16::try_from(value.len() + 4).expect("a packet has at most 65531 bytes");
        bytes.extend(length.to_ne_bytes());
        bytes.extend(attribute.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).expect("bounded above");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Came<'_> {
    let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    match word(4) {
        Some(ERROR) => {
            let code = bytes.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok());
            code.map_or(Came::Other, |code| Came::Refused(-i32::from_ne_bytes(code)))
        }
        Some(PACKET) => {
            let id = attribute(bytes, PACKET_HDR).and_then(|head| head.first_chunk::<4>());
            match (id, attribute(bytes, PAYLOAD)) {
                (Some(id), Some(packet)) => Came::Packet(u32::from_be_bytes(*id), packet),
                _ => Came::Other,
            }
        }
        _ => Came::Other,
    }
}

/// An attribute's value, among those behind the headers.
fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = bytes.get(HEADERS..)?;
    loop {
        let head = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The upper bits say how the value is built.
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// What the kernel says of queue `number`, in `/proc/net/netfilter/nfnetlink_queue`: packets that it dropped because
/// too many were held or unread. `None` if nobody listens to that queue.
pub fn dropped(listing: &str, number: u16) -> Option<u64> {
    listing.lines().find_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [own, _, _, _, _, full, unread, ..] if own == u64::from(number) => Some(full + unread),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_the_kernel_reads() {
        let bytes = message(
            VERDICT,
            REQUEST,
            7,
            &[(VERDICT_HDR, &[0, 0, 0, 1, 0, 0, 0, 9]), (PAYLOAD, b"abcde")],
        );
        #[rustfmt::skip]
        let expected = [
            44, 0, 0, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
            12, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 9,
            9, 0, 10, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_packet_is_found_among_other_attributes() {
        let bytes = message(
            PACKET,
            0,
            7,
            &[(5, &[0; 4]), (PACKET_HDR, &[0, 0, 1, 2, 8, 0, 1]), (PAYLOAD, b"packet")],
        );
        assert_eq!(parse(&bytes), Came::Packet(258, b"packet"));
        for cut in 0..bytes.len() - 3 {
            assert_eq!(parse(&bytes[..cut]), Came::Other, "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_carries_its_error() {
        let mut bytes = message(ERROR, 0, 0, &[]);
        bytes[HEADER..].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(parse(&bytes), Came::Refused(libc::ENOENT));
    }

    #[test]
    fn what_the_kernel_dropped_is_read_by_number() {
        let listing = "    6 31 0 2 65531 8 9 5 1\n23325 1234 10 2 65531 3 4 55 1\n";
        assert_eq!(dropped(listing, 23325), Some(7));
        assert_eq!(dropped(listing, 23326), None);
    }
}
