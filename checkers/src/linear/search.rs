//! The search for an order: depth first, by Wing and Gong (1993) with Lowe's memory of what was tried ("Testing for
//! linearizability", 2017).
//!
//! **Configurations.** Calls that ended are passed in the order of their ends. A configuration is the next end to pass,
//! the set of open calls that have taken effect, the model's state, and how many crashed calls of each class have taken
//! effect. Two ways that lead to the same configuration can only go on alike, so each is tried once; and of two that
//! differ in the crashed calls alone, the one with fewer is enough. A call may take effect while it is open; a crashed one
//! at any time after it began, or never.
//!
//! **What keeps the search small**, none of it changing the answer:
//! - A call that only looks takes effect as soon as it can: earlier never harms, since it changes nothing.
//! - Crashed calls that do the same are one *class*; they are open for ever, so only their number counts.
//! - A crashed call takes effect only right before a call that needs it. In any order in which it does not, it can be
//!   left out (the next call comes to the same state without it) or moved behind the next call (the two commute). Doing so
//!   until nothing is left to do ends in an order that the search tries.
//! - A state that is left for good while a call needs it is a dead end: no call that could bring it back is left. So is
//!   one that is the only way, by crashed calls, to a state that is needed.
//!
//! **Budget.** Configurations and steps are counted; when either runs out nothing is known.
use super::model::{Call, Model};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Open calls that the set of a configuration can hold.
const SLOTS: usize = 64;

/// How much may be tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub configurations: usize,
    pub steps: u64,
}

/// What came of a search.
#[derive(Debug)]
pub(crate) enum Found {
    /// All calls that ended, and the crashed ones that took effect, in an order that the model allows.
    Order(Vec<usize>),
    /// There is none.
    None,
    /// The budget ran out; why.
    Unknown(String),
}

/// Crashed calls that do the same.
pub(super) struct Class<O> {
    pub(super) op: O,
    /// In the order of their beginnings.
    pub(super) calls: Vec<usize>,
}

/// What may come next: see the module.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) passed: usize,
    pub(super) open: u64,
    pub(super) state: u32,
    /// Which of the interned counts of crashed calls.
    pub(super) used: usize,
    /// The state before the crashed call that took effect last and waits for the call that needs it, and its class.
    pub(super) lent: Option<(u32, usize)>,
}

struct Frame {
    node: Node,
    choice: usize,
    /// The order's length before and after the node's own calls.
    from: usize,
    to: usize,
}

/// Who needs a state, and who brings it about.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) needed_by: Vec<usize>,
    pub(super) given_by: Vec<usize>,
    pub(super) given_by_classes: Vec<usize>,
    /// Crashed calls that are possible in this state only.
    pub(super) awaited_by_classes: Vec<usize>,
}

pub(super) struct Search<'a, M: Model> {
    pub(super) model: &'a M,
    pub(super) calls: &'a [Call<M::Op>],
    /// Calls that ended, by their ends.
    pub(super) ends: Vec<usize>,
    pub(super) rank: Vec<usize>,
    pub(super) slot: Vec<usize>,
    /// At each end: the calls that are open there, the ending one first.
    pub(super) windows: Vec<Vec<usize>>,
    pub(super) classes: Vec<Class<M::Op>>,
    /// The classes that are possible in more than one state.
    pub(super) free: Vec<usize>,
    pub(super) traffic: BTreeMap<u32, Traffic>,
    /// Whether every call that may change the state is known to lead to one state only; else nothing is a dead end.
    pub(super) knows_ways: bool,
    pub(super) used: Vec<Vec<u32>>,
    pub(super) used_ids: BTreeMap<Vec<u32>, usize>,
    pub(super) steps: Cell<u64>,
}

/// Searches an order of `calls` that begins at `state`.
pub(crate) fn search<M: Model>(model: &M, calls: &[Call<M::Op>], budget: Budget) -> Found {
    let mut search = match Search::new(model, calls) {
        Ok(search) => search,
        Err(why) => return Found::Unknown(why),
    };
    let mut order = Vec::new();
    let mut root = Node {
        passed: 0,
        open: 0,
        state: model.start(),
        used: search.intern(vec![0; search.classes.len()]),
        lent: None,
    };
    if search.settle(&mut root, &mut order) {
        return Found::Order(order);
    }
    if search.lacks(&root) {
        return Found::None;
    }
    let mut seen = Seen::default();
    seen.insert(&search, &root);
    let frame = |node, from, to| Frame {
        node,
        choice: 0,
        from,
        to,
    };
    let mut stack = vec![frame(root, 0, order.len())];
    while let Some(top) = stack.last_mut() {
        order.truncate(top.to);
        if top.choice == search.choices(&top.node) {
            order.truncate(top.from);
            stack.pop();
            continue;
        }
        top.choice += 1;
        let (node, choice) = (top.node, top.choice - 1);
        let Some((mut next, call)) = search.choose(&node, choice) else {
            continue;
        };
        order.push(call);
        if search.settle(&mut next, &mut order) {
            return Found::Order(order);
        }
        if seen.insert(&search, &next) {
            let from = stack.last().map_or(0, |top| top.to);
            stack.push(frame(next, from, order.len()));
        }
        if seen.entries > budget.configurations || search.steps.get() > budget.steps {
            return Found::Unknown(format!(
                "undecided after {} configurations and {} steps: the budget ran out at end {} of {}",
                seen.entries,
                search.steps.get(),
                next.passed,
                search.ends.len()
            ));
        }
    }
    Found::None
}

/// The configurations that were tried, without what they have used: of those that differ in that alone, one that has used
/// less can go on in every way that the other can.
#[derive(Default)]
struct Seen {
    used: BTreeMap<(usize, u64, u32), Vec<usize>>,
    entries: usize,
}

impl Seen {
    /// Whether `node` is worth trying. One that has lent may go on in fewer ways than its configuration, and so is not
    /// remembered.
    fn insert<M: Model>(&mut self, search: &Search<M>, node: &Node) -> bool {
        let tried = self.used.entry((node.passed, node.open, node.state)).or_default();
        let used = &search.used[node.used];
        let less = |id: &usize| *id == node.used || search.used[*id].iter().zip(used).all(|(a, b)| a <= b);
        if tried.iter().any(less) {
            return false;
        }
        if node.lent.is_none() {
            tried.push(node.used);
            self.entries += 1;
        }
        true
    }
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Call<M::Op>]) -> Result<Self, String> {
        let mut search = Search {
            model,
            calls,
            ends: Vec::new(),
            rank: vec![usize::MAX; calls.len()],
            slot: vec![SLOTS; calls.len()],
            windows: Vec::new(),
            classes: classes(calls),
            free: Vec::new(),
            traffic: BTreeMap::new(),
            knows_ways: calls.iter().all(|c| model.looks(&c.op) || model.gives(&c.op).is_some()),
            used: Vec::new(),
            used_ids: BTreeMap::new(),
            steps: Cell::new(0),
        };
        search.sweep()?;
        let ends = std::mem::take(&mut search.ends);
        for &c in &ends {
            let op = &calls[c].op;
            if let Some(state) = model.needs(op) {
                search.traffic.entry(state).or_default().needed_by.push(c);
            }
            if let Some(state) = model.gives(op) {
                search.traffic.entry(state).or_default().given_by.push(c);
            }
        }
        search.ends = ends;
        for (k, class) in search.classes.iter().enumerate() {
            match model.needs(&class.op) {
                Some(state) => search.traffic.entry(state).or_default().awaited_by_classes.push(k),
                None => search.free.push(k),
            }
            if let Some(state) = model.gives(&class.op) {
                search.traffic.entry(state).or_default().given_by_classes.push(k);
            }
        }
        Ok(search)
    }

    /// Finds ends, slots and windows in one pass over the history.
    fn sweep(&mut self) -> Result<(), String> {
        let definite = || {
            self.calls
                .iter()
                .enumerate()
                .filter(|(_, call)| call.ended())
                .map(|(c, call)| (c, call, call.end))
        };
        let begins = definite().map(|(c, call, _)| (call.begin, c, false));
        let mut events: Vec<_> = begins.chain(definite().map(|(c, _, end)| (end, c, true))).collect();
        events.sort_unstable();
        let mut free: BTreeSet<usize> = (0..SLOTS).collect();
        let mut open: Vec<usize> = Vec::new();
        for (_, c, ends) in events {
            if !ends {
                let Some(slot) = free.pop_first() else {
                    return Err(format!("more than {SLOTS} operations at once"));
                };
                self.slot[c] = slot;
                open.push(c);
                continue;
            }
            open.retain(|o| *o != c);
            self.rank[c] = self.ends.len();
            self.ends.push(c);
            self.windows.push([&[c], &open[..]].concat());
            free.insert(self.slot[c]);
        }
        Ok(())
    }

    fn intern(&mut self, counts: Vec<u32>) -> usize {
        if let Some(id) = self.used_ids.get(&counts) {
            return *id;
        }
        self.used.push(counts.clone());
        self.used_ids.insert(counts, self.used.len() - 1);
        self.used.len() - 1
    }

    pub(super) fn bit(&self, call: usize) -> u64 {
        1 << self.slot[call]
    }

    fn step(&self, state: u32, op: &M::Op) -> Option<u32> {
        self.steps.set(self.steps.get() + 1);
        self.model.step(state, op)
    }

    /// Lets calls that only look take effect, and passes ends, for as long as that goes; whether all ends are passed.
    fn settle(&self, node: &mut Node, order: &mut Vec<usize>) -> bool {
        loop {
            if node.passed == self.ends.len() {
                return true;
            }
            for i in 0..self.windows[node.passed].len() {
                let call = self.windows[node.passed][i];
                let op = &self.calls[call].op;
                if node.open & self.bit(call) == 0 && self.model.looks(op) && self.step(node.state, op).is_some() {
                    node.open |= self.bit(call);
                    node.lent = None;
                    order.push(call);
                }
            }
            let ending = self.bit(self.ends[node.passed]);
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

    fn choices(&self, node: &Node) -> usize {
        self.windows[node.passed].len() + self.awaiting(node.state).len() + self.free.len()
    }

    /// The node to which a choice leads, with the call that takes effect; `None` where it may not, or need not be tried.
    fn choose(&mut self, node: &Node, choice: usize) -> Option<(Node, usize)> {
        let window = &self.windows[node.passed];
        if let Some(&call) = window.get(choice) {
            return self.take_open(node, call);
        }
        let awaiting = self.awaiting(node.state);
        let crashed = choice - window.len();
        let class = awaiting.get(crashed).copied();
        self.take_crashed(node, class.unwrap_or_else(|| self.free[crashed - awaiting.len()]))
    }

    fn take_open(&self, node: &Node, call: usize) -> Option<(Node, usize)> {
        let op = &self.calls[call].op;
        // What only looks and did not take effect in `settle` cannot.
        if node.open & self.bit(call) != 0 || self.model.looks(op) {
            return None;
        }
        let state = self.step(node.state, op)?;
        if let Some((before, lender)) = node.lent
            && (self.is_the_same_without(before, op, state) || self.commutes(before, lender, op, state))
        {
            return None;
        }
        let mut next = *node;
        next.open |= self.bit(call);
        next.state = state;
        next.lent = None;
        (!self.strands(node.state, &next)).then_some((next, call))
    }

    fn take_crashed(&mut self, node: &Node, k: usize) -> Option<(Node, usize)> {
        let used = self.used[node.used][k] as usize;
        if !self.has_begun(node, k, used) {
            return None;
        }
        let op = &self.classes[k].op;
        let state = self.step(node.state, op)?;
        if state == node.state {
            return None;
        }
        if let Some((before, lender)) = node.lent
            && (self.is_the_same_without(before, op, state) || (k < lender && self.commutes(before, lender, op, state)))
        {
            return None;
        }
        if !self.is_needed(node, k, state) {
            return None;
        }
        let mut next = *node;
        next.state = state;
        next.lent = Some((node.state, k));
        let mut counts = self.used[node.used].clone();
        counts[k] += 1;
        next.used = self.intern(counts);
        (!self.strands(node.state, &next)).then_some((next, self.classes[k].calls[used]))
    }

    /// Whether class `k` has a call that has begun, beyond the first `used`.
    fn has_begun(&self, node: &Node, k: usize, used: usize) -> bool {
        let end = self.calls[self.ends[node.passed]].end;
        let next = self.classes[k].calls.get(used);
        next.is_some_and(|c| self.calls[*c].begin < end)
    }

    /// Whether `op` leads from `before` to `state` as well, so that the crashed call between them can be left out.
    fn is_the_same_without(&self, before: u32, op: &M::Op, state: u32) -> bool {
        self.step(before, op) == Some(state)
    }

    /// Whether the crashed call may as well come after `op`.
    fn commutes(&self, before: u32, lender: usize, op: &M::Op, state: u32) -> bool {
        let lent = &self.classes[lender].op;
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
        for i in 0..self.windows[node.passed].len() {
            let call = self.windows[node.passed][i];
            if node.open & self.bit(call) == 0 && needs(&self.calls[call].op) {
                return true;
            }
        }
        self.awaiting(state).iter().chain(&self.free).any(|&j| {
            // What overwrites everything needs nothing.
            let used = self.used[node.used][j] as usize + usize::from(j == k);
            let op = &self.classes[j].op;
            !self.model.overwrites(op)
                && self.has_begun(node, j, used)
                && self
                    .step(state, op)
                    .is_some_and(|then| !self.is_the_same_without(node.state, op, then))
        })
    }
}

/// The crashed calls, those that do the same together. Those that only look are left out.
fn classes<O: Ord + Clone>(calls: &[Call<O>]) -> Vec<Class<O>> {
    let mut by_op: BTreeMap<&O, Vec<usize>> = BTreeMap::new();
    for (c, call) in calls.iter().enumerate().filter(|(_, call)| !call.ended()) {
        by_op.entry(&call.op).or_default().push(c);
    }
    let class = |(op, mut of): (&O, Vec<usize>)| {
        of.sort_by_key(|c| calls[*c].begin);
        Class {
            op: op.clone(),
            calls: of,
        }
    };
    by_op.into_iter().map(class).collect()
}
