//! The switch's thread: sockets, timer and orders around the [`Fabric`].
//!
//! One thread owns everything and sleeps in one epoll: the ports, a timer for the next delayed frame, and an eventfd
//! that says that orders wait. Orders come first in every round, then frames whose time has come, then at most
//! [`BATCH`] new frames of each port, so that neither a flood nor a busy neighbour keeps the others waiting.
use super::fabric::Fabric;
use super::pcap::Pcap;
use super::{Port, socket};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use splitbrain_core::{Name, Nanos};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Most frames that one port may send in a row.
const BATCH: usize = 64;
/// Longer than any frame that an interface without offloads sends.
const BUFFER: usize = 65_536 + 64;

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Something that the thread is asked to do between two batches.
pub type Order = Box<dyn FnOnce(&mut Engine) + Send>;

/// What the thread owns.
pub struct Engine {
    pub fabric: Fabric,
    pub stop: bool,
    pcap: Option<Pcap<File>>,
    names: Vec<Name>,
    ports: Vec<OwnedFd>,
    overruns: Vec<u64>,
    buffer: Vec<u8>,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Nanos>,
    wake: Arc<EventFd>,
}

impl Engine {
    /// Prepares everything that can fail, before there is a thread.
    pub fn new(ports: Vec<(Port, OwnedFd)>, seed: u64, pcap: Option<File>, wake: Arc<EventFd>) -> io::Result<Engine> {
        let table: Vec<_> = ports.iter().map(|(port, _)| (port.name, port.mac)).collect();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        for (i, (_, fd)) in ports.iter().enumerate() {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, i as u64))?;
        }
        let wall = Nanos::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
        let epoch = (wall - now()).0;
        Ok(Engine {
            fabric: Fabric::new(&table, seed)?,
            stop: false,
            pcap: pcap.map(|file| Pcap::new(file, epoch)).transpose()?,
            names: table.iter().map(|(name, _)| *name).collect(),
            overruns: vec![0; ports.len()],
            ports: ports.into_iter().map(|(_, fd)| fd).collect(),
            buffer: vec![0; BUFFER],
            epoll,
            timer,
            armed: None,
            wake,
        })
    }

    /// Runs until an order sets `stop`.
    pub fn run(&mut self, orders: &Receiver<Order>) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            for order in orders.try_iter() {
                order(self);
            }
            if self.stop {
                self.pcap.iter_mut().for_each(Pcap::flush);
                return Ok(());
            }
            self.release();
            for &port in &ready {
                self.receive(port, BATCH);
            }
            self.arm()?;
            self.wait(&mut ready)?;
        }
    }

    /// Takes what the hosts have sent up to now.
    pub fn settle(&mut self) {
        self.release();
        for port in 0..self.ports.len() {
            self.receive(port, 16 * BATCH);
        }
    }

    /// Frames that the kernel dropped at each port because this thread was too slow.
    pub fn overruns(&mut self) -> Vec<(Name, u64)> {
        for (sum, port) in self.overruns.iter_mut().zip(&self.ports) {
            *sum += socket::overruns(port);
        }
        self.names.iter().copied().zip(self.overruns.iter().copied()).collect()
    }

    /// Why the capture ended early, if it did.
    pub fn pcap_error(&self) -> Option<String> {
        let error = self.pcap.as_ref()?.error()?;
        Some(format!("write the capture: {error}"))
    }

    fn release(&mut self) {
        let (now, ports, pcap) = (now(), &self.ports, &mut self.pcap);
        self.fabric
            .release(now, &mut |dst, frame| deliver(now, ports, pcap, dst, frame));
        if let Some(pcap) = pcap.as_mut().filter(|p| p.deadline().is_some_and(|at| at <= now)) {
            pcap.flush();
        }
    }

    fn receive(&mut self, port: usize, most: usize) {
        for _ in 0..most {
            let Some(frame) = socket::receive(&self.ports[port], &mut self.buffer) else {
                return;
            };
            // Read after the frame has come, or its delay would begin before it did.
            let now = now();
            let (ports, pcap) = (&self.ports, &mut self.pcap);
            self.fabric.frame(now, port, frame, &mut |dst, frame| {
                deliver(now, ports, pcap, dst, frame)
            });
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        let flush = self.pcap.as_ref().and_then(Pcap::deadline);
        let deadline = self.fabric.deadline().into_iter().chain(flush).min();
        if deadline == self.armed {
            return Ok(());
        }
        match deadline {
            Some(at) => {
                // Zero would disarm the timer, and the kernel refuses what is beyond its seconds.
                let at = Nanos(at.0.clamp(1, i64::MAX as u64));
                let at = TimeSpec::from_duration(at.into());
                self.timer
                    .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.unset()?,
        }
        self.armed = deadline;
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let mut events = [EpollEvent::empty(); 64];
        let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &events[..n] {
            match event.data() {
                WAKE => {
                    self.wake.read()?;
                }
                TIMER => {
                    self.armed = None;
                    self.timer.unset()?;
                }
                port => ready.push(port as usize),
            }
        }
        Ok(())
    }
}

fn deliver(now: Nanos, ports: &[OwnedFd], pcap: &mut Option<Pcap<File>>, dst: usize, frame: &[u8]) -> bool {
    let taken = socket::send(&ports[dst], frame);
    if let Some(pcap) = pcap.as_mut().filter(|_| taken) {
        pcap.frame(now, frame);
    }
    taken
}

/// The monotonic clock that the timer goes by, too.
pub fn now() -> Nanos {
    let t = clock_gettime(Clock::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    Nanos(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}
