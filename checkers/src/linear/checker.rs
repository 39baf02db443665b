//! Linearizable: the system's register behaves as one copy (Herlihy and Wing, "Linearizability", 1990).
//!
//! Judged: whether there is an order of all operations on the register in which each takes effect at one instant between
//! its call and its answer, and answers what a single register would.
//!
//! No sound system can trip it: the verdict is invalid only if every order was excluded. What an operation may
//! do is taken in the widest sense. One without an answer (`info`, or cut off) may take effect at any later time or
//! never, and one that only reads and has no answer says nothing. A comparison that failed with `mismatch` saw another
//! value; every other `fail` says that nothing happened. Calls and answers are ordered by their places in the history:
//! control records a call before it asks and an answer after it got it, so its intervals hold the real ones.
//!
//! Where the budget runs out the verdict is unknown.
use super::decide::decide;
use super::model::{Call, Model, NEVER};
use super::{Found, Limits};
use crate::agreement::names;
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use crate::models::register::{self, NOTHING, Register, RegisterOp};
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Process, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// How many open operations a story tells of.
const TOLD: usize = 4;

/// An operation of the history.
#[derive(Clone, Copy)]
struct Operation {
    host: Name,
    asked: Mark,
    answered: Option<Mark>,
    op: RegisterOp,
}

/// See the module. Memory: one entry per operation that happened or may have.
pub struct Linearizable {
    law: Law,
    open: BTreeMap<u32, Operation>,
    done: Vec<Operation>,
    values: Values,
}

/// The values of a history, numbered as they are met. Number 0 is nothing.
#[derive(Default)]
struct Values {
    numbers: BTreeMap<u64, u32>,
    met: Vec<u64>,
}

impl Values {
    fn number(&mut self, value: Option<u64>) -> u32 {
        let Some(value) = value else {
            return NOTHING;
        };
        let met = &mut self.met;
        *self.numbers.entry(value).or_insert_with(|| {
            met.push(value);
            u32::try_from(met.len()).expect("a history has fewer values")
        })
    }

    fn shown(&self, number: u32) -> String {
        match number.checked_sub(1) {
            None => "nothing".to_string(),
            Some(n) => self.met[n as usize].to_string(),
        }
    }
}

impl Linearizable {
    pub fn new(header: &Header) -> Linearizable {
        Linearizable {
            law: Law::new(header),
            open: BTreeMap::new(),
            done: Vec::new(),
            values: Values::default(),
        }
    }

    fn ended(&mut self, mut operation: Operation, event: &Event) {
        operation.answered = Some(Mark::of(event));
        match (event.kind, &event.body) {
            (Kind::Ok, Body::Get { value, .. }) => operation.op = RegisterOp::Read(self.values.number(*value)),
            (Kind::Ok, _) => {}
            (Kind::Fail, Body::Cas { from, .. }) if event.error.as_deref() == Some("mismatch") => {
                operation.op = RegisterOp::Differs(self.values.number(*from));
            }
            (Kind::Info, Body::Set { .. } | Body::Cas { .. }) => operation.answered = None,
            _ => return,
        }
        self.done.push(operation);
    }
}

/// The shortest beginning of a history that fits no order.
struct Shortest {
    /// The call with whose answer it ends.
    at: usize,
    /// An order of what came before.
    order: Vec<usize>,
}

/// Halves the history until it is found. What is open at the end of a beginning has no answer there.
fn shortest(calls: &[Call<RegisterOp>]) -> Shortest {
    let ended = calls.iter().enumerate().filter(|(_, call)| call.ended());
    let mut ends: Vec<(u32, usize)> = ended.map(|(c, call)| (call.end, c)).collect();
    ends.sort_unstable();
    let beginning = |n: usize| -> (Found, Vec<usize>) {
        let last = n.checked_sub(1).map_or(0, |n| ends[n].0);
        let cut = |call: &Call<RegisterOp>| Call {
            end: if call.end <= last { call.end } else { NEVER },
            ..*call
        };
        let is_in = |call: &Call<RegisterOp>| call.begin < last && (call.ended() || !Register.looks(&call.op));
        let kept = calls.iter().map(cut).enumerate().filter(|(_, call)| is_in(call));
        let (places, kept): (Vec<usize>, Vec<_>) = kept.unzip();
        (decide(&Register, &kept, &Limits::USUAL, true, &|| false).found, places)
    };
    let (mut fits, mut fails) = (0, ends.len());
    while fails - fits > 1 {
        let half = fits + (fails - fits) / 2;
        match beginning(half).0 {
            Found::None { .. } => fails = half,
            Found::Order(_) | Found::Unknown(_) => fits = half,
        }
    }
    let order = match beginning(fits) {
        (Found::Order(Some(order)), places) => order.into_iter().map(|c| places[c as usize]).collect(),
        _ => Vec::new(),
    };
    let at = ends[fails - 1].1;
    Shortest { at, order }
}

fn explain(shortest: &Shortest, operations: &[Operation], values: &Values) -> Anomaly {
    let at = &operations[shortest.at];
    let mut told = vec![*at];
    let mut story = vec![format!(
        "Of the operations up to #{}, {} fit one order, and {} fits in no order.",
        at.answered.unwrap_or(at.asked).index,
        shortest.order.len(),
        at.tell(values)
    )];
    let wanted = Register.needs(&at.op);
    let writers = operations
        .iter()
        .filter(|o| wanted.is_some() && Register.gives(&o.op) == wanted);
    let mut writers = writers.peekable();
    match (wanted, writers.peek()) {
        (Some(value), None) if value != NOTHING => {
            story.push(format!("Nobody was asked to write {}.", values.shown(value)));
        }
        _ => story.extend(writers.take(TOLD).map(|writer| {
            told.push(*writer);
            format!("The value comes from this: {}.", writer.tell(values))
        })),
    }
    let last = shortest.order.iter().rev().map(|c| &operations[*c]);
    if let Some(last) = last
        .filter(|o| !Register.looks(&o.op))
        .find(|o| o.asked.index < at.asked.index)
    {
        told.push(*last);
        story.push(format!(
            "In the longest order this took effect before it: {}.",
            last.tell(values)
        ));
    }
    let placed: BTreeSet<usize> = shortest.order.iter().copied().collect();
    let end = at.answered.map(|m| m.index);
    let open = operations
        .iter()
        .enumerate()
        .filter(|(c, o)| *c != shortest.at && !placed.contains(c) && o.answered.is_some() && Some(o.asked.index) < end);
    for (_, other) in open.take(TOLD) {
        told.push(*other);
        story.push(format!(
            "This was open then, and does not help: {}.",
            other.tell(values)
        ));
    }
    let proof: Vec<Mark> = told
        .iter()
        .flat_map(|o| [Some(o.asked), o.answered])
        .flatten()
        .collect();
    let hosts: Vec<Name> = told.iter().map(|o| o.host).collect();
    let title = format!("no order explains that {}", at.words(values));
    anomaly(Guarantee::Linearizable, title, story, &proof, &hosts)
}

impl Operation {
    fn words(&self, values: &Values) -> String {
        let shown = |value| values.shown(value);
        let host = self.host;
        match (self.op, self.answered) {
            (RegisterOp::Read(value), _) => format!("{host} read {}", shown(value)),
            (RegisterOp::Differs(value), _) => format!("{host} found something else than {}", shown(value)),
            (RegisterOp::Set(value), Some(_)) => format!("{host} set {}", shown(value)),
            (RegisterOp::Cas { from, to }, Some(_)) => format!("{host} set {} in place of {}", shown(to), shown(from)),
            (RegisterOp::Set(value), None) => format!("{host} may have set {}", shown(value)),
            (RegisterOp::Cas { from, to }, None) => {
                format!("{host} may have set {} in place of {}", shown(to), shown(from))
            }
        }
    }

    /// With its places.
    fn tell(&self, values: &Values) -> String {
        let asked = self.asked.index;
        match self.answered {
            Some(answered) => format!("{} (asked #{asked}, answered #{})", self.words(values), answered.index),
            None => format!("{} (asked #{asked}, no answer)", self.words(values)),
        }
    }
}

fn invoked(event: &Event, values: &mut Values) -> Option<Operation> {
    let (host, op) = match event.body {
        Body::Get { host, .. } => (host, RegisterOp::Read(NOTHING)),
        Body::Set { host, value } => (host, RegisterOp::Set(values.number(Some(value)))),
        Body::Cas { host, from, to } => {
            let (from, to) = (values.number(from), values.number(Some(to)));
            (host, RegisterOp::Cas { from, to })
        }
        _ => return None,
    };
    Some(Operation {
        host,
        asked: Mark::of(event),
        answered: None,
        op,
    })
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        Guarantee::Linearizable.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        let (Process::Client(client), Some(operation)) = (event.process, invoked(event, &mut self.values)) else {
            return;
        };
        if event.kind == Kind::Invoke {
            self.open.insert(client, operation);
        } else if let Some(begun) = self.open.remove(&client) {
            self.ended(begun, event);
        }
    }

    fn finish(&mut self) -> Verdict {
        let mut operations = std::mem::take(&mut self.done);
        let cut_off = std::mem::take(&mut self.open).into_values();
        operations.extend(cut_off.filter(|o| !Register.looks(&o.op)));
        operations.sort_by_key(|o| o.asked);
        let answered = operations.iter().filter(|o| o.answered.is_some()).count() as u64;
        if answered == 0 {
            let why = "no operation on the register was answered";
            return self.law.nothing(self.name(), Guarantee::Linearizable, why);
        }
        let place = |mark: Mark| u32::try_from(mark.index).expect("a history has fewer events");
        let call = |o: &Operation| Call {
            op: o.op,
            begin: place(o.asked),
            end: o.answered.map_or(NEVER, place),
        };
        let mut calls: Vec<Call<RegisterOp>> = operations.iter().map(call).collect();
        register::merge_unseen(&mut calls);
        let hosts: BTreeSet<Name> = operations.iter().map(|o| o.host).collect();
        let unanswered = operations.len() as u64 - answered;
        let told = format!(
            "{} of {} and {} without an answer",
            count(answered, "operation", "operations"),
            names(hosts),
            unanswered
        );
        let mut verdict = match decide(&Register, &calls, &Limits::USUAL, true, &|| false).found {
            Found::Order(order) => {
                let late = order.map_or(0, |order| order.len()) as u64 - answered;
                let summary = format!("{told} fit one order, in which {late} of these took effect");
                Verdict::new(self.name(), summary, Vec::new())
            }
            Found::Unknown(why) => Verdict::unknown(self.name(), format!("{told}: {why}")),
            Found::None { .. } => {
                let mut findings = Findings::default();
                findings.push(explain(&shortest(&calls), &operations, &self.values));
                findings.verdict(
                    self.name(),
                    &self.law,
                    format!("{told} fit no order"),
                    Findings::default(),
                )
            }
        };
        verdict.figures = vec![
            figure("register operations", answered as f64, ""),
            figure("register operations without an answer", unanswered as f64, ""),
        ];
        verdict
    }
}
