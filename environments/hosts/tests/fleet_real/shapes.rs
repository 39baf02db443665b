//! Shapes over a fleet: by whom each is carried out, and what proves it.
use crate::Case;
use crate::rig::Net;
use crate::world::link;
use splitbrain_core::{Action, Nanos, Shape};
use splitbrain_environments::Sabotage;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("each_shape_is_proven_and_heals", each_shape_is_proven_and_heals),
    (
        "a_shape_that_does_nothing_is_noticed",
        a_shape_that_does_nothing_is_noticed,
    ),
    ("many_links_are_shaped_at_once", many_links_are_shaped_at_once),
    ("a_shaped_link_may_be_blocked", a_shaped_link_may_be_blocked),
];

const CLEAN: Shape = Shape {
    delay: Nanos::ZERO,
    jitter: Nanos::ZERO,
    loss_ppm: 0,
    duplicate_ppm: 0,
    reorder_ppm: 0,
    corrupt_ppm: 0,
    rate: 0,
};

fn shapes() -> [(Shape, &'static str); 7] {
    let (ppm, delay) = (100_000, Nanos::millis(50));
    let jitter = Nanos::millis(20);
    [
        (Shape { delay, ..CLEAN }, "not delayed by 50.000ms"),
        (Shape { delay, jitter, ..CLEAN }, "not delayed by 30.000ms"),
        (Shape { loss_ppm: ppm, ..CLEAN }, "none was lost"),
        (
            Shape {
                duplicate_ppm: ppm,
                ..CLEAN
            },
            "none was sent twice",
        ),
        (
            Shape {
                corrupt_ppm: ppm,
                ..CLEAN
            },
            "none was corrupted",
        ),
        (Shape { rate: 20_000, ..CLEAN }, "at 20000 B/s they take"),
        (
            Shape {
                delay,
                reorder_ppm: ppm,
                ..CLEAN
            },
            "none was delayed, none was sent without the delay",
        ),
    ]
}

fn each_shape_is_proven_and_heals() {
    let net = Net::new(3);
    let (_fleet, mut rig) = net.world(None);
    let links = vec![link(1, 2), link(2, 3), link(1, 3)];
    for (shape, _) in shapes() {
        let start = Instant::now();
        let proofs = rig.done(Action::Shape {
            links: links.clone(),
            shape,
        });
        let shaped = start.elapsed();
        assert_eq!(proofs.len(), 3);
        println!("  {} ({shaped:?})", proofs[0].saw);
        rig.hears(2, 1);
        let start = Instant::now();
        let proofs = rig.done(Action::Shape {
            links: links.clone(),
            shape: CLEAN,
        });
        println!("    {} ({:?})", proofs[0].saw, start.elapsed());
        assert!(proofs[0].saw.contains("no more "), "{proofs:?}");
    }
}

fn a_shape_that_does_nothing_is_noticed() {
    let net = Net::new(3);
    let (_fleet, mut rig) = net.world(Some(Sabotage::ShapeDoesNothing));
    for (shape, want) in shapes() {
        let links = vec![link(1, 2), link(2, 3)];
        let error = rig.act(Action::Shape { links, shape }).unwrap_err();
        assert!(error.contains("n1>n2: ") && error.contains(want), "{want}: {error}");
    }
}

fn many_links_are_shaped_at_once() {
    let net = Net::new(5);
    let (_fleet, mut rig) = net.world(None);
    let pairs = (1..=5).flat_map(|src| (1..=5).filter(move |dst| *dst != src).map(move |dst| link(src, dst)));
    let links: Vec<_> = pairs.collect();
    let shape = Shape {
        delay: Nanos::millis(5),
        loss_ppm: 50_000,
        duplicate_ppm: 50_000,
        corrupt_ppm: 50_000,
        ..CLEAN
    };
    for shape in [shape, CLEAN] {
        let start = Instant::now();
        let links = links.clone();
        let proofs = rig.done(Action::Shape { links, shape });
        assert_eq!(proofs.len(), 20);
        println!("  20 links: {} ({:?})", proofs[7].saw, start.elapsed());
    }
}

fn a_shaped_link_may_be_blocked() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    let links = vec![link(1, 2)];
    let delay = Nanos::millis(30);
    rig.done(Action::Block { links: links.clone() });
    let proofs = rig.done(Action::Shape {
        links: links.clone(),
        shape: Shape { delay, ..CLEAN },
    });
    assert!(proofs[0].saw.starts_with("probe dropped by n2"), "{proofs:?}");
    let proofs = rig.done(Action::Unblock { links: links.clone() });
    assert!(proofs[0].saw.starts_with("probe arrived after 3"), "{proofs:?}");
    rig.done(Action::Shape { links, shape: CLEAN });
}
