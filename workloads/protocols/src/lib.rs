//! Protocol cores without input or output.
//!
//! A core is a state machine: [`Protocol::step`] takes the time and one [`Input`] and returns what to do, as data, in
//! order (quinn-proto, etcd's raft library). It owns no socket, no clock and no channel; its random generator is handed
//! in. The tokio node and the simulator drive the very same cores, so that a bug found in the one is the other's too.
//!
//! **Durability is in the order.** A driver carries outputs out in list order, and an [`Output::Persist`] or
//! [`Output::Compact`] is on the disk before anything after it happens. A core that must not vote twice therefore
//! writes `[Persist(vote), Send(grant)]`, and no driver can get it wrong by being fast.
//!
//! Messages and records are opaque bytes to the drivers: the simulator can lose, delay, repeat and corrupt them without
//! knowing what they mean, exactly as a network does.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

pub mod raft;
pub mod storage;

use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Name, Nanos};
use storage::{StoreReply, StoreRequest};

/// Something that happens to a core.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The process began; its records were given to its constructor. Always first, once.
    Start,
    /// The deadline that [`Protocol::deadline`] named has come.
    Tick,
    /// A peer's message arrived. It may be late, repeated, corrupt or out of order.
    Message {
        /// As the transport knows the sender.
        from: Name,
        /// As the peer's [`Output::Send`] had them, unless the network changed them.
        bytes: Vec<u8>,
    },
    /// Control asks something; the answer is an [`Output::Say`] of [`Line::Answer`] with the same id.
    Request(Request),
    /// The storage answered.
    Store(StoreReply),
}

/// What a core wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Append this record to the log on disk; durable before anything after it happens.
    Persist(Vec<u8>),
    /// Replace the whole log on disk by these records, atomically; durable before anything after it happens.
    Compact(Vec<Vec<u8>>),
    /// Send to a peer; it may get lost.
    Send {
        /// A peer.
        to: Name,
        /// Opaque to the driver.
        bytes: Vec<u8>,
    },
    /// Send to the storage; request or reply may get lost.
    Store(StoreRequest),
    /// Say to control, on standard output.
    Say(Line),
}

/// A protocol core.
pub trait Protocol {
    /// Takes one input at `now` and returns what to do, in order. `now` never falls within one process's life; it is
    /// the process's own monotonic clock, which a nemesis may skew.
    fn step(&mut self, now: Nanos, input: Input) -> Vec<Output>;
    /// When [`Input::Tick`] is wanted next; [`Nanos::MAX`] for never. May change with every step.
    fn deadline(&self) -> Nanos;
}
