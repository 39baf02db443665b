//! Short runs on a real clustered OVSDB, from its Debian package. Without it these tests fail; they are never skipped.
mod common;
use common::{Bench, elections, faults, verdict};

#[test]
fn ovsdbs_own_raft_keeps_one_leader_per_term() {
    let bench = Bench::new();
    bench
        .run("run --system ovsdb --time-limit 15s --every 3s --lasting 2s --targets leader --seed 7")
        .exits(0);
    let history = bench.history("ovsdb");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let verdicts = bench.verdicts("ovsdb");
    for checker in ["leader-per-epoch", "epochs-per-observer", "final-agreement"] {
        assert_eq!(verdict(&verdicts, checker)["validity"], "valid", "{checker}");
    }
}

#[test]
fn a_tool_that_makes_no_database_ends_the_run_and_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let fake = bench.dir.path().join("ovsdb-tool");
    std::fs::write(&fake, "#!/bin/sh\necho no disk for you >&2; exit 3\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!(
        "run --system ovsdb --time-limit 10s --seed 7 -o ovsdb-tool-bin={}",
        fake.display()
    );
    let ran = bench.run(&line).exits(4);
    assert!(
        ran.err.contains("ended by itself") && ran.err.contains("no disk for you"),
        "{}",
        ran.err
    );
}
