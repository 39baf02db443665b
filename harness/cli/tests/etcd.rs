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
fn a_server_that_talks_garbage_and_dies_ends_the_run_and_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let fake = bench.dir.path().join("etcd");
    std::fs::write(&fake, "#!/bin/sh\necho garbage; echo no disk for you >&2; exit 3\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = bench
        .run(&format!(
            "run --system etcd --time-limit 10s --seed 7 --etcd-bin {}",
            fake.display()
        ))
        .exits(4);
    assert!(
        ran.err.contains("ended by itself") && ran.err.contains("etcd") && ran.err.contains('3'),
        "{}",
        ran.err
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
