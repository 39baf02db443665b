//! Crashed calls: counted by what they do, not one by one.
//!
//! A crashed call may take effect at any time after it began, or never, and it stays so for ever. Two that do the same
//! differ in their beginnings alone, and whatever the later one can do the earlier one can do too. So a configuration
//! needs to know of each *class* only how many have taken effect: the earliest.
use std::collections::BTreeMap;

/// What has taken effect: how many of each class, by a number that stands for these counts.
pub(crate) type Used = u32;

/// The classes met so far, and all combinations of what has taken effect.
pub(crate) struct Crashed<O> {
    classes: Vec<Class<O>>,
    by_op: BTreeMap<O, usize>,
    /// Without zeros at their ends. The first is empty.
    counts: Vec<Vec<u32>>,
    /// How many that are in all.
    totals: Vec<u32>,
    numbers: BTreeMap<Vec<u32>, Used>,
    /// How many have begun.
    pub(crate) begun: u32,
    bytes: usize,
}

/// Crashed calls that do the same.
struct Class<O> {
    op: O,
    overwrites: bool,
    /// Each with how many of any class had begun before it.
    calls: Vec<(u32, u32)>,
}

impl<O: Clone + Ord> Crashed<O> {
    pub(crate) fn new() -> Crashed<O> {
        Crashed {
            classes: Vec::new(),
            by_op: BTreeMap::new(),
            counts: vec![Vec::new()],
            totals: vec![0],
            numbers: BTreeMap::from([(Vec::new(), 0)]),
            begun: 0,
            bytes: 0,
        }
    }

    /// A crashed call begins.
    pub(crate) fn begin(&mut self, call: u32, op: &O, overwrites: bool) {
        let class = *self.by_op.entry(op.clone()).or_insert_with(|| {
            self.classes.push(Class {
                op: op.clone(),
                overwrites,
                calls: Vec::new(),
            });
            self.classes.len() - 1
        });
        self.classes[class].calls.push((call, self.begun));
        self.begun += 1;
        self.bytes += 8;
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes.len()
    }

    pub(crate) fn op(&self, class: usize) -> &O {
        &self.classes[class].op
    }

    pub(crate) fn overwrites(&self, class: usize) -> bool {
        self.classes[class].overwrites
    }

    /// The call that takes effect next of a class, among the first `begun` that began; `None` if all have.
    pub(crate) fn next(&self, class: usize, used: Used, begun: u32) -> Option<u32> {
        let taken = self.counts[used as usize].get(class).copied().unwrap_or(0);
        let (call, rank) = *self.classes[class].calls.get(taken as usize)?;
        (rank < begun).then_some(call)
    }

    /// What has taken effect once one more of a class has.
    pub(crate) fn with(&mut self, used: Used, class: usize) -> Used {
        let mut counts = self.counts[used as usize].clone();
        if counts.len() <= class {
            counts.resize(class + 1, 0);
        }
        counts[class] += 1;
        if let Some(number) = self.numbers.get(&counts) {
            return *number;
        }
        let number = u32::try_from(self.counts.len()).expect("memory ends before numbers do");
        self.bytes += 2 * (64 + 4 * counts.len());
        self.counts.push(counts.clone());
        self.totals.push(self.totals[used as usize] + 1);
        self.numbers.insert(counts, number);
        number
    }

    /// Whether no class has more in `a` than in `b`.
    pub(crate) fn at_most(&self, a: Used, b: Used) -> bool {
        if a == b || a == 0 {
            return true;
        }
        let (a, b) = (&self.counts[a as usize], &self.counts[b as usize]);
        a.len() <= b.len() && a.iter().zip(b).all(|(a, b)| a <= b)
    }

    /// How many calls have taken effect.
    pub(crate) fn total(&self, used: Used) -> u32 {
        self.totals[used as usize]
    }

    /// About how much memory this takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
