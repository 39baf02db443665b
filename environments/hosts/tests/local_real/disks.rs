//! Disk faults of processes that have a layer, and of such that have none.
use crate::Case;
use crate::rig::{Rig, config, host, own_program, toys};
use splitbrain_core::system::Stdio;
use splitbrain_core::{Action, Disk, Happening, Name, Nanos, ProcessSpec, Unsynced, World};
use splitbrain_environments::Sabotage;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalConfig, LocalSite};
use std::sync::Arc;

pub const ALL: &[Case] = &[
    ("disks_break_through_their_layers", disks_break_through_their_layers),
    ("who_has_no_layer_is_refused", who_has_no_layer_is_refused),
    (
        "disks_that_do_not_break_are_noticed",
        disks_that_do_not_break_are_noticed,
    ),
];

/// Three hosts with a layer each.
fn layers(sabotage: Option<Sabotage>) -> Rig {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = LocalConfig {
        layered_disks: false,
        sabotage,
        ..config(dir.path(), 3)
    };
    let site = LocalSite::create(config).expect("make the hosts");
    let layer = |n| ProcessSpec {
        host: host(n),
        name: "toy".into(),
        argv: vec![own_program(), "toy-layer".into(), "honest".into()],
        env: Vec::new(),
        stdio: Stdio::Protocol,
    };
    let world = LiveWorld::start(Arc::new(site), (1..=3).map(layer).collect()).expect("start the layers");
    Rig::of(world, dir)
}

fn full(hosts: &[Name]) -> Action {
    let disk = Disk {
        full: true,
        ..Disk::default()
    };
    Action::Disk {
        hosts: hosts.to_vec(),
        disk,
    }
}

fn cut(hosts: &[Name]) -> Action {
    Action::Kill {
        hosts: hosts.to_vec(),
        unsynced: Unsynced::Lost,
    }
}

fn disks_break_through_their_layers() {
    let mut rig = layers(None);
    let both = [host(1), host(2)];
    let proofs = rig.done(full(&both));
    let seen: Vec<_> = proofs
        .iter()
        .map(|proof| (proof.at.as_str(), proof.saw.as_str()))
        .collect();
    assert_eq!(seen, [("n1", "toy: full, Kept"), ("n2", "toy: full, Kept")]);
    let proofs = rig.done(cut(&both));
    for (proof, host) in proofs.iter().zip(both) {
        assert_eq!(proof.at, host.to_string());
        assert!(proof.saw.starts_with("toy: full, Lost, toy (pid "), "{proof:?}");
        assert!(proof.saw.ends_with("ended by signal 9 (SIGKILL)"), "{proof:?}");
    }
    rig.done(Action::Start { hosts: both.to_vec() });
    for n in [1, 2] {
        rig.started(n, 2);
        rig.ready(n);
    }
    let proofs = rig.done(full(&both));
    assert_eq!(proofs.len(), 2, "the next life obeys the next order: {proofs:?}");
    let until = rig.world.now() + Nanos::millis(50);
    while let Some((_, happening)) = rig.world.poll(until) {
        rig.seen.push(happening);
    }
    let exits = rig.seen.iter().filter(|seen| matches!(seen, Happening::Exited { .. }));
    assert_eq!(exits.count(), 0, "a cut is no exit: {:?}", rig.seen);
}

fn who_has_no_layer_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let site = LocalSite::create(config(dir.path(), 3)).expect("make the hosts");
    let toys = toys(&site);
    let mut rig = Rig::of(LiveWorld::start(Arc::new(site), toys).expect("start the toys"), dir);
    for action in [full(&[host(1)]), cut(&[host(1)])] {
        let error = rig.act(action).unwrap_err();
        assert!(error.contains("n1: toy runs there without a layer"), "{error}");
    }
}

fn disks_that_do_not_break_are_noticed() {
    let mut rig = layers(Some(Sabotage::DiskDoesNothing));
    for action in [full(&[host(1)]), cut(&[host(1)])] {
        let error = rig.act(action).unwrap_err();
        assert!(error.contains("did not prove that its disk is as ordered"), "{error}");
    }
}
