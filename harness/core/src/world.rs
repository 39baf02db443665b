//! The boundary between the one loop and its two worlds.
//!
//! The runner submits operations and actions to a [`World`] and polls it for [`Happening`]s. The live world is hosts and
//! candidates behind pipes; the simulated one is an event queue. The runner cannot tell which it drives.
//!
//! What a world guarantees:
//! 1. each submitted id comes back at most once ([`Happening::Completed`], [`Happening::Acted`]); an operation whose
//!    candidate died may never come back: the runner times it out;
//! 2. per host, happenings come in the order in which the host said them, and nothing that an old incarnation said comes
//!    after the [`Happening::Started`] of the next;
//! 3. `Acted` comes only after the action was verified where it acts, or failed.
use crate::action::{Action, Proof};
use crate::name::Name;
use crate::op::{Op, Outcome};
use crate::time::Nanos;
use crate::{Epoch, Reign, Token};
use serde::{Deserialize, Serialize};

/// What a candidate, member or storage says without being asked; one variant an `"event"` of the wire protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Unasked {
    /// It can answer from now on.
    Ready,
    /// A candidate's reign begins.
    Elected {
        /// Of this leadership; [`Epoch::NONE`] where the system has none.
        #[serde(default, skip_serializing_if = "Epoch::is_none")]
        epoch: Epoch,
        /// What it will write with; `None` where the system has no token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
        /// The candidate's own count.
        reign: Reign,
    },
    /// A candidate's reign ended.
    Deposed {
        /// The one that ended.
        reign: Reign,
        /// In a few words.
        why: String,
    },
    /// A member applied the committed entry `index` of its log.
    Applied {
        /// Position in the log, from 1.
        index: u64,
        /// The entry's term.
        term: u64,
        /// A running digest of all entries up to `index`: equal digests, equal prefixes.
        digest: u64,
    },
    /// The storage accepted a write.
    Stored {
        /// Its position in the storage's order, from 1.
        seq: u64,
        /// The token it came with.
        token: Token,
        /// What was written.
        value: u64,
        /// The newest `seq` that the writer had seen when it wrote: older than `seq - 1` if it overwrote blindly.
        base: u64,
        /// Who wrote.
        by: Name,
    },
    /// The fenced storage refused a write.
    Rejected {
        /// The token it came with.
        token: Token,
        /// The highest token seen.
        highest: Token,
        /// What would have been written.
        value: u64,
        /// Who tried.
        by: Name,
    },
}

/// What a world reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// Operation `id` ended.
    Completed {
        /// As submitted.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A host said something unasked.
    Said {
        /// Which host.
        host: Name,
        /// What.
        what: Unasked,
    },
    /// A host's processes were started; `incarnation` counts from 1 and rises with every start.
    Started {
        /// Which host.
        host: Name,
        /// Its how-manieth life.
        incarnation: u32,
    },
    /// A process ended that nobody had killed.
    Exited {
        /// On which host.
        host: Name,
        /// What ended and how, with the last it said: `member: exit status 1: ...`.
        how: String,
    },
    /// A host printed what is no word of the protocol.
    Garbage {
        /// Which host.
        host: Name,
        /// What is wrong, and the start of the line.
        what: String,
    },
    /// Action `id` was carried out and verified, or was not.
    Acted {
        /// As submitted.
        id: u64,
        /// What was seen where it acted, or why it failed.
        result: Result<Vec<Proof>, String>,
    },
    /// The world itself broke; nothing after this can be believed.
    Broken(String),
}

/// Hosts and candidates, real or simulated.
pub trait World {
    /// Now, since the run's start. Never falls.
    fn now(&self) -> Nanos;
    /// Asks `op` of the candidate on `host`. `id` is unique in the run. Must not block.
    fn submit(&mut self, id: u64, host: Name, op: Op);
    /// Carries `action` out. `id` is unique in the run. Must not block.
    fn act(&mut self, id: u64, action: &Action);
    /// The next thing that happens, with its time, or `None` once `until` is reached. Blocks until one of the two.
    fn poll(&mut self, until: Nanos) -> Option<(Nanos, Happening)>;
}
