//! Many small worlds, each from its seed: the sound Raft keeps its properties in all of them, and mutants are caught.
//!
//! `SEEDS=from..to` runs others.
mod world;

use splitbrain_core::Nanos;
use splitbrain_protocols::raft::Mutant;
use std::ops::Range;
use world::World;

fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else {
        return default;
    };
    let (from, to) = text.split_once("..").expect("SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn live(seed: u64, mutant: Option<Mutant>) -> (World, Result<(), String>) {
    let mut world = World::new(seed, mutant);
    let result = world.run(Nanos::secs(15));
    (world, result)
}

#[test]
fn the_sound_raft_keeps_its_properties() {
    let mut total = [0; 5];
    for seed in seeds(0..300) {
        // Shown by the test runner if the core itself panics.
        println!("seed {seed}");
        let (mut world, mut result) = live(seed, None);
        if result.is_ok() {
            world.heal();
            result = world.run(Nanos::secs(30)).and_then(|()| world.check_recovered());
        }
        if let Err(why) = result {
            panic!("seed {seed}: {why}\n{:?}", world.climate);
        }
        let w = &world.watch;
        let seen = [w.elections, w.done, w.reads_done, w.snapshots, w.transfers];
        total = std::array::from_fn(|i| total[i] + seen[i]);
    }
    println!("elections, proposals, reads, snapshots, transfers: {total:?}");
    assert!(
        total.iter().all(|n| *n > 100),
        "the worlds were too quiet to show anything: {total:?}"
    );
}

/// A mutant must show from outside: two leaders of one term, or two histories of the state machine.
fn check_caught(mutant: Mutant, within: Range<u64>) {
    let (mut caught, mut tried) = (Vec::new(), 0);
    for seed in seeds(within) {
        tried += 1;
        if let (_, Err(why)) = live(seed, Some(mutant)) {
            println!("seed {seed}: {why}");
            caught.push(seed);
        }
    }
    println!("{}: {} of {tried}", mutant.name(), caught.len());
    assert!(!caught.is_empty(), "{} was not caught", mutant.name());
}

#[test]
fn a_forgotten_vote_is_caught() {
    check_caught(Mutant::ForgetVote, 0..300);
}

#[test]
fn an_ignored_log_is_caught() {
    check_caught(Mutant::IgnoreLog, 0..50);
}

#[test]
fn a_stale_leader_is_caught_by_its_reads() {
    check_caught(Mutant::StaleLeader, 0..50);
}
