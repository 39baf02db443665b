//! Shapes at the sender: for real where the kernel has netem, and everywhere what is refused.
use super::Case;
use super::rig::{Net, PATIENCE, burst};
use super::shapes::{millis, wave};
use splitbrain_core::{Name, Nanos, Shape};
use splitbrain_environments::linux::{Probes, Wire};
use std::collections::BTreeMap;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("netem does to each peer what is asked for it, or is refused", effects),
    (
        "netem lets go of everything when the last shape goes, or is refused",
        undone,
    ),
    ("netem is refused where it cannot be had, and leaves nothing", refusals),
    ("a root qdisc of somebody else's is never replaced", chosen_root),
    ("our own root qdisc is found by its handle", own_root),
];

/// Three hosts with a wire each, if the kernel has netem. Where it has not, that is told, and its refusal is all there is
/// to test.
fn with_netem() -> Option<(Net, [Wire; 3])> {
    let net = Net::new(3);
    let mut wires = [0, 1, 2].map(|at| net.wire(at, None));
    if no_netem(&net) {
        println!("   this kernel has no netem: refused, as it is to be");
        assert!(
            net.hosts[0]
                .inside(|| wires[0].shape_out(&[net.hosts[1].name], part(1)))
                .is_err()
        );
        return None;
    }
    Some((net, wires))
}

fn part(loss_ppm: u32) -> Shape {
    Shape {
        loss_ppm,
        ..Shape::default()
    }
}

fn flights(sent: &BTreeMap<u64, Nanos>, seen: &Probes) -> Vec<Nanos> {
    let mut flights: Vec<Nanos> = seen.came.iter().map(|a| a.raw - sent[&a.serial]).collect();
    flights.sort();
    flights
}

fn effects() {
    let Some((net, [mut n1, mut n2, mut n3])) = with_netem() else {
        return;
    };
    let [first, second] = [net.hosts[1].name, net.hosts[2].name];
    let out = |n1: &mut Wire, names: &[Name], shape: Shape| {
        let proofs = net.hosts[0].inside(|| n1.shape_out(names, shape).expect("a shape"));
        println!("   {}", proofs[0].saw);
    };
    out(
        &mut n1,
        &[first],
        Shape {
            delay: millis(40),
            jitter: millis(10),
            ..Shape::default()
        },
    );
    out(&mut n1, &[second], part(1_000_000));
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (100, 16), |seen| seen.came.len() == 100);
    let times = flights(&sent, &seen);
    println!("   flights of {} to {}", times[0], times[99]);
    let serials: Vec<u64> = seen.came.iter().map(|a| a.serial).collect();
    assert!(times[0] >= millis(30) && !serials.is_sorted(), "{times:?}");
    // Not a word to n3, and what others send n2 is as fast as ever.
    to(&net, &mut n1, second, 20);
    out(
        &mut n1,
        &[second],
        Shape {
            reorder_ppm: 300_000,
            delay: millis(20),
            ..Shape::default()
        },
    );
    let sent = to(&net, &mut n1, second, 100);
    let seen = until(&net, 2, &mut n3, 100);
    assert!(
        seen.came.iter().all(|a| sent.contains_key(&a.serial)),
        "what was to be lost did not come"
    );
    assert!(!seen.came.iter().map(|a| a.serial).is_sorted(), "some overtook");
    out(
        &mut n1,
        &[first],
        Shape {
            rate: 1_000_000,
            ..Shape::default()
        },
    );
    // 50 frames of 1042 bytes at 1 MB/s.
    let (sent, seen) = wave(&net, (&mut n1, &mut n2), (50, 1000), |seen| seen.came.len() == 50);
    let span = seen.came.iter().map(|a| a.raw).max().unwrap() - *sent.values().min().unwrap();
    println!("   52100 bytes at 1 MB/s took {span}");
    assert!(span >= millis(50));
    let before = net.hosts[1].inside(|| n2.probes().unwrap()).damaged;
    out(
        &mut n1,
        &[first],
        Shape {
            corrupt_ppm: 1_000_000,
            ..Shape::default()
        },
    );
    wave(&net, (&mut n1, &mut n2), (300, 1000), |seen| {
        seen.damaged > before + 100
    });
    out(
        &mut n1,
        &[first, second],
        Shape {
            duplicate_ppm: 1_000_000,
            ..Shape::default()
        },
    );
    to(&net, &mut n1, second, 10);
    until(&net, 2, &mut n3, 20);
    wave(&net, (&mut n1, &mut n2), (10, 16), |seen| seen.came.len() == 20);
    // The other family goes the same way.
    let mut peers = net.peers_of(0);
    peers.values_mut().for_each(|addresses| addresses.reverse());
    net.hosts[0].inside(|| n1.peers(&peers).unwrap());
    wave(&net, (&mut n1, &mut n2), (10, 16), |seen| seen.came.len() == 20);
}

fn to(net: &Net, n1: &mut Wire, name: Name, count: u32) -> BTreeMap<u64, Nanos> {
    let sent = net.hosts[0].inside(|| n1.probe(&[burst(name, count, 16)]).unwrap());
    sent.into_iter().collect()
}

fn until(net: &Net, at: usize, wire: &mut Wire, count: usize) -> Probes {
    let (start, mut all) = (Instant::now(), Probes::default());
    while all.came.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count} came", all.came.len());
        all.came.extend(net.hosts[at].inside(|| wire.probes().unwrap()).came);
    }
    all
}

fn undone() {
    let Some((net, [mut n1, mut n2, _n3])) = with_netem() else {
        return;
    };
    let (host, names) = (&net.hosts[0], [net.hosts[1].name, net.hosts[2].name]);
    let listing = || host.sh("tc qdisc show dev eth0; tc filter show dev eth0");
    let before = listing();
    let slow = Shape {
        delay: Nanos::secs(200),
        ..Shape::default()
    };
    host.inside(|| n1.shape_out(&names, slow).unwrap());
    to(&net, &mut n1, names[0], 10);
    host.inside(|| n1.shape_out(&names[..1], Shape::default()).unwrap());
    wave(&net, (&mut n1, &mut n2), (10, 16), |seen| seen.came.len() == 10);
    assert!(
        !listing().contains("5b24:") && listing().contains("5b25:"),
        "{}",
        listing()
    );
    host.inside(|| n1.shape_out(&names[1..], Shape::default()).unwrap());
    assert_eq!(listing(), before);
    host.inside(|| n1.shape_out(&names, slow).unwrap());
    drop(n1);
    assert_eq!(host.inside(Wire::heal), Ok(vec!["tc: qdisc 5b1d: of eth0".to_string()]));
    assert_eq!(listing(), before);
}

/// What `tc` says of netem on this kernel, if it refuses it.
fn no_netem(net: &Net) -> bool {
    let script =
        "ip link add x0 type veth peer name x1; tc qdisc add dev x0 root netem delay 1ms 2>&1 || true; ip link del x0";
    net.hosts[0].sh(script).contains("unknown")
}

fn refusals() {
    let net = Net::new(2);
    let host = &net.hosts[0];
    let missing = host.inside(Wire::missing);
    let lacks = no_netem(&net);
    assert_eq!(missing.contains_key("netem"), lacks, "{missing:?}");
    assert!(!missing.contains_key("nfqueue"), "{missing:?}");
    assert_eq!(host.inside(Wire::leftovers), Ok(vec![]));
    let before = host.sh("tc qdisc show; ip -o link | cut -d' ' -f2");
    let mut n1 = net.wire(0, None);
    let (names, shape) = (
        [net.hosts[1].name],
        Shape {
            delay: millis(1),
            ..Shape::default()
        },
    );
    let set = host.inside(|| n1.shape_out(&names, shape));
    if lacks {
        let why = set.unwrap_err();
        assert!(
            why.starts_with("tc -batch -: Error: Specified qdisc kind is unknown"),
            "{why}"
        );
        assert!(missing["netem"].contains("modprobe sch_netem"), "{missing:?}");
    } else {
        assert!(set.is_ok() && host.sh("tc qdisc show").contains("netem 5b24:"));
    }
    host.inside(|| n1.shape_out(&names, Shape::default()).unwrap());
    assert_eq!(host.sh("tc qdisc show; ip -o link | cut -d' ' -f2"), before);
}

fn chosen_root() {
    let net = Net::new(2);
    let host = &net.hosts[0];
    host.sh("tc qdisc add dev eth0 root handle 1: tbf rate 10mbit burst 100k latency 1s");
    let before = host.sh("tc qdisc show");
    let mut n1 = net.wire(0, None);
    let shape = Shape {
        delay: millis(1),
        ..Shape::default()
    };
    let why = host.inside(|| n1.shape_out(&[net.hosts[1].name], shape).unwrap_err());
    assert!(
        why.contains("eth0 has the root qdisc tbf 1:, which is not ours"),
        "{why}"
    );
    assert_eq!(host.inside(Wire::heal), Ok(vec![]));
    assert_eq!(host.sh("tc qdisc show"), before);
}

fn own_root() {
    let net = Net::new(2);
    let host = &net.hosts[0];
    let before = host.sh("tc qdisc show");
    // Of another kind, since this kernel may have no prio: the handle is the mark.
    host.sh("tc qdisc add dev eth0 root handle 5b1d: tbf rate 10mbit burst 100k latency 1s");
    let found = vec!["tc: qdisc 5b1d: of eth0".to_string()];
    assert_eq!(host.inside(Wire::leftovers), Ok(found.clone()));
    let mut n1 = net.wire(0, None);
    let shape = Shape {
        delay: millis(1),
        ..Shape::default()
    };
    let names: [Name; 1] = [net.hosts[1].name];
    assert!(
        host.inside(|| n1.shape_out(&names, shape)).is_err(),
        "a dirty host is no clean one"
    );
    assert_eq!(host.inside(Wire::heal), Ok(found));
    assert_eq!(host.sh("tc qdisc show"), before);
    host.sh("ip link add splitbrain-try0 type veth peer name splitbrain-try1");
    assert_eq!(
        host.inside(Wire::heal),
        Ok(vec!["ip: interface splitbrain-try0".to_string()])
    );
    assert_eq!(host.inside(Wire::heal), Ok(vec![]));
}
