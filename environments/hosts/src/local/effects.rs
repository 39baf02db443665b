//! What must be seen of a shape before it counts as proven, where the switch itself counts.
//!
//! How many probes that takes is a matter of chance ([`crate::chances`]). Where it would take too many, or where a rate
//! leaves no room for so many, the effect is not demanded, and the proof says so. What a shape forbids must not be seen at
//! all. Time is only ever compared with its lower bound: a slow machine delays, it never hastens.
//!
//! Caveat: the counts are the link's, so traffic of the system under test helps to show an effect, and is shaped by the
//! same code.
use super::switch::Counters;
pub(super) use crate::chances::MAX_PAYLOAD;
use crate::chances::{Effect, LEAST, MOST, PAYLOAD, RATE_SPAN, chances, probes_to_show};
use splitbrain_core::{Nanos, Shape};
use std::time::Duration;

/// Bytes of Ethernet, IP and UDP around a probe.
const HEADERS: usize = 42;
/// Packets that the switch keeps longer than this are not waited for: it is enough that it keeps them.
const HELD: Duration = Duration::from_millis(250);

/// What is to be sent and seen.
#[derive(Clone, Debug)]
pub(super) struct Effects {
    shape: Shape,
    demanded: Vec<Effect>,
    rare: Vec<Effect>,
    /// Probes that show it all.
    pub probes: u32,
    /// Probes to send even if fewer have shown it all.
    pub least: u32,
    /// Bytes of each.
    pub payload: usize,
    most: u32,
    /// Probes that together take long enough for a rate to be measured; 1 where other effects are looked for as well.
    train: u32,
}

/// What was seen of a link so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub before: Counters,
    pub now: Counters,
    /// Probes that arrived, copies included.
    pub arrived: u32,
    /// What the first of them took.
    pub first: Option<Duration>,
    /// What the last of them took, since the first was sent.
    pub span: Duration,
    /// Since the first was sent.
    pub elapsed: Duration,
}

impl Effects {
    pub fn of(shape: Shape) -> Effects {
        let chancy = shape.loss_ppm + shape.duplicate_ppm + shape.corrupt_ppm + shape.reorder_ppm > 0;
        let (payload, train) = match shape.rate {
            0 => (PAYLOAD, 1),
            _ if chancy => (PAYLOAD, 1),
            rate => {
                let bytes = (u128::from(rate) * u128::from(RATE_SPAN.0) / 1_000_000_000) as usize;
                let payload = bytes.saturating_sub(HEADERS).clamp(PAYLOAD, MAX_PAYLOAD);
                (payload, (bytes / (payload + HEADERS)).clamp(1, 64) as u32)
            }
        };
        // A slow wire must not be kept busy for long by what only looks at it.
        let most = match shape.rate {
            0 => MOST,
            rate => (rate / 4 / (payload + HEADERS) as u64).clamp(1, u64::from(MOST)) as u32,
        };
        let mut effects = Effects {
            shape,
            demanded: Vec::new(),
            rare: Vec::new(),
            probes: train,
            least: if chancy { LEAST.min(most) } else { train },
            payload,
            most,
            train,
        };
        for (effect, chance) in chances(&shape) {
            match probes_to_show(chance, most) {
                Some(probes) => {
                    effects.demanded.push(effect);
                    effects.probes = effects.probes.max(probes);
                }
                // What loses everything cannot carry; what ought to do more and cannot show it is told.
                None if effect == Effect::Arrival => {}
                None => effects.rare.push(effect),
            }
        }
        effects.probes = effects.probes.max(effects.least);
        effects
    }

    /// The longest that a probe is waited for.
    pub fn slowest(&self) -> Duration {
        self.longest().min(HELD)
    }

    fn longest(&self) -> Duration {
        let wire = self.wire(self.probes);
        Duration::from(self.shape.delay + self.shape.jitter).saturating_add(wire)
    }

    /// The least time that the rate needs for this many probes.
    fn wire(&self, probes: u32) -> Duration {
        let bytes = u128::from(probes) * (self.payload + HEADERS) as u128;
        let nanos = (bytes * 1_000_000_000)
            .checked_div(u128::from(self.shape.rate))
            .unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What was seen although the shape forbids it; `took` is what the newest probe to arrive took.
    pub fn forbidden(&self, seen: &Seen, took: Option<Duration>) -> Option<String> {
        let Shape { delay, jitter, .. } = self.shape;
        let least = if self.shape.reorder_ppm == 0 {
            Duration::from(delay - jitter)
        } else {
            Duration::ZERO
        };
        if let Some(took) = took {
            let (span, wire) = (seen.span, self.wire(seen.arrived).saturating_add(least));
            if self.shape.loss_ppm >= 1_000_000 {
                return Some("a probe arrived although every packet is to be lost".into());
            }
            if took < least {
                let (took, least) = (Nanos::from(took), Nanos::from(least));
                return Some(format!("a probe arrived after {took}, not delayed by {least}"));
            }
            if self.shape.rate > 0 && span < wire {
                let bytes = seen.arrived as usize * (self.payload + HEADERS);
                let (span, wire, rate) = (Nanos::from(span), Nanos::from(wire), self.shape.rate);
                return Some(format!("{bytes} bytes took {span}, and at {rate} B/s they take {wire}"));
            }
        }
        let [lost, twice, corrupted] = [seen.lost(), seen.twice(), seen.corrupted()];
        if self.shape.loss_ppm == 0 && lost > 0 {
            return Some(format!("the switch lost {lost} packets and was to lose none"));
        }
        if self.shape.duplicate_ppm == 0 && twice > 0 {
            return Some(format!("the switch sent {twice} packets twice and was to send none so"));
        }
        if self.shape.corrupt_ppm == 0 && corrupted > 0 {
            return Some(format!(
                "the switch corrupted {corrupted} packets and was to corrupt none"
            ));
        }
        None
    }

    /// What is demanded and was not seen; empty once the shape is proven.
    pub fn missing(&self, seen: &Seen) -> Vec<&'static str> {
        let unseen = self.demanded.iter().filter(|effect| !self.shows(**effect, seen));
        unseen.map(|effect| effect.absence()).collect()
    }

    fn shows(&self, effect: Effect, seen: &Seen) -> bool {
        let here = seen.arrived > 0 || self.holds(seen);
        match effect {
            Effect::Arrival => here,
            Effect::Delay => seen.delayed() > 0,
            // Half a train is enough: an interface may drop some of it.
            Effect::Rate if self.train > 1 && !self.holds(seen) => seen.delayed() > 0 && seen.arrived >= self.train / 2,
            Effect::Rate => seen.delayed() + seen.overflowed() > 0,
            Effect::Loss => seen.lost() > 0,
            Effect::Duplicate => seen.twice() > 0,
            Effect::Corrupt => seen.corrupted() > 0,
            Effect::Reorder => seen.reordered() > 0,
        }
    }

    fn holds(&self, seen: &Seen) -> bool {
        self.longest() > HELD && seen.elapsed >= HELD && seen.delayed() > 0
    }

    /// What was seen, in words.
    pub fn words(&self, seen: &Seen) -> String {
        let mut words = Vec::new();
        match seen.first {
            Some(after) if self.shape.delay > Nanos::ZERO => {
                words.push(format!("probe arrived after {}", Nanos::from(after)));
            }
            Some(_) => words.push("probe arrived".into()),
            None if self.holds(seen) => words.push(format!("probe held for over {}", Nanos::from(HELD))),
            None => {}
        }
        if self.shape.rate > 0 && seen.arrived > 0 {
            let bytes = seen.arrived as usize * (self.payload + HEADERS);
            words.push(format!("{bytes} bytes took {}", Nanos::from(seen.span)));
        } else if self.shape.rate > 0 {
            words.push(format!("{} packets waited for the wire", seen.delayed()));
        }
        let packets = seen.now.offered - seen.before.offered;
        for (count, what) in [
            (seen.lost(), "lost"),
            (seen.twice(), "sent twice"),
            (seen.corrupted(), "corrupted"),
            (seen.reordered(), "sent without the delay"),
        ] {
            if count > 0 {
                words.push(format!("{count} of {packets} packets {what}"));
            }
        }
        for effect in self.rare.iter().filter(|effect| !self.shows(**effect, seen)) {
            words.push(format!("{} too rare to show in {} probes", effect.name(), self.most));
        }
        words.join(", ")
    }
}

impl Seen {
    fn rise(&self, count: fn(&Counters) -> u64) -> u64 {
        count(&self.now).saturating_sub(count(&self.before))
    }

    fn lost(&self) -> u64 {
        self.rise(|c| c.lost)
    }

    fn twice(&self) -> u64 {
        self.rise(|c| c.duplicated)
    }

    fn corrupted(&self) -> u64 {
        self.rise(|c| c.corrupted)
    }

    fn reordered(&self) -> u64 {
        self.rise(|c| c.reordered)
    }

    fn delayed(&self) -> u64 {
        self.rise(|c| c.delayed)
    }

    fn overflowed(&self) -> u64 {
        self.rise(|c| c.overflowed)
    }

    pub fn blocked(&self) -> u64 {
        self.rise(|c| c.blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_rare_is_told_and_not_demanded() {
        let effects = Effects::of(Shape {
            loss_ppm: 1_000,
            ..Shape::default()
        });
        let seen = Seen {
            arrived: 1,
            first: Some(Duration::ZERO),
            ..Seen::default()
        };
        assert!(effects.missing(&seen).is_empty());
        let words = "probe arrived, loss too rare to show in 2100 probes";
        assert_eq!(effects.words(&seen), words);
    }

    #[test]
    fn an_arrival_proves_no_shape() {
        let seen = Seen {
            arrived: 1,
            ..Seen::default()
        };
        let check = |shape: Shape, want: &str| assert_eq!(Effects::of(shape).missing(&seen), [want], "{shape:?}");
        let ppm = 300_000;
        let clean = Shape::default();
        check(Shape { loss_ppm: ppm, ..clean }, "none was lost");
        check(
            Shape {
                duplicate_ppm: ppm,
                ..clean
            },
            "none was sent twice",
        );
        check(
            Shape {
                corrupt_ppm: ppm,
                ..clean
            },
            "none was corrupted",
        );
        check(Shape { rate: 64_000, ..clean }, "none was held up by the rate");
        check(
            Shape {
                delay: Nanos::millis(9),
                ..clean
            },
            "none was delayed",
        );
        assert!(Effects::of(clean).missing(&seen).is_empty());
        assert_eq!(Effects::of(clean).missing(&Seen::default()), ["none arrived"]);
    }

    #[test]
    fn a_rate_is_not_overtaken() {
        let effects = Effects::of(Shape {
            rate: 10_000_000,
            ..Shape::default()
        });
        assert!(effects.probes == 64 && effects.payload == MAX_PAYLOAD);
        let at = |span| Seen {
            arrived: 64,
            span,
            ..Seen::default()
        };
        let (fast, slow) = (Duration::from_millis(9), Duration::from_millis(10));
        assert!(effects.forbidden(&at(fast), Some(fast)).is_some());
        assert_eq!(effects.forbidden(&at(slow), Some(slow)), None);
    }

    #[test]
    fn what_the_shape_forbids_is_seen() {
        let clean = Effects::of(Shape::default());
        let lossy = Counters {
            lost: 1,
            ..Counters::default()
        };
        let seen = Seen {
            now: lossy,
            ..Seen::default()
        };
        assert!(clean.forbidden(&seen, None).unwrap().contains("was to lose none"));
    }
}
