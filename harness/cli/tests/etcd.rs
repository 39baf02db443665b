//! Short runs on a real etcd, from its Debian package. Without it these tests fail; they are never skipped.
mod common;
use common::{Bench, elections, faults, verdict};

#[test]
fn etcds_own_raft_keeps_one_leader_per_term() {
    let bench = Bench::new();
    bench
        .run("run --system etcd --time-limit 15s --every 3s --lasting 2s --targets leader --seed 7")
        .exits(0);
    let history = bench.history("etcd");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    assert_eq!(
        verdict(&bench.verdicts("etcd"), "leader-per-epoch")["validity"],
        "valid"
    );
}

#[test]
fn the_election_recipe_hands_out_one_token_a_reign() {
    let bench = Bench::new();
    let line = "run --system etcd-election --time-limit 15s --every 3s --lasting 2s --targets leader --ttl 2s --seed 7";
    bench.run(line).exits(0);
    let history = bench.history("etcd-election");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    assert_eq!(
        verdict(&bench.verdicts("etcd-election"), "token-per-reign")["validity"],
        "valid"
    );
}
