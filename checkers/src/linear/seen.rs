//! What the depth-first search has tried.
use super::crashed::Used;
use super::model::Model;
use super::ways::{Node, Search};

/// The configurations that were tried, without what they have used: of those that differ in that alone, one that has used
/// less can go on in every way that the other can.
pub(super) struct Seen {
    pub(super) entries: Vec<Tried>,
    /// By hash: the newest entry, and from there along `older`.
    heads: Vec<u32>,
}

/// A configuration that was tried.
pub(super) struct Tried {
    open: u64,
    pub(super) passed: u32,
    state: u32,
    used: Used,
    older: u32,
}

const NO_ENTRY: u32 = u32::MAX;

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            entries: Vec::new(),
            heads: vec![NO_ENTRY; 1 << 10],
        }
    }
}

impl Seen {
    /// About how much memory this takes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Tried>() + self.heads.capacity() * 4
    }

    fn head(&self, passed: u32, open: u64, state: u32) -> usize {
        let mixed = (open ^ (u64::from(passed) << 20) ^ u64::from(state)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - self.heads.len().trailing_zeros())) as usize
    }

    /// Whether `node` is worth trying. One that has lent may go on in fewer ways than its configuration, and so is not
    /// remembered.
    pub(super) fn insert<M: Model>(&mut self, search: &Search<M>, node: &Node) -> bool {
        let head = self.head(node.passed, node.open, node.state);
        let mut at = self.heads[head];
        while at != NO_ENTRY {
            let tried = &self.entries[at as usize];
            let same = (tried.passed, tried.open, tried.state) == (node.passed, node.open, node.state);
            if same && search.crashed.at_most(tried.used, node.used) {
                return false;
            }
            at = tried.older;
        }
        if node.lent.is_none() {
            let older = std::mem::replace(&mut self.heads[head], self.entries.len() as u32);
            self.entries.push(Tried {
                open: node.open,
                passed: node.passed,
                state: node.state,
                used: node.used,
                older,
            });
            if self.entries.len() > self.heads.len() {
                self.grow();
            }
        }
        true
    }

    fn grow(&mut self) {
        self.heads = vec![NO_ENTRY; 4 * self.heads.len()];
        for i in 0..self.entries.len() {
            let Tried {
                open, passed, state, ..
            } = self.entries[i];
            let head = self.head(passed, open, state);
            self.entries[i].older = std::mem::replace(&mut self.heads[head], i as u32);
        }
    }
}
