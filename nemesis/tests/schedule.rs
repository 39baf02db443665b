//! Whole runs against a stand-in for the runner.
mod hosts;
mod rig;

use hosts::{clients, members, name};
use proptest::prelude::*;
use rig::{Rig, Ways, plan, scripted};
use splitbrain_core::event::Kind;
use splitbrain_core::plan::{FaultKind, Grudge, Target};
use splitbrain_core::{Action, Body, HostRole, HostSpec, Link, Nanos};
use std::collections::{BTreeMap, BTreeSet};

/// Runs a script of one fault at 5 s and tells what was injected, if anything.
fn inject(hosts: &[HostSpec], fault: FaultKind, shape: Option<Grudge>, target: Option<Target>) -> (String, Action) {
    let mut plan = plan(&[]);
    plan.script = vec![scripted(5, fault, shape, target)];
    let rig = Rig::run(&plan, 1, hosts, Ways::default());
    assert!(rig.is_clean());
    let injected = rig.log.iter().find_map(|event| match &event.body {
        Body::Fault(step) => Some((step.what.clone(), step.action.clone())),
        _ => None,
    });
    injected.unwrap()
}

fn links(words: &str) -> BTreeSet<Link> {
    let link = |word: &str| {
        let (src, dst) = word.split_once('>').unwrap();
        Link {
            src: name(src),
            dst: name(dst),
        }
    };
    words.split(' ').map(link).collect()
}

fn check_cut(hosts: &[HostSpec], shape: Grudge, target: Option<Target>, what: &str, cut: &str) {
    let (said, action) = inject(hosts, FaultKind::Partition, Some(shape), target);
    let Action::Block { links: blocked } = action else {
        panic!("{action:?}");
    };
    assert_eq!(said, what);
    assert_eq!(blocked.into_iter().collect::<BTreeSet<_>>(), links(cut));
}

#[test]
fn a_cut_off_leader_still_reaches_the_storage() {
    // n1 leads in the rig.
    check_cut(
        &members(3),
        Grudge::IsolateOne,
        Some(Target::Leader),
        "isolate-one: n1 | n2 n3",
        "n1>n2 n1>n3 n2>n1 n3>n1",
    );
}

#[test]
fn shapes_of_roles_cut_what_they_name() {
    let c = clients(2, 2);
    check_cut(
        &members(3),
        Grudge::LeaderFromStorage,
        None,
        "leader-from-storage: n1 | storage",
        "n1>storage storage>n1",
    );
    check_cut(
        &c,
        Grudge::LeaderFromServers,
        None,
        "leader-from-servers: c1 | s1 s2",
        "c1>s1 c1>s2 s1>c1 s2>c1",
    );
    check_cut(
        &c,
        Grudge::CandidatesFromServers,
        None,
        "candidates-from-servers: c1 c2 | s1 s2",
        "c1>s1 c1>s2 c2>s1 c2>s2 s1>c1 s1>c2 s2>c1 s2>c2",
    );
    let c2 = Some(Target::Host(name("c2")));
    check_cut(
        &c,
        Grudge::IsolateOne,
        c2,
        "isolate-one: c2 | c1 s1 s2",
        "c2>c1 c2>s1 c2>s2 c1>c2 s1>c2 s2>c2",
    );
    let storage = Some(Target::Role(HostRole::Storage));
    check_cut(
        &members(2),
        Grudge::IsolateOne,
        storage,
        "isolate-one: storage | n1 n2",
        "storage>n1 storage>n2 n1>storage n2>storage",
    );
}

#[test]
fn process_faults_say_whom_they_strike() {
    let five = members(5);
    let kill = |target| inject(&five, FaultKind::Kill, None, Some(target)).0;
    assert_eq!(kill(Target::Leader), "kill n1 (leader)");
    assert_eq!(kill(Target::All), "kill n1 n2 n3 n4 n5");
    assert_eq!(kill(Target::Host(name("n4"))), "kill n4");
    assert_ne!(kill(Target::NonLeader), "kill n1");
    let hosts = |what: String| what.split(' ').count() - 1;
    assert!((1..=2).contains(&hosts(kill(Target::Minority))));
    assert!((3..=4).contains(&hosts(kill(Target::Majority))));
    let pause = inject(&five, FaultKind::Pause, None, Some(Target::Role(HostRole::Storage)));
    assert_eq!(pause.0, "pause storage");
    let (what, action) = inject(&five, FaultKind::Packet, None, Some(Target::Leader));
    assert!(what.starts_with("packet links of n1 (leader): "), "{what}");
    assert!(matches!(action, Action::Shape { links, .. } if links.len() == 10));
}

#[test]
fn a_script_and_its_healing_keep_their_times() {
    let mut plan = plan(&[]);
    plan.script = vec![
        scripted(9, FaultKind::Pause, None, Some(Target::Host(name("n2")))),
        scripted(5, FaultKind::Partition, None, Some(Target::Leader)),
    ];
    let ways = Ways {
        act: Nanos(1),
        ..Ways::default()
    };
    let lines = Rig::run(&plan, 3, &members(3), ways).lines();
    // The faults begin at 1 s; the question who leads takes up to 2 ms.
    let times_cut = |line: &String| line.replace("6.001", "6.00x").replace("8.001", "8.00x");
    assert_eq!(
        lines.iter().map(times_cut).collect::<Vec<_>>(),
        [
            "6.00xs fault 1 isolate-one: n1 | n2 n3",
            "6.00xs aim 1 leader hit",
            "8.00xs heal 1 isolate-one: n1 | n2 n3",
            "10.000s fault 2 pause n2",
            "12.000s heal 2 pause n2",
        ]
    );
}

#[test]
fn a_link_that_two_faults_cut_opens_with_the_second_healing() {
    let mut plan = plan(&[]);
    let isolate = |at, host| scripted(at, FaultKind::Partition, None, Some(Target::Host(name(host))));
    plan.script = vec![isolate(5, "n1"), isolate(6, "n2")];
    let rig = Rig::run(&plan, 1, &members(3), Ways::default());
    let heals = rig.log.iter().filter_map(|event| match (&event.body, event.kind) {
        (Body::Heal(step), Kind::Ok) => match &step.action {
            Action::Unblock { links } => Some(links.iter().copied().collect::<BTreeSet<_>>()),
            _ => None,
        },
        _ => None,
    });
    let heals: Vec<_> = heals.collect();
    assert_eq!(heals, [links("n1>n3 n3>n1"), links("n1>n2 n2>n1 n2>n3 n3>n2")]);
}

#[test]
fn a_fault_aimed_at_nobody_is_a_note_with_a_number() {
    let mut plan = plan(&[]);
    plan.script = vec![
        scripted(5, FaultKind::Kill, None, Some(Target::Leader)),
        scripted(6, FaultKind::Kill, None, Some(Target::One)),
    ];
    let mut rig = Rig::new(&plan, 1, &members(3), Ways::default());
    rig.leader = None;
    let lines = rig.finish(&plan).lines();
    assert!(lines[0].ends_with("aim 1 leader missed"), "{lines:?}");
    assert!(lines[1].contains("fault 2 kill n"), "{lines:?}");
}

#[test]
fn an_injection_that_failed_is_healed_at_the_end() {
    let mut plan = plan(&[]);
    plan.script = vec![scripted(5, FaultKind::Partition, None, None)];
    let ways = Ways {
        first_fails: true,
        ..Ways::default()
    };
    let rig = Rig::run(&plan, 1, &members(3), ways);
    assert!(rig.is_clean());
    let lines = rig.lines();
    assert!(lines[1].starts_with("61.000s heal 1 "), "{lines:?}");
}

#[test]
fn an_injection_that_is_never_confirmed_is_healed_all_the_same() {
    let mut plan = plan(&[]);
    plan.script = vec![
        scripted(5, FaultKind::Partition, None, None),
        scripted(6, FaultKind::Pause, None, None),
        scripted(7, FaultKind::Partition, None, None),
    ];
    let ways = Ways {
        first_hangs: true,
        ..Ways::default()
    };
    let lines = Rig::run(&plan, 1, &members(3), ways).lines();
    // The second cut never begins: nobody knows what the first one did.
    assert!(lines[1].contains(" fault 2 pause"), "{lines:?}");
    assert!(lines[3].starts_with("64.000s heal 1 ") && lines.len() == 4, "{lines:?}");
}

#[test]
fn another_clients_timeout_is_no_answer() {
    let mut plan = plan(&[]);
    plan.script = vec![scripted(5, FaultKind::Kill, None, Some(Target::Leader))];
    let ways = Ways {
        noise: true,
        ..Ways::default()
    };
    let lines = Rig::run(&plan, 1, &members(3), ways).lines();
    assert!(lines[0].ends_with("fault 1 kill n1 (leader)"), "{lines:?}");
}

#[test]
fn who_cannot_answer_is_not_asked_and_old_answers_do_not_count() {
    let mut plan = plan(&[]);
    plan.script = vec![
        scripted(4, FaultKind::Packet, None, Some(Target::Leader)),
        scripted(5, FaultKind::Kill, None, Some(Target::Host(name("n1")))),
        scripted(5, FaultKind::Pause, None, Some(Target::Host(name("n2")))),
        scripted(6, FaultKind::Partition, None, Some(Target::Leader)),
    ];
    let lines = Rig::run(&plan, 1, &members(3), Ways::default()).lines();
    // n1 had said that it leads, and is dead; n3 answers at once, nobody waits for the others, and for a leader 10 s.
    let aim = lines.iter().find(|line| line.contains(" aim 4 ")).unwrap();
    assert!(
        aim.starts_with("17.00") && aim.ends_with("aim 4 leader missed"),
        "{lines:?}"
    );
}

#[test]
fn cuts_are_healed_one_after_the_other() {
    let mut plan = plan(&[]);
    let isolate = |at, host| scripted(at, FaultKind::Partition, None, Some(Target::Host(name(host))));
    plan.script = vec![isolate(57, "n1"), isolate(58, "n2"), isolate(59, "n3")];
    plan.script.iter_mut().for_each(|fault| fault.lasting = Nanos::secs(9));
    let rig = Rig::run(&plan, 1, &members(5), Ways::default());
    let heal = |event: &splitbrain_core::Event| match &event.body {
        Body::Heal(step) => Some((step.fault, event.kind)),
        _ => None,
    };
    let order: Vec<_> = rig.log.iter().filter_map(heal).collect();
    let one_by_one = (1..=3).flat_map(|fault| [(fault, Kind::Invoke), (fault, Kind::Ok)]);
    assert_eq!(order, one_by_one.collect::<Vec<_>>());
}

#[test]
fn same_seed_same_schedule() {
    let plan = plan(&FaultKind::ALL);
    let ways = Ways {
        reign: Nanos::secs(2),
        ..Ways::default()
    };
    let lines = |seed| Rig::run(&plan, seed, &members(5), ways).lines();
    assert_eq!(lines(1), lines(1));
    assert_ne!(lines(1), lines(2));
}

#[test]
fn answers_change_whom_faults_strike_and_not_when() {
    let plan = plan(&[FaultKind::Kill, FaultKind::Pause]);
    let times = |leader: &str| {
        let ways = Ways {
            act: Nanos(1),
            ..Ways::default()
        };
        let mut rig = Rig::new(&plan, 9, &members(5), ways);
        rig.leader = Some(name(leader));
        let lines = rig.finish(&plan).lines();
        let whole = |line: &String| {
            line.contains(" fault ")
                .then(|| line.split('.').next().unwrap().to_string())
        };
        (lines.iter().filter_map(whole).collect::<Vec<_>>(), lines)
    };
    let (a, b) = (times("n1"), times("n2"));
    assert_eq!(a.0, b.0);
    assert_ne!(a.1, b.1);
}

#[test]
fn half_the_faults_go_for_the_leader_and_find_it() {
    let (mut struck, mut aimed) = (0, BTreeMap::new());
    for seed in 0..20 {
        let ways = Ways {
            reign: Nanos::secs(2),
            act: Nanos::millis(300),
            ..Ways::default()
        };
        let lines = Rig::run(&plan(&FaultKind::ALL), seed, &members(5), ways).lines();
        struck += lines.iter().filter(|line| line.contains(" fault ")).count();
        for line in lines.iter().filter(|line| line.contains(" leader ")) {
            *aimed.entry(line.rsplit(' ').next().unwrap().to_string()).or_insert(0) += 1;
        }
    }
    // In this rig nobody leads half of the time, reigns are short and actions are slow.
    let [hit, missed, moved] = ["hit", "missed", "moved"].map(|hit| aimed.get(hit).copied().unwrap_or(0));
    let all = struck + missed;
    assert!((190..300).contains(&all), "{all}");
    let leader = hit + missed + moved;
    assert!((all * 4 / 10..all * 7 / 10).contains(&leader), "{leader} of {all}");
    assert!(hit > 80 && missed < 5 && moved > 5, "{aimed:?}");
}

fn topologies() -> impl Strategy<Value = Vec<HostSpec>> {
    prop_oneof![
        (2usize..=7).prop_map(members),
        (1usize..=5, 1usize..=4).prop_map(|(s, c)| clients(s, c)),
        // An observed cluster without candidates and without a storage.
        (3usize..=5).prop_map(|n| {
            let server = |i| HostSpec {
                asked: true,
                ..hosts::host(&format!("s{i}"), HostRole::Server)
            };
            (1..=n).map(server).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    // The rig itself checks, at every moment, that no host is killed and paused at once, that no link has two actions
    // or two shapes at once, and that exactly the links of open cuts are blocked.
    #[test]
    fn every_fault_is_healed(hosts in topologies(), seed in any::<u64>(), every in 200u64..5000, lasting in 0u64..8000,
                             act in 1u64..400, reign in 0u64..3000) {
        let mut plan = plan(&FaultKind::ALL);
        plan.time_limit = Nanos::secs(20);
        plan.faults.every = Nanos::millis(every);
        plan.faults.lasting = Nanos::millis(lasting);
        let ways = Ways { act: Nanos::millis(act), reign: Nanos::millis(reign), ..Ways::default() };
        let rig = Rig::run(&plan, seed, &hosts, ways);
        prop_assert!(rig.is_clean());
        let mut numbers = Vec::new();
        for event in &rig.log {
            match (&event.body, event.kind) {
                (Body::Fault(step), Kind::Invoke) => {
                    numbers.push(step.fault);
                    // Setup takes 1 s; an injection may wait for another cut or an answer.
                    prop_assert!(event.time < Nanos::secs(1) + Nanos::secs(18) + Nanos::secs(1));
                    prop_assert!(!step.targets.is_empty());
                }
                (Body::Aim { fault, hit: splitbrain_core::event::Hit::Missed, .. }, _) => numbers.push(*fault),
                _ => {}
            }
        }
        prop_assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{:?}", numbers);
        prop_assert!(!numbers.is_empty());
    }
}

#[test]
fn the_schedule_of_seed_7() {
    let mut plan = plan(&[FaultKind::Partition, FaultKind::Kill, FaultKind::Pause]);
    plan.time_limit = Nanos::secs(30);
    let ways = Ways {
        act: Nanos(1),
        ..Ways::default()
    };
    let lines = Rig::run(&plan, 7, &members(5), ways).lines();
    assert_eq!(
        lines,
        [
            "5.391s fault 1 pause n4",
            "9.177s heal 1 pause n4",
            "9.198s fault 2 kill n3 n4",
            "12.095s heal 2 kill n3 n4",
            "14.472s fault 3 pause n4",
            "19.130s heal 3 pause n4",
            "19.196s fault 4 pause n3 n5",
            "21.538s fault 5 leader-from-storage: n1 | storage",
            "21.538s aim 5 leader hit",
            "22.596s heal 5 leader-from-storage: n1 | storage",
            "23.851s heal 4 pause n3 n5",
            "23.891s fault 6 kill n2",
            "23.891s aim 6 non-leader hit",
            "27.829s fault 7 pause n3",
            "28.645s heal 6 kill n2",
            "29.006s heal 7 pause n3",
        ]
    );
}
