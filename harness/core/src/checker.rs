//! A checker: a fold over a history that ends in a verdict.
use crate::event::Event;
use crate::verdict::Verdict;

/// Sees every event once, in order, and keeps only what its verdict needs.
pub trait Checker {
    /// As verdicts and reports write it.
    fn name(&self) -> &'static str;
    /// The next event.
    fn event(&mut self, event: &Event);
    /// The verdict on what was seen. Called once, at the end.
    fn finish(&mut self) -> Verdict;
}
