//! What must hold on every link.
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("every host reaches every other", every_host_reaches_every_other),
    ("a broadcast reaches all, except over a blocked link", broadcast),
    ("a block drops one direction and unblock restores it", block),
    ("a block drops what was delayed", block_drops_the_queue),
    ("a delay is added in each direction", delay),
    ("a healed link is late no more", healed),
    ("loss loses the asked share", loss),
    ("duplicates arrive", duplicates),
    ("reordered datagrams overtake", reordering),
    ("a corrupted datagram fails its checksum", corruption),
    ("a rate is kept", rate),
    ("TCP comes through clean links", tcp_clean),
    (
        "TCP comes through links that lose, corrupt, duplicate and reorder",
        tcp_rough,
    ),
    ("the capture holds what was carried", capture),
    ("a host that goes away harms nobody", gone),
    ("a switch that is idle sleeps", idle),
    ("unknown links are refused", unknown_links),
];

fn every_host_reaches_every_other(net: &mut Net) {
    for src in 1..=HOSTS {
        for dst in (1..=HOSTS).filter(|dst| *dst != src) {
            let text = format!("{src} to {dst}");
            let c = net.change(src, dst, || {
                net.send(src, dst, text.as_bytes());
                assert_eq!(net.receive(dst), text.as_bytes());
            });
            // 14 Ethernet + 20 IP + 8 UDP + 6 of text.
            assert_eq!((c.offered, c.carried, c.carried_bytes), (1, 1, 48));
        }
    }
    assert_eq!(net.switch.health().unwrap().strays, 0);
}

fn broadcast(net: &mut Net) {
    let all = SocketAddr::from(([10, 71, 0, 255], 7000));
    net.socket(1).send_to(b"all", all).unwrap();
    assert_eq!((net.receive(2), net.receive(3)), (b"all".to_vec(), b"all".to_vec()));
    net.switch.block(&[link(1, 2)]).unwrap();
    net.socket(1).send_to(b"some", all).unwrap();
    assert_eq!(net.receive(3), b"some");
    assert!(net.arrived(2, 3).is_empty());
    assert_eq!(net.counters(1, 2).blocked, 1);
}

fn block(net: &mut Net) {
    net.switch.block(&[link(1, 2)]).unwrap();
    let there = net.change(1, 2, || (0..10).for_each(|_| net.send(1, 2, b"dropped")));
    assert_eq!((there.blocked, there.carried), (10, 0));
    assert!(net.arrived(2, 3).is_empty(), "nothing comes over the blocked link");
    let back = net.change(2, 1, || net.send(2, 1, b"back"));
    assert_eq!((back.blocked, back.carried), (0, 1), "the other direction carries");
    assert_eq!(net.receive(1), b"back");
    net.send(1, 3, b"other");
    assert_eq!(net.receive(3), b"other", "another link of the same host carries");
    net.switch.block(&[link(1, 2)]).unwrap();
    net.switch.unblock(&[link(1, 2)]).unwrap();
    net.send(1, 2, b"again");
    assert_eq!(
        net.receive(2),
        b"again",
        "one unblock undoes two blocks, and nothing old arrives"
    );
}

fn block_drops_the_queue(net: &mut Net) {
    let delay = "300ms".parse().unwrap();
    net.shape(
        &[link(1, 2)],
        Shape {
            delay,
            ..Shape::default()
        },
    );
    (0..5).for_each(|_| net.send(1, 2, b"waits"));
    assert_eq!(net.counters(1, 2).queued, 5);
    net.switch.block(&[link(1, 2)]).unwrap();
    assert_eq!(net.counters(1, 2).blocked, 5);
    net.switch.unblock(&[link(1, 2)]).unwrap();
    net.send(1, 2, b"new");
    assert_eq!(net.receive(2), b"new");
}

fn delay(net: &mut Net) {
    let delay = "50ms".parse().unwrap();
    net.shape(
        &[link(1, 2), link(2, 1)],
        Shape {
            delay,
            ..Shape::default()
        },
    );
    let rtts = measures::round_trips(net, 10);
    let (least, median) = (rtts[0], rtts[rtts.len() / 2]);
    println!(
        "   50 ms each way: RTT least {least:?}, median {median:?}, most {:?}",
        rtts[rtts.len() - 1]
    );
    assert!(least >= Duration::from_millis(100) && median < Duration::from_millis(150));
    assert_eq!(net.counters(1, 2).delayed, 10);
}

fn healed(net: &mut Net) {
    let delay = "1h".parse().unwrap();
    net.shape(
        &[link(1, 2)],
        Shape {
            delay,
            ..Shape::default()
        },
    );
    net.send(1, 2, b"old");
    assert_eq!(net.counters(1, 2).queued, 1);
    net.shape(&[link(1, 2)], Shape::default());
    net.send(1, 2, b"new");
    assert_eq!(net.receive(2), b"old");
    assert_eq!(net.receive(2), b"new");
}

/// Sends `n` numbered datagrams in bunches that fit any buffer, and returns the numbers that arrived.
fn numbered(net: &Net, n: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    for first in (0..n).step_by(50) {
        for i in first..n.min(first + 50) {
            net.send(1, 2, &i.to_le_bytes());
        }
        net.counters(1, 2);
        let got = net.arrived(2, 3);
        numbers.extend(
            got.iter()
                .map(|b| u32::from_le_bytes(b[..].try_into().expect("four bytes"))),
        );
    }
    numbers
}

#[track_caller]
fn check_share(count: u64, n: u32, p: f64) {
    let (mean, deviation) = (f64::from(n) * p, (f64::from(n) * p * (1.0 - p)).sqrt());
    let off = (count as f64 - mean).abs();
    assert!(off <= 4.0 * deviation, "{count} of {n}, {mean} expected");
}

fn loss(net: &mut Net) {
    net.shape(
        &[link(1, 2)],
        Shape {
            loss_ppm: 100_000,
            ..Shape::default()
        },
    );
    let mut got = Vec::new();
    let c = net.change(1, 2, || got = numbered(net, 5_000));
    check_share(c.lost, 5_000, 0.1);
    assert_eq!((c.carried, c.carried + c.lost), (got.len() as u64, 5_000));
    assert!(got.is_sorted());
    assert_eq!(net.counters(2, 1).lost, 0);
}

fn duplicates(net: &mut Net) {
    net.shape(
        &[link(1, 2)],
        Shape {
            duplicate_ppm: 250_000,
            ..Shape::default()
        },
    );
    let mut got = Vec::new();
    let c = net.change(1, 2, || got = numbered(net, 2_000));
    check_share(c.duplicated, 2_000, 0.25);
    assert_eq!(
        (c.carried, c.offered + c.duplicated),
        (got.len() as u64, got.len() as u64)
    );
    got.dedup();
    assert_eq!(got, (0..2_000).collect::<Vec<u32>>());
}

fn reordering(net: &mut Net) {
    let delay = "30ms".parse().unwrap();
    net.shape(
        &[link(1, 2)],
        Shape {
            delay,
            reorder_ppm: 250_000,
            ..Shape::default()
        },
    );
    (0..200_u32).for_each(|i| net.send(1, 2, &i.to_le_bytes()));
    let mut got: Vec<u32> = (0..200)
        .map(|_| u32::from_le_bytes(net.receive(2)[..].try_into().expect("four bytes")))
        .collect();
    assert!(!got.is_sorted(), "some overtook");
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<u32>>());
    check_share(net.counters(1, 2).reordered, 200, 0.25);
}

/// UDP datagrams that `host` refused, by /proc/net/snmp: all of them, and those with a bad checksum.
fn udp_errors(net: &Net, host: usize) -> (u64, u64) {
    let read = || fs::read_to_string("/proc/thread-self/net/snmp");
    let text = net::inside(&net.hosts[host - 1].netns, read).unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("Udp: ")).collect();
    let value = |field: &str| {
        let at = lines[0].split(' ').position(|f| f == field).expect("a field of snmp");
        lines[1].split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    (value("InErrors"), value("InCsumErrors"))
}

fn corruption(net: &mut Net) {
    net.shape(
        &[link(1, 2)],
        Shape {
            corrupt_ppm: 1_000_000,
            ..Shape::default()
        },
    );
    let mut got = Vec::new();
    let c = net.change(1, 2, || got = numbered(net, 1_000));
    assert_eq!((c.corrupted, c.carried), (1_000, 1_000));
    assert!(got.is_empty(), "nothing with a flipped bit arrives");
    let (errors, checksums) = udp_errors(net, 2);
    println!("   1000 flipped bits: {errors} refused, {checksums} of them for the checksum");
    assert_eq!(errors, 1_000);
    assert!(checksums > 700, "{checksums}: a bit of the length may be flipped, too");
}

fn rate(net: &mut Net) {
    net.shape(
        &[link(1, 2)],
        Shape {
            rate: 100_000,
            ..Shape::default()
        },
    );
    let start = Instant::now();
    // 42 bytes of headers: 50 frames of 1000 bytes take half a second.
    (0..50).for_each(|_| net.send(1, 2, &[0; 958]));
    (0..50).for_each(|_| drop(net.receive(2)));
    let took = start.elapsed();
    println!("   50,000 bytes at 100,000 bytes/s: {took:?}");
    assert!((0.5..2.0).contains(&took.as_secs_f64()));
    (0..200).for_each(|_| net.send(1, 2, &[0; 958]));
    assert!(
        net.counters(1, 2).overflowed >= 90,
        "no more than a second's worth waits"
    );
}

/// Sends `size` bytes of a pattern over TCP from n1 to n2, checks them there, and returns how long it took.
pub fn transfer(net: &Net, size: usize) -> Duration {
    let pattern: Vec<u8> = (0..size).map(|i| (i * 31 + i / 251) as u8).collect();
    let to = SocketAddr::from((net.hosts[1].ip, 7001));
    let listener = net::inside(&net.hosts[1].netns, || TcpListener::bind(to)).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut got = Vec::with_capacity(size);
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_end(&mut got).unwrap();
            got
        });
        let mut stream = net::inside(&net.hosts[0].netns, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        stream.write_all(&pattern).unwrap();
        drop(stream);
        assert!(reader.join().unwrap() == pattern, "the bytes that were sent arrive");
    });
    start.elapsed()
}

fn tcp_clean(net: &mut Net) {
    transfer(net, 8 << 20);
    let c = net.counters(1, 2);
    assert!(c.carried_bytes > 8 << 20);
    assert!(c.carried_bytes / c.carried <= 1514, "no frame is longer than the MTU");
}

fn tcp_rough(net: &mut Net) {
    let rough = Shape {
        delay: "1ms".parse().unwrap(),
        loss_ppm: 10_000,
        duplicate_ppm: 10_000,
        reorder_ppm: 10_000,
        corrupt_ppm: 10_000,
        ..Shape::default()
    };
    net.shape(&[link(1, 2), link(2, 1)], rough);
    let took = transfer(net, 1 << 20);
    let c = net.counters(1, 2);
    println!("   1 MiB over rough links: {took:?}, {c:?}");
    assert!(c.lost > 0 && c.corrupted > 0 && c.duplicated > 0);
}

fn capture(net: &mut Net) {
    net.switch.block(&[link(1, 3)]).unwrap();
    net.send(1, 2, b"carried");
    net.send(1, 3, b"blocked");
    assert_eq!(net.receive(2), b"carried");
    net.counters(1, 3);
    let frames = captured(net, 1);
    assert_eq!((frames.len(), frames[0].len()), (1, 49));
    assert!(frames[0].ends_with(b"carried"));
    assert_eq!(net.switch.health().unwrap().pcap_error, None);
}

/// The frames in the capture, once there are at least `n`: the file grows by itself, a reader need not wait for its end.
fn captured(net: &Net, n: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    loop {
        // By position: the descriptor shares its place with the writer's, which must stay where it is.
        let mut bytes = vec![0; 4096];
        let len = net.pcap.read_at(&mut bytes, 0).unwrap();
        let mut rest = &bytes[24.min(len)..len];
        let mut frames = Vec::new();
        while let Some(header) = rest.first_chunk::<16>() {
            let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            frames.push(rest[16..16 + len].to_vec());
            rest = &rest[16 + len..];
        }
        if frames.len() >= n {
            return frames;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{} frames in the capture, not {n}",
            frames.len()
        );
        std::thread::yield_now();
    }
}

fn gone(net: &mut Net) {
    net.sockets.truncate(2);
    net.hosts.truncate(2);
    // The namespace of n3, and with it both ends of its pair, goes away a little after its last descriptor.
    let start = Instant::now();
    let near_ends = || fs::read_to_string("/proc/net/dev").unwrap().matches("sb").count();
    while near_ends() > 2 {
        assert!(start.elapsed() < PATIENCE, "the interface of n3 should go away");
        std::thread::yield_now();
    }
    net.send(1, 2, b"still");
    assert_eq!(net.receive(2), b"still");
    let all = SocketAddr::from(([10, 71, 0, 255], 7000));
    net.socket(1).send_to(b"all", all).unwrap();
    assert_eq!(net.receive(2), b"all");
    assert_eq!(net.counters(1, 3).refused, 1, "what nobody takes is counted");
    assert_eq!(captured(net, 2).len(), 2, "and not captured");
    idle(net);
}

fn idle(net: &mut Net) {
    net.switch.health().unwrap();
    let before = measures::cpu();
    std::thread::sleep(Duration::from_millis(300));
    let used = measures::cpu() - before;
    assert!(used < Duration::from_millis(20), "{used:?} of CPU in 300 ms of nothing");
}

fn unknown_links(net: &mut Net) {
    for bad in [link(1, 4), link(1, 1)] {
        let error = net.switch.block(&[link(1, 2), bad]).unwrap_err();
        assert_eq!(error.to_string(), format!("{bad} is no link of this network"));
    }
    assert!(!net.switch.link(link(1, 2)).unwrap().blocked, "nothing was changed");
}
