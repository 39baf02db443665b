//! The deterministic world: an event queue over the sans-IO cores.
//!
//! **Problem.** A split brain needs a particular interleaving of messages, timers, crashes and disk writes. On real
//! hosts each of them comes as the machine pleases: a minute of testing takes a minute, and a failure does not come
//! back. **Mechanism.** [`SimWorld`] is a `World` like any other, so the same runner, generators, nemesis and checkers
//! drive it; but time jumps from event to event of one queue, ordered by (time, sequence), and each source of chance is
//! a stream of its own from the one seed (FoundationDB's simulation; TigerBeetle's VOPR). The same seed and the same
//! calls give the same happenings, in every process, byte for byte.
//!
//! What is simulated, and how closely:
//! - **network** ([`net`]): each packet takes its own latency and may overtake others; links are blocked and shaped per
//!   direction. Peer messages are datagrams: lost, repeated, reordered and corrupted as the shape says. Traffic with the
//!   storage is a stream, as it is on hosts: in order, never repeated, and a corrupt packet is a lost one.
//! - **disk**: a record is durable 0.2 to 2 ms after the core asked for it, and nothing that the core wants done after
//!   it happens before that. A kill in between loses the record and all that was to follow. It may be full, slow or failing,
//!   and power may be cut in mid-write ([`disk`]).
//! - **clocks** ([`clock`]): each host has its own, which may jump, strobe and drift.
//! - **processes** ([`host`]): a paused one hears nothing, says nothing, and finds everything that came meanwhile when
//!   it goes on, with the clock ahead; a killed one keeps its disk only.
//! - **control**: requests and answers take some 50 us, in order per host, and no fault ever touches them.
//!
//! Each action is verified by looking at what it changed, with the same functions that carry messages and hand inputs
//! to processes ([`act`]); [`Sabotage`] makes actions do nothing, to show that this is noticed.
//!
//! Caveats: a step takes no time, so there is no load and no queueing in a host; a kill loses exactly the records whose
//! write was under way, never half of one (torn tails are the node's own tests); no core reads the time of day, so a skew of
//! that alone changes nothing here; the storage keeps its state in memory,
//! so it cannot be killed; requests of control to a dead host vanish, and the runner times them out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

mod act;
mod clock;
mod disk;
mod effects;
mod host;
mod net;
mod queue;
mod world;

use splitbrain_core::{HostSpec, Name, Nanos};
use splitbrain_protocols::Protocol;

pub use world::SimWorld;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Decides everything random in this world.
    pub seed: u64,
    /// Who takes part. At most one storage; every other host runs a core.
    pub hosts: Vec<HostSpec>,
    /// Whether the storage compares tokens.
    pub fenced: bool,
    /// Mean latency of a packet on a clean link, one way.
    pub latency: Nanos,
    /// Makes an action do nothing, to test that its verification notices.
    pub sabotage: Option<Sabotage>,
}

impl SimConfig {
    /// These hosts on a clean network of 1 ms one-way latency, with a fenced storage if one is among them.
    pub fn new(seed: u64, hosts: Vec<HostSpec>) -> SimConfig {
        SimConfig {
            seed,
            hosts,
            fenced: true,
            latency: Nanos::millis(1),
            sabotage: None,
        }
    }
}

/// An action that does nothing, and must be found out by its own verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A block leaves the links open.
    BlockDoesNothing,
    /// A kill leaves the processes alive.
    KillDoesNothing,
    /// A pause leaves the processes running.
    PauseDoesNothing,
    /// A shape is noted, and packets go as before.
    ShapeDoesNothing,
    /// Clocks go on as they went.
    ClockDoesNothing,
    /// Disks stay as they are, and no power is cut.
    DiskDoesNothing,
}

impl Sabotage {
    /// With the word for each, as command lines write it.
    pub const ALL: [(&str, Sabotage); 6] = [
        ("block", Sabotage::BlockDoesNothing),
        ("kill", Sabotage::KillDoesNothing),
        ("pause", Sabotage::PauseDoesNothing),
        ("shape", Sabotage::ShapeDoesNothing),
        ("clock", Sabotage::ClockDoesNothing),
        ("disk", Sabotage::DiskDoesNothing),
    ];
}

impl std::str::FromStr for Sabotage {
    type Err = String;
    fn from_str(s: &str) -> Result<Sabotage, String> {
        let found = Sabotage::ALL.iter().find(|(word, _)| *word == s);
        found.map(|(_, sabotage)| *sabotage).ok_or_else(|| {
            let words: Vec<&str> = Sabotage::ALL.iter().map(|(word, _)| *word).collect();
            format!("no sabotage '{s}': it is one of {}", words.join(", "))
        })
    }
}

/// Makes a host's core: from its name, the records on its disk in the order in which they were persisted, and its
/// incarnation, from 1. The error says why the process would end at once.
pub type Build = Box<dyn Fn(Name, Vec<Vec<u8>>, u32) -> Result<Box<dyn Protocol>, String>>;
