//! A register that is read, set, and set if it holds what was expected.
//!
//! Operations: `read` (answers the value), `write` of a value, and `cas` of a pair [expected new]. It holds nil at first;
//! values are anything. A `cas` that failed saw another value, if its failure has no reason or the reason is `mismatch`,
//! and if [`FailedCas`] says so; every other failure says that nothing happened.
use super::prepared::shown;
use super::values::Values;
use super::{Ending, FailedCas, Quick, Reading, zones};
use crate::linear::model::{Call, Model};
use splitbrain_core::formats::Value as Written;

/// What it holds, numbered as it is met.
pub type Value = u32;
/// Nothing, as at first.
pub const NOTHING: Value = 0;
/// Stands for every value that no call reads or expects.
pub const UNSEEN: Value = u32::MAX;

/// A call that took effect, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterOp {
    /// It held this.
    Read(Value),
    /// It did not hold this: a comparison that failed.
    Differs(Value),
    /// Whatever it held, now it holds this.
    Set(Value),
    /// It held the one, and now it holds the other.
    Cas {
        /// What it held.
        from: Value,
        /// What it holds.
        to: Value,
    },
}

use RegisterOp::{Cas, Differs, Read, Set};

/// See the module.
pub struct Register;

impl Model for Register {
    type Op = RegisterOp;

    fn start(&self) -> u32 {
        NOTHING
    }

    fn step(&self, state: Value, op: &RegisterOp) -> Option<Value> {
        match *op {
            Read(value) => (state == value).then_some(state),
            Differs(value) => (state != value).then_some(state),
            Set(value) => Some(value),
            Cas { from, to } => (state == from).then_some(to),
        }
    }

    fn looks(&self, op: &RegisterOp) -> bool {
        matches!(op, Read(_) | Differs(_))
    }

    fn overwrites(&self, op: &RegisterOp) -> bool {
        matches!(op, Set(_))
    }

    fn needs(&self, op: &RegisterOp) -> Option<Value> {
        match *op {
            Read(value) | Cas { from: value, .. } => Some(value),
            Differs(_) | Set(_) => None,
        }
    }

    fn gives(&self, op: &RegisterOp) -> Option<Value> {
        match *op {
            Set(value) | Cas { to: value, .. } => Some(value),
            Read(_) | Differs(_) => None,
        }
    }
}

/// Makes one of all values that no call reads or expects: nothing can tell them apart. Sets that had no answer and whose
/// values were never seen, which are many where hosts break, so do the same, and are counted instead of told apart.
/// Values are numbered densely: a table of them is small.
pub(crate) fn merge_unseen(calls: &mut [Call<RegisterOp>]) {
    let mut seen: Vec<bool> = Vec::new();
    for call in &*calls {
        if let Read(value) | Differs(value) | Cas { from: value, .. } = call.op {
            let value = value as usize;
            if value >= seen.len() {
                seen.resize(value + 1, false);
            }
            seen[value] = true;
        }
    }
    for call in calls {
        if let Set(to) | Cas { to, .. } = &mut call.op
            && !seen.get(*to as usize).is_some_and(|seen| *seen)
        {
            *to = UNSEEN;
        }
    }
}

/// See the module.
pub struct RegisterReading {
    failed_cas: FailedCas,
    values: Values,
}

impl RegisterReading {
    /// Of an object of which nothing was read yet.
    pub fn new(failed_cas: FailedCas) -> RegisterReading {
        RegisterReading {
            failed_cas,
            values: Values::new(),
        }
    }
}

impl Reading for RegisterReading {
    type Model = Register;

    fn ops() -> &'static [&'static str] {
        &["read", "write", "cas"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Written, ending: Ending) -> Result<Option<RegisterOp>, String> {
        let values = &mut self.values;
        let op = match (f, ending) {
            ("read", Ending::Ok(value)) => Read(values.number(value)),
            ("write", Ending::Ok(_) | Ending::Unknown) => Set(values.number(asked)),
            ("cas", ending) => {
                let Written::List(pair) = asked else {
                    return Err(format!("cas of {}: it takes a pair [expected new]", shown(asked)));
                };
                let [from, to] = &pair[..] else {
                    return Err(format!("cas of {}: it takes a pair [expected new]", shown(asked)));
                };
                let (from, to) = (values.number(from), values.number(to));
                match ending {
                    Ending::Ok(_) | Ending::Unknown => Cas { from, to },
                    Ending::Fail(None | Some("mismatch")) if self.failed_cas == FailedCas::Observe => Differs(from),
                    Ending::Fail(_) => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Register {
        Register
    }

    fn quick(&self, calls: &[Call<RegisterOp>]) -> Option<Quick> {
        zones::decide(calls)
    }

    fn simplify(&self, calls: &mut [Call<RegisterOp>]) {
        merge_unseen(calls);
    }

    fn state(&self, _: &Register, state: Value) -> Option<String> {
        Some(format!("it holds {}", self.values.shown(state)))
    }

    fn words(&self, op: &RegisterOp) -> String {
        let shown = |value| self.values.shown(value);
        match *op {
            Read(value) => format!("read {}", shown(value)),
            Differs(value) => format!("found something else than {}", shown(value)),
            Set(value) => format!("write {}", shown(value)),
            Cas { from, to } => format!("cas {} to {}", shown(from), shown(to)),
        }
    }
}
