//! Dead ends of the search: states that are needed and can no longer come about.
use super::model::Model;
use super::ways::{Node, Search};

/// How long a chain of crashed calls is followed to see whether it leads to a needed state. Where it is longer nothing is
/// called a dead end.
const CHAIN: u32 = 8;

impl<M: Model> Search<'_, M> {
    /// Whether `left` is left in `next` for good although it is needed.
    pub(super) fn strands(&self, left: u32, next: &Node) -> bool {
        self.knows_ways
            && left != next.state
            && !self.is_attainable(left, next, CHAIN)
            && self.is_missed(left, next, CHAIN)
    }

    /// Whether a call needs a state that nothing ever brings about.
    pub(super) fn lacks(&self, root: &Node) -> bool {
        let mut needed = self
            .traffic
            .iter()
            .filter(|(_, traffic)| self.any_waits(&traffic.needed_by, root));
        self.knows_ways && needed.any(|(state, _)| *state != root.state && !self.is_attainable(*state, root, CHAIN))
    }

    /// Whether a state that no longer comes about is needed: by a call that has not taken effect, or by a crashed one
    /// that alone could bring about another state of which the same is true.
    fn is_missed(&self, state: u32, node: &Node, depth: u32) -> bool {
        let Some(traffic) = self.traffic.get(&state).filter(|_| depth > 0) else {
            return false;
        };
        if self.any_waits(&traffic.needed_by, node) {
            return true;
        }
        traffic
            .awaited_by_classes
            .iter()
            .filter(|k| self.is_left(**k, node))
            .any(|k| {
                let then = self.model.gives(self.crashed.op(*k));
                then.is_some_and(|then| {
                    then != node.state
                        && !self.is_attainable(then, node, depth - 1)
                        && self.is_missed(then, node, depth - 1)
                })
            })
    }

    /// Whether the state, which is not the present one, may come about yet.
    fn is_attainable(&self, state: u32, node: &Node, depth: u32) -> bool {
        let Some(traffic) = self.traffic.get(&state).filter(|_| depth > 0) else {
            return depth == 0;
        };
        self.any_waits(&traffic.given_by, node)
            || traffic
                .given_by_classes
                .iter()
                .filter(|k| self.is_left(**k, node))
                .any(|k| {
                    let needs = self.model.needs(self.crashed.op(*k));
                    needs.is_none_or(|needs| needs == node.state || self.is_attainable(needs, node, depth - 1))
                })
    }

    /// Whether a crashed call of the class has not taken effect.
    fn is_left(&self, k: usize, node: &Node) -> bool {
        self.crashed.next(k, node.used, u32::MAX).is_some()
    }

    /// Whether one of `calls`, which are in the order of their ends, has not taken effect.
    fn any_waits(&self, calls: &[u32], node: &Node) -> bool {
        let end = self.calls[self.ends[node.passed as usize] as usize].end;
        let waits = |call: &u32| {
            let is_open = self.calls[*call as usize].begin < end;
            !(is_open && node.open & self.bit(*call) != 0)
        };
        let still = calls.iter().rev().take_while(|c| self.calls[**c as usize].end >= end);
        still.into_iter().any(waits)
    }
}
