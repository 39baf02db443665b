//! Actions and what comes of them.
use crate::Case;
use crate::rig::{Rig, config, host, link, toys};
use splitbrain_core::{Action, Answer, Happening, Nanos, Op, Shape, Unasked, World};
use splitbrain_environments::Sabotage;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::LocalSite;
use std::sync::Arc;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("hosts_answer_and_hear_each_other", hosts_answer_and_hear_each_other),
    ("six_hosts_are_up_soon", six_hosts_are_up_soon),
    ("a_block_is_one_way_and_heals", a_block_is_one_way_and_heals),
    ("twenty_links_are_proven_fast", twenty_links_are_proven_fast),
    ("a_shape_delays_and_loses", a_shape_delays_and_loses),
    (
        "kill_is_proven_and_start_begins_a_new_life",
        kill_is_proven_and_start_begins_a_new_life,
    ),
    ("kill_finds_what_hides", kill_finds_what_hides),
    ("pause_stops_and_resume_continues", pause_stops_and_resume_continues),
    ("a_full_pipe_holds_nobody_up", a_full_pipe_holds_nobody_up),
    ("garbage_is_reported_and_bounded", garbage_is_reported_and_bounded),
    ("a_flood_is_not_everybodys", a_flood_is_not_everybodys),
    ("an_end_of_its_own_is_told", an_end_of_its_own_is_told),
    ("sabotage_is_noticed", sabotage_is_noticed),
    (
        "a_shape_that_does_nothing_is_noticed",
        a_shape_that_does_nothing_is_noticed,
    ),
];

fn hosts_answer_and_hear_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let site = Arc::new(LocalSite::create(config(dir.path(), 3)).expect("make the hosts"));
    let processes = toys(&*site);
    let mut rig = Rig::of(LiveWorld::start(site.clone(), processes).expect("start the toys"), dir);
    for n in 1..=3 {
        rig.started(n, 1);
        assert!(matches!(rig.ask(n, Op::Observe), Answer::Status(_)));
    }
    rig.hears(1, 2);
    rig.hears(2, 3);
    rig.hears(3, 1);
    let traffic = site.traffic().expect("counters");
    assert_eq!(traffic.len(), 6);
    assert!(traffic.iter().all(|link| link.packets > 0), "{traffic:?}");
    // The switch is looked after a few times a second: where all is well, the sandbox has nothing to say.
    let until = rig.world.now() + Nanos::millis(600);
    while rig.world.poll(until).is_some() {}
    let log = rig.world.dir().join("logs/sandbox.log");
    assert_eq!(std::fs::read_to_string(log).expect("a log"), "");
}

fn six_hosts_are_up_soon() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let site = LocalSite::create(config(dir.path(), 6)).expect("make the hosts");
    let made = start.elapsed();
    let processes = toys(&site);
    let world = LiveWorld::start(Arc::new(site), processes).expect("start the toys");
    let rig = Rig::of(world, dir);
    println!("  hosts made in {made:?}, all ready in {:?}", start.elapsed());
    let end = Instant::now();
    drop(rig);
    println!("  ended in {:?}", end.elapsed());
}

fn a_block_is_one_way_and_heals() {
    let mut rig = Rig::new(None);
    let proofs = rig.done(Action::Block {
        links: vec![link(1, 2)],
    });
    assert_eq!(proofs.len(), 1);
    assert_eq!(
        (proofs[0].at.as_str(), proofs[0].saw.as_str()),
        ("n1>n2", "probe dropped by the switch, not received")
    );
    rig.deaf(2, 1, 3);
    rig.hears(1, 2);
    // Blocking again is no error, and one unblock undoes both.
    rig.done(Action::Block {
        links: vec![link(1, 2)],
    });
    let proofs = rig.done(Action::Unblock {
        links: vec![link(1, 2)],
    });
    assert_eq!(proofs[0].saw, "probe arrived");
    rig.hears(2, 1);
}

fn twenty_links_are_proven_fast() {
    let dir = tempfile::tempdir().unwrap();
    let site = LocalSite::create(config(dir.path(), 5)).expect("make the hosts");
    let processes = toys(&site);
    let mut rig = Rig::of(
        LiveWorld::start(Arc::new(site), processes).expect("start the toys"),
        dir,
    );
    let pairs = (1..=5).flat_map(|src| (1..=5).filter(move |dst| *dst != src).map(move |dst| link(src, dst)));
    let links: Vec<_> = pairs.collect();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(rig.done(Action::Block { links: links.clone() }).len(), 20);
        let blocked = start.elapsed();
        assert_eq!(rig.done(Action::Unblock { links: links.clone() }).len(), 20);
        println!("  20 links blocked in {blocked:?}, both in {:?}", start.elapsed());
        let start = Instant::now();
        let shape = Shape {
            loss_ppm: 10_000,
            duplicate_ppm: 10_000,
            corrupt_ppm: 20_000,
            ..Shape::default()
        };
        let links = links.clone();
        rig.done(Action::Shape {
            links: links.clone(),
            shape,
        });
        let shaped = start.elapsed();
        let shape = Shape::default();
        rig.done(Action::Shape { links, shape });
        println!(
            "  20 links shaped in {shaped:?}, healed in {:?}",
            start.elapsed() - shaped
        );
    }
}

fn a_shape_delays_and_loses() {
    let mut rig = Rig::new(None);
    let links = vec![link(1, 2), link(2, 1)];
    let delay = Shape {
        delay: Nanos::millis(30),
        jitter: Nanos::millis(5),
        ..Shape::default()
    };
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: delay,
    });
    assert!(
        proofs.iter().all(|proof| proof.saw.starts_with("probe arrived after ")),
        "{proofs:?}"
    );
    // A block over a shape is still a block, and under it the shape goes on.
    rig.done(Action::Block {
        links: vec![link(1, 2)],
    });
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: delay,
    });
    assert!(proofs[0].saw.starts_with("probe dropped"), "{proofs:?}");
    let proofs = rig.done(Action::Unblock {
        links: vec![link(1, 2)],
    });
    assert!(proofs[0].saw.starts_with("probe arrived after "), "{proofs:?}");
    let loss = Shape {
        loss_ppm: 1_000_000,
        ..Shape::default()
    };
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: loss,
    });
    assert!(
        proofs.iter().all(|proof| {
            let words: Vec<&str> = proof.saw.split(' ').collect();
            words[0] == words[2] && proof.saw.ends_with("packets lost, shape read back")
        }),
        "{proofs:?}"
    );
    rig.deaf(2, 1, 3);
    let half = Shape {
        loss_ppm: 500_000,
        duplicate_ppm: 500_000,
        reorder_ppm: 100_000,
        corrupt_ppm: 100_000,
        ..delay
    };
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: half,
    });
    for effect in ["lost", "sent twice", "corrupted", "sent without the delay"] {
        let shown = |proof: &splitbrain_core::Proof| proof.saw.contains(&format!("packets {effect}"));
        assert!(proofs.iter().all(shown), "{effect}: {proofs:?}");
    }
    let slow = Shape {
        rate: 20_000,
        ..Shape::default()
    };
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: slow,
    });
    assert!(
        proofs.iter().all(|proof| proof.saw.contains("bytes took")),
        "{proofs:?}"
    );
    let proofs = rig.done(Action::Shape {
        links,
        shape: Shape::default(),
    });
    let clean = "probe arrived, shape read back clean";
    assert!(proofs.iter().all(|proof| proof.saw == clean), "{proofs:?}");
    rig.hears(2, 1);
}

fn kill_is_proven_and_start_begins_a_new_life() {
    let mut rig = Rig::new(None);
    let both = vec![host(2), host(3)];
    let proofs = rig.done(Action::Kill {
        hosts: both.clone(),
        unsynced: Default::default(),
    });
    assert_eq!(proofs.len(), 2);
    for (proof, at) in proofs.iter().zip(["n2", "n3"]) {
        assert_eq!(proof.at, at);
        assert!(proof.saw.contains("ended by signal 9"), "{proof:?}");
    }
    let proofs = rig.done(Action::Kill {
        hosts: vec![host(2)],
        unsynced: Default::default(),
    });
    assert_eq!(proofs[0].saw, "already dead");
    assert_eq!(rig.done(Action::Resume { hosts: vec![host(2)] })[0].saw, "already dead");
    rig.submit(2, Op::Observe);
    let proofs = rig.done(Action::Start { hosts: both });
    assert!(proofs.iter().all(|proof| proof.saw.contains("started")), "{proofs:?}");
    for n in [2, 3] {
        rig.started(n, 2);
        rig.ready(n);
    }
    rig.hears(1, 2);
    rig.hears(2, 1);
    assert_eq!(
        rig.done(Action::Start { hosts: vec![host(2)] })[0].saw,
        "already running"
    );
    let exits = rig
        .seen
        .iter()
        .filter(|happening| matches!(happening, Happening::Exited { .. }));
    assert_eq!(exits.count(), 0, "what was killed did not exit: {:?}", rig.seen);
}

fn kill_finds_what_hides() {
    let mut rig = Rig::new(None);
    rig.ask(1, Op::Read);
    rig.ask(1, Op::Read);
    let paused = rig.done(Action::Pause { hosts: vec![host(1)] });
    assert!(
        paused[0].saw.contains("2 processes that it had started stopped too"),
        "{paused:?}"
    );
    let proofs = rig.done(Action::Kill {
        hosts: vec![host(1)],
        unsynced: Default::default(),
    });
    assert!(
        proofs[0].saw.contains("2 processes that it had started ended"),
        "{proofs:?}"
    );
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
}

fn pause_stops_and_resume_continues() {
    let mut rig = Rig::new(None);
    let hosts = vec![host(1), host(2)];
    let proofs = rig.done(Action::Pause { hosts: hosts.clone() });
    assert!(
        proofs.iter().all(|proof| proof.saw.contains("stopped by signal 19")),
        "{proofs:?}"
    );
    rig.done(Action::Pause { hosts: hosts.clone() });
    rig.done(Action::Resume { hosts: vec![host(2)] });
    let asked = rig.submit(1, Op::Observe);
    rig.deaf(3, 1, 2);
    let answered = |happening: &Happening| matches!(happening, Happening::Completed { id, .. } if *id == asked);
    assert!(!rig.seen.iter().any(answered));
    let proofs = rig.done(Action::Resume { hosts: hosts.clone() });
    assert!(proofs[0].saw.contains("continued by signal 18"), "{proofs:?}");
    assert!(proofs[1].saw.contains("was running already"), "{proofs:?}");
    rig.until("the answer after the pause", |happening| {
        answered(happening).then_some(())
    });
    rig.hears(3, 1);
    rig.done(Action::Resume { hosts: hosts.clone() });
    rig.done(Action::Pause { hosts: hosts.clone() });
    let proofs = rig.done(Action::Kill {
        hosts: hosts.clone(),
        unsynced: Default::default(),
    });
    assert!(proofs.iter().all(|proof| proof.saw.contains("signal 9")), "{proofs:?}");
    rig.done(Action::Start { hosts });
    rig.started(1, 2);
    rig.ready(1);
    rig.hears(3, 1);
}

fn a_full_pipe_holds_nobody_up() {
    let mut rig = Rig::new(None);
    rig.done(Action::Pause { hosts: vec![host(1)] });
    // 64 KiB of pipe hold about 2,000 requests.
    for _ in 0..20_000 {
        rig.submit(1, Op::Observe);
    }
    rig.ask(2, Op::Observe);
    rig.done(Action::Kill {
        hosts: vec![host(1)],
        unsynced: Default::default(),
    });
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
    rig.ready(1);
    rig.ask(1, Op::Observe);
}

fn garbage_is_reported_and_bounded() {
    let mut rig = Rig::new(None);
    rig.submit(1, Op::Campaign);
    let what = rig.until("garbage", |happening| match happening {
        Happening::Garbage { host: at, what } => (*at == host(1)).then(|| what.clone()),
        _ => None,
    });
    assert!(what.contains("all hail"), "{what}");
    rig.ask(
        1,
        Op::Cas {
            from: None,
            to: 10 << 20,
        },
    );
    let what = rig.until("a long line", |happening| match happening {
        Happening::Garbage { what, .. } => Some(what.clone()),
        _ => None,
    });
    assert!(
        what.starts_with("a line over the 65536 bytes allowed") && what.len() < 400,
        "{what}"
    );
    for _ in 0..50 {
        rig.submit(1, Op::Campaign);
    }
    rig.ask(1, Op::Observe);
    let garbage = rig
        .seen
        .iter()
        .filter(|happening| matches!(happening, Happening::Garbage { .. }));
    assert_eq!(garbage.count(), 8);
}

fn a_flood_is_not_everybodys() {
    let mut rig = Rig::new(None);
    // More than fits into mailbox and pipe, and fewer than a process may say in a second.
    rig.submit(1, Op::Set { value: 15_000 });
    rig.done(Action::Block {
        links: vec![link(2, 3)],
    });
    rig.ask(2, Op::Observe);
    // While nobody polls, the flood fills its share and its pipe. What it said must come before its next life all the
    // same: the wait gives a new life that does not care the time to begin too early.
    let hosts = vec![host(1)];
    rig.world.act(
        1_000_001,
        &Action::Kill {
            hosts: hosts.clone(),
            unsynced: Default::default(),
        },
    );
    rig.world.act(1_000_002, &Action::Start { hosts });
    std::thread::sleep(std::time::Duration::from_millis(300));
    rig.started(1, 2);
    rig.seen.clear();
    rig.ready(1);
    rig.ask(1, Op::Observe);
    let old = |happening: &&Happening| match happening {
        Happening::Said { what, .. } => matches!(what, Unasked::Applied { .. }),
        _ => false,
    };
    assert_eq!(rig.seen.iter().filter(old).count(), 0, "words of an old life");
}

fn an_end_of_its_own_is_told() {
    let mut rig = Rig::new(None);
    rig.submit(1, Op::Resign);
    let how = rig.exited(1);
    assert_eq!(how, "toy: exit status 3: toy is ready | cannot go on");
    rig.ask(2, Op::Observe);
    assert_eq!(
        rig.done(Action::Kill {
            hosts: vec![host(1)],
            unsynced: Default::default()
        })[0]
            .saw,
        "already dead"
    );
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
    rig.ready(1);
    // Only the words of the life that ended are told.
    rig.submit(1, Op::Resign);
    assert_eq!(rig.exited(1), "toy: exit status 3: toy is ready | cannot go on");
}

fn sabotage_is_noticed() {
    let mut rig = Rig::new(Some(Sabotage::BlockDoesNothing));
    let error = rig
        .act(Action::Block {
            links: vec![link(1, 2)],
        })
        .unwrap_err();
    assert!(
        error.contains("n1>n2: a probe arrived although the link is blocked"),
        "{error}"
    );
    let mut rig = Rig::new(Some(Sabotage::KillDoesNothing));
    let error = rig
        .act(Action::Kill {
            hosts: vec![host(1)],
            unsynced: Default::default(),
        })
        .unwrap_err();
    assert!(error.contains("still alive after SIGKILL: toy on n1"), "{error}");
    let mut rig = Rig::new(Some(Sabotage::PauseDoesNothing));
    let error = rig.act(Action::Pause { hosts: vec![host(1)] }).unwrap_err();
    assert!(error.contains("not stopped after SIGSTOP: toy on n1"), "{error}");
}

/// The switch says that it has the shape, and carries as if it had none.
fn a_shape_that_does_nothing_is_noticed() {
    let mut rig = Rig::new(Some(Sabotage::ShapeDoesNothing));
    let clean = Shape::default();
    let (ppm, delay) = (100_000, Nanos::millis(50));
    for (shape, want) in [
        (Shape { delay, ..clean }, "not delayed by"),
        (Shape { loss_ppm: ppm, ..clean }, "none was lost"),
        (
            Shape {
                corrupt_ppm: ppm,
                ..clean
            },
            "none was corrupted",
        ),
        (
            Shape {
                duplicate_ppm: ppm,
                ..clean
            },
            "none was sent twice",
        ),
        (Shape { rate: 8_000, ..clean }, "at 8000 B/s they take"),
        (
            Shape {
                delay,
                reorder_ppm: ppm,
                ..clean
            },
            "none was delayed, none was sent without the delay",
        ),
    ] {
        let links = vec![link(1, 2), link(2, 3)];
        let error = rig.act(Action::Shape { links, shape }).unwrap_err();
        assert!(error.contains("n1>n2: ") && error.contains(want), "{want}: {error}");
    }
    rig.done(Action::Shape {
        links: vec![link(1, 2)],
        shape: clean,
    });
}
