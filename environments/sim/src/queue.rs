//! What is due when: a heap ordered by time, and by insertion where times are equal.
use splitbrain_core::Nanos;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Items by due time. Equal times come out in the order in which they went in, so that nothing depends on the heap.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    inserted: u64,
}

struct Entry<T> {
    at: Nanos,
    sequence: u64,
    item: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Nanos, u64) {
        (self.at, self.sequence)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue {
            heap: BinaryHeap::new(),
            inserted: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Nanos, item: T) {
        let sequence = self.inserted;
        self.inserted += 1;
        self.heap.push(Reverse(Entry { at, sequence, item }));
    }

    /// When the next item is due.
    pub(crate) fn due(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next item, with its time.
    pub(crate) fn pop(&mut self) -> Option<(Nanos, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_insertion_decides_ties() {
        let mut queue = Queue::new();
        for (at, item) in [(5, 'd'), (1, 'a'), (1, 'b'), (3, 'c'), (5, 'e')] {
            queue.push(Nanos(at), item);
        }
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, item)| item)).collect();
        assert_eq!(order, "abcde");
    }
}
