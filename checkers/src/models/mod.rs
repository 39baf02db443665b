//! Models: what a history of operations, whoever recorded it, is judged against.
//!
//! **From events to calls.** An operation is an invocation and its completion, or the lack of one. A [`Reading`] turns
//! each into a [`Call`] of its [`Model`]: what was asked together with what was answered. `ok` means that it happened;
//! `fail` that it did not, which may be an observation (a comparison that failed saw another value; [`FailedCas`] says
//! whether to believe that); `info`, or no completion at all, that it may take effect at any later time or never.
//! A process that is told of two invocations without a completion between them has crashed the first.
//!
//! **Parts.** Objects that do not touch each other are judged apart (Herlihy and Wing, 1990, theorem 1: a history is
//! linearizable if and only if each object's part is): one part for each key. [`gather`] makes them, in one pass.
//!
//! **Judging.** Where a linear algorithm applies ([`Reading::quick`]) it decides; else the engines of
//! [`linear`](crate::linear) do, within a budget. [`prepared`] holds the parts of a history so that each can be judged
//! on a thread of its own; this crate starts none.
pub mod counter;
mod engines;
mod gather;
mod ids;
mod inclusion;
mod jobs;
mod kind;
mod kv;
mod leadership;
mod locks;
mod permits;
mod prepared;
mod queue;
pub mod register;
pub mod set;
mod states;
#[cfg(test)]
mod tests;
mod values;
mod zones;

pub use engines::Budget;
pub use gather::{Gathering, Source};
pub use kind::Kind;
pub use prepared::{Explanation, PartJudgement, Prepared};

use crate::linear::model::{Call, Model};
use splitbrain_core::Validity;
use splitbrain_core::formats::{OpEvent, Value};

/// How a comparison that failed is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedCas {
    /// It saw that the value was not the expected one, if it gives no reason or `mismatch`.
    #[default]
    Observe,
    /// It says nothing (Knossos).
    Ignore,
}

/// What of a model can be chosen, and how a history is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// See there.
    pub failed_cas: FailedCas,
    /// How many may hold a semaphore at once.
    pub permits: u32,
    /// How often its holder may hold a reentrant mutex.
    pub depth: u32,
    /// Whether values are pairs of a key and a value, as jepsen.independent writes them, where an event has no key of
    /// its own. The models that are maps take them so in any case.
    pub keyed: bool,
    /// Whether operations with names that the model does not know are left out; else they are an error.
    pub skip_others: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            failed_cas: FailedCas::default(),
            permits: 2,
            depth: 2,
            keyed: false,
            skip_others: false,
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// It happened, and this was its value.
    Ok(&'a Value),
    /// It did not happen, for this reason.
    Fail(Option<&'a str>),
    /// Nobody knows.
    Unknown,
}

/// How operations become calls of a model. There is one for each part, so that values can be numbered densely.
pub trait Reading: Send + Sync {
    /// Of which.
    type Model: Model<Op: Send + Sync>;

    /// The names of its operations, with their aliases.
    fn ops() -> &'static [&'static str]
    where
        Self: Sized;

    /// The call that an operation with one of these names is, or `None` if it says nothing, as one does that only looks
    /// and has no answer. An error is a fragment in
    /// words: which value cannot be, and what would be one.
    fn call(
        &mut self,
        process: i64,
        f: &str,
        asked: &Value,
        ending: Ending,
    ) -> Result<Option<<Self::Model as Model>::Op>, String>;

    /// The object, once all operations were read. Those that number states as they meet them begin anew.
    fn model(&self) -> Self::Model;

    /// Whether a model ran out of room for its states, and refused steps that are possible.
    fn is_full(_model: &Self::Model) -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Makes one of what no call can tell apart, before the engines search.
    fn simplify(&self, _calls: &mut [Call<<Self::Model as Model>::Op>]) {}

    /// A linear algorithm's word, where its conditions hold; `calls` are in the order of their beginnings. Places are mostly dense: below twice the number of operations.
    fn quick(&self, _calls: &[Call<<Self::Model as Model>::Op>]) -> Option<Quick> {
        None
    }

    /// The calls on objects that do not touch each other, if there are several: each group by their places in the slice.
    fn split(&self, _calls: &[Call<<Self::Model as Model>::Op>]) -> Option<Vec<Vec<u32>>> {
        None
    }

    /// A state in words, where there are some: `it holds 3`.
    fn state(&self, _model: &Self::Model, _state: u32) -> Option<String> {
        None
    }

    /// An operation in words: `read 3`.
    fn words(&self, op: &<Self::Model as Model>::Op) -> String;
}

/// What a linear algorithm says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quick {
    /// The algorithm: `zones`.
    pub by: &'static str,
    /// Empty if the history fits the model; else calls, by their places in the slice, of which no order works.
    pub culprits: Vec<u32>,
}

/// What was found of one history.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Valid, invalid or unknown.
    pub validity: Validity,
    /// Who decided: `zones`, `depth-first`, ...
    pub by: &'static str,
    /// One sentence.
    pub summary: String,
    /// Operations that were judged, and of those the ones without an answer.
    pub operations: u64,
    /// See above.
    pub unanswered: u64,
}

/// Reads a whole history. Events that clients did not make are left out. An error is a fragment that names the line.
pub fn prepare(kind: Kind, events: impl IntoIterator<Item = OpEvent>, options: &Options) -> Result<Prepared, String> {
    let mut gathering = kind.gathering(options);
    for event in events {
        gathering.event(event)?;
    }
    Ok(gathering.finish())
}

/// Reads and judges a whole history, part by part. `stop` is asked now and then whether to give up.
pub fn judge(
    kind: Kind,
    events: impl IntoIterator<Item = OpEvent>,
    options: &Options,
    budget: Budget,
    stop: &dyn Fn() -> bool,
) -> Result<Judgement, String> {
    let prepared = prepare(kind, events, options)?;
    let parts = (0..prepared.parts()).map(|part| prepared.judge(part, budget, stop));
    let parts: Vec<PartJudgement> = parts.collect();
    Ok(prepared.merge(&parts))
}
