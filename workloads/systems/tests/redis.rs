//! Candidates of the documented locks against real redis servers and the real storage.
// Tests wait for real processes.
mod common;

use common::{Agent, PATIENCE, Processes, site};
use splitbrain_core::{Answer, Epoch, Op, Outcome, Plan, Reign, Role, Status, System, Token, Unasked};
use splitbrain_node::storage;
use splitbrain_systems::redis::lock::candidate::run_over;
use splitbrain_systems::redis::lock::{RedisLockSystem, RedlockSystem, Settings};
use std::time::{Duration, Instant};

const KEY: &str = "splitbrain/lock";

/// Some instances, two candidates, a storage.
struct Election {
    instances: Processes,
    addresses: Vec<std::net::SocketAddr>,
    storage: Agent,
    candidates: Vec<Agent>,
    _dir: tempfile::TempDir,
}

impl Election {
    fn start(system: &dyn System, number: u8, instances: u32) -> Election {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new(system.name(), "local");
        (plan.nodes, plan.candidates) = (instances, 2);
        // Patient instances: only what a test does may take a lock away.
        for (name, value) in [("ttl", "2s"), ("timeout", "1s"), ("extensions", "1000000")] {
            plan.options.insert(name.into(), value.into());
        }
        let site = site(system, &plan, number, dir.path());
        let specs = system.deploy(&plan, 7, &site);
        let instances = Processes::start(&specs, |spec| spec.name == "redis");
        let settings: Vec<Settings> = specs
            .iter()
            .filter(|spec| spec.name == "candidate")
            .map(|spec| serde_json::from_str(&spec.argv[3]).unwrap())
            .collect();
        let (address, addresses) = (settings[0].storage, settings[0].instances.clone());
        let storage = Agent::spawn(move |stdio| async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            storage::serve(listener, true, stdio).await;
            Ok(())
        });
        let candidate = |settings| Agent::spawn(move |stdio| run_over(settings, stdio));
        let mut election = Election {
            instances,
            addresses,
            storage,
            candidates: settings.into_iter().map(candidate).collect(),
            _dir: dir,
        };
        let first = election.elected();
        election.candidates.swap(0, first);
        election
    }

    /// Waits until either candidate is elected: which.
    fn elected(&mut self) -> usize {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            for (n, candidate) in self.candidates.iter_mut().enumerate() {
                let elected = |e: &Unasked| matches!(e, Unasked::Elected { .. });
                match candidate.try_event(Duration::from_millis(50), elected) {
                    Some(Unasked::Elected { epoch, token, .. }) => {
                        assert_eq!((epoch, token), (Epoch::NONE, None));
                        return n;
                    }
                    _ => continue,
                }
            }
        }
        panic!("nobody was ever elected");
    }

    /// One command to one instance.
    fn redis(&self, instance: usize, words: &[&str]) -> redis::Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let client = redis::Client::open(format!("redis://{}", self.addresses[instance])).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]).query_async(&mut connection).await.unwrap()
        })
    }
}

fn deposed(candidate: &mut Agent) -> String {
    match candidate.event(|e| matches!(e, Unasked::Deposed { .. })) {
        Unasked::Deposed { reign: Reign(1), why } => why,
        other => panic!("{other:?}"),
    }
}

fn status(candidate: &mut Agent) -> Status {
    match candidate.ask(Op::Observe) {
        Outcome::Ok(Answer::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_holder_leads_without_a_number_and_keeps_the_other_out() {
    let mut election = Election::start(&RedisLockSystem, 6, 1);
    let leader = status(&mut election.candidates[0]);
    assert_eq!(
        (leader.role, leader.epoch, leader.token, leader.reign),
        (Role::Leader, None, None, Some(Reign(1)))
    );
    assert_eq!(status(&mut election.candidates[1]).role, Role::Candidate);
    // Over more than a time to live: the lock is extended.
    let elected = |e: &Unasked| matches!(e, Unasked::Elected { .. } | Unasked::Deposed { .. });
    assert_eq!(election.candidates[1].try_event(Duration::from_secs(4), elected), None);
    let wrote = election.candidates[0].ask(Op::Write { value: 41 });
    let token = Token::NONE;
    assert_eq!(wrote, Outcome::Ok(Answer::Written { token, seq: 1 }));
    election
        .storage
        .event(|e| matches!(e, Unasked::Stored { value: 41, .. }));
    assert_eq!(election.candidates[0].ask(Op::Resign), Outcome::Ok(Answer::Done));
    assert_eq!(deposed(&mut election.candidates[0]), "resigned");
    election.elected();
}

#[test]
fn a_key_that_is_somebody_elses_ends_the_reign_and_is_left_alone() {
    let mut election = Election::start(&RedisLockSystem, 7, 1);
    election.redis(0, &["SET", KEY, "another's", "PX", "60000"]);
    assert_eq!(deposed(&mut election.candidates[0]), "the key is not ours any more");
    assert_eq!(
        election.candidates[0].ask(Op::Write { value: 1 }),
        Outcome::Fail("not-leader".into())
    );
    assert_eq!(
        election.redis(0, &["GET", KEY]),
        redis::Value::BulkString(b"another's".to_vec())
    );
}

#[test]
fn without_its_instance_a_holder_leads_until_its_time_is_over_and_no_longer() {
    let mut election = Election::start(&RedisLockSystem, 8, 1);
    election.instances.kill();
    assert_eq!(deposed(&mut election.candidates[0]), "the validity time is over");
    assert_eq!(status(&mut election.candidates[0]).role, Role::Candidate);
}

#[test]
fn redlock_goes_on_without_a_minority_and_ends_without_a_majority() {
    let mut election = Election::start(&RedlockSystem, 9, 3);
    election.instances.kill_host("s1");
    let over = |e: &Unasked| matches!(e, Unasked::Deposed { .. });
    assert_eq!(election.candidates[0].try_event(Duration::from_secs(5), over), None);
    assert_eq!(status(&mut election.candidates[0]).role, Role::Leader);
    // One of the two that are left is not enough, and its key is let go of.
    election.instances.kill_host("s2");
    assert_eq!(deposed(&mut election.candidates[0]), "the validity time is over");
    let until = Instant::now() + PATIENCE;
    while election.redis(2, &["EXISTS", KEY]) != redis::Value::Int(0) {
        assert!(Instant::now() < until, "what is not held stays locked");
    }
}
