//! Whole runs in simulation: the sound Raft trips nothing, each mutant is caught, and a seed is a history.
mod common;
use common::{Bench, count, elections, faults, history_bytes, verdict};
use splitbrain_core::event::{Body, Kind};
use std::process::Child;

/// Two runs at a time, as many as the machine has cores; `judge` sees each seed's bench after its end.
fn each_seed(seeds: std::ops::Range<u64>, line: &str, mut judge: impl FnMut(u64, &Bench, i32) -> bool) {
    let start = |seed: u64| -> (u64, Bench, Child) {
        let bench = Bench::new();
        let child = bench
            .command(&format!("{line} --seed {seed} --json"))
            .stdout(std::process::Stdio::null())
            .spawn();
        (seed, bench, child.unwrap())
    };
    let mut running = std::collections::VecDeque::new();
    let mut go_on = true;
    for seed in seeds {
        if !go_on {
            break;
        }
        running.push_back(start(seed));
        if running.len() == 2 {
            let (seed, bench, child) = running.pop_front().unwrap();
            go_on = judge(seed, &bench, child.wait_with_output().unwrap().status.code().unwrap());
        }
    }
    for (seed, bench, child) in running {
        let code = child.wait_with_output().unwrap().status.code().unwrap();
        if go_on {
            go_on = judge(seed, &bench, code);
        }
    }
}

#[test]
fn the_sound_raft_trips_no_checker() {
    let mut runs = 0;
    each_seed(
        0..40,
        "run --env sim --time-limit 60s --faults partition,kill,pause,packet",
        |seed, bench, code| {
            let history = bench.history("raft");
            assert_eq!(code, 0, "seed {seed}: {:#}", bench.verdicts("raft"));
            assert!(
                elections(&history) >= 2 && faults(&history) >= 5,
                "seed {seed} saw too little"
            );
            runs += 1;
            true
        },
    );
    assert_eq!(runs, 40);
}

/// Runs `mutant` until `checker` calls it invalid, within 40 seeds.
fn caught(mutant: &str, line: &str, name: &str, checker: &str) {
    let mut found = None;
    each_seed(0..40, line, |seed, bench, code| {
        let outcome = bench.verdicts(name);
        if verdict(&outcome, checker)["validity"] == "invalid" {
            assert_eq!(code, 1, "a broken promise is exit 1");
            let anomaly = &verdict(&outcome, checker)["anomalies"][0];
            let history = bench.history(name);
            let evidence = anomaly["evidence"].as_array().unwrap();
            assert!(evidence.len() >= 2, "a contradiction needs two events: {anomaly:#}");
            for index in evidence {
                assert!(history.events.len() as u64 > index.as_u64().unwrap());
            }
            found = Some(seed);
        }
        found.is_none()
    });
    let seed = found.unwrap_or_else(|| panic!("{checker} did not catch {mutant} within 40 seeds"));
    println!("{mutant}: caught by {checker} at seed {seed}");
}

#[test]
fn a_vote_lost_at_a_restart_is_caught_as_two_leaders_of_one_epoch() {
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nemesis/plans/forget-vote.toml");
    caught("forget-vote", &format!("run {plan}"), "forget-vote", "leader-per-epoch");
}

#[test]
fn votes_without_the_log_check_are_caught_as_different_applied_entries() {
    caught(
        "ignore-log",
        "run --env sim --time-limit 60s --mutant ignore-log",
        "raft",
        "applied-agreement",
    );
}

#[test]
fn a_leader_that_ignores_higher_terms_is_caught_as_disagreement() {
    caught(
        "stale-leader",
        "run --env sim --time-limit 60s --mutant stale-leader",
        "raft",
        "final-agreement",
    );
}

#[test]
fn a_seed_is_a_history_byte_for_byte() {
    let line = "run --env sim --time-limit 20s --faults partition,kill,pause,packet,clock,disk --seed 7";
    let bytes = |line: &str| {
        let bench = Bench::new();
        bench.run(line).exits(0);
        history_bytes(&bench.latest("raft"))
    };
    let first = bytes(line);
    assert!(
        first == bytes(line),
        "two processes with one seed wrote different histories"
    );
    assert!(
        first != bytes(&line.replace("--seed 7", "--seed 8")),
        "the seed decides nothing"
    );
}

#[test]
fn a_sabotaged_fault_is_an_error_not_silence() {
    for (sabotage, fault) in [
        ("block", "partition"),
        ("kill", "kill"),
        ("pause", "pause"),
        ("shape", "packet"),
        ("clock", "clock"),
        ("disk", "disk"),
    ] {
        let bench = Bench::new();
        let line = format!("run --env sim --time-limit 20s --faults {fault} --seed 7 --sabotage {sabotage}");
        let ran = bench.run(&line).exits(4);
        assert!(ran.err.contains("failed to inject"), "{}", ran.err);
        let failed = count(&bench.history("raft").events, |e| {
            matches!(e.body, Body::Fault(_)) && e.kind == Kind::Fail
        });
        assert!(failed > 0, "the history must say that the fault did not act");
    }
}

#[test]
fn fenced_storage_refuses_what_unfenced_storage_takes() {
    let line = "run --env sim --time-limit 60s --faults partition,pause --targets leader --rate 100 -o check-quorum=false --seed 11";
    let unfenced = Bench::new();
    unfenced.run(&format!("{line} --unfenced"));
    let outcome = unfenced.verdicts("raft");
    let damage = verdict(&outcome, "no-damage");
    assert!(
        damage["total"].as_u64().unwrap() > 0,
        "an old leader's writes must show as damage: {damage:#}"
    );
    let fenced = Bench::new();
    fenced.run(line);
    let history = fenced.history("raft");
    assert!(
        count(&history.events, |e| matches!(e.body, Body::Rejected { .. })) > 0,
        "fencing must refuse some"
    );
    assert_eq!(verdict(&fenced.verdicts("raft"), "no-damage")["total"], 0);
}
