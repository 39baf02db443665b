//! The user-space switch that joins the hosts of a `local` cluster and breaks the links between them.
//!
//! **Problem.** Links must fail per direction (block, delay, jitter, loss, duplication, reordering, corruption, rate), on
//! a machine where we are not root, where netem may not exist, and where iptables and tc need not be installed; and
//! what was dropped must be known, not guessed.
//!
//! **Mechanism.** Each host is a network namespace with one veth pair. Its far end is the host's `eth0`, its near end is a
//! [`Port`] of the switch: a packet socket ([`open_port`]). One thread takes frames from the ports and hands them to the
//! port of their receiver, after the link between the two has had its say. What a link does to a frame is a pure
//! function of time, length and chance ([`crate::shape`]); ports, queues and counters are a state machine without a socket
//! ([`fabric`]); the thread around them is thin ([`engine`]). The thread owns all state and orders reach it through a
//! channel, so an order takes effect between two frames: when [`Switch::block`] returns, the switch hands no more frame
//! of that link to its receiver. What it had handed over before may still lie in the receiver's sockets.
//!
//! Offloads must be off at both ends of each pair ([`offloads_off`]), or frames are too long and their checksums wrong.
//!
//! **Figures** (2 cores, Linux 6.18, release build, nothing else to do, `tests/switch_real`): a UDP ping takes 67 us (99 %: 112 us);
//! 480,000 frames of 100 bytes a second pass a clean link, 1.9 Gbit/s of TCP; beside compilers that keep both cores busy,
//! 90,000 to 120,000 frames and 0.8 Gbit/s. 50 ms of delay each way give an RTT of 100.2 ms (100.1 to 100.9), busy or
//! not. While a host floods the switch a block takes 3 us (median) to 10 ms. An idle switch uses no CPU. What comes
//! faster is dropped by the kernel in front of the port, and counted ([`Health::overruns`]).
//!
//! Caveats: frames of other address families are carried as they are, but only IP is corrupted; VLAN tags are lost (the
//! kernel takes them off); a kernel that defers its work under load may show a frame to the switch after a call that was
//! to count it; a disk that stalls while a capture is written stalls the network.
mod engine;
mod ethtool;
mod fabric;
mod frame;
pub mod pcap;
mod socket;

pub use crate::shape::{MAX_BACKLOG, MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES};
pub use ethtool::offloads_off;
pub use fabric::Counters;
pub use frame::Mac;
pub use socket::open_port;

use engine::{Engine, Order};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use splitbrain_core::{Link, Name, Shape};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Where a host is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The host.
    pub name: Name,
    /// The address of its `eth0`.
    pub mac: Mac,
    /// The near end of its veth pair.
    pub ifname: String,
}

/// What the switch as a whole has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Frames for nobody: too short, for an unknown address, or for their own sender.
    pub strays: u64,
    /// Frames of each host that the kernel dropped because the switch was too slow: a loss that nobody asked for.
    pub overruns: Vec<(Name, u64)>,
    /// Why the capture ended early, if it did.
    pub pcap_error: Option<String>,
}

/// What one link is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it drops everything.
    pub blocked: bool,
    /// What it does to frames otherwise.
    pub shape: Shape,
    /// What happened on it since the start.
    pub counters: Counters,
}

/// A running switch. Dropping it stops it; frames that wait are then lost.
///
/// All methods may be called from any thread, and return once the switch's thread has done what they say. They fail if
/// a link is not one between two different ports (then nothing was changed), or if the thread ended (with the reason).
pub struct Switch {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    /// Why the thread ended, if it failed.
    failure: Arc<OnceLock<String>>,
}

impl Switch {
    /// Starts the thread. Each port comes with its socket from [`open_port`]; the links draw their chance from `seed`;
    /// frames that are delivered are written to `pcap`.
    pub fn start(ports: Vec<(Port, OwnedFd)>, seed: u64, pcap: Option<File>) -> io::Result<Switch> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let mut engine = Engine::new(ports, seed, pcap, wake.clone())?;
        let (orders, inbox) = channel();
        let failure = Arc::new(OnceLock::new());
        let told = failure.clone();
        let thread = std::thread::Builder::new().name("switch".into()).spawn(move || {
            // Signals are for the threads that wait for them.
            let result = SigSet::all().thread_block().map_err(io::Error::from);
            if let Err(e) = result.and_then(|()| engine.run(&inbox)) {
                let _ = told.set(e.to_string());
            }
        })?;
        Ok(Switch {
            orders,
            wake,
            thread: Some(thread),
            failure,
        })
    }

    /// Drops from now on every frame of these links, the delayed ones included.
    pub fn block(&self, links: &[Link]) -> io::Result<()> {
        let links = links.to_vec();
        self.ask(move |e| e.fabric.block(&links))?
    }

    /// Carries frames on these links again, in their present shape.
    pub fn unblock(&self, links: &[Link]) -> io::Result<()> {
        let links = links.to_vec();
        self.ask(move |e| e.fabric.unblock(&links))?
    }

    /// Gives these links a shape. Frames that wait on them wait no longer than a new one would: with the default shape
    /// none is late any more. A shape that a link has already changes nothing.
    pub fn shape(&self, links: &[Link], shape: Shape) -> io::Result<()> {
        let links = links.to_vec();
        self.ask(move |e| e.fabric.shape(engine::now(), &links, shape))?
    }

    /// Notes shapes from now on and does not act on them: for tests, whose verification must notice.
    pub(super) fn ignore_shapes(&self) -> io::Result<()> {
        self.ask(|e| e.fabric.ignore_shapes())
    }

    /// What happened on a link. Frames that a host had sent before the call are counted.
    pub fn counters(&self, link: Link) -> io::Result<Counters> {
        Ok(self.link(link)?.counters)
    }

    /// What a link is like. Frames that a host had sent before the call are counted.
    pub fn link(&self, link: Link) -> io::Result<LinkState> {
        let (blocked, shape, counters) = self.ask(move |e| {
            e.settle();
            e.fabric.link_state(link)
        })??;
        Ok(LinkState {
            blocked,
            shape,
            counters,
        })
    }

    /// What happened on every link, in the order of names.
    pub fn all_counters(&self) -> io::Result<Vec<(Link, Counters)>> {
        self.ask(|e| {
            e.settle();
            e.fabric.all_counters()
        })
    }

    /// Whether anything went wrong that no plan asked for.
    pub fn health(&self) -> io::Result<Health> {
        self.ask(|e| Health {
            strays: e.fabric.strays(),
            overruns: e.overruns(),
            pcap_error: e.pcap_error(),
        })
    }

    /// Ends the thread, with the capture complete on disk. Fails if the thread had failed before.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let asked = self.ask(|e| e.stop = true);
        let joined = thread.join().map_err(|_| io::Error::other("the switch panicked"));
        asked.and(joined)
    }

    /// Has the thread call `f` between two frames, and waits for what it returns.
    fn ask<R: Send + 'static>(&self, f: impl FnOnce(&mut Engine) -> R + Send + 'static) -> io::Result<R> {
        let (answer, inbox) = channel();
        let order: Order = Box::new(move |engine| {
            let _ = answer.send(f(engine));
        });
        let dead = || {
            let why = self.failure.get().map_or("it panicked", String::as_str);
            io::Error::other(format!("the switch is dead: {why}"))
        };
        self.orders.send(order).map_err(|_| dead())?;
        self.wake.write(1)?;
        inbox.recv().map_err(|_| dead())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
