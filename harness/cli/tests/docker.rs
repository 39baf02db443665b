//! Whole runs in containers: faults that act, sabotage that is noticed, and nothing left behind.
mod common;
#[path = "common/machines.rs"]
mod machines;

use common::{Bench, Ran, elections, faults, verdict};
use machines::{base_image, eventually, labelled, sh};
use splitbrain_core::event::{Body, Kind};
use splitbrain_core::plan::FaultKind;
use std::collections::BTreeSet;
use std::time::Duration;

/// What of a run is left: containers, networks and image tags.
fn left() -> Vec<String> {
    let mut left = labelled("container", "splitbrain.run");
    left.extend(labelled("network", "splitbrain.run"));
    let images = sh(
        "docker",
        &[
            "image",
            "ls",
            "--filter",
            "label=splitbrain.image",
            "--format",
            "{{.Repository}}:{{.Tag}}",
        ],
    );
    left.extend(
        images
            .lines()
            .filter(|tag| !tag.starts_with("<none>"))
            .map(str::to_string),
    );
    left
}

/// Runs of this file share the engine: one at a time, so that what is left can be told.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ENGINE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ENGINE.lock().unwrap_or_else(|e| e.into_inner())
}

#[test]
fn every_fault_acts_on_containers_and_nothing_is_left() {
    let _alone = alone();
    let bench = Bench::new();
    let script: String = ["partition", "kill", "pause", "packet", "clock", "disk"]
        .iter()
        .enumerate()
        .map(|(n, fault)| {
            let at = 2 * n + 1;
            let more = if *fault == "packet" {
                "packets = { delay = \"40ms\" }\n"
            } else {
                ""
            };
            format!("[[script]]\nat = \"{at}s\"\nlasting = \"1s\"\nfault = \"{fault}\"\ntarget = \"one\"\n{more}")
        })
        .collect();
    let plan = format!("system = \"raft\"\nenvironment = \"docker\"\ntime-limit = \"14s\"\n{script}");
    std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
    bench
        .run(&format!("run plan.toml --base-image {} --seed 5", base_image()))
        .exits(0);
    let history = bench.history("raft");
    assert!(history.is_whole());
    let acted: BTreeSet<FaultKind> = history
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Fault(step) if event.kind == Kind::Ok && !step.proofs.is_empty() => Some(step.kind),
            _ => None,
        })
        .collect();
    assert_eq!(
        acted,
        FaultKind::ALL.into_iter().collect(),
        "each kind acted and was proven"
    );
    assert!(elections(&history) >= 1);
    for host in ["n1-member", "storage-storage"] {
        let log = bench.latest("raft").join(format!("logs/{host}.log"));
        assert!(log.is_file(), "{} was collected", log.display());
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn the_election_recipe_runs_in_containers() {
    let _alone = alone();
    let bench = Bench::new();
    let line = format!(
        "run --system etcd-election --env docker --base-image {} --faults partition,kill,pause --every 3s --lasting 2s \
         --time-limit 15s --seed 7",
        base_image()
    );
    bench.run(&line).exits(0);
    let history = bench.history("etcd-election");
    assert!(faults(&history) >= 1 && elections(&history) >= 1);
    assert_eq!(
        verdict(&bench.verdicts("etcd-election"), "storage-order")["validity"],
        "valid"
    );
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn a_fault_that_does_not_act_is_noticed() {
    let _alone = alone();
    for (sabotage, fault) in [
        ("block", "fault = \"partition\""),
        ("kill", "fault = \"kill\""),
        ("pause", "fault = \"pause\""),
        ("shape", "fault = \"packet\"\npackets = { delay = \"50ms\" }"),
        ("clock", "fault = \"clock\"\nclock = { offset = \"1h\" }"),
        ("disk", "fault = \"disk\"\ndisk = { full = true }"),
    ] {
        let bench = Bench::new();
        let plan = format!(
            "system = \"raft\"\nenvironment = \"docker\"\nnodes = 3\ntime-limit = \"8s\"\n[[script]]\nat = \"1s\"\n\
             lasting = \"1s\"\ntarget = \"one\"\n{fault}\n"
        );
        std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
        let line = format!(
            "run plan.toml --base-image {} --seed 1 --sabotage {sabotage}",
            base_image()
        );
        let ran = bench.run(&line).exits(4);
        assert!(ran.err.contains("failed to inject"), "{sabotage}: {}", ran.err);
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn a_killed_control_leaves_no_container() {
    let _alone = alone();
    let bench = Bench::new();
    let line = format!(
        "run --env docker --base-image {} --nodes 3 --faults partition,pause --every 1s --time-limit 60s --dead-man 3s --seed 2",
        base_image()
    );
    let mut child = bench.command(&line).spawn().unwrap();
    eventually("a fault", Duration::from_secs(120), || {
        let text = std::fs::read_to_string(bench.store().join("raft/latest/history.jsonl")).unwrap_or_default();
        if let Ok(Some(_)) = child.try_wait() {
            return Ok(());
        }
        text.contains("\"f\":\"fault\"")
            .then_some(())
            .ok_or("no fault yet".to_string())
    });
    child.kill().unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(
        ran.code, None,
        "it ended before it was killed: {}\n{}",
        ran.out, ran.err
    );
    eventually("containers", Duration::from_secs(60), || {
        let left = labelled("container", "splitbrain.run");
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
    bench.run("heal").exits(0);
    assert_eq!(left(), Vec::<String>::new());
    bench.run("heal").exits(0);
}

#[test]
fn what_docker_cannot_do_is_said_with_the_remedy() {
    let _alone = alone();
    let bench = Bench::new();
    let ran = bench
        .run("run --env docker --base-image no-such-image:1 --time-limit 5s")
        .exits(4);
    assert!(
        ran.err.contains("no-such-image:1") && ran.err.contains("base-image"),
        "{}",
        ran.err
    );
    let mut command = bench.command("run --env docker --time-limit 5s");
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let ran = Ran::of(command.output().unwrap()).exits(4);
    assert!(ran.err.contains("/nowhere/docker.sock"), "{}", ran.err);
    let line = format!(
        "run --env docker --base-image {} --nodes 1 --faults clock --clock host --every 1s --time-limit 5s --seed 1",
        base_image()
    );
    let ran = bench.run(&line).exits(4);
    assert!(ran.err.contains("clock"), "{}", ran.err);
    let line = format!(
        "run --env docker --system etcd --base-image {} --faults disk --time-limit 5s",
        base_image()
    );
    let ran = bench.run(&line).exits(2);
    assert!(ran.err.contains("disk"), "{}", ran.err);
    assert_eq!(left(), Vec::<String>::new());
}
