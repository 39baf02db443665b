//! Models: what a history of operations, whoever recorded it, is judged against.
//!
//! **From events to calls.** An operation is an invocation and its completion, or the lack of one. A [`Reading`] turns
//! each into a [`Call`] of its [`Model`]: what was asked together with what was answered. `ok` means that it happened;
//! `fail` that it did not, which may be an observation (a comparison that failed saw another value; [`FailedCas`] says
//! whether to believe that); `info`, or no completion at all, that it may take effect at any later time or never.
//! A process that is told of two invocations without a completion between them has crashed the first.
//!
//! **Parts.** Objects that do not touch each other are judged apart (Herlihy and Wing, 1990, theorem 1: a history is
//! linearizable if and only if each object's part is): one part for each key.
//!
//! **Judging.** Where a linear algorithm applies ([`Reading::quick`]) it decides; else the engines of
//! [`linear`](crate::linear) do, within a budget.
pub mod register;

use crate::linear::model::{Call, Model};
use splitbrain_core::Validity;
use splitbrain_core::formats::Value;

/// How a comparison that failed is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedCas {
    /// It saw that the value was not the expected one.
    #[default]
    Observe,
    /// It says nothing (Knossos).
    Ignore,
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

/// How operations become calls of a model.
pub trait Reading {
    /// Of which.
    type Model: Model;

    /// The call that an operation is, or `None` if it says nothing. An error is a fragment in words: what is no
    /// operation of this model, and what would be.
    fn call(
        &mut self,
        process: i64,
        f: &str,
        asked: &Value,
        ending: Ending,
    ) -> Result<Option<<Self::Model as Model>::Op>, String>;

    /// The object, once all operations were read.
    fn model(&self) -> &Self::Model;

    /// A linear algorithm's word, where its conditions hold; `calls` are in the order of their beginnings.
    fn quick(&self, _calls: &[Call<<Self::Model as Model>::Op>]) -> Option<Quick> {
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
    /// Empty if the history fits the model; else calls, by their places, of which no order works.
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
