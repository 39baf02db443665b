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

/// Needs root, or a /dev/fuse that everybody may open.
#[test]
fn etcd_on_a_disk_that_breaks_keeps_its_promises() {
    let bench = Bench::new();
    let script: String = [
        "disk = { full = true }",
        "disk = { sync-delay = \"150ms\" }",
        "unsynced = \"lost\"",
        "unsynced = \"torn\"",
    ]
    .iter()
    .enumerate()
    .map(|(n, what)| {
        let at = 3 * n + 1;
        format!("[[script]]\nat = \"{at}s\"\nlasting = \"1s\"\nfault = \"disk\"\ntarget = \"host:n1\"\n{what}\n")
    })
    .collect();
    let plan = format!("system = \"etcd\"\nenvironment = \"local\"\ntime-limit = \"14s\"\n{script}");
    std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
    bench.run("run plan.toml --seed 3").exits(0);
    assert_eq!(faults(&bench.history("etcd")), 4);
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
