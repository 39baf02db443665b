//! What is asked of a candidate, and what its answer may be.
//!
//! An [`Outcome`] says whether the operation *definitely* happened: `Ok` it did, `Fail` it did not and never will,
//! `Info` nobody knows (a timeout, a lost connection, a killed process). Whoever turns an error into an outcome must
//! choose `Info` unless he can prove `Fail`.
use crate::ids::{Epoch, Reign, Token};
use crate::name::Name;
use serde::{Deserialize, Serialize};

/// An operation, as invoked on one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// "Do you lead?" Answered from the candidate's own belief, without asking anyone.
    Observe,
    /// The leader's work: write `value` to the storage under the leader's token. `value` is unique in a run.
    Write {
        /// Unique in a run.
        value: u64,
    },
    /// Ask the storage for its newest accepted write.
    Read,
    /// Take part in the election. Candidates campaign by themselves; this asks again after a `resign`.
    Campaign,
    /// Give up leadership, if held.
    Resign,
    /// Linearizable read of the system's own replicated register.
    Get,
    /// Set the system's own replicated register.
    Set {
        /// Unique in a run.
        value: u64,
    },
    /// Set the system's own replicated register to `to` if it holds `from`; `fail` if it does not.
    Cas {
        /// The expected value; `None` is the register's initial state.
        from: Option<u64>,
        /// The new value.
        to: u64,
    },
    /// The leader hands out the next id of a rising sequence: it writes the id to the storage, then gives it away.
    Next,
    /// The leader runs a job, which is one write to the storage. Jobs are offered in order, until one run is not refused.
    Run {
        /// Counts from 1.
        job: u64,
    },
    /// Take the lock that the election stands for, and hold it until `release`. `fail` if it is held by another.
    Acquire,
    /// Let go of the lock.
    Release,
}

impl Op {
    /// The name in a history's `f` and in [`crate::system::System::operations`].
    pub fn name(&self) -> &'static str {
        match self {
            Op::Observe => "observe",
            Op::Write { .. } => "write",
            Op::Read => "read",
            Op::Campaign => "campaign",
            Op::Resign => "resign",
            Op::Get => "get",
            Op::Set { .. } => "set",
            Op::Cas { .. } => "cas",
            Op::Next => "next",
            Op::Run { .. } => "run",
            Op::Acquire => "acquire",
            Op::Release => "release",
        }
    }
}

/// What a participant believes itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It leads, so it believes.
    Leader,
    /// It campaigns, and leads nothing.
    Candidate,
    /// It follows, or knows no leader. "No leader" is never a leader.
    Follower,
}

/// A participant's belief at one moment, bound together: role, epoch, token and reign are of the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it believes itself to be.
    pub role: Role,
    /// The newest epoch it knows; of its own leadership if it leads. `None` for a leader of a system without epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The fencing token it would write with; only while it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Its current reign; only while it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reign: Option<Reign>,
    /// Whom it takes for the leader of `epoch`, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Name>,
}

/// What an `ok` carries, by operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Op::Observe`].
    Status(Status),
    /// To [`Op::Write`] and [`Op::Run`]: accepted by the storage under `token` as its `seq`-th write.
    Written {
        /// The token it was written with; 0 where the system has none.
        token: Token,
        /// The storage's sequence number of the write, from 1.
        seq: u64,
    },
    /// To [`Op::Read`] (the storage's newest accepted write) and [`Op::Get`] (the register), `None` while empty; to
    /// [`Op::Next`] the id.
    Value(Option<u64>),
    /// To [`Op::Acquire`]: the lock is held in `reign`.
    Held {
        /// The candidate's own count.
        reign: Reign,
        /// The fencing token that came with the lock, if one did.
        token: Option<Token>,
    },
    /// To the others: done.
    Done,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Ok(Answer),
    /// It definitely did not happen and never will; the reason in a few words (`stale-token`, `not-leader`).
    Fail(String),
    /// Nobody knows; the reason in a few words.
    Info(String),
}
