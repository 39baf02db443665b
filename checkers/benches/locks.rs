//! Locks of 200,000 events: ten clients contend, one operation in a hundred crashes. What is measured is the judging of
//! calls that were read before, on one core.
use criterion::Criterion;
use splitbrain_checkers::models::{Kind, Options, Prepared, prepare};
use splitbrain_core::formats::{OpEvent, Speaker, Value};
use splitbrain_core::{Kind as Phase, Validity};
use std::hint::black_box;
use std::time::Instant;

const EVENTS: usize = 200_000;
const RUNS: usize = 20;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Nothing,
    Waits,
    Got(i64),
    Holds,
    Frees,
    Freed,
}

/// A valid history.
fn history() -> Vec<OpEvent> {
    let mut dice = Dice(0x5eed_5eed_5eed_5eed);
    let mut clients: Vec<(i64, Does)> = (0..10).map(|process| (process, Does::Nothing)).collect();
    let (mut fresh, mut free, mut token) = (10, true, 0);
    let mut events = Vec::with_capacity(EVENTS);
    while events.len() < EVENTS {
        let client = &mut clients[dice.below(10) as usize];
        let mut say = |kind, f: &str, value| {
            events.push(OpEvent {
                line: 0,
                time: None,
                process: Speaker::Client(client.0),
                kind,
                f: f.into(),
                key: None,
                value,
                error: None,
            });
        };
        client.1 = match client.1 {
            Does::Nothing => {
                say(Phase::Invoke, "acquire", Value::Nil);
                Does::Waits
            }
            Does::Waits if free => {
                (free, token) = (false, token + 1);
                Does::Got(token)
            }
            Does::Waits if dice.below(400) == 0 => {
                say(Phase::Info, "acquire", Value::Nil);
                (client.0, fresh) = (fresh, fresh + 1);
                Does::Nothing
            }
            Does::Waits => Does::Waits,
            Does::Got(token) => {
                say(Phase::Ok, "acquire", Value::Int(token));
                Does::Holds
            }
            Does::Holds => {
                say(Phase::Invoke, "release", Value::Nil);
                Does::Frees
            }
            Does::Frees => {
                free = true;
                Does::Freed
            }
            Does::Freed if dice.below(100) == 0 => {
                say(Phase::Info, "release", Value::Nil);
                (client.0, fresh) = (fresh, fresh + 1);
                Does::Nothing
            }
            Does::Freed => {
                say(Phase::Ok, "release", Value::Nil);
                Does::Nothing
            }
        };
    }
    events
}

fn judge(prepared: &Prepared) -> Validity {
    let judged = prepared.judge(0, Default::default(), &|| false);
    assert!(
        !judged.by.contains("first") || judged.by.contains("urgent"),
        "an engine decided: {}",
        judged.by
    );
    judged.validity
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let events = history();
    for kind in [
        Kind::Mutex,
        Kind::OwnerMutex,
        Kind::ReentrantMutex,
        Kind::FencedMutex,
        Kind::ReentrantFencedMutex,
    ] {
        let good = prepare(kind, events.iter().cloned(), &Options::default()).expect("well-formed");
        let mut bad = events.clone();
        // The last release never happened, and yet others acquired the lock after it.
        let last = (0..bad.len() - 100)
            .rev()
            .find(|n| bad[*n].kind == Phase::Ok && &*bad[*n].f == "release");
        bad[last.expect("there are releases")].kind = Phase::Fail;
        let bad = prepare(kind, bad, &Options::default()).expect("well-formed");
        for (word, prepared, expected) in [("valid", &good, Validity::Valid), ("invalid", &bad, Validity::Invalid)] {
            let name = format!("{}-{word}", kind.name());
            assert_eq!(judge(prepared), expected, "{name}");
            let run = || {
                let start = Instant::now();
                black_box(judge(black_box(prepared)));
                start.elapsed()
            };
            let best = (0..RUNS).map(|_| run()).min().expect("there are runs");
            println!("figure {name}-200k-events {:.3} ms", best.as_secs_f64() * 1e3);
            criterion.bench_function(&name, |b| b.iter(|| judge(black_box(prepared))));
        }
    }
    criterion.final_summary();
}
