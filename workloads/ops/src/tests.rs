//! What each workload asks of three hosts of which n2 is believed to lead.
use super::*;
use splitbrain_core::{Body, HostRole, Kind, Process, Status};
use std::collections::BTreeSet;

const KNOWN: [&str; 10] = [
    "observe", "write", "read", "get", "set", "cas", "next", "run", "acquire", "release",
];

fn hosts() -> Vec<HostSpec> {
    (1..=3)
        .map(|i| HostSpec {
            name: Name::numbered("n", i),
            role: HostRole::Member,
            asked: true,
        })
        .collect()
}

fn leader() -> Status {
    Status {
        role: Role::Leader,
        epoch: None,
        token: None,
        reign: None,
        leader: None,
    }
}

fn view(phase: Phase, leaders: &[u32]) -> View {
    let mut view = View {
        phase: Some(phase),
        hosts: hosts(),
        ..View::default()
    };
    view.ready = hosts().iter().map(|h| h.name).collect();
    for n in leaders {
        view.beliefs.insert(Name::numbered("n", *n as usize), leader());
    }
    view
}

fn workload(kind: plan::Workload) -> Workload {
    let mut plan = Plan::new("raft", "sim");
    plan.workload = kind;
    Workload::new(&plan, 7, &hosts(), &KNOWN)
}

type Asked = (Nanos, Name, Lane, Op);

/// Everything `workload` asks until `until`; `answer` sees each operation and tells it how it ended.
fn ask(
    workload: &mut Workload,
    view: &mut View,
    until: Nanos,
    mut answer: impl FnMut(&mut Workload, &mut View, Asked),
) -> Vec<Asked> {
    let mut now = Nanos::ZERO;
    let mut asked = Vec::new();
    while now < until {
        match workload.next(now, view) {
            Next::Do(Command::Invoke { host, lane, op }) => {
                asked.push((now, host, lane, op));
                answer(workload, view, (now, host, lane, op));
            }
            Next::Do(other) => panic!("{other:?} is no operation"),
            Next::Wait(at) => {
                assert!(at > now, "a wait must lead on");
                now = at;
            }
            Next::Done => break,
        }
    }
    asked
}

/// As [`ask`], each operation ending at once and nothing said of it.
fn mute(kind: plan::Workload, phase: Phase, until: Nanos) -> Vec<Asked> {
    ask(&mut workload(kind), &mut view(phase, &[2]), until, |_, _, _| ())
}

fn event(time: Nanos, kind: Kind, body: Body, error: Option<&str>) -> Event {
    Event {
        index: 0,
        time,
        process: Process::Client(0),
        kind,
        body,
        error: error.map(str::to_string),
    }
}

fn count(asked: &[Asked], name: &str) -> usize {
    asked.iter().filter(|(.., op)| op.name() == name).count()
}

fn is_n2(host: Name) -> bool {
    host.as_str() == "n2"
}

#[test]
fn only_believed_leaders_work_and_values_are_unique() {
    let asked = mute(plan::Workload::Leadership, Phase::Faults, Nanos::secs(20));
    let mut values = BTreeSet::new();
    for (_, host, lane, op) in &asked {
        assert!(*lane == Lane::Observe || is_n2(*host));
        if let Op::Write { value } | Op::Set { value } | Op::Cas { to: value, .. } = op {
            assert!(values.insert(*value), "{value} twice");
        }
    }
    let count = |name| count(&asked, name);
    assert!((300..900).contains(&count("observe")), "{}", count("observe"));
    assert!((250..600).contains(&count("write")), "{}", count("write"));
    assert!(count("get") > 10 && count("cas") > 10 && count("set") > 10 && count("read") > 3);
}

#[test]
fn setup_only_looks_and_the_last_phase_looks_once() {
    for kind in plan::Workload::ALL {
        let only_looks = |phase, until| {
            let asked = mute(kind, phase, until);
            assert!(asked.iter().all(|(_, _, lane, _)| *lane == Lane::Observe), "{kind:?}");
            asked.len()
        };
        assert!(only_looks(Phase::Setup, Nanos::secs(1)) > 10);
        assert_eq!(only_looks(Phase::Final, Nanos::secs(1)), 3);
    }
}

#[test]
fn the_same_seed_asks_the_same() {
    for kind in plan::Workload::ALL {
        let asked = || mute(kind, Phase::Faults, Nanos::secs(5));
        assert_eq!(asked(), asked());
    }
}

#[test]
fn every_believed_leader_is_asked_for_ids() {
    let mut workload = workload(plan::Workload::Sequence);
    let asked = ask(
        &mut workload,
        &mut view(Phase::Faults, &[1, 2]),
        Nanos::secs(10),
        |_, _, _| (),
    );
    for n in 1..=2 {
        let host = Name::numbered("n", n);
        let ids = asked.iter().filter(|(_, h, _, op)| *h == host && *op == Op::Next);
        assert!((100..400).contains(&ids.count()), "{host}");
    }
    assert!(
        asked
            .iter()
            .all(|(_, h, _, op)| op.name() != "next" || h.as_str() != "n3")
    );
}

/// The jobs that are asked for while every offer ends as `kind` with `error`.
fn jobs(kind: Kind, error: Option<&str>) -> Vec<u64> {
    let settle = |workload: &mut Workload, _: &mut View, (now, host, _, op): Asked| {
        if let Op::Run { job } = op {
            let body = Body::Run {
                host,
                job,
                token: None,
                seq: None,
            };
            workload.notify(&event(now, Kind::Invoke, body.clone(), None));
            workload.notify(&event(now, kind, body, error));
        }
    };
    let mut workload = workload(plan::Workload::Jobs);
    let asked = ask(&mut workload, &mut view(Phase::Faults, &[1, 2]), Nanos::secs(3), settle);
    let job = |(.., op): &Asked| match op {
        Op::Run { job } => Some(*job),
        _ => None,
    };
    asked.iter().filter_map(job).collect()
}

#[test]
fn a_job_is_offered_until_it_may_have_run() {
    let refused = jobs(Kind::Fail, Some("not-leader"));
    assert!(refused.len() > 20 && refused.iter().all(|job| *job == 1), "{refused:?}");
    for (kind, error) in [
        (Kind::Ok, None),
        (Kind::Info, Some("no answer")),
        (Kind::Fail, Some("already-ran")),
    ] {
        let offered = jobs(kind, error);
        let expected: Vec<u64> = (1..=offered.len() as u64).collect();
        assert!(offered.len() > 20 && offered == expected, "{kind:?}: {offered:?}");
    }
}

#[test]
fn the_next_job_waits_for_every_offer_of_the_last() {
    let mut jobs = Jobs::new(&Plan::new("raft", "sim"));
    let run = |job| Body::Run {
        host: Name::numbered("n", 1),
        job,
        token: None,
        seq: None,
    };
    let at = Nanos::ZERO;
    jobs.notify(&event(at, Kind::Invoke, run(1), None));
    jobs.notify(&event(at, Kind::Invoke, run(1), None));
    jobs.notify(&event(at, Kind::Ok, run(1), None));
    let view = view(Phase::Faults, &[2]);
    let scene = Scene {
        now: at,
        phase: Phase::Faults,
        view: &view,
        host: Name::numbered("n", 2),
        lane: Lane::Write,
    };
    assert_eq!(jobs.gap(&scene), None);
    jobs.notify(&event(at, Kind::Fail, run(1), Some("not-leader")));
    assert_eq!(
        (jobs.gap(&scene), jobs.draw()),
        (Some(Nanos::millis(50)), Op::Run { job: 2 })
    );
}

/// A lock that is granted at once if nobody holds it.
fn grant(workload: &mut Workload, view: &mut View, (now, host, _, op): Asked) {
    match op {
        Op::Acquire if view.beliefs.is_empty() => {
            view.beliefs.insert(host, leader());
        }
        Op::Release => {
            assert!(view.beliefs.remove(&host).is_some(), "{host} does not hold it");
            let (reign, why) = (splitbrain_core::Reign(1), String::new());
            workload.notify(&event(now, Kind::Info, Body::Deposed { host, reign, why }, None));
        }
        _ => {}
    }
}

#[test]
fn the_lock_goes_round_and_is_written_under() {
    let mut workload = workload(plan::Workload::Lock);
    let asked = ask(&mut workload, &mut view(Phase::Faults, &[]), Nanos::secs(30), grant);
    let releases = count(&asked, "release");
    assert!((15..150).contains(&releases), "{releases}");
    assert!(count(&asked, "write") > 200 && count(&asked, "acquire") > 100);
    let holders: BTreeSet<Name> = asked.iter().filter(|a| a.3 == Op::Release).map(|a| a.1).collect();
    assert_eq!(holders.len(), 3, "everybody gets it");
}

#[test]
fn the_lock_is_kept_in_the_end_and_taken_if_nobody_has_it() {
    let until = Nanos::secs(10);
    for phase in [Phase::Setup, Phase::Recovery] {
        let mut workload = workload(plan::Workload::Lock);
        let asked = ask(&mut workload, &mut view(phase, &[]), until, grant);
        assert_eq!(
            (count(&asked, "acquire"), count(&asked, "release")),
            (1, 0),
            "{phase:?}"
        );
    }
}

#[test]
fn every_host_is_asked_for_the_register() {
    let hear = |workload: &mut Workload, _: &mut View, (now, host, _, op): Asked| {
        if let Op::Set { value } = op {
            workload.notify(&event(now, Kind::Ok, Body::Set { host, value }, None));
        }
    };
    let mut workload = workload(plan::Workload::Register);
    let asked = ask(&mut workload, &mut view(Phase::Faults, &[2]), Nanos::secs(10), hear);
    for host in hosts() {
        let own: Vec<Asked> = asked.iter().filter(|a| a.1 == host.name).copied().collect();
        assert!(count(&own, "get") > 100 && count(&own, "set") > 40 && count(&own, "cas") > 40);
    }
    let mut set = None;
    for (.., op) in asked {
        match op {
            Op::Set { value } => set = Some(value),
            Op::Cas { from, .. } => assert_eq!(from, set, "it expects what was last heard of"),
            _ => {}
        }
    }
}
