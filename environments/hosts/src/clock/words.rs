//! The arithmetic of a skewed clock: the data words that a stub reads, and how they follow from a [`Skew`].
//!
//! A clock that truly reads `t` nanoseconds reads, when skewed,
//!
//! ```text
//! t' = t + drift + (t - base) * gain + swing
//! ```
//!
//! `swing` is the skew's offset; with a strobe it is there and away by turns, each for `strobe` nanoseconds from `base`
//! on. `gain` is the rate less one. When a skew is replaced, what the rate has brought so far is folded into `drift`, so
//! that a change of rate makes no jump; a clock that the new skew does not name is true again. `base` is the clock's own
//! reading at the change: clocks that differ by more than an offset (the raw one, by what time servers correct) need one
//! each.
//!
//! Times are whole nanoseconds in 64 bits, products in 128, and `gain` has 32 bits behind the point: a rate is exact to a
//! quarter of a nanosecond per second.
//!
//! The words belong to a host, not to a process: what starts late reads the same clock as what was there.
use splitbrain_core::{Clocks as Which, Offset, Skew};

/// A clock, as stubs count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// For `clock_gettime`.
    pub id: libc::clockid_t,
    pub name: &'static str,
    monotonic: bool,
}

/// How many clocks have words of their own. The coarse ones share those of the fine ones.
pub(super) const CLOCKS: usize = 5;
/// In the order of their words.
pub(super) const ALL: [Clock; CLOCKS] = [
    clock(libc::CLOCK_REALTIME, "realtime", false),
    clock(libc::CLOCK_MONOTONIC, "monotonic", true),
    clock(libc::CLOCK_MONOTONIC_RAW, "raw", true),
    clock(libc::CLOCK_BOOTTIME, "boottime", true),
    clock(libc::CLOCK_TAI, "tai", false),
];
/// Index of the clocks that are looked at.
pub(super) const REALTIME: usize = 0;
pub(super) const MONOTONIC: usize = 1;

const fn clock(id: libc::clockid_t, name: &'static str, monotonic: bool) -> Clock {
    Clock { id, name, monotonic }
}

/// What all clocks truly read, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth(pub [i64; CLOCKS]);

impl Truth {
    pub fn now() -> Truth {
        Truth(ALL.map(|clock| read(clock.id)))
    }
}

/// What a clock reads, in nanoseconds.
pub(super) fn read(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, to a place of ours.
    let got = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(got, 0, "every Linux has clock {id}");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The words of one clock. All zero is a true clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    drift: i64,
    base: i64,
    gain: i64,
    swing: i64,
    strobe: i64,
}

impl Entry {
    /// What the clock reads when it truly is `t`; what stubs do, bit for bit.
    pub fn at(&self, t: i64) -> i64 {
        let since = t.wrapping_sub(self.base);
        let away = self.strobe != 0 && since.wrapping_div(self.strobe) & 1 != 0;
        let swing = if away { 0 } else { self.swing };
        t.wrapping_add(self.gained(since))
            .wrapping_add(self.drift)
            .wrapping_add(swing)
    }

    /// The least and the most that it may read when the truth lies between the two.
    pub fn between(&self, from: i64, to: i64) -> (i64, i64) {
        let (a, b) = (self.at(from), self.at(to));
        if self.strobe == 0 {
            return (a, b);
        }
        // The strobe may have turned in between.
        let turn = self.swing.abs();
        (a.min(b) - turn, a.max(b) + turn)
    }

    fn gained(&self, since: i64) -> i64 {
        ((i128::from(since) * i128::from(self.gain)) >> 32) as i64
    }

    fn next(&self, clock: Clock, skew: &Skew, now: i64) -> Entry {
        let named = match skew.clocks {
            Which::Both => true,
            Which::Realtime => !clock.monotonic,
            Which::Monotonic => clock.monotonic,
        };
        if skew.is_none() || !named {
            return Entry::default();
        }
        let gain = (i64::from(skew.rate_ppm) - i64::from(Skew::TRUE_RATE)) << 32;
        Entry {
            drift: self.drift + self.gained(now.wrapping_sub(self.base)),
            base: now,
            gain: gain / i64::from(Skew::TRUE_RATE),
            swing: skew.offset.0,
            strobe: i64::try_from(skew.strobe.0).unwrap_or(i64::MAX),
        }
    }

    #[cfg(test)]
    pub fn raw([drift, base, gain, swing, strobe]: [i64; 5]) -> Entry {
        Entry {
            drift,
            base,
            gain,
            swing,
            strobe,
        }
    }

    #[cfg(test)]
    pub fn base(&self) -> i64 {
        self.base
    }

    /// Whether the clock is left as it is.
    pub fn is_true(&self) -> bool {
        *self == Entry::default()
    }

    /// How much faster than the true clock, as a factor.
    pub fn rate(&self) -> f64 {
        1.0 + self.gain as f64 / 2f64.powi(32)
    }

    /// Whether it goes at another rate.
    pub fn drifts(&self) -> bool {
        self.gain != 0
    }

    /// Whether its offset comes and goes.
    pub fn strobes(&self) -> bool {
        self.strobe != 0
    }
}

/// The words of all clocks of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Words(pub [Entry; CLOCKS]);

/// Bytes of them.
pub(super) const BYTES: usize = CLOCKS * 5 * 8;

impl Words {
    /// Those of a new skew in place of these.
    pub fn next(&self, skew: &Skew, now: &Truth) -> Words {
        let mut words = *self;
        for ((entry, clock), now) in words.0.iter_mut().zip(ALL).zip(now.0) {
            *entry = entry.next(clock, skew, now);
        }
        words
    }

    pub fn bytes(&self) -> [u8; BYTES] {
        let words = self.0.iter().flat_map(|e| [e.drift, e.base, e.gain, e.swing, e.strobe]);
        let bytes: Vec<u8> = words.flat_map(i64::to_ne_bytes).collect();
        bytes.try_into().expect("five words per clock")
    }
}

/// A difference in words, as exact as it is known and as is of use: `+1h`, `-200ms`, `+35us`.
pub(super) fn words(difference: i64, unsure: i64) -> String {
    let unit = match difference.unsigned_abs() {
        1_000_000_000.. => 1_000_000,
        1_000_000.. => 10_000,
        _ => 1_000,
    };
    let mut unit: i64 = unit;
    while unit < 2 * unsure {
        unit *= 10;
    }
    let rounded = (difference + unit / 2).div_euclid(unit) * unit;
    Offset(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::Nanos;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;

    fn truth(t: i64) -> Truth {
        // As far apart as clocks are.
        Truth([
            1_700_000_000 * SECOND + t,
            5 * SECOND + t,
            4 * SECOND + t,
            9 * SECOND + t,
            1_700_000_037 * SECOND + t,
        ])
    }

    fn skew(clocks: Which, offset: i64, rate_ppm: u32) -> Skew {
        Skew {
            clocks,
            offset: Offset(offset),
            rate_ppm,
            strobe: Nanos::ZERO,
        }
    }

    /// By how much each clock differs at `t`.
    fn differences(words: &Words, t: i64) -> [i64; CLOCKS] {
        let truth = truth(t).0;
        std::array::from_fn(|n| words.0[n].at(truth[n]) - truth[n])
    }

    #[test]
    fn offsets_move_the_clocks_that_are_named() {
        for (clocks, want) in [
            (Which::Both, [HOUR; 5]),
            (Which::Realtime, [HOUR, 0, 0, 0, HOUR]),
            (Which::Monotonic, [0, HOUR, HOUR, HOUR, 0]),
        ] {
            for sign in [1, -1] {
                let words = Words::default().next(&skew(clocks, sign * HOUR, 1_000_000), &truth(0));
                assert_eq!(differences(&words, 7 * SECOND), want.map(|d| sign * d), "{clocks:?}");
            }
        }
    }

    #[test]
    fn a_change_of_rate_makes_no_jump_and_keeps_what_it_brought() {
        let mut words = Words::default();
        for (at, rate, before) in [
            (0, 2_000_000, 0),
            (10 * SECOND, 500_000, 10 * SECOND),
            (20 * SECOND, 100_000, 5 * SECOND),
            (30 * SECOND, 10_000_000, -4 * SECOND),
            (31 * SECOND, 1_000_100, 5 * SECOND),
        ] {
            let last = differences(&words, at);
            words = words.next(&skew(Which::Both, 0, rate), &truth(at));
            assert_eq!(differences(&words, at), last);
            assert!(last.iter().all(|d| (d - before).abs() < 100), "{last:?}, not {before}");
        }
        // An offset on top replaces the offset, not the drift.
        words = words.next(&skew(Which::Both, HOUR, 1_000_000), &truth(31 * SECOND));
        assert!((differences(&words, 60 * SECOND)[0] - HOUR - 5 * SECOND).abs() < 100);
        words = words.next(&skew(Which::Both, -HOUR, 1_000_000), &truth(61 * SECOND));
        assert!((differences(&words, 60 * SECOND)[0] + HOUR - 5 * SECOND).abs() < 100);
        // The default skew makes it true, drift and all.
        assert_eq!(words.next(&Skew::default(), &truth(62 * SECOND)), Words::default());
    }

    #[test]
    fn a_clock_that_is_named_no_more_is_true() {
        let words = Words::default().next(&skew(Which::Both, HOUR, 2_000_000), &truth(0));
        let words = words.next(&skew(Which::Monotonic, HOUR, 2_000_000), &truth(SECOND));
        assert_eq!(differences(&words, SECOND)[0], 0);
        assert_eq!(differences(&words, SECOND)[1], HOUR + SECOND);
    }

    #[test]
    fn a_strobe_comes_and_goes() {
        let strobe = Skew {
            strobe: Nanos::millis(200),
            ..skew(Which::Both, HOUR, 1_000_000)
        };
        let words = Words::default().next(&strobe, &truth(0));
        for (ms, want) in [(0, HOUR), (199, HOUR), (200, 0), (399, 0), (400, HOUR), (1_000_200, 0)] {
            assert_eq!(differences(&words, ms * 1_000_000), [want; 5], "{ms}");
        }
        let (least, most) = words.0[0].between(truth(0).0[0], truth(1).0[0]);
        assert!(least <= truth(0).0[0] && most >= truth(1).0[0] + HOUR);
    }

    #[test]
    fn a_clock_may_stand_before_its_base() {
        // The coarse clock does, by a tick.
        let words = Words::default().next(&skew(Which::Both, 0, 2_000_000), &truth(0));
        assert_eq!(differences(&words, -4_000_000), [-4_000_000; 5]);
    }

    #[test]
    fn differences_have_few_digits() {
        for (nanos, unsure, text) in [
            (HOUR + 3_421, 0, "+1h"),
            (-HOUR - 499_999, 0, "-1h"),
            (HOUR - 700_000, 1_400_000, "+1h"),
            (-HOUR + 30_000_000, 60_000_000, "-1h"),
            (5_004_321, 0, "+5ms"),
            (35_321, 0, "+35us"),
            (-35_321, 0, "-35us"),
            (0, 0, "+0s"),
        ] {
            assert_eq!(words(nanos, unsure), text);
        }
    }
}
