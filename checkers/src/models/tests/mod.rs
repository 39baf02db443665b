//! Judgements against the naive truth, over random histories of every model.
//!
//! `SPLITBRAIN_CASES` says how many histories of each model (the suite takes few), `SPLITBRAIN_SEED` which: without it
//! they are fresh each time, and the seed is printed.
mod brute;
mod generate;
mod holders;
mod objects;
mod samples;

use super::engines::By;
use super::{Kind, Options, Prepared, prepare};
use crate::linear::Engine;
use crate::tests::setting;
use generate::{Dice, Object, Size};
use splitbrain_core::Validity;
use splitbrain_core::formats::OpEvent;
use std::hash::BuildHasher;

#[derive(Default, Debug)]
struct Tally {
    cases: u64,
    valid: u64,
    invalid: u64,
    /// Parts that the linear algorithm decided, and that it did not.
    quick: u64,
    searched: u64,
    /// Times that an engine alone ran out of its budget.
    lost: u64,
}

fn seed() -> u64 {
    setting("SPLITBRAIN_SEED").unwrap_or_else(|| std::hash::RandomState::new().hash_one(0))
}

/// What the ways of judging differ in, if they do. `expected` is the naive truth, where it was asked.
fn difference(prepared: &Prepared, expected: Option<bool>, tally: &mut Tally) -> Option<String> {
    let mut parts = Vec::new();
    for part in 0..prepared.parts() {
        let judged = prepared.judge(part, Default::default(), &|| false);
        let quick = prepared.judge_by(part, By::Quick);
        match quick.validity {
            Validity::Unknown => tally.searched += 1,
            _ => tally.quick += 1,
        }
        let alone =
            [Engine::BreadthFirst, Engine::DepthFirst].map(|engine| prepared.judge_by(part, By::Engine(engine)));
        for other in alone.iter().chain([&quick]) {
            if other.validity != judged.validity && other.validity != Validity::Unknown {
                return Some(format!(
                    "{} says {:?}, {} {:?}",
                    other.by, other.validity, judged.by, judged.validity
                ));
            }
        }
        tally.lost += alone.iter().filter(|one| one.validity == Validity::Unknown).count() as u64;
        if !quick.culprits.is_empty() && prepared.fits(part, &quick.culprits) {
            return Some(format!("{} blames {:?}, which fit", quick.by, quick.culprits));
        }
        parts.push(judged);
    }
    let judged = prepared.merge(&parts);
    let nothing = parts.iter().all(|p| p.answered == 0);
    let right = match (nothing, expected?) {
        (true, true) => Validity::Unknown,
        (_, true) => Validity::Valid,
        (_, false) => Validity::Invalid,
    };
    (judged.validity != right).then(|| format!("the truth is {right:?}, {} says {:?}", judged.by, judged.validity))
}

/// Whether the calls that a linear algorithm blames fit some order when they are alone.
fn acquitted(kind: Kind, prepared: &Prepared, events: &[OpEvent], options: &Options) -> Option<String> {
    for part in 0..prepared.parts() {
        let judged = prepared.judge_by(part, By::Quick);
        if judged.culprits.is_empty() {
            continue;
        }
        let sources = judged.culprits.iter().map(|call| prepared.told(part, *call as usize).0);
        let lines: Vec<u32> = sources.flat_map(|source| [source.asked, source.answered]).collect();
        let blamed = (1u32..).zip(events).filter(|(line, _)| lines.contains(line));
        let alone = prepare(kind, blamed.map(|(_, event)| event.clone()), options).expect("part of a good history");
        let lone = |engine| alone.judge_by(0, By::Engine(engine)).validity == Validity::Valid;
        if alone.parts() == 0 || lone(Engine::BreadthFirst) || lone(Engine::DepthFirst) {
            return Some(format!(
                "the calls {:?} that {} blames fit an order",
                judged.culprits, judged.by
            ));
        }
    }
    None
}

/// Judges random histories in every way: of up to `most` operations, or small ones of which the naive truth is asked.
fn compare<O: Object>(kind: Kind, cases: u64, most: Option<usize>, make: impl Fn(&mut Dice) -> (O, Options)) {
    let seed = seed();
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    for case in 0..cases {
        let (fresh, options) = make(&mut dice);
        let brute = most.is_none();
        let operations = match most {
            None => 2 + dice.below(7),
            Some(most) => 1 + dice.below(most),
        };
        let size = Size {
            operations,
            clients: 1 + dice.below(if brute { 4 } else { 6 }),
            crashes: *dice.pick(&[0, 3, 6]),
        };
        let mut object = fresh.clone();
        let mut events = generate::valid(&mut object, &mut dice, size);
        let spoilt = !dice.one_in(4);
        for _ in 0..if spoilt { 1 + dice.below(3) } else { 0 } {
            generate::spoil(&mut object, &mut dice, &mut events);
        }
        let check = |events: &[OpEvent], tally: &mut Tally| {
            let expected = brute.then(|| brute::fits(&fresh, events));
            if expected == Some(false) && !spoilt {
                return Some("a valid history fits no order".to_string());
            }
            let prepared = prepare(kind, events.iter().cloned(), &options).expect("a well-formed history");
            tally.valid += u64::from(expected == Some(true));
            tally.invalid += u64::from(expected == Some(false));
            difference(&prepared, expected, tally).or_else(|| acquitted(kind, &prepared, events, &options))
        };
        if let Some(what) = check(&events, &mut tally) {
            let least = shrunk(events, |events| check(events, &mut Tally::default()).is_some());
            let least: Vec<String> = least.iter().map(shown).collect();
            panic!(
                "{} (seed {seed}, case {case}, {options:?}): {what}\n{}",
                kind.name(),
                least.join("\n")
            );
        }
        tally.cases += 1;
    }
    println!("{} seed {seed}: {tally:?}", kind.name());
}

fn shown(event: &OpEvent) -> String {
    let error = event.error.as_deref().unwrap_or("");
    format!(
        "{:?} {:?} {} {:?} {error}",
        event.process, event.kind, event.f, event.value
    )
}

/// Leaves out operations for as long as the history still differs.
fn shrunk(mut events: Vec<OpEvent>, differs: impl Fn(&[OpEvent]) -> bool) -> Vec<OpEvent> {
    let mut at = 0;
    while at < events.len() {
        let process = &events[at].process;
        let next = (at + 1..events.len()).find(|e| events[*e].process == *process);
        let ends = next.filter(|e| events[*e].kind != splitbrain_core::Kind::Invoke);
        let mut fewer = events.clone();
        if let Some(end) = ends {
            fewer.remove(end);
        }
        let begins = fewer.remove(at).kind == splitbrain_core::Kind::Invoke;
        if begins && differs(&fewer) {
            events = fewer;
            at = 0;
        } else {
            at += 1;
        }
    }
    events
}

/// A small share in the suite, more on request.
fn cases() -> u64 {
    setting("SPLITBRAIN_CASES").unwrap_or(2_000)
}

/// One `check` for all models: against the naive truth, and larger ones between the ways of judging.
fn check<O: Object>(kind: Kind, make: impl Fn(&mut Dice) -> (O, Options)) {
    check_up_to(40, kind, make);
}

/// The same for models whose larger histories take the engines too long.
fn check_up_to<O: Object>(most: usize, kind: Kind, make: impl Fn(&mut Dice) -> (O, Options)) {
    compare(kind, cases(), None, &make);
    compare(kind, cases() / 10, Some(most), &make);
}
