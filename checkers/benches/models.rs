//! How fast the linear algorithms of the models judge.
//!
//! Histories are made in memory as calls, in the order of their beginnings; an event is a beginning or an end. Each
//! operation takes effect somewhere between the two, and the history is valid: nothing is found early.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use splitbrain_checkers::linear::model::{Call, NEVER};
use splitbrain_checkers::models::register::{RegisterOp, RegisterReading};
use splitbrain_checkers::models::{FailedCas, Reading};
use std::hint::black_box;

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
        group.bench_function(BenchmarkId::new("zones", 2 * operations), |b| {
            b.iter(|| assert_eq!(black_box(reading.quick(&writes)).map(|q| q.culprits.len()), Some(0)))
        });
        let mut holds = 0;
        let chain = calls(operations, 10, |_| {
            holds += 1;
            RegisterOp::Cas {
                from: holds - 1,
                to: holds,
            }
        });
        group.bench_function(BenchmarkId::new("cas chain", 2 * operations), |b| {
            b.iter(|| assert_eq!(black_box(reading.quick(&chain)).map(|q| q.culprits.len()), Some(0)))
        });
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
        group.bench_function(BenchmarkId::new("mixed", 2 * operations), |b| {
            b.iter(|| assert_eq!(black_box(reading.quick(&mixed)).map(|q| q.culprits.len()), Some(0)))
        });
    }
    group.finish();
}

criterion_group!(benches, registers);
criterion_main!(benches);
