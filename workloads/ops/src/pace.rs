//! When each host is asked, and the looks that every workload has in common.
use rand::RngExt;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Command, HostSpec, Lane, Name, Nanos, Next, Op, View};
use std::collections::{BTreeMap, BTreeSet};

/// Mean time between two looks at one host.
const LOOK_EVERY: Nanos = Nanos::millis(100);
/// The same before a first leader is known and after the healing, when every millisecond counts.
const LOOK_OFTEN: Nanos = Nanos::millis(40);

/// Whether a lane of a host is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now; its next turn is drawn.
    Now,
    /// Later.
    At(Nanos),
}

/// The turns of all lanes of all hosts.
pub(crate) struct Pace {
    pub(crate) rng: Rng,
    pub(crate) asked: Vec<Name>,
    due: BTreeMap<(Name, Lane), Nanos>,
    looked: BTreeSet<Name>,
}

/// The mean gap between two looks at a host; `None` where the phase has none.
pub(crate) fn look_gap(phase: Phase) -> Option<Nanos> {
    match phase {
        Phase::Final | Phase::End => None,
        Phase::Setup | Phase::Recovery => Some(LOOK_OFTEN),
        Phase::Faults | Phase::Heal => Some(LOOK_EVERY),
    }
}

impl Pace {
    pub(crate) fn new(seed: u64, hosts: &[HostSpec]) -> Pace {
        Pace {
            rng: seed::stream(seed, "workload"),
            asked: hosts.iter().filter(|h| h.asked).map(|h| h.name).collect(),
            due: BTreeMap::new(),
            looked: BTreeSet::new(),
        }
    }

    /// Whether it is this lane's turn, with a mean gap of `gap` between its turns.
    pub(crate) fn turn(&mut self, now: Nanos, host: Name, lane: Lane, gap: Nanos) -> Turn {
        let due = self.due.get(&(host, lane)).copied().unwrap_or(now);
        // A phase with a shorter gap must not wait for what a longer one decided.
        let due = due.min(now + gap + gap);
        if due > now {
            return Turn::At(due);
        }
        let spread = self.rng.random_range(gap.0 / 2..=gap.0 + gap.0 / 2);
        self.due.insert((host, lane), now + Nanos(spread.max(1)));
        Turn::Now
    }

    /// The last look: each ready host once.
    pub(crate) fn last_look(&mut self, view: &View) -> Next {
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
