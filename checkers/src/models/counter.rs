//! A counter: a sum to which is added, and which is read.
//!
//! Operations: `add` of a whole number, `inc` and `dec` (by one, or by the number that they are given), and `read`, which
//! answers the sum. It is 0 at first; `add` may be asked for less than 0.
//!
//! **All additions alike** are judged in O(n log n): then a read tells *how many* came before it. Reads stand in the order
//! of these numbers, R(0), R(1), ...; before those of number k stand k additions, among them all that ended before any
//! read of at most k began, and none that began after a read of at least k had ended. The additions that may come before
//! are taken by the order of their ends, the most urgent first: whatever else is chosen, exchanging it for a more urgent
//! one that may come as well harms nobody. Crashed additions have no end, and are taken last or never.
//!
//! Caveat: where additions differ the question holds that of subset sums, and the engines decide.
use super::prepared::shown;
use super::states::States;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model, NEVER};
use splitbrain_core::formats::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A call that took effect, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterOp {
    /// This was added.
    Add(i64),
    /// It was this.
    Read(i64),
}

use CounterOp::{Add, Read};

/// See the module. States are sums.
pub struct Counter {
    states: States<i128>,
}

impl Model for Counter {
    type Op = CounterOp;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &CounterOp) -> Option<u32> {
        let sum = *self.states.get(state);
        match *op {
            Add(n) => self.states.reach(sum + i128::from(n)),
            Read(n) => (sum == i128::from(n)).then_some(state),
        }
    }

    fn looks(&self, op: &CounterOp) -> bool {
        matches!(op, Read(_) | Add(0))
    }

    fn needs(&self, op: &CounterOp) -> Option<u32> {
        match *op {
            Read(n) => Some(self.states.number(n.into())),
            Add(_) => None,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct CounterReading;

impl Reading for CounterReading {
    type Model = Counter;

    fn ops() -> &'static [&'static str] {
        &["add", "inc", "dec", "read"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<CounterOp>, String> {
        let number = |value: &Value| match (value, f) {
            (Value::Int(n), _) => Ok(*n),
            (Value::Nil, "inc" | "dec") => Ok(1),
            _ => Err(format!("{f} {}: it takes a whole number", shown(value))),
        };
        let op = match (f, ending) {
            (_, Ending::Fail(_)) | ("read", Ending::Unknown) => return Ok(None),
            ("read", Ending::Ok(answer)) => Read(number(answer)?),
            ("dec", _) => {
                let by = number(asked)?.checked_neg();
                Add(by.ok_or("dec of the least number there is: nothing holds its opposite")?)
            }
            _ => Add(number(asked)?),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Counter {
        Counter { states: States::new(0) }
    }

    fn quick(&self, calls: &[Call<CounterOp>]) -> Option<Quick> {
        let culprits = all_alike(calls)?;
        Some(Quick { by: "counts", culprits })
    }

    fn is_full(model: &Counter) -> bool {
        model.states.is_full()
    }

    fn words(&self, op: &CounterOp) -> String {
        match *op {
            Add(n) => format!("add {n}"),
            Read(n) => format!("read {n}"),
        }
    }
}

/// The reads of one number.
struct Reads {
    /// How many additions came before.
    number: u64,
    /// The last beginning of these and of all before.
    last_begin: u32,
    /// The first end of these and of all after.
    first_end: u32,
}

/// Decides where all additions are alike; the culprits, or none. `None`: they are not.
fn all_alike(calls: &[Call<CounterOp>]) -> Option<Vec<u32>> {
    let mut step = None;
    let mut adds: Vec<(u32, u32)> = Vec::new();
    let mut reads: Vec<(i64, u32)> = Vec::new();
    for (at, call) in (0..).zip(calls) {
        match call.op {
            Add(0) => {}
            Add(n) if *step.get_or_insert(n) == n => adds.push((call.begin, call.end)),
            Add(_) => return None,
            Read(n) if call.ended() => reads.push((n, at)),
            Read(_) => {}
        }
    }
    let step = step.unwrap_or(1);
    // A multiple that no number holds is beyond this algorithm.
    step.checked_mul(i64::try_from(adds.len()).ok()?)?;
    let number = |n: i64| match n.checked_rem(step) {
        Some(0) => u64::try_from(n / step).ok().filter(|k| *k <= adds.len() as u64),
        _ => None,
    };
    if let Some((_, read)) = reads.iter().find(|(n, _)| number(*n).is_none()) {
        // All additions, and what cannot be whichever of them came before.
        return Some(with_adds(calls, [*read]));
    }
    let counted = reads.iter().filter_map(|(n, at)| Some((number(*n)?, *at)));
    let mut counted: Vec<(u64, u32)> = counted.collect();
    counted.sort_unstable();
    let groups = grouped(calls, &counted);
    match is_possible(&groups, &mut adds) {
        true => Some(Vec::new()),
        false => Some(with_adds(calls, counted.into_iter().map(|(_, at)| at))),
    }
}

fn with_adds(calls: &[Call<CounterOp>], reads: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let adds = (0..)
        .zip(calls)
        .filter(|(_, call)| matches!(call.op, Add(_)))
        .map(|(at, _)| at);
    let mut all: Vec<u32> = adds.chain(reads).collect();
    all.sort_unstable();
    all
}

fn grouped(calls: &[Call<CounterOp>], counted: &[(u64, u32)]) -> Vec<Reads> {
    let mut groups: Vec<Reads> = Vec::new();
    for (number, at) in counted {
        let Call { begin, end, .. } = calls[*at as usize];
        match groups.last_mut() {
            Some(last) if last.number == *number => {
                last.last_begin = last.last_begin.max(begin);
                last.first_end = last.first_end.min(end);
            }
            last => {
                let before = last.map_or(0, |last| last.last_begin);
                groups.push(Reads {
                    number: *number,
                    last_begin: begin.max(before),
                    first_end: end,
                });
            }
        }
    }
    let mut first_end = NEVER;
    for group in groups.iter_mut().rev() {
        first_end = first_end.min(group.first_end);
        group.first_end = first_end;
    }
    groups
}

/// See the module. `adds` are in the order of their beginnings.
fn is_possible(groups: &[Reads], adds: &mut [(u32, u32)]) -> bool {
    let in_order = groups.windows(2).all(|pair| pair[0].last_begin < pair[1].first_end);
    if !in_order || !misses_none(groups, adds) {
        return false;
    }
    let mut waiting = adds.iter().peekable();
    let mut may_come: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
    let mut came = 0;
    for group in groups {
        while let Some((_, end)) = waiting.next_if(|(begin, _)| *begin < group.first_end) {
            may_come.push(Reverse(*end));
        }
        while came < group.number || may_come.peek().is_some_and(|Reverse(end)| *end < group.last_begin) {
            if may_come.pop().is_none() {
                return false;
            }
            came += 1;
        }
        if came > group.number {
            return false;
        }
    }
    true
}

/// Whether every addition that must come before a group's reads may.
fn misses_none(groups: &[Reads], adds: &[(u32, u32)]) -> bool {
    let mut by_end: Vec<(u32, u32)> = adds.iter().map(|(begin, end)| (*end, *begin)).collect();
    by_end.sort_unstable();
    let mut by_end = by_end.into_iter().peekable();
    let mut last_begin = 0;
    groups.iter().all(|group| {
        while let Some((_, begin)) = by_end.next_if(|(end, _)| *end < group.last_begin) {
            last_begin = last_begin.max(begin);
        }
        // Of the first group too: without an addition nothing is missed.
        last_begin == 0 || last_begin < group.first_end
    })
}
