//! Short runs on a real redis, from its Debian package. Without it these tests fail; they are never skipped.
mod common;
use common::{Bench, elections, faults, verdict};

const SHORT: &str = "--time-limit 15s --faults partition,kill,pause --every 3s --lasting 2s --targets leader --seed 7";

#[test]
fn the_lock_on_one_redis_has_one_holder_after_the_other() {
    let bench = Bench::new();
    bench.run(&format!("run --system redis-lock --ttl 1s {SHORT}")).exits(0);
    let history = bench.history("redis-lock");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let verdicts = bench.verdicts("redis-lock");
    assert_eq!(verdict(&verdicts, "final-agreement")["validity"], "valid");
}

#[test]
fn redlock_keeps_out_everybody_else_over_partitions() {
    let bench = Bench::new();
    let line = "run --system redlock --ttl 1s --time-limit 15s --faults partition --every 3s --lasting 2s --targets leader --seed 7";
    bench.run(line).exits(0);
    let history = bench.history("redlock");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let verdicts = bench.verdicts("redlock");
    assert_eq!(verdict(&verdicts, "exclusion")["validity"], "valid");
}

#[test]
fn each_failover_of_sentinel_has_an_epoch_of_its_own() {
    let bench = Bench::new();
    bench.run(&format!("run --system redis-sentinel {SHORT}")).exits(0);
    let history = bench.history("redis-sentinel");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let verdicts = bench.verdicts("redis-sentinel");
    assert_eq!(verdict(&verdicts, "leader-per-epoch")["validity"], "valid");
}
