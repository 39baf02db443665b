//! Short runs of the recipes on a real etcd, from its Debian package. Without it these tests fail; they are never skipped.
mod common;
use common::{Bench, elections, faults, verdict};
use serde_json::Value;

/// Runs `system` for 15 s while its leader is cut off, killed and paused.
fn runs(system: &str, storage: &str) -> (Bench, Value) {
    let bench = Bench::new();
    let line = format!(
        "run --system {system} --storage {storage} --faults partition,kill,pause --targets leader --time-limit 15s --every 3s \
         --lasting 2s --ttl 2s --seed 7"
    );
    bench.run(&line).exits(0);
    let history = bench.history(system);
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let verdicts = bench.verdicts(system);
    for checker in ["token-per-reign", "storage-order", "no-damage"] {
        assert_eq!(verdict(&verdicts, checker)["validity"], "valid");
    }
    (bench, verdicts)
}

#[test]
fn the_lock_api_hands_out_one_token_a_reign() {
    runs("etcd-lock", "fenced");
}

#[test]
fn a_key_with_a_lease_hands_out_one_token_a_reign() {
    runs("etcd-lease", "fenced");
}

#[test]
fn etcd_is_a_storage_that_guards_itself() {
    let (_, verdicts) = runs("etcd-election", "guarded");
    assert!(figure(&verdicts, "storage-order", "writes accepted") > 0.0);
}

fn figure(verdicts: &Value, checker: &str, name: &str) -> f64 {
    let figures = verdict(verdicts, checker)["figures"].as_array().unwrap();
    let found = figures.iter().find(|f| f["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {figures:?}"))["value"]
        .as_f64()
        .unwrap()
}

/// A leader's work takes longer than the gap between two writes, so that a pause always finds it between its look and
/// its write, and is longer than its lease.
fn paused(storage: &str) -> Value {
    let bench = Bench::new();
    let line = format!(
        "run --system etcd-lease --storage {storage} --faults pause --targets leader --lasting 5s --every 6s --ttl 2s -o \
         work=300ms --time-limit 15s --rate 50 --seed 7"
    );
    bench.run(&line).exits(0);
    bench.verdicts("etcd-lease")
}

#[test]
fn an_old_leaders_write_does_damage_unless_etcd_guards_it() {
    let verdicts = paused("unfenced");
    assert!(figure(&verdicts, "no-damage", "stale writes accepted") > 0.0);
    let verdicts = paused("guarded");
    assert_eq!(figure(&verdicts, "no-damage", "stale writes accepted"), 0.0);
    assert_eq!(figure(&verdicts, "no-damage", "lost updates"), 0.0);
}
