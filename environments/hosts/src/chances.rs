//! How many probes it takes to see what a link does by chance.
//!
//! An effect that shows in one probe with some probability p shows in n of them with 1 - (1-p)^n; n is chosen such that it
//! stays unseen less than once in 10^9 times. Where that takes more than [`MOST`] probes, it is not demanded.
use splitbrain_core::{Nanos, Shape};

/// Most probes of one link: enough for 1 %.
pub(crate) const MOST: u32 = 2_100;
/// Fewest of a shape that works by chance, so that "all" and "some" look different.
pub(crate) const LEAST: u32 = 20;
/// How often an effect may stay unseen that is there.
const UNSEEN: f64 = 1e-9;
/// A probe's fewest bytes.
pub(crate) const PAYLOAD: usize = 16;
/// A probe's most bytes.
pub(crate) const MAX_PAYLOAD: usize = 1_400;
/// What probes of a rate take to send, all together.
pub(crate) const RATE_SPAN: Nanos = Nanos::millis(20);

/// What a link can do to packets, as probes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Arrival,
    Delay,
    Rate,
    Loss,
    Duplicate,
    Corrupt,
    Reorder,
}

/// How likely one probe shows each effect of the shape.
pub(crate) fn chances(shape: &Shape) -> Vec<(Effect, f64)> {
    let share = |ppm: u32| f64::from(ppm.min(1_000_000)) / 1e6;
    let [loss, twice, corrupt, reorder] = [
        shape.loss_ppm,
        shape.duplicate_ppm,
        shape.corrupt_ppm,
        shape.reorder_ppm,
    ]
    .map(share);
    let kept = 1.0 - loss;
    let delays = shape.delay + shape.jitter > Nanos::ZERO;
    let all = [
        (true, Effect::Arrival, kept * (1.0 - corrupt)),
        (delays && reorder < 1.0, Effect::Delay, kept * (1.0 - reorder)),
        (shape.rate > 0, Effect::Rate, kept),
        (loss > 0.0, Effect::Loss, loss),
        (twice > 0.0, Effect::Duplicate, kept * twice),
        (corrupt > 0.0, Effect::Corrupt, kept * corrupt),
        // Without a delay there is nothing to skip.
        (delays && reorder > 0.0, Effect::Reorder, kept * reorder),
    ];
    let asked = all.into_iter().filter(|(asked, ..)| *asked);
    asked.map(|(_, effect, chance)| (effect, chance)).collect()
}

/// The fewest probes of which one shows an effect of this chance, as good as surely; `None` if that is more than `most`.
pub(crate) fn probes_to_show(chance: f64, most: u32) -> Option<u32> {
    let mut unseen = 1.0;
    (1..=most).find(|_| {
        unseen *= 1.0 - chance;
        unseen < UNSEEN
    })
}

impl Effect {
    pub fn name(self) -> &'static str {
        match self {
            Effect::Arrival => "arrival",
            Effect::Delay => "delay",
            Effect::Rate => "rate",
            Effect::Loss => "loss",
            Effect::Duplicate => "duplication",
            Effect::Corrupt => "corruption",
            Effect::Reorder => "reordering",
        }
    }

    /// What is said where it is not seen.
    pub fn absence(self) -> &'static str {
        match self {
            Effect::Arrival => "none arrived",
            Effect::Delay => "none was delayed",
            Effect::Rate => "none was held up by the rate",
            Effect::Loss => "none was lost",
            Effect::Duplicate => "none was sent twice",
            Effect::Corrupt => "none was corrupted",
            Effect::Reorder => "none was sent without the delay",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarer_effects_take_more_probes_up_to_a_limit() {
        for (chance, want) in [
            (1.0, Some(1)),
            (0.5, Some(30)),
            (0.01, Some(2062)),
            (0.001, None),
            (0.0, None),
        ] {
            assert_eq!(probes_to_show(chance, MOST), want, "{chance}");
        }
    }
}
