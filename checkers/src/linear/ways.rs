//! The ways on from a configuration of the depth-first search.
use super::crashed::{Crashed, Used};
use super::model::{Call, Model};
use super::timeline::{Moment, Timeline};
use std::cell::Cell;
use std::collections::BTreeMap;

/// What may come next: see the module.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) passed: u32,
    pub(super) open: u64,
    pub(super) state: u32,
    /// Which crashed calls have taken effect.
    pub(super) used: Used,
    /// The state before the crashed call that took effect last and waits for the call that needs it, and its class.
    pub(super) lent: Option<(u32, u32)>,
}

/// Who needs a state, and who brings it about.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) needed_by: Vec<u32>,
    pub(super) given_by: Vec<u32>,
    pub(super) given_by_classes: Vec<usize>,
    /// Crashed calls that are possible in this state only.
    pub(super) awaited_by_classes: Vec<usize>,
}

/// What a search knows of the history.
pub(super) struct Search<'a, M: Model> {
    pub(super) model: &'a M,
    pub(super) calls: &'a [Call<M::Op>],
    slots: &'a [u16],
    /// Calls that ended, by their ends.
    pub(super) ends: Vec<u32>,
    /// At each end: the calls that are open there, the ending one first, from `windows[i]` to `windows[i + 1]`.
    windows: Vec<u32>,
    members: Vec<u32>,
    /// At each end: how many crashed calls have begun.
    begun: Vec<u32>,
    pub(super) crashed: Crashed<M::Op>,
    /// The classes that are possible in more than one state.
    free: Vec<usize>,
    pub(super) traffic: BTreeMap<u32, Traffic>,
    /// Whether every call that may change the state is known to lead to one state only; else nothing is a dead end.
    pub(super) knows_ways: bool,
    pub(super) steps: Cell<u64>,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(model: &'a M, calls: &'a [Call<M::Op>], timeline: &'a Timeline) -> Self {
        let mut search = Search {
            model,
            calls,
            slots: &timeline.slots,
            ends: Vec::with_capacity(timeline.ends),
            windows: Vec::with_capacity(timeline.ends + 1),
            members: Vec::new(),
            begun: Vec::with_capacity(timeline.ends),
            crashed: Crashed::new(),
            free: Vec::new(),
            traffic: BTreeMap::new(),
            knows_ways: calls.iter().all(|c| model.looks(&c.op) || model.gives(&c.op).is_some()),
            steps: Cell::new(0),
        };
        search.sweep(timeline);
        if search.knows_ways {
            search.ways();
        }
        for class in 0..search.crashed.classes() {
            let op = search.crashed.op(class);
            match model.needs(op) {
                Some(state) => search.traffic.entry(state).or_default().awaited_by_classes.push(class),
                None => search.free.push(class),
            }
            if let Some(state) = model.gives(op) {
                search.traffic.entry(state).or_default().given_by_classes.push(class);
            }
        }
        search
    }

    /// Finds ends and windows in one pass over the history.
    fn sweep(&mut self, timeline: &Timeline) {
        let mut open: Vec<u32> = Vec::new();
        for place in 0..timeline.len() {
            match timeline.at(place, self.calls) {
                Moment::Begin(call) => open.push(call),
                Moment::Crash(call) => {
                    let op = &self.calls[call as usize].op;
                    self.crashed.begin(call, op, self.model.overwrites(op));
                }
                Moment::End(call) => {
                    open.retain(|o| *o != call);
                    self.ends.push(call);
                    self.windows.push(self.members.len() as u32);
                    self.members.push(call);
                    self.members.extend_from_slice(&open);
                    self.begun.push(self.crashed.begun);
                }
            }
        }
        self.windows.push(self.members.len() as u32);
    }

    /// Who needs which state, and who brings it about.
    fn ways(&mut self) {
        for &call in &self.ends {
            let op = &self.calls[call as usize].op;
            if let Some(state) = self.model.needs(op) {
                self.traffic.entry(state).or_default().needed_by.push(call);
            }
            if let Some(state) = self.model.gives(op) {
                self.traffic.entry(state).or_default().given_by.push(call);
            }
        }
    }

    /// About how much memory this takes.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.members.capacity() + self.windows.capacity() + 3 * self.ends.capacity()) + self.crashed.bytes()
    }

    fn window(&self, passed: u32) -> std::ops::Range<usize> {
        self.windows[passed as usize] as usize..self.windows[passed as usize + 1] as usize
    }

    pub(super) fn bit(&self, call: u32) -> u64 {
        1 << self.slots[call as usize]
    }

    fn step(&self, state: u32, op: &M::Op) -> Option<u32> {
        self.steps.set(self.steps.get() + 1);
        self.model.step(state, op)
    }

    /// Lets calls that only look take effect, and passes ends, for as long as that goes; whether all ends are passed.
    pub(super) fn settle(&self, node: &mut Node, order: &mut Vec<u32>) -> bool {
        loop {
            if node.passed as usize == self.ends.len() {
                return true;
            }
            for i in self.window(node.passed) {
                let call = self.members[i];
                let op = &self.calls[call as usize].op;
                if node.open & self.bit(call) == 0 && self.model.looks(op) && self.step(node.state, op).is_some() {
                    node.open |= self.bit(call);
                    node.lent = None;
                    order.push(call);
                }
            }
            let ending = self.bit(self.ends[node.passed as usize]);
            if node.open & ending == 0 {
                return false;
            }
            node.open &= !ending;
            node.passed += 1;
        }
    }

    /// The classes that are possible in one state only, and that is `state`.
    fn awaiting(&self, state: u32) -> &[usize] {
        self.traffic.get(&state).map_or(&[], |t| &t.awaited_by_classes)
    }

    pub(super) fn choices(&self, node: &Node) -> usize {
        self.window(node.passed).len() + self.awaiting(node.state).len() + self.free.len()
    }

    /// The node to which a choice leads, with the call that takes effect; `None` where it may not, or need not be tried.
    pub(super) fn choose(&mut self, node: &Node, choice: usize) -> Option<(Node, u32)> {
        let window = &self.members[self.window(node.passed)];
        if let Some(&call) = window.get(choice) {
            return self.take_open(node, call);
        }
        let awaiting = self.awaiting(node.state);
        let crashed = choice - window.len();
        let class = awaiting.get(crashed).copied();
        self.take_crashed(node, class.unwrap_or_else(|| self.free[crashed - awaiting.len()]))
    }

    fn take_open(&self, node: &Node, call: u32) -> Option<(Node, u32)> {
        let op = &self.calls[call as usize].op;
        // What only looks and did not take effect in `settle` cannot.
        if node.open & self.bit(call) != 0 || self.model.looks(op) {
            return None;
        }
        let state = self.step(node.state, op)?;
        if let Some((before, lender)) = node.lent
            && (self.is_the_same_without(before, op, state) || self.commutes(before, lender as usize, op, state))
        {
            return None;
        }
        let mut next = *node;
        next.open |= self.bit(call);
        next.state = state;
        next.lent = None;
        (!self.strands(node.state, &next)).then_some((next, call))
    }

    fn take_crashed(&mut self, node: &Node, k: usize) -> Option<(Node, u32)> {
        let call = self.crashed.next(k, node.used, self.begun[node.passed as usize])?;
        let op = self.crashed.op(k);
        let state = self.step(node.state, op)?;
        if state == node.state {
            return None;
        }
        if let Some((before, lender)) = node.lent
            && (self.is_the_same_without(before, op, state)
                || (k < lender as usize && self.commutes(before, lender as usize, op, state)))
        {
            return None;
        }
        if !self.is_needed(node, k, state) {
            return None;
        }
        let mut next = *node;
        next.state = state;
        next.lent = Some((node.state, k as u32));
        next.used = self.crashed.with(node.used, k);
        (!self.strands(node.state, &next)).then_some((next, call))
    }

    /// Whether `op` leads from `before` to `state` as well, so that the crashed call between them can be left out.
    fn is_the_same_without(&self, before: u32, op: &M::Op, state: u32) -> bool {
        self.step(before, op) == Some(state)
    }

    /// Whether the crashed call may as well come after `op`.
    fn commutes(&self, before: u32, lender: usize, op: &M::Op, state: u32) -> bool {
        let lent = self.crashed.op(lender);
        self.model
            .step(before, op)
            .and_then(|between| self.model.step(between, lent))
            == Some(state)
    }

    /// Whether some call can be the one that needs class `k` to lead from the node to `state`.
    fn is_needed(&self, node: &Node, k: usize, state: u32) -> bool {
        let needs = |op: &M::Op| {
            self.step(state, op).is_some_and(|then| {
                !self.is_the_same_without(node.state, op, then) && !self.commutes(node.state, k, op, then)
            })
        };
        for i in self.window(node.passed) {
            let call = self.members[i];
            if node.open & self.bit(call) == 0 && needs(&self.calls[call as usize].op) {
                return true;
            }
        }
        self.awaiting(state).iter().chain(&self.free).any(|&j| {
            // What overwrites everything needs nothing.
            let op = self.crashed.op(j);
            let begun = self.begun[node.passed as usize];
            !self.crashed.overwrites(j)
                && self.crashed.next(j, node.used, begun).is_some()
                && self
                    .step(state, op)
                    .is_some_and(|then| !self.is_the_same_without(node.state, op, then))
        })
    }
}
