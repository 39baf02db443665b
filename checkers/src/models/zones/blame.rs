//! Which calls make a conflict: asked only where no order fits.
use super::super::register::RegisterOp::{self, Cas, Read, Set};
use super::{BY_CAS, Conflict, Zones};

impl Zones<'_> {
    pub(super) fn circle(&self) -> Conflict {
        let mut reached = vec![false; self.levels.len()];
        let heads = (0..self.levels.len()).filter(|v| self.levels[*v].given & BY_CAS == 0);
        for head in heads {
            let mut value = head;
            while !std::mem::replace(&mut reached[value], true) && self.levels[value].next != 0 {
                value = self.levels[value].next as usize;
            }
        }
        let left = (0..)
            .zip(&reached)
            .find(|(v, reached)| !**reached && self.levels[*v as usize].given != 0);
        Conflict::Circle(left.expect("fewer values were reached than given").0)
    }

    /// The calls that make a conflict, by their numbers.
    pub(super) fn culprits(&self, conflict: &Conflict) -> Vec<u32> {
        let mut culprits = match *conflict {
            Conflict::Nowhere(value) => match &self.find(|op| *op == Read(value), 1)[..] {
                [] => self.takers(value),
                reader => reader.to_vec(),
            },
            Conflict::Twice(value) => self.takers(value),
            Conflict::Within(first, then) => self.within(first, then),
            Conflict::Circle(value) => [self.path(value, value), self.witness(value)].concat(),
            Conflict::Zones(a, b) => [self.zone(a), self.zone(b)].concat(),
        };
        culprits.sort_unstable();
        culprits.dedup();
        culprits
    }

    fn find(&self, which: impl Fn(&RegisterOp) -> bool, most: usize) -> Vec<u32> {
        let calls = (0..).zip(self.calls);
        let found = calls.filter(|(_, call)| which(&call.op)).map(|(n, _)| n);
        found.take(most).collect()
    }

    /// All that take a value, and, of those that crashed, what tells that they happened.
    fn takers(&self, value: u32) -> Vec<u32> {
        let mut told = Vec::new();
        for n in self.find(|op| matches!(*op, Cas { from, .. } if from == value), usize::MAX) {
            let Cas { to, .. } = self.calls[n as usize].op else {
                continue;
            };
            if self.levels[to as usize].is_seen() || self.calls[n as usize].ended() {
                told.push(n);
                told.extend(self.witness(to));
            }
        }
        told.extend(self.givers(value));
        told
    }

    fn givers(&self, value: u32) -> Vec<u32> {
        self.find(|op| matches!(*op, Set(v) | Cas { to: v, .. } if v == value), 1)
    }

    /// What tells that a value was held: its first reader, or the comparisons that lead to one that ended.
    fn witness(&self, value: u32) -> Vec<u32> {
        let mut told = Vec::new();
        let mut value = value;
        for _ in 0..self.levels.len() {
            let giver = self.givers(value);
            let ended = giver.iter().any(|n| self.calls[*n as usize].ended());
            told.extend(giver);
            let reader = self.find(|op| *op == Read(value), 1);
            value = self.levels[value as usize].next;
            if ended || !reader.is_empty() || value == 0 {
                told.extend(reader);
                break;
            }
        }
        told
    }

    /// What gives the values from one to the other, along their chain.
    fn path(&self, first: u32, then: u32) -> Vec<u32> {
        let mut on = vec![first];
        let mut value = first;
        for _ in 0..self.levels.len() {
            value = self.levels[value as usize].next;
            if value == 0 || value == first {
                break;
            }
            on.push(value);
            if value == then {
                break;
            }
        }
        on.sort_unstable();
        self.find(
            |op| matches!(*op, Set(v) | Cas { to: v, .. } if on.binary_search(&v).is_ok()),
            usize::MAX,
        )
    }

    /// The calls on a value with the first end, and with the last beginning.
    fn bounds(&self, value: u32) -> Vec<u32> {
        let on = |op: &RegisterOp| matches!(*op, Read(v) | Set(v) | Cas { to: v, .. } if v == value);
        let of = self.find(on, usize::MAX);
        let first = of.iter().copied().min_by_key(|n| self.calls[*n as usize].end);
        let last = of.iter().copied().max_by_key(|n| self.calls[*n as usize].begin);
        first.into_iter().chain(last).collect()
    }

    fn within(&self, first: u32, then: u32) -> Vec<u32> {
        let bounds = [self.bounds(first), self.bounds(then)].concat();
        [bounds, self.path(first, then), self.witness(then)].concat()
    }

    /// The calls that bound the zone of a cluster, and what binds them together.
    fn zone(&self, head: u32) -> Vec<u32> {
        let mut values = vec![head];
        while let Some(next) = values.last().map(|v| self.levels[*v as usize].next)
            && next != 0
        {
            values.push(next);
        }
        let level = |n: &usize| &self.levels[values[*n] as usize];
        let all = 0..values.len();
        let first = match head {
            0 => 0,
            _ => all.clone().min_by_key(|n| level(n).first_end).unwrap_or(0),
        };
        let last = all
            .max_by_key(|n| level(n).last_begin.max(level(n).begin()))
            .unwrap_or(0);
        let (from, to) = (values[first.min(last)], values[first.max(last)]);
        let bounds = [self.bounds(values[first]), self.bounds(values[last])].concat();
        [bounds, self.path(from, to), self.witness(to)].concat()
    }
}
