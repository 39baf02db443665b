use super::*;

const N1: &str = "n1";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// An IPv4 packet from 10.0.0.`src`, with `payload` bytes.
fn packet(src: u8, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; 20 + payload];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(20 + payload as u16).to_be_bytes());
    bytes[12..16].copy_from_slice(&[10, 0, 0, src]);
    bytes[16..20].copy_from_slice(&[10, 0, 0, 9]);
    bytes
}

/// Lanes of n1 (10.0.0.1) and n2 (10.0.0.2), n1's in this shape.
fn lanes(shape: Shape) -> Lanes {
    let mut lanes = Lanes::new(7);
    let owner = |n: u8| (IpAddr::from([10, 0, 0, n]), name(&format!("n{n}")));
    lanes.owners([owner(1), owner(2)].into());
    lanes.shape(Nanos::ZERO, &[name(N1)], shape);
    lanes
}

fn put(lanes: &mut Lanes, now: Nanos, id: u32, bytes: &[u8]) -> Vec<Out> {
    let mut outs = Vec::new();
    lanes.packet(now, id, bytes, &mut |out| outs.push(out));
    outs
}

fn release(lanes: &mut Lanes, now: Nanos) -> Vec<Out> {
    let mut outs = Vec::new();
    lanes.release(now, &mut |out| outs.push(out));
    outs
}

fn delay(millis: u64) -> Shape {
    Shape {
        delay: Nanos::millis(millis),
        ..Shape::default()
    }
}

#[test]
fn a_delayed_packet_is_accepted_when_its_time_has_come_and_others_at_once() {
    let mut lanes = lanes(delay(30));
    assert_eq!(put(&mut lanes, Nanos::ZERO, 1, &packet(1, 8)), []);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 2, &packet(2, 8)), [Out::Accept(2, None)]);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 3, &packet(3, 8)), [Out::Accept(3, None)]);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 4, b"no packet"), [Out::Accept(4, None)]);
    assert_eq!(lanes.deadline(), Some(Nanos::millis(30)));
    assert_eq!(release(&mut lanes, Nanos::millis(29)), []);
    assert_eq!(release(&mut lanes, Nanos::millis(30)), [Out::Accept(1, None)]);
    assert_eq!(lanes.deadline(), None);
}

#[test]
fn a_cut_drops_what_is_held_and_what_comes() {
    let mut lanes = lanes(delay(30));
    put(&mut lanes, Nanos::ZERO, 1, &packet(1, 8));
    let mut outs = Vec::new();
    lanes.cut(&[name(N1)], &mut |out| outs.push(out));
    assert_eq!(outs, [Out::Drop(1)]);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 2, &packet(1, 8)), [Out::Drop(2)]);
    lanes.carry(&[name(N1)]);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 3, &packet(1, 8)), []);
    assert_eq!(release(&mut lanes, Nanos::secs(1)), [Out::Accept(3, None)]);
}

#[test]
fn a_new_shape_shortens_the_wait_and_the_old_one_changes_nothing() {
    let mut lanes = lanes(delay(3_600_000));
    put(&mut lanes, Nanos::ZERO, 1, &packet(1, 8));
    lanes.shape(Nanos::secs(1), &[name(N1)], delay(3_600_000));
    assert_eq!(lanes.deadline(), Some(Nanos::secs(3600)));
    lanes.shape(Nanos::secs(1), &[name("n2")], Shape::default());
    assert_eq!(lanes.deadline(), Some(Nanos::secs(3600)));
    lanes.shape(Nanos::secs(1), &[name(N1)], Shape::default());
    assert_eq!(release(&mut lanes, Nanos::secs(1)), [Out::Accept(1, None)]);
}

#[test]
fn a_duplicate_is_put_in_again_with_the_same_bytes() {
    let mut lanes = lanes(Shape {
        duplicate_ppm: 1_000_000,
        ..Shape::default()
    });
    let bytes = packet(1, 8);
    let both = [Out::Accept(1, None), Out::Again(bytes.clone())];
    assert_eq!(put(&mut lanes, Nanos::ZERO, 1, &bytes), both);
    let mut group = bytes;
    group[16..20].copy_from_slice(&[224, 0, 0, 1]);
    assert_eq!(put(&mut lanes, Nanos::ZERO, 2, &group), [Out::Accept(2, None)]);
}

#[test]
fn a_corrupted_packet_goes_on_with_one_bit_flipped_behind_its_header() {
    let mut lanes = lanes(Shape {
        corrupt_ppm: 1_000_000,
        ..Shape::default()
    });
    let bytes = packet(1, 100);
    for id in 0..200 {
        let outs = put(&mut lanes, Nanos::ZERO, id, &bytes);
        let [Out::Accept(own, Some(flipped))] = &outs[..] else {
            panic!("{outs:?}")
        };
        let bits: u32 = bytes.iter().zip(flipped).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((*own, bits, &flipped[..20]), (id, 1, &bytes[..20]));
    }
}

#[test]
fn what_is_lost_is_dropped() {
    let mut lanes = lanes(Shape {
        loss_ppm: 1_000_000,
        ..Shape::default()
    });
    assert_eq!(put(&mut lanes, Nanos::ZERO, 1, &packet(1, 8)), [Out::Drop(1)]);
}

#[test]
fn a_lane_holds_no_more_than_it_may() {
    let mut lanes = lanes(delay(30));
    let bytes = packet(1, 8);
    for id in 0..MAX_QUEUED_FRAMES as u32 {
        assert_eq!(put(&mut lanes, Nanos::ZERO, id, &bytes), []);
    }
    assert_eq!(put(&mut lanes, Nanos::ZERO, 77, &bytes), [Out::Drop(77)]);
    assert_eq!(release(&mut lanes, Nanos::secs(1)).len(), MAX_QUEUED_FRAMES as usize);
    assert_eq!(put(&mut lanes, Nanos::secs(1), 78, &bytes), []);
}

#[test]
fn addresses_are_read_from_both_families() {
    let mut v6 = vec![0; 48];
    v6[0] = 0x60;
    v6[23] = 1;
    v6[39] = 2;
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(addresses(&v6), Some((ip("::1"), ip("::2"))));
    assert_eq!(addresses(&packet(3, 0)), Some((ip("10.0.0.3"), ip("10.0.0.9"))));
    for cut in 0..40 {
        assert_eq!(addresses(&v6[..cut]), None);
    }
}
