//! Candidates of each recipe against a real etcd, with the real storage and with etcd itself for one.
// Tests wait for real processes.
mod common;

use common::{Agent, Processes, site};
use serde_json::json;
use splitbrain_core::plan::Storage;
use splitbrain_core::{Answer, Epoch, Op, Outcome, Plan, Reign, Role, Site, Status, System, Token, Unasked};
use splitbrain_node::storage;
use splitbrain_systems::etcd_recipes::candidate::run_over;
use splitbrain_systems::etcd_recipes::{Recipe, Settings, mirror};
use splitbrain_systems::gateway::{Gateway, encode};
use std::time::{Duration, Instant};

/// Some servers, two candidates, a fenced storage or a mirror of etcd's.
struct Election {
    recipe: Recipe,
    servers: Processes,
    storage: Agent,
    candidates: Vec<Agent>,
    gateway: Gateway,
    _dir: tempfile::TempDir,
}

impl Election {
    fn start(recipe: Recipe, storage: Storage, number: u8, servers: u32) -> Election {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new(recipe.name(), "local");
        (plan.nodes, plan.candidates, plan.storage) = (servers, 2, storage);
        let site: Site = site(&recipe, &plan, number, dir.path());
        let specs = recipe.deploy(&plan, 7, &site);
        let servers = Processes::start(&specs, |spec| spec.name == "etcd");
        let settings: Vec<Settings> = specs
            .iter()
            .filter(|spec| spec.name == "candidate")
            .map(|spec| serde_json::from_str(&spec.argv[3]).unwrap())
            .collect();
        let (address, endpoints) = (settings[0].storage, settings[0].servers.clone());
        let mirror = mirror::Settings {
            servers: endpoints.clone(),
        };
        let storage = Agent::spawn(move |stdio| async move {
            let Some(address) = address else {
                return mirror::run_over(mirror, stdio).await;
            };
            let listener = tokio::net::TcpListener::bind(address).await?;
            storage::serve(listener, true, stdio).await;
            Ok(())
        });
        let candidate = |settings| Agent::spawn(move |stdio| run_over(settings, stdio));
        Election {
            recipe,
            servers,
            storage,
            candidates: settings.into_iter().map(candidate).collect(),
            gateway: Gateway::new(endpoints).unwrap(),
            _dir: dir,
        }
    }

    /// Waits until either candidate is elected: which, and its epoch.
    fn first_elected(&mut self) -> (usize, Epoch) {
        let (n, event) = self.next_elected();
        (n, epoch_of(event, Reign(1)))
    }

    fn next_elected(&mut self) -> (usize, Unasked) {
        let until = Instant::now() + common::PATIENCE;
        while Instant::now() < until {
            for (n, candidate) in self.candidates.iter_mut().enumerate() {
                let elected = |e: &Unasked| matches!(e, Unasked::Elected { .. });
                if let Some(event) = candidate.try_event(Duration::from_millis(50), elected) {
                    return (n, event);
                }
            }
        }
        panic!("nobody was ever elected");
    }

    fn call(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = self.gateway.call(path, body, common::PATIENCE);
        runtime.block_on(answer).unwrap()
    }

    /// The key of the present leader.
    fn leaders_key(&self) -> serde_json::Value {
        let (from, to) = match self.recipe {
            Recipe::Election => ("splitbrain/election/", "splitbrain/election0"),
            Recipe::Lock => ("splitbrain/lock/", "splitbrain/lock0"),
            Recipe::Lease => ("splitbrain/leader", "splitbrain/leades"),
        };
        let oldest = json!({
            "key": encode(from), "range_end": encode(to), "sort_order": "ASCEND", "sort_target": "CREATE", "limit": 1,
        });
        self.call("/v3/kv/range", &oldest)["kvs"][0].clone()
    }

    /// Ends the lease of the present leader, as if it had expired.
    fn revoke_leader(&self) {
        let lease = self.leaders_key()["lease"].clone();
        self.call("/v3/lease/revoke", &json!({"ID": lease}));
    }

    /// Deletes the key of the present leader, whose lease lives.
    fn delete_leaders_key(&self) {
        let key = self.leaders_key()["key"].clone();
        self.call("/v3/kv/deleterange", &json!({"key": key}));
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
    hand_over(Recipe::Election, Storage::Fenced, 1);
}

#[test]
fn a_lock_goes_from_lease_to_lease() {
    hand_over(Recipe::Lock, Storage::Fenced, 4);
}

#[test]
fn a_key_goes_from_lease_to_lease() {
    hand_over(Recipe::Lease, Storage::Fenced, 5);
}

#[test]
fn etcd_itself_counts_the_writes_and_the_mirror_tells_them() {
    hand_over(Recipe::Lease, Storage::Guarded, 6);
}

fn hand_over(recipe: Recipe, storage: Storage, number: u8) {
    let mut election = Election::start(recipe, storage, number, 1);
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
    if recipe == Recipe::Lease {
        // Nobody queues: who resigned may win again at once.
        let (_, event) = election.next_elected();
        assert!(matches!(event, Unasked::Elected { epoch, reign: Reign(2) | Reign(1), .. } if second < epoch));
        return;
    }
    let third = elected(a, Reign(2));
    assert_eq!(b.ask(Op::Resign), Outcome::Fail("not-leader".into()));
    assert_eq!(a.ask(Op::Resign), Outcome::Ok(Answer::Done));
    let fourth = elected(b, Reign(2));
    assert!(epoch < second && second < third && third < fourth);
}

#[test]
fn a_leader_that_reaches_no_server_believes_until_its_deadline() {
    let mut election = Election::start(Recipe::Election, Storage::Fenced, 2, 1);
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
    server_dies(Recipe::Election, 3);
}

#[test]
fn a_call_for_the_lock_that_is_lost_with_its_server_is_made_again_at_another() {
    server_dies(Recipe::Lock, 7);
}

fn server_dies(recipe: Recipe, number: u8) {
    let mut election = Election::start(recipe, Storage::Guarded, number, 3);
    let (first, epoch) = election.first_elected();
    let leader = &mut election.candidates[first];
    let Outcome::Ok(Answer::Written { seq: 1, .. }) = leader.ask(Op::Write { value: 41 }) else {
        panic!("the first write is the first")
    };
    let stored = |number| move |e: &Unasked| matches!(e, Unasked::Stored { seq, .. } if *seq == number);
    election.storage.event(stored(1));
    // Candidate n starts at server n, the mirror at the first, and a call that failed at first may have moved one on:
    // either way one of the two candidates now loses the server that it talks to, and the quorum stays.
    let waiting = 1 - first;
    election.servers.kill_host(if waiting == 0 { "s1" } else { "s2" });
    let resigned = election.candidates[first].ask(Op::Resign);
    assert!(!matches!(resigned, Outcome::Fail(_)), "{resigned:?}");
    assert!(epoch < elected(&mut election.candidates[waiting], Reign(1)));
    // The mirror goes on where it was.
    let written = election.candidates[waiting].ask(Op::Write { value: 42 });
    assert!(!matches!(written, Outcome::Fail(_)), "{written:?}");
    let next = election.storage.event(|e| matches!(e, Unasked::Stored { .. }));
    assert!(
        matches!(
            next,
            Unasked::Stored {
                seq: 2,
                base: 1,
                value: 42,
                ..
            }
        ),
        "{next:?}"
    );
}

#[test]
fn etcd_refuses_the_write_of_a_leader_whose_key_is_gone() {
    for (recipe, number) in [(Recipe::Election, 8), (Recipe::Lock, 9), (Recipe::Lease, 10)] {
        let mut election = Election::start(recipe, Storage::Guarded, number, 1);
        let (first, epoch) = election.first_elected();
        election.candidates.swap(0, first);
        election.delete_leaders_key();
        let [old, new] = &mut election.candidates[..] else {
            unreachable!()
        };
        // Its lease lives, so it believes; and nobody else needs to have looked at the storage yet.
        assert_eq!(status(old).epoch, Some(epoch));
        assert_eq!(old.ask(Op::Write { value: 41 }), Outcome::Fail("stale-token".into()));
        assert!(epoch < elected(new, Reign(1)));
        assert_eq!(new.ask(Op::Read), Outcome::Ok(Answer::Value(None)));
        let written = new.ask(Op::Write { value: 42 });
        assert!(
            matches!(written, Outcome::Ok(Answer::Written { seq: 1, .. })),
            "{written:?}"
        );
        let told = election.storage.event(|e| matches!(e, Unasked::Stored { .. }));
        assert!(matches!(told, Unasked::Stored { seq: 1, value: 42, .. }), "{told:?}");
    }
}
