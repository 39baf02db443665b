//! Blocks, probes, and healing.
use super::Case;
use super::rig::{Ends, Net, PATIENCE, burst};
use splitbrain_core::Name;
use splitbrain_environments::Sabotage;
use splitbrain_environments::linux::{PORT, Probes, Wire, raw_now};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("a probe arrives, stamped between its sending and its taking", probe),
    ("a block drops one direction, counts, and ends with its undoing", block),
    ("a block is for all addresses of a peer", both_families),
    ("a peer without IPv6 needs no ip6tables", v4_alone),
    ("a block that does nothing is seen to do nothing", sabotage),
    ("rules that others made stay as they are", others),
    (
        "what a crash left is found by its marks and removed, and nothing else",
        crash,
    ),
    ("a rule that somebody removed is missed", stolen),
    ("a damaged probe is counted and does not arrive", damaged),
    ("what cannot be is refused", refusals),
    ("trying out what is missing leaves nothing", trials),
];

fn came(seen: &Probes) -> bool {
    !seen.came.is_empty()
}

fn link(net: &Net, src: usize, dst: usize) -> Ends<'_> {
    Ends { net, src, dst }
}

fn probe() {
    let net = Net::new(2);
    let (mut n1, mut n2) = (net.wire(0, None), net.wire(1, None));
    let wave = burst(net.hosts[1].name, 100, 1000);
    let sent = net.hosts[0].inside(|| n1.probe(std::slice::from_ref(&wave)).unwrap());
    assert_eq!(sent.len(), 100);
    let (start, mut all) = (Instant::now(), Vec::new());
    while all.len() < 100 {
        assert!(start.elapsed() < PATIENCE, "{} of 100 came", all.len());
        all.extend(n2.probes().unwrap().came);
    }
    let now = raw_now();
    for arrival in &all {
        let (_, left) = sent.iter().find(|(serial, _)| *serial == arrival.serial).unwrap();
        assert!(*left < arrival.raw && arrival.raw < now);
    }
}

fn block() {
    let net = Net::new(3);
    let [mut n1, mut n2, mut n3] = [0, 1, 2].map(|at| net.wire(at, None));
    let name = net.hosts[0].name;
    let proofs = net.hosts[1].inside(|| n2.block(&[name]).unwrap());
    assert_eq!(proofs[0].saw, "2 rules in SPLITBRAIN-IN");
    let (seen, sent) = link(&net, 0, 1).until(&mut n1, &mut n2, |seen| seen.dropped.get(&name) >= Some(&5));
    assert_eq!((seen.came.len(), seen.dropped[&name]), (0, u64::from(sent)));
    link(&net, 1, 0).until(&mut n2, &mut n1, came);
    link(&net, 2, 1).until(&mut n3, &mut n2, came);
    // Blocking one more leaves the first one's count, and blocking again changes nothing.
    let other = net.hosts[2].name;
    net.hosts[1].inside(|| n2.block(&[name, other]).unwrap());
    let seen = net.hosts[1].inside(|| n2.probes().unwrap());
    assert_eq!(seen.dropped, [(name, u64::from(sent)), (other, 0)].into());
    net.hosts[1].inside(|| n2.unblock(&[name]).unwrap());
    link(&net, 0, 1).until(&mut n1, &mut n2, came);
    assert!(!net.hosts[1].rules().contains("10.9.0.1"));
    net.hosts[1].inside(|| n2.unblock(&[name, other]).unwrap());
    assert!(!net.hosts[1].rules().contains("SPLITBRAIN"));
}

fn both_families() {
    let net = Net::new(2);
    let name = net.hosts[0].name;
    // Probes go to the first address.
    let peers = |at: usize| {
        let mut peers = net.peers_of(at);
        peers.values_mut().for_each(|addresses| addresses.reverse());
        peers
    };
    let (mut n1, mut n2) = (net.wire(0, None), net.wire(1, None));
    n1.peers(&peers(0)).unwrap();
    link(&net, 0, 1).until(&mut n1, &mut n2, came);
    net.hosts[1].inside(|| n2.block(&[name]).unwrap());
    for probed in [peers(0), net.peers_of(0)] {
        n1.peers(&probed).unwrap();
        let before = net.hosts[1].inside(|| n2.probes().unwrap()).dropped[&name];
        let (seen, sent) = link(&net, 0, 1).until(&mut n1, &mut n2, |seen| seen.dropped.get(&name) > Some(&before));
        assert!(seen.came.is_empty());
        assert_eq!(seen.dropped[&name], before + u64::from(sent));
    }
}

fn v4_alone() {
    let net = Net::new(2);
    let (name, ip) = (net.hosts[0].name, net.hosts[0].addresses[0]);
    let mut n2 = net.wire(1, None);
    n2.peers(&[(name, vec![ip])].into()).unwrap();
    let proofs = net.hosts[1].inside(|| n2.block(&[name]).unwrap());
    assert_eq!(proofs[0].saw, "1 rule in SPLITBRAIN-IN");
    assert_eq!(net.hosts[1].sh("ip6tables-save"), "", "nothing was done to ip6tables");
}

fn sabotage() {
    let net = Net::new(2);
    let (mut n1, mut n2) = (net.wire(0, None), net.wire(1, Some(Sabotage::BlockDoesNothing)));
    let name = net.hosts[0].name;
    net.hosts[1].inside(|| n2.block(&[name]).unwrap());
    let (seen, _) = link(&net, 0, 1).until(&mut n1, &mut n2, came);
    assert_eq!(seen.dropped, [(name, 0)].into());
}

pub const FIREWALL: &str = "
    for t in iptables ip6tables; do
        $t -N MINE; $t -A MINE -p tcp --dport 22 -j ACCEPT
        $t -A INPUT -m comment --comment 'not SPLITBRAIN-IN \"at all\"' -j MINE
        $t -A INPUT -p udp --dport 1 -j DROP; $t -P FORWARD DROP
        $t -t mangle -A INPUT -p udp --dport 2 -j MARK --set-mark 7
        $t -t nat -A POSTROUTING -p udp --dport 3 -j ACCEPT
    done";

fn others() {
    let net = Net::new(2);
    let (host, name) = (&net.hosts[1], net.hosts[0].name);
    host.sh(FIREWALL);
    let before = host.rules();
    let mut n2 = net.wire(1, None);
    for _ in 0..2 {
        host.inside(|| n2.block(&[name]).unwrap());
        let rules = host.rules();
        let mine = rules
            .lines()
            .filter(|line| !line.contains("SPLITBRAIN-IN") || line.contains("not"));
        assert_eq!(mine.map(|line| line.to_string() + "\n").collect::<String>(), before);
        let first = rules
            .lines()
            .find(|line| line.starts_with("-A INPUT") && !line.contains("MARK"));
        assert_eq!(first, Some("-A INPUT -j SPLITBRAIN-IN"), "ours comes first");
        host.inside(|| n2.unblock(&[name]).unwrap());
        assert_eq!(host.rules(), before);
    }
}

fn crash() {
    let net = Net::new(2);
    let (host, name) = (&net.hosts[1], net.hosts[0].name);
    host.sh(FIREWALL);
    let before = host.rules();
    assert_eq!(host.inside(Wire::leftovers), Ok(vec![]));
    let mut n2 = net.wire(1, None);
    host.inside(|| n2.block(&[name]).unwrap());
    drop(n2);
    // Half-made and half-undone states, too.
    host.sh(
        "iptables -N SPLITBRAIN-OLD; iptables -A FORWARD -p udp -j SPLITBRAIN-OLD; ip6tables -D INPUT -j SPLITBRAIN-IN",
    );
    let found = host.inside(Wire::leftovers).unwrap();
    assert_eq!(
        found,
        [
            "iptables filter: rule INPUT -j SPLITBRAIN-IN",
            "iptables filter: rule FORWARD -p udp -j SPLITBRAIN-OLD",
            "iptables filter: chain SPLITBRAIN-IN with 1 rules",
            "iptables filter: chain SPLITBRAIN-OLD with 0 rules",
            "ip6tables filter: chain SPLITBRAIN-IN with 3 rules",
        ]
    );
    assert_eq!(host.inside(Wire::heal), Ok(found));
    assert_eq!(host.rules(), before);
    assert_eq!(host.inside(Wire::heal), Ok(vec![]), "healing again finds nothing");
    // And a host that was healed can be used.
    let mut n2 = net.wire(1, None);
    host.inside(|| n2.block(&[name]).unwrap());
    host.inside(Wire::heal).unwrap();
}

fn stolen() {
    let net = Net::new(2);
    let (host, name) = (&net.hosts[1], net.hosts[0].name);
    let mut n2 = net.wire(1, None);
    host.inside(|| n2.block(&[name]).unwrap());
    host.sh("iptables -F SPLITBRAIN-IN");
    let why = host.inside(|| n2.probes().unwrap_err());
    assert!(why.contains("the rule for n1 (10.9.0.1) is gone"), "{why}");
    host.sh("iptables -D INPUT -j SPLITBRAIN-IN; iptables -X SPLITBRAIN-IN");
    let why = host.inside(|| n2.unblock(&[name]).unwrap_err());
    assert!(why.contains("iptables-restore"), "{why}");
}

fn damaged() {
    let net = Net::new(2);
    let mut n2 = net.wire(1, None);
    let before = net.hosts[1].inside(|| n2.probes().unwrap()).damaged;
    let to = (net.hosts[1].addresses[0], PORT);
    net.hosts[0].inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let probe = [&b"sb-probe"[..], &77_u64.to_le_bytes(), b"wrong"].concat();
        socket.send_to(b"hello", to).unwrap();
        socket.send_to(&probe, to).unwrap();
    });
    let start = Instant::now();
    loop {
        let seen = net.hosts[1].inside(|| n2.probes().unwrap());
        assert!(seen.came.is_empty() && start.elapsed() < PATIENCE);
        if seen.damaged == before + 1 {
            return;
        }
    }
}

fn refusals() {
    let net = Net::new(2);
    let mut n2 = net.wire(1, None);
    let [n1, n9] = [1, 9].map(|n| Name::numbered("n", n));
    let ip: IpAddr = net.hosts[0].addresses[0];
    let check = |result: Result<(), String>, words: &str| {
        let why = result.unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    check(n2.block(&[n1, n9]).map(drop), "n9 is no peer");
    check(n2.unblock(&[n9]).map(drop), "n9 is no peer");
    check(n2.probe(&[burst(n9, 1, 16)]).map(drop), "n9 is no peer");
    check(n2.probe(&[burst(n1, 1, 15)]).map(drop), "16 to 60000 bytes");
    check(n2.peers(&[(n9, vec![])].into()), "n9 has no address");
    check(n2.peers(&[(n1, vec![ip]), (n9, vec![ip])].into()), "same address");
    check(net.hosts[1].inside(|| Wire::open(None, 1)).map(drop), "UDP port 7999");
    assert!(!net.hosts[1].rules().contains("SPLITBRAIN"));
}

fn trials() {
    let net = Net::new(1);
    let missing = net.hosts[0].inside(Wire::missing);
    assert!(!missing.contains_key("iptables"), "{missing:?}");
    assert_eq!(net.hosts[0].inside(Wire::leftovers), Ok(vec![]));
}
