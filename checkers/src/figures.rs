//! Small arithmetic for what checkers measure.
use splitbrain_core::Nanos;
use splitbrain_core::verdict::Figure;

/// A figure; `unit` is `s`, `1/s`, `%`, or empty for a count.
pub(crate) fn figure(name: &str, value: f64, unit: &str) -> Figure {
    Figure {
        name: name.to_string(),
        value,
        unit: unit.to_string(),
    }
}

/// Half, nine tenths and all of the sorted `spans` are at most this long: `name p50`, `name p90`, `name max`, in
/// seconds. Nothing for no spans.
pub(crate) fn percentiles(name: &str, spans: &mut [Nanos]) -> Vec<Figure> {
    spans.sort();
    let Some(max) = spans.last() else { return Vec::new() };
    // The nearest rank: the smallest member with at least that share of the members at or below it.
    let rank = |percent: usize| spans[(spans.len() * percent).div_ceil(100).max(1) - 1];
    let named = |suffix: &str, at: Nanos| figure(&format!("{name} {suffix}"), at.as_secs_f64(), "s");
    vec![named("p50", rank(50)), named("p90", rank(90)), named("max", *max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(millis: &[u64], expected: [u64; 3]) {
        let mut spans: Vec<Nanos> = millis.iter().map(|ms| Nanos::millis(*ms)).collect();
        let got: Vec<f64> = percentiles("x", &mut spans).iter().map(|f| f.value * 1e3).collect();
        assert_eq!(got, expected.map(|ms| ms as f64));
    }

    #[test]
    fn percentiles_are_members_by_nearest_rank() {
        check(&[5], [5, 5, 5]);
        check(&[4, 1, 3, 2], [2, 4, 4]);
        check(&(1..=100).collect::<Vec<_>>(), [50, 90, 100]);
        assert!(percentiles("x", &mut []).is_empty());
    }
}
