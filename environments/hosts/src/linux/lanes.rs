//! The shaper without its queue: what becomes of each packet, and when.
//!
//! Sans-IO, as the local switch's fabric is, and with the same rules ([`crate::shape`]): [`Lanes::packet`] takes a packet
//! that the kernel holds, [`Lanes::release`] the time; verdicts go out through `emit`. A *lane* is what comes from one
//! peer. A second copy of a packet is not the kernel's, so its bytes are kept here; of all others only the number is, or
//! the bytes as well if one was flipped.
//!
//! A fault ends where its healing begins: cutting a lane drops what it held, and a new shape shortens the wait of what is
//! held to what it asks for itself.
use crate::shape::{self, Copy, Fate, MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Pipe};
use splitbrain_core::{Name, Nanos, Shape, seed};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the Ethernet header that a rate counts and a queue does not show.
const ETHERNET: usize = 14;

/// What is to be done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Packet of this number: drop it.
    Drop(u32),
    /// Packet of this number: let it go on, with other bytes if there are any.
    Accept(u32, Option<Vec<u8>>),
    /// A second packet with these bytes.
    Again(Vec<u8>),
}

/// All peers' lanes, and what they hold.
pub struct Lanes {
    seed: u64,
    owners: BTreeMap<IpAddr, Name>,
    lanes: BTreeMap<Name, Lane>,
    held: BinaryHeap<Reverse<Held>>,
    arrivals: u64,
}

struct Lane {
    pipe: Pipe,
    cut: bool,
    held: u64,
    held_bytes: u64,
}

struct Held {
    /// Release time, then arrival.
    key: (Nanos, u64),
    lane: Name,
    bytes: u64,
    out: Out,
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.key == other.key
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Held) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl Lanes {
    /// No lane yet. Each draws its chance from a stream of its own, `queue PEER`.
    pub fn new(seed: u64) -> Lanes {
        Lanes {
            seed,
            owners: BTreeMap::new(),
            lanes: BTreeMap::new(),
            held: BinaryHeap::new(),
            arrivals: 0,
        }
    }

    /// Whose each address is.
    pub fn owners(&mut self, owners: BTreeMap<IpAddr, Name>) {
        self.owners = owners;
    }

    /// Gives what comes from these peers a shape at `now`. One that a lane has already changes nothing on it.
    pub fn shape(&mut self, now: Nanos, names: &[Name], shape: Shape) {
        let mut changed = Vec::new();
        for name in names {
            let seed = self.seed;
            let lane = self.lanes.entry(*name).or_insert_with(|| Lane {
                pipe: Pipe::new(seed::stream(seed, &format!("queue {name}"))),
                cut: false,
                held: 0,
                held_bytes: 0,
            });
            if lane.pipe.shape() != shape {
                lane.pipe.reshape(shape);
                changed.push(*name);
            }
        }
        let latest = now + shape.delay + shape.jitter;
        let held = std::mem::take(&mut self.held).into_iter();
        self.held = held
            .map(|Reverse(mut held)| {
                if changed.contains(&held.lane) {
                    held.key.0 = held.key.0.min(latest);
                }
                Reverse(held)
            })
            .collect();
    }

    /// Drops what these lanes hold and, until [`Lanes::carry`], what comes.
    pub fn cut(&mut self, names: &[Name], emit: &mut impl FnMut(Out)) {
        for (_, lane) in self.lanes.iter_mut().filter(|(name, _)| names.contains(name)) {
            lane.cut = true;
            lane.pipe.idle();
            (lane.held, lane.held_bytes) = (0, 0);
        }
        self.held.retain(|Reverse(held)| {
            let cut = names.contains(&held.lane);
            if let (true, Out::Accept(id, _)) = (cut, &held.out) {
                emit(Out::Drop(*id));
            }
            !cut
        });
    }

    /// Takes packets of these lanes again, in their present shape.
    pub fn carry(&mut self, names: &[Name]) {
        for (_, lane) in self.lanes.iter_mut().filter(|(name, _)| names.contains(name)) {
            lane.cut = false;
        }
    }

    /// A packet came that the kernel holds as number `id`.
    pub fn packet(&mut self, now: Nanos, id: u32, packet: &[u8], emit: &mut impl FnMut(Out)) {
        let name = addresses(packet).and_then(|(src, _)| self.owners.get(&src).copied());
        let Some((name, lane)) = name.and_then(|name| Some((name, self.lanes.get_mut(&name)?))) else {
            return emit(Out::Accept(id, None));
        };
        if lane.cut {
            return emit(Out::Drop(id));
        }
        match lane.pipe.decide(now, packet.len() + ETHERNET) {
            Fate::Lost => emit(Out::Drop(id)),
            Fate::Passed { first, second } => {
                match first.filter(|copy| lane.takes(now, copy, packet)) {
                    Some(copy) => self.hold(now, name, copy, packet, Some(id), emit),
                    None => emit(Out::Drop(id)),
                }
                let lane = self.lanes.get_mut(&name).expect("it was there");
                let second = second.flatten().filter(|copy| lane.takes(now, copy, packet));
                if let Some(copy) = second.filter(|_| can_be_put_in(packet)) {
                    self.hold(now, name, copy, packet, None, emit);
                }
            }
        }
    }

    /// Emits it now, or when its time has come. `id` is absent for a second copy.
    fn hold(&mut self, now: Nanos, name: Name, copy: Copy, packet: &[u8], id: Option<u32>, emit: &mut impl FnMut(Out)) {
        let flip = copy.flip.and_then(|random| shape::bit_to_flip(packet, random));
        let flipped = flip.map(|(at, mask)| {
            let mut bytes = packet.to_vec();
            bytes[at] ^= mask;
            bytes
        });
        let out = match id {
            Some(id) => Out::Accept(id, flipped),
            None => Out::Again(flipped.unwrap_or_else(|| packet.to_vec())),
        };
        if copy.at <= now {
            return emit(out);
        }
        let (lane, bytes) = (self.lanes.get_mut(&name).expect("it was there"), packet.len() as u64);
        lane.held += 1;
        lane.held_bytes += bytes;
        self.arrivals += 1;
        self.held.push(Reverse(Held {
            key: (copy.at, self.arrivals),
            lane: name,
            bytes,
            out,
        }));
    }

    /// Emits every packet whose time has come.
    pub fn release(&mut self, now: Nanos, emit: &mut impl FnMut(Out)) {
        while self.deadline().is_some_and(|at| at <= now) {
            let Reverse(held) = self.held.pop().expect("a deadline is a packet's");
            if let Some(lane) = self.lanes.get_mut(&held.lane) {
                lane.held -= 1;
                lane.held_bytes -= held.bytes;
            }
            emit(held.out);
        }
    }

    /// When [`Lanes::release`] is due; `None` while nothing is held.
    pub fn deadline(&self) -> Option<Nanos> {
        self.held.peek().map(|Reverse(held)| held.key.0)
    }
}

impl Lane {
    fn takes(&self, now: Nanos, copy: &Copy, packet: &[u8]) -> bool {
        let room = self.held < MAX_QUEUED_FRAMES && self.held_bytes + packet.len() as u64 <= MAX_QUEUED_BYTES;
        copy.at <= now || room
    }
}

/// Where a packet comes from and where it goes.
pub fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
    let v6 = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
    match packet.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?)),
        6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

/// Whether a second copy can be put in: what is for a group or a link's own address is carried once.
fn can_be_put_in(packet: &[u8]) -> bool {
    match addresses(packet) {
        Some((_, IpAddr::V4(to))) => !to.is_multicast() && !to.is_broadcast(),
        Some((_, IpAddr::V6(to))) => !to.is_multicast() && !to.is_unicast_link_local(),
        None => false,
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
