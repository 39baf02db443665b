//! A host's raw clock, in terms of control's.
//!
//! Probes carry two stamps of two clocks: when they left, by the sender's, and when they came, by the receiver's. What a
//! probe took is known only as well as the two clocks are known to each other. Each beat bounds that: the host read its
//! clock at some moment between control's asking and control's hearing the answer. From the newest beats, each widened by
//! what the clocks may have drifted since, follows an interval of control's time for any reading of the host's clock; so a
//! flight time is an interval too, and a claim is made only if it holds for all of it.
//!
//! Caveat: [`DRIFT`] is an assumption. Where beats contradict each other under it (a machine was suspended), the interval
//! spans what all of them say.
use splitbrain_core::Nanos;
use std::collections::VecDeque;

/// How fast two clocks may drift apart, in millionths. Crystals keep 100; a virtual machine's guess of its own clock's
/// rate may be worse.
const DRIFT: i64 = 500;
/// Beats that are remembered.
const KEPT: usize = 16;

/// Nanoseconds between two bounds, both possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub least: i64,
    pub most: i64,
}

impl Span {
    /// From an instant somewhere in `earlier` to this one.
    pub fn since(self, earlier: Span) -> Span {
        Span {
            least: self.least - earlier.most,
            most: self.most - earlier.least,
        }
    }

    pub fn width(self) -> i64 {
        self.most - self.least
    }
}

/// `30.064ms`, or `30.012ms to 30.310ms`.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [least, most] = [self.least, self.most].map(|n| Nanos(u64::try_from(n).unwrap_or(0)));
        if least == most {
            write!(f, "{least}")
        } else {
            write!(f, "{least} to {most}")
        }
    }
}

/// What is known of one host's raw clock.
#[derive(Clone, Debug, Default)]
pub(super) struct RawClock(VecDeque<Reading>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// The host's clock.
    raw: i64,
    /// Control's, before and after.
    within: Span,
}

impl RawClock {
    /// The host's clock said `raw` at some moment between `asked` and `told` of control's.
    pub fn learn(&mut self, raw: Nanos, asked: Nanos, told: Nanos) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Reading {
            raw: signed(raw),
            within: Span {
                least: signed(asked),
                most: signed(told),
            },
        });
    }

    /// When, by control's clock, the host's says `raw`; `None` before the first beat was answered.
    pub fn at(&self, raw: Nanos) -> Option<Span> {
        let mut bounds = self.0.iter().map(|reading| {
            let since = signed(raw) - reading.raw;
            // Rounded up: a bound must hold.
            let drift = since.abs() * DRIFT / 1_000_000 + 1;
            Span {
                least: reading.within.least + since - drift,
                most: reading.within.most + since + drift,
            }
        });
        let first = bounds.next()?;
        let (mut inner, mut outer) = (first, first);
        for Span { least, most } in bounds {
            inner = Span {
                least: inner.least.max(least),
                most: inner.most.min(most),
            };
            outer = Span {
                least: outer.least.min(least),
                most: outer.most.max(most),
            };
        }
        Some(if inner.least <= inner.most { inner } else { outer })
    }
}

pub(super) fn signed(n: Nanos) -> i64 {
    i64::try_from(n.0).unwrap_or(i64::MAX)
}

/// Control's own raw clock.
pub(super) fn now() -> Nanos {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_RAW).expect("every Linux has this clock");
    std::time::Duration::from(time).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(n: u64) -> Nanos {
        Nanos(n * MS)
    }

    #[test]
    fn the_truth_lies_within() {
        // The host's clock is 1000 ms ahead and runs 400 ppm fast.
        let host = |control: u64| Nanos(1_000 * MS + control + control * 400 / 1_000_000);
        let mut clock = RawClock::default();
        assert_eq!(clock.at(ms(5)), None);
        for beat in 0..40_u64 {
            let asked = beat * 500 * MS;
            let read = asked + (beat * 7 % 11) * MS / 20;
            clock.learn(host(read), Nanos(asked), Nanos(asked + MS / 2 + 1));
        }
        for t in (15_000..21_000).map(|t| t * MS) {
            let span = clock.at(host(t)).unwrap();
            assert!(span.least <= t as i64 && t as i64 <= span.most, "{t} {span:?}");
        }
        let width = clock.at(host(19_500 * MS)).unwrap().width();
        assert!(width < 500_000, "{width}");
    }

    #[test]
    fn beats_that_contradict_each_other_bound_nothing_by_halves() {
        let mut clock = RawClock::default();
        clock.learn(ms(100), ms(0), ms(1));
        clock.learn(ms(200), ms(5_000), ms(5_001));
        let span = clock.at(ms(200)).unwrap();
        assert!(
            span.least < 102 * MS as i64 && span.most >= 5_001 * MS as i64,
            "{span:?}"
        );
    }
}
