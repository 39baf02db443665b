//! A port's packet socket: every frame that the host behind an interface sends, and a way to hand it frames.
//!
//! An `AF_PACKET` socket (packet(7)) is bound to the near end of a host's veth pair. `PACKET_IGNORE_OUTGOING` keeps it
//! from seeing what it sent itself, promiscuous mode shows it frames for all addresses. It is created with protocol 0
//! and gets one only when it is bound, or it would collect frames of other interfaces in between.
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What the kernel may keep for a port before the switch takes it, in bytes, if it grants that much.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// Opens the packet socket of interface `ifname`, in the network namespace of the calling thread: promiscuous, blind to
/// its own frames, not blocking. It stays usable when the thread moves to another namespace. Errors name the interface.
pub fn open_port(ifname: &str) -> io::Result<OwnedFd> {
    let failed = |what: &'static str| {
        move |e: io::Error| io::Error::new(e.kind(), format!("open a port on interface {ifname}: {what}: {e}"))
    };
    let index = index_of(ifname).map_err(failed("its index"))?;
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let fd = socket(libc::AF_PACKET, kind).map_err(failed("packet socket"))?;
    option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1).map_err(failed("PACKET_IGNORE_OUTGOING"))?;
    // An interface gets its queue only some time after its cable is plugged in, and drops in silence what comes before.
    option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1).map_err(failed("PACKET_QDISC_BYPASS"))?;
    // The kernel takes as much as it allows: beyond net.core.rmem_max only from a privileged process.
    if option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER).is_err() {
        option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER).map_err(failed("SO_RCVBUF"))?;
    }
    let promiscuous = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    option(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous).map_err(failed("promiscuous mode"))?;
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: address and length belong together.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }).map_err(failed("bind"))?;
    Ok(fd)
}

/// Hands a frame to the host behind the port. False if the interface did not take it.
pub fn send(port: &OwnedFd, frame: &[u8]) -> bool {
    // SAFETY: pointer and length are those of the slice.
    let sent = unsafe { libc::send(port.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    sent == frame.len() as isize
}

/// Takes the next frame that the host behind the port sent; `None` when there is none. An interface that went down has
/// none either. A frame longer than the buffer is cut.
pub fn receive<'b>(port: &OwnedFd, buffer: &'b mut [u8]) -> Option<&'b mut [u8]> {
    loop {
        // SAFETY: pointer and length are those of the slice.
        let n = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recv(port.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags)
        };
        if n >= 0 {
            return Some(&mut buffer[..n as usize]);
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Frames that the kernel dropped because the switch was too slow, since the last call.
pub fn overruns(port: &OwnedFd) -> u64 {
    // struct tpacket_stats: packets, drops.
    let mut stats = [0_u32; 2];
    let mut len = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: pointer and length are those of the array.
    let result = unsafe {
        let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        libc::getsockopt(port.as_raw_fd(), level, name, stats.as_mut_ptr().cast(), &mut len)
    };
    if result == 0 { u64::from(stats[1]) } else { 0 }
}

/// A socket for interface ioctls, in the network namespace of the calling thread.
pub(super) fn control_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC)
}

/// The name as an ioctl wants it.
pub(super) fn ifname_bytes(ifname: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut bytes = [0; libc::IFNAMSIZ];
    if ifname.is_empty() || ifname.len() >= bytes.len() || ifname.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of an interface"));
    }
    for (to, from) in bytes.iter_mut().zip(ifname.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(bytes)
}

fn index_of(ifname: &str) -> io::Result<libc::c_int> {
    let name = ifname_bytes(ifname)?;
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(index as libc::c_int)
    }
}

fn socket(domain: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor that comes back is nobody else's.
    let fd = check(unsafe { libc::socket(domain, kind, 0) })?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option<T>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), len) })?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
