//! A queue: what was put in first comes out first.
//!
//! Operations: `enqueue` of a value, and `dequeue`, which answers the value; nil, or a failure for the reason `empty` or
//! `exhausted`, says that there was none. Other failures say that nothing happened. A `dequeue` without an answer may
//! have taken the first value, whichever that was. The queue is empty at first.
use super::states::States;
use super::values::Values;
use super::{Ending, Reading};
use crate::linear::model::Model;
use splitbrain_core::formats::Value;

/// A call that took effect, or may have. Values are numbered as they are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueOp {
    /// This was put in.
    Enqueue(u32),
    /// This came out.
    Dequeue(u32),
    /// There was nothing.
    Empty,
    /// If there was something, the first came out.
    Take,
}

use QueueOp::{Dequeue, Empty, Enqueue, Take};

/// See the module. States are what is in it, the first first.
pub struct Queue {
    states: States<Vec<u32>>,
}

impl Model for Queue {
    type Op = QueueOp;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &QueueOp) -> Option<u32> {
        let states = &self.states;
        // What takes out does the same whether its value is known or not.
        let take = || {
            states.step(state, u32::MAX, |queue| {
                queue.remove(0);
            })
        };
        match *op {
            Enqueue(value) => states.step(state, value, |queue| queue.push(value)),
            Dequeue(value) => match states.get(state).first() == Some(&value) {
                true => take(),
                false => None,
            },
            Empty => (state == 0).then_some(state),
            Take if state == 0 => Some(state),
            Take => take(),
        }
    }

    fn looks(&self, op: &QueueOp) -> bool {
        matches!(op, Empty)
    }

    fn needs(&self, op: &QueueOp) -> Option<u32> {
        matches!(op, Empty).then_some(0)
    }
}

/// See the module.
pub struct QueueReading {
    values: Values,
}

impl QueueReading {
    /// Of a queue of which nothing was read yet.
    pub(super) fn new() -> QueueReading {
        QueueReading { values: Values::new() }
    }
}

impl Reading for QueueReading {
    type Model = Queue;

    fn ops() -> &'static [&'static str] {
        &["enqueue", "dequeue"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<QueueOp>, String> {
        let op = match (f, ending) {
            ("enqueue", Ending::Ok(_) | Ending::Unknown) => Enqueue(self.values.number(asked)),
            ("dequeue", Ending::Ok(Value::Nil)) => Empty,
            ("dequeue", Ending::Ok(value)) => Dequeue(self.values.number(value)),
            ("dequeue", Ending::Fail(Some("empty" | "exhausted"))) => Empty,
            ("dequeue", Ending::Unknown) => Take,
            _ => return Ok(None),
        };
        Ok(Some(op))
    }

    fn model(&self) -> Queue {
        Queue {
            states: States::new(Vec::new()),
        }
    }

    fn is_full(model: &Queue) -> bool {
        model.states.is_full()
    }

    fn words(&self, op: &QueueOp) -> String {
        match *op {
            Enqueue(value) => format!("enqueue {}", self.values.shown(value)),
            Dequeue(value) => format!("dequeue {}", self.values.shown(value)),
            Empty => "dequeue nothing".to_string(),
            Take => "dequeue".to_string(),
        }
    }
}
