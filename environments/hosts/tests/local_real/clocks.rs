//! Clock faults of local hosts, seen by the toys themselves.
use crate::Case;
use crate::rig::{Rig, config, host, toys};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Action, Answer, Clocks, Offset, Op, Skew};
use splitbrain_environments::Sabotage;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalConfig, LocalSite};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub const ALL: &[Case] = &[
    (
        "a_skew_moves_one_host_and_is_undone",
        a_skew_moves_one_host_and_is_undone,
    ),
    (
        "what_starts_later_reads_the_same_clock",
        what_starts_later_reads_the_same_clock,
    ),
    (
        "a_skew_that_does_nothing_is_noticed",
        a_skew_that_does_nothing_is_noticed,
    ),
    ("this_machines_clock_is_not_touched", this_machines_clock_is_not_touched),
];

const HOUR: i64 = 3_600_000;

fn skewed(n: usize, clocks: Clocks, ms: i64) -> Action {
    let skew = Skew {
        clocks,
        offset: Offset(ms * 1_000_000),
        ..Skew::default()
    };
    Action::Clock {
        hosts: vec![host(n)],
        skew,
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("not so late")
}

/// Asserts that a toy's time of day is off by so many milliseconds.
fn off_by(rig: &mut Rig, n: usize, ms: i64) {
    let before = now();
    let answer = rig.ask(n, Op::Get);
    let after = now();
    let Answer::Value(Some(read)) = answer else {
        panic!("not a time: {answer:?}");
    };
    let read = read as i64 - ms;
    assert!(
        (before..=after).contains(&read),
        "{} reads {}",
        host(n),
        read - before + ms
    );
}

fn a_skew_moves_one_host_and_is_undone() {
    let mut rig = Rig::new(None);
    for ms in [HOUR, -HOUR] {
        let proofs = rig.done(skewed(1, Clocks::Realtime, ms));
        assert_eq!(proofs.len(), 1, "{proofs:?}");
        let sign = if ms < 0 { '-' } else { '+' };
        let saw = &proofs[0].saw;
        assert!(
            saw.contains(&format!("realtime reads {sign}1h, monotonic true, stopped ")),
            "{saw}"
        );
        assert!(saw.starts_with("toy (pid ") && proofs[0].at == "n1", "{proofs:?}");
        off_by(&mut rig, 1, ms);
        off_by(&mut rig, 2, 0);
    }
    let proofs = rig.done(skewed(1, Clocks::Monotonic, HOUR));
    assert!(
        proofs[0].saw.contains("realtime true, monotonic reads +1h"),
        "{proofs:?}"
    );
    off_by(&mut rig, 1, 0);
    let hosts = vec![host(1), host(2)];
    let proofs = rig.done(Action::Clock {
        hosts,
        skew: Skew::default(),
    });
    let saw: Vec<_> = proofs
        .iter()
        .map(|proof| (proof.at.as_str(), proof.saw.contains("its vDSO is as it was")))
        .collect();
    assert_eq!(saw, [("n1", true), ("n2", false)], "{proofs:?}");
    off_by(&mut rig, 1, 0);
}

fn what_starts_later_reads_the_same_clock() {
    let mut rig = Rig::new(None);
    rig.done(skewed(2, Clocks::Realtime, HOUR));
    rig.done(Action::Kill {
        hosts: vec![host(2)],
        unsynced: Default::default(),
    });
    rig.done(Action::Start { hosts: vec![host(2)] });
    rig.started(2, 2);
    rig.ready(2);
    off_by(&mut rig, 2, HOUR);
    // Nothing runs there when the clocks are made true: what starts then reads true time.
    rig.done(Action::Kill {
        hosts: vec![host(2)],
        unsynced: Default::default(),
    });
    let hosts = vec![host(2)];
    rig.done(Action::Clock {
        hosts: hosts.clone(),
        skew: Skew::default(),
    });
    rig.done(Action::Start { hosts });
    rig.started(2, 3);
    rig.ready(2);
    off_by(&mut rig, 2, 0);
    // And the other way round.
    rig.done(Action::Kill {
        hosts: vec![host(3)],
        unsynced: Default::default(),
    });
    let proofs = rig.done(skewed(3, Clocks::Both, -HOUR));
    assert!(proofs[0].saw.contains("no process runs"), "{proofs:?}");
    rig.done(Action::Start { hosts: vec![host(3)] });
    rig.started(3, 2);
    rig.ready(3);
    off_by(&mut rig, 3, -HOUR);
    // A paused host can be skewed too, and stays paused.
    rig.done(Action::Pause { hosts: vec![host(1)] });
    rig.done(skewed(1, Clocks::Realtime, HOUR));
    let proofs = rig.done(Action::Pause { hosts: vec![host(1)] });
    assert!(proofs[0].saw.contains("was stopped already"), "{proofs:?}");
    rig.done(Action::Resume { hosts: vec![host(1)] });
    off_by(&mut rig, 1, HOUR);
}

fn a_skew_that_does_nothing_is_noticed() {
    let mut rig = Rig::new(Some(Sabotage::ClockDoesNothing));
    let why = rig.act(skewed(1, Clocks::Both, HOUR)).unwrap_err();
    assert!(
        why.contains("n1: toy: realtime of pid ") && why.contains("reads true, and ought to read +1h"),
        "{why}"
    );
    let why = rig
        .act(Action::Clock {
            hosts: vec![host(2)],
            skew: Skew {
                clocks: Clocks::Monotonic,
                rate_ppm: 2_000_000,
                ..Skew::default()
            },
        })
        .unwrap_err();
    assert!(why.contains("n2: toy: monotonic of pid "), "{why}");
    off_by(&mut rig, 1, 0);
}

fn this_machines_clock_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let config = LocalConfig {
        clock: ClockOf::Host,
        ..config(dir.path(), 3)
    };
    let site = LocalSite::create(config).expect("make the hosts");
    let processes = toys(&site);
    let mut rig = Rig::of(
        LiveWorld::start(Arc::new(site), processes).expect("start the toys"),
        dir,
    );
    let why = rig.act(skewed(1, Clocks::Realtime, HOUR)).unwrap_err();
    assert!(
        why.contains("share this machine's clock") && why.contains("use clock = \"process\""),
        "{why}"
    );
    off_by(&mut rig, 1, 0);
}
