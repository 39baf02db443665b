//! One line of a history.
//!
//! Field names follow Jepsen: `index`, `time`, `process`, `type`, `f`, `value`. A client operation is two events, an
//! `invoke` and its `ok`, `fail` or `info`, by the same process; a process that got an `info` never speaks again. What
//! hosts say unasked, and what the runner notes, are single `info` events. A fault is an `invoke` (written and synced
//! before it is carried out) and an `ok` with its proofs, or a `fail` with the reason.
//!
//! ```text
//! {"index":4,"time":1200345,"process":2,"type":"invoke","f":"observe","value":{"host":"n1"}}
//! {"index":5,"time":1290345,"process":2,"type":"ok","f":"observe","value":{"host":"n1","answer":{"role":"leader","epoch":5,...}}}
//! {"index":6,"time":1300000,"process":"n1","type":"info","f":"elected","value":{"host":"n1","epoch":5,"token":5,"reign":2}}
//! ```
use crate::action::{Action, Proof};
use crate::name::Name;
use crate::op::Status;
use crate::plan::{FaultKind, Target};
use crate::time::Nanos;
use crate::{Epoch, Reign, Token};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who speaks in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A logically single-threaded client of control, one operation at a time.
    Client(u32),
    /// A host, unasked.
    Host(Name),
    /// What injects.
    Nemesis,
    /// The runner itself.
    Control,
}

impl Serialize for Process {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Process::Client(n) => s.serialize_u32(*n),
            Process::Host(name) => name.serialize(s),
            Process::Nemesis => s.serialize_str("nemesis"),
            Process::Control => s.serialize_str("control"),
        }
    }
}

impl<'de> Deserialize<'de> for Process {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Process, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u32),
            Text(String),
        }
        Ok(match Raw::deserialize(d)? {
            Raw::Number(n) => Process::Client(n),
            Raw::Text(s) if s == "nemesis" => Process::Nemesis,
            Raw::Text(s) if s == "control" => Process::Control,
            Raw::Text(s) => Process::Host(s.parse().map_err(serde::de::Error::custom)?),
        })
    }
}

/// Jepsen's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It definitely did not.
    Fail,
    /// Nobody knows; or, for what is no operation, a note.
    Info,
}

/// The stages of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Hosts start; candidates become ready; a first leader is awaited.
    Setup,
    /// Operations and faults.
    Faults,
    /// Every open fault is healed.
    Heal,
    /// A leader must emerge, and all must agree.
    Recovery,
    /// A last look at every candidate and at the storage.
    Final,
    /// Nothing follows: the history is whole.
    End,
}

/// Whether a fault aimed at a leader found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hit {
    /// The target led when the fault took effect.
    Hit,
    /// Nobody led, or nobody answered.
    Missed,
    /// The target led when asked, and no longer when the fault took effect.
    Moved,
}

/// One action of a fault: its injection or its healing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultStep {
    /// Counts faults from 1; the healing has the number of its injection.
    pub fault: u32,
    /// What kind of fault.
    pub kind: FaultKind,
    /// In words: `isolate-one: n3 | n1 n2 n4 n5`.
    pub what: String,
    /// The hosts that suffer.
    pub targets: Vec<Name>,
    /// What is asked of the environment.
    pub action: Action,
    /// What was seen where it acted; empty in the `invoke`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<Proof>,
}

/// What an event is about: `f` and `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "kebab-case")]
pub enum Body {
    /// [`crate::Op::Observe`]; the `ok` has the answer.
    Observe {
        /// Who was asked.
        host: Name,
        /// In the `ok`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Status>,
    },
    /// [`crate::Op::Write`]; the `ok` has token and seq.
    Write {
        /// Who was asked.
        host: Name,
        /// Unique in a run.
        value: u64,
        /// In the `ok`: what it was written with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
        /// In the `ok`: the storage's sequence number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// [`crate::Op::Read`]; the `ok` has what the storage holds (`None`: nothing).
    Read {
        /// Who was asked.
        host: Name,
        /// In the `ok`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<u64>,
    },
    /// [`crate::Op::Campaign`].
    Campaign {
        /// Who was asked.
        host: Name,
    },
    /// [`crate::Op::Resign`].
    Resign {
        /// Who was asked.
        host: Name,
    },
    /// [`crate::Op::Get`]; the `ok` has what the register holds (`None`: its initial state).
    Get {
        /// Who was asked.
        host: Name,
        /// In the `ok`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<u64>,
    },
    /// [`crate::Op::Set`].
    Set {
        /// Who was asked.
        host: Name,
        /// Unique in a run.
        value: u64,
    },
    /// [`crate::Op::Cas`]; a `fail` with reason `mismatch` is an observation.
    Cas {
        /// Who was asked.
        host: Name,
        /// Expected.
        from: Option<u64>,
        /// New.
        to: u64,
    },
    /// [`crate::Op::Next`]; the `ok` has the id.
    Next {
        /// Who was asked.
        host: Name,
        /// In the `ok`: what was handed out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// [`crate::Op::Run`]; the `ok` has token and seq. A `fail` with reason `already-ran` says that the job is done.
    Run {
        /// Who was asked.
        host: Name,
        /// Counts from 1.
        job: u64,
        /// In the `ok`: what it was written with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
        /// In the `ok`: the storage's sequence number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// [`crate::Op::Acquire`]; the `ok` has the reign in which the lock is held.
    Acquire {
        /// Who was asked.
        host: Name,
        /// In the `ok`: the candidate's own count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reign: Option<Reign>,
        /// In the `ok`: the fencing token, if one came with the lock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
    },
    /// [`crate::Op::Release`].
    Release {
        /// Who was asked.
        host: Name,
    },
    /// A reign begins. From here on belief is definite.
    Elected {
        /// Whose.
        host: Name,
        /// Of this leadership; [`Epoch::NONE`] where the system has none.
        #[serde(default, skip_serializing_if = "Epoch::is_none")]
        epoch: Epoch,
        /// What it writes with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
        /// The candidate's own count.
        reign: Reign,
    },
    /// A reign ended.
    Deposed {
        /// Whose.
        host: Name,
        /// Which.
        reign: Reign,
        /// In a few words.
        why: String,
    },
    /// A member applied a committed log entry.
    Applied {
        /// Which member.
        host: Name,
        /// Position in the log, from 1.
        index: u64,
        /// The entry's term.
        term: u64,
        /// Of all entries up to `index`.
        digest: u64,
    },
    /// The storage accepted a write.
    Stored {
        /// Position in the storage's order, from 1.
        seq: u64,
        /// It came with.
        token: Token,
        /// Written.
        value: u64,
        /// The newest `seq` that the writer had seen.
        base: u64,
        /// Who wrote.
        by: Name,
    },
    /// The fenced storage refused a write.
    Rejected {
        /// It came with.
        token: Token,
        /// The highest token seen.
        highest: Token,
        /// Would have been written.
        value: u64,
        /// Who tried.
        by: Name,
    },
    /// A host's processes were started.
    Started {
        /// Which host.
        host: Name,
        /// Its how-manieth life, from 1.
        incarnation: u32,
    },
    /// A host can answer from now on.
    Ready {
        /// Which host.
        host: Name,
    },
    /// A process ended that nobody had killed.
    Exited {
        /// On which host.
        host: Name,
        /// What and how.
        how: String,
    },
    /// A host printed what is no word of the protocol.
    Garbage {
        /// Which host.
        host: Name,
        /// What is wrong, and the start of the line.
        what: String,
    },
    /// A fault's action, injected.
    Fault(FaultStep),
    /// A fault's action, healed.
    Heal(FaultStep),
    /// Whether the fault found the leader it was aimed at.
    Aim {
        /// Which fault.
        fault: u32,
        /// What it was aimed at.
        target: Target,
        /// Whether it did.
        hit: Hit,
        /// In words, with what the candidates answered when asked.
        why: String,
    },
    /// A stage of the run begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// The run ended before its plan did (interrupted, or the world broke); an `End` phase may still follow.
    Aborted {
        /// In words.
        why: String,
    },
}

impl Body {
    /// The host that an operation was asked of, or that spoke, or `None`.
    pub fn host(&self) -> Option<Name> {
        match *self {
            Body::Observe { host, .. }
            | Body::Write { host, .. }
            | Body::Read { host, .. }
            | Body::Campaign { host }
            | Body::Resign { host }
            | Body::Get { host, .. }
            | Body::Set { host, .. }
            | Body::Cas { host, .. }
            | Body::Next { host, .. }
            | Body::Run { host, .. }
            | Body::Acquire { host, .. }
            | Body::Release { host }
            | Body::Elected { host, .. }
            | Body::Deposed { host, .. }
            | Body::Applied { host, .. }
            | Body::Started { host, .. }
            | Body::Ready { host }
            | Body::Exited { host, .. }
            | Body::Garbage { host, .. } => Some(host),
            Body::Stored { .. } | Body::Rejected { .. } => None,
            Body::Fault(_) | Body::Heal(_) | Body::Aim { .. } | Body::Phase { .. } | Body::Aborted { .. } => None,
        }
    }

    /// Whether this is a client operation (two events, by a [`Process::Client`]).
    pub fn is_operation(&self) -> bool {
        matches!(
            self,
            Body::Observe { .. }
                | Body::Write { .. }
                | Body::Read { .. }
                | Body::Campaign { .. }
                | Body::Resign { .. }
                | Body::Get { .. }
                | Body::Set { .. }
                | Body::Cas { .. }
                | Body::Next { .. }
                | Body::Run { .. }
                | Body::Acquire { .. }
                | Body::Release { .. }
        )
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the history, from 0, without gaps.
    pub index: u64,
    /// When control invoked it or learnt of it. Never falls.
    pub time: Nanos,
    /// Who.
    pub process: Process,
    /// Begin, or how it ended.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What about.
    #[serde(flatten)]
    pub body: Body,
    /// Why an operation failed or is unknown, or why a fault did not take effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Role;

    fn check(event: Event, json: &str) {
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), event);
    }

    fn n1() -> Name {
        "n1".parse().unwrap()
    }

    #[test]
    fn an_operation_reads_as_in_jepsen() {
        let status = Status {
            role: Role::Leader,
            epoch: Some(Epoch(5)),
            token: Some(Token(5)),
            reign: Some(Reign(2)),
            leader: None,
        };
        check(
            Event {
                index: 5,
                time: Nanos(12),
                process: Process::Client(2),
                kind: Kind::Ok,
                body: Body::Observe {
                    host: n1(),
                    answer: Some(status),
                },
                error: None,
            },
            r#"{"index":5,"time":12,"process":2,"type":"ok","f":"observe","value":{"host":"n1","answer":{"role":"leader","epoch":5,"token":5,"reign":2}}}"#,
        );
    }

    #[test]
    fn a_fault_carries_its_action() {
        let step = FaultStep {
            fault: 1,
            kind: FaultKind::Kill,
            what: "kill n1".into(),
            targets: vec![n1()],
            action: Action::Kill {
                hosts: vec![n1()],
                unsynced: Default::default(),
            },
            proofs: vec![],
        };
        check(
            Event {
                index: 6,
                time: Nanos(13),
                process: Process::Nemesis,
                kind: Kind::Fail,
                body: Body::Fault(step),
                error: Some("no such process".into()),
            },
            r#"{"index":6,"time":13,"process":"nemesis","type":"fail","f":"fault","value":{"fault":1,"kind":"kill","what":"kill n1","targets":["n1"],"action":{"act":"kill","hosts":["n1"]}},"error":"no such process"}"#,
        );
    }
}
