//! The objects of the naive truth: registers, strings, sets, counters, queues.
use super::generate::{Answer, Dice, Object};
use super::{Kind, Options, check, check_up_to};
use crate::models::FailedCas;
use splitbrain_core::formats::Value;

fn int(n: usize) -> Value {
    Value::Int(n as i64)
}

#[derive(Clone)]
struct Register {
    holds: Value,
    /// Values are below this; or each is written once.
    values: Option<usize>,
    written: usize,
    cas: bool,
    believes: bool,
}

impl Register {
    fn new(dice: &mut Dice, cas: bool) -> (Register, Options) {
        let believes = dice.one_in(2);
        let register = Register {
            holds: Value::Nil,
            values: *dice.pick(&[None, Some(2), Some(3)]),
            written: 0,
            cas,
            believes,
        };
        let failed_cas = if believes {
            FailedCas::Observe
        } else {
            FailedCas::Ignore
        };
        (
            register,
            Options {
                failed_cas,
                ..Options::default()
            },
        )
    }

    fn fresh(&mut self, dice: &mut Dice) -> Value {
        self.written += 1;
        match self.values {
            Some(n) => int(dice.below(n)),
            None => int(self.written),
        }
    }

    fn seen(&self, dice: &mut Dice) -> Value {
        match dice.below(self.values.unwrap_or(self.written) + 1) {
            0 => Value::Nil,
            n if self.values.is_some() => int(n - 1),
            n => int(n),
        }
    }
}

impl Object for Register {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        match dice.below(if self.cas { 4 } else { 2 }) {
            0 => ("read", Value::Nil),
            1 => ("write", self.fresh(dice)),
            _ => {
                let from = if dice.one_in(2) {
                    self.seen(dice)
                } else {
                    self.holds.clone()
                };
                ("cas", Value::List(vec![from, self.fresh(dice)]))
            }
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        match (f, asked) {
            ("read", _) => Answer::Ok(self.holds.clone()),
            ("cas", Value::List(pair)) => {
                if self.holds != pair[0] {
                    return Answer::Fail(None);
                }
                self.holds = pair[1].clone();
                Answer::Ok(asked.clone())
            }
            _ => {
                self.holds = asked.clone();
                Answer::Ok(asked.clone())
            }
        }
    }

    fn tells(&self, f: &str) -> bool {
        f == "read"
    }

    fn observes(&self, _f: &str, reason: Option<&str>) -> bool {
        self.believes && reason.is_none()
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, _right: &Value) -> Value {
        self.seen(dice)
    }
}

#[test]
fn registers() {
    check(Kind::Register, |dice| Register::new(dice, false));
}

#[test]
fn cas_registers() {
    check(Kind::CasRegister, |dice| Register::new(dice, true));
}

/// Any object, by keys that values are paired with.
#[derive(Clone)]
struct Keyed<O>(Vec<O>);

fn with_key(key: usize, value: Value) -> Value {
    Value::List(vec![int(key), value])
}

fn key_of(value: &Value) -> (usize, Value) {
    match value {
        Value::List(pair) => match &pair[..] {
            [Value::Int(key), value] => (*key as usize, value.clone()),
            _ => panic!("{value:?} is no pair"),
        },
        _ => panic!("{value:?} is no pair"),
    }
}

impl<O: Object> Object for Keyed<O> {
    fn ask(&mut self, dice: &mut Dice, process: i64) -> (&'static str, Value) {
        let key = dice.below(self.0.len());
        let (f, value) = self.0[key].ask(dice, process);
        (f, with_key(key, value))
    }

    fn serve(&mut self, process: i64, f: &str, asked: &Value) -> Answer {
        let (key, asked) = key_of(asked);
        match self.0[key].serve(process, f, &asked) {
            Answer::Ok(value) => Answer::Ok(with_key(key, value)),
            failed => failed,
        }
    }

    fn tells(&self, f: &str) -> bool {
        self.0[0].tells(f)
    }

    fn observes(&self, f: &str, reason: Option<&str>) -> bool {
        self.0[0].observes(f, reason)
    }

    fn can_swap(&self, a: &Value, b: &Value) -> bool {
        key_of(a).0 == key_of(b).0
    }

    fn wrong(&mut self, dice: &mut Dice, f: &str, right: &Value) -> Value {
        let (key, right) = key_of(right);
        let wrong = self.0[key].wrong(dice, f, &right);
        with_key(key, wrong)
    }
}

#[test]
fn register_maps() {
    check(Kind::RegisterMap, |dice| {
        let (register, options) = Register::new(dice, true);
        (Keyed(vec![register; 2]), options)
    });
}

#[derive(Clone)]
struct Text(String);

impl Object for Text {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        let text = Value::Text((*dice.pick(&["", "a", "b", "ab", "c"])).into());
        match dice.below(5) {
            0 | 1 => ("get", Value::Nil),
            2 => ("put", text),
            _ => ("append", text),
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        match (f, asked) {
            ("get", _) => return Answer::Ok(Value::Text(self.0.as_str().into())),
            ("put", Value::Text(text)) => self.0 = text.to_string(),
            ("append", Value::Text(text)) => self.0 += text,
            other => panic!("{other:?}"),
        }
        Answer::Ok(asked.clone())
    }

    fn tells(&self, f: &str) -> bool {
        f == "get"
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, right: &Value) -> Value {
        match right {
            Value::Text(text) if !text.is_empty() && dice.one_in(2) => Value::Text(text[1..].into()),
            _ => Value::Text((*dice.pick(&["", "a", "ab", "ba", "aab"])).into()),
        }
    }
}

#[test]
fn strings_by_key() {
    check(Kind::Kv, |dice| {
        let keys = 1 + dice.below(2);
        (Keyed(vec![Text(String::new()); keys]), Options::default())
    });
}

#[derive(Clone)]
struct Elements {
    holds: Vec<usize>,
    /// Or each is added once.
    elements: Option<usize>,
    added: usize,
    ops: &'static [&'static str],
}

impl Elements {
    fn element(&mut self, dice: &mut Dice) -> Value {
        self.added += 1;
        int(self.elements.map_or(self.added, |n| dice.below(n)))
    }

    fn whole(&self) -> Value {
        Value::List(self.holds.iter().map(|e| int(*e)).collect())
    }
}

impl Object for Elements {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        match *dice.pick(self.ops) {
            "read" => ("read", Value::Nil),
            f => (f, self.element(dice)),
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        let Value::Int(element) = *asked else {
            return Answer::Ok(self.whole());
        };
        let element = element as usize;
        let held = self.holds.contains(&element);
        match f {
            "contains" => return Answer::Ok(Value::Bool(held)),
            "add" if !held => self.holds.push(element),
            "remove" => self.holds.retain(|e| *e != element),
            _ => {}
        }
        Answer::Ok(asked.clone())
    }

    fn may(&mut self, process: i64, f: &str, asked: &Value, answer: Option<&Answer>) -> bool {
        let served = self.serve(process, f, asked);
        match (served, answer) {
            (_, None) => true,
            // In any order.
            (Answer::Ok(Value::List(holds)), Some(Answer::Ok(Value::List(told)))) => {
                holds.iter().all(|e| told.contains(e)) && told.iter().all(|e| holds.contains(e))
            }
            (served, Some(answer)) => !self.tells(f) || served == *answer,
        }
    }

    fn tells(&self, f: &str) -> bool {
        f == "read" || f == "contains"
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, right: &Value) -> Value {
        match right {
            Value::Bool(is) => Value::Bool(!is),
            Value::List(list) if !list.is_empty() && dice.one_in(2) => {
                let mut list = list.clone();
                list.swap_remove(dice.below(list.len()));
                Value::List(list)
            }
            Value::List(list) => {
                let more = int(dice.below(self.elements.unwrap_or(self.added) + 1));
                Value::List(list.iter().cloned().chain([more]).collect())
            }
            other => other.clone(),
        }
    }
}

fn elements(dice: &mut Dice, ops: &'static [&'static str]) -> (Elements, Options) {
    let elements = Elements {
        holds: Vec::new(),
        elements: *dice.pick(&[None, Some(1), Some(2), Some(4)]),
        added: 0,
        ops,
    };
    (elements, Options::default())
}

#[test]
fn sets() {
    const OPS: [&[&str]; 3] = [
        &["add", "remove", "contains"],
        &["add", "remove", "contains", "read"],
        &["add", "read"],
    ];
    check(Kind::Set, |dice| {
        let ops = *dice.pick(&OPS);
        elements(dice, ops)
    });
}

#[test]
fn grow_only_sets() {
    check(Kind::GrowOnlySet, |dice| elements(dice, &["add", "read"]));
}

#[derive(Clone)]
struct Sum {
    sum: i64,
    steps: &'static [i64],
}

impl Object for Sum {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        match dice.below(6) {
            0 | 1 => ("read", Value::Nil),
            2 if self.steps.contains(&1) => ("inc", Value::Nil),
            3 if self.steps.contains(&-1) => ("dec", Value::Nil),
            _ => ("add", Value::Int(*dice.pick(self.steps))),
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        match (f, asked) {
            ("add", Value::Int(n)) => self.sum += n,
            ("inc", _) => self.sum += 1,
            ("dec", _) => self.sum -= 1,
            _ => return Answer::Ok(Value::Int(self.sum)),
        }
        Answer::Ok(asked.clone())
    }

    fn tells(&self, f: &str) -> bool {
        f == "read"
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, right: &Value) -> Value {
        match right {
            Value::Int(n) => Value::Int(n + dice.pick(&[-1, 1]) * dice.pick(self.steps)),
            other => other.clone(),
        }
    }
}

#[test]
fn counters() {
    const STEPS: [&[i64]; 5] = [&[1], &[-1], &[3, 0], &[1, -1], &[1, 2, -5]];
    check(Kind::Counter, |dice| {
        let steps = *dice.pick(&STEPS);
        (Sum { sum: 0, steps }, Options::default())
    });
}

#[derive(Clone)]
struct Line {
    holds: Vec<usize>,
    values: Option<usize>,
    put: usize,
    fails: bool,
}

impl Object for Line {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        self.put += 1;
        match dice.below(2) {
            0 => ("dequeue", Value::Nil),
            _ => ("enqueue", int(self.values.map_or(self.put, |n| dice.below(n)))),
        }
    }

    fn serve(&mut self, _process: i64, _f: &str, asked: &Value) -> Answer {
        match asked {
            Value::Int(value) => {
                self.holds.push(*value as usize);
                Answer::Ok(asked.clone())
            }
            _ if !self.holds.is_empty() => Answer::Ok(int(self.holds.remove(0))),
            _ if self.fails => Answer::Fail(Some("empty")),
            _ => Answer::Ok(Value::Nil),
        }
    }

    fn tells(&self, f: &str) -> bool {
        f == "dequeue"
    }

    fn observes(&self, _f: &str, reason: Option<&str>) -> bool {
        reason == Some("empty")
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, _right: &Value) -> Value {
        match dice.below(self.values.unwrap_or(self.put) + 1) {
            0 if !self.fails => Value::Nil,
            n => int(n),
        }
    }
}

#[test]
fn queues() {
    check_up_to(14, Kind::FifoQueue, |dice| {
        let line = Line {
            holds: Vec::new(),
            values: *dice.pick(&[None, Some(2), Some(3)]),
            put: 0,
            fails: dice.one_in(2),
        };
        (line, Options::default())
    });
}
