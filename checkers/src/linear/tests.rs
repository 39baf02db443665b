//! The search against a naive one, which tries every order; and what keeps it small.
use super::bits::{Bits, Wide};
use super::breadth::Breadth;
use super::decide::decide;
use super::depth::Depth;
use super::model::{Call, Model, NEVER};
use super::timeline::Timeline;
use super::{Found, Limits, Online, explain, verify};
use crate::models::register::{NOTHING, Register, RegisterOp, merge_unseen};
use crate::tests::model::Chance;
use crate::tests::setting;
use RegisterOp::{Cas, Differs, Read, Set};

/// A second object, with calls that neither look nor overwrite: a lock.
struct Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MutexOp {
    Acquire,
    Release,
}

impl Model for Mutex {
    type Op = MutexOp;
    fn start(&self) -> u32 {
        0
    }
    fn step(&self, held: u32, op: &MutexOp) -> Option<u32> {
        let acquires = u32::from(*op == MutexOp::Acquire);
        (held != acquires).then_some(acquires)
    }
    fn looks(&self, _: &MutexOp) -> bool {
        false
    }
    fn overwrites(&self, _: &MutexOp) -> bool {
        false
    }
    fn needs(&self, op: &MutexOp) -> Option<u32> {
        Some(u32::from(*op == MutexOp::Release))
    }
    fn gives(&self, op: &MutexOp) -> Option<u32> {
        Some(u32::from(*op == MutexOp::Acquire))
    }
}

/// A third, whose calls commute and need nothing: a counter that is added to and read.
struct Counter;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CounterOp {
    Add(u32),
    Is(u32),
}

impl Model for Counter {
    type Op = CounterOp;
    fn start(&self) -> u32 {
        0
    }
    fn step(&self, sum: u32, op: &CounterOp) -> Option<u32> {
        match *op {
            CounterOp::Add(n) => Some(sum + n),
            CounterOp::Is(n) => (sum == n).then_some(sum),
        }
    }
    fn looks(&self, op: &CounterOp) -> bool {
        matches!(op, CounterOp::Is(_))
    }
    fn overwrites(&self, _: &CounterOp) -> bool {
        false
    }
    fn needs(&self, op: &CounterOp) -> Option<u32> {
        match *op {
            CounterOp::Is(n) => Some(n),
            CounterOp::Add(_) => None,
        }
    }
    fn gives(&self, _: &CounterOp) -> Option<u32> {
        None
    }
}

/// Tries every order.
fn naive<M: Model>(model: &M, calls: &[Call<M::Op>], left: u32, state: u32) -> bool {
    let open = |c: &usize| left & (1 << c) != 0;
    let left_calls: Vec<usize> = (0..calls.len()).filter(open).collect();
    let Some(first_end) = left_calls
        .iter()
        .map(|c| calls[*c].end)
        .filter(|end| *end != NEVER)
        .min()
    else {
        return true;
    };
    let may = left_calls.into_iter().filter(|c| calls[*c].begin < first_end);
    let then = |c: usize| {
        let next = model.step(state, &calls[c].op);
        next.is_some_and(|next| naive(model, calls, left & !(1 << c), next))
    };
    may.into_iter().any(then)
}

/// Random calls: up to seven, some of which crash.
fn random<O>(chance: &mut Chance, op: impl Fn(&mut Chance, bool) -> O) -> Vec<Call<O>> {
    let calls = 1 + chance.below(8) as u32;
    // Every place of a history is one event's.
    let call = |n| {
        let begin = chance.below(1000) as u32 * 20 + 2 * n;
        let crashes = chance.below(10) < 3;
        let end = if crashes {
            NEVER
        } else {
            begin + 1 + 20 * chance.below(400) as u32
        };
        Call {
            op: op(chance, crashes),
            begin,
            end,
        }
    };
    (0..calls).map(call).collect()
}

fn whole<M: Model, B: Bits>(mut breadth: Breadth<M, B>) -> Option<Found> {
    (0..20).find_map(|_| breadth.go(u64::MAX, 0, usize::MAX))
}

fn agrees<M: Model>(model: &M, calls: &[Call<M::Op>], found: Option<Found>, expected: bool, seed: u64) {
    match found {
        Some(Found::Order(Some(order))) => {
            assert!(expected, "seed {seed}: an order of {calls:?}");
            verify(model, calls, &order).unwrap_or_else(|why| panic!("{why}: {calls:?} {order:?}"));
        }
        Some(Found::None { .. }) => assert!(!expected, "seed {seed}: no order of {calls:?}"),
        found => panic!("seed {seed}: {found:?}"),
    }
}

/// Compares the two over `cases` random histories; how many fit an order.
fn compare<M: Model>(model: &M, cases: u64, op: impl Fn(&mut Chance, bool) -> M::Op + Copy) -> u64 {
    let mut valid = 0;
    for seed in 0..cases {
        let calls = random(&mut Chance(seed), op);
        let expected = naive(model, &calls, (1 << calls.len()) - 1, model.start());
        valid += u64::from(expected);
        let timeline = Timeline::new(model, &calls);
        let depth = Depth::new(model, &calls, &timeline).go(u64::MAX, usize::MAX);
        agrees(model, &calls, depth, expected, seed);
        let breadth = Breadth::<M, u64>::new(model, &calls, &timeline, true);
        // Of one or two configurations the others are mostly needed too, and all begins anew.
        let breadth = if seed % 2 == 0 {
            breadth.slim(1 + seed as usize / 2 % 2)
        } else {
            breadth
        };
        agrees(model, &calls, whole(breadth), expected, seed);
        if seed % 16 == 0 {
            let wide = Breadth::<M, Wide>::new(model, &calls, &timeline, true);
            agrees(model, &calls, whole(wide), expected, seed);
        }
    }
    valid
}

fn cases(usual: u64) -> u64 {
    setting("SPLITBRAIN_CASES").unwrap_or(usual)
}

fn register_op(chance: &mut Chance, crashes: bool) -> RegisterOp {
    let value = |chance: &mut Chance| chance.below(4) as u32;
    match chance.below(if crashes { 2 } else { 5 }) {
        0 => Set(1 + chance.below(3) as u32),
        1 => Cas {
            from: value(chance),
            to: 1 + chance.below(3) as u32,
        },
        2 => Differs(value(chance)),
        _ => Read(value(chance)),
    }
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let fair = |valid: u64, cases: u64| assert!((cases / 10..cases * 9 / 10).contains(&valid), "{valid} of {cases}");
    let many = cases(60_000);
    fair(compare(&Register, many, register_op), many);
    let many = cases(30_000);
    let mutex = |chance: &mut Chance, _| match chance.below(2) {
        0 => MutexOp::Acquire,
        _ => MutexOp::Release,
    };
    fair(compare(&Mutex, many, mutex), many);
    let counter = |chance: &mut Chance, crashes| match chance.below(if crashes { 1 } else { 2 }) {
        0 => CounterOp::Add(1 + chance.below(2) as u32),
        _ => CounterOp::Is(chance.below(5) as u32),
    };
    fair(compare(&Counter, many, counter), many);
}

fn decided(calls: &[Call<RegisterOp>]) -> Found {
    decide(&Register, calls, &Limits::USUAL, true, &|| false).found
}

#[test]
fn merging_what_nobody_saw_changes_no_verdict() {
    for seed in 0..30_000 {
        let calls = random(&mut Chance(seed), register_op);
        let mut merged = calls.clone();
        merge_unseen(&mut merged);
        let found = |calls: &[Call<RegisterOp>]| matches!(decided(calls), Found::Order(_));
        assert_eq!(found(&calls), found(&merged), "seed {seed}: {calls:?}");
    }
}

/// A history of `clients` clients on a sound register, with unique values; one in `crash` writes has no answer.
fn recorded(seed: u64, clients: usize, operations: u64, crash: u64) -> Vec<Call<RegisterOp>> {
    let chance = &mut Chance(seed);
    // Each client: its call, and when it takes effect, if it does.
    type Busy = (Call<RegisterOp>, Option<u32>, u32);
    let mut busy: Vec<Option<Busy>> = (0..clients).map(|_| None).collect();
    let mut late: Vec<(u32, RegisterOp)> = Vec::new();
    let (mut state, mut calls, mut values) = (NOTHING, Vec::new(), 0);
    let mut now = 0;
    while (calls.len() as u64) < operations {
        now += 1;
        let due: Vec<_> = late.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, op) in due {
            state = Register.step(state, &op).unwrap_or(state);
        }
        let client = chance.below(clients as u64) as usize;
        match busy[client].take() {
            None => {
                values += 1;
                let (from, to) = (if chance.below(4) > 0 { state } else { NOTHING }, values);
                let op = [Read(NOTHING), Read(NOTHING), Set(to), Cas { from, to }][chance.below(4) as usize];
                if !Register.looks(&op) && chance.below(crash) == 0 {
                    calls.push(Call {
                        op,
                        begin: now,
                        end: NEVER,
                    });
                    if chance.below(2) == 0 {
                        late.push((now + chance.below(2000) as u32, op));
                    }
                } else {
                    busy[client] = Some((
                        Call {
                            op,
                            begin: now,
                            end: NEVER,
                        },
                        Some(now),
                        0,
                    ));
                }
            }
            Some((mut call, Some(_), _)) => {
                call.op = match call.op {
                    Read(_) => Read(state),
                    Cas { from, .. } if state != from => Differs(from),
                    op => op,
                };
                state = Register.step(state, &call.op).expect("it was chosen so");
                busy[client] = Some((call, None, 0));
            }
            Some((mut call, None, _)) => {
                call.end = now;
                calls.push(call);
            }
        }
    }
    // What is open at the end may have taken effect.
    calls.extend(
        busy.into_iter()
            .flatten()
            .map(|(call, ..)| call)
            .filter(|c| !Register.looks(&c.op)),
    );
    merge_unseen(&mut calls);
    calls
}

#[test]
fn long_histories_with_many_unknown_writes_are_decided() {
    for seed in 0..10 {
        let mut calls = recorded(seed, 6, 10_000, 12);
        let crashed = calls.iter().filter(|c| !c.ended()).count();
        assert!(crashed > 300, "{crashed}");
        let found = decided(&calls);
        assert!(matches!(found, Found::Order(_)), "seed {seed}");
        // A value that was read long after another had been read.
        let reads: Vec<usize> = (0..calls.len()).filter(|c| matches!(calls[*c].op, Read(_))).collect();
        let (early, late) = (reads[reads.len() / 2], reads[reads.len() / 2 + 40]);
        assert_ne!(calls[early].op, calls[late].op, "seed {seed}");
        calls[late].op = calls[early].op;
        match decided(&calls) {
            Found::None { .. } => {}
            Found::Unknown(why) => panic!("seed {seed}: {why}"),
            Found::Order(_) => panic!("seed {seed}: an order with an old value"),
        }
    }
}

#[test]
fn what_is_too_much_ends_as_unknown() {
    // Which of 40 numbers add up to an odd one? None, since all are even; but every sum is tried.
    let mut calls: Vec<_> = (0..40)
        .map(|n| Call {
            op: CounterOp::Add(2 * (n * n * n + 1)),
            begin: n,
            end: 100 + n,
        })
        .collect();
    calls.push(Call {
        op: CounterOp::Is(100_001),
        begin: 50,
        end: 60,
    });
    let little = |bytes, steps, over: bool| {
        let limits = Limits { bytes, steps };
        match decide(&Counter, &calls, &limits, false, &|| over).found {
            Found::Unknown(why) => why,
            found => panic!("{}", format!("{found:?}").chars().take(200).collect::<String>()),
        }
    };
    let why = little(20 << 20, u64::MAX, false);
    assert!(why.matches("more than 10 MB hold").count() == 2, "{why}");
    let why = little(1 << 30, 1_000_000, false);
    assert!(why.contains("undecided after "), "{why}");
    let why = little(1 << 30, u64::MAX, true);
    assert!(why.contains("the time was over"), "{why}");
    let many: Vec<_> = (0..1025)
        .map(|n| Call {
            op: Set(n),
            begin: n,
            end: 2000 + n,
        })
        .collect();
    assert!(matches!(decided(&many), Found::Unknown(why) if why.contains("more than 1024")));
    assert!(matches!(decided(&many[..300]), Found::Order(Some(_))));
}

#[test]
fn what_fits_no_order_is_explained() {
    let call = |op, begin, end| Call { op, begin, end };
    let mut calls: Vec<_> = (0..20).map(|n| call(Set(n % 3 + 1), 2 * n, 2 * n + 1)).collect();
    // A read of what was overwritten before it began, beside a write that does not help.
    calls.push(call(Set(2), 50, 61));
    calls.push(call(Read(1), 51, 60));
    calls.push(call(Read(2), 70, 71));
    let explained = explain(&Register, &calls, &Limits::USUAL, &|| false).expect("it is small");
    assert_eq!((explained.at, explained.state), (21, 2), "{explained:?}");
    assert_eq!(explained.order, (0..20).collect::<Vec<_>>());
    assert_eq!(explained.open, [(21, false), (20, true)]);
    // The read, the writes of its value, which else might come late, and those that overwrote it.
    assert_eq!(explained.core, [0, 3, 6, 9, 12, 15, 18, 19, 21], "{explained:?}");
}

#[test]
fn cores_of_random_histories_fit_no_order_alone() {
    let mut told = 0;
    for seed in 0..2_000 {
        let calls = random(&mut Chance(seed), register_op);
        let Some(explained) = explain(&Register, &calls, &Limits::USUAL, &|| false) else {
            continue;
        };
        told += 1;
        let kept = |n: usize| explained.core.contains(&(n as u32));
        let relaxed = calls.iter().enumerate().map(|(n, call)| match kept(n) {
            true => *call,
            false => Call { end: NEVER, ..*call },
        });
        let relaxed: Vec<_> = relaxed.collect();
        assert!(
            !naive(&Register, &relaxed, (1 << calls.len()) - 1, NOTHING),
            "seed {seed}: {calls:?} {explained:?}"
        );
        // And the order replays: a beginning that fits.
        let end = calls[explained.at as usize].end;
        let cut = |call: &Call<_>| Call {
            end: if call.end < end { call.end } else { NEVER },
            ..*call
        };
        let cut: Vec<_> = calls.iter().map(cut).collect();
        verify(&Register, &cut, &explained.order).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(told > 500, "{told}");
}

#[test]
fn what_is_no_order_is_refused() {
    let call = |op, begin, end| Call { op, begin, end };
    let calls = [
        call(Set(1), 0, 1),
        call(Set(2), 2, 5),
        call(Read(2), 3, 4),
        call(Set(3), 6, NEVER),
    ];
    let why = |order: &[u32]| verify(&Register, &calls, order).err().unwrap_or_default();
    assert_eq!((why(&[0, 1, 2]), why(&[0, 1, 2, 3])), (String::new(), String::new()));
    assert!(why(&[0, 1]).contains("has no place"));
    assert!(why(&[0, 1, 2, 2]).contains("twice"));
    assert!(why(&[1, 2, 0]).contains("ended before"));
    assert!(why(&[0, 2, 1]).contains("cannot have its answer"));
}

/// The calls as they happen, told to the linearizer one by one.
fn online<M: Model>(model: &M, calls: &[Call<M::Op>]) -> Found {
    let mut events: Vec<(u32, usize, bool)> = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        events.push((call.begin, n, true));
        events.push((call.end, n, false));
    }
    events.sort_unstable();
    let mut online = Online::new(model, Limits::USUAL);
    let mut numbers = vec![0; calls.len()];
    for (place, n, begins) in events {
        match begins {
            true => numbers[n] = online.begins(),
            false if place == NEVER => _ = online.crashes(numbers[n], calls[n].op.clone()),
            false => _ = online.ends(numbers[n], calls[n].op.clone()),
        }
    }
    online.finish()
}

#[test]
fn a_history_that_is_being_written_is_judged_alike() {
    let mut invalid = 0;
    for seed in 0..20_000 {
        let calls = random(&mut Chance(seed), register_op);
        let expected = decided(&calls);
        let found = online(&Register, &calls);
        let same = matches!(
            (&expected, &found),
            (Found::Order(_), Found::Order(None)) | (Found::None { .. }, Found::None { .. })
        );
        assert!(same, "seed {seed}: {expected:?} {found:?} {calls:?}");
        invalid += u64::from(matches!(found, Found::None { .. }));
    }
    assert!((2_000..18_000).contains(&invalid), "{invalid}");
}

#[test]
fn what_is_held_is_bounded() {
    let mut online = Online::new(
        &Register,
        Limits {
            bytes: 1 << 12,
            steps: 1 << 20,
        },
    );
    let silent = online.begins();
    let until = (0..10_000).find(|_| {
        let call = online.begins();
        online.ends(call, Set(1)).is_some()
    });
    assert!(until.is_some_and(|n| n < 1_000) && online.held() < 2_000, "{until:?}");
    assert!(matches!(online.finish(), Found::Unknown(why) if why.contains("wait for")));
    // Told what became of it, nothing is held.
    let mut online = Online::new(
        &Register,
        Limits {
            bytes: 1 << 12,
            steps: 1 << 20,
        },
    );
    let first = online.begins();
    assert_eq!(first, silent);
    for _ in 0..10 {
        let call = online.begins();
        assert!(online.ends(call, Set(1)).is_none());
    }
    assert!(online.crashes(first, Set(2)).is_none() && online.held() == 0);
    let read = online.begins();
    assert!(online.ends(read, Read(2)).is_none());
    let read = online.begins();
    assert!(matches!(online.ends(read, Read(3)), Some(Found::None { .. })));
}
