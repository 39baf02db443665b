//! The observer beside a real etcd member.
// Tests wait for real processes.
mod common;

use common::{Agent, PATIENCE, Processes, site};
use splitbrain_core::{Answer, Op, Outcome, Plan, Reign, Role, Site, Status, System, Unasked};
use splitbrain_systems::etcd::EtcdSystem;
use splitbrain_systems::etcd::observer::{Settings, run_over};
use std::time::Instant;

fn plan(nodes: u32) -> Plan {
    let mut plan = Plan::new("etcd", "local");
    plan.nodes = nodes;
    plan
}

fn start(plan: &Plan, site: &Site) -> (Processes, Vec<Agent>) {
    let specs = EtcdSystem.deploy(plan, 7, site);
    let servers = Processes::start(&specs, |spec| spec.name == "etcd");
    let observers = specs.iter().filter(|spec| spec.name == "observer").map(|spec| {
        let settings: Settings = serde_json::from_str(&spec.argv[3]).unwrap();
        Agent::spawn(move |stdio| run_over(settings, stdio))
    });
    (servers, observers.collect())
}

fn status(agent: &mut Agent) -> Option<Status> {
    match agent.ask(Op::Observe) {
        Outcome::Ok(Answer::Status(status)) => Some(status),
        Outcome::Ok(other) => panic!("{other:?}"),
        Outcome::Fail(_) | Outcome::Info(_) => None,
    }
}

/// Asks until the answer satisfies `wanted`.
fn until(agent: &mut Agent, wanted: impl Fn(&Status) -> bool) -> Status {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = status(agent).filter(&wanted) {
            return status;
        }
        assert!(Instant::now() < end, "the awaited answer never came");
    }
}

#[test]
fn a_member_is_seen_through_its_lives() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(1);
    let site = site(&EtcdSystem, &plan, 1, dir.path());
    let mut terms = Vec::new();
    for life in 0..2 {
        let (mut servers, mut observers) = start(&plan, &site);
        let observer = &mut observers[0];
        let Unasked::Elected { epoch, token, reign } = observer.event(|e| matches!(e, Unasked::Elected { .. })) else {
            unreachable!()
        };
        // Each life has an observer of its own, which knows nothing of the last life's reigns.
        assert_eq!((token, reign), (None, Reign(1)), "life {life}");
        let status = until(observer, |status| status.role == Role::Leader);
        assert_eq!((status.epoch, status.reign), (Some(epoch), Some(reign)));
        assert_eq!(status.leader.unwrap().as_str(), "n1");
        terms.push(epoch);
        servers.kill();
        observer.event(|e| matches!(e, Unasked::Deposed { reign: Reign(1), .. }));
        assert!(matches!(observer.ask(Op::Observe), Outcome::Fail(_)));
    }
    assert!(terms[0] < terms[1], "{terms:?}");
}

#[test]
fn three_members_agree_and_keep_a_register() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(3);
    let site = site(&EtcdSystem, &plan, 2, dir.path());
    let (_servers, mut observers) = start(&plan, &site);
    let seen: Vec<Status> = observers.iter_mut().map(|o| until(o, |s| s.leader.is_some())).collect();
    let leaders = seen.iter().filter(|s| s.role == Role::Leader).count();
    assert_eq!(leaders, 1, "{seen:?}");
    assert!(
        seen.iter()
            .all(|s| (s.leader, s.epoch) == (seen[0].leader, seen[0].epoch)),
        "{seen:?}"
    );

    let [a, b, c] = &mut observers[..] else { unreachable!() };
    assert_eq!(b.ask(Op::Get), Outcome::Ok(Answer::Value(None)));
    assert_eq!(a.ask(Op::Cas { from: None, to: 1 }), Outcome::Ok(Answer::Done));
    assert_eq!(b.ask(Op::Cas { from: None, to: 2 }), Outcome::Fail("mismatch".into()));
    assert_eq!(b.ask(Op::Cas { from: Some(1), to: 3 }), Outcome::Ok(Answer::Done));
    assert_eq!(c.ask(Op::Get), Outcome::Ok(Answer::Value(Some(3))));
    assert_eq!(c.ask(Op::Set { value: 9 }), Outcome::Ok(Answer::Done));
    assert_eq!(a.ask(Op::Get), Outcome::Ok(Answer::Value(Some(9))));
    assert!(matches!(a.ask(Op::Resign), Outcome::Fail(_)));
}
