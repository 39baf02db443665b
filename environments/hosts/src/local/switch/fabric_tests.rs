//! The fabric as a whole: one fake clock, one list of what came out.
use super::*;
use crate::local::switch::frame::HEADER;

const SEED: u64 = 11;

fn name(i: usize) -> Name {
    Name::numbered("n", i)
}

fn link(src: usize, dst: usize) -> Link {
    Link {
        src: name(src),
        dst: name(dst),
    }
}

fn mac(i: usize) -> Mac {
    [2, 0, 0, 0, 0, i as u8]
}

/// A UDP-like frame of 100 bytes from one host to another (0 is everybody), with a tag at the end.
fn frame(dst: usize, tag: u8) -> Vec<u8> {
    let mut f = vec![0; HEADER + 86];
    f[..6].copy_from_slice(&if dst == 0 { [0xff; 6] } else { mac(dst) });
    f[12..18].copy_from_slice(&[0x08, 0x00, 0x45, 0, 0, 86]);
    *f.last_mut().unwrap() = tag;
    f
}

/// Three hosts n1 to n3 at ports 0 to 2, and what came out: (time, host, tag).
struct Net {
    fabric: Fabric,
    now: Nanos,
    out: Vec<(Nanos, usize, u8)>,
    frames: Vec<Vec<u8>>,
}

impl Net {
    fn new() -> Net {
        let ports: Vec<(Name, Mac)> = (1..=3).map(|i| (name(i), mac(i))).collect();
        Net {
            fabric: Fabric::new(&ports, SEED).unwrap(),
            now: Nanos::ZERO,
            out: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn send(&mut self, src: usize, dst: usize, tag: u8) {
        let (now, mut sent) = (self.now, frame(dst, tag));
        let (out, frames) = (&mut self.out, &mut self.frames);
        let mut emit = |port: usize, f: &[u8]| {
            out.push((now, port + 1, *f.last().unwrap()));
            frames.push(f.to_vec());
            true
        };
        self.fabric.frame(now, src - 1, &mut sent, &mut emit);
        assert_eq!(sent, frame(dst, tag), "a frame is handed back as it was");
    }

    /// Lets the time pass, releasing each frame when it is due.
    fn run_until(&mut self, until: Nanos) {
        while let Some(at) = self.fabric.deadline().filter(|at| *at <= until) {
            let (now, out, frames) = (at.max(self.now), &mut self.out, &mut self.frames);
            let mut emit = |port: usize, f: &[u8]| {
                out.push((now, port + 1, *f.last().unwrap()));
                frames.push(f.to_vec());
                true
            };
            self.fabric.release(now, &mut emit);
        }
        self.now = until;
    }

    fn shape(&mut self, src: usize, dst: usize, shape: Shape) {
        self.fabric.shape(self.now, &[link(src, dst)], shape).unwrap();
    }

    #[track_caller]
    fn counters(&self, src: usize, dst: usize) -> Counters {
        let c = self.fabric.link_state(link(src, dst)).unwrap().2;
        let ends = c.carried + c.blocked + c.lost + c.overflowed + c.refused + c.queued;
        assert_eq!(c.offered + c.duplicated, ends, "every frame is accounted for: {c:?}");
        c
    }
}

fn delay(ms: u64) -> Shape {
    Shape {
        delay: Nanos::millis(ms),
        ..Shape::default()
    }
}

#[test]
fn a_frame_goes_to_its_receiver_and_a_broadcast_to_all_others() {
    let mut net = Net::new();
    net.send(1, 2, 7);
    net.send(2, 0, 8);
    assert_eq!(net.out, [(Nanos(0), 2, 7), (Nanos(0), 1, 8), (Nanos(0), 3, 8)]);
    assert_eq!(net.counters(1, 2).carried_bytes, 100);
    assert_eq!(net.counters(2, 3).offered, 1);
}

#[test]
fn what_is_for_nobody_is_a_stray() {
    let mut net = Net::new();
    net.send(1, 9, 0);
    net.send(1, 1, 0);
    net.fabric
        .frame(Nanos::ZERO, 0, &mut [0xff; 5], &mut |_: usize, _: &[u8]| true);
    assert_eq!((net.out.len(), net.fabric.strays()), (0, 3));
}

#[test]
fn a_block_drops_one_direction_broadcasts_included_and_its_queue() {
    let mut net = Net::new();
    net.shape(1, 2, delay(50));
    net.shape(2, 1, delay(50));
    net.send(1, 2, 1);
    net.send(2, 1, 2);
    net.fabric.block(&[link(1, 2)]).unwrap();
    net.send(1, 2, 3);
    net.send(1, 0, 4);
    net.fabric.unblock(&[link(1, 2)]).unwrap();
    net.send(1, 2, 5);
    net.run_until(Nanos::secs(1));
    let at = Nanos::millis(50);
    assert_eq!(net.out, [(Nanos(0), 3, 4), (at, 1, 2), (at, 2, 5)]);
    let c = net.counters(1, 2);
    assert_eq!((c.blocked, c.carried, c.queued), (3, 1, 0));
}

#[test]
fn a_block_leaves_nothing_of_a_slow_link_s_backlog() {
    let mut net = Net::new();
    net.shape(
        1,
        2,
        Shape {
            rate: 1_000,
            ..Shape::default()
        },
    );
    for tag in 0..9 {
        net.send(1, 2, tag);
    }
    net.fabric.block(&[link(1, 2)]).unwrap();
    net.fabric.unblock(&[link(1, 2)]).unwrap();
    net.send(1, 2, 9);
    net.run_until(Nanos::secs(9));
    assert_eq!(net.out, [(Nanos::millis(100), 2, 9)]);
}

#[test]
fn a_delay_holds_frames_back_in_order() {
    let mut net = Net::new();
    net.shape(1, 2, delay(50));
    for tag in 0..3 {
        net.send(1, 2, tag);
    }
    net.run_until(Nanos::millis(10));
    net.send(1, 2, 3);
    net.send(2, 1, 9);
    assert_eq!(net.counters(1, 2).queued, 4);
    net.run_until(Nanos::secs(1));
    let (ten, fifty, sixty) = (Nanos::millis(10), Nanos::millis(50), Nanos::millis(60));
    assert_eq!(
        net.out,
        [(ten, 1, 9), (fifty, 2, 0), (fifty, 2, 1), (fifty, 2, 2), (sixty, 2, 3)]
    );
    assert_eq!(net.counters(1, 2).delayed, 4);
}

#[test]
fn after_a_healing_nothing_is_late_any_more() {
    let mut net = Net::new();
    net.shape(1, 2, delay(5000));
    net.shape(1, 3, delay(5000));
    net.send(1, 2, 1);
    net.send(1, 2, 2);
    net.send(1, 3, 3);
    net.run_until(Nanos::millis(10));
    net.shape(1, 2, Shape::default());
    net.run_until(net.now);
    net.send(1, 2, 4);
    net.run_until(Nanos::secs(9));
    let (ten, five) = (Nanos::millis(10), Nanos::secs(5));
    assert_eq!(net.out, [(ten, 2, 1), (ten, 2, 2), (ten, 2, 4), (five, 3, 3)]);
}

#[test]
fn the_same_shape_again_changes_nothing() {
    let mut net = Net::new();
    let slow = Shape {
        rate: 100,
        ..Shape::default()
    };
    net.shape(1, 2, slow);
    net.send(1, 2, 1);
    net.run_until(Nanos::millis(500));
    net.shape(1, 2, slow);
    net.send(1, 2, 2);
    net.run_until(Nanos::secs(9));
    assert_eq!(net.out, [(Nanos::secs(1), 2, 1), (Nanos::secs(2), 2, 2)]);
}

#[test]
fn a_full_queue_drops_the_tail() {
    let mut net = Net::new();
    net.shape(1, 2, delay(50));
    for _ in 0..MAX_QUEUED_FRAMES + 5 {
        net.send(1, 2, 0);
    }
    assert_eq!(net.counters(1, 2).overflowed, 5);
    net.run_until(Nanos::secs(1));
    assert_eq!(net.counters(1, 2).carried, MAX_QUEUED_FRAMES);
}

#[test]
fn a_full_queue_is_full_in_bytes_too() {
    let mut net = Net::new();
    net.shape(1, 2, delay(50));
    let mut big = vec![0; 60_000];
    big[..6].copy_from_slice(&mac(2));
    for _ in 0..300 {
        net.fabric
            .frame(Nanos::ZERO, 0, &mut big, &mut |_: usize, _: &[u8]| true);
    }
    assert_eq!(net.counters(1, 2).queued, MAX_QUEUED_BYTES / 60_000);
}

#[test]
fn a_corrupted_frame_differs_in_one_bit_behind_the_ip_header() {
    let mut net = Net::new();
    net.shape(
        1,
        2,
        Shape {
            corrupt_ppm: 1_000_000,
            ..Shape::default()
        },
    );
    for _ in 0..200 {
        net.send(1, 2, 0);
    }
    for f in &net.frames {
        let diff: Vec<usize> = (0..f.len()).filter(|i| f[*i] != frame(2, 0)[*i]).collect();
        assert!(diff.len() == 1 && diff[0] >= HEADER + 20, "seed {SEED}: {diff:?}");
        assert_eq!((f[diff[0]] ^ frame(2, 0)[diff[0]]).count_ones(), 1);
    }
    assert_eq!(net.counters(1, 2).corrupted, 200);
}

#[test]
fn a_flood_is_corrupted_only_on_the_link_that_corrupts() {
    let mut net = Net::new();
    net.shape(
        1,
        2,
        Shape {
            corrupt_ppm: 1_000_000,
            ..Shape::default()
        },
    );
    net.send(1, 0, 0);
    assert_ne!(net.frames[0], frame(0, 0));
    assert_eq!(net.frames[1], frame(0, 0));
}

#[test]
fn everything_at_once_is_accounted_for_and_repeats() {
    let shape = Shape {
        delay: Nanos::millis(3),
        jitter: Nanos::millis(2),
        loss_ppm: 100_000,
        duplicate_ppm: 100_000,
        reorder_ppm: 100_000,
        corrupt_ppm: 100_000,
        rate: 50_000,
    };
    let run = || {
        let mut net = Net::new();
        net.shape(1, 2, shape);
        for i in 0..5_000 {
            net.run_until(Nanos::micros(100 * i));
            net.send(1, 2, i as u8);
            if i % 1000 == 500 {
                net.fabric.block(&[link(1, 2)]).unwrap();
            }
            if i % 1000 == 700 {
                net.fabric.unblock(&[link(1, 2)]).unwrap();
            }
        }
        let early = net.counters(1, 2);
        net.run_until(Nanos::secs(60));
        (early, net.counters(1, 2), net.out)
    };
    let (early, c, out) = run();
    assert!(early.queued > 0 && c.queued == 0);
    let kinds = [
        c.blocked,
        c.lost,
        c.overflowed,
        c.duplicated,
        c.corrupted,
        c.reordered,
        c.delayed,
    ];
    assert!(kinds.iter().all(|n| *n > 0), "seed {SEED}: {c:?}");
    assert_eq!(out.len() as u64, c.carried);
    assert!(out.is_sorted_by_key(|(at, _, _)| *at));
    assert_eq!(run(), (early, c, out));
}

#[test]
fn a_port_that_takes_nothing_is_counted() {
    let mut net = Net::new();
    net.fabric
        .frame(Nanos::ZERO, 0, &mut frame(2, 0), &mut |_: usize, _: &[u8]| false);
    let c = net.counters(1, 2);
    assert_eq!((c.refused, c.carried, c.carried_bytes), (1, 0, 0));
}

#[test]
fn unknown_links_are_refused_as_a_whole() {
    let mut net = Net::new();
    let err = net.fabric.block(&[link(1, 2), link(1, 4)]).unwrap_err();
    assert_eq!(err.to_string(), "n1>n4 is no link of this network");
    assert!(net.fabric.link_state(link(1, 1)).is_err());
    net.send(1, 2, 1);
    assert_eq!(net.out.len(), 1, "nothing was blocked");
    assert!(Fabric::new(&[(name(1), mac(1)), (name(2), mac(1))], 0).is_err());
}
