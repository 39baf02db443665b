//! Shapes, proven by what they do to probes.
use crate::saw;
use crate::toy::{Toys, hosts, link};
use splitbrain_core::{Action, Nanos, Shape};
use splitbrain_sim::{Sabotage, SimConfig};

/// Each effect of a shape, and what is said where links take the shape and ignore it.
#[test]
fn a_shape_is_proven_by_its_effects() {
    let (ppm, delay, clean) = (100_000, Nanos::millis(50), Shape::default());
    for (shape, shown, want) in [
        (
            Shape { delay, ..clean },
            "the others took",
            "before the delay, and none may be",
        ),
        (Shape { loss_ppm: ppm, ..clean }, "probes lost", "none was lost"),
        (
            Shape {
                corrupt_ppm: ppm,
                ..clean
            },
            " corrupted",
            "none was corrupted",
        ),
        (
            Shape {
                duplicate_ppm: ppm,
                ..clean
            },
            " sent twice",
            "none was sent twice",
        ),
        (
            Shape {
                delay,
                reorder_ppm: ppm,
                ..clean
            },
            " before the delay",
            "none was delayed",
        ),
        (
            Shape { rate: 29_000, ..clean },
            "14496 bytes took",
            "and at 29000 B/s they take",
        ),
    ] {
        let action = Action::Shape {
            links: vec![link("n1>n2")],
            shape,
        };
        let mut config = SimConfig::new(12, hosts(3));
        let proofs = saw(Toys::new(config.clone()).act(action.clone()));
        assert!(proofs[0].contains(shown), "{shown}: {proofs:?}");
        config.sabotage = Some(Sabotage::ShapeDoesNothing);
        let error = Toys::new(config).act(action).unwrap_err();
        assert!(
            error.starts_with("shape n1>n2: ") && error.contains(want),
            "{want}: {error}"
        );
    }
    let rare = Shape { loss_ppm: 100, ..clean };
    let links = vec![link("n1>n2")];
    let proofs = saw(Toys::new(SimConfig::new(12, hosts(3))).act(Action::Shape { links, shape: rare }));
    assert!(
        proofs[0].ends_with("too rare to show in 2100 probes: lost"),
        "{proofs:?}"
    );
}
