//! Faults of clocks and disks: what is drawn, what is said, and how each is healed.
mod hosts;
mod rig;

use hosts::{clients, members, name};
use rig::{Rig, Ways, plan, scripted};
use splitbrain_core::event::Kind;
use splitbrain_core::plan::{FaultKind, Scripted, Target};
use splitbrain_core::{Action, Body, Clocks, Disk, Nanos, Skew, Unsynced};
use std::collections::BTreeSet;

/// Runs a script of one fault of n1, who leads, at 5 s, and tells all its actions in order.
fn actions(change: impl FnOnce(&mut Scripted)) -> (String, Vec<Action>) {
    let mut plan = plan(&[]);
    let mut fault = scripted(5, FaultKind::Disk, None, Some(Target::Leader));
    change(&mut fault);
    plan.script = vec![fault];
    let rig = Rig::run(&plan, 1, &members(3), Ways::default());
    assert!(rig.is_clean());
    let steps = rig.log.iter().filter_map(|event| match (&event.body, event.kind) {
        (Body::Fault(step) | Body::Heal(step), Kind::Ok) => Some(step.clone()),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    let what = steps[0].what.clone();
    (what, steps.into_iter().map(|step| step.action).collect())
}

#[test]
fn clock_faults_say_what_they_do_and_are_healed() {
    let hosts = || vec![name("n1")];
    let clock = |skew| Action::Clock { hosts: hosts(), skew };
    let kill = Action::Kill {
        hosts: hosts(),
        unsynced: Unsynced::Kept,
    };
    let start = Action::Start { hosts: hosts() };
    let check = |skew: Skew, what: &str, restarted: bool| {
        let (said, did) = actions(|fault| {
            fault.fault = FaultKind::Clock;
            fault.clock = Some(skew);
        });
        assert_eq!(said, format!("clock of n1 (leader): {what}"));
        let mut want = vec![clock(skew), clock(Skew::default())];
        if restarted {
            want.extend([kill.clone(), start.clone()]);
        }
        assert_eq!(did, want, "{what}");
    };
    let skew = |clocks, offset: &str, rate_ppm| Skew {
        clocks,
        offset: offset.parse().unwrap(),
        rate_ppm,
        ..Skew::default()
    };
    check(skew(Clocks::Realtime, "1h", 1_000_000), "realtime +1h", false);
    check(skew(Clocks::Realtime, "0s", 2_000_000), "realtime rate x2", false);
    check(skew(Clocks::Monotonic, "-1h", 1_000_000), "monotonic -1h", false);
    check(skew(Clocks::Both, "0s", 500_000), "rate x0.5", false);
    // A monotonic clock that is ahead can only be taken back by a new process.
    check(skew(Clocks::Both, "1h", 1_000_000), "+1h", true);
    check(skew(Clocks::Monotonic, "0s", 2_000_000), "monotonic rate x2", true);
}

#[test]
fn disk_faults_say_what_they_do_and_are_healed() {
    let hosts = || vec![name("n1")];
    let bad = |disk| Action::Disk { hosts: hosts(), disk };
    let start = Action::Start { hosts: hosts() };
    let check = |disk: Disk, what: &str, started: bool| {
        let (said, did) = actions(|fault| fault.disk = Some(disk));
        assert_eq!(said, format!("disk of n1 (leader): {what}"));
        let mut want = vec![bad(disk), bad(Disk::default())];
        if started {
            want.push(start.clone());
        }
        assert_eq!(did, want, "{what}");
    };
    let sync_delay = Nanos::millis(200);
    let (full, sync_fail_ppm) = (true, 500_000);
    check(
        Disk {
            sync_delay,
            ..Disk::default()
        },
        "syncs take 200ms longer",
        false,
    );
    check(
        Disk {
            full,
            ..Disk::default()
        },
        "full",
        true,
    );
    check(
        Disk {
            sync_fail_ppm,
            ..Disk::default()
        },
        "50% of syncs fail",
        true,
    );
    for (unsynced, words) in [
        (Unsynced::Lost, "unsynced writes lost"),
        (Unsynced::Torn, "the last write torn"),
    ] {
        let (said, did) = actions(|fault| fault.unsynced = Some(unsynced));
        assert_eq!(said, format!("power cut of n1 (leader): {words}"));
        let hosts = hosts();
        assert_eq!(did, [Action::Kill { hosts, unsynced }, start.clone()]);
    }
}

#[test]
fn a_healing_of_several_steps_goes_on_where_it_failed() {
    let mut plan = plan(&[]);
    let mut fault = scripted(5, FaultKind::Disk, None, None);
    fault.disk = Some(Disk {
        full: true,
        ..Disk::default()
    });
    plan.script = vec![fault];
    let ways = Ways {
        second_heal_fails: true,
        ..Ways::default()
    };
    let rig = Rig::run(&plan, 1, &members(3), ways);
    assert!(rig.is_clean());
    let heals = rig.log.iter().filter_map(|event| match (&event.body, event.kind) {
        (Body::Heal(step), Kind::Ok | Kind::Fail) => Some((matches!(step.action, Action::Start { .. }), event.kind)),
        _ => None,
    });
    let want = [(false, Kind::Ok), (true, Kind::Fail), (true, Kind::Ok)];
    assert_eq!(heals.collect::<Vec<_>>(), want);
}

#[test]
fn who_is_skewed_is_still_asked_and_who_cannot_answer_is_not() {
    let aimed = |disk: Option<Disk>| {
        let mut plan = plan(&[]);
        let fault = if disk.is_some() {
            FaultKind::Disk
        } else {
            FaultKind::Clock
        };
        let mut first = scripted(5, fault, None, Some(Target::Host(name("n1"))));
        first.disk = disk;
        plan.script = vec![first, scripted(6, FaultKind::Partition, None, Some(Target::Leader))];
        let lines = Rig::run(&plan, 1, &members(3), Ways::default()).lines();
        let aim = lines.iter().find(|line| line.contains(" aim 2 ")).unwrap();
        aim.rsplit(' ').next().unwrap().to_string()
    };
    assert_eq!(aimed(None), "hit");
    let slow = Disk {
        sync_delay: Nanos::millis(100),
        ..Disk::default()
    };
    assert_eq!(aimed(Some(slow)), "hit");
    assert_eq!(aimed(Some(Disk { full: true, ..slow })), "missed");
}

#[test]
fn clock_and_disk_faults_are_drawn_from_all_there_are() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let rig = Rig::run(
            &plan(&[FaultKind::Clock, FaultKind::Disk]),
            seed,
            &members(5),
            Ways::default(),
        );
        for event in &rig.log {
            let Body::Fault(step) = &event.body else { continue };
            seen.insert(match &step.action {
                Action::Clock { skew, .. } => {
                    skew.check().unwrap();
                    assert!(
                        !skew.is_none() && skew.offset.0.unsigned_abs() <= 3_600_000_000_000,
                        "{skew}"
                    );
                    let what = match skew {
                        Skew { strobe, .. } if *strobe > Nanos::ZERO => "strobe",
                        Skew { offset, .. } if offset.0 > 0 => "ahead",
                        Skew { offset, .. } if offset.0 < 0 => "behind",
                        Skew { rate_ppm, .. } if rate_ppm.abs_diff(Skew::TRUE_RATE) > 50_000 => "gross drift",
                        _ => "fine drift",
                    };
                    format!("{what} {:?}", skew.clocks)
                }
                Action::Disk { disk, .. } => {
                    disk.check().unwrap();
                    let Disk { full, sync_delay, .. } = *disk;
                    format!("full {full}, slow {}", sync_delay > Nanos::ZERO)
                }
                Action::Kill { unsynced, .. } => format!("{unsynced:?}"),
                other => panic!("{other:?}"),
            });
        }
    }
    // Five sorts of skews of three sorts of clocks, three sorts of bad disks, two sorts of power cuts.
    assert_eq!(seen.len(), 5 * 3 + 3 + 2, "{seen:?}");
}

#[test]
fn disks_are_broken_where_something_is_kept_on_them() {
    let mut struck = BTreeSet::new();
    for seed in 0..20 {
        let rig = Rig::run(&plan(&[FaultKind::Disk]), seed, &clients(3, 3), Ways::default());
        for event in &rig.log {
            if let Body::Fault(step) = &event.body {
                struck.extend(step.targets.iter().map(|host| host.to_string()));
            }
        }
    }
    assert!(struck.iter().map(String::as_str).eq(["s1", "s2", "s3"]), "{struck:?}");
}
