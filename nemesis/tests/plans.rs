//! Plans that do not fit their hosts, and what they are told.
mod hosts;

use hosts::{clients, members, name};
use splitbrain_core::plan::{FaultKind, Grudge, Scripted, Target};
use splitbrain_core::{Disk, HostRole, HostSpec, Nanos, Plan, Shape, Skew, Unsynced};
use splitbrain_nemesis::Nemesis;

fn error(plan: &Plan, hosts: &[HostSpec]) -> String {
    Nemesis::new(plan, 1, hosts).err().expect("the plan does not fit")
}

fn check_script(hosts: &[HostSpec], fault: FaultKind, shape: Option<Grudge>, target: Option<Target>, want: &str) {
    let mut plan = Plan::new("raft", "sim");
    plan.script = vec![Scripted {
        at: Nanos::secs(5),
        lasting: Nanos::secs(1),
        fault,
        shape,
        target,
        packets: None,
        clock: None,
        disk: None,
        unsynced: None,
    }];
    assert_eq!(error(&plan, hosts), format!("script fault 1: {want}"));
}

#[test]
fn a_script_that_does_not_fit_says_why() {
    use FaultKind::{Clock, Disk, Kill, Partition, Pause};
    let bare: Vec<HostSpec> = members(3).into_iter().filter(|h| h.role == HostRole::Member).collect();
    let storage = Some(Target::Host(name("storage")));
    check_script(
        &bare,
        Partition,
        Some(Grudge::LeaderFromStorage),
        None,
        "leader-from-storage needs a storage host and somebody who writes to it",
    );
    check_script(
        &members(3),
        Partition,
        Some(Grudge::CandidatesFromServers),
        None,
        "candidates-from-servers needs servers and candidates on hosts of their own, and here they are not: use isolate-one",
    );
    check_script(
        &members(2),
        Kill,
        None,
        Some(Target::Host(name("n7"))),
        "target host:n7: there is no such host, only n1 n2 storage",
    );
    check_script(
        &members(3),
        Kill,
        None,
        storage,
        "kill of storage: the storage keeps its state in memory only; pause it, or cut it off",
    );
    check_script(
        &members(3),
        Partition,
        Some(Grudge::Halves),
        storage,
        "halves of storage: it does not fit a storage",
    );
    check_script(
        &members(3),
        Pause,
        None,
        Some(Target::Role(HostRole::Server)),
        "target role:server: no host is a server",
    );
    check_script(
        &members(3),
        Partition,
        None,
        Some(Target::All),
        "isolate-one of target all leaves nobody on the other side",
    );
    check_script(
        &members(3),
        Partition,
        Some(Grudge::MajoritiesRing),
        None,
        "majorities-ring needs 4 hosts beside the storage, and there are 3",
    );
    check_script(
        &clients(3, 2),
        Partition,
        Some(Grudge::LeaderFromServers),
        Some(Target::Host(name("s1"))),
        "leader-from-servers of s1: it does not fit a server",
    );
    check_script(
        &members(2),
        Kill,
        None,
        Some(Target::Minority),
        "kill of a minority needs 3 hosts to choose from, and there are 2",
    );
    check_script(
        &members(3),
        Clock,
        None,
        storage,
        "clock of storage: the storage goes by no clock; skew those who write to it",
    );
    check_script(
        &members(3),
        Disk,
        None,
        storage,
        "disk of storage: the storage keeps its state in memory only",
    );
    check_script(
        &clients(3, 2),
        Disk,
        None,
        Some(Target::Role(HostRole::Candidate)),
        "disk of c1: a candidate keeps nothing on its disk; break a server's",
    );
    check_script(
        &members(3),
        Kill,
        Some(Grudge::Halves),
        None,
        "a kill has no shape, only a partition has",
    );
}

#[test]
fn a_script_beyond_the_end_or_with_stray_packets_is_refused() {
    let mut plan = Plan::new("raft", "sim");
    plan.script = vec![Scripted {
        at: Nanos::secs(30),
        lasting: Nanos::secs(1),
        fault: FaultKind::Pause,
        shape: None,
        target: None,
        packets: None,
        clock: None,
        disk: None,
        unsynced: None,
    }];
    assert_eq!(
        error(&plan, &members(3)),
        "script fault 1: it comes at 30.000s, and the faults end at 30.000s"
    );
    plan.script[0].at = Nanos::secs(1);
    plan.script[0].packets = Some(Shape::default());
    assert_eq!(
        error(&plan, &members(3)),
        "script fault 1: a pause has no packets, only a packet fault has"
    );
}

#[test]
fn random_faults_that_do_not_fit_say_why() {
    let mut plan = Plan::new("raft", "sim");
    plan.faults.kinds = vec![FaultKind::Partition, FaultKind::Kill];
    plan.faults.shapes = vec![Grudge::IsolateOne, Grudge::LeaderFromServers];
    assert!(error(&plan, &members(3)).starts_with("leader-from-servers needs servers and candidates"));
    plan.faults.shapes.clear();
    plan.faults.targets = vec![Target::Leader, Target::Host(name("n9"))];
    let why = error(&plan, &members(3));
    assert!(why.starts_with("target host:n9 fits none of the faults: "), "{why}");
    assert!(why.contains("there is no such host, only n1 n2 n3 storage"), "{why}");
    plan.faults.targets = vec![Target::Leader];
    let mute: Vec<HostSpec> = members(3).into_iter().map(|h| HostSpec { asked: false, ..h }).collect();
    assert!(error(&plan, &mute).contains("nobody there can be asked whether it leads"));
    plan.faults.every = Nanos::ZERO;
    assert!(error(&plan, &members(3)).starts_with("faults.every is zero"));
}

#[test]
fn what_does_not_fit_is_left_out_of_random_draws() {
    for hosts in [members(1), members(2), members(5), clients(3, 3), clients(1, 1)] {
        let mut plan = Plan::new("raft", "sim");
        plan.faults.kinds = vec![FaultKind::Kill, FaultKind::Pause, FaultKind::Packet];
        assert!(Nemesis::new(&plan, 1, &hosts).is_ok());
        plan.faults.kinds.push(FaultKind::Partition);
        // A single member can still be cut from its storage.
        assert!(Nemesis::new(&plan, 1, &hosts).is_ok());
    }
}

#[test]
fn kinds_are_named_once_and_shapes_need_partitions() {
    let mut plan = Plan::new("raft", "sim");
    plan.faults.kinds = vec![FaultKind::Kill, FaultKind::Pause, FaultKind::Kill];
    assert_eq!(error(&plan, &members(3)), "the kinds of faults name kill twice");
    plan.faults.kinds = vec![FaultKind::Kill];
    plan.faults.shapes = vec![Grudge::Halves];
    let want = "shapes are for partitions, and no partition is among the kinds of faults";
    assert_eq!(error(&plan, &members(3)), want);
    plan.faults.kinds.push(FaultKind::Partition);
    assert!(Nemesis::new(&plan, 1, &members(3)).is_ok());
}

#[test]
fn a_packet_fault_must_do_something_that_can_be_done() {
    let clean = Shape::default();
    let plan = |packets| {
        let mut plan = Plan::new("raft", "sim");
        plan.script = vec![Scripted {
            at: Nanos::secs(5),
            lasting: Nanos::secs(1),
            fault: FaultKind::Packet,
            shape: None,
            target: None,
            packets: Some(packets),
            clock: None,
            disk: None,
            unsynced: None,
        }];
        plan
    };
    let check = |packets: Shape, want: &str| {
        let why = error(&plan(packets), &members(3));
        assert!(
            why.starts_with("script fault 1: ") && why.contains(want),
            "{want}: {why}"
        );
    };
    let (delay, over) = (Nanos::secs(50), 1_000_001);
    check(clean, "a shape that does nothing");
    check(
        Shape {
            loss_ppm: over,
            ..clean
        },
        "packets.loss_ppm is 1000001",
    );
    check(
        Shape {
            duplicate_ppm: over,
            ..clean
        },
        "packets.duplicate_ppm is",
    );
    check(
        Shape {
            corrupt_ppm: over,
            ..clean
        },
        "packets.corrupt_ppm is",
    );
    check(
        Shape {
            delay,
            reorder_ppm: over,
            ..clean
        },
        "packets.reorder_ppm is",
    );
    check(
        Shape {
            reorder_ppm: 9,
            ..clean
        },
        "needs a packets.delay",
    );
    check(Shape { rate: 999, ..clean }, "carries no heartbeat");
    check(
        Shape {
            jitter: Nanos::secs(1),
            ..clean
        },
        "is more than packets.delay",
    );
    check(
        Shape {
            delay,
            jitter: Nanos::secs(11),
            ..clean
        },
        "together more than 60",
    );
    check(
        Shape {
            delay: Nanos::MAX,
            ..clean
        },
        "together more than 60",
    );
    for packets in [
        Shape {
            loss_ppm: 1_000_000,
            ..clean
        },
        Shape { rate: 1_000, ..clean },
        Shape {
            delay,
            jitter: Nanos::secs(10),
            ..clean
        },
    ] {
        assert!(Nemesis::new(&plan(packets), 1, &members(3)).is_ok());
    }
}

#[test]
fn clock_and_disk_faults_must_do_something_that_can_be_done() {
    let check = |kind: FaultKind, change: fn(&mut Scripted), want: &str| {
        let mut plan = Plan::new("raft", "sim");
        plan.script = vec![Scripted {
            at: Nanos::secs(5),
            lasting: Nanos::secs(1),
            fault: kind,
            shape: None,
            target: None,
            packets: None,
            clock: None,
            disk: None,
            unsynced: None,
        }];
        assert!(
            Nemesis::new(&plan, 1, &members(3)).is_ok(),
            "drawn where nothing is given"
        );
        change(&mut plan.script[0]);
        assert_eq!(error(&plan, &members(3)), format!("script fault 1: {want}"));
    };
    let (clock, disk) = (FaultKind::Clock, FaultKind::Disk);
    check(
        clock,
        |f| f.clock = Some(Skew::default()),
        "its clock is true: name an offset or a rate-ppm",
    );
    check(
        clock,
        |f| {
            f.clock = Some(Skew {
                rate_ppm: 1,
                ..Skew::default()
            });
        },
        "a clock's rate-ppm is 100000 to 10000000 (1000000 is true), not 1",
    );
    check(
        clock,
        |f| f.disk = Some(Disk::default()),
        "a clock has no disk, only a disk fault has",
    );
    check(
        FaultKind::Kill,
        |f| f.unsynced = Some(Unsynced::Lost),
        "a kill has no unsynced, only a disk fault has",
    );
    check(
        disk,
        |f| f.clock = Some(Skew::default()),
        "a disk has no clock, only a clock fault has",
    );
    check(
        disk,
        |f| f.disk = Some(Disk::default()),
        "its disk is healthy: name full, sync-delay or sync-fail-ppm",
    );
    check(
        disk,
        |f| {
            f.disk = Some(Disk {
                sync_fail_ppm: 1_000_001,
                ..Disk::default()
            });
        },
        "a disk's sync-fail-ppm is 1000001, and 1000000 is every sync",
    );
    check(
        disk,
        |f| f.unsynced = Some(Unsynced::Kept),
        "its unsynced writes are kept: that is a kill; name lost or torn",
    );
    check(
        disk,
        |f| {
            f.unsynced = Some(Unsynced::Torn);
            f.disk = Some(Disk {
                full: true,
                ..Disk::default()
            });
        },
        "it has both a disk and unsynced: a bad disk is one fault, a power cut another",
    );
}
