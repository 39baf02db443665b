//! The thread that shapes what comes in: a queue, a timer and orders around the [`Lanes`].
//!
//! For kernels without netem. The rule that hands packets over stands at the receiver, on `INPUT`: there a packet has
//! crossed the real network and is accounted for by its sender, so that TCP sees a slow network. On the sender's `OUTPUT` it
//! would see a full device instead, and throttle itself.
//!
//! **Duplicates.** The kernel lets each queued packet go on once. A second copy is put in through a raw socket: with the
//! peer's address as its sender and ours as its receiver, it goes by the loopback interface to the same socket that
//! takes the first. Rules of ours leave alone what comes by loopback; blocks do not.
//!
//! **Figures** (2 cores busy with compilers, Linux 6.18, debug build, `tests/linux_real`): 30 ms one way give a round trip of
//! 30.2 ms, both ways 60.6 ms; TCP makes 613 Mbit/s through one queue that only looks, 273 with 30 ms one way, 220 both ways.
//!
//! Caveats: a program that is bound to one interface does not see second copies; what is for a group is never doubled;
//! fragments are put together before they come here. What comes faster than this thread takes it is dropped by the
//! kernel and counted ([`Shaper::check`]).
use super::commands::Family;
use super::lanes::{Lanes, Out, addresses};
use super::queue::{Came, Queue, Verdict, dropped};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use splitbrain_core::{Name, Nanos, Shape};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Most packets that are taken in a row.
const BATCH: usize = 64;
const QUEUE: u64 = 0;
const TIMER: u64 = 1;
const WAKE: u64 = 2;

type Order = Box<dyn FnOnce(&mut Engine) + Send>;

/// The running thread. Dropping it ends the queue, and the kernel then drops what rules still hand to it.
pub struct Shaper {
    number: u16,
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<OnceLock<String>>,
}

impl Shaper {
    /// Binds a queue in the network namespace of the calling thread.
    pub fn start(seed: u64) -> io::Result<Shaper> {
        let queue = Queue::open()?;
        let number = queue.number();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let mut engine = Engine::new(queue, seed, wake.clone())?;
        let (orders, inbox) = channel();
        let failure = Arc::new(OnceLock::new());
        let told = failure.clone();
        let thread = std::thread::Builder::new().name("shaper".into()).spawn(move || {
            let result = SigSet::all().thread_block().map_err(io::Error::from);
            if let Err(e) = result.and_then(|()| engine.run(&inbox)) {
                let _ = told.set(e.to_string());
            }
        })?;
        Ok(Shaper {
            number,
            orders,
            wake,
            thread: Some(thread),
            failure,
        })
    }

    /// Of the queue.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Gives what comes from these peers a shape; with the default one nothing is held any more.
    pub fn shape(&self, owners: BTreeMap<IpAddr, Name>, names: &[Name], shape: Shape) -> Result<(), String> {
        let names = names.to_vec();
        self.ask(move |engine| {
            if shape.duplicate_ppm > 0 {
                engine.open_doubles(owners.keys().map(Family::of).collect())?;
            }
            engine.lanes.owners(owners);
            engine.lanes.shape(now(), &names, shape);
            engine.release();
            Ok(())
        })?
    }

    /// Drops what is held from these peers, and what still comes.
    pub fn cut(&self, names: &[Name]) -> Result<(), String> {
        let names = names.to_vec();
        self.ask(move |engine| {
            let mut outs = Vec::new();
            engine.lanes.cut(&names, &mut |out| outs.push(out));
            outs.into_iter().for_each(|out| engine.emit(out));
        })
    }

    /// Takes it again.
    pub fn carry(&self, names: &[Name]) -> Result<(), String> {
        let names = names.to_vec();
        self.ask(move |engine| engine.lanes.carry(&names))
    }

    /// Packets that the kernel dropped because this thread was too slow. Fails if the queue is gone, in the network
    /// namespace of the calling thread.
    pub fn check(&self) -> Result<u64, String> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(self.gone());
        }
        let path = "/proc/thread-self/net/netfilter/nfnetlink_queue";
        let listing = fs::read_to_string(path).map_err(|e| format!("read {path}: {e}"))?;
        dropped(&listing, self.number).ok_or_else(|| self.gone())
    }

    fn gone(&self) -> String {
        let why = self.failure.get().map_or("nobody listens to it", String::as_str);
        let number = self.number;
        format!("queue {number} of shaped packets is gone: {why}: what comes from shaped peers is dropped until a heal")
    }

    fn ask<T: Send + 'static>(&self, order: impl FnOnce(&mut Engine) -> T + Send + 'static) -> Result<T, String> {
        let (answer, answers) = channel();
        let order: Order = Box::new(move |engine| {
            let _ = answer.send(order(engine));
        });
        self.orders.send(order).map_err(|_| self.gone())?;
        self.wake.write(1).map_err(|e| format!("wake the shaper: {e}"))?;
        answers.recv().map_err(|_| self.gone())
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        let _ = self.ask(|engine| engine.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Engine {
    lanes: Lanes,
    queue: Queue,
    doubles: BTreeMap<Family, OwnedFd>,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Nanos>,
    wake: Arc<EventFd>,
    stop: bool,
    /// Why no verdict can be given any more.
    broken: Option<io::Error>,
}

impl Engine {
    fn new(queue: Queue, seed: u64, wake: Arc<EventFd>) -> io::Result<Engine> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&queue, EpollEvent::new(EpollFlags::EPOLLIN, QUEUE))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Engine {
            lanes: Lanes::new(seed),
            queue,
            doubles: BTreeMap::new(),
            epoll,
            timer,
            armed: None,
            wake,
            stop: false,
            broken: None,
        })
    }

    fn run(&mut self, orders: &Receiver<Order>) -> io::Result<()> {
        loop {
            for order in orders.try_iter() {
                order(self);
            }
            if self.stop {
                return Ok(());
            }
            self.release();
            self.receive()?;
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            self.arm()?;
            self.wait()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut outs = Vec::new();
        for _ in 0..BATCH {
            match self.queue.next()? {
                // The time is read after the packet has come, or its delay would begin before it did.
                Some(Came::Packet(id, packet)) => self.lanes.packet(now(), id, packet, &mut |out| outs.push(out)),
                // A packet whose interface went away is not there any more when its verdict comes.
                Some(Came::Refused(_) | Came::Other) => {}
                None => break,
            }
            outs.drain(..)
                .for_each(|out| emit(&self.queue, &self.doubles, &mut self.broken, out));
        }
        Ok(())
    }

    fn release(&mut self) {
        let (queue, doubles, broken) = (&self.queue, &self.doubles, &mut self.broken);
        self.lanes.release(now(), &mut |out| emit(queue, doubles, broken, out));
    }

    fn emit(&mut self, out: Out) {
        emit(&self.queue, &self.doubles, &mut self.broken, out);
    }

    /// Prepares for second copies.
    fn open_doubles(&mut self, families: BTreeSet<Family>) -> Result<(), String> {
        for family in families {
            if let Entry::Vacant(place) = self.doubles.entry(family) {
                let needs = "needs CAP_NET_RAW (in a container: --cap-add NET_RAW)";
                let failed = |e| format!("duplicate packets at the receiver: raw socket: {e}: {needs}");
                place.insert(raw_socket(family).map_err(failed)?);
            }
        }
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        let deadline = self.lanes.deadline();
        if deadline == self.armed {
            return Ok(());
        }
        match deadline {
            Some(at) => {
                // Zero would disarm the timer, and the kernel refuses what is beyond its seconds.
                let at = TimeSpec::from_duration(Nanos(at.0.clamp(1, i64::MAX as u64)).into());
                self.timer
                    .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.unset()?,
        }
        self.armed = deadline;
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 3];
        let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &events[..n] {
            match event.data() {
                WAKE => drop(self.wake.read()),
                TIMER => {
                    self.armed = None;
                    self.timer.unset()?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn emit(queue: &Queue, doubles: &BTreeMap<Family, OwnedFd>, broken: &mut Option<io::Error>, out: Out) {
    let result = match &out {
        Out::Drop(id) => queue.verdict(*id, &Verdict::Drop),
        Out::Accept(id, None) => queue.verdict(*id, &Verdict::Accept),
        Out::Accept(id, Some(bytes)) => queue.verdict(*id, &Verdict::AcceptAs(bytes)),
        Out::Again(bytes) => {
            put_in(doubles, bytes);
            Ok(())
        }
    };
    if let Err(error) = result {
        broken.get_or_insert(error);
    }
}

/// Puts a second copy in. One that cannot be is a copy less, which whoever looks for copies will miss.
fn put_in(doubles: &BTreeMap<Family, OwnedFd>, bytes: &[u8]) {
    let Some((_, to)) = addresses(bytes) else {
        return;
    };
    let Some(socket) = doubles.get(&Family::of(&to)) else {
        return;
    };
    let to = nix::sys::socket::SockaddrStorage::from(SocketAddr::new(to, 0));
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    let _ = nix::sys::socket::sendto(socket.as_raw_fd(), bytes, &to, flags);
}

/// A socket for packets with their IP headers.
fn raw_socket(family: Family) -> io::Result<OwnedFd> {
    let (domain, level, name) = match family {
        Family::V4 => (libc::AF_INET, libc::IPPROTO_IP, libc::IP_HDRINCL),
        Family::V6 => (libc::AF_INET6, libc::IPPROTO_IPV6, IPV6_HDRINCL),
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers; the descriptor that comes back is nobody else's.
    let fd = unsafe { libc::socket(domain, kind, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    // SAFETY: pointer and length belong together.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), 4) };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(fd)
    }
}

/// linux/in6.h; the libc crate lacks it.
const IPV6_HDRINCL: libc::c_int = 36;

/// The clock that the timer goes by.
fn now() -> Nanos {
    let t = clock_gettime(Clock::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    Nanos(t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned())
}
