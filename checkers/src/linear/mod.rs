//! Linearizable: the system's register behaves as one copy (Herlihy and Wing, "Linearizability", 1990).
//!
//! Judged: whether there is an order of all operations on the register in which each takes effect at one instant between
//! its call and its answer, and answers what a single register would.
//!
//! No sound system can trip it: the verdict is invalid only if the search has tried every order. What an operation may
//! do is taken in the widest sense. One without an answer (`info`, or cut off) may take effect at any later time or
//! never, and one that only reads and has no answer says nothing. A comparison that failed with `mismatch` saw another
//! value; every other `fail` says that nothing happened. Calls and answers are ordered by their places in the history:
//! control records a call before it asks and an answer after it got it, so its intervals hold the real ones.
//!
//! [`search`] is for any [`Model`]; the register's is in [`register`]. Where the budget runs out the verdict is unknown.
mod reach;
mod register;
mod search;
#[cfg(test)]
mod tests;

use crate::agreement::names;
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use register::{Register, RegisterOp};
use search::{Budget, Call, Found, search};
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Process, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// About 100 MB, and some ten seconds.
const BUDGET: Budget = Budget {
    configurations: 1_000_000,
    steps: 500_000_000,
};
/// How many open operations a story tells of.
const TOLD: usize = 4;

/// A sequential object.
pub(crate) trait Model {
    type State: Copy + Ord + Debug;
    type Op: Clone + Ord + Debug;
    /// The state after `op`; `None` if `op` cannot have its answer in `state`.
    fn step(state: Self::State, op: &Self::Op) -> Option<Self::State>;
    /// Whether `op` never changes the state.
    fn looks(op: &Self::Op) -> bool;
    /// Whether `op` is possible in every state and leads to the same one from all.
    fn overwrites(op: &Self::Op) -> bool;
    /// The only state in which `op` is possible, if there is only one.
    fn needs(op: &Self::Op) -> Option<Self::State>;
    /// The only state to which `op` leads, if it changes the state and there is only one.
    fn gives(op: &Self::Op) -> Option<Self::State>;
}

/// An operation of the history.
#[derive(Clone, Copy)]
struct Operation {
    host: Name,
    asked: Mark,
    answered: Option<Mark>,
    op: RegisterOp,
}

/// See the module. Memory: one entry per operation that happened or may have.
pub(crate) struct Linearizable {
    law: Law,
    open: BTreeMap<u32, Operation>,
    done: Vec<Operation>,
}

impl Linearizable {
    pub fn new(header: &Header) -> Linearizable {
        Linearizable {
            law: Law::new(header),
            open: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    fn ended(&mut self, mut operation: Operation, event: &Event) {
        operation.answered = Some(Mark::of(event));
        match (event.kind, &event.body) {
            (Kind::Ok, Body::Get { value, .. }) => operation.op = RegisterOp::Read(*value),
            (Kind::Ok, _) => {}
            (Kind::Fail, Body::Cas { from, .. }) if event.error.as_deref() == Some("mismatch") => {
                operation.op = RegisterOp::Differs(*from);
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
    let mut ends: Vec<(u64, usize)> = calls
        .iter()
        .enumerate()
        .filter_map(|(c, call)| Some((call.end?, c)))
        .collect();
    ends.sort_unstable();
    let beginning = |n: usize| -> (Found, Vec<usize>) {
        let last = n.checked_sub(1).map_or(0, |n| ends[n].0);
        let cut = |call: &Call<RegisterOp>| Call {
            end: call.end.filter(|end| *end <= last),
            ..*call
        };
        let is_in = |call: &Call<RegisterOp>| call.begin < last && (call.end.is_some() || !Register::looks(&call.op));
        let kept = calls.iter().map(cut).enumerate().filter(|(_, call)| is_in(call));
        let (places, kept): (Vec<usize>, Vec<_>) = kept.unzip();
        (search::<Register>(&kept, None, BUDGET), places)
    };
    let (mut fits, mut fails) = (0, ends.len());
    while fails - fits > 1 {
        let half = fits + (fails - fits) / 2;
        match beginning(half).0 {
            Found::None => fails = half,
            Found::Order(_) | Found::Unknown(_) => fits = half,
        }
    }
    let order = match beginning(fits) {
        (Found::Order(order), places) => order.into_iter().map(|c| places[c]).collect(),
        _ => Vec::new(),
    };
    let at = ends[fails - 1].1;
    Shortest { at, order }
}

fn explain(shortest: &Shortest, operations: &[Operation]) -> Anomaly {
    let at = &operations[shortest.at];
    let mut told = vec![*at];
    let mut story = vec![format!(
        "Of the operations up to #{}, {} fit one order, and {} fits in no order.",
        at.answered.unwrap_or(at.asked).index,
        shortest.order.len(),
        at.tell()
    )];
    let wanted = Register::needs(&at.op);
    let writers = operations
        .iter()
        .filter(|o| wanted.is_some() && Register::gives(&o.op) == wanted);
    let mut writers = writers.peekable();
    match (wanted, writers.peek()) {
        (Some(Some(value)), None) => story.push(format!("Nobody was asked to write {value}.")),
        _ => story.extend(writers.take(TOLD).map(|writer| {
            told.push(*writer);
            format!("The value comes from this: {}.", writer.tell())
        })),
    }
    let last = shortest.order.iter().rev().map(|c| &operations[*c]);
    if let Some(last) = last
        .filter(|o| !Register::looks(&o.op))
        .find(|o| o.asked.index < at.asked.index)
    {
        told.push(*last);
        story.push(format!(
            "In the longest order this took effect before it: {}.",
            last.tell()
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
        story.push(format!("This was open then, and does not help: {}.", other.tell()));
    }
    let proof: Vec<Mark> = told
        .iter()
        .flat_map(|o| [Some(o.asked), o.answered])
        .flatten()
        .collect();
    let hosts: Vec<Name> = told.iter().map(|o| o.host).collect();
    let title = format!("no order explains that {}", at.words());
    anomaly(Guarantee::Linearizable, title, story, &proof, &hosts)
}

impl Operation {
    fn words(&self) -> String {
        let shown = |value: Option<u64>| value.map_or("nothing".to_string(), |v| v.to_string());
        let host = self.host;
        match (self.op, self.answered) {
            (RegisterOp::Read(value), _) => format!("{host} read {}", shown(value)),
            (RegisterOp::Differs(value), _) => format!("{host} found something else than {}", shown(value)),
            (RegisterOp::Set(value), Some(_)) => format!("{host} set {value}"),
            (RegisterOp::Cas { from, to }, Some(_)) => format!("{host} set {to} in place of {}", shown(from)),
            (RegisterOp::Set(value), None) => format!("{host} may have set {value}"),
            (RegisterOp::Cas { from, to }, None) => format!("{host} may have set {to} in place of {}", shown(from)),
        }
    }

    /// With its places.
    fn tell(&self) -> String {
        let asked = self.asked.index;
        match self.answered {
            Some(answered) => format!("{} (asked #{asked}, answered #{})", self.words(), answered.index),
            None => format!("{} (asked #{asked}, no answer)", self.words()),
        }
    }
}

fn invoked(event: &Event) -> Option<Operation> {
    let (host, op) = match event.body {
        Body::Get { host, .. } => (host, RegisterOp::Read(None)),
        Body::Set { host, value } => (host, RegisterOp::Set(value)),
        Body::Cas { host, from, to } => (host, RegisterOp::Cas { from, to }),
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
        let (Process::Client(client), Some(operation)) = (event.process, invoked(event)) else {
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
        operations.extend(cut_off.filter(|o| !Register::looks(&o.op)));
        operations.sort_by_key(|o| o.asked);
        let answered = operations.iter().filter(|o| o.answered.is_some()).count() as u64;
        if answered == 0 {
            let why = "no operation on the register was answered";
            return self.law.nothing(self.name(), Guarantee::Linearizable, why);
        }
        let call = |o: &Operation| Call {
            op: o.op,
            begin: o.asked.index,
            end: o.answered.map(|m| m.index),
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
        let mut verdict = match search::<Register>(&calls, None, BUDGET) {
            Found::Order(order) => {
                let late = order.len() as u64 - answered;
                let summary = format!("{told} fit one order, in which {late} of these took effect");
                Verdict::new(self.name(), summary, Vec::new())
            }
            Found::Unknown(why) => Verdict::unknown(self.name(), format!("{told}: {why}")),
            Found::None => {
                let mut findings = Findings::default();
                findings.push(explain(&shortest(&calls), &operations));
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
