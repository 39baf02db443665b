//! What the engines know of an object and of a history.
use std::fmt::Debug;

/// The end of a call that never ended.
pub const NEVER: u32 = u32::MAX;

/// A sequential object: what each operation may answer in each state, and what it leads to.
///
/// A state is a number. Models whose states are large number them as they meet them.
pub trait Model {
    /// An operation together with its answer.
    type Op: Clone + Ord + Debug;

    /// The state at first.
    fn start(&self) -> u32;

    /// The state after `op`; `None` if `op` cannot have its answer in `state`.
    fn step(&self, state: u32, op: &Self::Op) -> Option<u32>;

    /// Whether `op` never changes the state.
    fn looks(&self, op: &Self::Op) -> bool;

    /// Whether `op` is possible in every state and leads to the same one from all.
    fn overwrites(&self, _op: &Self::Op) -> bool {
        false
    }

    /// The only state in which `op` is possible, if there is only one and it is known.
    fn needs(&self, _op: &Self::Op) -> Option<u32> {
        None
    }

    /// The only state to which `op` leads, if it changes the state, and there is only one and it is known.
    fn gives(&self, _op: &Self::Op) -> Option<u32> {
        None
    }
}

/// A call to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<O> {
    /// What was asked and what was answered.
    pub op: O,
    /// Its place in the history. No two of all beginnings and ends are the same.
    pub begin: u32,
    /// [`NEVER`]: it crashed. Nobody knows whether it takes effect, or when.
    pub end: u32,
}

impl<O> Call<O> {
    /// Whether its end is in the history.
    pub fn ended(&self) -> bool {
        self.end != NEVER
    }
}
