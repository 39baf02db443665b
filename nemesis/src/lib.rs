//! What breaks, whom, when: faults x targets x schedule, planned as data.
//!
//! **Problem.** The faults that break elections are few and aimed: the leader, cut off while it still reaches the
//! storage; paused between its check and its write; killed with its vote half written. Faults drawn blindly rarely hit
//! it, and a tool with one hard-wired function per fault and target never combines them. **Mechanism.** A [`Nemesis`] is a
//! generator. Its [`schedule`] (random from the seed, or scripted in the plan) names a fault and a target; a target is
//! chosen among the hosts that the fault fits ([`fit`]); a partition's shape becomes blocked links ([`grudges`]), as in
//! Jepsen's grudges; and what is injected stands in a [`ledger`] until its healing is confirmed.
//!
//! **Aim.** "The leader" is whoever says so when asked ([`aim`]): every candidate is asked, and of those that claim to
//! lead, the one with the highest epoch is struck. A fault that is due while nobody leads waits for the next leader, the
//! random schedule with it, and misses if none shows. Whether it still led when the fault took effect is recorded.
//!
//! **Overlap.** Faults overlap, and actions are absolute. A host suffers one fault of its own (of processes, clocks or
//! disk) at a time and a link one shape at a time; a link that two partitions cut opens with the second healing. Cuts begin and end one
//! after the other, so that no two actions on one link are ever in flight at once.
//!
//! The schedule's draws and each fault's own draws come from streams of their own: what candidates answer changes whom
//! a fault strikes, and never what comes later, but for the time that it waits for a leader. The same seed and the same answers give the same commands.
//!
//! A kind of fault must be possible where the plan runs (a disk fault needs a disk layer): that is for the caller to check.
//!
//! Caveats: the storage is never killed (it has no disk), and only struck at all by a plan that names it; a leader that
//! is killed or paused already, or whose disk is full or failing, is not asked, and so not found.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

mod aim;
mod attempt;
mod fit;
pub mod grudges;
mod ledger;
mod menu;
mod schedule;

use aim::Aim;
use attempt::Attempt;
use fit::Topology;
use ledger::Ledger;
use schedule::Schedule;
use splitbrain_core::event::Phase;
use splitbrain_core::{Body, Command, Event, Generator, HostSpec, Lane, Nanos, Next, Op, Plan, View};
use std::collections::VecDeque;

/// How long candidates may take to say who leads.
const PATIENCE: Nanos = Nanos::millis(500);

/// How long a fault that is aimed at a leader waits for one, where nobody is known to lead: longer than most elections.
const HOPE: Nanos = Nanos::secs(10);

/// How long the healing waits for an injection whose end nobody told, before it heals that too.
const GRACE: Nanos = Nanos::secs(3);

/// The generator of faults.
pub struct Nemesis {
    seed: u64,
    topology: Topology,
    schedule: Schedule,
    ledger: Ledger,
    aim: Aim,
    /// The fault whose target is being looked for.
    attempt: Option<Attempt>,
    /// Faults drawn so far: each draws its details from a stream of its own.
    drawn: u64,
    notes: VecDeque<Body>,
}

impl Nemesis {
    /// The faults that `plan` asks for, on `hosts`. The error names what does not fit: a host that is not there, a
    /// shape that needs what the system has not, a target that a fault cannot strike.
    pub fn new(plan: &Plan, seed: u64, hosts: &[HostSpec]) -> Result<Nemesis, String> {
        let topology = Topology::new(hosts);
        let schedule = Schedule::new(plan, seed, &topology)?;
        Ok(Nemesis {
            seed,
            topology,
            schedule,
            ledger: Ledger::default(),
            aim: Aim::default(),
            attempt: None,
            drawn: 0,
            notes: VecDeque::new(),
        })
    }

    fn faults(&mut self, now: Nanos, view: &View) -> Next {
        if let Some(step) = self.ledger.heal_due(now) {
            return Next::Do(Command::Heal(step));
        }
        loop {
            let due = self.schedule.due().map(|at| view.phase_began + at);
            if self.attempt.is_none() && due.is_some_and(|at| at <= now) {
                let planned = self.schedule.pop().expect("what is due is there");
                self.begin(planned, now, view);
            }
            let Some(attempt) = &mut self.attempt else {
                return Next::Wait(self.ledger.next_due().min(due.unwrap_or(Nanos::MAX)));
            };
            if let Some(host) = attempt.next_to_ask() {
                return Next::Do(Command::Invoke {
                    host,
                    lane: Lane::Nemesis,
                    op: Op::Observe,
                });
            }
            let must_wait = attempt.cuts() && self.ledger.is_cutting();
            if must_wait || !attempt.is_answered(now) {
                // What comes due meanwhile waits for this one.
                return Next::Wait(self.ledger.next_due().min(attempt.wakes(now)));
            }
            if let Some(until) = attempt.hopes(now, &self.topology, &self.ledger, &self.aim) {
                return Next::Wait(self.ledger.next_due().min(until));
            }
            let attempt = self.attempt.take().expect("it was just seen");
            self.schedule.put_off(attempt.hoped(now));
            if let Some(command) = attempt.decide(&self.topology, &mut self.ledger, &mut self.aim) {
                return Next::Do(command);
            }
        }
    }

    fn begin(&mut self, planned: schedule::Planned, now: Nanos, view: &View) {
        self.drawn += 1;
        let mut attempt = Attempt::new(planned, self.seed, self.drawn);
        attempt.hope_until((now + HOPE).min(view.phase_began + self.schedule.last()));
        if attempt.asks_first() {
            let askable = self.topology.asked(&fit::domain(&self.topology, attempt.breaks()));
            let free = askable
                .into_iter()
                .filter(|&host| view.is_free(host, Lane::Nemesis) && !self.ledger.is_mute(host))
                .filter(|&host| !(attempt.breaks().occupies_hosts() && self.ledger.is_occupied(host)));
            attempt.ask(free.collect(), now + PATIENCE);
            self.aim.look_again();
        }
        self.attempt = Some(attempt);
    }

    fn heal(&mut self, now: Nanos, view: &View) -> Next {
        self.attempt = None;
        let grace = view.phase_began + GRACE;
        if let Some(step) = self.ledger.heal_any(now >= grace) {
            return Next::Do(Command::Heal(step));
        }
        if self.ledger.is_settled() {
            Next::Done
        } else if now < grace {
            Next::Wait(grace)
        } else {
            Next::Wait(Nanos::MAX)
        }
    }
}

impl Generator for Nemesis {
    fn next(&mut self, now: Nanos, view: &View) -> Next {
        if let Some(note) = self.notes.pop_front() {
            return Next::Do(Command::Note(note));
        }
        match view.phase {
            None | Some(Phase::Setup) => Next::Wait(Nanos::MAX),
            Some(Phase::Faults) => self.faults(now, view),
            Some(Phase::Heal) => self.heal(now, view),
            Some(Phase::Recovery | Phase::Final | Phase::End) => Next::Done,
        }
    }

    fn notify(&mut self, event: &Event) {
        self.ledger.notify(event);
        if let Some(attempt) = &mut self.attempt {
            attempt.notify(event);
        }
        self.notes.extend(self.aim.notify(event));
    }
}
