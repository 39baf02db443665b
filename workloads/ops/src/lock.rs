//! Candidates acquire and release the lock that the election stands for.
//!
//! Each host that does not hold the lock asks for it, again and again; one that holds it keeps it for a short while,
//! writes under it, so that damage shows, and lets go. So leadership changes hands without any fault.
//!
//! A run needs a first leader before its faults begin, and one leader on whom all agree at its end. Therefore nobody lets
//! go during the setup and after the healing, and after the healing nobody asks while somebody holds it.
use crate::{Scene, Values, gap_of};
use rand::RngExt;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Body, Event, Name, Nanos, Op, Plan};
use std::collections::BTreeMap;

/// Mean time between two attempts of one host to acquire.
const TRY_EVERY: Nanos = Nanos::millis(300);
/// The same while nobody leads and everybody waits for somebody to.
const TRY_OFTEN: Nanos = Nanos::millis(50);
/// The longest time between two things that a holder does: it must let go in time even where hardly anything is written.
const HOLDER: Nanos = Nanos::millis(200);
/// How long a lock is held.
const HOLD: std::ops::Range<u64> = Nanos::millis(200).0..Nanos::millis(1500).0;

pub(crate) struct Lock {
    gap: Nanos,
    writes: bool,
    values: Values,
    /// Until when each holder holds it.
    until: BTreeMap<Name, Nanos>,
}

impl Lock {
    pub(crate) fn new(plan: &Plan, operations: &[&'static str]) -> Lock {
        Lock {
            gap: gap_of(plan),
            writes: operations.contains(&"write") && plan.rate > 0.0,
            values: Values::default(),
            until: BTreeMap::new(),
        }
    }

    pub(crate) fn gap(&self, scene: &Scene) -> Option<Nanos> {
        match (scene.phase, scene.leads()) {
            (Phase::Final | Phase::End, _) | (Phase::Setup, true) => None,
            (_, true) => Some(self.gap.min(HOLDER)),
            (Phase::Faults | Phase::Heal, false) => Some(TRY_EVERY),
            (Phase::Setup | Phase::Recovery, false) => (!scene.somebody_leads()).then_some(TRY_OFTEN),
        }
    }

    pub(crate) fn draw(&mut self, scene: &Scene, rng: &mut Rng) -> Op {
        if !scene.leads() {
            return Op::Acquire;
        }
        let mut drawn = || scene.now + Nanos(rng.random_range(HOLD));
        let until = *self.until.entry(scene.host).or_insert_with(&mut drawn);
        if scene.phase == Phase::Faults && until <= scene.now {
            self.until.remove(&scene.host);
            return Op::Release;
        }
        match self.writes {
            true => Op::Write {
                value: self.values.next(),
            },
            false => Op::Observe,
        }
    }

    pub(crate) fn notify(&mut self, event: &Event) {
        if let Body::Elected { host, .. } | Body::Deposed { host, .. } | Body::Started { host, .. } = event.body {
            self.until.remove(&host);
        }
    }
}
