//! How fast the engines decide whether histories of a CAS register fit an order.
//!
//! Histories are made in memory (`common`): five values, clients that are busy two thirds of the time, and of each shape
//! several seeds. Invalid ones are valid ones in which one read was given another of the five values, the first such read
//! from the middle on that makes no order fit. Where calls crashed it is a value that nobody wrote: any other may be what
//! some crashed call wrote late, and to exclude that takes more than the budget in some histories.
//!
//! `SPLITBRAIN_SHAPE=NAME` measures one shape alone, once for each seed, with the most memory that the process ever took.
mod common;

use common::{Shape, recorded, with_a_wrong_read};
use criterion::{Criterion, criterion_group, criterion_main};
use splitbrain_checkers::linear::model::Call;
use splitbrain_checkers::linear::{Decision, Found, Limits, decide};
use splitbrain_checkers::models::register::{Register, RegisterOp};
use std::hint::black_box;
use std::time::Instant;

const VALUES: u32 = 5;
const SEEDS: u64 = 5;
/// How many reads are tried until a wrong one makes that no order fits.
const READS: usize = 1000;

/// A name, what is recorded, and whether one read is wrong.
const SHAPES: [(&str, Shape, bool); 8] = [
    ("10000-by-20", shape(10_000, 20, 0), false),
    ("10000-by-20-wrong", shape(10_000, 20, 0), true),
    ("1000-by-50", shape(1_000, 50, 0), false),
    ("100000-by-5", shape(100_000, 5, 0), false),
    ("1000000-by-10", shape(1_000_000, 10, 0), false),
    ("1000-by-20-crashes", shape(1_000, 20, 20), false),
    ("10000-by-10-crashes", shape(10_000, 10, 20), false),
    ("10000-by-10-crashes-wrong", shape(10_000, 10, 20), true),
];

const fn shape(operations: u32, clients: u32, crashed: u32) -> Shape {
    Shape {
        operations,
        clients,
        values: VALUES,
        crashed,
    }
}

fn judge(calls: &[Call<RegisterOp>]) -> Decision {
    decide(&Register, calls, &Limits::USUAL, false, &|| false)
}

fn fits(calls: &[Call<RegisterOp>]) -> bool {
    match judge(calls).found {
        Found::Order(_) => true,
        Found::None { .. } => false,
        Found::Unknown(why) => panic!("undecided: {why}"),
    }
}

fn history(shape: Shape, wrong: bool, seed: u64) -> Vec<Call<RegisterOp>> {
    let calls = recorded(shape, seed);
    if !wrong {
        return calls;
    }
    if shape.crashed > 0 {
        let mut spoilt = calls;
        with_a_wrong_read(&mut spoilt, 0, |_| VALUES + 1);
        return spoilt;
    }
    for nth in 0..READS {
        let mut spoilt = calls.clone();
        with_a_wrong_read(&mut spoilt, nth, |value| 1 + value % VALUES);
        if !fits(&spoilt) {
            return spoilt;
        }
    }
    panic!("whatever is read fits");
}

/// The most memory that this process ever took, in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux machine");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes: f64 = line
        .and_then(|l| l.split_whitespace().nth(1))
        .expect("a number")
        .parse()
        .expect("a number");
    kilobytes / 1024.0
}

fn figures() {
    let only = std::env::var("SPLITBRAIN_SHAPE").ok();
    for (name, shape, wrong) in SHAPES {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let mut worst: f64 = 0.0;
        let mut steps = 0;
        for seed in 0..if only.is_some() { 1 } else { SEEDS } {
            let calls = history(shape, wrong, seed);
            let rounds = if only.is_some() { 1 } else { 5 };
            let once = || {
                let begin = Instant::now();
                let decision = black_box(judge(&calls));
                assert_eq!(matches!(decision.found, Found::Order(_)), !wrong);
                (begin.elapsed().as_secs_f64() * 1e3, decision.steps)
            };
            let best = (0..rounds)
                .map(|_| once())
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .expect("at least one");
            worst = worst.max(best.0);
            steps = steps.max(best.1);
        }
        println!("figure {name} {worst:.2} ms");
        println!("figure {name}-steps {steps} steps");
        if only.is_some() {
            println!("figure {name}-peak {:.1} MB", peak());
        }
    }
}

fn engines(criterion: &mut Criterion) {
    figures();
    if std::env::var_os("SPLITBRAIN_SHAPE").is_some() {
        return;
    }
    let mut group = criterion.benchmark_group("engines");
    group.sample_size(10);
    for (name, shape, wrong) in SHAPES {
        let calls = history(shape, wrong, 0);
        group.bench_function(name, |b| b.iter(|| black_box(judge(&calls))));
    }
    group.finish();
}

criterion_group!(benches, engines);
criterion_main!(benches);
