//! Candidates of the election recipe against a real etcd and the real storage.
// Tests wait for real processes.
mod common;

use common::{Agent, Processes, site};
use serde_json::json;
use splitbrain_core::{Answer, Epoch, Op, Outcome, Plan, Reign, Role, Site, Status, System, Token, Unasked};
use splitbrain_node::storage;
use splitbrain_systems::election::candidate::run_over;
use splitbrain_systems::election::{EtcdElectionSystem, Settings};
use splitbrain_systems::gateway::{Gateway, encode};
use std::time::{Duration, Instant};

/// Some servers, two candidates, a fenced storage.
struct Election {
    servers: Processes,
    storage: Agent,
    candidates: Vec<Agent>,
    gateway: Gateway,
    _dir: tempfile::TempDir,
}

impl Election {
    fn start(number: u8, servers: u32) -> Election {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new("etcd-election", "local");
        (plan.nodes, plan.candidates) = (servers, 2);
        let site: Site = site(&EtcdElectionSystem, &plan, number, dir.path());
        let specs = EtcdElectionSystem.deploy(&plan, 7, &site);
        let servers = Processes::start(&specs, |spec| spec.name == "etcd");
        let settings: Vec<Settings> = specs
            .iter()
            .filter(|spec| spec.name == "candidate")
            .map(|spec| serde_json::from_str(&spec.argv[3]).unwrap())
            .collect();
        let (address, endpoints) = (settings[0].storage, settings[0].servers.clone());
        let storage = Agent::spawn(move |stdio| async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            storage::serve(listener, true, stdio).await;
            Ok(())
        });
        let candidate = |settings| Agent::spawn(move |stdio| run_over(settings, stdio));
        Election {
            servers,
            storage,
            candidates: settings.into_iter().map(candidate).collect(),
            gateway: Gateway::new(endpoints).unwrap(),
            _dir: dir,
        }
    }

    /// Waits until either candidate is elected: which, and its epoch.
    fn first_elected(&mut self) -> (usize, Epoch) {
        let until = Instant::now() + common::PATIENCE;
        while Instant::now() < until {
            for (n, candidate) in self.candidates.iter_mut().enumerate() {
                let elected = |e: &Unasked| matches!(e, Unasked::Elected { .. });
                if let Some(event) = candidate.try_event(Duration::from_millis(50), elected) {
                    return (n, epoch_of(event, Reign(1)));
                }
            }
        }
        panic!("nobody was ever elected");
    }

    /// Ends the lease of the present leader, as if it had expired.
    fn revoke_leader(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let call = |path, body| {
            let answer = self.gateway.call(path, &body, common::PATIENCE);
            runtime.block_on(answer).unwrap()
        };
        let oldest = json!({
            "key": encode("splitbrain/election/"), "range_end": encode("splitbrain/election0"),
            "sort_order": "ASCEND", "sort_target": "CREATE", "limit": 1,
        });
        let lease = call("/v3/kv/range", oldest)["kvs"][0]["lease"].clone();
        call("/v3/lease/revoke", json!({"ID": lease}));
    }
}

fn epoch_of(event: Unasked, expect: Reign) -> Epoch {
    let Unasked::Elected { epoch, token, reign } = event else {
        panic!("{event:?}")
    };
    assert_eq!((token, reign), (Some(Token(epoch.0)), expect));
    epoch
}

fn elected(candidate: &mut Agent, reign: Reign) -> Epoch {
    epoch_of(candidate.event(|e| matches!(e, Unasked::Elected { .. })), reign)
}

fn deposed(candidate: &mut Agent, expect: Reign) -> String {
    let Unasked::Deposed { reign, why } = candidate.event(|e| matches!(e, Unasked::Deposed { .. })) else {
        unreachable!()
    };
    assert_eq!(reign, expect);
    why
}

fn status(candidate: &mut Agent) -> Status {
    match candidate.ask(Op::Observe) {
        Outcome::Ok(Answer::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn leadership_goes_from_lease_to_lease() {
    let mut election = Election::start(1, 1);
    let (first, epoch) = election.first_elected();
    election.candidates.swap(0, first);

    let leader = status(&mut election.candidates[0]);
    assert_eq!(
        (leader.role, leader.epoch, leader.reign),
        (Role::Leader, Some(epoch), Some(Reign(1)))
    );
    assert_ne!(status(&mut election.candidates[1]).role, Role::Leader);
    let written = Answer::Written {
        token: Token(epoch.0),
        seq: 1,
    };
    assert_eq!(
        election.candidates[0].ask(Op::Write { value: 41 }),
        Outcome::Ok(written)
    );
    assert_eq!(
        election.candidates[1].ask(Op::Write { value: 42 }),
        Outcome::Fail("not-leader".into())
    );
    assert_eq!(
        election.candidates[1].ask(Op::Read),
        Outcome::Ok(Answer::Value(Some(41)))
    );

    election.revoke_leader();
    let [a, b] = &mut election.candidates[..] else {
        unreachable!()
    };
    let second = elected(b, Reign(1));
    assert_eq!(deposed(a, Reign(1)), "the lease is gone");
    let written = Answer::Written {
        token: Token(second.0),
        seq: 2,
    };
    assert_eq!(b.ask(Op::Write { value: 43 }), Outcome::Ok(written));
    let base = |e: &Unasked| matches!(e, Unasked::Stored { seq: 2, base: 1, .. });
    election.storage.event(base);

    assert_eq!(b.ask(Op::Resign), Outcome::Ok(Answer::Done));
    assert_eq!(deposed(b, Reign(1)), "resigned");
    let third = elected(a, Reign(2));
    assert_eq!(b.ask(Op::Resign), Outcome::Fail("not-leader".into()));
    assert_eq!(a.ask(Op::Resign), Outcome::Ok(Answer::Done));
    let fourth = elected(b, Reign(2));
    assert!(epoch < second && second < third && third < fourth);
}

#[test]
fn a_leader_that_reaches_no_server_believes_until_its_deadline() {
    let mut election = Election::start(2, 1);
    let (first, epoch) = election.first_elected();
    election.servers.kill();
    let leader = &mut election.candidates[first];
    // Nothing told it yet, and the storage is within reach: it goes on writing.
    let written = Answer::Written {
        token: Token(epoch.0),
        seq: 1,
    };
    assert_eq!(leader.ask(Op::Write { value: 41 }), Outcome::Ok(written));
    assert_eq!(
        deposed(leader, Reign(1)),
        "no keepalive was answered before the deadline"
    );
    assert_eq!(status(leader).role, Role::Follower);
    assert_eq!(leader.ask(Op::Write { value: 42 }), Outcome::Fail("not-leader".into()));
}

#[test]
fn a_candidate_whose_server_dies_goes_on_at_another() {
    let mut election = Election::start(3, 3);
    let (first, epoch) = election.first_elected();
    // Candidate n starts at server n, and a call that failed at first may have moved it on: either way one of the two
    // candidates now loses the server that it talks to, and the quorum stays.
    let waiting = 1 - first;
    election.servers.kill_host(if waiting == 0 { "s1" } else { "s2" });
    let resigned = election.candidates[first].ask(Op::Resign);
    assert!(!matches!(resigned, Outcome::Fail(_)), "{resigned:?}");
    assert!(epoch < elected(&mut election.candidates[waiting], Reign(1)));
}
