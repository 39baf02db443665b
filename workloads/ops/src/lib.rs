//! What is asked of the candidates.
//!
//! The workload of every election is the same: look at who believes that he leads, often enough to prove two beliefs at
//! once; let whoever believes it do a leader's work, which is to write to the storage under his token; and, where the
//! system replicates a register of its own, use that too, so that its log is never idle while leaders change.
//!
//! Operations go only to hosts that said they are ready, one at a time in each lane. Writes go to *every* host that is
//! believed to lead, not to the newest only: what an old leader still does is what the test is about.
//!
//! In the last phase every host is looked at exactly once more, and then nothing is asked any more.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

use rand::RngExt;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Command, Event, Generator, HostSpec, Lane, Name, Nanos, Next, Op, Plan, Role, View};
use std::collections::{BTreeMap, BTreeSet};

/// Mean time between two looks at one host.
const LOOK_EVERY: Nanos = Nanos::millis(100);
/// The same before a first leader is known and after the healing, when every millisecond counts.
const LOOK_OFTEN: Nanos = Nanos::millis(40);
/// Of the write lane's operations, one in this many only reads.
const READ_ONE_IN: u64 = 20;

/// Looks, leader's writes, and use of the system's own register.
pub struct Leadership {
    rng: Rng,
    asked: Vec<Name>,
    lanes: Vec<Lane>,
    knows: BTreeSet<&'static str>,
    write_gap: Nanos,
    next_value: u64,
    due: BTreeMap<(Name, Lane), Nanos>,
    looked: BTreeSet<Name>,
}

impl Leadership {
    /// The workload of `plan` on `hosts`, for a system that knows `operations`.
    pub fn new(plan: &Plan, seed: u64, hosts: &[HostSpec], operations: &[&'static str]) -> Leadership {
        let knows: BTreeSet<_> = operations.iter().copied().collect();
        let mut lanes = vec![Lane::Observe];
        if knows.contains("write") {
            lanes.push(Lane::Write);
        }
        if knows.contains("set") {
            lanes.push(Lane::Register);
        }
        let gap = 1e9 / plan.rate.clamp(0.001, 1e6);
        Leadership {
            rng: seed::stream(seed, "workload"),
            asked: hosts.iter().filter(|h| h.asked).map(|h| h.name).collect(),
            lanes,
            knows,
            write_gap: Nanos(gap as u64),
            next_value: 1,
            due: BTreeMap::new(),
            looked: BTreeSet::new(),
        }
    }

    fn unique(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value - 1
    }

    /// The operation of this lane, now that it is due.
    fn draw(&mut self, lane: Lane) -> Op {
        match lane {
            Lane::Observe | Lane::Nemesis => Op::Observe,
            Lane::Write if self.knows.contains("read") && self.rng.random_range(0..READ_ONE_IN) == 0 => Op::Read,
            Lane::Write => Op::Write { value: self.unique() },
            Lane::Register => match self.rng.random_range(0..4) {
                0 if self.knows.contains("get") => Op::Get,
                1 if self.knows.contains("cas") => {
                    let to = self.unique();
                    Op::Cas {
                        from: self.rng.random_bool(0.9).then_some(to - 1),
                        to,
                    }
                }
                _ => Op::Set { value: self.unique() },
            },
        }
    }

    /// The mean gap between two operations of a lane in a phase; `None` where the lane rests.
    fn gap(&self, lane: Lane, phase: Phase) -> Option<Nanos> {
        match (phase, lane) {
            (Phase::Final | Phase::End, _) | (_, Lane::Nemesis) => None,
            (Phase::Setup | Phase::Recovery, Lane::Observe) => Some(LOOK_OFTEN),
            (_, Lane::Observe) => Some(LOOK_EVERY),
            (Phase::Setup, _) => None,
            (_, Lane::Write) => Some(self.write_gap),
            (_, Lane::Register) => Some(self.write_gap + self.write_gap),
        }
    }

    /// The last look: each ready host once.
    fn last_look(&mut self, view: &View) -> Next {
        let Some(host) = self
            .asked
            .iter()
            .copied()
            .find(|h| !self.looked.contains(h) && view.ready.contains(h))
        else {
            return Next::Done;
        };
        if !view.is_free(host, Lane::Observe) {
            return Next::Wait(Nanos::MAX);
        }
        self.looked.insert(host);
        Next::Do(Command::Invoke {
            host,
            lane: Lane::Observe,
            op: Op::Observe,
        })
    }
}

impl Generator for Leadership {
    fn next(&mut self, now: Nanos, view: &View) -> Next {
        let Some(phase) = view.phase else {
            return Next::Wait(Nanos::MAX);
        };
        if phase == Phase::Final {
            return self.last_look(view);
        }
        let mut wake = Nanos::MAX;
        for i in 0..self.asked.len() {
            let host = self.asked[i];
            for l in 0..self.lanes.len() {
                let lane = self.lanes[l];
                let Some(gap) = self.gap(lane, phase) else { continue };
                let leads = view.beliefs.get(&host).is_some_and(|s| s.role == Role::Leader);
                if !view.is_free(host, lane) || (lane != Lane::Observe && !leads) {
                    continue;
                }
                let due = self.due.get(&(host, lane)).copied().unwrap_or(now);
                // A phase with a shorter gap must not wait for what a longer one decided.
                let due = due.min(now + gap + gap);
                if due > now {
                    wake = wake.min(due);
                    continue;
                }
                let spread = self.rng.random_range(gap.0 / 2..=gap.0 + gap.0 / 2);
                self.due.insert((host, lane), now + Nanos(spread.max(1)));
                return Next::Do(Command::Invoke {
                    host,
                    lane,
                    op: self.draw(lane),
                });
            }
        }
        Next::Wait(wake)
    }

    fn notify(&mut self, _event: &Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::{HostRole, Status};

    fn hosts() -> Vec<HostSpec> {
        (1..=3)
            .map(|i| HostSpec {
                name: Name::numbered("n", i),
                role: HostRole::Member,
                asked: true,
            })
            .collect()
    }

    fn view(phase: Phase) -> View {
        let mut view = View {
            phase: Some(phase),
            hosts: hosts(),
            ..View::default()
        };
        view.ready = hosts().iter().map(|h| h.name).collect();
        let leader = Status {
            role: Role::Leader,
            epoch: None,
            token: None,
            reign: None,
            leader: None,
        };
        view.beliefs.insert(Name::numbered("n", 2), leader);
        view
    }

    /// Everything the workload asks until `until`, each operation ending at once.
    fn ask(phase: Phase, until: Nanos) -> Vec<(Name, Lane, Op)> {
        let ops = ["observe", "write", "read", "get", "set", "cas"];
        let mut workload = Leadership::new(&Plan::new("raft", "sim"), 7, &hosts(), &ops);
        let view = view(phase);
        let mut now = Nanos::ZERO;
        let mut asked = Vec::new();
        while now < until {
            match workload.next(now, &view) {
                Next::Do(Command::Invoke { host, lane, op }) => asked.push((host, lane, op)),
                Next::Do(other) => panic!("{other:?} is no operation"),
                Next::Wait(at) => {
                    assert!(at > now, "a wait must lead on");
                    now = at;
                }
                Next::Done => break,
            }
        }
        asked
    }

    #[test]
    fn only_believed_leaders_work_and_values_are_unique() {
        let asked = ask(Phase::Faults, Nanos::secs(20));
        let mut values = BTreeSet::new();
        for (host, lane, op) in &asked {
            assert!(*lane == Lane::Observe || host.as_str() == "n2");
            if let Op::Write { value } | Op::Set { value } | Op::Cas { to: value, .. } = op {
                assert!(values.insert(*value), "{value} twice");
            }
        }
        let count = |name: &str| asked.iter().filter(|(_, _, op)| op.name() == name).count();
        assert!((300..900).contains(&count("observe")), "{}", count("observe"));
        assert!((250..600).contains(&count("write")), "{}", count("write"));
        assert!(count("get") > 10 && count("cas") > 10 && count("set") > 10 && count("read") > 3);
    }

    #[test]
    fn setup_only_looks_and_the_last_phase_looks_once() {
        assert!(
            ask(Phase::Setup, Nanos::secs(1))
                .iter()
                .all(|(_, lane, _)| *lane == Lane::Observe)
        );
        assert_eq!(ask(Phase::Final, Nanos::secs(1)).len(), 3);
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        assert_eq!(ask(Phase::Faults, Nanos::secs(5)), ask(Phase::Faults, Nanos::secs(5)));
    }
}
