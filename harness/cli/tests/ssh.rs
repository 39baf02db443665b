//! Whole runs over SSH, on containers that run sshd: faults, kills of control, hosts that die, and bad input.
mod common;
#[path = "common/machines.rs"]
mod machines;

use common::{Bench, Ran, elections, faults};
use machines::{SshHosts, eventually, sh};
use splitbrain_core::event::{Body, Kind};
use splitbrain_core::plan::FaultKind;
use std::collections::BTreeSet;
use std::process::Child;
use std::time::Duration;

/// A run in mid-fault.
fn start_until_fault(bench: &Bench, line: &str) -> Child {
    let mut child = bench.command(line).spawn().unwrap();
    eventually("a fault", Duration::from_secs(120), || {
        let text = std::fs::read_to_string(bench.store().join("raft/latest/history.jsonl")).unwrap_or_default();
        if let Ok(Some(_)) = child.try_wait() {
            return Ok(());
        }
        let acted = text
            .lines()
            .any(|line| line.contains("\"type\":\"ok\",\"f\":\"fault\""));
        acted.then_some(()).ok_or("no fault yet".to_string())
    });
    child
}

#[test]
fn every_fault_acts_over_ssh_and_nothing_is_left() {
    let hosts = SshHosts::start(4);
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
    let plan = format!("system = \"raft\"\nenvironment = \"ssh\"\nnodes = 3\ntime-limit = \"14s\"\n{script}");
    std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
    bench
        .run(&format!("run plan.toml {} --seed 5", hosts.flags(4)))
        .exits(0);
    let history = bench.history("raft");
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
    assert!(bench.latest("raft").join("logs/n1-member.log").is_file());
    hosts.are_clean_within(Duration::from_secs(5));
}

#[test]
fn the_election_recipe_runs_over_ssh() {
    let hosts = SshHosts::start(5);
    let bench = Bench::new();
    let line = format!(
        "run --system etcd-election --nodes 2 --candidates 2 {} --faults partition,kill,pause --every 3s --lasting 2s \
         --time-limit 12s --seed 7",
        hosts.flags(5)
    );
    bench.run(&line).exits(0);
    let history = bench.history("etcd-election");
    assert!(faults(&history) >= 1 && elections(&history) >= 1);
    hosts.are_clean_within(Duration::from_secs(5));
}

#[test]
fn a_fault_that_does_not_act_is_noticed() {
    let hosts = SshHosts::start(3);
    for (sabotage, fault) in [
        ("block", "fault = \"partition\""),
        ("shape", "fault = \"packet\"\npackets = { delay = \"50ms\" }"),
        ("clock", "fault = \"clock\"\nclock = { offset = \"1h\" }"),
        ("pause", "fault = \"pause\""),
        ("kill", "fault = \"kill\""),
        ("disk", "fault = \"disk\"\ndisk = { full = true }"),
    ] {
        let bench = Bench::new();
        let plan = format!(
            "system = \"raft\"\nenvironment = \"ssh\"\nnodes = 2\ntime-limit = \"8s\"\n[[script]]\nat = \"1s\"\n\
             lasting = \"1s\"\ntarget = \"one\"\n{fault}\n"
        );
        std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
        let ran = bench
            .run(&format!(
                "run plan.toml {} --seed 1 --sabotage {sabotage}",
                hosts.flags(3)
            ))
            .exits(4);
        assert!(ran.err.contains("failed to inject"), "{sabotage}: {}", ran.err);
        hosts.are_clean_within(Duration::from_secs(5));
    }
}

#[test]
fn hosts_heal_themselves_when_control_is_killed() {
    let hosts = SshHosts::start(4);
    for (n, faults) in ["partition", "pause", "packet,clock"].iter().enumerate() {
        let bench = Bench::new();
        let line = format!(
            "run {} --nodes 3 --faults {faults} --every 1s --lasting 30s --time-limit 60s --dead-man 8s --seed {n}",
            hosts.flags(4)
        );
        let mut child = start_until_fault(&bench, &line);
        child.kill().unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!(
            ran.code, None,
            "it ended before it was killed: {}\n{}",
            ran.out, ran.err
        );
        hosts.are_clean_within(Duration::from_secs(30));
    }
}

#[test]
fn a_host_that_dies_for_good_is_named_and_the_others_are_healed() {
    let hosts = SshHosts::start(4);
    let bench = Bench::new();
    let line = format!(
        "run {} --nodes 3 --faults partition --every 1s --time-limit 60s --seed 4",
        hosts.flags(4)
    );
    let child = start_until_fault(&bench, &line);
    sh("docker", &["kill", &hosts.names[1]]);
    let ran = Ran::of(child.wait_with_output().unwrap()).exits(4);
    assert!(ran.err.contains("n1") && ran.err.contains("lost"), "{}", ran.err);
    assert!(bench.latest("raft").join("report.html").is_file());
    for name in hosts.names.iter().filter(|name| **name != hosts.names[1]) {
        assert_eq!(hosts.ours_on(name), Vec::<String>::new());
    }
}

#[test]
fn bad_input_names_the_host_and_the_remedy() {
    let hosts = SshHosts::start(3);
    let bench = Bench::new();
    let base = |list: &str| {
        format!(
            "run --env ssh --nodes 2 --time-limit 5s --faults none --hosts {list} --identity {} --known-hosts {}",
            hosts.identity().display(),
            hosts.known_hosts().display()
        )
    };
    let check = |line: &str, words: &[&str]| {
        let ran = bench.run(line).exits(4);
        for word in words {
            assert!(ran.err.contains(word), "{line}\nlacks {word:?}: {}", ran.err);
        }
    };
    let good = hosts.list("root", 3);
    // A port where nobody listens.
    check(
        &base(&good.replace(&hosts.ports[1].to_string(), "1")),
        &["127.0.0.1:1", "nothing listens"],
    );
    check(&base(&hosts.list("root", 2)), &["3 hosts", "--nodes"]);
    // A key that nobody let in.
    let wrong = bench.dir.path().join("wrong");
    sh(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", wrong.to_str().unwrap()],
    );
    let line = base(&good).replace(hosts.identity().to_str().unwrap(), wrong.to_str().unwrap());
    check(&line, &["root@127.0.0.1", "wrong"]);
    // Nobody's host key is known.
    let empty = bench.dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let line = base(&good).replace(hosts.known_hosts().to_str().unwrap(), empty.to_str().unwrap());
    check(&line, &["SHA256:", "--accept-new-host-keys"]);
    bench.run(&format!("{line} --accept-new-host-keys --seed 1")).exits(0);
    // A user without sudo.
    check(&base(&hosts.list("alice", 3)), &["alice", "sudo"]);
    // No clock of its own.
    let line = base(&good).replace("--faults none", "--faults clock --clock host --every 1s --seed 1");
    check(&line, &["127.0.0.1", "shares its clock", "process"]);
    // No iptables.
    hosts.exec(&hosts.names[0], "mv /usr/sbin/iptables /usr/sbin/iptables.away");
    let line = base(&good).replace("--faults none", "--faults partition --every 1s --seed 1");
    check(&line, &["iptables", "apt-get install iptables"]);
    hosts.exec(&hosts.names[0], "mv /usr/sbin/iptables.away /usr/sbin/iptables");
    hosts.are_clean_within(Duration::from_secs(5));
}

#[test]
fn a_dirty_host_stops_the_next_run_until_it_is_healed() {
    let hosts = SshHosts::start(3);
    let bench = Bench::new();
    let line = format!(
        "run {} --nodes 2 --faults none --time-limit 3s --seed 1",
        hosts.flags(3)
    );
    hosts.exec(
        &hosts.names[2],
        "iptables -N SPLITBRAIN-IN && iptables -I INPUT -j SPLITBRAIN-IN && iptables -A INPUT -s 192.0.2.1 -j ACCEPT",
    );
    let ran = bench.run(&line).exits(4);
    assert!(
        ran.err.contains("SPLITBRAIN-IN") && ran.err.contains("splitbrain heal"),
        "{}",
        ran.err
    );
    let flags = hosts.flags(3);
    bench.run(&format!("heal {flags}")).exits(0);
    hosts.are_clean_within(Duration::from_secs(1));
    let rules = hosts.exec(&hosts.names[2], "iptables-save");
    assert!(rules.contains("192.0.2.1"), "what is not ours stays: {rules}");
    bench.run(&line).exits(0);
}
