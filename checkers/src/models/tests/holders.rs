//! The objects of the naive truth: locks, permits, ids, leaders, jobs.
use super::generate::{Answer, Dice, Object};
use super::{Kind, Options, check};
use splitbrain_core::formats::Value;
use std::collections::{BTreeMap, BTreeSet};

fn int(n: usize) -> Value {
    Value::Int(n as i64)
}

#[derive(Clone)]
struct Permits {
    all: i64,
    out: i64,
    /// How many an operation may ask for.
    most: usize,
}

impl Permits {
    fn semaphore(dice: &mut Dice) -> (Permits, Options) {
        let all = dice.below(4);
        let most = 1 + dice.below(2);
        let permits = Permits {
            all: all as i64,
            out: 0,
            most,
        };
        (
            permits,
            Options {
                permits: all as u32,
                ..Options::default()
            },
        )
    }
}

impl Object for Permits {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        let n = match 1 + dice.below(self.most) {
            1 if dice.one_in(2) => Value::Nil,
            n => int(n),
        };
        match self.out > 0 && dice.below(5) < 3 {
            true => (if dice.one_in(4) { "unlock" } else { "release" }, n),
            false => (if dice.one_in(4) { "lock" } else { "acquire" }, n),
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        let n = match asked {
            Value::Int(n) => *n,
            _ => 1,
        };
        let out = if f == "acquire" || f == "lock" {
            self.out + n
        } else {
            self.out - n
        };
        if out < 0 || out > self.all {
            return Answer::Fail(None);
        }
        self.out = out;
        Answer::Ok(asked.clone())
    }

    fn tells(&self, _f: &str) -> bool {
        false
    }

    fn wrong(&mut self, _dice: &mut Dice, _f: &str, right: &Value) -> Value {
        right.clone()
    }
}

#[test]
fn mutexes() {
    let mutex = |_: &mut Dice| Permits {
        all: 1,
        out: 0,
        most: 1,
    };
    check(Kind::Mutex, |dice| (mutex(dice), Options::default()));
}

#[test]
fn semaphores() {
    check(Kind::Semaphore, Permits::semaphore);
}

#[derive(Clone)]
struct Lock {
    holder: Option<(i64, u32)>,
    depth: u32,
    fenced: bool,
    /// Of this tenure, if it was told.
    token: Option<i64>,
    /// Higher than all that were told.
    highest: Option<i64>,
    chance: u64,
}

impl Lock {
    fn new(dice: &mut Dice, depth: u32, fenced: bool) -> (Lock, Options) {
        let lock = Lock {
            holder: None,
            depth,
            fenced,
            token: None,
            highest: None,
            chance: dice.next(),
        };
        (
            lock,
            Options {
                depth,
                ..Options::default()
            },
        )
    }

    fn acquires(&mut self, process: i64, told: Option<i64>) -> bool {
        let rises = told.is_none_or(|token| self.highest.is_none_or(|high| token > high));
        match self.holder {
            None if self.depth == 0 || !rises => return false,
            None => {
                self.holder = Some((process, 1));
                self.token = told;
            }
            Some((holder, count)) => {
                if holder != process || count == self.depth {
                    return false;
                }
                let fits = match (self.token, told) {
                    (_, None) => true,
                    (Some(token), Some(told)) => token == told,
                    (None, Some(_)) => rises,
                };
                if !fits {
                    return false;
                }
                self.holder = Some((holder, count + 1));
                self.token = self.token.or(told);
            }
        }
        self.highest = self.highest.max(told);
        true
    }

    fn releases(&mut self, process: i64) -> bool {
        match self.holder {
            Some((holder, count)) if holder == process => {
                self.holder = (count > 1).then_some((holder, count - 1));
                true
            }
            _ => false,
        }
    }

    fn draw(&mut self) -> Option<i64> {
        let mut dice = Dice(self.chance);
        let token = match (self.holder, self.token) {
            (Some(_), Some(token)) => Some(token),
            _ => Some(
                self.highest
                    .map_or(dice.below(3) as i64 - 1, |high| high + 1 + dice.below(2) as i64),
            ),
        };
        let told = token.filter(|token| *token != 0 && self.fenced && !dice.one_in(5));
        self.chance = dice.next();
        told
    }
}

impl Object for Lock {
    fn ask(&mut self, dice: &mut Dice, process: i64) -> (&'static str, Value) {
        let holds = self.holder.is_some_and(|(holder, _)| holder == process);
        let acquires = if holds {
            dice.one_in(if self.depth > 1 { 2 } else { 6 })
        } else {
            !dice.one_in(8)
        };
        match acquires {
            true => (*dice.pick(&["acquire", "lock"]), Value::Nil),
            false => (*dice.pick(&["release", "unlock"]), Value::Nil),
        }
    }

    fn serve(&mut self, process: i64, f: &str, _asked: &Value) -> Answer {
        if f == "release" || f == "unlock" {
            return if self.releases(process) {
                Answer::Ok(Value::Nil)
            } else {
                Answer::Fail(None)
            };
        }
        let told = self.draw();
        match self.acquires(process, told) {
            true => Answer::Ok(told.map_or(
                if self.chance.is_multiple_of(2) {
                    Value::Nil
                } else {
                    int(0)
                },
                Value::Int,
            )),
            false => Answer::Fail(None),
        }
    }

    fn may(&mut self, process: i64, f: &str, _asked: &Value, answer: Option<&Answer>) -> bool {
        let told = match answer {
            Some(Answer::Ok(Value::Int(token))) if self.fenced && *token != 0 => Some(*token),
            _ => None,
        };
        let done = match f {
            "release" | "unlock" => self.releases(process),
            _ => self.acquires(process, told),
        };
        done || answer.is_none()
    }

    fn tells(&self, f: &str) -> bool {
        self.fenced && (f == "acquire" || f == "lock")
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, _right: &Value) -> Value {
        int(dice.below(self.highest.map_or(2, |high| high + 2) as usize))
    }
}

#[test]
fn owner_mutexes() {
    check(Kind::OwnerMutex, |dice| Lock::new(dice, 1, false));
}

#[test]
fn reentrant_mutexes() {
    check(Kind::ReentrantMutex, |dice| {
        let depth = dice.below(4) as u32;
        Lock::new(dice, depth, false)
    });
}

#[test]
fn fenced_mutexes() {
    check(Kind::FencedMutex, |dice| Lock::new(dice, 1, true));
}

#[test]
fn reentrant_fenced_mutexes() {
    check(Kind::ReentrantFencedMutex, |dice| {
        let depth = 1 + dice.below(3) as u32;
        Lock::new(dice, depth, true)
    });
}

#[derive(Clone)]
struct Ids {
    out: BTreeSet<i64>,
    rise: bool,
    chance: u64,
}

impl Ids {
    fn new(dice: &mut Dice, rise: bool) -> (Ids, Options) {
        let (out, chance) = (BTreeSet::new(), dice.next());
        (Ids { out, rise, chance }, Options::default())
    }
}

impl Object for Ids {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        (*dice.pick(&["generate", "next", "id"]), Value::Nil)
    }

    fn serve(&mut self, _process: i64, _f: &str, _asked: &Value) -> Answer {
        let mut dice = Dice(self.chance);
        let id = match self.rise {
            true => self.out.last().map_or(-2, |last| last + 1 + dice.below(2) as i64),
            false => (0..)
                .map(|_| dice.below(40) as i64 - 5)
                .find(|id| !self.out.contains(id))
                .unwrap(),
        };
        self.chance = dice.next();
        self.out.insert(id);
        Answer::Ok(Value::Int(id))
    }

    fn may(&mut self, _process: i64, _f: &str, _asked: &Value, answer: Option<&Answer>) -> bool {
        match answer {
            Some(Answer::Ok(Value::Int(id))) => {
                let rises = !self.rise || self.out.last().is_none_or(|last| id > last);
                self.out.insert(*id) && rises
            }
            _ => true,
        }
    }

    fn tells(&self, _f: &str) -> bool {
        true
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, _right: &Value) -> Value {
        let first = *self.out.first().unwrap();
        Value::Int(first + dice.below(self.out.len() + 2) as i64)
    }
}

#[test]
fn unique_ids() {
    check(Kind::UniqueIds, |dice| Ids::new(dice, false));
}

#[test]
fn monotone_ids() {
    check(Kind::MonotoneIds, |dice| Ids::new(dice, true));
}

#[derive(Clone)]
struct Leaders {
    led: BTreeMap<i64, Value>,
    chance: u64,
}

fn node(dice: &mut Dice) -> Value {
    Value::Text(["n1", "n2", "n3"][dice.below(3)].into())
}

impl Object for Leaders {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        (*dice.pick(&["elected", "leader", "claim"]), Value::Nil)
    }

    fn serve(&mut self, _process: i64, _f: &str, _asked: &Value) -> Answer {
        let mut dice = Dice(self.chance);
        let epoch = dice.below(4) as i64;
        let leader = self.led.entry(epoch).or_insert_with(|| node(&mut dice)).clone();
        self.chance = dice.next();
        Answer::Ok(Value::List(vec![Value::Int(epoch), leader]))
    }

    fn may(&mut self, _process: i64, _f: &str, _asked: &Value, answer: Option<&Answer>) -> bool {
        let Some(Answer::Ok(Value::List(pair))) = answer else {
            return true;
        };
        match &pair[..] {
            [Value::Int(epoch), leader] => self.led.entry(*epoch).or_insert(leader.clone()) == leader,
            _ => true,
        }
    }

    fn tells(&self, _f: &str) -> bool {
        true
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, _right: &Value) -> Value {
        match dice.below(8) {
            0 => Value::Nil,
            1 => Value::List(vec![Value::Nil, node(dice)]),
            _ => Value::List(vec![int(dice.below(4)), node(dice)]),
        }
    }
}

#[test]
fn leaders_per_epoch() {
    check(Kind::LeaderPerEpoch, |dice| {
        let (led, chance) = (BTreeMap::new(), dice.next());
        (Leaders { led, chance }, Options::default())
    });
}

#[derive(Clone)]
struct Jobs {
    ran: Vec<i64>,
    jobs: usize,
    reads: usize,
}

impl Object for Jobs {
    fn ask(&mut self, dice: &mut Dice, _process: i64) -> (&'static str, Value) {
        let job = int(dice.below(self.jobs));
        match dice.below(10) {
            n if n < self.reads => (*dice.pick(&["read", "jobs"]), Value::Nil),
            n if n < 6 => (*dice.pick(&["run", "execute"]), job),
            _ => (*dice.pick(&["ran", "done"]), job),
        }
    }

    fn serve(&mut self, _process: i64, f: &str, asked: &Value) -> Answer {
        match (f, asked) {
            ("read" | "jobs", _) => Answer::Ok(Value::List(self.ran.iter().copied().map(Value::Int).collect())),
            ("run" | "execute", Value::Int(job)) if self.ran.contains(job) => Answer::Fail(Some("already-ran")),
            ("run" | "execute", Value::Int(job)) => {
                self.ran.push(*job);
                Answer::Ok(asked.clone())
            }
            (_, Value::Int(job)) => Answer::Ok(Value::Bool(self.ran.contains(job))),
            _ => unreachable!(),
        }
    }

    fn may(&mut self, process: i64, f: &str, asked: &Value, answer: Option<&Answer>) -> bool {
        let served = self.serve(process, f, asked);
        let sorted = |answer: &Answer| match answer {
            Answer::Ok(Value::List(list)) => {
                let mut list = list.clone();
                list.sort();
                Answer::Ok(Value::List(list))
            }
            other => other.clone(),
        };
        let silent = !self.tells(f);
        answer.is_none_or(|answer| match (answer, &served) {
            (Answer::Ok(_), Answer::Ok(_)) if silent => true,
            (answer, served) => sorted(answer) == sorted(served),
        })
    }

    fn tells(&self, f: &str) -> bool {
        f != "run" && f != "execute"
    }

    fn observes(&self, _f: &str, reason: Option<&str>) -> bool {
        reason == Some("already-ran")
    }

    fn wrong(&mut self, dice: &mut Dice, _f: &str, right: &Value) -> Value {
        match right {
            Value::Bool(ran) => Value::Bool(!ran),
            Value::List(list) => {
                let mut list = list.clone();
                if !list.is_empty() && dice.one_in(2) {
                    list.swap_remove(dice.below(list.len()));
                }
                if dice.one_in(2) {
                    list.push(int(dice.below(self.jobs)));
                }
                Value::List(list)
            }
            other => other.clone(),
        }
    }
}

#[test]
fn jobs_that_run_once() {
    check(Kind::ExactlyOnce, |dice| {
        let (jobs, reads) = (1 + dice.below(3), *dice.pick(&[0, 1, 3]));
        let ran = Vec::new();
        (Jobs { ran, jobs, reads }, Options::default())
    });
}
