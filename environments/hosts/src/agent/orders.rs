//! Carrying orders out on a host, one after the other.
//!
//! Each is noted in the ledger before it is carried out, and answered once it was verified as far as this host can see. What
//! only two hosts together can see (that a packet does not arrive) control verifies with the agents' probes.
//!
//! Between orders the same thread reaps processes, and reports ends that nobody had asked for; it is the only one that
//! waits for children.
use super::heal;
use super::ledger::{Entry, Ledger};
use super::proto::{Address, FromHost, Greeting, Hello, Order, Reply, Spawn, VERSION};
use super::serve::Asked;
use super::spawn::{Pipes, check_program, environment, put};
use super::state::State;
use super::streams::{Out, Streams};
use crate::clock::Clocks;
use crate::fuse::Disks;
use crate::linux::Wire;
use crate::processes::tree::Stat;
use crate::processes::{self, Members, Scope};
use crate::sabotage::Sabotage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Name, Proof, Skew, Unsynced};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an action may take to show its effect. A process that waits for its disk stops and dies late.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same under sabotage, where it will not show any.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// How often, in milliseconds, new processes are looked for that are to read a wrong clock.
const TEND: u8 = 15;

/// What carries orders out.
pub(super) struct Worker {
    host: Name,
    run: String,
    sabotage: Option<Sabotage>,
    state: State,
    ledger: Ledger,
    members: Members,
    /// Gone once the host was healed.
    wire: Option<Wire>,
    clocks: Clocks,
    /// Mounted for our processes.
    disks: Disks,
    /// What the clocks have complained of since it was last told.
    complaints: Vec<String>,
    streams: Arc<Streams>,
    out: Out,
}

impl Worker {
    /// Gets ready on a host that was taken. To be called before the process has other threads.
    pub fn start(hello: &Hello, state: State, out: Out) -> Result<(Worker, Greeting), String> {
        let boot_id = heal::boot_id().map_err(|e| format!("failed to read the boot's id: {e}"))?;
        let head = Entry::Run {
            run: hello.run.clone(),
            host: hello.host.to_string(),
            boot_id: boot_id.clone(),
        };
        let program = std::env::current_exe().map_err(|e| format!("failed to find our own program: {e}"))?;
        let mut missing = Wire::missing();
        missing.extend(Clocks::missing());
        missing.extend(crate::fuse::missing().map(|why| ("fuse".to_string(), why)));
        let greeting = Greeting {
            version: VERSION,
            addresses: addresses().map_err(|e| format!("failed to list this host's addresses: {e}"))?,
            boot_id,
            dir: state.dir().to_path_buf(),
            program,
            missing,
        };
        let members =
            Members::new(Scope::Descendants(hello.host)).map_err(|e| format!("failed to take SIGCHLD: {e}"))?;
        let worker = Worker {
            host: hello.host,
            run: hello.run.clone(),
            sabotage: hello.sabotage,
            ledger: Ledger::open(&state, head)?,
            state,
            members,
            clocks: Clocks::new(hello.sabotage),
            disks: Disks::new(hello.seed, hello.sabotage),
            complaints: Vec::new(),
            wire: Some(Wire::open(hello.sabotage, hello.seed)?),
            streams: Arc::new(Streams::new(out.clone())),
            out,
        };
        Ok((worker, greeting))
    }

    pub fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    /// True as long as there is nothing to undo.
    pub fn is_clean(&self) -> Arc<AtomicBool> {
        self.ledger.is_empty()
    }

    /// Works until that fails. `bell` rings for each order; `busy` is held during each.
    pub fn work(&mut self, asked: &Receiver<Asked>, bell: &EventFd, busy: &Mutex<()>) -> io::Error {
        loop {
            if let Err(error) = self.step(asked, bell, busy) {
                return error;
            }
        }
    }

    fn step(&mut self, asked: &Receiver<Asked>, bell: &EventFd, busy: &Mutex<()>) -> io::Result<()> {
        self.wait(bell)?;
        self.members.wait(Duration::ZERO)?;
        self.members.reap(&[]).map_err(io::Error::other)?;
        self.tend_clocks();
        self.tell_exits();
        while let Ok(Asked { id, order }) = asked.try_recv() {
            let result = {
                let _held = busy.lock().expect("no holder panics");
                self.carry_out(order)
            };
            // From here on nothing is under way: control may hang up as soon as it has the answer.
            self.tell_exits();
            self.out.send(&FromHost::Done { id, result });
        }
        Ok(())
    }

    /// Returns when there is something to do.
    fn wait(&self, bell: &EventFd) -> io::Result<()> {
        let mut fds = [
            PollFd::new(bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.members.signals(), PollFlags::POLLIN),
        ];
        let timeout = if self.clocks.busy() {
            PollTimeout::from(TEND)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match bell.read() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn tell_exits(&mut self) {
        for exit in self.members.exits.drain(..) {
            self.out.send(&FromHost::Exited {
                process: exit.process,
                life: exit.life,
                how: exit.how,
            });
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<Reply, String> {
        let (host, patience) = (self.host, self.patience());
        let proofs = match order {
            Order::Put(piece) => put(&piece).map(|()| Vec::new()),
            Order::Spawn(spawn) => {
                let what = spawn.process.clone();
                self.spawn(spawn)
                    .map_err(|why| format!("start {what} on {host}: {why}"))
            }
            Order::Kill(Unsynced::Kept) => {
                let skip = self.sabotage == Some(Sabotage::KillDoesNothing);
                processes::kill(&mut self.members, &[host], patience, skip)
            }
            Order::Kill(unsynced) => {
                self.ledger.note(&Entry::Disk {
                    what: format!("{unsynced:?}"),
                })?;
                let skip = matches!(
                    self.sabotage,
                    Some(Sabotage::KillDoesNothing | Sabotage::DiskDoesNothing)
                );
                processes::cut_power(&mut self.members, &[host], unsynced, patience, skip)
            }
            Order::Disk(disk) => {
                self.ledger.note(&Entry::Disk { what: disk.to_string() })?;
                let skip = self.sabotage == Some(Sabotage::DiskDoesNothing);
                processes::set_disk(&mut self.members, &[host], disk, skip.then_some(patience), skip)
            }
            Order::Pause => {
                self.ledger.note(&Entry::Pause)?;
                let skip = self.sabotage == Some(Sabotage::PauseDoesNothing);
                processes::pause(&mut self.members, &[host], patience, skip)
            }
            Order::Clock(skew, of) => self.clock(skew, of),
            Order::Resume => processes::resume(&mut self.members, &[host], patience),
            Order::Heal => self.heal(),
            Order::Peers(_)
            | Order::Block(_)
            | Order::Unblock(_)
            | Order::ShapeOut(..)
            | Order::ShapeIn(..)
            | Order::Probe(_)
            | Order::Probes => return self.network(order),
        };
        proofs.map(Reply::of)
    }

    fn network(&mut self, order: Order) -> Result<Reply, String> {
        let wire = self.wire.as_mut().ok_or("this host was healed")?;
        let mut note = |what: String| self.ledger.note(&Entry::Network { what });
        match order {
            Order::Peers(peers) => wire.peers(&peers).map(|()| Reply::default()),
            Order::Block(names) => {
                note(format!("block {}", listed(&names)))?;
                wire.block(&names).map(Reply::of)
            }
            Order::Unblock(names) => wire.unblock(&names).map(Reply::of),
            Order::ShapeOut(names, shape) => {
                note(format!("shape what goes to {}", listed(&names)))?;
                wire.shape_out(&names, shape).map(Reply::of)
            }
            Order::ShapeIn(names, shape) => {
                note(format!("shape what comes from {}", listed(&names)))?;
                wire.shape_in(&names, shape).map(Reply::of)
            }
            Order::Probe(bursts) => wire.probe(&bursts).map(|sent| Reply {
                sent,
                ..Reply::default()
            }),
            Order::Probes => wire.probes().map(|probes| Reply {
                came: probes.came,
                dropped: probes.dropped,
                damaged: probes.damaged,
                ..Reply::default()
            }),
            other => unreachable!("{other:?} is not about the network"),
        }
    }

    fn patience(&self) -> Duration {
        if self.sabotage.is_some() {
            SHORT_PATIENCE
        } else {
            PATIENCE
        }
    }

    fn spawn(&mut self, spawn: Spawn) -> Result<Vec<Proof>, String> {
        let env = environment(&spawn, &self.run, &self.state);
        let program = spawn.argv.first().ok_or("there is no program to start")?;
        check_program(program, &env)?;
        let process = spawn.process.clone();
        self.ledger.note(&Entry::Spawn {
            process: process.clone(),
        })?;
        fs::create_dir_all(&spawn.dir).map_err(|e| format!("make {}: {e}", spawn.dir.display()))?;
        if spawn.layered {
            self.disks.stand_on(&spawn.dir)?;
        }
        let pipes = Pipes::new(spawn.stdio).map_err(|e| format!("make its pipes: {e}"))?;
        let start = processes::Spawn {
            host: self.host,
            process: spawn.process,
            life: spawn.life,
            argv: spawn.argv,
            env,
            dir: spawn.dir,
            layered: spawn.layered,
        };
        let pid = self.members.spawn(start, None, pipes.theirs)?;
        self.note_start(&process, pid)?;
        let ends = [pipes.stdout, Some(pipes.stderr)];
        for (number, end) in (spawn.stream + 1..).zip(ends) {
            let Some(end) = end else { continue };
            self.streams
                .carry_output(number, end)
                .map_err(|e| format!("carry its output: {e}"))?;
        }
        if let Some(stdin) = pipes.stdin {
            let carried = self.streams.carry_input(spawn.stream, stdin);
            carried.map_err(|e| format!("carry its input: {e}"))?;
        }
        if self.clocks.busy() {
            self.clocks.tend(&self.everything()).inspect_err(|_| {
                let _ = killpg(pid, Signal::SIGKILL);
            })?;
        }
        Ok(vec![self.proof(format!("{process} (pid {pid}) started"))])
    }

    fn clock(&mut self, skew: Skew, of: ClockOf) -> Result<Vec<Proof>, String> {
        let undo = self.clocks.undo(skew, of)?;
        let hosts_own = undo.is_some();
        self.ledger.note(&Entry::Clock { undo })?;
        let mut proofs = self.clocks.set(skew, of, &self.everything())?;
        if hosts_own && skew.is_none() {
            self.ledger.note(&Entry::ClockTrue)?;
        }
        if !self.complaints.is_empty() {
            let complaints = std::mem::take(&mut self.complaints);
            return Err(format!("since the last order: {}", complaints.join("; ")));
        }
        let at = self.host.to_string();
        proofs.iter_mut().for_each(|proof| proof.at.clone_from(&at));
        Ok(proofs)
    }

    /// Processes that have started meanwhile get the wrong clock too. One that does not is told with the next order about
    /// clocks.
    fn tend_clocks(&mut self) {
        if self.clocks.busy()
            && let Err(why) = self.clocks.tend(&self.everything())
        {
            note!("a clock is not as ordered: {why}");
            self.complaints.push(why);
        }
    }

    /// All processes of the host, by name.
    fn everything(&self) -> Vec<(String, Pid)> {
        self.members.named_on(self.host)
    }

    /// A process that the ledger cannot name is ended again.
    fn note_start(&mut self, process: &str, pid: Pid) -> Result<(), String> {
        let is = Stat::of(pid.as_raw()).map(|stat| stat.process());
        let noted = is.map_err(|e| format!("read /proc/{pid}/stat: {e}")).and_then(|is| {
            let process = process.to_string();
            self.ledger.note(&Entry::Started { process, is })
        });
        noted.inspect_err(|_| {
            let _ = killpg(pid, Signal::SIGKILL);
        })
    }

    fn heal(&mut self) -> Result<Vec<Proof>, String> {
        self.wire = None;
        // What its parent can see of its end first; what is left then is found as after a crash.
        let ended = processes::kill(&mut self.members, &[self.host], PATIENCE, false);
        self.disks.unmount();
        // The ledger knows how the host's own clock is made true.
        self.clocks = Clocks::new(None);
        self.complaints.clear();
        let healed = heal::heal(&self.state);
        if !healed.left.is_empty() {
            return Err(format!("left on {}: {}", self.host, healed.left.join(", ")));
        }
        self.ledger.clear()?;
        let mut proofs = ended?;
        proofs.extend(
            healed
                .removed
                .into_iter()
                .map(|what| self.proof(format!("{what} removed"))),
        );
        Ok(proofs)
    }

    fn proof(&self, saw: String) -> Proof {
        Proof {
            at: self.host.to_string(),
            saw,
        }
    }
}

impl Reply {
    fn of(proofs: Vec<Proof>) -> Reply {
        Reply {
            proofs,
            ..Reply::default()
        }
    }
}

fn listed(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// This host's addresses that are not loopback.
fn addresses() -> io::Result<Vec<Address>> {
    let all = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let ip = ip(interface.address.as_ref()?)?;
        let mask = interface.netmask.as_ref().and_then(ip_of_mask);
        let prefix = match mask? {
            IpAddr::V4(mask) => mask.to_bits().count_ones(),
            IpAddr::V6(mask) => mask.to_bits().count_ones(),
        };
        (!ip.is_loopback()).then(|| Address {
            interface: interface.interface_name.clone(),
            ip,
            prefix: u8::try_from(prefix).expect("at most 128"),
        })
    });
    Ok(all.collect())
}

fn ip_of_mask(mask: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    ip(mask)
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}
