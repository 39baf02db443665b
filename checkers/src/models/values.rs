//! The values of one object's history as small numbers, in the order in which they were met.
use super::prepared::shown;
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

/// See the module. Number 0 is nil.
#[derive(Debug)]
pub(super) struct Values {
    numbers: BTreeMap<Value, u32>,
    met: Vec<Value>,
}

impl Values {
    pub fn new() -> Values {
        Values {
            numbers: BTreeMap::new(),
            met: vec![Value::Nil],
        }
    }

    /// The value's number; a new one where it was not met before.
    pub fn number(&mut self, value: &Value) -> u32 {
        if *value == Value::Nil {
            return 0;
        }
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = u32::try_from(self.met.len()).expect("a history has fewer than four billion events");
        self.numbers.insert(value.clone(), number);
        self.met.push(value.clone());
        number
    }

    /// How many numbers are given, that of nil included.
    pub fn count(&self) -> usize {
        self.met.len()
    }

    /// The value in words; numbers that were not given stand for a value that nobody saw.
    pub fn shown(&self, number: u32) -> String {
        let value = self.met.get(number as usize);
        value.map_or_else(|| "something".to_string(), shown)
    }
}
