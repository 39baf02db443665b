//! Leaders write to the storage under their tokens; and where the system replicates a register of its own, leaders use
//! that too, so that its log is never idle while leaders change.
use crate::{Scene, Values, gap_of};
use rand::RngExt;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Lane, Nanos, Op, Plan};
use std::collections::BTreeSet;

/// Of the write lane's operations, one in this many only reads.
const READ_ONE_IN: u64 = 20;

pub(crate) struct Leadership {
    lanes: Vec<Lane>,
    knows: BTreeSet<&'static str>,
    gap: Nanos,
    values: Values,
}

impl Leadership {
    pub(crate) fn new(plan: &Plan, operations: &[&'static str]) -> Leadership {
        let knows: BTreeSet<_> = operations.iter().copied().collect();
        let lanes = [("write", Lane::Write), ("set", Lane::Register)];
        Leadership {
            lanes: lanes
                .into_iter()
                .filter(|(op, _)| knows.contains(op))
                .map(|(_, lane)| lane)
                .collect(),
            knows,
            gap: gap_of(plan),
            values: Values::default(),
        }
    }

    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    pub(crate) fn gap(&self, scene: &Scene) -> Option<Nanos> {
        match (scene.phase, scene.lane) {
            _ if !scene.leads() => None,
            (Phase::Setup | Phase::Final | Phase::End, _) => None,
            (_, Lane::Register) => Some(self.gap + self.gap),
            _ => Some(self.gap),
        }
    }

    pub(crate) fn draw(&mut self, lane: Lane, rng: &mut Rng) -> Op {
        match lane {
            Lane::Register => match rng.random_range(0..4) {
                0 if self.knows.contains("get") => Op::Get,
                1 if self.knows.contains("cas") => {
                    let to = self.values.next();
                    Op::Cas {
                        from: rng.random_bool(0.9).then_some(to - 1),
                        to,
                    }
                }
                _ => Op::Set {
                    value: self.values.next(),
                },
            },
            _ if self.knows.contains("read") && rng.random_range(0..READ_ONE_IN) == 0 => Op::Read,
            _ => Op::Write {
                value: self.values.next(),
            },
        }
    }
}
