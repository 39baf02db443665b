//! Comparisons that failed, in an order of the clusters that has no conflict: see the module above.
use super::super::register::RegisterOp::{Cas, Differs, Read, Set};
use super::{Cluster, Zones, sorted};

impl Zones<'_> {
    /// Whether the comparisons that failed find instants, if the clusters stand in the order of their zones' later
    /// bounds, or in that of their earlier ones, which conflicts as little.
    pub(super) fn holds_differing(&self) -> bool {
        let could = |value: u32| value == 0 || self.levels[value as usize].given != 0;
        if !self.differs.iter().any(|n| could(self.expected(*n))) {
            return true;
        }
        self.clusters().is_ok_and(|clusters| {
            let later = sorted(&clusters, self.last, Cluster::later);
            self.holds_in(&clusters, &later) || {
                let earlier = sorted(&clusters, self.last, Cluster::earlier);
                self.holds_in(&clusters, &earlier)
            }
        })
    }

    /// What a comparison that failed did not find.
    fn expected(&self, n: u32) -> u32 {
        match self.calls[n as usize].op {
            Differs(value) => value,
            _ => unreachable!("only comparisons that failed are kept here"),
        }
    }

    /// Whether each comparison that failed finds an instant in an order of the clusters. All that ended before it began
    /// comes before it, such comparisons among them, and all that began after it ended comes after it. It takes the
    /// earliest instant that is left: that leaves the most to the others.
    fn holds_in(&self, clusters: &[Cluster], order: &[u32]) -> bool {
        let (numbers, values) = self.numbered(clusters, order);
        let Instants { mut after, before } = self.instants(&numbers, values.len() as u32);
        let mut place = 0;
        let mut latest = 0;
        self.differs.iter().all(|n| {
            let call = &self.calls[*n as usize];
            while place <= call.begin as usize {
                latest = latest.max(after[place]);
                place += 1;
            }
            let number = latest + u32::from(values[latest as usize] == self.expected(*n));
            after[call.end as usize + 1] = number;
            number <= before[call.end as usize + 1]
        })
    }

    /// The number of each value in the order of the clusters, and the values in this order. Nil is number 0.
    fn numbered(&self, clusters: &[Cluster], order: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let mut numbers = vec![0; self.levels.len()];
        let mut values = vec![0];
        for n in order {
            let mut value = clusters[*n as usize].head;
            loop {
                if value != 0 {
                    numbers[value as usize] = values.len() as u32;
                    values.push(value);
                }
                value = self.levels[value as usize].next;
                if value == 0 {
                    break;
                }
            }
        }
        (numbers, values)
    }

    /// What the register holds around each place.
    fn instants(&self, numbers: &[u32], held: u32) -> Instants {
        let mut after = vec![0; self.last as usize + 2];
        let mut before = vec![held - 1; self.last as usize + 2];
        for call in self.calls {
            let (value, gives) = match call.op {
                Read(value) => (value, 0),
                Set(value) | Cas { to: value, .. } => (value, 1),
                Differs(_) => continue,
            };
            let number = numbers[value as usize];
            if call.ended() {
                after[call.end as usize + 1] = number;
            }
            // Crashed calls that were left out have no number.
            before[call.begin as usize + 1] = if number < gives { held - 1 } else { number - gives };
        }
        let mut earliest = held - 1;
        for number in before.iter_mut().rev() {
            earliest = earliest.min(*number);
            *number = earliest;
        }
        Instants { after, before }
    }
}

/// By place: the number of the value that the register holds.
struct Instants {
    /// After what ends there, at the earliest.
    after: Vec<u32>,
    /// At the latest, before what begins from there on.
    before: Vec<u32>,
}
