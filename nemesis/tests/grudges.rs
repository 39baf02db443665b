//! The shapes of partitions, exhaustively for small clusters and at random for larger ones.
use proptest::prelude::*;
use splitbrain_core::{Link, Name};
use splitbrain_nemesis::grudges::{Cut, between, bridge, from_to, list, majorities_ring, one_way, single_link, split};
use std::collections::BTreeSet;

fn hosts(n: usize) -> Vec<Name> {
    (1..=n).map(|i| Name::numbered("n", i)).collect()
}

fn reaches(cut: &Cut, src: Name, dst: Name) -> bool {
    !cut.links.contains(&Link { src, dst })
}

/// Whom `host` can talk with in both directions, itself included.
fn sees(cut: &Cut, host: Name, all: &[Name]) -> BTreeSet<Name> {
    let both = |&other: &Name| reaches(cut, host, other) && reaches(cut, other, host);
    all.iter().copied().filter(both).collect()
}

#[test]
fn a_split_cuts_every_link_between_its_sides_and_no_other() {
    for n in 2..=7 {
        for size in 1..n {
            let all = hosts(n);
            let cut = split(&all, size);
            assert_eq!(cut.links.len(), 2 * size * (n - size));
            for (i, &a) in all.iter().enumerate() {
                for (j, &b) in all.iter().enumerate() {
                    assert_eq!(reaches(&cut, a, b), (i < size) == (j < size), "{n} {size} {a} {b}");
                }
            }
        }
    }
}

#[test]
fn a_bridge_reaches_both_ends_and_the_ends_do_not_reach_each_other() {
    for n in 3..=7 {
        let all = hosts(n);
        for &middle in &all {
            let cut = bridge(&all, middle);
            assert_eq!(sees(&cut, middle, &all).len(), n);
            let ends: Vec<Name> = all.iter().copied().filter(|&h| h != middle).collect();
            let half = ends.len() / 2;
            for (i, &a) in ends.iter().enumerate() {
                for (j, &b) in ends.iter().enumerate() {
                    assert_eq!(reaches(&cut, a, b), (i < half) == (j < half));
                }
            }
        }
    }
}

fn check_ring(ring: &[Name]) {
    let n = ring.len();
    let cut = majorities_ring(ring);
    let views: Vec<BTreeSet<Name>> = ring.iter().map(|&host| sees(&cut, host, ring)).collect();
    for view in &views {
        assert!(view.len() > n / 2 && view.len() < n, "{n}: {view:?}");
    }
    let distinct: BTreeSet<_> = views.iter().collect();
    assert_eq!(distinct.len(), n, "no two see the same majority");
}

#[test]
fn in_a_ring_everyone_sees_a_majority_and_no_two_the_same() {
    for n in 4..=15 {
        check_ring(&hosts(n));
    }
}

#[test]
fn one_way_cuts_one_direction() {
    let all = hosts(5);
    let (side, rest) = all.split_at(2);
    let mute = one_way(side, rest, false);
    let deaf = one_way(side, rest, true);
    assert_eq!(mute.links, from_to(side, rest));
    assert_eq!(deaf.links, from_to(rest, side));
    assert!(mute.links.is_disjoint(&deaf.links));
    assert_eq!(mute.words, "n1 n2 is not heard by n3 n4 n5");
    assert_eq!(deaf.words, "n1 n2 does not hear n3 n4 n5");
    let link = single_link(all[0], all[1], true);
    assert_eq!((link.words.as_str(), link.links.len()), ("n2>n1", 1));
}

#[test]
fn words_tell_the_sides() {
    let all = hosts(5);
    assert_eq!(split(&all[2..], 1).words, "n3 | n4 n5");
    assert_eq!(bridge(&all, all[4]).words, "n1 n2 | n3 n4, n5 between");
    assert_eq!(
        majorities_ring(&all).words,
        "ring n1 n2 n3 n4 n5, each reaches 1 to either side"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_shape_cuts_a_host_from_itself_or_a_stranger(order in Just(hosts(9)).prop_shuffle(), n in 4usize..=9, size in 1usize..=3) {
        let order = &order[..n];
        let cuts = [
            split(order, size),
            bridge(order, order[size]),
            majorities_ring(order),
            one_way(&order[..size], &order[size..], size % 2 == 0),
            single_link(order[0], order[size], true),
        ];
        for cut in cuts {
            prop_assert!(!cut.links.is_empty());
            prop_assert!(!cut.targets.is_empty());
            for link in &cut.links {
                prop_assert!(link.src != link.dst && order.contains(&link.src) && order.contains(&link.dst));
            }
        }
        check_ring(order);
    }

    #[test]
    fn between_is_symmetric(n in 2usize..=9, at in 1usize..=8) {
        let all = hosts(n);
        let (a, b) = all.split_at(at.min(n - 1));
        prop_assert_eq!(between(a, b), between(b, a));
        prop_assert_eq!(list(a).split(' ').count(), a.len());
    }
}
