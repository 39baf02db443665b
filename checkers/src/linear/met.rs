//! What an expansion of the just-in-time linearizer has met.
use super::bits::Bits;
use super::config::{Config, Since};
use super::crashed::Crashed;

/// Up to this many are simply looked through.
const FEW: usize = 32;
/// An empty place of the table.
const EMPTY: u32 = u32::MAX;

/// A set that is mostly small, often emptied, and now and then large.
pub(super) struct Met<B> {
    items: Vec<(Config<B>, Since)>,
    /// By hash, with linear probing; empty while there are few.
    table: Vec<u32>,
}

impl<B> Default for Met<B> {
    fn default() -> Met<B> {
        Met {
            items: Vec::new(),
            table: Vec::new(),
        }
    }
}

impl<B: Bits> Met<B> {
    /// Adds a configuration, unless one was met that can do all that it can: in its state, with no more crashed calls used
    /// and no less freed, and with nothing that had to be needed, or with the same.
    pub(super) fn insert<O: Clone + Ord>(&mut self, config: Config<B>, since: Since, crashed: &Crashed<O>) -> bool {
        let known = |(met, how): &(Config<B>, Since)| {
            (met.state, met.done) == (config.state, config.done)
                && (*how == Since::Nothing || *how == since)
                && config.freed.without(met.freed).is_none()
                && met.then >= config.then
                && crashed.at_most(met.used, config.used)
        };
        if self.table.is_empty() {
            if self.items.iter().any(known) {
                return false;
            }
            self.items.push((config, since));
            if self.items.len() > FEW {
                self.grow();
            }
            return true;
        }
        let mut at = self.place(&config);
        while self.table[at] != EMPTY {
            if known(&self.items[self.table[at] as usize]) {
                return false;
            }
            at = (at + 1) % self.table.len();
        }
        self.table[at] = self.items.len() as u32;
        self.items.push((config, since));
        if 2 * self.items.len() > self.table.len() {
            self.grow();
        }
        true
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.table = Vec::new();
    }

    /// About how much memory this takes.
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<(Config<B>, Since)>() + 4 * self.table.capacity()
    }

    fn place(&self, config: &Config<B>) -> usize {
        let mixed =
            config.done.mix() ^ u64::from(config.state).rotate_left(32) ^ u64::from(config.used).rotate_left(48);
        let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - self.table.len().trailing_zeros())) as usize
    }

    fn grow(&mut self) {
        self.table = vec![EMPTY; (4 * self.items.len()).next_power_of_two()];
        for i in 0..self.items.len() {
            let mut at = self.place(&self.items[i].0);
            while self.table[at] != EMPTY {
                at = (at + 1) % self.table.len();
            }
            self.table[at] = i as u32;
        }
    }
}
