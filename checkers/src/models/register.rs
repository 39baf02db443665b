//! A register that is read, set, and set if it holds what was expected.
use crate::linear::model::{Call, Model};
use std::collections::BTreeSet;

/// What it holds, numbered by [`Values`](super::Values).
pub(crate) type Value = u32;
/// Nothing, as at first.
pub(crate) const NOTHING: Value = 0;
/// Stands for every value that no call reads or expects.
pub(crate) const UNSEEN: Value = u32::MAX;

/// A call that took effect, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RegisterOp {
    /// It held this.
    Read(Value),
    /// It did not hold this: a comparison that failed.
    Differs(Value),
    Set(Value),
    Cas {
        from: Value,
        to: Value,
    },
}

use RegisterOp::{Cas, Differs, Read, Set};

/// See the module.
pub(crate) struct Register;

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
pub(crate) fn merge_unseen(calls: &mut [Call<RegisterOp>]) {
    let seen = |op: &RegisterOp| match *op {
        Read(value) | Differs(value) | Cas { from: value, .. } => Some(value),
        Set(_) => None,
    };
    let seen: BTreeSet<Value> = calls.iter().filter_map(|call| seen(&call.op)).collect();
    for call in calls {
        if let Set(to) | Cas { to, .. } = &mut call.op
            && !seen.contains(to)
        {
            *to = UNSEEN;
        }
    }
}
