//! What is asked of the candidates.
//!
//! The frame of every workload is the same: look at who believes that he leads, often enough to prove two beliefs at
//! once, and have work done meanwhile. What the work is, and whose, is the plan's choice ([`splitbrain_core::plan::Workload`]),
//! one module each: `leadership`, `sequence`, `jobs`, `lock`, `register`.
//!
//! Operations go only to hosts that said they are ready, one at a time in each lane. Leaders' work goes to *every* host
//! that is believed to lead, not to the newest only: what an old leader still does is what the test is about.
//!
//! In the last phase every host is looked at exactly once more, and then nothing is asked any more.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

mod jobs;
mod leadership;
mod lock;
mod pace;
mod register;
mod sequence;
#[cfg(test)]
mod tests;

use jobs::Jobs;
use leadership::Leadership;
use lock::Lock;
use pace::{Pace, Turn};
use register::Register;
use sequence::Sequence;
use splitbrain_core::event::Phase;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Command, Event, Generator, HostSpec, Lane, Name, Nanos, Next, Op, Plan, Role, View, plan};

/// A plan's workload.
pub struct Workload {
    pace: Pace,
    work: Work,
}

/// What is asked beside looks.
enum Work {
    Leadership(Leadership),
    Sequence(Sequence),
    Jobs(Jobs),
    Lock(Lock),
    Register(Register),
}

/// What a kind of work may go by when it is asked what it wants.
struct Scene<'a> {
    now: Nanos,
    phase: Phase,
    view: &'a View,
    host: Name,
    lane: Lane,
}

impl Scene<'_> {
    /// Whether the host was last known to believe that it leads.
    fn leads(&self) -> bool {
        leads(self.view, self.host)
    }

    /// Whether anybody was.
    fn somebody_leads(&self) -> bool {
        self.view.beliefs.keys().any(|host| leads(self.view, *host))
    }
}

fn leads(view: &View, host: Name) -> bool {
    view.beliefs.get(&host).is_some_and(|s| s.role == Role::Leader)
}

/// Values that are unique in a run, from 1.
#[derive(Default)]
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The mean gap between two operations of `rate` per second.
fn gap_of(plan: &Plan) -> Nanos {
    Nanos((1e9 / plan.rate.clamp(0.001, 1e6)) as u64)
}

impl Workload {
    /// The workload of `plan` on `hosts`, for a system that knows `operations`.
    pub fn new(plan: &Plan, seed: u64, hosts: &[HostSpec], operations: &[&'static str]) -> Workload {
        let work = match plan.workload {
            plan::Workload::Leadership => Work::Leadership(Leadership::new(plan, operations)),
            plan::Workload::Sequence => Work::Sequence(Sequence::new(plan)),
            plan::Workload::Jobs => Work::Jobs(Jobs::new(plan)),
            plan::Workload::Lock => Work::Lock(Lock::new(plan, operations)),
            plan::Workload::Register => Work::Register(Register::new(plan)),
        };
        Workload {
            pace: Pace::new(seed, hosts),
            work,
        }
    }
}

impl Work {
    /// The lanes of each host that it uses, beside the looks'.
    fn lanes(&self) -> &[Lane] {
        match self {
            Work::Leadership(work) => work.lanes(),
            Work::Sequence(_) | Work::Jobs(_) | Work::Lock(_) => &[Lane::Write],
            Work::Register(_) => &register::LANES,
        }
    }

    /// The mean gap between two operations in this scene; `None` where nothing is to be asked.
    fn gap(&self, scene: &Scene) -> Option<Nanos> {
        match self {
            Work::Leadership(work) => work.gap(scene),
            Work::Sequence(work) => work.gap(scene),
            Work::Jobs(work) => work.gap(scene),
            Work::Lock(work) => work.gap(scene),
            Work::Register(work) => work.gap(scene),
        }
    }

    /// The operation, now that it is due.
    fn draw(&mut self, scene: &Scene, rng: &mut Rng) -> Op {
        match self {
            Work::Leadership(work) => work.draw(scene.lane, rng),
            Work::Sequence(_) => Op::Next,
            Work::Jobs(work) => work.draw(),
            Work::Lock(work) => work.draw(scene, rng),
            Work::Register(work) => work.draw(rng),
        }
    }
}

impl Generator for Workload {
    fn next(&mut self, now: Nanos, view: &View) -> Next {
        let Some(phase) = view.phase else {
            return Next::Wait(Nanos::MAX);
        };
        if phase == Phase::Final {
            return self.pace.last_look(view);
        }
        let mut wake = Nanos::MAX;
        for i in 0..self.pace.asked.len() {
            let host = self.pace.asked[i];
            for l in 0..=self.work.lanes().len() {
                let lane = l.checked_sub(1).map_or(Lane::Observe, |l| self.work.lanes()[l]);
                let scene = Scene {
                    now,
                    phase,
                    view,
                    host,
                    lane,
                };
                let gap = match lane {
                    Lane::Observe => pace::look_gap(phase),
                    _ => self.work.gap(&scene),
                };
                let Some(gap) = gap.filter(|_| view.is_free(host, lane)) else {
                    continue;
                };
                match self.pace.turn(now, host, lane, gap) {
                    Turn::At(due) => wake = wake.min(due),
                    Turn::Now => {
                        let op = match lane {
                            Lane::Observe => Op::Observe,
                            _ => self.work.draw(&scene, &mut self.pace.rng),
                        };
                        return Next::Do(Command::Invoke { host, lane, op });
                    }
                }
            }
        }
        Next::Wait(wake)
    }

    fn notify(&mut self, event: &Event) {
        match &mut self.work {
            Work::Leadership(_) | Work::Sequence(_) => {}
            Work::Jobs(work) => work.notify(event),
            Work::Lock(work) => work.notify(event),
            Work::Register(work) => work.notify(event),
        }
    }
}
