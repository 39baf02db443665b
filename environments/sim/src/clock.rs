//! A host's clocks, which may be wrong.
//!
//! The world has one true time. A host's processes read it through two clocks, the time of day and the monotonic one, each
//! of which a skew may move ([`splitbrain_core::Skew`]). A core is only ever told the monotonic clock, made never to fall
//! within one life, as the node's driver makes it. Its timers sleep in the kernel, by true time: what is left until the
//! deadline by the skewed clock is slept by the true one, and looked at again after every step.
use crate::Sabotage;
use crate::world::SimWorld;
use splitbrain_core::{Clocks, Name, Nanos, Offset, Skew};

/// A difference from the true time, in nanoseconds.
type Error = i128;

/// One of a host's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Realtime,
    Monotonic,
}

/// How a host's clocks differ from the true time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostClocks {
    skew: Skew,
    /// Since when.
    since: Nanos,
}

impl HostClocks {
    fn moves(&self, which: Which) -> bool {
        match self.skew.clocks {
            Clocks::Both => true,
            Clocks::Realtime => which == Which::Realtime,
            Clocks::Monotonic => which == Which::Monotonic,
        }
    }

    fn error(&self, which: Which, now: Nanos) -> Error {
        if !self.moves(which) {
            return 0;
        }
        let Skew {
            offset: Offset(offset),
            rate_ppm,
            strobe,
            ..
        } = self.skew;
        let gone = now - self.since;
        let away = strobe > Nanos::ZERO && (gone.0 / strobe.0) % 2 == 1;
        let offset = if away { 0 } else { Error::from(offset) };
        let drift = Error::from(gone.0) * (Error::from(rate_ppm) - Error::from(Skew::TRUE_RATE));
        offset + drift.div_euclid(Error::from(Skew::TRUE_RATE))
    }

    /// What a process reads of the time since boot; not before it, which no clock tells.
    pub(crate) fn monotonic(&self, now: Nanos) -> Nanos {
        let reads = Error::from(now.0) + self.error(Which::Monotonic, now);
        Nanos(u64::try_from(reads.max(0)).unwrap_or(u64::MAX))
    }
}

impl SimWorld {
    /// Skews a host's clocks, and asks them.
    pub(crate) fn skew(&mut self, name: Name, skew: Skew) -> Result<String, String> {
        skew.check()?;
        let now = self.now;
        if self.sabotage != Some(Sabotage::ClockDoesNothing) {
            self.host(name).clocks = HostClocks { skew, since: now };
        }
        let clocks = self.hosts[&name].clocks;
        let saw = [("realtime", Which::Realtime), ("monotonic", Which::Monotonic)]
            .map(|(word, which)| Ok(format!("{word} {}", look(clocks, which, skew, now)?)));
        let saw: Result<Vec<String>, String> = saw.into_iter().collect();
        Ok(saw?.join(", "))
    }
}

/// Reads one of the clocks now and later: once where it shows the skew, once where it shows a strobe's other turn.
fn look(clocks: HostClocks, which: Which, skew: Skew, now: Nanos) -> Result<String, String> {
    let should_move = match which {
        Which::Realtime => skew.clocks != Clocks::Monotonic,
        Which::Monotonic => skew.clocks != Clocks::Realtime,
    };
    let second = Nanos::secs(1);
    let at = |now| clocks.error(which, now);
    let (first, drift) = (at(now), at(now + second) - at(now));
    if !should_move || skew.is_none() {
        return match (first, drift) {
            (0, 0) => Ok("true".to_string()),
            _ => Err(format!("a clock that was to be true is {first} ns off")),
        };
    }
    let offset = Error::from(skew.offset.0);
    if first != offset {
        return Err(format!("a clock is {first} ns off, and should be {offset}"));
    }
    if skew.strobe > Nanos::ZERO {
        let turned = at(now + skew.strobe) - at(now + skew.strobe - Nanos(1));
        // The rate adds some nanoseconds at most.
        if (turned + offset).abs() > 10 {
            return Err(format!(
                "a strobed clock turned by {turned} ns, and should by {}",
                -offset
            ));
        }
    }
    let rate = Error::from(skew.rate_ppm) - Error::from(Skew::TRUE_RATE);
    // In a second a millionth of the rate is a thousand nanoseconds.
    if skew.strobe == Nanos::ZERO && drift != rate * 1_000 {
        return Err(format!(
            "a clock drifts by {drift} ns a second, and should by {}",
            rate * 1_000
        ));
    }
    let words = Skew {
        clocks: Clocks::Both,
        ..skew
    };
    Ok(format!("reads {words}"))
}
