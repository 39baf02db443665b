//! What checkers would say of the synthetic run.
use super::{host, ms};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::verdict::Figure;
use splitbrain_core::{Anomaly, Body, Event, Guarantee, Holds, Kind, Nanos, Promise, Role, Severity, Token, Verdict};

pub fn promises() -> Vec<Promise> {
    let promise = |guarantee, holds, within, source: &str| Promise {
        guarantee,
        holds,
        within,
        source: source.into(),
    };
    vec![
        promise(
            Guarantee::LeaderPerEpoch,
            Holds::Always,
            None,
            "Election Safety: at most one leader can be elected in a given term (Raft paper, figure 3).",
        ),
        promise(
            Guarantee::EpochsPerObserver,
            Holds::Always,
            None,
            "A server's term only ever rises, and is on disk before it is used (Raft paper, 5.1).",
        ),
        promise(
            Guarantee::AppliedAgreement,
            Holds::Always,
            None,
            "State Machine Safety (Raft paper, figure 3).",
        ),
        promise(
            Guarantee::NoDamage,
            Holds::Always,
            None,
            "Writes carry the term as their token, and the deployment says that the storage compares it.",
        ),
        promise(
            Guarantee::Exclusion,
            Holds::Never,
            None,
            "A deposed leader may believe for up to an election timeout that it leads (Raft thesis, 6.2).",
        ),
        promise(
            Guarantee::Recovery,
            Holds::Unless(vec![FaultKind::Packet]),
            Some(Nanos::secs(10)),
            "With a majority up and connected, an election takes a few timeouts (Raft paper, 9.3).",
        ),
        promise(
            Guarantee::FinalAgreement,
            Holds::Always,
            None,
            "Heartbeats tell everyone the leader and its term.",
        ),
    ]
}

fn find(events: &[Event], what: impl Fn(&Event) -> bool) -> &Event {
    events.iter().find(|e| what(e)).expect("the script has it")
}

fn exclusion(events: &[Event]) -> Anomaly {
    let elected = |n, e: &Event| matches!(e.body, Body::Elected { host: h, .. } if h == host(n));
    let old = find(events, |e| elected(2, e));
    let new = find(events, |e| elected(4, e));
    let still = find(events, |e| {
        e.time > new.time + ms(300)
            && matches!(&e.body, Body::Observe { host: h, answer: Some(s) } if *h == host(2) && s.role == Role::Leader)
    });
    let asked = events[..still.index as usize]
        .iter()
        .rev()
        .find(|e| e.process == still.process)
        .unwrap();
    Anomaly {
        severity: Severity::Hazard,
        guarantee: Guarantee::Exclusion,
        title: "n2 (epoch 1) and n4 (epoch 2) both believed that they led for at least 0.3 s".into(),
        story: vec![
            format!("n2 was elected in epoch 1 (#{}).", old.index),
            format!(
                "Cut off from its peers, n2 did not hear that n4 was elected in epoch 2 (#{}).",
                new.index
            ),
            format!(
                "n2, asked at #{}, answered that it still leads in epoch 1, reign 1 (#{}): both beliefs are definite.",
                asked.index, still.index
            ),
        ],
        evidence: vec![old.index, new.index, asked.index, still.index],
        hosts: vec![host(2), host(4)],
        from: ms(4_700),
        to: ms(7_100),
    }
}

fn damage(events: &[Event], old: u64, hosts: [usize; 2], after: Nanos, why: &str) -> Anomaly {
    let stored = |token, from: Nanos, e: &Event| {
        e.time >= from && matches!(e.body, Body::Stored { token: t, .. } if t == Token(token))
    };
    let last_old = find(events, |e| stored(old, after, e));
    let new = events[..last_old.index as usize]
        .iter()
        .rev()
        .find(|e| stored(old + 1, Nanos::ZERO, e))
        .unwrap();
    let elected = find(
        events,
        |e| matches!(e.body, Body::Elected { epoch, .. } if epoch.0 == old + 1),
    );
    let answer = events[last_old.index as usize..]
        .iter()
        .find(|e| e.kind == Kind::Ok && matches!(e.body, Body::Write { host: h, .. } if h == host(hosts[0])));
    let mut evidence = vec![elected.index, new.index, last_old.index];
    evidence.extend(answer.map(|e| e.index));
    Anomaly {
        severity: Severity::Violation,
        guarantee: Guarantee::NoDamage,
        title: format!(
            "n{} wrote under token {old} after n{} had written under token {}",
            hosts[0],
            hosts[1],
            old + 1
        ),
        story: vec![
            format!(
                "n{} was elected in epoch {} (#{}) and its writes were accepted (#{}).",
                hosts[1],
                old + 1,
                elected.index,
                new.index
            ),
            why.to_string(),
            format!(
                "The storage compares no tokens and accepted the write under token {old} (#{}): it overwrote what the new leader had written.",
                last_old.index
            ),
            "A fenced storage would have refused it as stale-token.".into(),
        ],
        evidence,
        hosts: vec![host(hosts[0]), host(hosts[1])],
        from: elected.time,
        to: last_old.time,
    }
}

pub fn of(events: &[Event]) -> Vec<Verdict> {
    let figure = |name: &str, value, unit: &str| Figure {
        name: name.into(),
        value,
        unit: unit.into(),
    };
    let woken = "n4 had been paused in epoch 2 and woke up believing that it still led.";
    let cut = "n2 was cut off from its peers but still reached the storage.";
    let harm = vec![
        damage(events, 1, [2, 4], ms(6_200), cut),
        damage(events, 2, [4, 1], ms(15_500), woken),
    ];
    let mut liveness = Verdict::new(
        "recovery",
        "a leader emerged 0 s after the healing, within the promised 10 s".into(),
        vec![],
    );
    liveness.figures = vec![
        figure("recovery", 0.0, "s"),
        figure("leaderless", 4.2, "%"),
        figure("failover p50", 1.1, "s"),
        figure("failover max", 1.6, "s"),
    ];
    let mut coverage = Verdict::new(
        "coverage",
        "8 elections and 7 faults that acted are enough to judge".into(),
        vec![],
    );
    coverage.figures = vec![figure("elections", 8.0, ""), figure("faults that acted", 7.0, "")];
    vec![
        Verdict::new("leader-per-epoch", "8 epochs had one leader each".into(), vec![]),
        Verdict::new(
            "epochs-per-observer",
            "no epoch fell in 6 lives of 5 members".into(),
            vec![],
        ),
        Verdict::new(
            "exclusion",
            "of 8 reigns 4 pairs definitely overlapped".into(),
            vec![exclusion(events)],
        ),
        Verdict::new(
            "no-damage",
            "22 of 918 accepted writes came under a token lower than an earlier one".into(),
            harm,
        ),
        Verdict::unknown("applied-agreement", "no member told what it applied".into()),
        liveness,
        Verdict::new("final-agreement", "all 5 members named n1 in epoch 9".into(), vec![]),
        coverage,
    ]
}
