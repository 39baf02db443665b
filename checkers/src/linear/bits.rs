//! Sets of open calls, as bits: one word where that is enough, more where many clients wait at once.
use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, Not};

/// A small set of slots.
pub(crate) trait Bits:
    Copy + Ord + Debug + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self>
{
    /// How many slots there are.
    const SLOTS: usize;
    /// The empty set.
    const NONE: Self;
    /// One slot alone.
    fn one(slot: usize) -> Self;
    /// Its lowest slot.
    fn first(self) -> Option<usize>;
    /// A number that differs where sets do, mostly.
    fn mix(self) -> u64;

    fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn has(self, other: Self) -> bool {
        !(self & other).is_none()
    }

    fn without(self, other: Self) -> Self {
        self & !other
    }

    /// Its slots, rising.
    fn each(self) -> Each<Self> {
        Each(self)
    }
}

/// See [`Bits::each`].
pub(crate) struct Each<B>(B);

impl<B: Bits> Iterator for Each<B> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let slot = self.0.first()?;
        self.0 = self.0.without(B::one(slot));
        Some(slot)
    }
}

impl Bits for u64 {
    const SLOTS: usize = 64;
    const NONE: u64 = 0;

    fn one(slot: usize) -> u64 {
        1 << slot
    }

    fn first(self) -> Option<usize> {
        (self != 0).then(|| self.trailing_zeros() as usize)
    }

    fn mix(self) -> u64 {
        self
    }
}

/// 1,024 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wide([u64; Wide::WORDS]);

impl Wide {
    const WORDS: usize = 16;
}

impl BitAnd for Wide {
    type Output = Wide;

    fn bitand(self, other: Wide) -> Wide {
        Wide(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }
}

impl BitOr for Wide {
    type Output = Wide;

    fn bitor(self, other: Wide) -> Wide {
        Wide(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}

impl Not for Wide {
    type Output = Wide;

    fn not(self) -> Wide {
        Wide(self.0.map(|word| !word))
    }
}

impl Bits for Wide {
    const SLOTS: usize = 64 * Wide::WORDS;
    const NONE: Wide = Wide([0; Wide::WORDS]);

    fn one(slot: usize) -> Wide {
        let mut words = [0; Wide::WORDS];
        words[slot / 64] = 1 << (slot % 64);
        Wide(words)
    }

    fn first(self) -> Option<usize> {
        let at = self.0.iter().position(|word| *word != 0)?;
        Some(64 * at + self.0[at].trailing_zeros() as usize)
    }

    fn mix(self) -> u64 {
        self.0.iter().fold(0, |mixed: u64, word| {
            mixed.rotate_left(7) ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaves<B: Bits>() {
        let last = B::SLOTS - 1;
        let set = B::one(0) | B::one(last) | B::one(last / 2);
        assert_eq!(set.each().collect::<Vec<_>>(), [0, last / 2, last]);
        assert!(set.has(B::one(last)) && !set.has(B::one(1)) && !set.is_none());
        assert!(set.without(set).is_none() && B::NONE.first().is_none());
        assert_eq!((!set & set, set & B::one(last)), (B::NONE, B::one(last)));
        assert_ne!(set.mix(), set.without(B::one(last)).mix());
    }

    #[test]
    fn both_are_sets() {
        behaves::<u64>();
        behaves::<Wide>();
    }
}
