//! Hosts that are lost in mid-run.
use crate::Case;
use crate::rig::Net;
use crate::world::{Rig, host, link};
use nix::sys::signal::Signal;
use splitbrain_core::{Action, Answer, Happening, Op, Unsynced};
use splitbrain_environments::ground::Ground;
use std::time::{Duration, Instant};

pub const ALL: &[Case] = &[
    ("a_killed_agent_is_a_lost_host", a_killed_agent_is_a_lost_host),
    ("a_silent_agent_is_a_lost_host", a_silent_agent_is_a_lost_host),
    (
        "without_any_host_the_world_is_broken",
        without_any_host_the_world_is_broken,
    ),
];

/// What is so however a host was lost: `why` is in each word about it.
fn others_go_on(net: &Net, rig: &mut Rig, why: &str) {
    let exited = rig.exited(3);
    // The last words may have been under way.
    assert!(
        exited.starts_with(&format!("toy: the host was lost: {why}")),
        "{exited}"
    );
    let lost = format!("host n3 (machine 3) was lost: {why}");
    let both = vec![host(3), host(2)];
    let error = rig
        .act(Action::Kill {
            hosts: both.clone(),
            unsynced: Unsynced::Kept,
        })
        .unwrap_err();
    assert_eq!(error, lost);
    // The other one was killed all the same, and starts anew.
    let error = rig.act(Action::Start { hosts: both }).unwrap_err();
    assert_eq!(error, lost);
    rig.started(2, 2);
    rig.ready(2);
    let error = rig
        .act(Action::Block {
            links: vec![link(1, 2), link(1, 3), link(3, 1)],
        })
        .unwrap_err();
    assert!(
        error.contains(&lost) && error.contains("n3>n1: an end of it was lost"),
        "{error}"
    );
    rig.deaf(2, 1, 4);
    let error = rig
        .act(Action::Unblock {
            links: vec![link(1, 2), link(1, 3), link(3, 1)],
        })
        .unwrap_err();
    assert!(error.contains(&lost), "{error}");
    rig.hears(2, 1);
    assert!(matches!(rig.ask(1, Op::Observe), Answer::Status(_)));
    rig.submit(3, Op::Observe);
    assert!(!net.log("n1-toy").is_empty());
}

fn a_killed_agent_is_a_lost_host() {
    let net = Net::new(4);
    let (fleet, mut rig) = net.world(None);
    rig.done(Action::Block {
        links: vec![link(2, 3)],
    });
    net.machines[2].signal(Signal::SIGKILL);
    others_go_on(&net, &mut rig, "its agent ended without a word");
    assert!(
        !net.left()
            .iter()
            .filter(|what| what.starts_with("n3"))
            .collect::<Vec<_>>()
            .is_empty()
    );
    drop(rig);
    // It was healed by a new agent.
    assert_eq!(net.left(), Vec::<String>::new());
    assert_eq!(fleet.epitaph(), "the fleet has ended");
}

fn a_silent_agent_is_a_lost_host() {
    let net = Net::new(4);
    let (fleet, mut rig) = net.world(None);
    net.machines[2].signal(Signal::SIGSTOP);
    let start = Instant::now();
    // What is under way fails with it.
    let error = rig.act(Action::Pause { hosts: vec![host(3)] }).unwrap_err();
    assert_eq!(error, "host n3 (machine 3) was lost: no word from it for 5s");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    others_go_on(&net, &mut rig, "no word from it for 5s");
    // A new agent can still be started there, and ends what stands still.
    drop(rig);
    assert_eq!(net.left(), Vec::<String>::new());
    assert_eq!(fleet.epitaph(), "the fleet has ended");
}

fn without_any_host_the_world_is_broken() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    for machine in &net.machines {
        machine.signal(Signal::SIGKILL);
    }
    let why = rig.until("the end", |happening| match happening {
        Happening::Broken(why) => Some(why.clone()),
        _ => None,
    });
    assert!(
        why.starts_with("host n1 (machine 1) was lost: its agent ended without a word; host n2"),
        "{why}"
    );
    drop(rig);
    assert_eq!(net.left(), Vec::<String>::new());
}
