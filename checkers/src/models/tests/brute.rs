//! The deliberately naive truth: every order of a handful of operations is tried on a real object.
use super::generate::{Answer, Object};
use splitbrain_core::Kind;
use splitbrain_core::formats::{OpEvent, Speaker, Value};

struct Operation {
    process: i64,
    f: String,
    asked: Value,
    begin: usize,
    /// `None`: it crashed.
    end: Option<(usize, Answer)>,
}

/// Whether some order of a history's operations fits the object.
pub(in crate::models) fn fits<O: Object>(object: &O, events: &[OpEvent]) -> bool {
    let operations = operations(object, events);
    let mut done = vec![false; operations.len()];
    some_order(object, &operations, &mut done)
}

fn some_order<O: Object>(object: &O, operations: &[Operation], done: &mut Vec<bool>) -> bool {
    let waits = |n: usize, done: &[bool]| {
        operations
            .iter()
            .zip(done)
            .any(|(other, done)| !done && other.end.as_ref().is_some_and(|(end, _)| *end < operations[n].begin))
    };
    if operations
        .iter()
        .zip(done.iter())
        .all(|(o, done)| *done || o.end.is_none())
    {
        return true;
    }
    for n in 0..operations.len() {
        if done[n] || waits(n, done) {
            continue;
        }
        let Operation {
            process, f, asked, end, ..
        } = &operations[n];
        let mut object = object.clone();
        if object.may(*process, f, asked, end.as_ref().map(|(_, answer)| answer)) {
            done[n] = true;
            if some_order(&object, operations, done) {
                return true;
            }
            done[n] = false;
        }
    }
    false
}

fn operations<O: Object>(object: &O, events: &[OpEvent]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (begin, event) in events.iter().enumerate() {
        let Speaker::Client(process) = event.process else {
            continue;
        };
        if event.kind != Kind::Invoke {
            continue;
        }
        let mut later = events.iter().enumerate().skip(begin + 1);
        let next = later.find(|(_, e)| e.process == event.process);
        let end = match next {
            Some((n, e)) if e.kind == Kind::Ok => Some((n, Answer::Ok(e.value.clone()))),
            Some((n, e)) if e.kind == Kind::Fail => {
                let why = e.error.as_deref();
                if !object.observes(&e.f, why) {
                    continue;
                }
                // Reasons are told apart by the object alone.
                Some((
                    n,
                    Answer::Fail(why.map(|why| *WHY.iter().find(|w| **w == why).expect("a known reason"))),
                ))
            }
            _ => None,
        };
        operations.push(Operation {
            process,
            f: event.f.to_string(),
            asked: event.value.clone(),
            begin,
            end,
        });
    }
    operations
}

/// The reasons for failures that objects give.
const WHY: [&str; 5] = ["mismatch", "empty", "held", "not-held", "already-ran"];
