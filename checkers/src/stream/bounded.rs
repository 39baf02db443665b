//! A checker that remembers only so much.
use splitbrain_core::{Checker, Validity, Verdict};

/// A checker that is fed until it has too much to remember.
pub(super) struct Bounded<C> {
    pub checker: C,
    /// Whether it applies.
    pub judges: bool,
    pub full: bool,
}

impl<C: Checker> Bounded<C> {
    pub fn new(checker: C, judges: bool) -> Bounded<C> {
        Bounded {
            checker,
            judges,
            full: false,
        }
    }

    /// Tells the checker something, unless it has too much to remember.
    pub fn feed<T>(&mut self, entries: usize, size: impl Fn(&C) -> usize, tell: impl FnOnce(&mut C) -> T) -> Option<T> {
        if self.full {
            return None;
        }
        let said = tell(&mut self.checker);
        self.full = size(&self.checker) > entries;
        Some(said)
    }

    pub fn finish(mut self, what: &str) -> Option<Verdict> {
        let verdict = self.judges.then(|| self.checker.finish())?;
        let why = || format!("more {what} than can be remembered: what came later was not judged");
        Some(if self.full { in_doubt(verdict, why()) } else { verdict })
    }
}

/// What was found stands; that nothing was found means nothing.
pub(super) fn in_doubt(verdict: Verdict, why: String) -> Verdict {
    match verdict.validity {
        Validity::Invalid => verdict,
        _ => Verdict {
            validity: Validity::Unknown,
            summary: why,
            ..verdict
        },
    }
}
