//! A history that was read and is to be judged, part by part.
use super::engines::{self, Budget, By};
use super::gather::Source;
use super::{Judgement, Kind, Reading};
use crate::linear::model::{Call, Model};
use crate::linear::{self, Found};
use splitbrain_core::Validity;
use splitbrain_core::formats::Value;

/// A history's parts. They can be judged on several threads.
pub struct Prepared {
    kind: Kind,
    parts: Box<dyn Erased>,
}

/// What was found of one part.
#[derive(Clone, Debug, PartialEq)]
pub struct PartJudgement {
    /// The object's key, if there is one.
    pub key: Option<Value>,
    /// Valid, invalid or unknown.
    pub validity: Validity,
    /// Who decided.
    pub by: &'static str,
    /// For unknown: why.
    pub why: String,
    /// For invalid, where a linear algorithm found it: calls of which no order works.
    pub culprits: Vec<u32>,
    /// Calls with an answer, and those without.
    pub answered: u64,
    /// See above.
    pub unanswered: u64,
}

/// Why a part fits no order. Calls are told by their numbers, for [`Prepared::told`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The call with whose end no order is left.
    pub at: u32,
    /// An order of what came before: the longest beginning that fits.
    pub order: Vec<u32>,
    /// The object after it, in words, where the model has words for that.
    pub state: Option<String>,
    /// The calls that were open then, that one first, and whether each could take effect next.
    pub open: Vec<(u32, bool)>,
    /// The fewest calls found of which no order works.
    pub core: Vec<u32>,
}

/// One object's history.
pub(super) struct Part<R: Reading> {
    pub reading: R,
    /// In the order of their beginnings.
    pub calls: Vec<Call<<R::Model as Model>::Op>>,
    /// Of each call.
    pub sources: Vec<Source>,
}

pub(super) struct Parts<R: Reading> {
    pub keys: Vec<Option<Value>>,
    pub parts: Vec<Part<R>>,
}

/// Parts of any model.
trait Erased: Send + Sync {
    fn count(&self) -> usize;
    fn judge(&self, part: usize, by: By, budget: Budget, stop: &dyn Fn() -> bool) -> PartJudgement;
    fn told(&self, part: usize, call: usize) -> (Source, String);
    fn calls(&self, part: usize) -> usize;
    fn order(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Vec<u32>>;
    fn explain(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Explanation>;
    /// Whether some order of these calls fits, by an engine.
    #[cfg(test)]
    fn fits(&self, part: usize, calls: &[u32]) -> bool;
}

impl<R: Reading> Erased for Parts<R> {
    fn count(&self) -> usize {
        self.parts.len()
    }

    fn judge(&self, part: usize, by: By, budget: Budget, stop: &dyn Fn() -> bool) -> PartJudgement {
        let Part { reading, calls, .. } = &self.parts[part];
        let answered = calls.iter().filter(|call| call.ended()).count() as u64;
        let decided = engines::decide(reading, calls, by, budget, stop);
        PartJudgement {
            key: self.keys[part].clone(),
            validity: decided.validity,
            by: decided.by,
            why: decided.why,
            culprits: decided.culprits,
            answered,
            unanswered: calls.len() as u64 - answered,
        }
    }

    fn told(&self, part: usize, call: usize) -> (Source, String) {
        let part = &self.parts[part];
        (part.sources[call], part.reading.words(&part.calls[call].op))
    }

    fn calls(&self, part: usize) -> usize {
        self.parts[part].calls.len()
    }

    fn order(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Vec<u32>> {
        let Part { reading, calls, .. } = &self.parts[part];
        let (model, limits) = (reading.model(), budget.into());
        let Found::Order(Some(order)) = linear::decide(&model, calls, &limits, true, stop).found else {
            return None;
        };
        linear::verify(&reading.model(), calls, &order).expect("the engines tell orders that replay");
        Some(order)
    }

    fn explain(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Explanation> {
        let Part { reading, calls, .. } = &self.parts[part];
        let model = reading.model();
        let told = linear::explain(&model, calls, &budget.into(), stop)?;
        Some(Explanation {
            at: told.at,
            order: told.order,
            state: reading.state(&model, told.state),
            open: told.open,
            core: told.core,
        })
    }

    #[cfg(test)]
    fn fits(&self, part: usize, calls: &[u32]) -> bool {
        let part = &self.parts[part];
        let calls: Vec<_> = calls.iter().map(|n| part.calls[*n as usize].clone()).collect();
        let decided = engines::decide(&part.reading, &calls, By::Any, Budget::default(), &|| false);
        decided.validity != Validity::Invalid
    }
}

impl Prepared {
    pub(super) fn new<R: Reading + 'static>(kind: Kind, parts: Box<Parts<R>>) -> Prepared {
        Prepared { kind, parts }
    }

    /// How many: one for each object that was met.
    pub fn parts(&self) -> usize {
        self.parts.count()
    }

    /// How many calls a part has.
    pub fn calls(&self, part: usize) -> usize {
        self.parts.calls(part)
    }

    /// Where a call comes from, and its words: `read 3`.
    pub fn told(&self, part: usize, call: usize) -> (Source, String) {
        self.parts.told(part, call)
    }

    /// An order of a part's calls, replayed before it is told; `None` where none was found within the budget.
    pub fn order(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Vec<u32>> {
        self.parts.order(part, budget, stop)
    }

    /// Why a part fits no order; `None` where that was not found within the budget.
    pub fn explain(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> Option<Explanation> {
        self.parts.explain(part, budget, stop)
    }

    /// Judges one part. `stop` is asked now and then whether to give up.
    pub fn judge(&self, part: usize, budget: Budget, stop: &dyn Fn() -> bool) -> PartJudgement {
        self.parts.judge(part, By::Any, budget, stop)
    }

    /// Lets one way alone judge a part.
    #[cfg(test)]
    pub(super) fn judge_by(&self, part: usize, by: By) -> PartJudgement {
        // One engine alone may be lost where both together are not.
        let little = Budget {
            memory: 32 << 20,
            steps: 300_000,
        };
        let budget = if matches!(by, By::Engine(_)) {
            little
        } else {
            Budget::default()
        };
        self.parts.judge(part, by, budget, &|| false)
    }

    /// Whether some order of these calls of a part fits, by an engine.
    #[cfg(test)]
    pub(super) fn fits(&self, part: usize, calls: &[u32]) -> bool {
        self.parts.fits(part, calls)
    }

    /// The history's judgement from those of its parts: the gravest wins. A history in which nothing was answered says
    /// nothing.
    pub fn merge(&self, parts: &[PartJudgement]) -> Judgement {
        let answered: u64 = parts.iter().map(|p| p.answered).sum();
        let unanswered: u64 = parts.iter().map(|p| p.unanswered).sum();
        let told = format!(
            "{} of {} with and {unanswered} without an answer",
            operations(answered),
            self.kind.name()
        );
        // Of equals the first.
        let gravest = parts.iter().rev().max_by_key(|p| p.validity);
        let (validity, by, summary) = match gravest {
            Some(part) if answered > 0 => {
                let of = part
                    .key
                    .as_ref()
                    .map_or(String::new(), |key| format!(" of key {}", shown(key)));
                let summary = match part.validity {
                    Validity::Valid => format!("{told} fit one order"),
                    Validity::Invalid => format!("{told} fit no order: those{of} do not"),
                    Validity::Unknown => format!("{told}: those{of} are undecided: {}", part.why),
                };
                (part.validity, part.by, summary)
            }
            _ => (Validity::Unknown, "nobody", "no operation was answered".to_string()),
        };
        Judgement {
            validity,
            by,
            summary,
            operations: answered + unanswered,
            unanswered,
        }
    }
}

fn operations(n: u64) -> String {
    match n {
        1 => "1 operation".to_string(),
        n => format!("{n} operations"),
    }
}

/// A value in words.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(list) => {
            let list: Vec<String> = list.iter().map(shown).collect();
            format!("[{}]", list.join(" "))
        }
    }
}
