//! Ids that are handed out: none twice; or each higher than all before it.
//!
//! Operations: `generate` (`next`, `id`), which answers the id. Unique ids may be anything, monotone ones are whole
//! numbers. An operation that failed or crashed hands out an id to nobody, and ids may be skipped: it says nothing.
//!
//! **Unique.** Nothing else is asked of an id, so time says nothing either: a second call with an id that was handed out
//! already is one that no order explains.
//!
//! **Monotone.** An object whose ids strictly rise hands them out in the order of the ids, whatever the order of their
//! calls. That order must keep real time: an id that is asked for after another was handed out is higher. Then it is an
//! order of the whole history, since it has no other rules. One pass over beginnings and ends, both in order of time,
//! knows the highest id that was out when each call began; and no id may be out twice.
use super::prepared::shown;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model};
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

const OPS: &[&str] = &["generate", "next", "id"];

/// An id was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// Its number, in the order in which ids are met.
    pub id: u32,
    /// Whether it was met before.
    pub again: bool,
}

/// Ids by their numbers.
struct Ids<T> {
    numbers: BTreeMap<T, u32>,
    met: Vec<T>,
}

impl<T: Ord + Clone> Ids<T> {
    fn new() -> Ids<T> {
        Ids {
            numbers: BTreeMap::new(),
            met: Vec::new(),
        }
    }

    fn given(&mut self, id: &T) -> Given {
        if let Some(number) = self.numbers.get(id) {
            return Given {
                id: *number,
                again: true,
            };
        }
        let number = u32::try_from(self.met.len()).expect("a history has fewer than four billion events");
        self.numbers.insert(id.clone(), number);
        self.met.push(id.clone());
        Given {
            id: number,
            again: false,
        }
    }
}

/// Hands out each id once. It has one state, for calls know whether theirs is a second.
#[derive(Clone, Copy, Debug)]
pub struct Unique;

impl Model for Unique {
    type Op = Given;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &Given) -> Option<u32> {
        (!op.again).then_some(state)
    }

    fn looks(&self, _op: &Given) -> bool {
        true
    }
}

/// See the module.
pub(super) struct UniqueReading(Ids<Value>);

impl UniqueReading {
    pub fn new() -> UniqueReading {
        UniqueReading(Ids::new())
    }
}

impl Reading for UniqueReading {
    type Model = Unique;

    fn ops() -> &'static [&'static str] {
        OPS
    }

    fn call(&mut self, _process: i64, f: &str, _asked: &Value, ending: Ending) -> Result<Option<Given>, String> {
        match ending {
            Ending::Ok(Value::Nil) => Err(format!("{f} answered nothing: an ok has the id")),
            Ending::Ok(id) => Ok(Some(self.0.given(id))),
            Ending::Fail(_) | Ending::Unknown => Ok(None),
        }
    }

    fn model(&self) -> Unique {
        Unique
    }

    fn quick(&self, calls: &[Call<Given>]) -> Option<Quick> {
        let second = calls.iter().position(|call| call.op.again);
        let culprits = second.map_or(Vec::new(), |second| same(calls, second, |op| op.id));
        Some(Quick {
            by: "equality",
            culprits,
        })
    }

    fn words(&self, op: &Given) -> String {
        format!("id {}", shown(&self.0.met[op.id as usize]))
    }
}

/// The call at `second` and the first other with the same id.
fn same(calls: &[Call<Given>], second: usize, id: impl Fn(&Given) -> u32) -> Vec<u32> {
    let sought = id(&calls[second].op);
    let other = (0..calls.len()).find(|n| *n != second && id(&calls[*n].op) == sought);
    let mut both: Vec<u32> = other.into_iter().chain([second]).map(|n| n as u32).collect();
    both.sort_unstable();
    both
}

/// Hands out higher and higher ids. A state is the last one's number plus 1, 0 at first.
#[derive(Clone, Debug)]
pub struct Monotone(Vec<i64>);

impl Model for Monotone {
    type Op = Given;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &Given) -> Option<u32> {
        let last = state.checked_sub(1).map(|last| self.0[last as usize]);
        let rises = last.is_none_or(|last| self.0[op.id as usize] > last);
        rises.then_some(op.id + 1)
    }

    fn looks(&self, _op: &Given) -> bool {
        false
    }

    fn gives(&self, op: &Given) -> Option<u32> {
        Some(op.id + 1)
    }
}

/// See the module.
pub(super) struct MonotoneReading(Ids<i64>);

impl MonotoneReading {
    pub fn new() -> MonotoneReading {
        MonotoneReading(Ids::new())
    }
}

impl Reading for MonotoneReading {
    type Model = Monotone;

    fn ops() -> &'static [&'static str] {
        OPS
    }

    fn call(&mut self, _process: i64, f: &str, _asked: &Value, ending: Ending) -> Result<Option<Given>, String> {
        match ending {
            Ending::Ok(Value::Int(id)) => Ok(Some(self.0.given(id))),
            Ending::Ok(other) => Err(format!(
                "{f} answered {}: an id that can rise is a whole number",
                shown(other)
            )),
            Ending::Fail(_) | Ending::Unknown => Ok(None),
        }
    }

    fn model(&self) -> Monotone {
        Monotone(self.0.met.clone())
    }

    fn quick(&self, calls: &[Call<Given>]) -> Option<Quick> {
        let second = calls.iter().position(|call| call.op.again);
        let culprits = match second {
            Some(second) => same(calls, second, |op| op.id),
            None => fallen(&self.0.met, calls),
        };
        Some(Quick {
            by: "real time",
            culprits,
        })
    }

    fn words(&self, op: &Given) -> String {
        format!("id {}", self.0.met[op.id as usize])
    }
}

/// The first call whose id is lower than one that was out before it began, with that one; else nothing.
fn fallen(ids: &[i64], calls: &[Call<Given>]) -> Vec<u32> {
    let end = |(place, call): (u32, &Call<Given>)| u64::from(call.end) << 32 | u64::from(place);
    let mut ends: Vec<u64> = (0u32..).zip(calls).map(end).collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut highest: Option<(i64, u32)> = None;
    for (place, call) in (0u32..).zip(calls) {
        while let Some(ended) = ends.next_if(|end| end >> 32 < u64::from(call.begin)) {
            let other = ended as u32;
            let id = ids[calls[other as usize].op.id as usize];
            highest = highest.max(Some((id, other)));
        }
        if let Some((_, other)) = highest.filter(|(high, _)| ids[call.op.id as usize] < *high) {
            let mut both = vec![place, other];
            both.sort_unstable();
            return both;
        }
    }
    Vec::new()
}
