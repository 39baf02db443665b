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
//! **Budget.** Memory and steps are counted; when either runs out nothing is known.
use super::Found;
use super::model::{Call, Model};
use super::seen::Seen;
use super::timeline::Timeline;
use super::ways::{Node, Search};

/// Open calls that the set of a configuration can hold.
pub(crate) const SLOTS: usize = 64;

struct Frame {
    node: Node,
    choice: u32,
    /// The order's length before and after the node's own calls.
    from: u32,
    to: u32,
}

/// A search that can be stopped and gone on with.
pub(crate) struct Depth<'a, M: Model> {
    search: Search<'a, M>,
    seen: Seen,
    stack: Vec<Frame>,
    order: Vec<u32>,
    decided: Option<Found>,
}

impl<'a, M: Model> Depth<'a, M> {
    /// `timeline` is not wider than [`SLOTS`].
    pub(crate) fn new(model: &'a M, calls: &'a [Call<M::Op>], timeline: &'a Timeline) -> Depth<'a, M> {
        let mut depth = Depth {
            search: Search::new(model, calls, timeline),
            seen: Seen::default(),
            stack: Vec::new(),
            order: Vec::new(),
            decided: None,
        };
        let mut root = Node {
            passed: 0,
            open: 0,
            state: model.start(),
            used: 0,
            lent: None,
        };
        if depth.search.settle(&mut root, &mut depth.order) {
            depth.decided = Some(Found::Order(Some(std::mem::take(&mut depth.order))));
        } else if depth.search.lacks(&root) {
            depth.decided = Some(Found::None { at: None });
        } else {
            depth.seen.insert(&depth.search, &root);
            depth.push(root, 0);
        }
        depth
    }

    fn push(&mut self, node: Node, from: usize) {
        self.stack.push(Frame {
            node,
            choice: 0,
            from: from as u32,
            to: self.order.len() as u32,
        });
    }

    /// About how much memory this takes.
    pub(crate) fn bytes(&self) -> usize {
        self.seen.bytes() + self.stack.capacity() * size_of::<Frame>() + self.search.bytes() + 4 * self.order.capacity()
    }

    /// Operations that were tried in some state.
    pub(crate) fn steps(&self) -> u64 {
        self.search.steps.get()
    }

    /// Goes on until it is decided, the memory is used up, or some `steps` were taken (`None`).
    pub(crate) fn go(&mut self, steps: u64, bytes: usize) -> Option<Found> {
        let until = self.steps().saturating_add(steps);
        while self.decided.is_none() {
            let Some(top) = self.stack.last_mut() else {
                self.decided = Some(Found::None { at: None });
                break;
            };
            self.order.truncate(top.to as usize);
            if top.choice as usize == self.search.choices(&top.node) {
                self.order.truncate(top.from as usize);
                self.stack.pop();
                continue;
            }
            top.choice += 1;
            let (node, choice, from) = (top.node, top.choice as usize - 1, top.to as usize);
            let Some((mut next, call)) = self.search.choose(&node, choice) else {
                continue;
            };
            self.order.push(call);
            if self.search.settle(&mut next, &mut self.order) {
                self.decided = Some(Found::Order(Some(std::mem::take(&mut self.order))));
            } else if self.seen.insert(&self.search, &next) {
                self.push(next, from);
                if self.bytes() > bytes {
                    return Some(Found::Unknown(format!(
                        "{} tried configurations, the furthest at end {} of {}, are more than {} MB hold",
                        self.seen.entries.len(),
                        self.furthest(),
                        self.search.ends.len(),
                        bytes >> 20
                    )));
                }
            }
            if self.steps() > until {
                return None;
            }
        }
        self.decided.clone()
    }

    fn furthest(&self) -> u32 {
        self.seen.entries.iter().map(|entry| entry.passed).max().unwrap_or(0)
    }
}
