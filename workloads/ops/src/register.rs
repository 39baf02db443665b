//! Every ready host is read, set and compared, whoever leads: what a system promises of its register it promises to
//! all who ask any of its servers.
//!
//! Each host has two clients, so that one server has operations side by side even where only the leader answers. Values
//! are unique, which makes a history telling: a value that is read names its writer. A comparison mostly expects the
//! value that was last heard of, so that many succeed.
use crate::{Scene, Values, gap_of};
use rand::RngExt;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Body, Event, Kind, Lane, Nanos, Op, Plan};

/// One client each.
pub(crate) const LANES: [Lane; 2] = [Lane::Write, Lane::Register];

pub(crate) struct Register {
    gap: Nanos,
    values: Values,
    /// The value that was last heard of.
    heard: Option<u64>,
}

impl Register {
    pub(crate) fn new(plan: &Plan) -> Register {
        Register {
            gap: gap_of(plan),
            values: Values::default(),
            heard: None,
        }
    }

    pub(crate) fn gap(&self, scene: &Scene) -> Option<Nanos> {
        let at_work = matches!(scene.phase, Phase::Faults | Phase::Heal | Phase::Recovery);
        at_work.then_some(self.gap)
    }

    pub(crate) fn draw(&mut self, rng: &mut Rng) -> Op {
        match rng.random_range(0..4) {
            0 => Op::Set {
                value: self.values.next(),
            },
            1 => Op::Cas {
                from: self.heard,
                to: self.values.next(),
            },
            _ => Op::Get,
        }
    }

    pub(crate) fn notify(&mut self, event: &Event) {
        if event.kind == Kind::Ok {
            match event.body {
                Body::Get { value, .. } => self.heard = value,
                Body::Set { value, .. } | Body::Cas { to: value, .. } => self.heard = Some(value),
                _ => {}
            }
        }
    }
}
