//! Leaders hand out ids: each host that is believed to lead is asked for the next one.
use crate::{Scene, gap_of};
use splitbrain_core::event::Phase;
use splitbrain_core::{Nanos, Plan};

pub(crate) struct Sequence {
    gap: Nanos,
}

impl Sequence {
    pub(crate) fn new(plan: &Plan) -> Sequence {
        Sequence { gap: gap_of(plan) }
    }

    pub(crate) fn gap(&self, scene: &Scene) -> Option<Nanos> {
        let at_work = matches!(scene.phase, Phase::Faults | Phase::Heal | Phase::Recovery);
        (at_work && scene.leads()).then_some(self.gap)
    }
}
