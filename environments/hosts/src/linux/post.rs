//! Probes: UDP packets from host to host that show whether a link carries.
//!
//! They go between the hosts' own addresses, to [`PORT`], and so the way of the traffic under test: blocks and shapes
//! meet them like everything else. One thread receives and stamps each arrival at once with `CLOCK_MONOTONIC_RAW`. The
//! kernel's own stamps will not do: it sets them before a packet enters a queue of ours, so that a delay at the receiver
//! would never show. A stamp is thus late by what the thread took to wake up, never early; a departure is stamped before
//! the packet is given to the kernel. Between them they bound a probe's flight from above: a flight that was too short
//! was too short for sure.
//!
//! A probe carries its serial number and bytes that follow from it. One whose bytes differ was damaged on its way past
//! every checksum, and counts as damaged instead of arrived.
use crate::agent::proto::{Arrival, Burst};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, SockaddrStorage, bind, recv, sendto, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use splitbrain_core::Nanos;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Where probes arrive: registered for nothing, and used by no system under test.
pub const PORT: u16 = 7999;
/// Fewest bytes of a probe: magic and serial.
pub const LEAST: usize = 16;
/// Most bytes of a probe.
pub const MOST: usize = 60_000;
/// Most arrivals that wait to be asked for.
const MAX_ARRIVALS: usize = 100_000;
/// Room for probes before the thread takes them, in bytes, if the kernel grants it.
const ROOM: usize = 16 << 20;
/// Longest wait until the kernel takes a probe, in milliseconds.
const PATIENCE: u16 = 1_000;
const MAGIC: &[u8; 8] = b"sb-probe";

/// Sends and receives probes.
pub struct Post {
    v4: UdpSocket,
    /// `None` where the host has no IPv6.
    v6: Option<UdpSocket>,
    inbox: Arc<Mutex<Inbox>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inbox {
    came: Vec<Arrival>,
    damaged: u64,
    /// Beyond [`MAX_ARRIVALS`].
    lost: u64,
    /// Why the thread ended.
    failure: Option<String>,
}

impl Post {
    /// Binds the sockets and starts the thread.
    pub fn open() -> Result<Post, String> {
        let v4 = UdpSocket::bind(("0.0.0.0", PORT)).map_err(|e| taken(&e))?;
        let v6 = match bind_v6() {
            Ok(socket) => Some(socket),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(taken(&e)),
            Err(_) => None,
        };
        let failed = |e: io::Error| format!("receive probes: {e}");
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let stop = Arc::new(stop.map_err(|e| failed(e.into()))?);
        let mut sockets = Vec::new();
        for socket in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            // Beyond net.core.rmem_max only with rights that a container may lack.
            if setsockopt(socket, sockopt::RcvBufForce, &ROOM).is_err() {
                let _ = setsockopt(socket, sockopt::RcvBuf, &ROOM);
            }
            sockets.push(socket.try_clone().map_err(failed)?);
        }
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let (wake, letters) = (stop.clone(), inbox.clone());
        let thread = std::thread::Builder::new().name("probes".into()).spawn(move || {
            let ended = SigSet::all().thread_block().map_err(io::Error::from);
            if let Err(e) = ended.and_then(|()| receive(&sockets, &wake, &letters)) {
                lock(&letters).failure = Some(e.to_string());
            }
        });
        Ok(Post {
            v4,
            v6,
            inbox,
            stop,
            thread: Some(thread.map_err(failed)?),
        })
    }

    /// Sends probes to `ip`: by serial, when each left, just before the kernel got it.
    pub fn send(&self, burst: &Burst, ip: IpAddr) -> Result<Vec<(u64, Nanos)>, String> {
        let size = burst.payload as usize;
        if !(LEAST..=MOST).contains(&size) {
            return Err(format!("a probe has {LEAST} to {MOST} bytes, not {size}"));
        }
        let to = SocketAddr::new(ip, PORT);
        let socket = match ip {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(format!("probe {ip}: this host has no IPv6"))?,
        };
        let mut sent = Vec::new();
        for serial in burst.first..burst.first.saturating_add(u64::from(burst.count)) {
            let bytes = probe(serial, size);
            let left = raw_now();
            send(socket, &bytes, to).map_err(|e| format!("send a probe to {} at {to}: {e}", burst.to))?;
            sent.push((serial, left));
        }
        Ok(sent)
    }

    /// What has come since this was last asked for.
    pub fn take(&self) -> Result<Vec<Arrival>, String> {
        let mut inbox = lock(&self.inbox);
        if let Some(failure) = &inbox.failure {
            return Err(format!("receive probes: {failure}"));
        }
        let came = std::mem::take(&mut inbox.came);
        match std::mem::take(&mut inbox.lost) {
            0 => Ok(came),
            lost => Err(format!(
                "{lost} probes came beyond the {MAX_ARRIVALS} that wait to be asked for"
            )),
        }
    }

    /// Packets that the kernel threw away for a wrong UDP checksum since boot, and probes that came with wrong bytes.
    pub fn damaged(&self) -> Result<u64, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("read {path}: {e}"));
        let v4 = udp_checksum_errors(&read("/proc/thread-self/net/snmp")?);
        let v4 = v4.ok_or("find InCsumErrors of Udp in /proc/thread-self/net/snmp")?;
        // Absent where the kernel has no IPv6.
        let v6 = read("/proc/thread-self/net/snmp6").map(|text| udp6_checksum_errors(&text));
        Ok(v4 + v6.unwrap_or(0) + lock(&self.inbox).damaged)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn taken(error: &io::Error) -> String {
    format!(
        "bind UDP port {PORT} for probes: {error}: end what uses that port on the host (`ss -ulpn 'sport = :{PORT}'`)"
    )
}

/// Of IPv6 alone, which the standard library's sockets are not.
fn bind_v6() -> io::Result<UdpSocket> {
    // SAFETY: plain numbers; the descriptor that comes back is nobody else's.
    let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(any))?;
    Ok(UdpSocket::from(fd))
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The clock that no fault moves.
pub fn raw_now() -> Nanos {
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).expect("Linux has a raw clock");
    Nanos(t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}

/// Gives one probe to the kernel. Waits for room a little: packets may pile up in front of a neighbour that does not
/// answer.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    loop {
        match sendto(socket.as_raw_fd(), bytes, &to, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let room = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PATIENCE);
                if room == Ok(0) {
                    return Err(io::Error::from(io::ErrorKind::WouldBlock));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn receive(sockets: &[UdpSocket], stop: &EventFd, inbox: &Mutex<Inbox>) -> io::Result<()> {
    let mut buffer = vec![0; MOST + 1];
    loop {
        let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if fds[0].any() == Some(true) {
            return Ok(());
        }
        for socket in sockets {
            drain(socket, &mut buffer, inbox)?;
        }
    }
}

/// Most probes of one socket before the other has its turn.
const BATCH: usize = 256;

fn drain(socket: &UdpSocket, buffer: &mut [u8], inbox: &Mutex<Inbox>) -> io::Result<()> {
    for _ in 0..BATCH {
        let length = match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(()),
            // Nothing comes with these but an old probe's fate.
            Err(Errno::EINTR | Errno::ECONNREFUSED) => continue,
            Err(e) => return Err(e.into()),
        };
        let raw = raw_now();
        let mut inbox = lock(inbox);
        match read(&buffer[..length]) {
            Letter::Probe(_) if inbox.came.len() >= MAX_ARRIVALS => inbox.lost += 1,
            Letter::Probe(serial) => inbox.came.push(Arrival { serial, raw }),
            Letter::Damaged => inbox.damaged += 1,
            Letter::Other => {}
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Letter {
    Probe(u64),
    Damaged,
    /// Not from us.
    Other,
}

fn probe(serial: u64, size: usize) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &serial.to_le_bytes()].concat();
    bytes.extend((LEAST..size).map(|at| filler(serial, at)));
    bytes
}

fn filler(serial: u64, at: usize) -> u8 {
    (serial as u8).wrapping_add(at as u8) ^ 0x5b
}

fn read(bytes: &[u8]) -> Letter {
    let Some((MAGIC, rest)) = bytes.split_first_chunk::<8>() else {
        return Letter::Other;
    };
    let Some((serial, rest)) = rest.split_first_chunk::<8>() else {
        return Letter::Damaged;
    };
    let serial = u64::from_le_bytes(*serial);
    let whole = rest.iter().zip(LEAST..).all(|(byte, at)| *byte == filler(serial, at));
    if whole { Letter::Probe(serial) } else { Letter::Damaged }
}

/// From `/proc/net/snmp`: a line of names, then a line of numbers.
fn udp_checksum_errors(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "InCsumErrors")?;
    numbers.split(' ').nth(at)?.parse().ok()
}

fn udp6_checksum_errors(snmp6: &str) -> u64 {
    let line = snmp6.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_read_back_and_no_flipped_bit_of_its_filler_goes_unnoticed() {
        for size in [LEAST, 100] {
            let bytes = probe(0x1234_5678_9abc, size);
            assert_eq!(bytes.len(), size);
            assert_eq!(read(&bytes), Letter::Probe(0x1234_5678_9abc));
            for bit in LEAST * 8..size * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(&damaged), Letter::Damaged, "bit {bit}");
            }
        }
        assert_eq!(read(b"hello"), Letter::Other);
        assert_eq!(read(&probe(1, LEAST)[..12]), Letter::Damaged);
    }

    #[test]
    fn checksum_errors_are_found_by_their_names() {
        let snmp = "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts InErrors InCsumErrors MemErrors\nUdp: 10 0 5 4 0\n\
                    UdpLite: InDatagrams InCsumErrors\nUdpLite: 0 9\n";
        assert_eq!(udp_checksum_errors(snmp), Some(4));
        assert_eq!(udp_checksum_errors("Udp: A\nUdp: 1\n"), None);
        assert_eq!(udp6_checksum_errors("Udp6InErrors   \t3\nUdp6InCsumErrors   \t7\n"), 7);
    }
}
