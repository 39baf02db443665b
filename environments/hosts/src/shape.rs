//! What one direction of a link does to a frame, as a pure function of time, length and chance.
//!
//! A [`Pipe`] takes a frame's length and the time and answers with a [`Fate`]: lost, or one or two copies, each with the
//! time at which it leaves the link and perhaps a bit to flip. No clock, no queue and no socket: the same seed and the
//! same calls give the same fates. The meaning of each word follows Linux's netem, so that a plan means the same in
//! environments whose kernel has netem (Hemminger, "Network emulation with NetEm", 2005):
//!
//! 1. `loss` is drawn first; a lost frame uses nothing of the rate;
//! 2. a survivor may be sent twice (`duplicate`), and each copy draws everything below for itself;
//! 3. `rate` is a wire that sends one frame after the other; a frame that would wait more than [`MAX_BACKLOG`] for its
//!    turn is dropped, as the full buffer of a slow device drops it;
//! 4. `delay` and `jitter` are added after the wire, the sum uniform in `delay - jitter ..= delay + jitter` and never
//!    negative. Each copy draws its own, so jitter alone already changes the order of frames that follow closely;
//! 5. a reordered frame skips step 4: with a delay it overtakes, on a link without one it does nothing;
//! 6. `corrupt` names a bit to flip; where it may lie is the business of [`bit_to_flip`].
//!
//! A corrupted packet must be *noticed* by its receiver, as a real network's is: the checksum of TCP, UDP or ICMP fails
//! and the packet is dropped, counted there, and sent again by whoever cares. So the flipped bit always lies behind the IP
//! header, under one of these checksums; a single flipped bit always changes a ones' complement sum. Bits of the Ethernet
//! header (another receiver), of the IP header (a short packet), of the padding (nobody would notice) and of packets
//! without such a checksum (ARP) are left alone.
//!
//! Caveats: losses are independent of each other, there are no bursts; the rate counts Ethernet frames without preamble,
//! checksum and gap. UDP over IPv4 may go without a checksum, and then a flipped bit arrives: Linux always sends one,
//! unless the program turned it off.
use rand::{Rng as _, RngExt as _};
use splitbrain_core::seed::Rng;
use splitbrain_core::{Nanos, Shape};

/// Longest wait for a slow link's wire. A frame that would wait longer is dropped; a frame that finds the wire idle is
/// always taken, however long it takes to send.
pub const MAX_BACKLOG: Nanos = Nanos::secs(1);
/// Most frames that one link delays at a time.
pub const MAX_QUEUED_FRAMES: u64 = 10_000;
/// Most bytes that one link delays at a time.
pub const MAX_QUEUED_BYTES: u64 = 16 << 20;

/// One direction of a link: its shape, its chance, and the wire's next free instant.
pub struct Pipe {
    shape: Shape,
    /// For tests: the shape is noted and does nothing.
    ignores: bool,
    rng: Rng,
    free_at: Nanos,
}

/// One copy of a frame that gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// When it leaves the link; not before the time it was decided at.
    pub at: Nanos,
    /// A random number that picks the bit to flip, if the copy is corrupted.
    pub flip: Option<u64>,
    /// It skipped the delay.
    pub early: bool,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Dropped by chance.
    Lost,
    /// Not lost; `None` is a copy that found the slow link's buffer full. A second copy exists if it was duplicated.
    Passed {
        /// The frame itself.
        first: Option<Copy>,
        /// Its duplicate: outer `None` if there is none.
        second: Option<Option<Copy>>,
    },
}

impl Pipe {
    /// A clean link with its own stream of chance.
    pub fn new(rng: Rng) -> Pipe {
        Pipe {
            shape: Shape::default(),
            ignores: false,
            rng,
            free_at: Nanos::ZERO,
        }
    }

    /// What it does to frames at present.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Takes another shape. The wire is idle afterwards: what the old rate held up does not hold up the new one.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        self.idle();
    }

    /// Is like a clean link from now on, whatever shape it says that it has.
    pub fn ignore_shape(&mut self) {
        self.ignores = true;
    }

    /// Forgets what the wire has yet to send.
    pub fn idle(&mut self) {
        self.free_at = Nanos::ZERO;
    }

    /// Decides about a frame of `len` bytes that enters the link at `now`.
    pub fn decide(&mut self, now: Nanos, len: usize) -> Fate {
        if self.ignores || self.shape == Shape::default() {
            let first = Some(Copy {
                at: now,
                flip: None,
                early: false,
            });
            return Fate::Passed { first, second: None };
        }
        if self.chance(self.shape.loss_ppm) {
            return Fate::Lost;
        }
        let twice = self.chance(self.shape.duplicate_ppm);
        let first = self.copy(now, len);
        let second = twice.then(|| self.copy(now, len));
        Fate::Passed { first, second }
    }

    fn copy(&mut self, now: Nanos, len: usize) -> Option<Copy> {
        let sent = self.wire(now, len)?;
        let flip = self.chance(self.shape.corrupt_ppm).then(|| self.rng.next_u64());
        let early = self.chance(self.shape.reorder_ppm);
        let at = if early { sent } else { sent + self.delay() };
        Some(Copy { at, flip, early })
    }

    /// When the wire has sent the frame, or `None` if its turn would come too late.
    fn wire(&mut self, now: Nanos, len: usize) -> Option<Nanos> {
        let rate = u128::from(self.shape.rate);
        if rate == 0 {
            return Some(now);
        }
        let start = self.free_at.max(now);
        if start - now > MAX_BACKLOG {
            return None;
        }
        let span = (len as u128 * 1_000_000_000).div_ceil(rate);
        self.free_at = start + Nanos(u64::try_from(span).unwrap_or(u64::MAX));
        Some(self.free_at)
    }

    fn delay(&mut self) -> Nanos {
        let Shape { delay, jitter, .. } = self.shape;
        if jitter == Nanos::ZERO {
            return delay;
        }
        Nanos(self.rng.random_range((delay - jitter).0..=(delay + jitter).0))
    }

    fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.rng.random_range(0..1_000_000) < ppm
    }
}

/// The byte and the mask that flip one bit behind a packet's IP header, chosen by `random`; `None` if there is no bit that
/// a checksum covers. Padding behind the packet is left alone.
pub fn bit_to_flip(packet: &[u8], random: u64) -> Option<(usize, u8)> {
    let be16 = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *packet.get(at)?,
            *packet.get(at + 1)?,
        ])))
    };
    let (header, total) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 0x0f) * 4, be16(2)?),
        6 => (40, 40 + be16(4)?),
        _ => return None,
    };
    let bytes = total.min(packet.len()).checked_sub(header).filter(|n| *n > 0)?;
    let bit = random % (bytes as u64 * 8);
    Some((header + (bit / 8) as usize, 1 << (bit % 8)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::seed::stream;

    const SEED: u64 = 7;
    const N: usize = 10_000;

    fn pipe(shape: Shape) -> Pipe {
        let mut pipe = Pipe::new(stream(SEED, "test"));
        pipe.reshape(shape);
        pipe
    }

    /// The fates of `N` frames of 100 bytes, one each millisecond.
    fn fates(shape: Shape) -> Vec<(Nanos, Fate)> {
        let mut pipe = pipe(shape);
        let at = |i: usize| Nanos::millis(i as u64);
        (0..N).map(|i| (at(i), pipe.decide(at(i), 100))).collect()
    }

    fn firsts(fates: &[(Nanos, Fate)]) -> impl Iterator<Item = (Nanos, Copy)> + '_ {
        fates.iter().filter_map(|(now, fate)| match fate {
            Fate::Passed { first: Some(c), .. } => Some((*now, *c)),
            _ => None,
        })
    }

    /// `count` of `N` is what `ppm` promises, within four standard deviations.
    #[track_caller]
    fn check_share(count: usize, ppm: u32) {
        let p = f64::from(ppm) / 1e6;
        let (mean, dev) = (N as f64 * p, (N as f64 * p * (1.0 - p)).sqrt());
        assert!(
            (count as f64 - mean).abs() <= 4.0 * dev,
            "{count} of {N}, {mean} expected, seed {SEED}"
        );
    }

    #[test]
    fn a_clean_link_passes_everything_at_once() {
        for (now, fate) in fates(Shape::default()) {
            let first = Some(Copy {
                at: now,
                flip: None,
                early: false,
            });
            assert_eq!(fate, Fate::Passed { first, second: None });
        }
    }

    #[test]
    fn loss_duplication_corruption_and_reordering_come_as_often_as_asked() {
        for ppm in [1_000, 100_000, 500_000] {
            let loss = fates(Shape {
                loss_ppm: ppm,
                ..Shape::default()
            });
            check_share(loss.iter().filter(|(_, f)| *f == Fate::Lost).count(), ppm);
            let twice = fates(Shape {
                duplicate_ppm: ppm,
                ..Shape::default()
            });
            let is_twice = |f: &Fate| {
                matches!(
                    f,
                    Fate::Passed {
                        second: Some(Some(_)),
                        ..
                    }
                )
            };
            check_share(twice.iter().filter(|(_, f)| is_twice(f)).count(), ppm);
            let corrupt = fates(Shape {
                corrupt_ppm: ppm,
                ..Shape::default()
            });
            check_share(firsts(&corrupt).filter(|(_, c)| c.flip.is_some()).count(), ppm);
            let early = fates(Shape {
                reorder_ppm: ppm,
                delay: Nanos::millis(9),
                ..Shape::default()
            });
            check_share(firsts(&early).filter(|(now, c)| c.early && c.at == *now).count(), ppm);
        }
    }

    #[test]
    fn always_is_always() {
        let lost = fates(Shape {
            loss_ppm: 1_000_000,
            ..Shape::default()
        });
        assert!(lost.iter().all(|(_, f)| *f == Fate::Lost));
    }

    #[test]
    fn jitter_is_uniform_around_the_delay() {
        let (delay, jitter) = (Nanos::millis(50), Nanos::millis(10));
        let all = fates(Shape {
            delay,
            jitter,
            ..Shape::default()
        });
        let spans: Vec<u64> = firsts(&all).map(|(now, c)| (c.at - now).0).collect();
        assert_eq!(spans.len(), N);
        assert!(spans.iter().all(|s| (40_000_000..=60_000_000).contains(s)));
        check_share(spans.iter().filter(|s| **s < 45_000_000).count(), 250_000);
        check_share(spans.iter().filter(|s| **s >= 55_000_000).count(), 250_000);
    }

    #[test]
    fn jitter_above_the_delay_never_turns_time_back() {
        let all = fates(Shape {
            delay: Nanos::millis(1),
            jitter: Nanos::millis(5),
            ..Shape::default()
        });
        assert!(firsts(&all).all(|(now, c)| now <= c.at && c.at <= now + Nanos::millis(6)));
    }

    #[test]
    fn a_rate_sends_one_frame_after_the_other_and_drops_a_long_backlog() {
        let mut pipe = pipe(Shape {
            rate: 1_000,
            delay: Nanos::millis(5),
            ..Shape::default()
        });
        let mut at = |now| match pipe.decide(now, 100) {
            Fate::Passed { first, second: None } => first.map(|c| c.at),
            other => panic!("{other:?}"),
        };
        // 100 bytes take 100 ms; eleven frames fit while the wait is at most a second.
        for i in 1..=11 {
            assert_eq!(at(Nanos::ZERO), Some(Nanos::millis(100 * i + 5)));
        }
        assert_eq!(at(Nanos::ZERO), None);
        assert_eq!(at(Nanos::millis(100)), Some(Nanos::millis(1205)));
        assert_eq!(
            at(Nanos::secs(9)),
            Some(Nanos::millis(9105)),
            "an idle wire saves nothing up"
        );
    }

    #[test]
    fn a_frame_that_takes_long_still_passes_an_idle_wire() {
        let mut pipe = pipe(Shape {
            rate: 10,
            ..Shape::default()
        });
        let Fate::Passed { first: Some(c), .. } = pipe.decide(Nanos::ZERO, 1000) else {
            panic!("dropped")
        };
        assert_eq!(c.at, Nanos::secs(100));
    }

    #[test]
    fn one_seed_gives_one_list_of_fates() {
        let shape = Shape {
            delay: Nanos::millis(3),
            jitter: Nanos::millis(2),
            loss_ppm: 50_000,
            duplicate_ppm: 50_000,
            reorder_ppm: 50_000,
            corrupt_ppm: 50_000,
            rate: 1 << 20,
        };
        assert_eq!(fates(shape), fates(shape));
    }
}
