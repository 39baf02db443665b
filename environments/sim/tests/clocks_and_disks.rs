//! Clocks that are wrong and disks that are bad, seen through a toy.
// The other tests need more of it.
#[allow(dead_code)]
mod toy;

use splitbrain_core::{Action, Clocks, Disk, Happening, Name, Nanos, Op, Outcome, Proof, Skew, Unsynced, World};
use splitbrain_sim::{Sabotage, SimConfig};
use toy::{FOUND, HEARD, Toys, hosts, name};

fn one(host: &str) -> Vec<Name> {
    vec![name(host)]
}

fn saw(result: Result<Vec<Proof>, String>) -> String {
    let proofs = result.unwrap();
    assert_eq!(proofs.len(), 1, "{proofs:?}");
    format!("{}: {}", proofs[0].at, proofs[0].saw)
}

fn skew(clocks: Clocks, offset: &str, rate_ppm: u32) -> Skew {
    Skew {
        clocks,
        offset: offset.parse().unwrap(),
        rate_ppm,
        ..Skew::default()
    }
}

fn clock(skew: Skew) -> Action {
    Action::Clock { hosts: one("n1"), skew }
}

fn disk(disk: Disk) -> Action {
    Action::Disk { hosts: one("n1"), disk }
}

const FULL: Disk = Disk {
    full: true,
    sync_delay: Nanos::ZERO,
    sync_fail_ppm: 0,
};

fn failing(sync_fail_ppm: u32) -> Disk {
    Disk {
        sync_fail_ppm,
        ..Disk::default()
    }
}

fn slow(ms: u64) -> Disk {
    Disk {
        sync_delay: Nanos::millis(ms),
        ..Disk::default()
    }
}

/// How many beats of n1 were heard in two seconds, and what n1's core was last told of the time beyond the true one.
fn two_seconds(toys: &mut Toys) -> (usize, i64) {
    let from = toys.log.len();
    toys.run(Nanos::secs(2));
    let (at, _, told) = *toys.applied(from, "n1", HEARD + 2).last().expect("n1 hears n2");
    (toys.heard(from)["n1>n2"], told as i64 - at.0 as i64)
}

const HOUR: i64 = 3_600_000_000_000;
/// Between a core's step and control's hearing of it.
const SOON: i64 = 1_000_000;

#[test]
fn a_skewed_clock_is_what_the_core_is_told() {
    let mut toys = Toys::ready(1);
    // 50 ms, and some latency of the timers' wakes.
    let (beats, ahead) = two_seconds(&mut toys);
    assert!((38..=41).contains(&beats) && ahead.abs() < SOON, "{beats} {ahead}");
    let proof = saw(toys.act(clock(skew(Clocks::Monotonic, "1h", 1_000_000))));
    assert_eq!(proof, "n1: realtime true, monotonic reads +1h");
    let (beats, ahead) = two_seconds(&mut toys);
    assert!(
        (38..=42).contains(&beats) && (ahead - HOUR).abs() < SOON,
        "{beats} {ahead}"
    );
    // Back: the core's time never falls, so it stands still, and so do its timers.
    assert_eq!(
        saw(toys.act(clock(Skew::default()))),
        "n1: realtime true, monotonic true"
    );
    let (beats, ahead) = two_seconds(&mut toys);
    assert!(beats <= 1 && ahead > HOUR - 3 * 1_000_000_000, "{beats} {ahead}");
    // A new life knows nothing of that.
    let unsynced = Unsynced::Kept;
    let hosts = one("n1");
    toys.act(Action::Kill {
        hosts: hosts.clone(),
        unsynced,
    })
    .unwrap();
    toys.act(Action::Start { hosts }).unwrap();
    let (beats, ahead) = two_seconds(&mut toys);
    assert!((37..=41).contains(&beats) && ahead.abs() < SOON, "{beats} {ahead}");
}

#[test]
fn a_slow_clock_makes_slow_timers_and_the_time_of_day_none() {
    let mut toys = Toys::ready(2);
    let proof = saw(toys.act(clock(skew(Clocks::Both, "0s", 500_000))));
    assert_eq!(proof, "n1: realtime reads rate x0.5, monotonic reads rate x0.5");
    let (beats, _) = two_seconds(&mut toys);
    assert!((18..=21).contains(&beats), "{beats}");
    let proof = saw(toys.act(clock(skew(Clocks::Realtime, "-1h", 2_000_000))));
    assert_eq!(proof, "n1: realtime reads -1h rate x2, monotonic true");
    let (beats, ahead) = two_seconds(&mut toys);
    assert!((38..=41).contains(&beats) && ahead.abs() < SOON, "{beats} {ahead}");
}

#[test]
fn a_strobe_comes_and_goes() {
    let mut toys = Toys::ready(3);
    let strobe = Nanos::millis(700);
    let skew = Skew {
        strobe,
        ..skew(Clocks::Monotonic, "200ms", 1_000_000)
    };
    assert_eq!(
        saw(toys.act(clock(skew))),
        "n1: realtime true, monotonic reads +200ms every 700ms"
    );
    let from = toys.log.len();
    toys.run(Nanos::secs(3));
    let ahead = |(at, _, told): &(Nanos, u64, u64)| (*told as i64 - at.0 as i64 + 100_000_000) / 200_000_000;
    let turns: Vec<i64> = toys.applied(from, "n1", HEARD + 2).iter().map(ahead).collect();
    let mut turns = turns;
    turns.dedup();
    assert_eq!(turns, [1, 0, 1, 0, 1], "there, away, there, away, there");
}

#[test]
fn a_clock_that_cannot_be_is_refused() {
    let mut toys = Toys::ready(4);
    let why = toys.act(clock(skew(Clocks::Both, "0s", 1))).unwrap_err();
    assert!(why.contains("a clock's rate-ppm is 100000 to 10000000"), "{why}");
    let hosts = one("n9");
    let skew = Skew::default();
    let why = toys.act(Action::Clock { hosts, skew }).unwrap_err();
    assert_eq!(why, "skew the clocks of n9: there is no such host");
}

#[test]
fn a_full_disk_stops_its_process_until_there_is_room() {
    let mut toys = Toys::ready(5);
    assert_eq!(saw(toys.act(disk(FULL))), "n1: a write found no room");
    // What needs no record goes on.
    let (beats, _) = two_seconds(&mut toys);
    assert!(beats > 30, "{beats}");
    let set = toys.submit("n1", Op::Set { value: 7 });
    toys.run(Nanos::millis(10));
    let from = toys.log.len();
    let refused = toys.submit("n1", Op::Observe);
    toys.run(Nanos::secs(2));
    let why = Outcome::Fail("the disk is full: nothing was done".to_string());
    assert_eq!(toys.completed(refused), Some(&why));
    assert_eq!((toys.completed(set), toys.heard(from)["n1>n2"]), (None, 0));
    assert!(toys.applied(from, "n1", HEARD + 2).is_empty());
    let healed = toys.world.now();
    let proof = saw(toys.act(disk(Disk::default())));
    assert_eq!(proof, "n1: a write and a sync went well");
    toys.run(Nanos::secs(1));
    assert!(matches!(toys.completed(set), Some(Outcome::Ok(_))));
    let heard = toys.applied(from, "n1", HEARD + 2);
    assert!(heard.len() > 50, "it hears what it missed");
    // Not before there is room: its core stood still.
    assert!(heard.iter().all(|(_, _, told)| *told > healed.0), "{heard:?}");
}

#[test]
fn a_kill_on_a_full_disk_keeps_nothing_of_what_waits() {
    let mut toys = Toys::ready(5);
    toys.act(disk(FULL)).unwrap();
    toys.submit("n1", Op::Set { value: 7 });
    toys.run(Nanos::millis(10));
    let (hosts, unsynced) = (one("n1"), Unsynced::Lost);
    let cut = Action::Kill {
        hosts: hosts.clone(),
        unsynced,
    };
    assert_eq!(
        saw(toys.act(cut)),
        "n1: 2 of 2 unsynced records were lost, no process left"
    );
    toys.act(disk(Disk::default())).unwrap();
    let from = toys.log.len();
    toys.act(Action::Start { hosts }).unwrap();
    toys.run(Nanos::millis(10));
    assert_eq!(toys.applied(from, "n1", FOUND)[0].1, 0);
}

#[test]
fn a_slow_disk_holds_its_process_up() {
    let mut toys = Toys::ready(6);
    let proof = saw(toys.act(disk(slow(200))));
    assert!(proof.starts_with("n1: a sync took 20"), "{proof}");
    let set = toys.submit("n1", Op::Set { value: 7 });
    let look = toys.submit("n1", Op::Observe);
    toys.run(Nanos::millis(199));
    assert_eq!((toys.completed(set), toys.completed(look)), (None, None));
    toys.run(Nanos::millis(10));
    assert!(toys.completed(set).is_some() && toys.completed(look).is_some());
}

#[test]
fn a_failing_sync_ends_its_process_and_keeps_what_was_synced() {
    let mut kept = [0; 3];
    for seed in 0..30 {
        let mut toys = Toys::ready(seed);
        toys.submit("n1", Op::Set { value: 1 });
        toys.run(Nanos::millis(10));
        let proof = saw(toys.act(disk(failing(1_000_000))));
        assert_eq!(proof, "n1: sync 1 failed");
        let set = toys.submit("n1", Op::Set { value: 7 });
        toys.run(Nanos::millis(10));
        assert_eq!(toys.completed(set), None);
        let ended = toys.log.iter().any(|(_, happening)| {
            *happening
                == Happening::Exited {
                    host: name("n1"),
                    how: "member: fdatasync: input/output error".to_string(),
                }
        });
        assert!(ended, "seed {seed}");
        toys.act(disk(Disk::default())).unwrap();
        let from = toys.log.len();
        toys.act(Action::Start { hosts: one("n1") }).unwrap();
        toys.run(Nanos::millis(10));
        // Two records a request: those of the first, and any number of the second's.
        kept[toys.applied(from, "n1", FOUND)[0].1 as usize - 2] += 1;
    }
    assert!(kept.iter().all(|n| *n > 0), "{kept:?}");
}

#[test]
fn a_power_cut_comes_in_the_next_write() {
    let mut kept = [0; 3];
    for seed in 0..40 {
        let unsynced = if seed % 2 == 0 { Unsynced::Lost } else { Unsynced::Torn };
        let mut toys = Toys::ready(seed);
        toys.submit("n1", Op::Set { value: 1 });
        // Sometimes in the write, sometimes before it.
        if seed % 3 == 0 {
            toys.run(Nanos::micros(500));
        }
        let hosts = one("n1");
        let cut = Action::Kill {
            hosts: hosts.clone(),
            unsynced,
        };
        let proof = saw(toys.act(cut));
        let lost = match unsynced {
            Unsynced::Torn => ["n1: 1 of 2", "n1: 2 of 2"]
                .iter()
                .any(|start| proof.starts_with(start)),
            _ => proof.starts_with("n1: 2 of 2"),
        };
        let late = proof == "n1: nothing was unsynced, no process left";
        let end = proof.ends_with(" unsynced records were lost, no process left");
        assert!(late || (lost && end), "seed {seed}: {proof}");
        let from = toys.log.len();
        toys.act(Action::Start { hosts }).unwrap();
        toys.run(Nanos::millis(10));
        let found = toys.applied(from, "n1", FOUND)[0].1;
        assert!(found == 0 || unsynced == Unsynced::Torn || late, "seed {seed}: {found}");
        kept[found as usize] += 1;
    }
    assert!(kept[0] > 10 && kept[1] > 3, "{kept:?}");
}

#[test]
fn a_power_cut_of_nothing_comes_all_the_same() {
    let mut toys = Toys::ready(8);
    let cut = |host: &str| Action::Kill {
        hosts: one(host),
        unsynced: Unsynced::Torn,
    };
    let before = toys.log.last().unwrap().0;
    let proof = saw(toys.act(cut("n1")));
    assert_eq!(proof, "n1: nothing was unsynced, no process left");
    let took = toys.log.last().unwrap().0 - before;
    assert!(took > Nanos::millis(290) && took < Nanos::millis(410), "{took}");
    assert_eq!(saw(toys.act(cut("n1"))), "n1: already dead");
    let why = toys.act(cut("storage")).unwrap_err();
    assert!(why.contains("the storage has no disk"), "{why}");
    let hosts = one("storage");
    let why = toys.act(Action::Disk { hosts, disk: FULL }).unwrap_err();
    assert!(why.contains("the storage has no disk"), "{why}");
}

#[test]
fn faults_that_do_nothing_are_found_out() {
    let sabotaged = |sabotage, action: Action| {
        let mut config = SimConfig::new(9, hosts(3));
        config.sabotage = Some(sabotage);
        let mut toys = Toys::new(config);
        toys.run(Nanos::millis(100));
        toys.act(action).unwrap_err()
    };
    let hour = "1h";
    let strobe = Nanos::millis(100);
    for action in [
        clock(skew(Clocks::Realtime, hour, 1_000_000)),
        clock(skew(Clocks::Monotonic, "0s", 1_100_000)),
        clock(Skew {
            strobe,
            ..skew(Clocks::Both, hour, 1_000_000)
        }),
    ] {
        let why = sabotaged(Sabotage::ClockDoesNothing, action);
        assert!(why.starts_with("skew the clocks of n1: a clock "), "{why}");
    }
    let unsynced = Unsynced::Lost;
    let hosts = one("n1");
    for (action, want) in [
        (disk(FULL), "break the disk of n1: a write found room"),
        (disk(slow(100)), "and not 100.000ms"),
        (disk(failing(500_000)), "break the disk of n1: none of 512 syncs failed"),
        (Action::Kill { hosts, unsynced }, "kill n1: its process is still there"),
    ] {
        let why = sabotaged(Sabotage::DiskDoesNothing, action);
        assert!(why.ends_with(want), "{why}");
    }
}
