//! The configurations of the just-in-time linearizer, how they came about, and which of them are worth keeping.
use super::bits::Bits;
use super::crashed::Used;
use super::jit::Jit;
use super::model::Model;

/// How many others a configuration is compared with at most.
const NEAR: usize = 256;
/// No entry of the log.
pub(super) const NO_ENTRY: u32 = u32::MAX;

/// One way in which the object may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Config<B> {
    pub(super) state: u32,
    /// Which crashed calls have taken effect.
    pub(super) used: Used,
    /// Open calls that have taken effect.
    pub(super) done: B,
    /// Open calls that have not, and that were open when the state was last overwritten.
    pub(super) freed: B,
    /// How many crashed calls had begun then.
    pub(super) then: u32,
    /// How it came about.
    pub(super) log: u32,
}

/// A step of an order.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    before: u32,
    call: u32,
    /// Right before the call that last overwrote the state, and not at the end.
    unseen: bool,
    /// Whether it overwrites the state.
    overwrites: bool,
}

/// What an expansion did last, if that is worth doing only for what comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing of the kind.
    Nothing,
    /// The state was overwritten: what overwrites it next could have freed that instead.
    Overwritten,
    /// A crashed call of this class took effect in this state.
    Lent(u32, usize),
    /// An open call of this slot took effect in this state, and nothing looked at what it led to.
    Moved(u32, usize),
}

impl<M: Model, B: Bits> Jit<'_, M, B> {
    /// The order by which the first configuration came about, as calls.
    pub(crate) fn order(&self) -> Vec<u32> {
        let log = self.log.as_ref().expect("orders were asked for");
        let mut entries = Vec::new();
        let mut at = self.frontier.first().map_or(NO_ENTRY, |config| config.log);
        while at != NO_ENTRY {
            entries.push(log[at as usize]);
            at = log[at as usize].before;
        }
        // Each run between two that overwrite, with what was put before the second.
        let (mut order, mut tail): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for entry in entries.iter().rev() {
            if entry.unseen {
                order.push(entry.call);
                continue;
            }
            if entry.overwrites {
                order.append(&mut tail);
            }
            tail.push(entry.call);
        }
        order.append(&mut tail);
        order
    }

    /// Keeps only so many configurations, those that have used the fewest crashed calls; whether any were left out.
    pub(crate) fn narrow(&mut self, beam: usize) -> bool {
        if self.frontier.len() <= beam {
            return false;
        }
        let mut frontier = std::mem::take(&mut self.frontier);
        frontier.sort_by_cached_key(|config| self.crashed.total(config.used));
        frontier.truncate(beam);
        self.frontier = frontier;
        true
    }

    /// Leaves out what others dominate.
    pub(super) fn prune(&mut self) {
        let moves = self.all.without(self.looks).without(self.overwrites);
        self.frontier
            .sort_unstable_by_key(|c| (c.state, c.done & moves, c.used, !c.freed, c.done));
        let mut frontier = std::mem::take(&mut self.frontier);
        let (mut kept, mut group) = (0, 0);
        for i in 0..frontier.len() {
            let config = frontier[i];
            if kept > 0 {
                let last = &frontier[kept - 1];
                if (last.state, last.done & moves) != (config.state, config.done & moves) {
                    group = kept;
                }
            }
            let near = group.max(kept.saturating_sub(NEAR));
            if frontier[near..kept].iter().any(|other| self.dominates(other, &config)) {
                continue;
            }
            let mut at = near;
            while at < kept {
                if self.dominates(&config, &frontier[at]) {
                    kept -= 1;
                    frontier[at] = frontier[kept];
                } else {
                    at += 1;
                }
            }
            frontier[kept] = config;
            kept += 1;
        }
        frontier.truncate(kept);
        self.frontier = frontier;
    }

    /// Whether `a` can do whatever `b` can; they agree on the state and on what else moves it.
    fn dominates(&self, a: &Config<B>, b: &Config<B>) -> bool {
        let blind = self.looks.without(a.done);
        let fixed = self.overwrites.without(a.freed);
        !(b.done & self.looks).has(!a.done)
            && !(b.freed & blind).has(!a.freed)
            && !b.freed.has(fixed)
            && a.done & fixed == b.done & fixed
            && a.then >= b.then
            && self.crashed.at_most(a.used, b.used)
    }
}

/// Adds a step to the log, if one is kept; what stands for it.
pub(super) fn note(log: &mut Option<Vec<Entry>>, before: u32, call: u32, (unseen, overwrites): (bool, bool)) -> u32 {
    let Some(log) = log else {
        return NO_ENTRY;
    };
    log.push(Entry {
        before,
        call,
        unseen,
        overwrites,
    });
    u32::try_from(log.len() - 1).expect("memory ends before numbers do")
}
