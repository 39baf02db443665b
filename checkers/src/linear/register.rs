//! A register that is read, set, and set if it holds what was expected.
use super::{Call, Model};
use std::collections::BTreeSet;

/// What it holds; `None` at first.
pub(crate) type Value = Option<u64>;

/// A call that took effect, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RegisterOp {
    /// It held this.
    Read(Value),
    /// It did not hold this: a comparison that failed.
    Differs(Value),
    Set(u64),
    Cas {
        from: Value,
        to: u64,
    },
}

use RegisterOp::{Cas, Differs, Read, Set};

/// See the module.
pub(crate) struct Register;

impl Model for Register {
    type State = Value;
    type Op = RegisterOp;

    fn step(state: Value, op: &RegisterOp) -> Option<Value> {
        match *op {
            Read(value) => (state == value).then_some(state),
            Differs(value) => (state != value).then_some(state),
            Set(value) => Some(Some(value)),
            Cas { from, to } => (state == from).then_some(Some(to)),
        }
    }

    fn looks(op: &RegisterOp) -> bool {
        matches!(op, Read(_) | Differs(_))
    }

    fn overwrites(op: &RegisterOp) -> bool {
        matches!(op, Set(_))
    }

    fn needs(op: &RegisterOp) -> Option<Value> {
        match *op {
            Read(value) | Cas { from: value, .. } => Some(value),
            Differs(_) | Set(_) => None,
        }
    }

    fn gives(op: &RegisterOp) -> Option<Value> {
        match *op {
            Set(value) | Cas { to: value, .. } => Some(Some(value)),
            Read(_) | Differs(_) => None,
        }
    }
}

/// Makes one of all values that no call reads or expects: nothing can tell them apart. Sets that had no answer and whose
/// values were never seen, which are many where hosts break, so do the same, and are counted instead of told apart.
pub(crate) fn merge_unseen(calls: &mut [Call<RegisterOp>]) {
    let seen = |op: &RegisterOp| match *op {
        Read(value) | Differs(value) | Cas { from: value, .. } => value,
        Set(_) => None,
    };
    let seen: BTreeSet<u64> = calls.iter().filter_map(|call| seen(&call.op)).collect();
    let unseen = (0..=u64::MAX).rev().find(|value| !seen.contains(value));
    let unseen = unseen.expect("no history names every number");
    for call in calls {
        if let Set(to) | Cas { to, .. } = &mut call.op
            && !seen.contains(to)
        {
            *to = unseen;
        }
    }
}
