//! The hosts' networks.
//!
//! A host is a network namespace with `lo` and one `eth0`, the far end of a veth pair whose near end belongs to the
//! switch. Addresses are `10.71.0.N` and `02:47:00:00:00:N`, N counting from 1; every host knows every other's Ethernet
//! address from the start, so that no ARP packet ever decides how soon a healed link carries again. IPv6 is off.
//!
//! Namespaces are made by a thread that leaves its own and opens the new one; from then on a descriptor stands for it.
use super::namespaces::explain;
use super::netlink::{Mac, Netlink};
use super::switch::{self, Port};
use nix::sched::{CloneFlags, setns, unshare};
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::thread;

/// Most hosts of a cluster: the last byte of an address.
pub(super) const MAX_HOSTS: usize = 250;
/// Where probes arrive: "discard" (RFC 863), which no system under test listens on.
pub(super) const PROBE_PORT: u16 = 9;
const PREFIX: u8 = 24;

/// A host's network.
pub(super) struct Host {
    /// Its namespace.
    pub netns: OwnedFd,
    /// What tells that namespace from others.
    pub inode: u64,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Bound inside it, for probes.
    pub probe: UdpSocket,
}

/// The address of the `n`-th host, from 0.
pub(super) fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 71, 0, u8::try_from(n + 1).expect("hosts are bounded"))
}

fn mac(n: usize) -> Mac {
    [2, 0x47, 0, 0, 0, u8::try_from(n + 1).expect("hosts are bounded")]
}

/// All hosts' networks, and the switch's ends of their cables.
pub(super) type Network = (BTreeMap<Name, Host>, Vec<(Port, OwnedFd)>);

/// Makes the hosts' networks, and the ends of their cables for the switch.
pub(super) fn build(names: &[Name]) -> Result<Network, String> {
    assert!(names.len() <= MAX_HOSTS, "control bounds the number of hosts");
    let mut near = Netlink::open().map_err(|e| format!("netlink: {e}"))?;
    let (mut hosts, mut ports) = (BTreeMap::new(), Vec::new());
    for (n, name) in names.iter().enumerate() {
        let (host, port) = build_one(&mut near, names.len(), n, *name)
            .map_err(|(what, error)| explain(&format!("network of {name}: {what}"), error))?;
        hosts.insert(*name, host);
        ports.push(port);
    }
    Ok((hosts, ports))
}

type Step = (&'static str, io::Error);

fn build_one(near: &mut Netlink, count: usize, n: usize, name: Name) -> Result<(Host, (Port, OwnedFd)), Step> {
    let at = |what: &'static str| move |error: io::Error| (what, error);
    let (netns, mut far) = new_namespace().map_err(at("new network namespace"))?;
    let inode = File::from(netns.try_clone().map_err(at("copy a descriptor"))?)
        .metadata()
        .map_err(at("stat the namespace"))?
        .ino();
    let ifname = format!("sb{}", n + 1);
    near.add_veth(&ifname, "eth0", mac(n), &netns)
        .map_err(at("add a veth pair"))?;
    // The near end first: a far end that is brought up while the near one is down gets its carrier later, on its own
    // time, and a host's first packets vanish until then.
    let cable = near.index(&ifname).map_err(at("find the cable"))?;
    near.up(cable).map_err(at("bring the cable up"))?;
    let eth0 = far.index("eth0").map_err(at("find eth0"))?;
    let lo = far.index("lo").map_err(at("find lo"))?;
    far.up(lo).map_err(at("bring lo up"))?;
    far.add_address(eth0, address(n), PREFIX)
        .map_err(at("add the address"))?;
    far.up(eth0).map_err(at("bring eth0 up"))?;
    for other in (0..count).filter(|other| *other != n) {
        far.add_neighbour(eth0, address(other), mac(other))
            .map_err(at("add a neighbour"))?;
    }
    let probe = inside(&netns, || {
        switch::offloads_off("eth0")?;
        UdpSocket::bind((address(n), PROBE_PORT))
    })
    .map_err(at("open the probe socket"))?;
    probe.set_nonblocking(true).map_err(at("prepare the probe socket"))?;
    switch::offloads_off(&ifname).map_err(at("turn offloads off"))?;
    let end = switch::open_port(&ifname).map_err(at("open the cable's end"))?;
    let (ip, mac) = (address(n), mac(n));
    Ok((
        Host {
            netns,
            inode,
            ip,
            probe,
        },
        (Port { name, mac, ifname }, end),
    ))
}

/// A namespace with IPv6 off, and a netlink socket that speaks for it.
fn new_namespace() -> io::Result<(OwnedFd, Netlink)> {
    let make = || -> io::Result<(OwnedFd, Netlink)> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        for scope in ["all", "default"] {
            // Where it cannot be turned off, it is only noise: hosts are told IPv4 addresses.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
        }
        Ok((File::open("/proc/thread-self/ns/net")?.into(), Netlink::open()?))
    };
    thread::scope(|scope| scope.spawn(make).join().expect("makes a namespace without panicking"))
}

/// Runs `work` in a thread inside a network namespace.
pub(super) fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    thread::scope(|scope| {
        scope
            .spawn(enter)
            .join()
            .expect("works inside a namespace without panicking")
    })
}
