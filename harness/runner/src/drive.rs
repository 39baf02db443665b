//! The loop.
//!
//! One thread, one order: ask the generators what they want, do it, wait for the next thing that happens, write it
//! down, show it to the generators. Whatever the loop does is recorded before it is done; whatever happens is recorded
//! before anybody reacts. The phases:
//!
//! 1. *setup*: hosts start and become ready, a first leader is awaited;
//! 2. *faults*: the plan's time limit, operations and faults;
//! 3. *heal*: the nemesis heals what is open;
//! 4. *recovery*: until one leader is agreed upon, or the promised bound has passed;
//! 5. *final*: a last look at everyone, and until the storage has told of every write that was acknowledged;
//! 6. *end*.
//!
//! Whatever goes wrong (an interrupt, a host that dies by itself, an action that did not act) still goes through *heal*
//! and *end*: the history says `aborted` and why, and the open faults are healed as far as the world lets us.
//!
//! One end is no failure: a process whose disk is full, or whose syncs fail, does right to end rather than to go on without
//! a memory. From the moment in which such a disk is asked for, until the fault's healing has started the host again, its
//! processes' ends are recorded, and the run goes on ([`splitbrain_core::disk::MayEnd`]).
//!
//! Caveat on times: an event gets the time at which control learnt of it, never less than its predecessor's. Where a
//! completion is stamped later than it arrived, its interval only grows, which is the sound direction.
use crate::book::{self, Book, OpenAct};
use crate::conduct::Conduct;
use splitbrain_core::event::{Body, Event, Kind, Phase, Process};
use splitbrain_core::op::Outcome;
use splitbrain_core::world::{Happening, Unasked, World};
use splitbrain_core::{Action, Command, Generator, HostSpec, Name, Nanos, Next};

/// The loop's bounds, all in the world's own time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the faults phase lasts.
    pub time_limit: Nanos,
    /// An operation without an answer for this long is `info`.
    pub operation: Nanos,
    /// No first leader after this long ends the run.
    pub setup: Nanos,
    /// An action that is not verified after this long did not act.
    pub action: Nanos,
    /// How long recovery may take: the promised bound.
    pub recovery: Nanos,
}

impl Limits {
    /// The usual bounds for a faults phase of `time_limit` and a promised recovery within `recovery`.
    pub fn new(time_limit: Nanos, recovery: Nanos) -> Limits {
        Limits {
            time_limit,
            operation: Nanos::secs(2),
            setup: Nanos::secs(30),
            action: Nanos::secs(10),
            recovery,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Whole,
    /// `stop` was raised; what was open was healed.
    Interrupted,
    /// The world or a host failed; why, in words.
    Failed(String),
}

/// Everything the loop is given.
pub struct Drive<'a> {
    /// What it drives.
    pub world: &'a mut dyn World,
    /// Who takes part.
    pub hosts: &'a [HostSpec],
    /// What breaks.
    pub nemesis: &'a mut dyn Generator,
    /// What is asked.
    pub workload: &'a mut dyn Generator,
    /// Its bounds.
    pub limits: Limits,
    /// Sees each event before anything follows from it; an error ends the run.
    pub sink: &'a mut dyn FnMut(&Event) -> Result<(), String>,
    /// Asked often: whether to stop early.
    pub stop: &'a dyn Fn() -> bool,
}

/// Drives a run to its end.
pub fn drive(setup: Drive<'_>) -> Ended {
    let book = Book::new(setup.hosts);
    let mut run = Loop {
        d: setup,
        book,
        conduct: Conduct::default(),
        index: 0,
        last: Nanos::ZERO,
        failure: None,
        interrupted: false,
        nemesis_done: false,
    };
    run.enter(Phase::Setup);
    while run.turn() {}
    match (run.failure, run.interrupted) {
        (Some(why), _) => Ended::Failed(why),
        (None, true) => Ended::Interrupted,
        (None, false) => Ended::Whole,
    }
}

/// The longest that the loop sleeps, so that an interrupt is noticed.
const NAP: Nanos = Nanos::millis(100);

struct Loop<'a> {
    d: Drive<'a>,
    book: Book,
    conduct: Conduct,
    index: u64,
    last: Nanos,
    failure: Option<String>,
    interrupted: bool,
    /// Whether the nemesis, when last asked, wanted nothing any more.
    nemesis_done: bool,
}

impl Loop<'_> {
    /// One turn; `false` after the end.
    fn turn(&mut self) -> bool {
        let now = self.d.world.now();
        if (self.d.stop)() && !self.interrupted {
            self.interrupted = true;
            self.abort("interrupted".to_string());
        }
        if self.failure.is_some() && self.phase() < Phase::Heal {
            self.enter(Phase::Heal);
        }
        let wake = self.ask_generators(now);
        self.time_out(now);
        if self.advance(now, wake) {
            return self.book.view.phase != Some(Phase::End);
        }
        let deadline = self.book.deadline(self.d.limits.operation);
        let until = wake
            .unwrap_or(Nanos::MAX)
            .min(deadline)
            .min(self.phase_end())
            .min(now + NAP);
        if let Some((time, happening)) = self.d.world.poll(until) {
            self.happened(time, happening);
        }
        self.phase() != Phase::End
    }

    fn phase(&self) -> Phase {
        self.book.view.phase.expect("the loop begins by entering a phase")
    }

    fn phase_end(&self) -> Nanos {
        let began = self.book.view.phase_began;
        match self.phase() {
            Phase::Setup => began + self.d.limits.setup,
            Phase::Faults => began + self.d.limits.time_limit,
            Phase::Heal => began + self.d.limits.action,
            Phase::Recovery => began + self.d.limits.recovery,
            Phase::Final => began + self.d.limits.operation + self.d.limits.operation,
            Phase::End => Nanos::MAX,
        }
    }

    /// Asks both generators until they want nothing more now. The earliest wish, or `None` when both are done.
    fn ask_generators(&mut self, now: Nanos) -> Option<Nanos> {
        let mut wake = None;
        loop {
            let (nemesis, workload) = (&mut self.d.nemesis, &mut self.d.workload);
            let mut wish = |next: Next| match next {
                Next::Do(command) => Some(command),
                Next::Wait(at) => {
                    wake = Some(wake.unwrap_or(Nanos::MAX).min(at.max(now + Nanos(1))));
                    None
                }
                Next::Done => None,
            };
            let next = nemesis.next(now, &self.book.view);
            self.nemesis_done = next == Next::Done;
            let command = wish(next);
            let command = match command {
                Some(command) => Some(command),
                None if self.failure.is_some() || self.interrupted => None,
                None => wish(workload.next(now, &self.book.view)),
            };
            match command {
                Some(command) => {
                    wake = None;
                    self.execute(command);
                }
                None => return wake,
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Invoke { host, lane, op } => {
                let now = self.d.world.now();
                let (id, process) = self.book.open(host, lane, op, now.max(self.last));
                self.record(
                    now,
                    Process::Client(process),
                    Kind::Invoke,
                    book::body(host, op, None),
                    None,
                );
                self.d.world.submit(id, host, op);
            }
            Command::Inject(step) => self.act(OpenAct { step, heal: false }),
            Command::Heal(step) => self.act(OpenAct { step, heal: true }),
            Command::Note(body) => self.record(self.d.world.now(), Process::Nemesis, Kind::Info, body, None),
        }
    }

    fn act(&mut self, open: OpenAct) {
        let id = self.book.id();
        let now = self.d.world.now();
        self.record(now, Process::Nemesis, Kind::Invoke, fault_body(&open), None);
        self.d.world.act(id, &open.step.action);
        self.book.acts.insert(id, open);
    }

    /// Ends, as `info`, every operation that waited too long.
    fn time_out(&mut self, now: Nanos) {
        let timeout = self.d.limits.operation;
        while let Some((&id, open)) = self.book.ops.first_key_value() {
            if now < open.invoked + timeout {
                break;
            }
            self.conduct.unanswered(open.host);
            self.complete(now, id, Outcome::Info(format!("no answer within {timeout}")));
        }
    }

    fn complete(&mut self, time: Nanos, id: u64, outcome: Outcome) {
        let Some(open) = self.book.close(id, &outcome) else {
            return;
        };
        let outcome = match outcome {
            Outcome::Ok(answer) if !book::fits(open.op, answer) => {
                self.fail(format!("{} answered {} with {answer:?}", open.host, open.op.name()));
                Outcome::Info("an answer to another question".to_string())
            }
            outcome => outcome,
        };
        let (kind, error) = match &outcome {
            Outcome::Ok(_) => (Kind::Ok, None),
            Outcome::Fail(why) => (Kind::Fail, Some(why.clone())),
            Outcome::Info(why) => (Kind::Info, Some(why.clone())),
        };
        let body = book::body(open.host, open.op, Some(&outcome));
        self.record(time, Process::Client(open.process), kind, body, error);
    }

    fn happened(&mut self, time: Nanos, happening: Happening) {
        match happening {
            Happening::Completed { id, outcome } => self.answered(time, id, outcome),
            Happening::Said { host, what } => {
                let fine = self.conduct.said(host, &what);
                self.record(time, book::speaker(host), Kind::Info, said(host, what), None);
                self.unless(fine, time, host);
            }
            Happening::Started { host, incarnation } => {
                self.conduct.started(host);
                self.orphan(time, host, "the process was restarted");
                self.record(
                    time,
                    book::speaker(host),
                    Kind::Info,
                    Body::Started { host, incarnation },
                    None,
                );
            }
            Happening::Exited { host, how } => {
                self.record(
                    time,
                    book::speaker(host),
                    Kind::Info,
                    Body::Exited { host, how: how.clone() },
                    None,
                );
                self.orphan(time, host, "the process ended");
                if !self.book.may_end.contains(host) {
                    self.fail(format!("{host} ended by itself: {how}"));
                }
            }
            Happening::Garbage { host, what } => self.unless(Err(what), time, host),
            Happening::Acted { id, result } => self.acted(time, id, result),
            // Nothing answers any more, so nothing can be healed from here: the world's end is its own healing.
            Happening::Broken(why) => {
                self.fail(why);
                self.enter(Phase::End);
            }
        }
    }

    /// Takes what a candidate answered.
    fn answered(&mut self, time: Nanos, id: u64, outcome: Outcome) {
        let answer = match &outcome {
            Outcome::Ok(answer) => Some(*answer),
            _ => None,
        };
        let host = self.book.ops.get(&id).map(|open| open.host);
        self.complete(time, id, outcome);
        if let Some(host) = host {
            let fine = self.conduct.answered(host, time, answer.as_ref());
            self.unless(fine, time, host);
        }
    }

    /// Who breaks the protocol can be believed nothing any more.
    fn unless(&mut self, fine: Result<(), String>, time: Nanos, host: Name) {
        let Err(what) = fine else { return };
        let body = Body::Garbage {
            host,
            what: what.clone(),
        };
        self.record(time, book::speaker(host), Kind::Info, body, None);
        self.fail(format!("{host} does not speak the candidate protocol: {what}"));
    }

    fn acted(&mut self, time: Nanos, id: u64, result: Result<Vec<splitbrain_core::Proof>, String>) {
        let Some(mut open) = self.book.acts.remove(&id) else {
            return;
        };
        match result {
            Ok(proofs) => {
                open.step.proofs = proofs;
                self.record(time, Process::Nemesis, Kind::Ok, fault_body(&open), None);
                if let Action::Kill { hosts, .. } = &open.step.action {
                    hosts
                        .iter()
                        .for_each(|host| self.orphan(time, *host, "the process was killed"));
                }
            }
            Err(why) => {
                self.record(time, Process::Nemesis, Kind::Fail, fault_body(&open), Some(why.clone()));
                let what = if open.heal { "heal" } else { "inject" };
                self.fail(format!("failed to {what} '{}': {why}", open.step.what));
            }
        }
    }

    /// What was asked of a process that is gone can get no answer any more.
    fn orphan(&mut self, time: Nanos, host: Name, why: &str) {
        for id in self.book.orphans(host) {
            self.complete(time, id, Outcome::Info(why.to_string()));
        }
    }

    fn record(&mut self, time: Nanos, process: Process, kind: Kind, body: Body, error: Option<String>) {
        self.last = self.last.max(time);
        let event = Event {
            index: self.index,
            time: self.last,
            process,
            kind,
            body,
            error,
        };
        self.index += 1;
        if let Err(why) = (self.d.sink)(&event) {
            self.failure.get_or_insert(why);
        }
        self.book.note(&event);
        self.d.nemesis.notify(&event);
        self.d.workload.notify(&event);
    }

    fn enter(&mut self, phase: Phase) {
        let now = self.d.world.now().max(self.last);
        self.book.enter(phase, now);
        self.record(now, Process::Control, Kind::Info, Body::Phase { phase }, None);
    }

    /// The run cannot go on: says why once, and heals.
    fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            self.failure = Some(why.clone());
            self.abort(why);
        }
    }

    fn abort(&mut self, why: String) {
        self.record(
            self.d.world.now(),
            Process::Control,
            Kind::Info,
            Body::Aborted { why },
            None,
        );
        if self.phase() < Phase::Heal {
            self.enter(Phase::Heal);
        }
    }

    /// Enters the next phase if this one is over. `wake` is `None` when both generators are done.
    fn advance(&mut self, now: Nanos, wake: Option<Nanos>) -> bool {
        let over = now >= self.phase_end();
        let idle = wake.is_none() && self.book.acts.is_empty();
        match self.phase() {
            Phase::Setup if self.book.has_leader() && self.book.unready().is_empty() => self.enter(Phase::Faults),
            Phase::Setup if over => {
                let silent = self.book.unready();
                let limit = self.d.limits.setup;
                self.fail(match silent.is_empty() {
                    true => format!("no leader within {limit} of the start, before any fault"),
                    false => format!("not ready within {limit} of the start: {silent:?}"),
                });
            }
            Phase::Faults if over => self.enter(Phase::Heal),
            Phase::Heal if self.nemesis_done && self.book.acts.is_empty() => {
                let cut_short = self.failure.is_some() || self.interrupted;
                self.enter(if cut_short { Phase::End } else { Phase::Recovery });
            }
            Phase::Heal if over => {
                self.fail(format!(
                    "faults still open {} after the healing began",
                    self.d.limits.action
                ));
                self.enter(Phase::End);
            }
            Phase::Recovery if self.failure.is_some() || self.interrupted => self.enter(Phase::End),
            Phase::Recovery if over => match self.conduct.silent(self.book.view.phase_began) {
                Some(why) => self.fail(why),
                None => self.enter(Phase::Final),
            },
            Phase::Recovery if self.book.agreed() => self.enter(Phase::Final),
            Phase::Final if over || (idle && self.book.ops.is_empty() && self.book.storage_has_told()) => {
                self.enter(Phase::End);
            }
            _ => return false,
        }
        true
    }
}

fn fault_body(open: &OpenAct) -> Body {
    if open.heal {
        Body::Heal(open.step.clone())
    } else {
        Body::Fault(open.step.clone())
    }
}

fn said(host: Name, what: Unasked) -> Body {
    match what {
        Unasked::Ready => Body::Ready { host },
        Unasked::Elected { epoch, token, reign } => Body::Elected {
            host,
            epoch,
            token,
            reign,
        },
        Unasked::Deposed { reign, why } => Body::Deposed { host, reign, why },
        Unasked::Applied { index, term, digest } => Body::Applied {
            host,
            index,
            term,
            digest,
        },
        Unasked::Stored {
            seq,
            token,
            value,
            base,
            by,
        } => Body::Stored {
            seq,
            token,
            value,
            base,
            by,
        },
        Unasked::Rejected {
            token,
            highest,
            value,
            by,
        } => Body::Rejected {
            token,
            highest,
            value,
            by,
        },
    }
}
