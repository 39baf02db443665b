//! Control, the agent or its guard dies; nothing may be left.
use crate::Case;
use crate::rig::{Agent, Pids, Place, gone, hello, pidfd, runs, signal, wait_end};
use crate::work::{FAMILY, ORPHAN};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use splitbrain_core::Nanos;
use splitbrain_environments::agent::proto::{Hello, Order, ToHost};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("the_end_of_control_heals", the_end_of_control_heals),
    (
        "a_log_that_nobody_reads_keeps_nobody_from_healing",
        a_log_that_nobody_reads_keeps_nobody_from_healing,
    ),
    ("silence_heals", silence_heals),
    (
        "an_agent_that_stands_still_is_no_excuse",
        an_agent_that_stands_still_is_no_excuse,
    ),
    ("beats_keep_a_host", beats_keep_a_host),
    (
        "the_guard_heals_when_the_agent_is_killed",
        the_guard_heals_when_the_agent_is_killed,
    ),
    (
        "the_agent_heals_when_the_guard_is_killed",
        the_agent_heals_when_the_guard_is_killed,
    ),
    ("signals_end_it_healed", signals_end_it_healed),
    (
        "a_dirty_host_is_refused_until_it_is_healed",
        a_dirty_host_is_refused_until_it_is_healed,
    ),
    ("marks_alone_do", marks_alone_do),
    (
        "a_ledger_of_another_boot_names_no_process",
        a_ledger_of_another_boot_names_no_process,
    ),
    (
        "a_ledger_that_is_not_understood_is_told",
        a_ledger_that_is_not_understood_is_told,
    ),
    ("a_host_in_use_is_refused", a_host_in_use_is_refused),
    (
        "who_stands_still_for_good_is_ended_by_heal",
        who_stands_still_for_good_is_ended_by_heal,
    ),
    ("strangers_stay", strangers_stay),
    ("rules_are_healed_and_others_stay", rules_are_healed_and_others_stay),
];

/// Does something to an agent with processes, and expects all of them to end and nothing to be left.
fn check(what: &str, mut agent: Agent, place: &Place, harm: impl FnOnce(&mut Agent)) {
    let family = agent.script(place, ORPHAN, 3);
    agent.done(Order::Pause);
    harm(&mut agent);
    gone(&family);
    let Pids { guard, agent: other } = agent.pids;
    for pid in [guard, other] {
        if let Some(fd) = pidfd(pid) {
            wait_end(&fd);
        }
    }
    assert_eq!(place.left(), Vec::<String>::new(), "{what}: {}", place.log());
    assert!(!place.state().join("hosts").exists(), "{what}");
    // The next run finds a clean host.
    drop(Agent::new(place));
}

fn the_end_of_control_heals() {
    let place = Place::new();
    check("end of stream", Agent::new(&place), &place, Agent::hang_up);
    assert!(
        place.log().contains("control is gone without having healed"),
        "{}",
        place.log()
    );
}

/// As over SSH: what carries standard error dies with what carries the frames.
fn a_log_that_nobody_reads_keeps_nobody_from_healing() {
    let place = Place::new();
    let (log, writer) = std::io::pipe().unwrap();
    let mut command = place.command("serve");
    command.stderr(writer);
    let (agent, _) = Agent::by(command).greeted_as(&hello());
    drop(log);
    check("no log", agent, &place, Agent::hang_up);
}

fn dead_man(place: &Place, limit: Nanos) -> Agent {
    let hello = Hello {
        dead_man: limit,
        ..hello()
    };
    Agent::greeted(place, &hello).0
}

fn silence_heals() {
    let place = Place::new();
    let start = Instant::now();
    check("silence", dead_man(&place, Nanos::secs(1)), &place, |_| {});
    assert!(start.elapsed().as_secs_f64() >= 1.0, "too early");
    assert!(place.log().contains("no word from control for 1s"), "{}", place.log());
}

fn an_agent_that_stands_still_is_no_excuse() {
    let place = Place::new();
    check("stopped agent", dead_man(&place, Nanos::secs(1)), &place, |agent| {
        signal(agent.pids.agent, Signal::SIGSTOP)
    });
}

fn beats_keep_a_host() {
    let place = Place::new();
    let mut agent = dead_man(&place, Nanos::secs(1));
    let (pid, _) = agent.start(&place, &["sleep", "1000"]);
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 2.0 {
        agent.rounds(1);
    }
    assert!(runs(pid));
    agent.done(Order::Heal);
}

fn the_guard_heals_when_the_agent_is_killed() {
    let place = Place::new();
    check("agent killed", Agent::new(&place), &place, |agent| {
        signal(agent.pids.agent, Signal::SIGKILL)
    });
    assert!(
        place.log().contains("the agent has ended with status 137"),
        "{}",
        place.log()
    );
}

fn the_agent_heals_when_the_guard_is_killed() {
    let place = Place::new();
    check("guard killed", Agent::new(&place), &place, |agent| {
        signal(agent.pids.guard, Signal::SIGKILL)
    });
    assert!(place.log().contains("its guard has ended"), "{}", place.log());
}

fn signals_end_it_healed() {
    for which in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new();
        check(which.as_str(), Agent::new(&place), &place, |agent| {
            // The agent itself does not heed them.
            signal(agent.pids.agent, which);
            agent.rounds(2);
            signal(agent.pids.guard, which);
        });
    }
}

/// An agent and its guard, killed at once.
fn crash(agent: &mut Agent) {
    let Pids { guard, agent: other } = agent.pids;
    // Stopped first, so that neither sees the other's end.
    for pid in [guard, other] {
        signal(pid, Signal::SIGSTOP);
    }
    for pid in [guard, other] {
        signal(pid, Signal::SIGKILL);
    }
    agent.ended();
}

fn a_dirty_host_is_refused_until_it_is_healed() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let family = agent.script(&place, FAMILY, 3);
    crash(&mut agent);
    assert!(family.iter().all(|pid| runs(*pid)), "{family:?}");
    let why = Agent::refused(&place, &hello());
    assert!(
        why.contains("splitbrain heal") && why.contains(&format!("process {} (sh)", family[0])),
        "{why}"
    );
    let (fine, said) = place.ask("check");
    assert!(!fine && said["in_use_by"].is_null(), "{said}");
    assert_eq!(
        said["left"].as_array().unwrap().len(),
        4,
        "three processes and files: {said}"
    );
    assert!(family.iter().all(|pid| runs(*pid)), "a look ends nobody");
    let (fine, said) = place.ask("heal");
    assert!(fine && said["left"].as_array().unwrap().is_empty(), "{said}");
    assert_eq!(said["removed"].as_array().unwrap().len(), 4, "{said}");
    assert!(!family.iter().any(|pid| runs(*pid)), "{family:?}");
    let nothing = serde_json::json!({"removed": [], "left": []});
    assert_eq!(place.ask("heal"), (true, nothing));
    drop(Agent::new(&place));
}

fn marks_alone_do() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let family = agent.script(&place, FAMILY, 3);
    crash(&mut agent);
    fs::remove_file(place.state().join("ledger.jsonl")).unwrap();
    let (fine, said) = place.ask("heal");
    assert!(fine && !family.iter().any(|pid| runs(*pid)), "{said}");
}

fn a_ledger_of_another_boot_names_no_process() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    // It carries no mark, so that only the ledger knows it.
    let (pid, _) = agent.start(&place, &["sh", "-c", "exec env -i sleep 1000"]);
    let bare = || fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty();
    while !bare() {
        agent.rounds(1);
    }
    crash(&mut agent);
    assert!(
        place.left().iter().any(|left| left.contains(&pid.to_string())),
        "{:?}",
        place.left()
    );
    let ledger = place.state().join("ledger.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&ledger, text.replace(boot.trim(), "another")).unwrap();
    assert!(
        !place.left().iter().any(|left| left.contains("process")),
        "{:?}",
        place.left()
    );
    assert!(place.ask("heal").0);
    assert!(runs(pid));
    fs::write(&ledger, text).unwrap();
    assert!(place.ask("heal").0);
    gone(&[pid]);
}

fn a_ledger_that_is_not_understood_is_told() {
    let place = Place::new();
    drop(Agent::new(&place));
    fs::write(place.state().join("ledger.jsonl"), "nonsense\n").unwrap();
    let why = Agent::refused(&place, &hello());
    assert!(why.contains("line 1 of") && why.contains("not understood"), "{why}");
    assert!(!place.ask("heal").0);
}

fn a_host_in_use_is_refused() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (pid, _) = agent.start(&place, &["sleep", "1000"]);
    let other = Hello {
        run: "other".into(),
        ..hello()
    };
    let why = Agent::refused(&place, &other);
    let want = format!("in use by run test (agent pid {})", agent.pids.agent);
    assert!(why.contains(&want), "{why}");
    let (fine, said) = place.ask("check");
    assert!(
        !fine && said["in_use_by"].as_str().unwrap().contains("run test"),
        "{said}"
    );
    let (fine, said) = place.ask("heal");
    assert!(
        !fine && said["left"][0].as_str().unwrap().contains("end that run first"),
        "{said}"
    );
    assert!(runs(pid), "a run that goes on is not healed away");
    agent.rounds(1);
    agent.done(Order::Heal);
}

fn who_stands_still_for_good_is_ended_by_heal() {
    let place = Place::new();
    check("both stopped", Agent::new(&place), &place, |agent| {
        signal(agent.pids.guard, Signal::SIGSTOP);
        signal(agent.pids.agent, Signal::SIGSTOP);
        let (fine, said) = place.ask("heal");
        assert!(fine, "{said}");
    });
}

fn strangers_stay() {
    let (place, other) = (Place::new(), Place::new());
    // A host of its own, but for the process table.
    let mut command = other.command("serve");
    // SAFETY: one system call.
    unsafe { command.pre_exec(|| unshare(CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)) };
    let mut neighbour = Agent::by(command);
    neighbour.greet(&hello());
    let (neighbours, _) = neighbour.start(&other, &["sleep", "1000"]);
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut agent = Agent::new(&place);
    let (own, _) = agent.start(&place, &["sleep", "1000"]);
    agent.say(&ToHost::Beat { n: 1 });
    crash(&mut agent);
    assert!(place.ask("heal").0);
    assert!(!runs(own) && runs(neighbours) && runs(stranger.id().cast_signed()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    neighbour.done(Order::Heal);
}

fn rules() -> Vec<String> {
    let output = Command::new("iptables-save").output().expect("iptables is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.starts_with("-A"))
        .map(str::to_string)
        .collect()
}

fn rules_are_healed_and_others_stay() {
    let foreign = ["-A", "INPUT", "-s", "10.1.2.3/32", "-j", "DROP"];
    assert!(Command::new("iptables").args(foreign).status().unwrap().success());
    let before = rules();
    assert_eq!(before, [foreign.join(" ")]);
    let peers = BTreeMap::from([("n2".parse().unwrap(), vec!["10.9.8.8".parse().unwrap()])]);
    let blocked = |place: &Place| {
        let mut agent = Agent::new(place);
        agent.order(Order::Peers(peers.clone())).unwrap();
        agent.order(Order::Block(vec!["n2".parse().unwrap()])).unwrap();
        let all = rules();
        assert!(
            all.iter()
                .any(|rule| rule.contains("10.9.8.8") && rule.contains("DROP")),
            "{all:?}"
        );
        agent
    };
    let place = Place::new();
    let mut agent = blocked(&place);
    let saw = agent.order(Order::Heal).unwrap();
    assert!(
        saw.proofs.iter().any(|proof| proof.saw.contains("SPLITBRAIN-IN")),
        "{saw:?}"
    );
    assert_eq!(rules(), before);
    agent.hang_up();
    assert!(agent.ended());
    let mut agent = blocked(&place);
    agent.hang_up();
    assert!(agent.ended());
    assert_eq!(rules(), before);
    let mut agent = blocked(&place);
    crash(&mut agent);
    let why = Agent::refused(&place, &hello());
    assert!(
        why.contains("SPLITBRAIN-IN") && why.contains("splitbrain heal"),
        "{why}"
    );
    assert_ne!(rules(), before);
    // The marks alone do it.
    fs::remove_file(place.state().join("ledger.jsonl")).unwrap();
    assert!(place.ask("heal").0);
    assert_eq!(rules(), before);
    assert!(
        Command::new("iptables")
            .args(["-F", "INPUT"])
            .status()
            .unwrap()
            .success()
    );
}
