//! No false alarms over any history of a sound system, and no mutated history that passes.
use super::model::{Chance, Model, Sort};
use super::{header, judge, well_formed};
use proptest::prelude::*;
use splitbrain_core::plan::Storage;
use splitbrain_core::{Body, Epoch, Event, Guarantee, Header, Holds, Kind, Name, Role, Token, Validity, Verdict};
use std::collections::BTreeMap;

const STEPS: u64 = 1500;
/// These must be certain of a whole history; the others may have seen too little of what they judge.
const CERTAIN: [&str; 6] = [
    "coverage",
    "leader-per-epoch",
    "epochs-per-observer",
    "recovery",
    "final-agreement",
    "token-per-reign",
];

/// A history of `steps` steps, with the header that promises what the model keeps.
fn history(sort: Sort, storage: Storage, seed: u64, steps: u64) -> (Header, Vec<Event>) {
    let mut promised = header();
    promised.plan.storage = storage;
    let unpromised: &[Guarantee] = match sort {
        Sort::Raft => &[
            Guarantee::Exclusion,
            Guarantee::EpochsInRealTime,
            Guarantee::TokensInRealTime,
        ],
        Sort::Lease => &[],
    };
    for promise in &mut promised.promises {
        let damage = storage == Storage::Unfenced && promise.guarantee == Guarantee::NoDamage;
        if unpromised.contains(&promise.guarantee) || damage {
            promise.holds = Holds::Never;
        }
    }
    let mut model = Model::new(sort, storage == Storage::Fenced, seed);
    let events = model.run(steps);
    (promised, events)
}

fn sorts() -> impl Strategy<Value = (Sort, Storage)> {
    (
        prop_oneof![Just(Sort::Raft), Just(Sort::Lease)],
        prop_oneof![Just(Storage::Fenced), Just(Storage::Unfenced)],
    )
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

fn of<'a>(verdicts: &'a [Verdict], checker: &str) -> &'a Verdict {
    verdicts.iter().find(|v| v.checker == checker).unwrap()
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_sound_system_is_never_condemned((sort, storage) in sorts(), seed: u64) {
        let (header, events) = history(sort, storage, seed, STEPS);
        let verdicts = judge(&header, &events);
        for v in &verdicts {
            well_formed(v, &events);
            prop_assert!(v.validity != Validity::Invalid, "{v:#?}");
            prop_assert!(v.validity == Validity::Valid || !CERTAIN.contains(&&v.checker[..]), "{v:#?}");
        }
    }

    #[test]
    fn a_history_that_is_cut_anywhere_is_never_condemned((sort, storage) in sorts(), seed: u64, cut: prop::sample::Index) {
        let (header, events) = history(sort, storage, seed, STEPS);
        let verdicts = judge(&header, &events[..cut.index(events.len())]);
        prop_assert_eq!(of(&verdicts, "coverage").validity, Validity::Unknown);
        for v in &verdicts {
            prop_assert!(v.validity != Validity::Invalid, "{v:#?}");
        }
    }
}

#[test]
fn the_model_is_hostile_enough_to_mean_something() {
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    let figures = [
        ("exclusion", "split brains"),
        ("no-damage", "stale writes refused"),
        ("recovery", "failovers"),
        ("coverage", "kill faults"),
    ];
    for seed in 0..20 {
        let (header, events) = history(Sort::Raft, Storage::Fenced, seed, STEPS);
        let verdicts = judge(&header, &events);
        for (checker, name) in figures {
            let figure = of(&verdicts, checker).figures.iter().find(|f| f.name == name);
            *seen.entry(name).or_default() += figure.map_or(0.0, |f| f.value);
        }
    }
    assert!(figures.iter().all(|(_, name)| seen[name] >= 20.0), "{seen:?}");
    let lost = (0..20).map(|seed| {
        let (header, events) = history(Sort::Raft, Storage::Unfenced, seed, STEPS);
        let verdicts = judge(&header, &events);
        of(&verdicts, "no-damage")
            .figures
            .iter()
            .find(|f| f.name == "lost updates")
            .map_or(0.0, |f| f.value)
    });
    assert!(lost.sum::<f64>() >= 20.0, "without fencing, updates are lost");
}

/// One of the events that `pick` accepts, changed by `change`.
fn mutate(
    events: &[Event],
    chance: &mut Chance,
    pick: impl Fn(&Event) -> bool,
    change: impl FnOnce(&mut Event),
) -> Option<Vec<Event>> {
    let fit: Vec<usize> = (0..events.len()).filter(|i| pick(&events[*i])).collect();
    let at = *fit.get(chance.below(fit.len() as u64) as usize)?;
    let mut events = events.to_vec();
    change(&mut events[at]);
    Some(events)
}

type Mutation = fn(&[Event], &mut Chance) -> Option<Vec<Event>>;

fn is_elected(event: &Event) -> bool {
    matches!(event.body, Body::Elected { .. })
}

/// An election of one host is told with the epoch of another host's.
fn duplicate_an_epoch(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let Body::Elected { host: h, epoch: e, .. } = events.iter().find(|e| is_elected(e))?.body else {
        return None;
    };
    let other = |event: &Event| is_elected(event) && event.body.host() != Some(h);
    mutate(events, chance, other, |event| {
        if let Body::Elected { epoch, .. } = &mut event.body {
            *epoch = e;
        }
    })
}

/// An answer of a leader is told of another host.
fn swap_a_host(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let mut elected: BTreeMap<Epoch, Name> = BTreeMap::new();
    for event in events {
        if let Body::Elected { host, epoch, .. } = event.body {
            elected.insert(epoch, host);
        }
    }
    let at = chance.below(elected.len() as u64) as usize;
    let (epoch, leader) = elected.into_iter().nth(at)?;
    let other = |event: &Event| is_elected(event) && event.body.host() != Some(leader);
    let mut events = mutate(events, chance, other, |_| ())?;
    let copy = events
        .iter()
        .find(|e| matches!(e.body, Body::Elected { epoch: e, .. } if e == epoch))?;
    let mut copy = copy.clone();
    if let Body::Elected { host, .. } = &mut copy.body {
        *host = if host.as_str() == "n1" {
            super::name("n2")
        } else {
            super::name("n1")
        };
    }
    let at = copy.index as usize + 1;
    events.insert(at, copy);
    (0..).zip(&mut events).for_each(|(index, event)| event.index = index);
    Some(events)
}

/// The last leader's last answer has a lower epoch than the line with which it was elected.
fn lower_an_epoch(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let leads = |e: &Event| matches!(e.body, Body::Observe { answer: Some(s), .. } if s.role == Role::Leader);
    let last = events.iter().rposition(leads)? as u64;
    mutate(
        events,
        chance,
        |e| e.index == last,
        |event| {
            if let Body::Observe {
                answer: Some(answer), ..
            } = &mut event.body
            {
                answer.epoch = Some(Epoch(0));
            }
        },
    )
}

/// A member's entry, applied by another as well, has another digest.
fn change_a_digest(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for event in events {
        if let Body::Applied { index, .. } = event.body {
            *times.entry(index).or_default() += 1;
        }
    }
    let shared = |e: &Event| matches!(e.body, Body::Applied { index, .. } if times[&index] > 1);
    mutate(events, chance, shared, |event| {
        if let Body::Applied { digest, .. } = &mut event.body {
            *digest += 1;
        }
    })
}

/// The fenced storage takes a token lower than its first.
fn lower_a_token(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let later = |e: &Event| matches!(e.body, Body::Stored { seq, .. } if seq > 1);
    mutate(events, chance, later, |event| {
        if let Body::Stored { token, .. } = &mut event.body {
            *token = Token(1);
        }
    })
}

/// A write that is stored is said to have failed.
fn deny_a_write(events: &[Event], chance: &mut Chance) -> Option<Vec<Event>> {
    let ok = |e: &Event| e.kind == Kind::Ok && matches!(e.body, Body::Write { .. });
    mutate(events, chance, ok, |event| event.kind = Kind::Fail)
}

/// A host claims the last leader's place, and holds it throughout the last look.
fn second_believer(events: &[Event], _: &mut Chance) -> Option<Vec<Event>> {
    let mut events = events.to_vec();
    let leads = |e: &Event| matches!(e.body, Body::Observe { answer: Some(s), .. } if s.role == Role::Leader);
    let leader = events.iter().rfind(|e| leads(e))?.body.host()?;
    let last = events.iter().rposition(|e| leads(e) && e.body.host() == Some(leader))?;
    let first = events
        .iter()
        .rposition(|e| is_elected(e) && e.body.host() == Some(leader))?;
    let usurper = if leader.as_str() == "n1" { "n2" } else { "n1" };
    let asked = events[..last].iter().rposition(|e| e.process == events[last].process)?;
    // The leader's evidence once more, told of another host by other clients.
    let mut copies: Vec<(usize, Event)> = [first, asked, last].map(|i| (i, events[i].clone())).to_vec();
    for (_, copy) in &mut copies {
        match &mut copy.body {
            Body::Elected { host, epoch, .. } => (*host, epoch.0) = (super::name(usurper), epoch.0 + 1),
            Body::Observe { host, answer } => {
                *host = super::name(usurper);
                copy.process = splitbrain_core::Process::Client(1_000_000);
                if let Some(epoch) = answer.as_mut().and_then(|a| a.epoch.as_mut()) {
                    epoch.0 += 1;
                }
            }
            _ => {}
        }
    }
    copies
        .into_iter()
        .rev()
        .for_each(|(i, copy)| events.insert(i + 1, copy));
    (0..).zip(&mut events).for_each(|(index, event)| event.index = index);
    Some(events)
}

fn check(mutation: Mutation, sort: Sort, checker: &str) {
    let caught = |seed: u64| -> Option<(Header, Vec<Event>)> {
        let (header, events) = history(sort, Storage::Fenced, seed, STEPS);
        Some((header, mutation(&events, &mut Chance(seed))?))
    };
    let mutated: Vec<_> = (0..60).filter_map(|seed| Some((seed, caught(seed)?))).collect();
    assert!(
        mutated.len() >= 30,
        "the mutation fits only {} histories",
        mutated.len()
    );
    for (seed, (header, events)) in mutated {
        let verdicts = judge(&header, &events);
        verdicts.iter().for_each(|v| well_formed(v, &events));
        let verdict = of(&verdicts, checker);
        assert_eq!(verdict.validity, Validity::Invalid, "seed {seed}: {verdict:#?}");
    }
}

#[test]
fn mutated_histories_are_caught() {
    check(duplicate_an_epoch, Sort::Raft, "leader-per-epoch");
    check(swap_a_host, Sort::Raft, "leader-per-epoch");
    check(swap_a_host, Sort::Raft, "token-per-reign");
    check(lower_an_epoch, Sort::Raft, "epochs-per-observer");
    check(change_a_digest, Sort::Raft, "applied-agreement");
    check(lower_a_token, Sort::Raft, "storage-order");
    check(lower_a_token, Sort::Raft, "no-damage");
    check(deny_a_write, Sort::Raft, "storage-order");
    check(second_believer, Sort::Lease, "exclusion");
}

/// Prints how long a million events take: `cargo test --release -p splitbrain-checkers -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement needs a clock"
)]
fn a_million_events() {
    let (header, events) = history(Sort::Raft, Storage::Fenced, 7, 1_000_000);
    let began = std::time::Instant::now();
    let verdicts = judge(&header, &events);
    println!("{} events judged in {:?}", events.len(), began.elapsed());
    for mut checker in crate::all(&header) {
        let began = std::time::Instant::now();
        events.iter().for_each(|event| checker.event(event));
        println!("{:?} for {}", began.elapsed(), checker.finish().checker);
    }
    verdicts
        .iter()
        .for_each(|v| println!("{} {:?} {}", v.checker, v.validity, v.summary));
}
