//! The one place where models meet the engines of [`linear`](crate::linear).
use super::{Quick, Reading};
use crate::linear::model::{Call, Model};
use crate::linear::search::{self, Found, search};
use splitbrain_core::Validity;

/// What a search may use. Time is the caller's to limit: he is asked whether to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// About how many bytes.
    pub memory: u64,
    /// How many steps of the model.
    pub steps: u64,
}

impl Default for Budget {
    /// 256 MB, and a minute or so.
    fn default() -> Budget {
        Budget {
            memory: 256 << 20,
            steps: 2_000_000_000,
        }
    }
}

/// Who is to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The linear algorithm where its conditions hold, else the engines.
    Any,
    /// The linear algorithm or nobody.
    Quick,
    /// This engine alone.
    DepthFirst,
}

/// What came of it.
pub(crate) struct Decided {
    pub validity: Validity,
    pub by: &'static str,
    /// See [`Quick::culprits`].
    pub culprits: Vec<u32>,
    /// For unknown: the reason.
    pub why: String,
}

impl From<Quick> for Decided {
    fn from(quick: Quick) -> Decided {
        let validity = match quick.culprits.is_empty() {
            true => Validity::Valid,
            false => Validity::Invalid,
        };
        Decided {
            validity,
            by: quick.by,
            culprits: quick.culprits,
            why: String::new(),
        }
    }
}

/// About the bytes of a configuration that an engine remembers.
const CONFIGURATION: u64 = 100;

/// Decides one part: `calls` in the order of their beginnings.
pub(crate) fn decide<R: Reading>(
    reading: &R,
    calls: &[Call<<R::Model as Model>::Op>],
    by: By,
    budget: Budget,
    stop: &dyn Fn() -> bool,
) -> Decided {
    if by != By::DepthFirst {
        if let Some(quick) = reading.quick(calls) {
            return quick.into();
        }
        if by == By::Quick {
            return unknown("quick", "its conditions do not hold".to_string());
        }
    }
    if stop() {
        return unknown("nobody", "told to stop".to_string());
    }
    let budget = search::Budget {
        configurations: usize::try_from(budget.memory / CONFIGURATION).unwrap_or(usize::MAX),
        steps: budget.steps,
    };
    let by = "depth-first";
    let mut calls = calls.to_vec();
    reading.simplify(&mut calls);
    match search(&reading.model(), &calls, budget) {
        Found::Order(_) => Quick {
            by,
            culprits: Vec::new(),
        }
        .into(),
        Found::None => Decided {
            validity: Validity::Invalid,
            by,
            culprits: Vec::new(),
            why: String::new(),
        },
        Found::Unknown(why) => unknown(by, why),
    }
}

fn unknown(by: &'static str, why: String) -> Decided {
    Decided {
        validity: Validity::Unknown,
        by,
        culprits: Vec::new(),
        why,
    }
}
