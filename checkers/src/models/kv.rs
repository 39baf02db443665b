//! A string for each key, empty at first, to which can be appended.
//!
//! Operations: `get` (answers the string; nil is the empty one), `put` and `append` of a string. Numbers are taken as they
//! are written. Values are pairs [key value] where an event has no key of its own.
use super::states::States;
use super::{Ending, Reading};
use crate::linear::model::Model;
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

/// A call that took effect, or may have. Strings are numbered as they are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KvOp {
    /// It was this.
    Get(u32),
    /// Whatever it was, now it is this.
    Put(u32),
    /// This was put to its end.
    Append(u32),
}

use KvOp::{Append, Get, Put};

/// See the module. States are strings.
pub struct Kv {
    states: States<String>,
    /// Of each string that is put or read: its state.
    whole: Vec<u32>,
    texts: Vec<Box<str>>,
}

impl Model for Kv {
    type Op = KvOp;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &KvOp) -> Option<u32> {
        match *op {
            Get(text) => (self.whole[text as usize] == state).then_some(state),
            Put(text) => Some(self.whole[text as usize]),
            Append(text) => Some(
                self.states
                    .step(state, text, |s| s.push_str(&self.texts[text as usize])),
            ),
        }
    }

    fn looks(&self, op: &KvOp) -> bool {
        matches!(op, Get(_))
    }

    fn overwrites(&self, op: &KvOp) -> bool {
        matches!(op, Put(_))
    }

    fn needs(&self, op: &KvOp) -> Option<u32> {
        match *op {
            Get(text) => Some(self.whole[text as usize]),
            Put(_) | Append(_) => None,
        }
    }

    fn gives(&self, op: &KvOp) -> Option<u32> {
        match *op {
            Put(text) => Some(self.whole[text as usize]),
            Get(_) | Append(_) => None,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct KvReading {
    numbers: BTreeMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl KvReading {
    fn number(&mut self, value: &Value) -> Result<u32, String> {
        let text: Box<str> = match value {
            Value::Nil => "".into(),
            Value::Text(text) => text.clone(),
            Value::Int(n) => n.to_string().into(),
            other => return Err(format!("{} is no string", super::prepared::shown(other))),
        };
        if let Some(number) = self.numbers.get(&text) {
            return Ok(*number);
        }
        let number = u32::try_from(self.texts.len()).expect("a history has fewer than four billion events");
        self.numbers.insert(text.clone(), number);
        self.texts.push(text);
        Ok(number)
    }
}

impl Reading for KvReading {
    type Model = Kv;

    fn ops() -> &'static [&'static str] {
        &["get", "put", "append"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<KvOp>, String> {
        let op = match (f, ending) {
            (_, Ending::Fail(_)) | ("get", Ending::Unknown) => return Ok(None),
            ("get", Ending::Ok(answer)) => Get(self.number(answer)?),
            ("put", _) => Put(self.number(asked)?),
            _ => Append(self.number(asked)?),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Kv {
        let states = States::new(String::new());
        let whole = self.texts.iter().map(|text| states.number(text.to_string()));
        Kv {
            whole: whole.collect(),
            states,
            texts: self.texts.clone(),
        }
    }

    fn words(&self, op: &KvOp) -> String {
        match *op {
            Get(text) => format!("get {:?}", self.texts[text as usize]),
            Put(text) => format!("put {:?}", self.texts[text as usize]),
            Append(text) => format!("append {:?}", self.texts[text as usize]),
        }
    }
}
