//! The loop against a world that does as it is told: what it records, and how it ends.
use splitbrain_core::event::{Body, Event, FaultStep, Kind, Phase, Process};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::world::{Happening, Unasked};
use splitbrain_core::{
    Action, Answer, Command, Disk, Epoch, Generator, HostRole, HostSpec, Lane, Name, Nanos, Next, Op, Outcome, Reign,
    Role, Status, Token, View, World,
};
use splitbrain_runner::{Drive, Ended, Limits, drive};
use std::collections::BTreeMap;

fn n1() -> Name {
    "n1".parse().unwrap()
}

const SEC: Nanos = Nanos::secs(1);

/// A host n1 that is ready and elected at once, answers each look as the leader, and does what the script says.
#[derive(Default)]
struct Toy {
    now: Nanos,
    queue: BTreeMap<(Nanos, u64), Happening>,
    count: u64,
    /// Looks asked in this second are answered long after their time.
    deaf: Option<u64>,
    /// Whether actions fail.
    refuses: bool,
    /// The storage's number of the one write that is asked for, if one is.
    acknowledges: Option<u64>,
}

impl Toy {
    fn new(script: Vec<(Nanos, Happening)>) -> Toy {
        let mut toy = Toy::default();
        let said = |what| Happening::Said { host: n1(), what };
        toy.push(
            Nanos(1),
            Happening::Started {
                host: n1(),
                incarnation: 1,
            },
        );
        toy.push(Nanos(2), said(Unasked::Ready));
        toy.push(
            Nanos(3),
            said(Unasked::Elected {
                epoch: Epoch(1),
                token: None,
                reign: Reign(1),
            }),
        );
        script.into_iter().for_each(|(at, what)| toy.push(at, what));
        toy
    }

    fn push(&mut self, at: Nanos, what: Happening) {
        self.count += 1;
        self.queue.insert((at, self.count), what);
    }
}

impl World for Toy {
    fn now(&self) -> Nanos {
        self.now
    }
    fn submit(&mut self, id: u64, _host: Name, op: Op) {
        let status = Status {
            role: Role::Leader,
            epoch: Some(Epoch(1)),
            token: None,
            reign: Some(Reign(1)),
            leader: Some(n1()),
        };
        let answer = match (op, self.acknowledges) {
            (Op::Observe, _) => Answer::Status(status),
            (Op::Write { .. }, Some(seq)) => Answer::Written { token: Token(1), seq },
            _ => Answer::Done,
        };
        let deaf = self.deaf == Some(self.now.0 / SEC.0);
        let delay = if deaf { Nanos::millis(2500) } else { Nanos::millis(1) };
        self.push(
            self.now + delay,
            Happening::Completed {
                id,
                outcome: Outcome::Ok(answer),
            },
        );
    }
    fn act(&mut self, id: u64, _action: &Action) {
        let result = if self.refuses {
            Err("nothing moved".to_string())
        } else {
            Ok(vec![])
        };
        self.push(self.now + Nanos::millis(5), Happening::Acted { id, result });
    }
    fn poll(&mut self, until: Nanos) -> Option<(Nanos, Happening)> {
        match self.queue.first_key_value() {
            Some((&(at, _), _)) if at <= until => {
                let ((at, _), what) = self.queue.pop_first().unwrap();
                self.now = self.now.max(at);
                Some((self.now, what))
            }
            _ => {
                self.now = self.now.max(until);
                None
            }
        }
    }
}

/// Looks at n1 every 100 ms, and once in the last phase.
#[derive(Default)]
struct Looks {
    last: Nanos,
    done: bool,
    /// Whether one write is to be asked for.
    writes: bool,
}

impl Generator for Looks {
    fn next(&mut self, now: Nanos, view: &View) -> Next {
        let free = view.is_free(n1(), Lane::Observe);
        let look = Next::Do(Command::Invoke {
            host: n1(),
            lane: Lane::Observe,
            op: Op::Observe,
        });
        match view.phase {
            Some(Phase::Faults) if std::mem::take(&mut self.writes) => Next::Do(Command::Invoke {
                host: n1(),
                lane: Lane::Write,
                op: Op::Write { value: 1 },
            }),
            Some(Phase::Final) if self.done => Next::Done,
            Some(Phase::Final) if free => {
                self.done = true;
                look
            }
            _ if free && now >= self.last + Nanos::millis(100) => {
                self.last = now;
                look
            }
            _ if free => Next::Wait(self.last + Nanos::millis(100)),
            _ => Next::Wait(Nanos::MAX),
        }
    }
    fn notify(&mut self, _event: &Event) {}
}

/// Pauses n1 once, half a second into the faults, and heals at the end.
#[derive(Default)]
struct OneFault {
    injected: bool,
    healed: bool,
    /// Instead of the pause.
    disk: Option<Disk>,
}

impl Generator for OneFault {
    fn next(&mut self, now: Nanos, view: &View) -> Next {
        let step = |action| FaultStep {
            fault: 1,
            kind: FaultKind::Pause,
            what: "pause n1".into(),
            targets: vec![n1()],
            action,
            proofs: vec![],
        };
        match view.phase {
            Some(Phase::Faults) if !self.injected => {
                let at = view.phase_began + Nanos::millis(500);
                if now < at {
                    return Next::Wait(at);
                }
                self.injected = true;
                let hosts = vec![n1()];
                Next::Do(Command::Inject(step(match self.disk {
                    Some(disk) => Action::Disk { hosts, disk },
                    None => Action::Pause { hosts },
                })))
            }
            Some(phase) if phase >= Phase::Heal && self.injected && !self.healed => {
                self.healed = true;
                let hosts = vec![n1()];
                Next::Do(Command::Heal(step(match self.disk {
                    Some(_) => Action::Start { hosts },
                    None => Action::Resume { hosts },
                })))
            }
            Some(phase) if phase >= Phase::Heal => Next::Done,
            _ => Next::Wait(Nanos::MAX),
        }
    }
    fn notify(&mut self, _event: &Event) {}
}

/// Runs the loop for five seconds of faults; gives how it ended and what it recorded.
fn run(world: Toy, stop_after: Nanos, full_at: usize) -> (Ended, Vec<Event>) {
    run_with(world, &mut OneFault::default(), stop_after, full_at)
}

fn run_with(mut world: Toy, nemesis: &mut OneFault, stop_after: Nanos, full_at: usize) -> (Ended, Vec<Event>) {
    let hosts = [HostSpec {
        name: n1(),
        role: HostRole::Member,
        asked: true,
    }];
    let mut events: Vec<Event> = Vec::new();
    let seen = std::cell::Cell::new(Nanos::ZERO);
    let acknowledges = world.acknowledges.is_some();
    let mut sink = |event: &Event| {
        events.push(event.clone());
        seen.set(event.time);
        if events.len() > full_at {
            Err("failed to write the history: disk full".to_string())
        } else {
            Ok(())
        }
    };
    let ended = drive(Drive {
        world: &mut world,
        hosts: &hosts,
        nemesis,
        workload: &mut Looks {
            writes: acknowledges,
            ..Looks::default()
        },
        limits: Limits::new(Nanos::secs(5), Nanos::secs(5)),
        sink: &mut sink,
        stop: &|| seen.get() >= stop_after,
    });
    (ended, events)
}

fn check(world: Toy) -> (Ended, Vec<Event>) {
    let (ended, events) = run(world, Nanos::MAX, usize::MAX);
    for (i, pair) in events.windows(2).enumerate() {
        assert!(
            pair[1].time >= pair[0].time && pair[1].index == i as u64 + 1,
            "{pair:?}"
        );
    }
    assert!(
        matches!(events.last().unwrap().body, Body::Phase { phase: Phase::End }),
        "every run reaches its end"
    );
    (ended, events)
}

#[test]
fn a_run_goes_through_its_phases() {
    let (ended, events) = check(Toy::new(vec![]));
    assert_eq!(ended, Ended::Whole);
    let phases = events.iter().filter_map(|e| {
        if let Body::Phase { phase } = e.body {
            Some(phase)
        } else {
            None
        }
    });
    let all = [
        Phase::Setup,
        Phase::Faults,
        Phase::Heal,
        Phase::Recovery,
        Phase::Final,
        Phase::End,
    ];
    assert_eq!(phases.collect::<Vec<_>>(), all);
    assert!(
        events
            .iter()
            .any(|e| matches!(e.body, Body::Heal(_)) && e.kind == Kind::Ok),
        "what was injected is healed"
    );
}

#[test]
fn a_run_ends_when_the_storage_has_told_of_what_was_acknowledged() {
    let late = Nanos::secs(7);
    let stored = Unasked::Stored {
        seq: 1,
        token: Token(1),
        value: 1,
        base: 0,
        by: n1(),
    };
    let ends = |acknowledges| {
        let what = stored.clone();
        let mut world = Toy::new(vec![(late, Happening::Said { host: n1(), what })]);
        world.acknowledges = acknowledges;
        let (ended, events) = check(world);
        assert_eq!(ended, Ended::Whole);
        events.last().unwrap().time
    };
    assert!(ends(None) < late, "nothing is awaited where nothing was acknowledged");
    assert_eq!(ends(Some(1)), late);
    let never = ends(Some(2));
    assert!(late < never && never < Nanos::secs(12), "{never}: the wait is bounded");
}

#[test]
fn a_host_that_dies_talks_garbage_or_breaks_ends_the_run_by_name() {
    let exited = Happening::Exited {
        host: n1(),
        how: "member: exit status 1".into(),
    };
    let garbage = Happening::Garbage {
        host: n1(),
        what: "no JSON: hello".into(),
    };
    let cases = [
        (exited, "n1 ended by itself: member: exit status 1"),
        (garbage, "n1 does not speak the candidate protocol: no JSON: hello"),
        (Happening::Broken("the sandbox died".into()), "the sandbox died"),
    ];
    for (what, why) in cases {
        let (ended, events) = check(Toy::new(vec![(SEC + SEC, what)]));
        assert_eq!(ended, Ended::Failed(why.to_string()));
        assert!(
            events
                .iter()
                .any(|e| matches!(&e.body, Body::Aborted { why: w } if w == why))
        );
        assert!(
            events.last().unwrap().time < Nanos::secs(4),
            "it does not go on for the rest of its time"
        );
    }
}

#[test]
fn a_process_may_end_while_its_disk_is_bad_and_at_no_other_time() {
    let check = |at: Nanos, full: bool, want: Ended| {
        let exited = Happening::Exited {
            host: n1(),
            how: "member: exit status 1".into(),
        };
        let mut nemesis = OneFault {
            disk: Some(Disk {
                full,
                sync_delay: Nanos::millis(1),
                ..Disk::default()
            }),
            ..OneFault::default()
        };
        let (ended, events) = run_with(Toy::new(vec![(at, exited)]), &mut nemesis, Nanos::MAX, usize::MAX);
        assert_eq!(ended, want, "an end at {at}");
        assert!(events.iter().any(|e| matches!(e.body, Body::Exited { .. })));
    };
    let failed = || Ended::Failed("n1 ended by itself: member: exit status 1".into());
    // The faults begin within 10 ms; the disk is bad half a second later.
    check(Nanos::millis(400), true, failed());
    check(SEC, true, Ended::Whole);
    check(SEC, false, failed());
    // The healing, which starts the host again, comes after five seconds and takes 5 ms.
    check(Nanos::millis(5030), true, failed());
}

#[test]
fn a_fault_that_did_not_act_is_an_error() {
    let (ended, events) = check(Toy {
        refuses: true,
        ..Toy::new(vec![])
    });
    assert_eq!(
        ended,
        Ended::Failed("failed to inject 'pause n1': nothing moved".into())
    );
    assert!(
        events
            .iter()
            .any(|e| matches!(e.body, Body::Fault(_)) && e.kind == Kind::Fail)
    );
}

#[test]
fn an_answer_that_comes_too_late_is_info_and_its_process_never_speaks_again() {
    let (ended, events) = check(Toy {
        deaf: Some(2),
        ..Toy::new(vec![])
    });
    assert_eq!(ended, Ended::Whole);
    let at = events
        .iter()
        .position(|e| e.kind == Kind::Info && e.body.is_operation())
        .expect("a look timed out");
    let old = events[at].process;
    assert!(matches!(old, Process::Client(_)));
    assert!(
        events[at + 1..].iter().all(|e| e.process != old),
        "{old:?} spoke after its info"
    );
    assert!(
        events[at + 1..]
            .iter()
            .any(|e| e.kind == Kind::Ok && e.body.is_operation()),
        "another took its place"
    );
}

#[test]
fn an_answer_to_another_question_is_no_answer() {
    let wrong = Happening::Completed {
        id: 1,
        outcome: Outcome::Ok(Answer::Done),
    };
    let (ended, events) = check(Toy {
        deaf: Some(0),
        ..Toy::new(vec![(Nanos::millis(900), wrong)])
    });
    assert!(matches!(ended, Ended::Failed(why) if why.contains("answered observe")));
    assert!(
        !events
            .iter()
            .any(|e| e.kind == Kind::Ok && matches!(e.body, Body::Observe { answer: None, .. }))
    );
}

#[test]
fn an_interrupt_heals_what_is_open() {
    let (ended, events) = run(Toy::new(vec![]), SEC, usize::MAX);
    assert_eq!(ended, Ended::Interrupted);
    assert!(
        events
            .iter()
            .any(|e| matches!(e.body, Body::Heal(_)) && e.kind == Kind::Ok)
    );
    assert!(events.last().unwrap().time < Nanos::secs(2));
}

#[test]
fn a_history_that_cannot_be_kept_ends_the_run() {
    let (ended, events) = run(Toy::new(vec![]), Nanos::MAX, 30);
    assert_eq!(ended, Ended::Failed("failed to write the history: disk full".into()));
    assert!(events.last().unwrap().time < Nanos::secs(3));
}
