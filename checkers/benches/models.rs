//! How fast the linear algorithms of the models judge.
//!
//! Histories are made in memory as calls, in the order of their beginnings; an event is a beginning or an end. Each
//! operation takes effect somewhere between the two, and the history is valid: nothing is found early.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use splitbrain_checkers::linear::model::{Call, NEVER};
use splitbrain_checkers::models::counter::{CounterOp, CounterReading};
use splitbrain_checkers::models::register::{RegisterOp, RegisterReading};
use splitbrain_checkers::models::set::{SetOp, SetReading};
use splitbrain_checkers::models::{Ending, FailedCas, Reading};
use splitbrain_core::formats::Value;
use std::hint::black_box;
use std::time::Instant;

/// Random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// `clients` take turns at random: each begins, takes effect, ends. `serve` is what happens at the instant of effect.
fn calls<O>(operations: usize, clients: usize, mut serve: impl FnMut(&mut Dice) -> O) -> Vec<Call<O>> {
    let mut dice = Dice(0x5eed);
    let mut calls: Vec<Call<Option<O>>> = Vec::with_capacity(operations);
    let mut open: Vec<Option<usize>> = vec![None; clients];
    let mut place = 0;
    let mut busy = 0;
    while calls.len() < operations || busy > 0 {
        let client = dice.below(clients as u64) as usize;
        match open[client] {
            None if calls.len() < operations => {
                open[client] = Some(calls.len());
                let (op, begin, end) = (None, place, NEVER);
                calls.push(Call { op, begin, end });
                place += 1;
                busy += 1;
            }
            None => {}
            Some(call) if calls[call].op.is_none() => calls[call].op = Some(serve(&mut dice)),
            Some(call) => {
                calls[call].end = place;
                place += 1;
                busy -= 1;
                open[client] = None;
            }
        }
    }
    let whole = |call: Call<Option<O>>| Call {
        op: call.op.expect("every operation took effect"),
        begin: call.begin,
        end: call.end,
    };
    calls.into_iter().map(whole).collect()
}

/// The best of many runs, since others load the machine: `figure <name> <value> <unit>`.
fn figure(name: &str, events: usize, mut run: impl FnMut()) {
    let best = (0..30).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    let best = best.min().expect("there are runs");
    println!(
        "figure {name} {:.1} Mevents/s",
        events as f64 / best.as_secs_f64() / 1e6
    );
}

fn registers(criterion: &mut Criterion) {
    let reading = RegisterReading::new(FailedCas::Observe);
    let mut group = criterion.benchmark_group("register");
    group.sample_size(10);
    for operations in [500_000, 5_000_000] {
        let mut holds = 0;
        let writes = calls(operations, 10, |dice| match dice.below(2) {
            0 => RegisterOp::Read(holds),
            _ => {
                holds += 1;
                RegisterOp::Set(holds)
            }
        });
        group.throughput(Throughput::Elements(2 * operations as u64));
        let mut bench = |name: &str, calls: &[Call<RegisterOp>]| {
            let run = || assert_eq!(reading.quick(black_box(calls)).map(|q| q.culprits.len()), Some(0));
            figure(&format!("{name}-{}", 2 * operations), 2 * operations, run);
            group.bench_function(BenchmarkId::new(name, 2 * operations), |b| b.iter(run));
        };
        bench("zones", &writes);
        let mut holds = 0;
        let chain = calls(operations, 10, |_| {
            holds += 1;
            RegisterOp::Cas {
                from: holds - 1,
                to: holds,
            }
        });
        bench("cas-chain", &chain);
        let mut holds = 0;
        let mixed = calls(operations, 10, |dice| match dice.below(4) {
            0 | 1 => RegisterOp::Read(holds),
            2 => RegisterOp::Differs(holds.checked_sub(40 + dice.below(20) as u32).unwrap_or(holds + 60)),
            n => {
                let from = holds;
                holds += 1;
                match n + dice.below(4) {
                    3 => RegisterOp::Set(holds),
                    _ => RegisterOp::Cas { from, to: holds },
                }
            }
        });
        bench("mixed", &mixed);
    }
    group.finish();
}

fn counters(criterion: &mut Criterion) {
    let mut sum = 0;
    let operations = 500_000;
    let calls = calls(operations, 10, |dice| match dice.below(2) {
        0 => CounterOp::Read(sum),
        _ => {
            sum += 1;
            CounterOp::Add(1)
        }
    });
    let run = || {
        assert_eq!(
            CounterReading.quick(black_box(&calls)).map(|q| q.culprits.len()),
            Some(0)
        )
    };
    figure("counts-1000000", 2 * operations, run);
    let mut group = criterion.benchmark_group("counter");
    group.sample_size(10);
    group.throughput(Throughput::Elements(2 * operations as u64));
    group.bench_function("counts", |b| b.iter(run));
    group.finish();
}

/// One operation in a hundred reads the whole.
fn sets(criterion: &mut Criterion) {
    let operations = 100_000;
    let mut reading = SetReading::<true>::new();
    let mut holds: Vec<Value> = Vec::new();
    let mut listed = 0;
    let calls = calls(operations, 10, |dice| {
        let asked = Value::Int(holds.len() as i64);
        let read = dice.below(100) == 0;
        let whole = Value::List(if read { holds.clone() } else { Vec::new() });
        let f = if read { "read" } else { "add" };
        let op = reading
            .call(0, f, &asked, Ending::Ok(&whole))
            .expect("a well-formed operation");
        match op {
            Some(SetOp::Whole(_)) => listed += holds.len(),
            _ => holds.push(asked),
        }
        op.expect("an operation that says something")
    });
    println!("figure elements-read {listed} elements");
    let run = || assert_eq!(reading.quick(black_box(&calls)).map(|q| q.culprits.len()), Some(0));
    figure("inclusion-200000", 2 * operations, run);
    let mut group = criterion.benchmark_group("grow-only set");
    group.sample_size(10);
    group.throughput(Throughput::Elements(listed as u64));
    group.bench_function("inclusion, by elements read", |b| b.iter(run));
    group.finish();
}

criterion_group!(benches, registers, counters, sets);
criterion_main!(benches);
