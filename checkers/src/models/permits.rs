//! Locks that do not care who lets go: a mutex, and a semaphore.
//!
//! Operations: `acquire` (`lock`, `take`) and `release` (`unlock`, `give`). At first nothing is taken. `acquire` is
//! possible while a permit is left, `release` while one is out: nobody can give back what was not taken. A mutex is a
//! semaphore with one permit. A semaphore's operations may say how many permits they mean (`acquire 2`); nil is one. The
//! values of a mutex's operations say nothing, for many write the owner there.
//!
//! **Lazily, the most urgent first.** Where each operation means one permit, acquisitions differ only in their times, and
//! so do releases. Let each take effect as late as it can: when it returns and has not yet. If the state does not allow
//! that, one of the other kind must come just before it, and of those that have begun the one that returns first is the
//! best choice, for whatever another could do later it can do no later, and the other can take its place. Nor does it
//! help to let a pair of both kinds take effect earlier than forced: both are still there when they are needed. So this
//! finds an order if there is one. A crashed operation has begun and never returns: it is the last choice.
//!
//! When it fails, a window is sought that proves it alone: the calls of a stretch of time that fit no order whatever the
//! state at its beginning, even if those that were open then are free not to take effect in it.
//!
//! Caveat: where an operation means several permits, or where there is none at all, this does not hold, and the engines
//! decide.
use super::prepared::shown;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model, NEVER};
use splitbrain_core::formats::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A call that took effect, or may have: so many permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PermitOp {
    /// They are taken.
    Take(u32),
    /// They are given back.
    Give(u32),
}

use PermitOp::{Give, Take};

/// So many permits, of which a state says how many are out.
#[derive(Clone, Copy, Debug)]
pub struct Permits(u32);

impl Model for Permits {
    type Op = PermitOp;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, out: u32, op: &PermitOp) -> Option<u32> {
        match *op {
            Take(n) => out.checked_add(n).filter(|out| *out <= self.0),
            Give(n) => out.checked_sub(n),
        }
    }

    fn looks(&self, op: &PermitOp) -> bool {
        matches!(op, Take(0) | Give(0))
    }

    fn needs(&self, op: &PermitOp) -> Option<u32> {
        match *op {
            Take(n) if n == self.0 => Some(0),
            Give(n) if n == self.0 => Some(n),
            _ => None,
        }
    }

    fn gives(&self, op: &PermitOp) -> Option<u32> {
        match *op {
            Take(n) if n == self.0 && n > 0 => Some(n),
            Give(n) if n == self.0 && n > 0 => Some(0),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct PermitReading {
    permits: Permits,
    /// Whether values say how many.
    counts: bool,
}

impl PermitReading {
    pub fn mutex() -> PermitReading {
        PermitReading {
            permits: Permits(1),
            counts: false,
        }
    }

    pub fn semaphore(permits: u32) -> PermitReading {
        PermitReading {
            permits: Permits(permits),
            counts: true,
        }
    }
}

impl Reading for PermitReading {
    type Model = Permits;

    fn ops() -> &'static [&'static str] {
        &["acquire", "release", "lock", "unlock", "take", "give"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<PermitOp>, String> {
        let n = match asked {
            Value::Nil => 1,
            _ if !self.counts => 1,
            Value::Int(n) if (1..i64::from(u32::MAX)).contains(n) => *n as u32,
            other => return Err(format!("{f} of {}: it takes a number of permits, or nil", shown(other))),
        };
        Ok(match (ending, f) {
            (Ending::Fail(_), _) => None,
            (_, "acquire" | "lock" | "take") => Some(Take(n)),
            _ => Some(Give(n)),
        })
    }

    fn model(&self) -> Permits {
        self.permits
    }

    fn quick(&self, calls: &[Call<PermitOp>]) -> Option<Quick> {
        judge(self.permits.0, calls)
    }

    fn words(&self, op: &PermitOp) -> String {
        match *op {
            Take(1) => "acquire".to_string(),
            Give(1) => "release".to_string(),
            Take(n) => format!("acquire {n}"),
            Give(n) => format!("release {n}"),
        }
    }
}

/// Calls that have begun and not taken effect: when those return that do, the first on top, and how many never will.
#[derive(Default)]
struct Pending {
    ends: BinaryHeap<Reverse<u32>>,
    crashed: u32,
}

impl Pending {
    fn begin(&mut self, end: u32) {
        match end {
            NEVER => self.crashed += 1,
            end => self.ends.push(Reverse(end)),
        }
    }

    fn first(&self) -> u32 {
        self.ends.peek().map_or(NEVER, |end| end.0)
    }

    /// Lets the most urgent take effect, if there is one.
    fn fire(&mut self) -> bool {
        self.ends.pop().is_some() || self.crashed.checked_sub(1).map(|rest| self.crashed = rest).is_some()
    }
}

/// How many are out, and what may still happen.
#[derive(Default)]
struct Greedy {
    permits: u32,
    out: u32,
    takes: Pending,
    gives: Pending,
}

impl Greedy {
    fn begin(&mut self, op: PermitOp, end: u32) {
        match op {
            Take(_) => self.takes.begin(end),
            Give(_) => self.gives.begin(end),
        }
    }

    /// All that returns before `until` takes effect; else when that fails.
    fn run(&mut self, until: u32) -> Result<(), u32> {
        loop {
            let (take, give) = (self.takes.first(), self.gives.first());
            if take.min(give) >= until {
                return Ok(());
            }
            if take < give {
                self.takes.fire();
                if self.out < self.permits {
                    self.out += 1;
                } else if !self.gives.fire() {
                    return Err(take);
                }
            } else {
                self.gives.fire();
                if self.out > 0 {
                    self.out -= 1;
                } else if !self.takes.fire() {
                    return Err(give);
                }
            }
        }
    }
}

fn judge(permits: u32, calls: &[Call<PermitOp>]) -> Option<Quick> {
    if permits == 0 || !calls.iter().all(|call| matches!(call.op, Take(1) | Give(1))) {
        return None;
    }
    let mut greedy = Greedy {
        permits,
        ..Greedy::default()
    };
    let done = calls.iter().try_for_each(|call| {
        greedy.run(call.begin)?;
        greedy.begin(call.op, call.end);
        Ok(())
    });
    let culprits = match done.and_then(|()| greedy.run(NEVER)) {
        Ok(()) => Vec::new(),
        Err(end) => window(permits, calls, end),
    };
    Some(Quick {
        by: "most urgent first",
        culprits,
    })
}

/// With more permits than this there are too many states that a window may begin in.
const STATES: u32 = 16;

/// Of shorter windows than this the calls are picked out once.
const NEAR: usize = 1024;

/// The calls of the shortest stretch up to `end`, of those that are tried, that fit no order.
fn window(permits: u32, calls: &[Call<PermitOp>], end: u32) -> Vec<u32> {
    let calls = &calls[..calls.partition_point(|call| call.begin < end)];
    let open_at = |start: u32| calls.iter().filter(move |call| call.end > start).copied();
    let near: Vec<Call<PermitOp>> = open_at(calls[calls.len().saturating_sub(NEAR)].begin).collect();
    let mut back = 1;
    while back < calls.len() && permits <= STATES {
        let start = calls[calls.len() - back].begin;
        let those = if back <= NEAR { &near } else { calls };
        if (0..=permits).all(|out| !fits(permits, out, those, start, end)) {
            return places(calls, start);
        }
        back *= 2;
    }
    places(calls, 0)
}

/// The calls that have not returned before `start`.
fn places(calls: &[Call<PermitOp>], start: u32) -> Vec<u32> {
    let open = (0u32..).zip(calls).filter(|(_, call)| call.end > start);
    open.map(|(place, _)| place).collect()
}

/// Whether the calls fit some order from `start` to `end`, with so many permits out at first. What was open at `start`
/// may have taken effect before.
fn fits(permits: u32, out: u32, calls: &[Call<PermitOp>], start: u32, end: u32) -> bool {
    let mut greedy = Greedy {
        permits,
        out,
        ..Greedy::default()
    };
    let open = calls.iter().filter(|call| call.end > start);
    let done = open.into_iter().all(|call| {
        let done = greedy.run(call.begin).is_ok();
        greedy.begin(call.op, if call.begin < start { NEVER } else { call.end });
        done
    });
    done && greedy.run(end.saturating_add(1)).is_ok()
}
