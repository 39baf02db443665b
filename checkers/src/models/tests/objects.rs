//! The objects of the naive truth: registers, strings, sets, counters, queues.
use super::generate::{Answer, Dice, Object};
use super::{Kind, Options, check};
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
