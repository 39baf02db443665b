//! Whole runs of the workloads beside leadership: in simulation over some seeds, and on a real etcd from its Debian package.
mod common;
use common::{Bench, count, elections, faults, verdict};
use splitbrain_core::event::{Body, Kind};
use splitbrain_core::{Event, History};

const HOSTILE: &str = "--time-limit 60s --faults partition,kill,pause,packet";

/// Operations of `f` that ended with `ok`.
fn answered(history: &History, f: impl Fn(&Body) -> bool) -> usize {
    count(&history.events, |e: &Event| e.kind == Kind::Ok && f(&e.body))
}

/// A sound Raft under `workload`, over a few seeds; `judged` are the workload's checkers.
fn sound(workload: &str, judged: &[&str], f: impl Fn(&Body) -> bool) {
    for seed in 0..8 {
        let bench = Bench::new();
        let ran = bench.run(&format!("run --env sim --workload {workload} {HOSTILE} --seed {seed}"));
        assert_eq!(ran.code, Some(0), "seed {seed}: {:#}", bench.verdicts("raft"));
        assert!(answered(&bench.history("raft"), &f) > 300, "seed {seed} saw too little");
        let outcome = bench.verdicts("raft");
        for checker in judged {
            assert_eq!(verdict(&outcome, checker)["validity"], "valid", "seed {seed}");
        }
        assert!(ran.out.contains(&format!("--workload {workload}")), "{}", ran.out);
    }
}

#[test]
fn a_sound_raft_hands_out_ids() {
    sound("sequence", &["unique-ids", "rising-ids", "no-damage"], |body| {
        matches!(body, Body::Next { id: Some(_), .. })
    });
}

#[test]
fn a_sound_raft_runs_jobs_once() {
    sound("jobs", &["exactly-once", "no-damage"], |body| {
        matches!(body, Body::Run { .. })
    });
}

#[test]
fn a_sound_raft_is_one_register() {
    sound("register", &["linearizable"], |body| matches!(body, Body::Get { .. }));
}

#[test]
fn members_have_no_lock() {
    let ran = Bench::new().run("run --env sim --workload lock").exits(2);
    assert!(
        ran.err.contains("raft cannot be asked the workload lock"),
        "{}",
        ran.err
    );
}

/// The first of 40 seeds at which `checker` finds something under `line`.
fn found(line: &str, checker: &str) -> (u64, serde_json::Value) {
    let found = (0..40).find_map(|seed| {
        let bench = Bench::new();
        bench.run(&format!("run --env sim --time-limit 60s {line} --seed {seed}"));
        let found = verdict(&bench.verdicts("raft"), checker).clone();
        (found["total"].as_u64() > Some(0)).then_some((seed, found))
    });
    let found = found.unwrap_or_else(|| panic!("{checker} found nothing under {line} within 40 seeds"));
    println!(
        "{line}: {checker} at seed {}: {}",
        found.0, found.1["anomalies"][0]["title"]
    );
    found
}

#[test]
fn a_broken_raft_is_no_register() {
    for mutant in ["ignore-log", "stale-leader"] {
        let (_, verdict) = found(&format!("--workload register --mutant {mutant}"), "linearizable");
        assert_eq!(verdict["validity"], "invalid");
        assert!(
            verdict["anomalies"][0]["evidence"].as_array().unwrap().len() >= 4,
            "{verdict:#}"
        );
    }
}

/// What fencing is for: without it an old leader hands an id out again, and runs a job again. Neither was promised.
#[test]
fn without_fencing_ids_and_jobs_come_twice() {
    let old_leaders = "--unfenced --rate 100 --targets leader --faults partition,pause -o check-quorum=false";
    for (workload, checker) in [("sequence", "unique-ids"), ("jobs", "exactly-once")] {
        let (seed, verdict) = found(&format!("--workload {workload} {old_leaders}"), checker);
        assert_eq!(verdict["validity"], "valid", "it is a hazard");
        assert_eq!(verdict["anomalies"][0]["severity"], "hazard");
        let bench = Bench::new();
        let fenced = old_leaders.replace("--unfenced ", "");
        bench
            .run(&format!(
                "run --env sim --time-limit 60s --workload {workload} {fenced} --seed {seed}"
            ))
            .exits(0);
    }
}

/// A real etcd for 15 s; the history.
fn etcd(system: &str, workload: &str, judged: &[&str]) -> History {
    let bench = Bench::new();
    let line = format!("run --system {system} --workload {workload} --time-limit 15s --every 3s --lasting 2s --seed 7");
    bench.run(&line).exits(0);
    let history = bench.history(system);
    assert!(faults(&history) >= 2 && elections(&history) >= 1);
    let outcome = bench.verdicts(system);
    for checker in judged {
        assert_eq!(verdict(&outcome, checker)["validity"], "valid");
    }
    history
}

#[test]
fn the_election_recipe_hands_out_ids() {
    let history = etcd("etcd-election", "sequence", &["unique-ids", "rising-ids"]);
    assert!(answered(&history, |body| matches!(body, Body::Next { id: Some(_), .. })) > 20);
}

#[test]
fn the_election_recipe_runs_jobs_once() {
    let history = etcd("etcd-election", "jobs", &["exactly-once"]);
    assert!(answered(&history, |body| matches!(body, Body::Run { .. })) > 20);
}

#[test]
fn the_election_recipe_is_a_lock() {
    let history = etcd("etcd-election", "lock", &["lock", "no-damage"]);
    assert!(elections(&history) >= 3, "it changes hands without faults");
    assert!(answered(&history, |body| matches!(body, Body::Release { .. })) >= 2);
}

#[test]
fn etcd_is_one_register() {
    let history = etcd("etcd", "register", &["linearizable"]);
    assert!(answered(&history, |body| matches!(body, Body::Get { .. })) > 100);
}
