//! Short runs on a real ZooKeeper, from its Debian package. Without it these tests fail; they are never skipped.
mod common;
use common::{Bench, elections, faults, verdict};
use splitbrain_core::event::{Body, Kind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Three JVMs at a time are enough.
fn alone() -> MutexGuard<'static, ()> {
    static ENSEMBLE: Mutex<()> = Mutex::new(());
    ENSEMBLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run in which leaders are struck; the promise that is looked at held.
fn check(system: &str, more: &str, guarantee: &str) -> Bench {
    let _alone = alone();
    let bench = Bench::new();
    let line =
        format!("run --system {system} --time-limit 15s --every 3s --lasting 2s --targets leader --seed 7 {more}");
    bench.run(&line).exits(0);
    let history = bench.history(system);
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    assert_eq!(verdict(&bench.verdicts(system), guarantee)["validity"], "valid");
    bench
}

#[test]
fn zab_keeps_one_leader_per_epoch_and_a_register() {
    let bench = check("zookeeper", "--workload register", "leader-per-epoch");
    let done = |f: &str| {
        let history = bench.history("zookeeper");
        let of = |body: &Body| match body {
            Body::Get { .. } => f == "get",
            Body::Set { .. } => f == "set",
            Body::Cas { .. } => f == "cas",
            _ => false,
        };
        common::count(&history.events, |e| e.kind == Kind::Ok && of(&e.body))
    };
    for f in ["get", "set", "cas"] {
        assert!(done(f) > 0, "no {f} was done");
    }
}

#[test]
fn the_queue_of_sequential_nodes_hands_out_one_token_a_reign() {
    check("zk-sequential", "", "token-per-reign");
}

#[test]
fn the_race_for_one_node_hands_out_one_token_a_reign_to_who_stays_too() {
    check("zk-ephemeral", "-o on-disconnect=stay", "token-per-reign");
}
