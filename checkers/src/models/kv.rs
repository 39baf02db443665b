//! A string for each key, empty at first, to which can be appended.
//!
//! Operations: `get` (answers the string; nil is the empty one), `put` and `append` of a string. Numbers are taken as they
//! are written. Values are pairs [key value] where an event has no key of its own.
//!
//! **States.** A string that is not the beginning of any string that was read can never become one but by a `put`: all of
//! them are one state. So a state is a beginning of a string that was read: the first, of those that begin so, in their
//! order, and a length. That takes memory for what is met and not for its length: a history that appends to one string
//! for ever has as many states as appends, and not as many copies of it.
use super::{Ending, Reading};
use crate::linear::model::Model;
use splitbrain_core::formats::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

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

/// What can never be read.
const LOST: u32 = u32::MAX;
/// The empty string.
const EMPTY: u32 = 0;

/// See the module.
pub struct Kv {
    texts: Vec<Box<str>>,
    /// Those that were read, in the order of their bytes.
    read: Vec<u32>,
    met: RefCell<Met>,
}

#[derive(Default)]
struct Met {
    numbers: BTreeMap<(usize, usize), u32>,
    states: Vec<Beginning>,
    steps: BTreeMap<(u32, u32), u32>,
}

/// A beginning of strings that were read.
#[derive(Clone, Copy)]
struct Beginning {
    length: usize,
    /// Those that begin so stand together.
    first: usize,
    behind: usize,
}

impl Met {
    fn number(&mut self, state: Beginning) -> u32 {
        let next = u32::try_from(self.states.len()).expect("a search ends before it meets four billion states");
        let number = *self.numbers.entry((state.first, state.length)).or_insert(next);
        if number == next {
            self.states.push(state);
        }
        number
    }
}

impl Kv {
    fn new(texts: Vec<Box<str>>, read: &BTreeSet<u32>) -> Kv {
        let mut read: Vec<u32> = read.iter().copied().collect();
        read.sort_unstable_by_key(|text| &texts[*text as usize]);
        let kv = Kv {
            texts,
            read,
            met: RefCell::default(),
        };
        let all = Beginning {
            length: 0,
            first: 0,
            behind: kv.read.len(),
        };
        kv.met.borrow_mut().number(all);
        kv
    }

    /// The state when a string is put to the end of one.
    fn append(&self, state: u32, text: u32) -> u32 {
        if state == LOST {
            return LOST;
        }
        let met = &mut *self.met.borrow_mut();
        if let Some(to) = met.steps.get(&(state, text)) {
            return *to;
        }
        let Beginning { length, first, behind } = met.states[state as usize];
        let more = self.texts[text as usize].as_bytes();
        let begun = &self.read[first..behind];
        let rest = |text: &u32| &self.texts[*text as usize].as_bytes()[length..];
        // They are in the order of what follows.
        let before = begun.partition_point(|text| rest(text) < more);
        let like = begun[before..].partition_point(|text| rest(text).starts_with(more));
        let to = match like {
            0 if state == EMPTY && more.is_empty() => EMPTY,
            0 => LOST,
            _ => met.number(Beginning {
                length: length + more.len(),
                first: first + before,
                behind: first + before + like,
            }),
        };
        met.steps.insert((state, text), to);
        to
    }
}

impl Model for Kv {
    type Op = KvOp;

    fn start(&self) -> u32 {
        EMPTY
    }

    fn step(&self, state: u32, op: &KvOp) -> Option<u32> {
        match *op {
            Get(text) => (self.append(EMPTY, text) == state).then_some(state),
            Put(text) => Some(self.append(EMPTY, text)),
            Append(text) => Some(self.append(state, text)),
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
            Get(text) => Some(self.append(EMPTY, text)),
            Put(_) | Append(_) => None,
        }
    }

    fn gives(&self, op: &KvOp) -> Option<u32> {
        match *op {
            Put(text) => Some(self.append(EMPTY, text)),
            Get(_) | Append(_) => None,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct KvReading {
    numbers: BTreeMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
    read: BTreeSet<u32>,
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
            ("get", Ending::Ok(answer)) => {
                let text = self.number(answer)?;
                self.read.insert(text);
                Get(text)
            }
            ("put", _) => Put(self.number(asked)?),
            _ => Append(self.number(asked)?),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Kv {
        Kv::new(self.texts.clone(), &self.read)
    }

    fn words(&self, op: &KvOp) -> String {
        match *op {
            Get(text) => format!("get {:?}", self.texts[text as usize]),
            Put(text) => format!("put {:?}", self.texts[text as usize]),
            Append(text) => format!("append {:?}", self.texts[text as usize]),
        }
    }
}
