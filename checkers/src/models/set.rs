//! A set of elements, empty at first.
//!
//! Operations: `add` and `remove` of an element, `contains` of one (answers whether), and `read` of the whole (answers
//! the list of its elements, in any order; nil is the empty one). A `read` that is asked for an element and answers
//! whether is taken for `contains`. In a grow-only set there are `add` and `read` of the whole alone, and
//! [`inclusion`](super::inclusion) decides; else elements are judged apart where nobody reads the whole.
use super::prepared::shown;
use super::states::States;
use super::values::Values;
use super::{Ending, Quick, Reading, inclusion};
use crate::linear::model::{Call, Model};
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

/// A call that took effect, or may have. Elements are numbered as they are met, and so are lists of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetOp {
    /// Now this is in it.
    Add(u32),
    /// Now this is not in it.
    Remove(u32),
    /// This was in it.
    Has(u32),
    /// This was not in it.
    Lacks(u32),
    /// It was this.
    Whole(u32),
}

use SetOp::{Add, Has, Lacks, Remove, Whole};

/// See the module. States are rising lists of elements.
pub struct Set {
    states: States<Vec<u32>>,
    /// Of each list that was read: its state.
    whole: Vec<u32>,
}

impl Model for Set {
    type Op = SetOp;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &SetOp) -> Option<u32> {
        let holds = |element: u32| self.states.get(state).binary_search(&element).is_ok();
        match *op {
            Add(element) => self.states.step(state, 2 * element, |set| {
                if let Err(at) = set.binary_search(&element) {
                    set.insert(at, element);
                }
            }),
            Remove(element) => self
                .states
                .step(state, 2 * element + 1, |set| set.retain(|e| *e != element)),
            Has(element) => holds(element).then_some(state),
            Lacks(element) => (!holds(element)).then_some(state),
            Whole(list) => (self.whole[list as usize] == state).then_some(state),
        }
    }

    fn looks(&self, op: &SetOp) -> bool {
        matches!(op, Has(_) | Lacks(_) | Whole(_))
    }

    fn needs(&self, op: &SetOp) -> Option<u32> {
        match *op {
            Whole(list) => Some(self.whole[list as usize]),
            _ => None,
        }
    }
}

/// See the module; `GROWS`: nothing is ever removed, and only the whole is read.
pub struct SetReading<const GROWS: bool> {
    values: Values,
    numbers: BTreeMap<Vec<u32>, u32>,
    /// Each rising.
    lists: Vec<Vec<u32>>,
}

impl<const GROWS: bool> SetReading<GROWS> {
    /// Of a set of which nothing was read yet.
    pub fn new() -> Self {
        SetReading {
            values: Values::new(),
            numbers: BTreeMap::new(),
            lists: Vec::new(),
        }
    }

    fn list(&mut self, elements: &[Value]) -> u32 {
        let mut list: Vec<u32> = elements.iter().map(|element| self.values.number(element)).collect();
        list.sort_unstable();
        list.dedup();
        if let Some(number) = self.numbers.get(&list) {
            return *number;
        }
        let number = u32::try_from(self.lists.len()).expect("a history has fewer than four billion events");
        self.lists.push(list.clone());
        self.numbers.insert(list, number);
        number
    }

    fn answer(&mut self, f: &str, asked: &Value, answer: &Value) -> Result<SetOp, String> {
        match answer {
            Value::Bool(is) if !GROWS => {
                let element = self.values.number(asked);
                Ok(if *is { Has(element) } else { Lacks(element) })
            }
            Value::List(pair) if f == "contains" => match &pair[..] {
                [_, is @ Value::Bool(_)] => self.answer(f, asked, is),
                _ => Err(format!("contains answered {}: it answers true or false", shown(answer))),
            },
            Value::List(list) if f == "read" => Ok(Whole(self.list(list))),
            Value::Nil if f == "read" => Ok(Whole(self.list(&[]))),
            _ => Err(format!(
                "{f} answered {}: read answers a list, contains true or false",
                shown(answer)
            )),
        }
    }
}

impl<const GROWS: bool> Default for SetReading<GROWS> {
    fn default() -> Self {
        SetReading::new()
    }
}

impl<const GROWS: bool> Reading for SetReading<GROWS> {
    type Model = Set;

    fn ops() -> &'static [&'static str] {
        match GROWS {
            true => &["add", "read"],
            false => &["add", "remove", "contains", "read"],
        }
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<SetOp>, String> {
        let op = match (f, ending) {
            (_, Ending::Fail(_)) | ("read" | "contains", Ending::Unknown) => return Ok(None),
            ("read" | "contains", Ending::Ok(answer)) => self.answer(f, asked, answer)?,
            ("add", _) => Add(self.values.number(asked)),
            _ => Remove(self.values.number(asked)),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Set {
        let states = States::new(Vec::new());
        let whole = self.lists.iter().map(|list| states.number(list.clone()));
        Set {
            whole: whole.collect(),
            states,
        }
    }

    fn quick(&self, calls: &[Call<SetOp>]) -> Option<Quick> {
        let culprits = inclusion::decide(calls, &self.lists)?;
        let by = "inclusion";
        Some(Quick { by, culprits })
    }

    fn split(&self, calls: &[Call<SetOp>]) -> Option<Vec<Vec<u32>>> {
        let mut by_element: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (n, call) in (0..).zip(calls) {
            let (Add(element) | Remove(element) | Has(element) | Lacks(element)) = call.op else {
                return None;
            };
            by_element.entry(element).or_default().push(n);
        }
        Some(by_element.into_values().collect())
    }

    fn is_full(model: &Set) -> bool {
        model.states.is_full()
    }

    fn words(&self, op: &SetOp) -> String {
        let shown = |element| self.values.shown(element);
        match *op {
            Add(element) => format!("add {}", shown(element)),
            Remove(element) => format!("remove {}", shown(element)),
            Has(element) => format!("find {}", shown(element)),
            Lacks(element) => format!("miss {}", shown(element)),
            Whole(list) => {
                let list: Vec<String> = self.lists[list as usize].iter().map(|e| shown(*e)).collect();
                format!("read [{}]", list.join(" "))
            }
        }
    }
}
