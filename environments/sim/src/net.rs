//! The network: one function decides the fate of every packet, and of every probe.
//!
//! A clean link takes between half and one and a half times the mean latency, and one packet in a hundred up to ten
//! times: enough that packets overtake each other in every run. Shapes act as netem's do: loss first, then the rate (a
//! queue that holds [`BACKLOG`] and drops what comes beyond), then delay and jitter, which a reordered packet skips.
use rand::RngExt;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Link, Nanos, Shape};
use std::collections::BTreeMap;

/// How long a throttled link queues packets before it drops them.
const BACKLOG: Nanos = Nanos::secs(1);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The link is blocked.
    Blocked,
    /// The link's shape lost it.
    Lost,
    /// It arrives, perhaps twice.
    Carried(Arrival, Option<Arrival>),
}

/// One copy's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When.
    pub(crate) at: Nanos,
    /// A random number, modulo the packet's bits the position of a flipped one.
    pub(crate) flipped: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct LinkState {
    blocked: bool,
    shape: Shape,
    /// A throttled link sends its next packet no earlier.
    free_at: Nanos,
    /// The newest arrival of the link's stream: no later packet of the stream comes before it.
    stream_at: Nanos,
}

/// All links.
pub(crate) struct Net {
    latency: Nanos,
    links: BTreeMap<Link, LinkState>,
    packets: Rng,
    /// For tests: shapes are noted and do nothing.
    ignores_shapes: bool,
    // Probes draw from a stream of their own: verifying a fault must not change what the fault does.
    probes: Rng,
}

impl Net {
    pub(crate) fn new(seed: u64, latency: Nanos) -> Net {
        Net {
            latency,
            links: BTreeMap::new(),
            ignores_shapes: false,
            packets: seed::stream(seed, "net"),
            probes: seed::stream(seed, "probe"),
        }
    }

    /// The fate of a datagram of `bytes`, sent now.
    pub(crate) fn datagram(&mut self, link: Link, bytes: usize, now: Nanos) -> Fate {
        let state = self.links.entry(link).or_default();
        path(state, self.latency, bytes, now, self.ignores_shapes, &mut self.packets)
    }

    /// When a stream's packet of `bytes`, sent now, arrives: in order and once, if at all.
    pub(crate) fn stream(&mut self, link: Link, bytes: usize, now: Nanos) -> Option<Nanos> {
        let state = self.links.entry(link).or_default();
        match path(state, self.latency, bytes, now, self.ignores_shapes, &mut self.packets) {
            Fate::Carried(Arrival { at, flipped: None }, _) => {
                state.stream_at = state.stream_at.max(at);
                Some(state.stream_at)
            }
            Fate::Carried(..) | Fate::Lost | Fate::Blocked => None,
        }
    }

    /// The fate that an empty packet would have now.
    pub(crate) fn probe(&mut self, link: Link, now: Nanos) -> Fate {
        let state = self.links.entry(link).or_default();
        path(state, self.latency, 0, now, self.ignores_shapes, &mut self.probes)
    }

    /// The fates that `probes` packets of `bytes`, sent together on an idle link, would have now. The link is as before.
    pub(crate) fn burst(&mut self, link: Link, bytes: usize, probes: u32, now: Nanos) -> Vec<Fate> {
        let mut state = self.links.get(&link).copied().unwrap_or_default();
        state.free_at = Nanos::ZERO;
        let ignores = self.ignores_shapes;
        let probe = |_| path(&mut state, self.latency, bytes, now, ignores, &mut self.probes);
        (0..probes).map(probe).collect()
    }

    /// Mean latency of a clean link.
    pub(crate) fn latency(&self) -> Nanos {
        self.latency
    }

    /// The shape that the link has.
    pub(crate) fn shape_of(&self, link: Link) -> Shape {
        self.links.get(&link).map(|state| state.shape).unwrap_or_default()
    }

    /// Carries packets from now on as if no link had a shape, for tests.
    pub(crate) fn ignore_shapes(&mut self) {
        self.ignores_shapes = true;
    }

    /// Whether what is under way on the link arrives.
    pub(crate) fn is_open(&self, link: Link) -> bool {
        self.links.get(&link).is_none_or(|state| !state.blocked)
    }

    pub(crate) fn set_blocked(&mut self, link: Link, blocked: bool) {
        self.links.entry(link).or_default().blocked = blocked;
    }

    pub(crate) fn set_shape(&mut self, link: Link, shape: Shape) {
        let state = self.links.entry(link).or_default();
        state.shape = shape;
        state.free_at = Nanos::ZERO;
    }
}

fn path(state: &mut LinkState, latency: Nanos, bytes: usize, now: Nanos, ignores: bool, rng: &mut Rng) -> Fate {
    if state.blocked {
        return Fate::Blocked;
    }
    let shape = if ignores { Shape::default() } else { state.shape };
    if happens(rng, shape.loss_ppm) {
        return Fate::Lost;
    }
    let mut sent = now;
    // A rate of zero is no limit, and has no quotient.
    if let Some(takes) = (bytes as u64).saturating_mul(1_000_000_000).checked_div(shape.rate) {
        let begins = state.free_at.max(now);
        if begins - now > BACKLOG {
            return Fate::Lost;
        }
        sent = begins + Nanos(takes);
        state.free_at = sent;
    }
    let mut arrival = || Arrival {
        at: sent + own_latency(latency, rng) + shaped(&shape, rng),
        flipped: happens(rng, shape.corrupt_ppm).then(|| rng.random::<u64>()),
    };
    let first = arrival();
    let second = happens(rng, shape.duplicate_ppm).then(|| Arrival {
        at: sent + own_latency(latency, rng) + shaped(&shape, rng),
        flipped: None,
    });
    Fate::Carried(first, second)
}

fn own_latency(mean: Nanos, rng: &mut Rng) -> Nanos {
    let usual = rng.random_range(mean.0 / 2..=mean.0 + mean.0 / 2);
    if happens(rng, 10_000) {
        Nanos(usual.saturating_mul(rng.random_range(2..=10)))
    } else {
        Nanos(usual)
    }
}

fn shaped(shape: &Shape, rng: &mut Rng) -> Nanos {
    if happens(rng, shape.reorder_ppm) {
        return Nanos::ZERO;
    }
    let least = shape.delay - shape.jitter;
    let most = shape.delay + shape.jitter;
    Nanos(rng.random_range(least.0..=most.0))
}

fn happens(rng: &mut Rng, ppm: u32) -> bool {
    // No draw for what cannot happen: clean links are the usual case.
    ppm > 0 && rng.random_range(0..1_000_000) < ppm
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = Nanos::millis(1);

    fn link() -> Link {
        Link {
            src: "n1".parse().unwrap(),
            dst: "n2".parse().unwrap(),
        }
    }

    fn shaped_net(shape: Shape) -> Net {
        let mut net = Net::new(7, MS);
        net.set_shape(link(), shape);
        net
    }

    /// Of 1000 packets: (lost, doubled, corrupt, mean latency in ms of the first copies).
    fn measure(shape: Shape) -> (u32, u32, u32, f64) {
        let mut net = shaped_net(shape);
        let (mut lost, mut doubled, mut corrupt, mut sum) = (0, 0, 0, 0.0);
        for _ in 0..1000 {
            match net.datagram(link(), 100, Nanos::ZERO) {
                Fate::Carried(first, second) => {
                    doubled += u32::from(second.is_some());
                    corrupt += u32::from(first.flipped.is_some());
                    sum += first.at.as_secs_f64() * 1e3;
                }
                Fate::Lost => lost += 1,
                Fate::Blocked => panic!("nobody blocked the link"),
            }
        }
        (lost, doubled, corrupt, sum / f64::from(1000 - lost).max(1.0))
    }

    #[test]
    fn a_clean_link_carries_all_once_around_its_mean() {
        let (lost, doubled, corrupt, mean) = measure(Shape::default());
        assert_eq!((lost, doubled, corrupt), (0, 0, 0));
        assert!((0.8..1.4).contains(&mean), "{mean}");
    }

    #[test]
    fn shapes_do_what_they_say() {
        let shape = Shape {
            delay: Nanos::millis(30),
            jitter: Nanos::millis(10),
            loss_ppm: 100_000,
            duplicate_ppm: 50_000,
            corrupt_ppm: 200_000,
            ..Shape::default()
        };
        let (lost, doubled, corrupt, mean) = measure(shape);
        assert!((60..150).contains(&lost), "{lost}");
        assert!((20..80).contains(&doubled), "{doubled}");
        assert!((130..240).contains(&corrupt), "{corrupt}");
        assert!((30.0..33.0).contains(&mean), "{mean}");
        let reordered = measure(Shape {
            delay: Nanos::millis(30),
            reorder_ppm: 1_000_000,
            ..Shape::default()
        });
        assert!(reordered.3 < 2.0, "{reordered:?}");
    }

    #[test]
    fn a_throttled_link_queues_and_then_drops() {
        let mut net = shaped_net(Shape {
            rate: 1000,
            ..Shape::default()
        });
        let fates: Vec<Fate> = (0..20).map(|_| net.datagram(link(), 100, Nanos::ZERO)).collect();
        let at = |fate: Fate| match fate {
            Fate::Carried(first, _) => first.at,
            other => panic!("{other:?}"),
        };
        assert!(at(fates[0]) >= Nanos::millis(100) && at(fates[9]) >= Nanos::millis(1000));
        assert_eq!(fates[19], Fate::Lost);
        assert!(matches!(net.datagram(link(), 100, Nanos::secs(5)), Fate::Carried(..)));
    }

    #[test]
    fn streams_keep_their_order() {
        let mut net = Net::new(7, MS);
        let arrivals: Vec<_> = (0..1000)
            .map(|n| net.stream(link(), 10, Nanos::micros(n)).unwrap())
            .collect();
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn a_blocked_link_carries_nothing_in_its_direction_only() {
        let mut net = Net::new(7, MS);
        let back = Link {
            src: link().dst,
            dst: link().src,
        };
        net.set_blocked(link(), true);
        assert_eq!(net.datagram(link(), 1, MS), Fate::Blocked);
        assert_eq!(net.stream(link(), 1, MS), None);
        assert!(matches!(net.datagram(back, 1, MS), Fate::Carried(..)));
        net.set_blocked(link(), false);
        assert!(matches!(net.probe(link(), MS), Fate::Carried(..)));
    }

    #[test]
    fn probes_do_not_shift_packets() {
        let [mut a, mut b] = [Net::new(7, MS), Net::new(7, MS)];
        a.probe(link(), MS);
        assert_eq!(a.datagram(link(), 1, MS), b.datagram(link(), 1, MS));
    }
}
