//! The first process inside the sandbox: it carries control's orders out.
//!
//! One thread, one loop, one order at a time; an order is answered once it was carried out and verified. Between orders,
//! and never within one, ends of processes that nobody had killed are reported. When the socket or stage 1 ends, init
//! ends at once, and the kernel ends everything else.
use super::channel::{self, Order, Report, Setup, Traffic};
use super::clocks::HostClocks;
use super::net::{self, Host};
use super::probe::{Expect, Prober};
use super::switch::{Health, Switch};
use crate::fuse::Disks;
use crate::processes::{self, Members, Scope, Spawn};
use crate::sabotage::Sabotage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use splitbrain_core::{Link, Name, Proof, Shape, Unsynced};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long an action may take to show its effect. A process that waits for its disk stops and dies late.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same under sabotage, where it will not show any.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// How often the switch is looked after, where nothing else happens.
const LOOK: u16 = 250;
/// How often processes are looked for that do not read their host's skewed clock yet.
const TEND: u16 = 15;

struct Init {
    members: Members,
    clocks: HostClocks,
    disks: Disks,
    cluster: Option<Cluster>,
    sabotage: Option<Sabotage>,
}

struct Cluster {
    hosts: BTreeMap<Name, Host>,
    switch: Switch,
    /// What the switch has complained of so far.
    health: Health,
}

/// Serves control until it is gone. Returns the exit code.
pub(super) fn run(socket: OwnedFd, parent: OwnedFd) -> i32 {
    let served = Members::new(Scope::Namespaces(BTreeMap::new())).and_then(|members| {
        let mut init = Init {
            members,
            clocks: HostClocks::default(),
            disks: Disks::new(0, None),
            cluster: None,
            sabotage: None,
        };
        let served = init.serve(&socket, &parent);
        if let Some(Cluster { switch, .. }) = init.cluster.take() {
            // A capture is complete on disk once the switch has stopped.
            switch.stop()?;
        }
        served
    });
    match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("init ends: {error}");
            1
        }
    }
}

impl Init {
    fn serve(&mut self, socket: &OwnedFd, parent: &OwnedFd) -> io::Result<()> {
        loop {
            let ready = {
                let mut fds = [
                    PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(parent.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.members.signals(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, if self.clocks.busy() { TEND } else { LOOK }) {
                    Ok(0) => [false; 3],
                    Ok(_) => fds.map(|fd| fd.any().unwrap_or(true)),
                    Err(Errno::EINTR) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            let [asked, orphaned, signalled] = ready;
            if orphaned {
                return Ok(());
            }
            if ready == [false; 3] {
                self.look_after_switch()?;
            }
            self.tend_clocks();
            if signalled {
                self.members.wait(Duration::ZERO)?;
                self.members.reap(&[]).map_err(io::Error::other)?;
            }
            if asked {
                let Some((order, fds)) = channel::receive::<Order>(socket)? else {
                    return Ok(());
                };
                let report = self.carry_out(order, fds);
                self.tell_exits(socket)?;
                channel::send(socket, &report, &[])?;
            }
            self.tell_exits(socket)?;
        }
    }

    /// What cannot be given its host's clock reads true time, which goes to the log.
    fn tend_clocks(&mut self) {
        if let Err(why) = self.clocks.tend(&self.members, None) {
            eprintln!("a process reads true time on a host whose clock is skewed: {why}");
        }
    }

    /// A dead switch would look like a partition that nobody asked for: then this is the end. What it lost against its
    /// will goes to the log.
    fn look_after_switch(&mut self) -> io::Result<()> {
        let Some(cluster) = &mut self.cluster else {
            return Ok(());
        };
        let health = cluster.switch.health()?;
        if (&health.overruns, &health.pcap_error) != (&cluster.health.overruns, &cluster.health.pcap_error) {
            eprintln!("the switch lost packets against its will: {health:?}");
        }
        cluster.health = health;
        Ok(())
    }

    fn tell_exits(&mut self, socket: &OwnedFd) -> io::Result<()> {
        for exit in self.members.exits.drain(..) {
            channel::send(socket, &Report::Exited(exit), &[])?;
        }
        Ok(())
    }

    fn carry_out(&mut self, order: Order, fds: Vec<OwnedFd>) -> Report {
        let patience = self.patience();
        let result = match order {
            Order::Setup(setup) => self.set_up(setup, fds),
            Order::Traffic => match self.traffic() {
                Ok(traffic) => return Report::Traffic(traffic),
                Err(why) => Err(why),
            },
            Order::Spawn(spawn) => self.spawn(spawn, fds),
            Order::Kill(hosts, Unsynced::Kept) => {
                let skip = self.sabotage == Some(Sabotage::KillDoesNothing);
                processes::kill(&mut self.members, &hosts, patience, skip)
            }
            Order::Kill(hosts, unsynced) => {
                let skip = matches!(
                    self.sabotage,
                    Some(Sabotage::KillDoesNothing | Sabotage::DiskDoesNothing)
                );
                processes::cut_power(&mut self.members, &hosts, unsynced, patience, skip)
            }
            Order::Disk(hosts, disk) => {
                let skip = self.sabotage == Some(Sabotage::DiskDoesNothing);
                processes::set_disk(&mut self.members, &hosts, disk, skip.then_some(patience), skip)
            }
            Order::Clock(hosts, skew) => self.clocks.set(&self.members, &hosts, skew, self.sabotage),
            Order::Pause(hosts) => {
                let skip = self.sabotage == Some(Sabotage::PauseDoesNothing);
                processes::pause(&mut self.members, &hosts, patience, skip)
            }
            Order::Resume(hosts) => processes::resume(&mut self.members, &hosts, patience),
            Order::Block(links) => self.block(&links),
            Order::Unblock(links) => self.unblock(&links),
            Order::Shape(links, shape) => self.shape(&links, shape),
        };
        result.map_or_else(Report::Failed, Report::Done)
    }

    fn patience(&self) -> Duration {
        if self.sabotage.is_some() {
            SHORT_PATIENCE
        } else {
            PATIENCE
        }
    }

    fn set_up(&mut self, setup: Setup, mut fds: Vec<OwnedFd>) -> Result<Vec<Proof>, String> {
        let pcap = setup.pcap.then(|| fds.pop().map(File::from)).flatten();
        let (hosts, ports) = net::build(&setup.hosts)?;
        let switch = Switch::start(ports, setup.seed, pcap).map_err(|e| format!("start the switch: {e}"))?;
        let inodes = hosts.iter().map(|(name, host)| (host.inode, *name)).collect();
        self.members.know_hosts(Scope::Namespaces(inodes));
        self.sabotage = setup.sabotage;
        self.disks = Disks::new(setup.seed, setup.sabotage);
        if setup.sabotage == Some(Sabotage::ShapeDoesNothing) {
            switch.ignore_shapes().map_err(|e| e.to_string())?;
        }
        let health = switch.health().map_err(|e| e.to_string())?;
        self.cluster = Some(Cluster { hosts, switch, health });
        Ok(Vec::new())
    }

    fn spawn(&mut self, spawn: Spawn, fds: Vec<OwnedFd>) -> Result<Vec<Proof>, String> {
        let what = format!("{} on {}", spawn.process, spawn.host);
        let fds: [OwnedFd; 3] = fds
            .try_into()
            .map_err(|_| format!("start {what}: streams are missing"))?;
        let (host, process) = (spawn.host, spawn.process.clone());
        if spawn.layered {
            let mounted = self.disks.stand_on(&spawn.dir);
            mounted.map_err(|why| format!("start {what}: {why}"))?;
        }
        let hosts = &self.cluster.as_ref().ok_or("there is no cluster yet")?.hosts;
        let netns = &hosts
            .get(&host)
            .ok_or_else(|| format!("there is no host {host}"))?
            .netns;
        let pid = self
            .members
            .spawn(spawn, Some(netns), fds)
            .map_err(|why| format!("start {what}: {why}"))?;
        self.clocks
            .tend(&self.members, Some(host))
            .map_err(|why| format!("give {what} its host's clock: {why}"))?;
        Ok(vec![Proof {
            at: host.to_string(),
            saw: format!("{process} (pid {pid}) started"),
        }])
    }

    fn block(&mut self, links: &[Link]) -> Result<Vec<Proof>, String> {
        let switch = &self.cluster()?.switch;
        if self.sabotage != Some(Sabotage::BlockDoesNothing) {
            switch.block(links).map_err(|e| e.to_string())?;
        }
        self.verify(links, |_| Ok(Expect::Blocked))
    }

    fn unblock(&mut self, links: &[Link]) -> Result<Vec<Proof>, String> {
        let switch = &self.cluster()?.switch;
        switch.unblock(links).map_err(|e| e.to_string())?;
        let state = |link| switch.link(link).map_err(|e| e.to_string());
        self.verify(links, |link| Ok(Expect::Open(state(link)?.shape)))
    }

    fn shape(&mut self, links: &[Link], shape: Shape) -> Result<Vec<Proof>, String> {
        let switch = &self.cluster()?.switch;
        switch.shape(links, shape).map_err(|e| e.to_string())?;
        let mut proofs = self.verify(links, |link| {
            let state = switch.link(link).map_err(|e| e.to_string())?;
            if state.shape != shape {
                return Err(format!("{link}: its shape is {:?}, not {shape:?}", state.shape));
            }
            // A link may be blocked and shaped at once; then nothing can be seen but that it still is.
            Ok(if state.blocked {
                Expect::Blocked
            } else {
                Expect::Open(shape)
            })
        })?;
        let clean = if shape == Shape::default() { " clean" } else { "" };
        for proof in &mut proofs {
            proof.saw += &format!(", shape read back{clean}");
        }
        Ok(proofs)
    }

    fn verify(&self, links: &[Link], expect: impl Fn(Link) -> Result<Expect, String>) -> Result<Vec<Proof>, String> {
        let Cluster { hosts, switch, .. } = self.cluster()?;
        let links: Result<Vec<_>, String> = links.iter().map(|link| Ok((*link, expect(*link)?))).collect();
        Prober { hosts, switch }.verify(&links?, self.patience())
    }

    fn cluster(&self) -> Result<&Cluster, String> {
        self.cluster.as_ref().ok_or_else(|| "there is no cluster yet".into())
    }

    fn traffic(&self) -> Result<Vec<Traffic>, String> {
        let counters = self.cluster()?.switch.all_counters().map_err(|e| e.to_string())?;
        let traffic = counters.into_iter().map(|(link, counters)| Traffic {
            link,
            packets: counters.carried,
            bytes: counters.carried_bytes,
            blocked: counters.blocked,
        });
        Ok(traffic.collect())
    }
}
