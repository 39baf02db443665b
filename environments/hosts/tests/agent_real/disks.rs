//! Orders to the disk layers of processes, with a toy that has one.
use crate::Case;
use crate::rig::{Agent, Place, gone, runs};
use splitbrain_core::disk::{self, ORDER};
use splitbrain_core::{Disk, DiskOrder, Unsynced};
use splitbrain_environments::Sabotage;
use splitbrain_environments::agent::proto::{FromHost, Order};
use std::fs;
use std::path::PathBuf;

pub const ALL: &[Case] = &[
    ("an_order_is_proven_by_the_layer", an_order_is_proven_by_the_layer),
    (
        "a_layer_that_sees_nothing_fails_the_order",
        a_layer_that_sees_nothing_fails_the_order,
    ),
    ("the_next_life_gets_the_order", the_next_life_gets_the_order),
    (
        "who_ends_on_a_bad_disk_is_healed_all_the_same",
        who_ends_on_a_bad_disk_is_healed_all_the_same,
    ),
    ("a_cut_ends_in_mid_write", a_cut_ends_in_mid_write),
    ("who_has_no_layer_is_refused", who_has_no_layer_is_refused),
    ("disk_sabotage_is_noticed", disk_sabotage_is_noticed),
];

fn start(agent: &mut Agent, place: &Place, kind: &str) -> i32 {
    let program = std::env::current_exe().unwrap();
    let (pid, stream) = agent.start(place, &[program.to_str().unwrap(), "toy-layer", kind]);
    assert_eq!(agent.line(stream + 1), r#"{"event":"ready"}"#);
    pid
}

fn full() -> Disk {
    Disk {
        full: true,
        ..Disk::default()
    }
}

fn ordered(place: &Place) -> DiskOrder {
    let dir: PathBuf = place.state().join("hosts/n1");
    serde_json::from_slice(&fs::read(disk::file(&dir, ORDER)).unwrap()).unwrap()
}

fn an_order_is_proven_by_the_layer() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    start(&mut agent, &place, "honest");
    assert_eq!(agent.done(Order::Disk(full())), "toy: full, Kept");
    assert_eq!(agent.done(Order::Disk(Disk::default())), "toy: healthy, Kept");
    assert_eq!(ordered(&place).generation, 2);
}

fn a_layer_that_sees_nothing_fails_the_order() {
    for (kind, want) in [
        ("blind", "nothing to see"),
        ("mortal", "ended without a word on its disk"),
    ] {
        let place = Place::new();
        let mut agent = Agent::new(&place);
        let pid = start(&mut agent, &place, kind);
        let error = agent.order(Order::Disk(full())).unwrap_err();
        assert!(
            error.contains(want) && error.contains(&format!("toy on n1 (pid {pid})")),
            "{error}"
        );
    }
}

fn the_next_life_gets_the_order() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    start(&mut agent, &place, "honest");
    agent.done(Order::Kill(Unsynced::Kept));
    assert_eq!(
        agent.done(Order::Disk(full())),
        "toy: does not run and will start with it"
    );
    start(&mut agent, &place, "honest");
    assert_eq!(agent.done(Order::Disk(Disk::default())), "toy: healthy, Kept");
    assert_eq!(ordered(&place).generation, 2);
}

fn who_ends_on_a_bad_disk_is_healed_all_the_same() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    start(&mut agent, &place, "mortal");
    assert_eq!(
        agent.done(Order::Disk(Disk::default())),
        "toy: ended on its bad disk and will start with a healthy one"
    );
    agent.rounds(3);
    let exits = agent
        .seen
        .iter()
        .filter(|message| matches!(message, FromHost::Exited { .. }));
    assert_eq!(exits.count(), 1, "control is told: {:?}", agent.seen);
}

fn a_cut_ends_in_mid_write() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let pid = start(&mut agent, &place, "honest");
    agent.done(Order::Disk(full()));
    let (bystander, _) = agent.start(&place, &["sleep", "1000"]);
    let saw = agent.done(Order::Kill(Unsynced::Torn));
    let ended = format!("(pid {pid}) ended by signal 9 (SIGKILL)");
    assert!(saw.starts_with("toy: full, Torn, ") && saw.contains(&ended), "{saw}");
    assert!(!runs(pid) && !runs(bystander));
    agent.rounds(3);
    let exits = agent
        .seen
        .iter()
        .filter(|message| matches!(message, FromHost::Exited { .. }));
    assert_eq!(exits.count(), 0, "what was asked for is no exit: {:?}", agent.seen);
    // A cut of what does not run is a kill.
    assert_eq!(agent.done(Order::Kill(Unsynced::Lost)), "already dead");
}

fn who_has_no_layer_is_refused() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (pid, _) = agent.start(&place, &["sleep", "1000"]);
    for order in [Order::Disk(full()), Order::Kill(Unsynced::Lost)] {
        let error = agent.order(order).unwrap_err();
        assert!(error.contains("n1: toy runs there without a layer"), "{error}");
    }
    assert!(runs(pid), "a refusal does nothing");
}

fn disk_sabotage_is_noticed() {
    let place = Place::new();
    let mut agent = Agent::sabotaged(&place, Sabotage::DiskDoesNothing);
    let pid = start(&mut agent, &place, "honest");
    for order in [Order::Disk(full()), Order::Kill(Unsynced::Lost)] {
        let error = agent.order(order).unwrap_err();
        assert!(error.contains("did not prove that its disk is as ordered"), "{error}");
    }
    assert!(runs(pid));
    agent.done(Order::Heal);
    gone(&[pid]);
    agent.hang_up();
    assert!(agent.ended());
    // A process that outlives its power is an error too.
    let impatient = Sabotage::BlockDoesNothing;
    let mut agent = Agent::sabotaged(&place, impatient);
    let pid = start(&mut agent, &place, "deathless");
    let error = agent.order(Order::Kill(Unsynced::Lost)).unwrap_err();
    assert!(
        error.contains("outlives its power") && error.contains(&pid.to_string()),
        "{error}"
    );
}
