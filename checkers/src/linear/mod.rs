//! Linearizability: whether all operations fit one order in which each takes effect at one instant between its call and
//! its answer, and answers what a single object would (Herlihy and Wing, "Linearizability", 1990).
//!
//! The question is NP-complete (Gibbons and Korach, "Testing shared memories", 1997), and histories of real systems are
//! mostly easy. Two engines, for any [`model::Model`], are as different as can be and take turns ([`decide`]):
//!
//! - [`jit`], breadth first, holds every way in which the object may stand, and needs no memory of the past;
//! - [`depth`], depth first, follows one way until it ends, and remembers what it tried.
//!
//! [`Online`] is the first of them on a history that is still being written. A third, naive one, in the tests, is what both are compared with.
mod bits;
mod breadth;
pub(crate) mod checker;
mod config;
mod crashed;
mod decide;
mod depth;
mod explain;
mod jit;
mod met;
pub mod model;
mod online;
mod reach;
mod seen;
#[cfg(test)]
mod tests;
mod timeline;
mod verify;
mod ways;

pub use decide::{decide, decide_alone};
pub use explain::{Explained, explain};
pub use online::Online;
pub use verify::verify;

/// What an engine says of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It fits an order: all calls that ended, and the crashed ones that took effect; if the order was asked for.
    Order(Option<Vec<u32>>),
    /// It fits none; the call at whose end that is sure, if that is known.
    None {
        /// By its place among the calls.
        at: Option<u32>,
    },
    /// It was not decided; why.
    Unknown(String),
}

/// What was found, by whom, at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `breadth-first`, `depth-first`, or `both engines` where neither decided.
    pub by: &'static str,
    /// What.
    pub found: Found,
    /// Operations that were tried in some state.
    pub steps: u64,
}

impl Decision {
    fn new(by: &'static str, found: Found, steps: u64) -> Decision {
        Decision { by, found, steps }
    }
}

/// What the engines may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of memory, about.
    pub bytes: usize,
    /// How many operations may be tried in some state.
    pub steps: u64,
}

impl Limits {
    /// What a checker may use where nobody says otherwise: some ten seconds.
    pub const USUAL: Limits = Limits {
        bytes: 256 << 20,
        steps: 500_000_000,
    };
}

/// One of the two, where not both are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The just-in-time linearizer.
    BreadthFirst,
    /// The search.
    DepthFirst,
}
