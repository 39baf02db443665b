//! Hosts on a bridge.
use nix::sched::{CloneFlags, setns, unshare};
use splitbrain_core::Name;
use splitbrain_environments::Sabotage;
use splitbrain_environments::agent::proto::Burst;
use splitbrain_environments::linux::{Probes, Wire};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Enters namespaces in which all that follows is allowed.
pub fn enter() {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER).expect("a user namespace");
        for (file, text) in [
            ("setgroups", "deny".into()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text).expect("a map of one user");
        }
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
}

/// A host: its network namespace and its addresses.
pub struct Host {
    pub name: Name,
    pub netns: OwnedFd,
    pub addresses: Vec<IpAddr>,
}

/// Hosts n1, n2, ... on one bridge.
pub struct Net {
    pub hosts: Vec<Host>,
}

impl Net {
    pub fn new(count: usize) -> Net {
        // An empty namespace for the bridge each time; the old one goes with its last user.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        sh("ip link add br0 type bridge forward_delay 0 && ip link set br0 up");
        Net {
            hosts: (1..=count).map(Host::new).collect(),
        }
    }

    pub fn peers_of(&self, at: usize) -> BTreeMap<Name, Vec<IpAddr>> {
        let others = self.hosts.iter().enumerate().filter(|(i, _)| *i != at);
        others.map(|(_, host)| (host.name, host.addresses.clone())).collect()
    }

    /// The wire of host `at`, which knows all others.
    pub fn wire(&self, at: usize, sabotage: Option<Sabotage>) -> Wire {
        let peers = self.peers_of(at);
        self.hosts[at].inside(|| {
            let mut wire = Wire::open(sabotage, 7).expect("a wire");
            wire.peers(&peers).expect("peers");
            wire
        })
    }
}

impl Host {
    fn new(n: usize) -> Host {
        let netns: OwnedFd = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("a namespace").into()
        })
        .join()
        .expect("a host");
        let there = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        sh(&format!(
            "ip link add port{n} type veth peer name eth0 netns {there} && ip link set port{n} master br0 up"
        ));
        let host = Host {
            name: Name::numbered("n", n),
            netns,
            addresses: [format!("10.9.0.{n}"), format!("fd09::{n}")]
                .map(|ip| ip.parse().expect("an address"))
                .into(),
        };
        host.sh(&format!(
            "ip link set lo up; ip addr add 10.9.0.{n}/24 dev eth0; ip addr add fd09::{n}/64 dev eth0 nodad; ip link set eth0 up"
        ));
        host
    }

    /// Runs `work` in a thread of this host's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET).expect("a host's network");
            work()
        };
        match thread::scope(|scope| scope.spawn(enter).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// What a shell on this host prints; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        self.inside(|| sh(script))
    }

    /// All rules of both families, without what changes by itself.
    pub fn rules(&self) -> String {
        let listing = self.sh("iptables-save; ip6tables-save");
        let lines = listing.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" [").next().unwrap_or_default().to_string() + "\n")
            .collect()
    }
}

/// What a shell prints; it must succeed.
#[track_caller]
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {err}{text}");
    text
}

/// Serials are unique.
pub fn burst(to: Name, count: u32, payload: u32) -> Burst {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(u64::from(count), Ordering::Relaxed);
    Burst {
        to,
        first,
        count,
        payload,
    }
}

/// Both ends of a link.
pub struct Ends<'a> {
    pub net: &'a Net,
    pub src: usize,
    pub dst: usize,
}

impl Ends<'_> {
    /// Sends a probe at a time until `enough` is seen at the receiver; what was seen since, all together, and how many
    /// probes that took.
    #[track_caller]
    pub fn until(&self, src: &mut Wire, dst: &mut Wire, enough: impl Fn(&Probes) -> bool) -> (Probes, u32) {
        let (start, mut all, mut sent) = (Instant::now(), Probes::default(), 0);
        let to = self.net.hosts[self.dst].name;
        while !enough(&all) {
            assert!(start.elapsed() < PATIENCE, "not seen in {sent} probes: {all:?}");
            self.net.hosts[self.src].inside(|| src.probe(&[burst(to, 1, 16)]).expect("a probe"));
            sent += 1;
            let seen = self.net.hosts[self.dst].inside(|| dst.probes().expect("probes"));
            all.came.extend(seen.came);
            (all.dropped, all.damaged) = (seen.dropped, seen.damaged);
        }
        (all, sent)
    }
}

/// Round trips of a UDP packet from n1 to n2 and back, sorted.
pub fn round_trips(net: &Net, count: usize) -> Vec<Duration> {
    let there = (net.hosts[1].addresses[0], 7000);
    let far = net.hosts[1].inside(|| UdpSocket::bind(there).expect("a socket"));
    let near = net.hosts[0].inside(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    for socket in [&far, &near] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    let mut rtts: Vec<Duration> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            for _ in 0..count {
                let (length, from) = far.recv_from(&mut buffer).expect("a packet");
                far.send_to(&buffer[..length], from).expect("an echo");
            }
        });
        let round = |n: usize| {
            let start = Instant::now();
            near.send_to(&n.to_le_bytes(), there).expect("a packet");
            near.recv(&mut [0; 64]).expect("its echo");
            start.elapsed()
        };
        (0..count).map(round).collect()
    });
    rtts.sort();
    rtts
}

/// One packet from n1 to n2 and back.
pub fn echo(net: &Net) {
    round_trips(net, 1);
}

/// Sends so many bytes from n1 to n2 over TCP, and checks them there: how fast that went.
pub fn tcp(net: &Net, bytes: usize) -> String {
    let there = (net.hosts[1].addresses[0], 7001);
    let door = net.hosts[1].inside(|| TcpListener::bind(there).expect("a listener"));
    let data: Vec<u8> = (0..1 << 16)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = door.accept().expect("a connection");
            let mut got = vec![0; data.len()];
            for _ in 0..bytes / data.len() {
                stream.read_exact(&mut got).expect("bytes");
                assert!(got == data, "what comes is what was sent");
            }
            stream.write_all(b"!").expect("an answer");
        });
        let mut stream = net.hosts[0].inside(|| TcpStream::connect(there).expect("a connection"));
        for _ in 0..bytes / data.len() {
            stream.write_all(&data).expect("bytes go");
        }
        stream.read_exact(&mut [0]).expect("an answer");
    });
    let took = start.elapsed();
    format!(
        "{} MiB in {took:.2?}, {:.0} Mbit/s",
        bytes >> 20,
        bytes as f64 * 8e-6 / took.as_secs_f64()
    )
}

/// Puts something else in the place of every netfilter socket of this process, as if whoever held it had died.
pub fn take_away_netfilter_sockets() {
    let nothing = File::open("/dev/null").expect("nothing");
    for entry in fs::read_dir("/proc/self/fd").expect("our descriptors") {
        let name = entry.expect("a descriptor").file_name();
        let fd: i32 = name.to_str().and_then(|n| n.parse().ok()).expect("a number");
        let (mut protocol, mut length): (i32, libc::socklen_t) = (0, 4);
        let (at, len) = ((&raw mut protocol).cast(), &raw mut length);
        // SAFETY: pointers and length belong together; the descriptor that is replaced is only ever used by number.
        unsafe {
            if libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, at, len) == 0
                && protocol == libc::NETLINK_NETFILTER
            {
                libc::dup2(nothing.as_raw_fd(), fd);
            }
        }
    }
}
