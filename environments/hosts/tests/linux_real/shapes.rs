//! Shapes: a queue at the receiver, and what is refused where netem cannot be had.
use super::Case;
use super::rig::{Ends, Net, PATIENCE, burst, echo, round_trips, tcp};
use splitbrain_core::{Nanos, Shape};
use splitbrain_environments::Sabotage;
use splitbrain_environments::linux::{Probes, Wire, raw_now};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub const ALL: &[Case] = &[
    ("a delay is added in each direction", delay),
    ("jitter stays within its bounds", jitter),
    ("loss loses the asked share", loss),
    ("duplicates arrive twice, over IPv6 too", duplicates),
    ("reordered probes overtake", reordering),
    ("a corrupted probe fails its checksum", corruption),
    ("a rate is kept", rate),
    ("TCP comes through everything at once", tcp_rough),
    ("TCP is as fast as a delay lets it", tcp_fast),
    ("a block drops and counts what would be delayed", block),
    ("after a healing nothing is late any more", healed),
    ("a shape that does nothing is seen to do nothing", sabotage),
    ("a queue that dies closes its links and is noticed", death),
    ("what a crash left of a shape is removed, and nothing else", crash),
];

fn shaped(net: &Net, wire: &mut Wire, at: usize, from: usize, shape: Shape) {
    let name = net.hosts[from].name;
    net.hosts[at].inside(|| wire.shape_in(&[name], shape).expect("a shape"));
}

fn pair() -> (Net, Wire, Wire) {
    let net = Net::new(2);
    let (n1, n2) = (net.wire(0, None), net.wire(1, None));
    (net, n1, n2)
}

/// Sends `count` probes to n2 and takes what comes until `enough`. By serial, when each left and when it came.
#[track_caller]
pub fn wave(
    net: &Net,
    (n1, n2): (&mut Wire, &mut Wire),
    (count, payload): (u32, u32),
    enough: impl Fn(&Probes) -> bool,
) -> (BTreeMap<u64, Nanos>, Probes) {
    let sent = net.hosts[0].inside(|| n1.probe(&[burst(net.hosts[1].name, count, payload)]).expect("probes"));
    let (start, mut all) = (Instant::now(), Probes::default());
    while !enough(&all) {
        assert!(
            start.elapsed() < PATIENCE,
            "of {count} probes {} came: {all:?}",
            all.came.len()
        );
        let seen = net.hosts[1].inside(|| n2.probes().expect("probes"));
        all.came.extend(seen.came);
        (all.dropped, all.damaged) = (seen.dropped, seen.damaged);
    }
    (sent.into_iter().collect(), all)
}

pub fn millis(n: u64) -> Nanos {
    Nanos::millis(n)
}

fn delay() {
    let (net, mut n1, mut n2) = pair();
    let shape = Shape {
        delay: millis(30),
        ..Shape::default()
    };
    let clean = round_trips(&net, 20);
    shaped(&net, &mut n2, 1, 0, shape);
    let one_way = round_trips(&net, 10);
    shaped(&net, &mut n1, 0, 1, shape);
    let rtts = round_trips(&net, 20);
    println!(
        "   RTT clean {:?}, with 30 ms one way {:?}, both ways {:?} (median; most {:?})",
        clean[10], one_way[5], rtts[10], rtts[19]
    );
    assert!(one_way[0] >= Duration::from_millis(30) && rtts[0] >= Duration::from_millis(60));
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (50, 16), |seen| seen.came.len() == 50);
    assert!(seen.came.iter().all(|a| a.raw - sent[&a.serial] >= millis(30)));
}

fn jitter() {
    let (net, mut n1, mut n2) = pair();
    let shape = Shape {
        delay: millis(20),
        jitter: millis(10),
        ..Shape::default()
    };
    shaped(&net, &mut n2, 1, 0, shape);
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (200, 16), |seen| seen.came.len() == 200);
    let flights: Vec<Nanos> = seen.came.iter().map(|a| a.raw - sent[&a.serial]).collect();
    assert!(flights.iter().all(|flight| *flight >= millis(10)));
    let serials: Vec<u64> = seen.came.iter().map(|a| a.serial).collect();
    assert!(!serials.is_sorted(), "some overtook: {flights:?}");
}

/// `count` of `of` is what `ppm` promises, within six standard deviations; the seed is fixed, what is lost to it is not.
#[track_caller]
fn check_share(count: usize, of: usize, ppm: u32) {
    let p = f64::from(ppm) / 1e6;
    let (mean, dev) = (of as f64 * p, (of as f64 * p * (1.0 - p)).sqrt());
    assert!(
        (count as f64 - mean).abs() <= 6.0 * dev,
        "{count} of {of}, {mean} expected"
    );
}

fn loss() {
    let (net, mut n1, mut n2) = pair();
    shaped(&net, &mut n2, 1, 0, part(250_000));
    let (sent, mut seen) = wave(&net, (&mut n1, &mut n2), (1000, 16), |_| true);
    // All come in order: once a later one is there, the fate of all before it is known.
    let later = |seen: &Probes| seen.came.iter().any(|a| !sent.contains_key(&a.serial));
    let start = Instant::now();
    while !later(&seen) {
        assert!(start.elapsed() < PATIENCE, "{} came", seen.came.len());
        let (_, more) = wave(&net, (&mut n1, &mut n2), (1, 16), |_| true);
        seen.came.extend(more.came);
        seen.came.extend(net.hosts[1].inside(|| n2.probes().unwrap()).came);
    }
    let came = seen.came.iter().filter(|a| sent.contains_key(&a.serial)).count();
    check_share(1000 - came, 1000, 250_000);
}

fn part(loss_ppm: u32) -> Shape {
    Shape {
        loss_ppm,
        ..Shape::default()
    }
}

fn duplicates() {
    let (net, mut n1, mut n2) = pair();
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            duplicate_ppm: 1_000_000,
            delay: millis(1),
            ..Shape::default()
        },
    );
    for v6 in [false, true] {
        if v6 {
            let mut peers = net.peers_of(0);
            peers.values_mut().for_each(|addresses| addresses.reverse());
            net.hosts[0].inside(|| n1.peers(&peers).unwrap());
        }
        let (sent, seen) = wave(&net, (&mut n1, &mut n2), (50, 16), |seen| seen.came.len() == 100);
        assert!(
            sent.keys()
                .all(|serial| seen.came.iter().filter(|a| a.serial == *serial).count() == 2)
        );
    }
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            duplicate_ppm: 200_000,
            ..Shape::default()
        },
    );
    let (_, seen) = wave(&net, (&mut n1, &mut n2), (500, 16), |seen| seen.came.len() > 500);
    assert!(seen.came.len() < 1000);
}

fn reordering() {
    let (net, mut n1, mut n2) = pair();
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: millis(20),
            reorder_ppm: 300_000,
            ..Shape::default()
        },
    );
    let (_, seen) = wave(&net, (&mut n1, &mut n2), (100, 16), |seen| seen.came.len() == 100);
    let serials: Vec<u64> = seen.came.iter().map(|a| a.serial).collect();
    assert!(!serials.is_sorted(), "{serials:?}");
}

fn corruption() {
    let (net, mut n1, mut n2) = pair();
    let before = net.hosts[1].inside(|| n2.probes().unwrap()).damaged;
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            corrupt_ppm: 500_000,
            ..Shape::default()
        },
    );
    // A flipped bit of the length loses the probe elsewhere.
    let whole = |seen: &Probes| seen.came.len() as u64 + seen.damaged - before;
    let (_, seen) = wave(&net, (&mut n1, &mut n2), (200, 1000), |seen| whole(seen) > 195);
    assert!(
        seen.came.len() < 150 && seen.damaged - before > 50,
        "{} came, {} damaged",
        seen.came.len(),
        seen.damaged - before
    );
}

fn rate() {
    let (net, mut n1, mut n2) = pair();
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            rate: 1_000_000,
            ..Shape::default()
        },
    );
    let start = raw_now();
    // 50 frames of 1042 bytes at 1 MB/s.
    let (_, seen) = wave(&net, (&mut n1, &mut n2), (50, 1000), |seen| seen.came.len() == 50);
    let span = seen.came.iter().map(|a| a.raw).max().unwrap() - start;
    println!("   52100 bytes at 1 MB/s took {span}");
    assert!(span >= Nanos::micros(52_100));
}

fn tcp_rough() {
    let (net, mut n1, mut n2) = pair();
    let shape = Shape {
        delay: millis(2),
        jitter: millis(1),
        loss_ppm: 10_000,
        duplicate_ppm: 50_000,
        reorder_ppm: 20_000,
        corrupt_ppm: 10_000,
        rate: 0,
    };
    shaped(&net, &mut n2, 1, 0, shape);
    shaped(&net, &mut n1, 0, 1, shape);
    println!(
        "   {} through delay, jitter, loss, duplicates, reordering and corruption",
        tcp(&net, 1 << 20)
    );
}

fn tcp_fast() {
    let (net, mut n1, mut n2) = pair();
    println!("   clean: {}", tcp(&net, 64 << 20));
    for delay in [Nanos::micros(1), millis(30)] {
        let shape = Shape {
            delay,
            ..Shape::default()
        };
        shaped(&net, &mut n2, 1, 0, shape);
        println!("   {delay} one way: {}", tcp(&net, 64 << 20));
        shaped(&net, &mut n1, 0, 1, shape);
        println!("   {delay} both ways: {}", tcp(&net, 64 << 20));
        shaped(&net, &mut n1, 0, 1, Shape::default());
    }
    assert!(!net.hosts[0].rules().contains("SPLITBRAIN"));
}

fn block() {
    let (net, mut n1, mut n2) = pair();
    let name = net.hosts[0].name;
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: Nanos::secs(3600),
            ..Shape::default()
        },
    );
    net.hosts[0].inside(|| n1.probe(&[burst(net.hosts[1].name, 20, 16)]).unwrap());
    net.hosts[1].inside(|| n2.block(&[name]).unwrap());
    let ends = Ends {
        net: &net,
        src: 0,
        dst: 1,
    };
    let (seen, _) = ends.until(&mut n1, &mut n2, |seen| seen.dropped.get(&name) > Some(&0));
    assert!(seen.came.is_empty());
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: millis(5),
            ..Shape::default()
        },
    );
    net.hosts[1].inside(|| n2.unblock(&[name]).unwrap());
    // What was held when the block came is gone: the first to arrive is new, and delayed as it is to be.
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (1, 16), |seen| !seen.came.is_empty());
    assert!(seen.came.iter().all(|a| a.raw - sent[&a.serial] >= millis(5)));
}

fn healed() {
    let (net, mut n1, mut n2) = pair();
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: Nanos::secs(3600),
            ..Shape::default()
        },
    );
    net.hosts[0].inside(|| n1.probe(&[burst(net.hosts[1].name, 20, 16)]).unwrap());
    assert_eq!(net.hosts[1].inside(|| n2.probes().unwrap()).came, []);
    shaped(&net, &mut n2, 1, 0, Shape::default());
    wave(&net, (&mut n1, &mut n2), (1, 16), |seen| seen.came.len() == 21);
    assert!(!net.hosts[1].rules().contains("SPLITBRAIN"));
}

fn sabotage() {
    let net = Net::new(2);
    let (mut n1, mut n2) = (net.wire(0, None), net.wire(1, Some(Sabotage::ShapeDoesNothing)));
    let shape = Shape {
        loss_ppm: 1_000_000,
        ..Shape::default()
    };
    shaped(&net, &mut n2, 1, 0, shape);
    net.hosts[1].inside(|| n2.shape_out(&[net.hosts[0].name], shape).unwrap());
    wave(&net, (&mut n1, &mut n2), (1, 16), |seen| !seen.came.is_empty());
    assert_eq!(net.hosts[1].inside(Wire::leftovers), Ok(vec![]));
}

fn death() {
    let (net, mut n1, mut n2) = pair();
    let name = net.hosts[0].name;
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: millis(1),
            ..Shape::default()
        },
    );
    wave(&net, (&mut n1, &mut n2), (1, 16), |seen| !seen.came.is_empty());
    super::rig::take_away_netfilter_sockets();
    net.hosts[0].inside(|| n1.probe(&[burst(net.hosts[1].name, 5, 16)]).unwrap());
    let noticed = "queue 23325 of shaped packets is gone";
    let errors = net.hosts[1].inside(|| {
        [
            n2.probes().map(drop),
            n2.block(&[name]).map(drop),
            n2.shape_in(&[name], Shape::default()).map(drop),
            n2.probe(&[burst(name, 1, 16)]).map(drop),
        ]
    });
    for error in errors {
        let why = error.unwrap_err();
        assert!(why.starts_with(noticed), "{why}");
    }
    drop(n2);
    let mut n2 = net.wire(1, None);
    assert_eq!(
        net.hosts[1].inside(|| n2.probes().unwrap()).came,
        [],
        "the link is closed"
    );
    net.hosts[1].inside(Wire::heal).unwrap();
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (1, 16), |seen| !seen.came.is_empty());
    assert!(
        seen.came.iter().all(|a| sent.contains_key(&a.serial)),
        "what was dropped does not come back"
    );
}

fn crash() {
    let (net, _n1, mut n2) = pair();
    let host = &net.hosts[1];
    host.sh(super::blocks::FIREWALL);
    let before = host.rules();
    shaped(
        &net,
        &mut n2,
        1,
        0,
        Shape {
            delay: millis(1),
            ..Shape::default()
        },
    );
    assert_ne!(host.rules(), before);
    drop(n2);
    let found = host.inside(Wire::leftovers).unwrap();
    assert_eq!(
        found,
        [("iptables", 1), ("ip6tables", 3)]
            .map(|(tool, rules)| [
                format!("{tool} mangle: rule INPUT -j SPLITBRAIN-SHAPE"),
                format!("{tool} mangle: chain SPLITBRAIN-SHAPE with {rules} rules"),
            ])
            .concat()
    );
    assert_eq!(host.inside(Wire::heal), Ok(found));
    assert_eq!(host.rules(), before);
    // Nothing is queued any more.
    echo(&net);
}
