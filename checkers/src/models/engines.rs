//! The one place where models meet the engines of [`linear`](crate::linear).
use super::{Quick, Reading};
use crate::linear::model::{Call, Model};
use crate::linear::{self, Engine, Found, Limits};
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

impl From<Budget> for Limits {
    fn from(budget: Budget) -> Limits {
        Limits {
            bytes: usize::try_from(budget.memory).unwrap_or(usize::MAX),
            steps: budget.steps,
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
    /// This engine alone: to compare the two.
    #[cfg_attr(not(test), allow(dead_code))]
    Engine(Engine),
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

/// Decides one part: `calls` in the order of their beginnings.
pub(crate) fn decide<R: Reading>(
    reading: &R,
    calls: &[Call<<R::Model as Model>::Op>],
    by: By,
    budget: Budget,
    stop: &dyn Fn() -> bool,
) -> Decided {
    if !matches!(by, By::Engine(_)) {
        if let Some(quick) = reading.quick(calls) {
            return quick.into();
        }
        if by == By::Quick {
            return unknown("quick", "its conditions do not hold".to_string());
        }
    }
    let Some(groups) = reading.split(calls) else {
        return search_all(reading, calls, by, budget, stop);
    };
    let mut gravest = Decided::from(Quick {
        by: "nobody",
        culprits: Vec::new(),
    });
    for group in groups {
        let of: Vec<_> = group.iter().map(|n| calls[*n as usize].clone()).collect();
        let mut decided = search_all(reading, &of, by, budget, stop);
        if decided.validity == Validity::Invalid {
            decided.culprits = group;
            return decided;
        }
        if decided.validity >= gravest.validity {
            gravest = decided;
        }
    }
    gravest
}

/// Lets the engines decide.
fn search_all<R: Reading>(
    reading: &R,
    calls: &[Call<<R::Model as Model>::Op>],
    by: By,
    budget: Budget,
    stop: &dyn Fn() -> bool,
) -> Decided {
    if stop() {
        return unknown("nobody", "told to stop".to_string());
    }
    let limits = budget.into();
    let mut calls = calls.to_vec();
    reading.simplify(&mut calls);
    let model = reading.model();
    let decision = match by {
        By::Engine(engine) => linear::decide_alone(&model, &calls, engine, &limits),
        _ => linear::decide(&model, &calls, &limits, false, stop),
    };
    let by = decision.by;
    match decision.found {
        Found::Order(_) => Quick {
            by,
            culprits: Vec::new(),
        }
        .into(),
        Found::None { .. } if R::is_full(&model) => unknown(by, "the object's states take too much memory".to_string()),
        Found::None { .. } => Decided {
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
