//! The just-in-time linearizer on a history that is still being written: one pass, in memory that does not grow with it.
//!
//! What an operation does is known only when it has ended. Until then its beginning is held, and all that follows; then
//! everything up to the next unknown one is passed on. So what is kept is the frontier and what came after the oldest
//! operation that is still open: an operation that never ends has to be given up by whoever asked it, and told of as
//! crashed. Where more is held, or needed, than the limits allow, the history is undecided from there on.
use super::bits::Bits;
use super::jit::Jit;
use super::model::Model;
use super::{Found, Limits};
use std::collections::{BTreeMap, VecDeque};

/// What is known of an operation.
enum Fate<O> {
    Open,
    Ended(O, u32),
    Crashed(O),
    Nothing,
}

#[derive(Clone, Copy)]
enum Held {
    Begin(u32),
    End(u32),
}

/// See the module.
pub struct Online<'a, M: Model> {
    model: &'a M,
    jit: Jit<'a, M, u64>,
    limits: Limits,
    held: VecDeque<Held>,
    fates: BTreeMap<u32, Fate<M::Op>>,
    slots: BTreeMap<u32, usize>,
    free: Vec<usize>,
    begun: u32,
    place: u32,
    decided: Option<Found>,
}

impl<'a, M: Model> Online<'a, M> {
    /// A history of which nothing is known yet.
    pub fn new(model: &'a M, limits: Limits) -> Online<'a, M> {
        Online {
            model,
            jit: Jit::new(model, false, u32::MAX),
            limits,
            held: VecDeque::new(),
            fates: BTreeMap::new(),
            slots: BTreeMap::new(),
            free: (0..u64::SLOTS).rev().collect(),
            begun: 0,
            place: 0,
            decided: None,
        }
    }

    /// An operation begins; its number.
    pub fn begins(&mut self) -> u32 {
        let call = self.begun;
        self.begun += 1;
        self.place += 1;
        self.fates.insert(call, Fate::Open);
        self.held.push_back(Held::Begin(call));
        call
    }

    /// It ends, and this is what it did. `Some` once the history is decided: it fits no order, or a limit is passed.
    pub fn ends(&mut self, call: u32, op: M::Op) -> Option<&Found> {
        self.fates.insert(call, Fate::Ended(op, self.place));
        self.place += 1;
        self.held.push_back(Held::End(call));
        self.pass()
    }

    /// Nobody knows how it ended: this may take effect at any later time or never.
    pub fn crashes(&mut self, call: u32, op: M::Op) -> Option<&Found> {
        self.fates.insert(call, Fate::Crashed(op));
        self.pass()
    }

    /// It did not happen, or says nothing.
    pub fn is_nothing(&mut self, call: u32) -> Option<&Found> {
        self.fates.insert(call, Fate::Nothing);
        self.pass()
    }

    /// How many events are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was found, once every operation's fate was told.
    pub fn finish(self) -> Found {
        let open = self.held.len();
        self.decided.unwrap_or_else(|| match open {
            0 => Found::Order(None),
            n => Found::Unknown(format!("{n} events follow an operation of which nothing is known")),
        })
    }

    fn pass(&mut self) -> Option<&Found> {
        while self.decided.is_none()
            && let Some(held) = self.held.front().copied()
        {
            match held {
                Held::Begin(call) if matches!(self.fates[&call], Fate::Open) => break,
                Held::Begin(call) => self.begin(call),
                Held::End(call) => self.end(call),
            }
            self.held.pop_front();
        }
        if self.decided.is_none() && self.held.len() * size_of::<(Held, Fate<M::Op>)>() > self.limits.bytes {
            let why = format!(
                "{} events wait for an operation of which nothing is known",
                self.held.len()
            );
            self.decided = Some(Found::Unknown(why));
        }
        self.decided.as_ref()
    }

    fn begin(&mut self, call: u32) {
        match self.fates.remove(&call).expect("it has begun") {
            Fate::Ended(op, end) => {
                let Some(slot) = self.free.pop() else {
                    let why = format!("more than {} operations at once", u64::SLOTS);
                    self.decided = Some(Found::Unknown(why));
                    return;
                };
                self.jit.begin(slot, call, &op, end);
                self.slots.insert(call, slot);
            }
            Fate::Crashed(op) if !self.model.looks(&op) => self.jit.crash(call, &op),
            Fate::Crashed(_) | Fate::Nothing | Fate::Open => {}
        }
    }

    fn end(&mut self, call: u32) {
        let slot = self.slots.remove(&call).expect("it has begun and has a slot");
        self.free.push(slot);
        self.jit.end(slot);
        match self.jit.settle(self.limits.steps, self.limits.bytes) {
            Some(true) => {}
            Some(false) => self.decided = Some(Found::None { at: Some(call) }),
            None => {
                let why = format!("the ways in which the object may stand after {call} operations are too many");
                self.decided = Some(Found::Unknown(why));
            }
        }
    }
}
