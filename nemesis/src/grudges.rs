//! Shapes of partitions as sets of blocked links: pure functions, as Jepsen's grudges are.
//!
//! A link is one direction. Most shapes block both directions between two hosts; `one-way` and `single-link` do not,
//! which is where failure detectors that only count arriving heartbeats go wrong.
use rand::RngExt;
use rand::seq::SliceRandom;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Link, Name};
use std::collections::BTreeSet;

/// A partition: what is blocked, and how to say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Blocked, per direction.
    pub links: BTreeSet<Link>,
    /// Who suffers: the side that was aimed at, or everybody where there are no sides.
    pub targets: Vec<Name>,
    /// Who cannot reach whom, in words: `n3 | n1 n2 n4 n5`.
    pub words: String,
}

/// Names in a row, in order.
pub fn list(names: &[Name]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
}

/// All links from one of `from` to one of `to`.
pub fn from_to(from: &[Name], to: &[Name]) -> BTreeSet<Link> {
    let links = from
        .iter()
        .flat_map(|&src| to.iter().map(move |&dst| Link { src, dst }));
    links.filter(|link| link.src != link.dst).collect()
}

/// Both directions between two sides.
pub fn between(side: &[Name], other: &[Name]) -> BTreeSet<Link> {
    from_to(side, other).into_iter().chain(from_to(other, side)).collect()
}

/// `side` against `rest`.
pub fn sides(side: &[Name], rest: &[Name]) -> Cut {
    Cut {
        links: between(side, rest),
        targets: side.to_vec(),
        words: format!("{} | {}", list(side), list(rest)),
    }
}

/// The first `size` of `order` against the others.
pub fn split(order: &[Name], size: usize) -> Cut {
    let (side, rest) = order.split_at(size);
    sides(side, rest)
}

/// Two halves of `order`, and `bridge`, one of them, in between: it reaches both and both reach it.
pub fn bridge(order: &[Name], bridge: Name) -> Cut {
    let ends: Vec<Name> = order.iter().copied().filter(|&name| name != bridge).collect();
    let (side, rest) = ends.split_at(ends.len() / 2);
    Cut {
        words: format!("{} | {}, {bridge} between", list(side), list(rest)),
        ..sides(side, rest)
    }
}

/// Everyone sees a majority, itself included, and no two see the same: each host reaches its nearest on a ring, both
/// ways, so that requests get answers. Needs four hosts; of three, a majority both ways is everybody.
pub fn majorities_ring(ring: &[Name]) -> Cut {
    let n = ring.len();
    let majority = n / 2 + 1;
    // Itself and `reach` on either side are at least a majority.
    let reach = (majority - 1).div_ceil(2);
    let mut links = BTreeSet::new();
    for (i, &src) in ring.iter().enumerate() {
        for (j, &dst) in ring.iter().enumerate() {
            let distance = i.abs_diff(j).min(n - i.abs_diff(j));
            if distance > reach {
                links.insert(Link { src, dst });
            }
        }
    }
    let ring_words: Vec<&str> = ring.iter().map(Name::as_str).collect();
    Cut {
        links,
        targets: ring.to_vec(),
        words: format!("ring {}, each reaches {reach} to either side", ring_words.join(" ")),
    }
}

/// `side` is not heard by `rest`, but hears; or, where `deaf`, hears nothing of `rest`, but is heard.
pub fn one_way(side: &[Name], rest: &[Name], deaf: bool) -> Cut {
    let (links, verb) = if deaf {
        (from_to(rest, side), "does not hear")
    } else {
        (from_to(side, rest), "is not heard by")
    };
    Cut {
        links,
        targets: side.to_vec(),
        words: format!("{} {verb} {}", list(side), list(rest)),
    }
}

/// One direction between `one` of the targets and another host.
pub fn single_link(one: Name, other: Name, incoming: bool) -> Cut {
    let (src, dst) = if incoming { (other, one) } else { (one, other) };
    let link = Link { src, dst };
    Cut {
        links: BTreeSet::from([link]),
        targets: vec![one],
        words: link.to_string(),
    }
}

/// `hosts` in a random order, `first` before all others.
pub(crate) fn order(hosts: &[Name], first: &[Name], rng: &mut Rng) -> Vec<Name> {
    let (mut front, mut back): (Vec<Name>, Vec<Name>) = hosts.iter().partition(|name| first.contains(name));
    front.shuffle(rng);
    back.shuffle(rng);
    front.append(&mut back);
    front
}

/// A random size of a minority of `n` hosts: at least one, less than half. `n` is at least three.
pub(crate) fn minority(n: usize, rng: &mut Rng) -> usize {
    rng.random_range(1..=(n - 1) / 2)
}
