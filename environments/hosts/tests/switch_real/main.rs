//! The switch between real network namespaces.
//!
//! No test harness: entering a user namespace needs a process with a single thread, and the harness has several. The
//! hosts' networks are made by the code that makes them in the product. Figures are printed, never asserted tightly.

mod cases;
mod measures;
#[allow(dead_code, unused_imports)]
#[path = "../../src/local/namespaces.rs"]
mod namespaces;
#[allow(dead_code)]
#[path = "../../src/local/net.rs"]
mod net;
#[path = "../../src/local/netlink.rs"]
mod netlink;

use nix::sched::{CloneFlags, unshare};
use splitbrain_core::{Link, Name, Shape};
use splitbrain_environments::local::switch::{self, Counters, Switch};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Duration;

const SEED: u64 = 42;
const HOSTS: usize = 3;
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

type Case = (&'static str, fn(&mut Net));

/// Three hosts, n1 to n3, each with a UDP socket, and the switch between them.
struct Net {
    hosts: Vec<net::Host>,
    sockets: Vec<UdpSocket>,
    switch: Switch,
    pcap: fs::File,
}

impl Net {
    fn new() -> Net {
        // An empty namespace each time: what a case before this one left goes away when the kernel has time.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let names: Vec<Name> = (1..=HOSTS).map(name).collect();
        let (mut hosts, ports) = net::build(&names).expect("networks");
        let hosts: Vec<net::Host> = names.iter().map(|n| hosts.remove(n).expect("a network each")).collect();
        let socket = |host: &net::Host| {
            let socket = net::inside(&host.netns, || UdpSocket::bind(("0.0.0.0", 7000))).expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.set_broadcast(true).expect("broadcasts");
            socket
        };
        let pcap = tempfile::tempfile().expect("a file");
        let switch = Switch::start(ports, SEED, Some(pcap.try_clone().expect("a descriptor"))).expect("a switch");
        Net {
            sockets: hosts.iter().map(socket).collect(),
            hosts,
            switch,
            pcap,
        }
    }

    fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::from((self.hosts[host - 1].ip, 7000))
    }

    fn socket(&self, host: usize) -> &UdpSocket {
        &self.sockets[host - 1]
    }

    /// Sends one datagram.
    fn send(&self, src: usize, dst: usize, bytes: &[u8]) {
        self.socket(src).send_to(bytes, self.address(dst)).expect("send");
    }

    /// What arrives next at `host`; fails if nothing does.
    #[track_caller]
    fn receive(&self, host: usize) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let n = self.socket(host).recv(&mut buffer).expect("a datagram should arrive");
        buffer[..n].to_vec()
    }

    /// What has arrived at `host` by the time at which a last datagram from `via`, over a link in order, is there.
    fn arrived(&self, host: usize, via: usize) -> Vec<Vec<u8>> {
        self.send(via, host, b"last");
        let mut all = Vec::new();
        loop {
            let next = self.receive(host);
            if next == b"last" {
                return all;
            }
            all.push(next);
        }
    }

    fn shape(&self, links: &[Link], shape: Shape) {
        self.switch.shape(links, shape).expect("a running switch");
    }

    /// The counters of a link, which must account for every frame.
    #[track_caller]
    fn counters(&self, src: usize, dst: usize) -> Counters {
        let c = self.switch.counters(link(src, dst)).expect("a running switch");
        let ends = c.carried + c.blocked + c.lost + c.overflowed + c.refused + c.queued;
        assert_eq!(c.offered + c.duplicated, ends, "every frame is accounted for: {c:?}");
        c
    }

    /// What a case changes on a link, as the difference of its counters.
    #[track_caller]
    fn change(&self, src: usize, dst: usize, work: impl FnOnce()) -> Counters {
        let before = self.counters(src, dst);
        work();
        let after = self.counters(src, dst);
        Counters {
            offered: after.offered - before.offered,
            offered_bytes: after.offered_bytes - before.offered_bytes,
            carried: after.carried - before.carried,
            carried_bytes: after.carried_bytes - before.carried_bytes,
            blocked: after.blocked - before.blocked,
            lost: after.lost - before.lost,
            overflowed: after.overflowed - before.overflowed,
            refused: after.refused - before.refused,
            duplicated: after.duplicated - before.duplicated,
            corrupted: after.corrupted - before.corrupted,
            reordered: after.reordered - before.reordered,
            delayed: after.delayed - before.delayed,
            queued: after.queued,
        }
    }
}

fn name(host: usize) -> Name {
    Name::numbered("n", host)
}

fn link(src: usize, dst: usize) -> Link {
    Link {
        src: name(src),
        dst: name(dst),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|a| !a.starts_with('-'));
    if let Err(why) = enter() {
        eprintln!("failed to enter namespaces: {why}");
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases::ALL.iter().chain(measures::ALL) {
        if filter.is_some_and(|f| !name.contains(f.as_str())) {
            continue;
        }
        // Each case has a network of its own, so that one that fails leaves nothing to the next.
        match catch_unwind(|| case(&mut Net::new())) {
            Ok(()) => {
                passed += 1;
                println!("{passed} passed: {name}");
            }
            Err(_) => {
                failed += 1;
                println!("FAILED: {name} (seed {SEED})");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Enters a user namespace, as its root.
fn enter() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| namespaces::explain("unshare", e))?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(|e| namespaces::explain(file, e))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}
