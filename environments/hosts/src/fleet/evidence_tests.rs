//! Links that are simulated, and what is made of them.
use super::*;
use rand::RngExt;

const CLEAN: Shape = Shape {
    delay: Nanos::ZERO,
    jitter: Nanos::ZERO,
    loss_ppm: 0,
    duplicate_ppm: 0,
    reorder_ppm: 0,
    corrupt_ppm: 0,
    rate: 0,
};
const US: u64 = 1_000;

/// A link that does what `is` says, as a burst for `trial` shows it; `unsure` nanoseconds are the clocks apart at most.
fn seen(trial: &Trial, is: Shape, unsure: i64) -> Seen {
    let mut rng = splitbrain_core::seed::stream(7, "evidence");
    let mut chance = |ppm: u32| rng.random_range(0..1_000_000) < ppm;
    let mut jitters = splitbrain_core::seed::stream(8, "evidence");
    let mut seen = Seen {
        quiet: true,
        ..Seen::default()
    };
    let mut wire = 0;
    for n in 0..u64::from(trial.probes) {
        let left = 1_000_000_000 + n * 10 * US;
        let mut came = Vec::new();
        let copies = 1 + u64::from(chance(is.duplicate_ppm));
        let (lost, damaged, ahead) = (chance(is.loss_ppm), chance(is.corrupt_ppm), chance(is.reorder_ppm));
        if let Some(each) = ((trial.payload as u64 + 42) * 1_000_000_000).checked_div(is.rate) {
            wire = wire.max(left) + each;
        }
        let jitter = jitters.random_range(0..=2 * is.jitter.0);
        let delay = if ahead { 0 } else { is.delay.0 + jitter - is.jitter.0 };
        let at = left.max(wire) + delay + 60 * US;
        seen.damaged += u64::from(damaged && !lost);
        if !lost && !damaged {
            for _ in 0..copies {
                let took = i64::try_from(at - left).unwrap();
                let span = Span {
                    least: took - unsure,
                    most: took + unsure,
                };
                came.push((Nanos(at), span));
            }
        }
        let flight = Flight {
            left: Nanos(left),
            came,
        };
        seen.flights.insert(n + 1, flight);
    }
    seen.burst = 1;
    seen
}

/// A link that is of this shape proves it; one that is clean does not, for the reason `want`.
fn check(shape: Shape, want: &str) {
    for unsure in [0, 300_000] {
        let trial = Trial::of(shape, CLEAN);
        let right = seen(&trial, shape, unsure);
        assert_eq!(trial.forbidden(&right), None, "{shape:?}");
        assert_eq!(trial.missing(&right), Vec::<&str>::new(), "{shape:?}");
        assert!(trial.is_shown(&right));
        let wrong = seen(&trial, CLEAN, unsure);
        let words = match trial.forbidden(&wrong) {
            Some(forbidden) => forbidden,
            None => trial.missing(&wrong).join(", "),
        };
        assert!(words.contains(want), "{shape:?}: {words}");
        assert!(!trial.is_shown(&wrong) || trial.forbidden(&wrong).is_some());
    }
}

#[test]
fn each_effect_is_proven_and_its_absence_noticed() {
    let (ppm, delay) = (50_000, Nanos::millis(30));
    check(Shape { delay, ..CLEAN }, "not delayed by 30.000ms");
    let jitter = Nanos::millis(10);
    check(Shape { delay, jitter, ..CLEAN }, "not delayed by 20.000ms");
    // All of it may be jitter: then nothing comes too early, but none comes late.
    let all = Shape {
        delay,
        jitter: delay,
        ..CLEAN
    };
    check(all, "none was delayed");
    check(Shape { loss_ppm: ppm, ..CLEAN }, "none was lost");
    let duplicate_ppm = ppm;
    check(Shape { duplicate_ppm, ..CLEAN }, "none was sent twice");
    check(
        Shape {
            corrupt_ppm: ppm,
            ..CLEAN
        },
        "none was corrupted",
    );
    let reorder = Shape {
        delay,
        reorder_ppm: ppm,
        ..CLEAN
    };
    check(reorder, "none was delayed");
    check(Shape { rate: 100_000, ..CLEAN }, "at 100000 B/s they take");
    check(Shape { rate: 5_000, ..CLEAN }, "at 5000 B/s they take");
    let rough = Shape {
        delay,
        jitter,
        loss_ppm: ppm,
        duplicate_ppm: ppm,
        corrupt_ppm: ppm,
        rate: 10_000_000,
        ..CLEAN
    };
    check(rough, "not delayed by 20.000ms");
    check(
        Shape {
            loss_ppm: 1_000_000,
            ..CLEAN
        },
        "a probe arrived although every packet is to be lost",
    );
}

#[test]
fn a_clean_link_needs_one_probe() {
    let trial = Trial::of(CLEAN, CLEAN);
    assert_eq!(trial.probes, 1);
    assert!(trial.is_shown(&seen(&trial, CLEAN, 0)));
    assert_eq!(trial.words(&seen(&trial, CLEAN, 0)), "probe arrived");
    assert_eq!(trial.missing(&Seen::default()), ["none arrived"]);
}

/// Healing a shape is proven by a burst that the old one would have marked.
#[test]
fn what_is_over_is_not_seen_any_more() {
    let (ppm, delay) = (50_000, Nanos::millis(30));
    for (gone, want) in [
        (Shape { delay, ..CLEAN }, "all were as late as before"),
        (Shape { loss_ppm: ppm, ..CLEAN }, "some were lost as before"),
        (
            Shape {
                duplicate_ppm: ppm,
                ..CLEAN
            },
            "some came twice as before",
        ),
        (
            Shape {
                corrupt_ppm: ppm,
                ..CLEAN
            },
            "some were corrupted as before",
        ),
        (
            Shape {
                delay,
                reorder_ppm: ppm,
                ..CLEAN
            },
            "some came out of order as before",
        ),
        (
            Shape { rate: 100_000, ..CLEAN },
            "they were held up by a rate as before",
        ),
    ] {
        for unsure in [0, 300_000] {
            let trial = Trial::of(CLEAN, gone);
            let right = seen(&trial, CLEAN, unsure);
            assert!(trial.is_shown(&right), "{gone:?}: {:?}", trial.missing(&right));
            assert!(trial.words(&right).contains("no more "), "{}", trial.words(&right));
            let wrong = seen(&trial, gone, unsure);
            assert!(
                trial.missing(&wrong).contains(&want),
                "{gone:?}: {:?}",
                trial.missing(&wrong)
            );
            // Where not all have come, nothing is over as yet.
            let mut early = right.clone();
            early.quiet = false;
            early.flights.last_entry().unwrap().get_mut().came.clear();
            assert!(!trial.is_shown(&early));
        }
        // With clocks that tell nothing of a delay none is demanded to be over.
        let trial = Trial::of(CLEAN, Shape { delay, ..CLEAN });
        assert!(trial.is_shown(&seen(&trial, Shape { delay, ..CLEAN }, 40_000_000)));
    }
}

#[test]
fn what_is_too_rare_is_told_and_not_demanded() {
    let rare = Shape {
        loss_ppm: 1_000,
        ..CLEAN
    };
    let trial = Trial::of(rare, CLEAN);
    let clean = seen(&trial, CLEAN, 0);
    assert!(trial.is_shown(&clean));
    assert_eq!(
        trial.words(&clean),
        "probe arrived, loss not to be shown in 2100 probes"
    );
}

/// A delay counts as proven only if the clocks leave no other way, and as refuted only then.
#[test]
fn clocks_that_differ_by_more_than_the_delay_prove_nothing() {
    let delay = Nanos::millis(5);
    let trial = Trial::of(Shape { delay, ..CLEAN }, CLEAN);
    let clean = seen(&trial, CLEAN, 6_000_000);
    assert_eq!(trial.forbidden(&clean), None);
    assert_eq!(trial.missing(&clean), ["none was delayed"]);
    let delayed = seen(&trial, Shape { delay, ..CLEAN }, 6_000_000);
    assert_eq!(trial.missing(&delayed), ["none was delayed"]);
}

#[test]
fn a_lost_probe_is_known_by_a_later_one() {
    let shape = Shape {
        loss_ppm: 300_000,
        ..CLEAN
    };
    let trial = Trial::of(shape, CLEAN);
    let mut some = seen(&trial, shape, 0);
    some.quiet = false;
    assert!(trial.is_shown(&some), "{:?}", trial.missing(&some));
    // Where the order is not kept, it may still come.
    let jitters = Shape {
        delay: Nanos::millis(2),
        jitter: Nanos::millis(2),
        ..shape
    };
    let trial = Trial::of(jitters, CLEAN);
    let mut some = seen(&trial, jitters, 0);
    some.quiet = false;
    assert_eq!(trial.missing(&some), ["none was lost"]);
    some.quiet = true;
    assert!(trial.is_shown(&some));
}

/// What does not come may be lost or damaged.
#[test]
fn loss_is_told_from_damage_or_not_claimed() {
    let shape = |loss_ppm, corrupt_ppm| Shape {
        loss_ppm,
        corrupt_ppm,
        ..CLEAN
    };
    let both = shape(300_000, 300_000);
    let trial = Trial::of(both, CLEAN);
    assert!(trial.is_shown(&seen(&trial, both, 0)));
    // Others' damage is counted at the receiver too.
    let mut damaged = seen(&trial, shape(0, 300_000), 0);
    damaged.damaged += 1_000;
    assert_eq!(trial.missing(&damaged), ["none was lost"]);
    let mut both_seen = seen(&trial, both, 0);
    both_seen.damaged += 1_000;
    assert!(trial.is_shown(&both_seen));
    let few = shape(50_000, 50_000);
    let trial = Trial::of(few, CLEAN);
    let damaged = seen(&trial, shape(0, 50_000), 0);
    assert!(trial.is_shown(&damaged));
    let words = trial.words(&damaged);
    assert!(words.ends_with("loss not to be shown in 2100 probes"), "{words}");
}
