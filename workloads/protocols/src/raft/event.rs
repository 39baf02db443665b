//! What goes into a Raft, and what comes out.
use crate::raft::log::Command;
use crate::raft::message::{Message, Record};
use splitbrain_core::Name;

/// Something that happens to a Raft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its life begins. Always first, once.
    Start,
    /// The deadline has come.
    Tick,
    /// A message arrived.
    Message {
        /// Who sent it.
        from: Name,
        /// What it says.
        message: Message,
    },
    /// Start an election now, unless it leads already.
    Campaign,
    /// Hand leadership to the most up-to-date follower. Ends as [`Ended::Applied`] once it no longer leads.
    Transfer {
        /// Returned in [`Effect::Ended`].
        id: u64,
    },
    /// Replicate a command.
    Propose {
        /// Returned in [`Effect::Ended`].
        id: u64,
        /// What to do.
        command: Command,
    },
    /// Read the register, linearizably.
    Read {
        /// Returned in [`Effect::Ended`].
        id: u64,
    },
}

/// What a Raft wants done, in order; what is to be written is durable before anything after it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append a record to the disk's log.
    Persist(Record),
    /// Replace the disk's log by these records.
    Compact(Vec<Record>),
    /// Send a message.
    Send {
        /// To whom.
        to: Name,
        /// What.
        message: Message,
    },
    /// It leads now.
    Elected {
        /// In this term.
        term: u64,
    },
    /// It no longer leads.
    Deposed {
        /// The term that it led.
        term: u64,
        /// In a few words.
        why: &'static str,
    },
    /// It applied the committed entry `index`.
    Applied {
        /// Position from 1.
        index: u64,
        /// The entry's term.
        term: u64,
        /// Of all entries up to `index`.
        digest: u64,
    },
    /// What was asked under `id` ended.
    Ended {
        /// As asked.
        id: u64,
        /// How.
        how: Ended,
    },
}

/// How a proposal, a read or a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It happened.
    Applied,
    /// A compare-and-set found another value and changed nothing.
    Mismatch,
    /// The register held this at some instant since the read began.
    Value {
        /// What it held.
        value: Option<u64>,
        /// The last entry that the value rests on.
        index: u64,
    },
    /// It did not happen and never will; the reason.
    Refused(&'static str),
    /// Nobody knows; the reason.
    Unknown(&'static str),
}
