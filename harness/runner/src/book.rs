//! What the loop must remember while it runs: open operations, open actions, the processes, and the view that
//! generators are shown.
//!
//! A process is logically single-threaded. Each lane of each host is one process until one of its operations ends in
//! `info`; then a new number takes its place, because what the old one asked may still happen (Jepsen's rule).
use splitbrain_core::disk::MayEnd;
use splitbrain_core::event::{Body, Event, FaultStep, Kind, Phase, Process};
use splitbrain_core::op::{Answer, Op, Outcome};
use splitbrain_core::{Action, HostSpec, Lane, Name, Nanos, Role, Status, View};
use std::collections::{BTreeMap, BTreeSet};

/// An operation under way.
pub(crate) struct OpenOp {
    pub process: u32,
    pub host: Name,
    pub lane: Lane,
    pub op: Op,
    pub invoked: Nanos,
}

/// A fault's action under way.
pub(crate) struct OpenAct {
    pub step: FaultStep,
    pub heal: bool,
}

pub(crate) struct Book {
    pub view: View,
    pub ops: BTreeMap<u64, OpenOp>,
    pub acts: BTreeMap<u64, OpenAct>,
    /// Answers to looks invoked since the phase began, by host.
    pub fresh: BTreeMap<Name, Status>,
    /// Whose processes may end by themselves just now.
    pub may_end: MayEnd,
    /// The storage's number of the newest write that was acknowledged, and of the newest that the storage told of.
    acknowledged: u64,
    told: u64,
    processes: BTreeMap<(Name, Lane), u32>,
    next_process: u32,
    next_id: u64,
}

impl Book {
    pub fn new(hosts: &[HostSpec]) -> Book {
        Book {
            view: View {
                hosts: hosts.to_vec(),
                ..View::default()
            },
            ops: BTreeMap::new(),
            acts: BTreeMap::new(),
            fresh: BTreeMap::new(),
            may_end: MayEnd::default(),
            acknowledged: 0,
            told: 0,
            processes: BTreeMap::new(),
            next_process: 0,
            next_id: 1,
        }
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn asked(&self) -> impl Iterator<Item = Name> + '_ {
        self.view.hosts.iter().filter(|h| h.asked).map(|h| h.name)
    }

    /// Opens an operation and gives its id and process.
    pub fn open(&mut self, host: Name, lane: Lane, op: Op, now: Nanos) -> (u64, u32) {
        assert!(
            self.view.is_free(host, lane),
            "a generator invoked {op:?} on {host}, whose lane {lane:?} is not free"
        );
        self.view.busy.insert((host, lane));
        let process = *self.processes.entry((host, lane)).or_insert_with(|| {
            self.next_process += 1;
            self.next_process - 1
        });
        let id = self.id();
        self.ops.insert(
            id,
            OpenOp {
                process,
                host,
                lane,
                op,
                invoked: now,
            },
        );
        (id, process)
    }

    /// Closes an operation; `None` if it was closed before (a late answer).
    pub fn close(&mut self, id: u64, outcome: &Outcome) -> Option<OpenOp> {
        let open = self.ops.remove(&id)?;
        self.view.busy.remove(&(open.host, open.lane));
        if matches!(outcome, Outcome::Info(_)) {
            self.processes.remove(&(open.host, open.lane));
        }
        if let Outcome::Ok(Answer::Status(status)) = outcome {
            self.view.beliefs.insert(open.host, *status);
            if open.invoked >= self.view.phase_began {
                self.fresh.insert(open.host, *status);
            }
        }
        Some(open)
    }

    /// Every open operation of a host that no longer can answer.
    pub fn orphans(&self, host: Name) -> Vec<u64> {
        self.ops
            .iter()
            .filter(|(_, o)| o.host == host)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The oldest open operation's deadline.
    pub fn deadline(&self, timeout: Nanos) -> Nanos {
        self.ops.values().next().map_or(Nanos::MAX, |o| o.invoked + timeout)
    }

    pub fn enter(&mut self, phase: Phase, now: Nanos) {
        self.view.phase = Some(phase);
        self.view.phase_began = now;
        self.fresh.clear();
    }

    /// Keeps the view true to what was just recorded.
    pub fn note(&mut self, event: &Event) {
        self.may_end.event(event);
        match &event.body {
            Body::Ready { host } => {
                self.view.ready.insert(*host);
            }
            Body::Elected {
                host,
                epoch,
                token,
                reign,
            } => {
                let status = Status {
                    role: Role::Leader,
                    epoch: epoch.known(),
                    token: *token,
                    reign: Some(*reign),
                    leader: Some(*host),
                };
                self.view.beliefs.insert(*host, status);
            }
            Body::Deposed { host, .. } => {
                self.view.beliefs.remove(host);
            }
            Body::Write { seq: Some(seq), .. } | Body::Run { seq: Some(seq), .. } => {
                self.acknowledged = self.acknowledged.max(*seq);
            }
            Body::Stored { seq, .. } => self.told = self.told.max(*seq),
            Body::Started { host, .. } | Body::Exited { host, .. } => self.gone(*host),
            Body::Fault(step) | Body::Heal(step) if event.kind != Kind::Fail => {
                if let Action::Kill { hosts, .. } = &step.action {
                    hosts.iter().for_each(|host| self.gone(*host));
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, host: Name) {
        self.view.ready.remove(&host);
        self.view.beliefs.remove(&host);
        self.fresh.remove(&host);
    }

    /// Whether anybody believes that he leads.
    pub fn has_leader(&self) -> bool {
        self.view.beliefs.values().any(|s| s.role == Role::Leader)
    }

    /// Whether every asked host was looked at since the phase began, exactly one leads, and no one names another
    /// leader, another epoch than that one's, or knows a newer one. Who names no epoch contradicts none.
    pub fn agreed(&self) -> bool {
        if !self.asked().all(|h| self.fresh.contains_key(&h)) {
            return false;
        }
        let mut leaders = self.fresh.iter().filter(|(_, s)| s.role == Role::Leader);
        let (Some((leader, status)), None) = (leaders.next(), leaders.next()) else {
            return false;
        };
        let his_epoch = |s: &Status| s.epoch.is_none() || s.epoch == status.epoch;
        let names_him = |s: &Status| s.leader.is_none_or(|l| l == *leader && his_epoch(s));
        self.fresh.values().all(|s| names_him(s) && s.epoch <= status.epoch)
    }

    /// Whether the storage told of every write that was acknowledged. Where the storage is a service that is watched,
    /// its word may come after the acknowledgement.
    pub fn storage_has_told(&self) -> bool {
        self.acknowledged <= self.told
    }

    pub fn unready(&self) -> BTreeSet<Name> {
        self.asked().filter(|h| !self.view.ready.contains(h)).collect()
    }
}

/// The history's form of an operation, with its answer if it has one.
pub(crate) fn body(host: Name, op: Op, outcome: Option<&Outcome>) -> Body {
    let answer = match outcome {
        Some(Outcome::Ok(answer)) => Some(*answer),
        _ => None,
    };
    let value_of = || match answer {
        Some(Answer::Value(value)) => value,
        _ => None,
    };
    let written = || match answer {
        Some(Answer::Written { token, seq }) => (Some(token), Some(seq)),
        _ => (None, None),
    };
    match op {
        Op::Observe => {
            let answer = match answer {
                Some(Answer::Status(status)) => Some(status),
                _ => None,
            };
            Body::Observe { host, answer }
        }
        Op::Write { value } => {
            let (token, seq) = written();
            Body::Write {
                host,
                value,
                token,
                seq,
            }
        }
        Op::Read => Body::Read {
            host,
            value: value_of(),
        },
        Op::Campaign => Body::Campaign { host },
        Op::Resign => Body::Resign { host },
        Op::Get => Body::Get {
            host,
            value: value_of(),
        },
        Op::Set { value } => Body::Set { host, value },
        Op::Cas { from, to } => Body::Cas { host, from, to },
        Op::Next => Body::Next { host, id: value_of() },
        Op::Run { job } => {
            let (token, seq) = written();
            Body::Run { host, job, token, seq }
        }
        Op::Acquire => {
            let (reign, token) = match answer {
                Some(Answer::Held { reign, token }) => (Some(reign), token),
                _ => (None, None),
            };
            Body::Acquire { host, reign, token }
        }
        Op::Release => Body::Release { host },
    }
}

/// Whether an `ok` carries what its operation asks for; a candidate may be wrong about that too.
pub(crate) fn fits(op: Op, answer: Answer) -> bool {
    matches!(
        (op, answer),
        (Op::Observe, Answer::Status(_))
            | (Op::Write { .. } | Op::Run { .. }, Answer::Written { .. })
            | (Op::Next, Answer::Value(Some(_)))
            | (Op::Acquire, Answer::Held { .. })
            | (Op::Read | Op::Get, Answer::Value(_))
            | (
                Op::Campaign | Op::Resign | Op::Release | Op::Set { .. } | Op::Cas { .. },
                Answer::Done
            )
    )
}

/// The process that a host speaks as, unasked.
pub(crate) fn speaker(host: Name) -> Process {
    Process::Host(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::{Epoch, HostRole};

    fn check(followers: [(Option<&str>, Option<u64>); 2], expect: bool) {
        let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| name.parse().unwrap());
        let spec = |name| HostSpec {
            name,
            role: HostRole::Server,
            asked: true,
        };
        let mut book = Book::new(&[n1, n2, n3].map(spec));
        let status = |role, leader: Option<&str>, epoch: Option<u64>| Status {
            role,
            epoch: epoch.map(Epoch),
            token: None,
            reign: None,
            leader: leader.map(|name| name.parse().unwrap()),
        };
        book.fresh.insert(n1, status(Role::Leader, Some("n1"), Some(5)));
        assert!(!book.agreed(), "not all were looked at");
        for (name, (leader, epoch)) in [n2, n3].into_iter().zip(followers) {
            book.fresh.insert(name, status(Role::Follower, leader, epoch));
        }
        assert_eq!(book.agreed(), expect, "{followers:?}");
    }

    #[test]
    fn who_names_another_leader_or_epoch_does_not_agree() {
        check([(Some("n1"), Some(5)), (None, Some(4))], true);
        // Followers of many systems know a leader and no epoch, or nothing.
        check([(Some("n1"), None), (None, None)], true);
        check([(Some("n2"), None), (None, None)], false);
        check([(Some("n1"), Some(4)), (None, None)], false);
        check([(None, Some(6)), (None, None)], false);
    }
}
