//! The switch without its sockets: ports, links, the queue of delayed frames, and the counters.
//!
//! Sans-IO: [`Fabric::frame`] takes a frame that came in at a port, [`Fabric::release`] the time; what goes out goes
//! through the `emit` function of the caller, who says whether the receiver's port took it. Frames of a link leave in
//! the order of their release times, and of their arrival where these are equal.
//!
//! A fault ends where its healing begins. Blocking a link drops what it had queued; a new shape also applies to what
//! is queued, which then waits no longer than a frame that comes now: after a healing nothing is late any more.
//!
//! The table of addresses is fixed, nothing is learned: a host that lies about its address harms nobody, and a frame is
//! judged by the port it came in at. A frame for an address that nobody has is dropped (a *stray*); a real switch would
//! flood it, and no other host would take it.
use super::frame::{self, Mac};
use crate::shape::{Copy, Fate, MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Pipe};
use splitbrain_core::{Link, Name, Nanos, Shape, seed};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;

/// What happened on one link since the start. Every frame is accounted for:
/// `offered + duplicated == carried + blocked + lost + overflowed + refused + queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in for this link.
    pub offered: u64,
    /// Bytes of these.
    pub offered_bytes: u64,
    /// Frames handed to the receiver, duplicates included.
    pub carried: u64,
    /// Bytes of these.
    pub carried_bytes: u64,
    /// Frames dropped because the link was blocked.
    pub blocked: u64,
    /// Frames dropped by chance.
    pub lost: u64,
    /// Frames dropped because too many waited already.
    pub overflowed: u64,
    /// Frames that the receiver's interface did not take (it is down, gone, or its memory is full).
    pub refused: u64,
    /// Frames that were sent twice.
    pub duplicated: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames that skipped the delay.
    pub reordered: u64,
    /// Frames that had to wait.
    pub delayed: u64,
    /// Frames that wait now.
    pub queued: u64,
}

struct Wire {
    pipe: Pipe,
    blocked: bool,
    counters: Counters,
    queued_bytes: u64,
}

struct Queued {
    /// Release time, then arrival.
    key: (Nanos, u64),
    wire: usize,
    frame: Box<[u8]>,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.key == other.key
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Ports, links and delayed frames.
pub struct Fabric {
    names: BTreeMap<Name, usize>,
    by_mac: BTreeMap<Mac, usize>,
    ports: usize,
    /// All directions, at `src * ports + dst`; the diagonal is unused.
    wires: Vec<Wire>,
    queue: BinaryHeap<Reverse<Queued>>,
    arrivals: u64,
    strays: u64,
}

/// Hands a frame to a port; false if the port did not take it.
pub trait Emit: FnMut(usize, &[u8]) -> bool {}
impl<F: FnMut(usize, &[u8]) -> bool> Emit for F {}

impl Fabric {
    /// A fabric of clean links between `ports`; port numbers are positions in this list. Each link draws its chance from
    /// a stream of its own, `switch SRC>DST`. Fails if two ports share a name or an address.
    pub fn new(ports: &[(Name, Mac)], seed: u64) -> io::Result<Fabric> {
        let names: BTreeMap<Name, usize> = ports.iter().enumerate().map(|(i, p)| (p.0, i)).collect();
        let by_mac: BTreeMap<Mac, usize> = ports.iter().enumerate().map(|(i, p)| (p.1, i)).collect();
        if names.len() != ports.len() || by_mac.len() != ports.len() {
            return Err(invalid("two ports of the switch share a name or an address".into()));
        }
        let wire = |(src, dst): (Name, Name)| Wire {
            pipe: Pipe::new(seed::stream(seed, &format!("switch {}", Link { src, dst }))),
            blocked: false,
            counters: Counters::default(),
            queued_bytes: 0,
        };
        let pairs = ports.iter().flat_map(|src| ports.iter().map(|dst| (src.0, dst.0)));
        Ok(Fabric {
            names,
            by_mac,
            ports: ports.len(),
            wires: pairs.map(wire).collect(),
            queue: BinaryHeap::new(),
            arrivals: 0,
            strays: 0,
        })
    }

    /// A frame came in at port `src`. What goes out at once is emitted, the rest is queued. The frame's bytes are as
    /// before when it returns.
    pub fn frame(&mut self, now: Nanos, src: usize, frame: &mut [u8], emit: &mut impl Emit) {
        let Some(mac) = frame::destination(frame) else {
            self.strays += 1;
            return;
        };
        if frame::is_group(mac) {
            for dst in (0..self.ports).filter(|dst| *dst != src) {
                self.link(now, src, dst, frame, emit);
            }
            return;
        }
        match self.by_mac.get(&mac) {
            Some(&dst) if dst != src => self.link(now, src, dst, frame, emit),
            _ => self.strays += 1,
        }
    }

    fn link(&mut self, now: Nanos, src: usize, dst: usize, frame: &mut [u8], emit: &mut impl Emit) {
        let index = src * self.ports + dst;
        let wire = &mut self.wires[index];
        wire.counters.offered += 1;
        wire.counters.offered_bytes += frame.len() as u64;
        if wire.blocked {
            wire.counters.blocked += 1;
            return;
        }
        match wire.pipe.decide(now, frame.len()) {
            Fate::Lost => wire.counters.lost += 1,
            Fate::Passed { first, second } => {
                self.copy(now, index, first, frame, emit);
                if let Some(second) = second {
                    self.wires[index].counters.duplicated += 1;
                    self.copy(now, index, second, frame, emit);
                }
            }
        }
    }

    fn copy(&mut self, now: Nanos, index: usize, copy: Option<Copy>, frame: &mut [u8], emit: &mut impl Emit) {
        let (dst, wire) = (index % self.ports, &mut self.wires[index]);
        let Some(copy) = copy.filter(|c| c.at <= now || wire.has_room(frame.len())) else {
            wire.counters.overflowed += 1;
            return;
        };
        wire.counters.reordered += u64::from(copy.early);
        let flip = copy.flip.and_then(|random| frame::bit_to_flip(frame, random));
        if let Some((at, mask)) = flip {
            wire.counters.corrupted += 1;
            frame[at] ^= mask;
        }
        if copy.at <= now {
            wire.sent(frame, emit(dst, frame));
        } else {
            wire.counters.delayed += 1;
            wire.counters.queued += 1;
            wire.queued_bytes += frame.len() as u64;
            self.arrivals += 1;
            self.queue.push(Reverse(Queued {
                key: (copy.at, self.arrivals),
                wire: index,
                frame: (&*frame).into(),
            }));
        }
        if let Some((at, mask)) = flip {
            frame[at] ^= mask;
        }
    }

    /// Emits every frame whose time has come.
    pub fn release(&mut self, now: Nanos, emit: &mut impl Emit) {
        while self.deadline().is_some_and(|at| at <= now) {
            let Reverse(q) = self.queue.pop().expect("a deadline is a frame's");
            let wire = &mut self.wires[q.wire];
            wire.counters.queued -= 1;
            wire.queued_bytes -= q.frame.len() as u64;
            wire.sent(&q.frame, emit(q.wire % self.ports, &q.frame));
        }
    }

    /// When [`Fabric::release`] is due; `None` while nothing waits.
    pub fn deadline(&self) -> Option<Nanos> {
        self.queue.peek().map(|Reverse(q)| q.key.0)
    }

    /// Drops from now on every frame of these links, the queued ones included. Fails, and changes nothing, if one of
    /// them is no link of this switch.
    pub fn block(&mut self, links: &[Link]) -> io::Result<()> {
        let indices = self.indices(links)?;
        for &i in &indices {
            self.wires[i].blocked = true;
            self.wires[i].pipe.idle();
        }
        let wires = &mut self.wires;
        self.queue.retain(|Reverse(q)| {
            let wire = &mut wires[q.wire];
            if wire.blocked {
                wire.counters.queued -= 1;
                wire.counters.blocked += 1;
                wire.queued_bytes -= q.frame.len() as u64;
            }
            !wire.blocked
        });
        Ok(())
    }

    /// Carries frames on these links again, in their present shape. Fails as [`Fabric::block`] does.
    pub fn unblock(&mut self, links: &[Link]) -> io::Result<()> {
        for i in self.indices(links)? {
            self.wires[i].blocked = false;
        }
        Ok(())
    }

    /// Gives these links a shape at `now`. One that a link has already changes nothing on it; a new one also shortens
    /// the wait of its queued frames to what it asks for. Fails as [`Fabric::block`] does.
    pub fn shape(&mut self, now: Nanos, links: &[Link], shape: Shape) -> io::Result<()> {
        let mut indices = self.indices(links)?;
        indices.retain(|i| self.wires[*i].pipe.shape() != shape);
        for &i in &indices {
            self.wires[i].pipe.reshape(shape);
        }
        let latest = now + shape.delay + shape.jitter;
        let (kept, changed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|Reverse(q)| !indices.contains(&q.wire));
        self.queue = kept.into();
        self.queue.extend(changed.into_iter().map(|Reverse(mut q)| {
            q.key.0 = q.key.0.min(latest);
            Reverse(q)
        }));
        Ok(())
    }

    /// Notes shapes from now on and does not act on them, for tests.
    pub fn ignore_shapes(&mut self) {
        self.wires.iter_mut().for_each(|wire| wire.pipe.ignore_shape());
    }

    /// Whether a link is blocked, its shape, and what happened on it. Fails if it is no link of this switch.
    pub fn link_state(&self, link: Link) -> io::Result<(bool, Shape, Counters)> {
        let wire = &self.wires[self.index(link)?];
        Ok((wire.blocked, wire.pipe.shape(), wire.counters))
    }

    /// The counters of every link, in the order of names.
    pub fn all_counters(&self) -> Vec<(Link, Counters)> {
        let pairs = self
            .names
            .iter()
            .flat_map(|src| self.names.iter().map(move |dst| (src, dst)));
        let links = pairs.filter(|(src, dst)| src != dst);
        links
            .map(|((&src, s), (&dst, d))| (Link { src, dst }, self.wires[s * self.ports + d].counters))
            .collect()
    }

    /// Frames that were for nobody: too short, for an unknown address, or for their own sender.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn indices(&self, links: &[Link]) -> io::Result<Vec<usize>> {
        links.iter().map(|link| self.index(*link)).collect()
    }

    fn index(&self, link: Link) -> io::Result<usize> {
        match (self.names.get(&link.src), self.names.get(&link.dst)) {
            (Some(src), Some(dst)) if src != dst => Ok(src * self.ports + dst),
            _ => Err(invalid(format!("{link} is no link of this network"))),
        }
    }
}

impl Wire {
    fn has_room(&self, len: usize) -> bool {
        self.counters.queued < MAX_QUEUED_FRAMES && self.queued_bytes + len as u64 <= MAX_QUEUED_BYTES
    }

    fn sent(&mut self, frame: &[u8], taken: bool) {
        if taken {
            self.counters.carried += 1;
            self.counters.carried_bytes += frame.len() as u64;
        } else {
            self.counters.refused += 1;
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
#[path = "fabric_tests.rs"]
mod tests;
