//! What must be seen of a link's shape before it counts as proven, where only the two ends see.
//!
//! On a foreign network nobody in the middle counts. What there is: when each probe left and came, by the two hosts' raw
//! clocks ([`super::raw`]), how often it came, and how many packets the receiver threw away as damaged. From that:
//!
//! - *lost*: a probe that has not come although a later one has, on a link that keeps the order; elsewhere one that has not
//!   come although the slowest must have;
//! - *twice*: a probe that came twice; *corrupted*: probes did not come, and the receiver threw damaged packets away;
//! - *reordered*: a probe that came before an earlier one, or that took less than the delay;
//! - *delayed*: a probe that took the delay as far as the clocks can tell, and more than half of it even if they differ as
//!   far as they may. A probe that took too little even so refutes the shape: a slow machine delays, it never hastens;
//! - *rate*: the same with what all bytes together took.
//!
//! **What is over.** A link that was shaped before must have lost the old effects, not only shown the new ones: a burst
//! that was sure to show them ([`crate::chances`]) must have come without any. Networks lose packets by themselves; then the
//! next burst is looked at.
//!
//! Caveats: a packet whose damage hits other bytes than UDP's is thrown away uncounted, and a receiver counts damage for all
//! its links and all their traffic together. So corruption is looked at on one link of a receiver at a time, and beside it loss
//! is proven only by more probes missing than damage explains, or told as not to be shown where that takes too many. That an old delay is over is
//! demanded only where the clocks are known well enough.
use super::raw::{Span, signed};
use crate::chances::{Effect, LEAST, MAX_PAYLOAD, MOST, PAYLOAD, RATE_SPAN, chances, probes_to_show};
use splitbrain_core::{Nanos, Shape};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of IP and UDP around a probe; who counts an Ethernet header too is slower, never faster.
const HEADERS: usize = 28;
/// Bytes of a probe that is to be damaged: most of it is what UDP's checksum covers.
const LONG: usize = 512;
/// Probes of a delay: noise may hold up one, not all.
const DELAYED: u32 = 5;
/// By how much two stamps of one clock may be taken apart: the kernel's of an arrival and ours of a departure.
const SLACK: i64 = 100_000;
/// How far chance may stray: further about once in 10^9 times.
const SIGMAS: f64 = 6.0;
/// What a packet may take beside what the shape adds.
const GRACE: Duration = Duration::from_millis(200);

/// What is to be sent and seen on one link.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    shape: Shape,
    gone: Shape,
    demanded: Vec<Effect>,
    /// Effects of the old shape that must not be seen any more.
    banned: Vec<Effect>,
    rare: Vec<&'static str>,
    /// Probes of a burst, which show it all.
    pub probes: u32,
    /// Probes to send even if fewer have shown it all.
    least: u32,
    /// Bytes of each.
    pub payload: usize,
    most: u32,
    train: u32,
}

/// A probe, as its two ends saw it.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// By the sender's clock.
    pub left: Nanos,
    /// By the receiver's clock, and what it took. In the order in which they came.
    pub came: Vec<(Nanos, Span)>,
}

/// What was seen of a link so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// By serial.
    pub flights: BTreeMap<u64, Flight>,
    /// The newest burst's first serial.
    pub burst: u64,
    /// Packets that the receiver threw away as damaged since the first probe.
    pub damaged: u64,
    /// What is not there by now will not come.
    pub quiet: bool,
}

impl Trial {
    /// That the link is of `shape`, and no more of the shape `gone` that it had.
    pub fn of(shape: Shape, gone: Shape) -> Trial {
        let chancy = |s: &Shape| s.loss_ppm + s.duplicate_ppm + s.corrupt_ppm + s.reorder_ppm > 0;
        // An old rate is over when what is sent at the new one comes sooner.
        let rate = if shape.rate > 0 { shape.rate } else { gone.rate };
        let (payload, train) = match rate {
            0 if shape.corrupt_ppm + gone.corrupt_ppm > 0 => (LONG, 1),
            0 => (PAYLOAD, 1),
            _ if chancy(&shape) || chancy(&gone) => (PAYLOAD, 3),
            rate => {
                let bytes = (u128::from(rate) * u128::from(RATE_SPAN.0) / 1_000_000_000) as usize;
                let payload = bytes.saturating_sub(HEADERS).clamp(PAYLOAD, MAX_PAYLOAD);
                (payload, (bytes / (payload + HEADERS)).clamp(3, 64) as u32)
            }
        };
        // A slow wire must not be kept busy for long by what only looks at it.
        let most = match shape.rate {
            0 => MOST,
            rate => (rate / 4 / (payload + HEADERS) as u64).clamp(u64::from(train), u64::from(MOST)) as u32,
        };
        let mut trial = Trial {
            shape,
            gone,
            demanded: Vec::new(),
            banned: Vec::new(),
            rare: Vec::new(),
            probes: 0,
            least: if chancy(&shape) {
                LEAST.clamp(train, most)
            } else {
                train
            },
            payload,
            most,
            train,
        };
        trial.demand();
        trial.ban();
        trial.probes = trial.probes.max(trial.least);
        trial
    }

    fn demand(&mut self) {
        for (effect, chance) in chances(&self.shape) {
            let probes = if effect == Effect::Loss && self.shape.corrupt_ppm > 0 {
                probes_to_tell(self.shape).filter(|probes| *probes <= self.most)
            } else {
                probes_to_show(chance * self.share(effect, &self.shape), self.most)
            };
            match probes {
                // What jumps the queue takes no time on the wire.
                _ if effect == Effect::Rate && self.shape.reorder_ppm > 0 => self.rare.push(effect.name()),
                Some(probes) => {
                    self.demanded.push(effect);
                    self.probes = self.probes.max(probes);
                }
                None if effect == Effect::Arrival => {}
                None => self.rare.push(effect.name()),
            }
        }
        if self.demanded.contains(&Effect::Delay) {
            self.least = self.least.max(DELAYED.min(self.most));
        }
    }

    fn ban(&mut self) {
        let Shape { delay, jitter, .. } = self.shape;
        for (effect, chance) in chances(&self.gone) {
            let still = match effect {
                Effect::Arrival => true,
                Effect::Delay => delay + jitter > Nanos::ZERO,
                Effect::Rate => self.shape.rate > 0,
                Effect::Loss | Effect::Corrupt => self.shape.loss_ppm + self.shape.corrupt_ppm > 0,
                Effect::Duplicate => self.shape.duplicate_ppm > 0,
                Effect::Reorder => self.shape.reorder_ppm > 0 || jitter > Nanos::ZERO,
            };
            if let Some(probes) = probes_to_show(chance * self.share(effect, &self.gone), self.most)
                && !still
            {
                self.banned.push(effect);
                self.probes = self.probes.max(probes);
            }
        }
    }

    /// Of the probes that have an effect, those that show it.
    fn share(&self, effect: Effect, shape: &Shape) -> f64 {
        match effect {
            // Half of what jitters takes longer than the delay.
            Effect::Delay if shape.jitter > Nanos::ZERO => 0.5,
            // The rest of the frame is addresses and other checksums.
            Effect::Corrupt => (self.payload + 8) as f64 / (self.payload + 42) as f64,
            _ => 1.0,
        }
    }

    /// Whether packets come in the order in which they leave.
    fn keeps_order(&self) -> bool {
        self.shape.jitter == Nanos::ZERO && self.shape.reorder_ppm == 0
    }

    /// The longest that a probe takes, once it has left.
    pub fn slowest(&self) -> Duration {
        let wire = Duration::from_nanos(u64::try_from(self.wire(u64::from(self.probes), self.shape.rate)).unwrap_or(0));
        Duration::from(self.shape.delay + self.shape.jitter) + wire + GRACE
    }

    /// The least time, in nanoseconds, that a rate needs for this many probes.
    fn wire(&self, probes: u64, rate: u64) -> i64 {
        let bytes = i128::from(probes) * (self.payload + HEADERS) as i128;
        let nanos = (bytes * 1_000_000_000).checked_div(i128::from(rate)).unwrap_or(0);
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }

    /// The least that the shape lets a probe take.
    fn least(&self) -> i64 {
        if self.shape.reorder_ppm > 0 {
            0
        } else {
            signed(self.shape.delay - self.shape.jitter)
        }
    }

    /// What was seen although the shape forbids it.
    pub fn forbidden(&self, seen: &Seen) -> Option<String> {
        if self.shape.loss_ppm >= 1_000_000 && seen.arrived() > 0 {
            return Some("a probe arrived although every packet is to be lost".into());
        }
        let least = self.least();
        if let Some(took) = seen.took().find(|took| took.most + SLACK < least) {
            let least = Nanos(least.unsigned_abs());
            return Some(format!("a probe arrived after {took}, not delayed by {least}"));
        }
        if self.shape.rate > 0
            && self.shape.reorder_ppm == 0
            && let Some(took) = seen.all_took(0)
        {
            let wire = self.wire(seen.arrived(), self.shape.rate);
            if took.most + SLACK < wire {
                let bytes = seen.arrived() * (self.payload + HEADERS) as u64;
                let (wire, rate) = (Nanos(wire.unsigned_abs()), self.shape.rate);
                return Some(format!("{bytes} bytes took {took}, and at {rate} B/s they take {wire}"));
            }
        }
        None
    }

    /// What is demanded and was not seen, and what ought to be over and is not.
    pub fn missing(&self, seen: &Seen) -> Vec<&'static str> {
        let unseen = self.demanded.iter().filter(|effect| !self.shows(**effect, seen));
        let mut missing: Vec<_> = unseen.map(|effect| effect.absence()).collect();
        if !self.banned.is_empty() && !self.is_whole(seen) {
            missing.push("too few for what ought to be over");
        }
        let lingering = self.banned.iter().filter(|effect| self.lingers(**effect, seen));
        missing.extend(lingering.map(|effect| match effect {
            Effect::Delay => "all were as late as before",
            Effect::Rate => "they were held up by a rate as before",
            Effect::Loss => "some were lost as before",
            Effect::Duplicate => "some came twice as before",
            Effect::Corrupt => "some were corrupted as before",
            Effect::Reorder => "some came out of order as before",
            Effect::Arrival => "none arrived",
        }));
        missing
    }

    /// Whether the shape is proven.
    pub fn is_shown(&self, seen: &Seen) -> bool {
        seen.flights.len() >= self.least as usize && self.missing(seen).is_empty()
    }

    /// Whether all of the newest burst is settled.
    pub fn is_whole(&self, seen: &Seen) -> bool {
        let burst = seen.flights.range(seen.burst..);
        let (sent, arrived) = burst.fold((0, 0), |(sent, arrived), (_, flight)| {
            (sent + 1, arrived + u32::from(!flight.came.is_empty()))
        });
        sent >= self.probes && (arrived == sent || seen.quiet)
    }

    fn shows(&self, effect: Effect, seen: &Seen) -> bool {
        match effect {
            Effect::Arrival => seen.arrived() > 0,
            // For sure more than half of it, and all of it as far as the clocks can tell.
            Effect::Delay => {
                let delay = signed(self.shape.delay);
                seen.took()
                    .any(|took| took.least > delay / 2 && took.most + SLACK >= delay)
            }
            Effect::Rate => {
                let wire = self.wire(seen.arrived(), self.shape.rate);
                let slow = seen.all_took(0).is_some_and(|took| took.least + SLACK >= wire / 10 * 9);
                seen.arrived() >= u64::from((self.train / 2).max(2)) && slow
            }
            Effect::Loss => self.loses(seen),
            Effect::Duplicate => seen.twice(0) > 0,
            Effect::Corrupt => seen.damaged > 0 && self.unarrived(seen, 0) > 0,
            // Where none is delayed, none comes ahead.
            Effect::Reorder => {
                let delayed = self.shape.reorder_ppm >= 1_000_000 || self.shows(Effect::Delay, seen);
                delayed && self.early(seen) > 0
            }
        }
    }

    /// Whether the newest burst still has an effect of the old shape.
    fn lingers(&self, effect: Effect, seen: &Seen) -> bool {
        let burst = seen.burst;
        match effect {
            Effect::Arrival => false,
            Effect::Loss | Effect::Corrupt => self.unarrived(seen, burst) > 0,
            Effect::Duplicate => seen.twice(burst) > 0,
            Effect::Reorder => seen.overtook(burst) > 0,
            Effect::Delay => {
                let late = signed(self.gone.delay);
                let told = |took: &Span| took.width() < late / 2;
                let mut took = seen.took_since(burst).filter(told).peekable();
                took.peek().is_some() && !took.any(|took| took.most < late)
            }
            Effect::Rate => {
                let wire = self.wire(seen.arrived_since(burst), self.gone.rate);
                seen.all_took(burst)
                    .is_some_and(|took| took.width() < wire / 2 && took.most >= wire)
            }
        }
    }

    /// Probes since `first` that have not come and will not.
    fn unarrived(&self, seen: &Seen, first: u64) -> u64 {
        let last = seen.flights.iter().rev().find(|(_, flight)| !flight.came.is_empty());
        let last = last.map_or(0, |(serial, _)| *serial);
        let gone = |(serial, flight): &(&u64, &Flight)| {
            flight.came.is_empty() && (seen.quiet || (self.keeps_order() && **serial < last))
        };
        seen.flights.range(first..).filter(gone).count() as u64
    }

    /// Whether more has not come than damage explains.
    fn loses(&self, seen: &Seen) -> bool {
        let (sent, corrupt) = (seen.flights.len() as f64, share(self.shape.corrupt_ppm));
        let explained = corrupt * sent + SIGMAS * deviation(corrupt) * sent.sqrt();
        self.unarrived(seen, 0) as f64 > explained
    }

    /// Probes that did not wait as the others did.
    fn early(&self, seen: &Seen) -> u64 {
        let least = signed(self.shape.delay - self.shape.jitter);
        let hasty = seen.took().filter(|took| took.most < least).count() as u64;
        let ahead = if self.shape.jitter == Nanos::ZERO {
            seen.overtook(0)
        } else {
            0
        };
        hasty.max(ahead)
    }

    /// What was seen, in words.
    pub fn words(&self, seen: &Seen) -> String {
        let mut words = Vec::new();
        let sent = seen.flights.len();
        match seen.took().next() {
            Some(took) if self.shape.delay + self.shape.jitter > Nanos::ZERO => {
                words.push(format!("probe arrived after {took}"));
            }
            Some(_) => words.push("probe arrived".to_string()),
            None => words.push(format!("none of {sent} probes arrived")),
        }
        if self.shape.rate > 0
            && let Some(took) = seen.all_took(0)
        {
            let bytes = seen.arrived() * (self.payload + HEADERS) as u64;
            words.push(format!("{bytes} bytes took {took}"));
        }
        let lost = if self.shape.corrupt_ppm > 0 {
            "lost or damaged"
        } else {
            "lost"
        };
        for (effect, count, what) in [
            (Effect::Loss, self.unarrived(seen, 0), lost),
            (Effect::Duplicate, seen.twice(0), "came twice"),
            (Effect::Corrupt, self.unarrived(seen, 0).min(seen.damaged), "damaged"),
            (Effect::Reorder, self.early(seen), "came ahead of the delay"),
        ] {
            if self.demanded.contains(&effect) {
                words.push(format!("{count} of {sent} probes {what}"));
            }
        }
        if !self.banned.is_empty() {
            let banned: Vec<&str> = self.banned.iter().map(|effect| effect.name()).collect();
            words.push(format!("no more {} in {}", banned.join(", "), counted(self.probes)));
        }
        for name in &self.rare {
            words.push(format!("{name} not to be shown in {}", counted(self.most)));
        }
        words.join(", ")
    }
}

/// Probes that tell loss from damage, for neither comes: the difference must stand out of the chance in both.
fn probes_to_tell(shape: Shape) -> Option<u32> {
    let (loss, corrupt) = (share(shape.loss_ppm), share(shape.corrupt_ppm));
    let both = 1.0 - (1.0 - loss) * (1.0 - corrupt);
    let probes = (SIGMAS * (deviation(corrupt) + deviation(both)) / (both - corrupt)).powi(2);
    (probes < f64::from(u32::MAX)).then_some(probes.ceil() as u32)
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm.min(1_000_000)) / 1e6
}

/// Of one draw.
fn deviation(chance: f64) -> f64 {
    (chance * (1.0 - chance)).sqrt()
}

fn counted(probes: u32) -> String {
    format!("{probes} probe{}", if probes == 1 { "" } else { "s" })
}

impl Seen {
    fn arrived(&self) -> u64 {
        self.arrived_since(0)
    }

    fn arrived_since(&self, first: u64) -> u64 {
        let came = |(_, flight): &(&u64, &Flight)| !flight.came.is_empty();
        self.flights.range(first..).filter(came).count() as u64
    }

    fn took(&self) -> impl Iterator<Item = Span> {
        self.took_since(0)
    }

    /// What each probe took whose first copy came.
    fn took_since(&self, first: u64) -> impl Iterator<Item = Span> {
        let flights = self.flights.range(first..);
        flights.filter_map(|(_, flight)| flight.came.first().map(|(_, took)| *took))
    }

    fn twice(&self, first: u64) -> u64 {
        let twice = |(_, flight): &(&u64, &Flight)| flight.came.len() > 1;
        self.flights.range(first..).filter(twice).count() as u64
    }

    /// Probes that came before one that had left earlier.
    fn overtook(&self, first: u64) -> u64 {
        let (mut overtook, mut latest) = (0, Nanos::ZERO);
        for (_, flight) in self.flights.range(first..) {
            if let Some((came, _)) = flight.came.first() {
                overtook += u64::from(*came < latest);
                latest = latest.max(*came);
            }
        }
        overtook
    }

    /// From the departure of the first probe to the arrival of the last that came.
    fn all_took(&self, first: u64) -> Option<Span> {
        let mut came = self
            .flights
            .range(first..)
            .filter(|(_, flight)| !flight.came.is_empty());
        let (_, earliest) = came.next()?;
        let (_, latest) = came
            .chain([(&0, earliest)])
            .max_by_key(|(_, flight)| flight.came[0].0)?;
        let between = signed(latest.left - earliest.left);
        let took = latest.came[0].1;
        Some(Span {
            least: between + took.least,
            most: between + took.most,
        })
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
