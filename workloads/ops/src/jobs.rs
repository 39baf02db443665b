//! Leaders run jobs, one after the other.
//!
//! A job is offered to *every* host that is believed to lead, and offered again for as long as all answers say that it
//! did not run. An `ok` settles it; so does `already-ran`; and so does an `info`, for what may have happened, or may yet,
//! must not be asked for again: a scheduler that retries it asks for at-least-once. The next job is offered when the
//! last one is settled and no offer of it is under way any more, which is the order that a leader's look relies upon.
use crate::{Scene, gap_of};
use splitbrain_core::event::Phase;
use splitbrain_core::{Body, Event, Kind, Nanos, Op, Plan};

pub(crate) struct Jobs {
    gap: Nanos,
    job: u64,
    offers_under_way: u64,
    settled: bool,
}

impl Jobs {
    pub(crate) fn new(plan: &Plan) -> Jobs {
        Jobs {
            gap: gap_of(plan),
            job: 1,
            offers_under_way: 0,
            settled: false,
        }
    }

    pub(crate) fn gap(&self, scene: &Scene) -> Option<Nanos> {
        let at_work = matches!(scene.phase, Phase::Faults | Phase::Heal | Phase::Recovery);
        (at_work && scene.leads() && !self.settled).then_some(self.gap)
    }

    pub(crate) fn draw(&self) -> Op {
        Op::Run { job: self.job }
    }

    pub(crate) fn notify(&mut self, event: &Event) {
        let Body::Run { .. } = event.body else { return };
        if event.kind == Kind::Invoke {
            self.offers_under_way += 1;
            return;
        }
        self.offers_under_way -= 1;
        self.settled |= event.kind != Kind::Fail || event.error.as_deref() == Some("already-ran");
        if self.settled && self.offers_under_way == 0 {
            self.settled = false;
            self.job += 1;
        }
    }
}
