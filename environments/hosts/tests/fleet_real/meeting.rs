//! Finding the hosts, refusing those that will not do, and leaving them as they were.
use crate::Case;
use crate::rig::Net;
use splitbrain_core::{Answer, Op};
use splitbrain_environments::fleet::{Fleet, heal};
use splitbrain_environments::ground::{Ground, HostFile};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

pub const ALL: &[Case] = &[
    ("toys_answer_and_hear_each_other", toys_answer_and_hear_each_other),
    (
        "files_arrive_whole_and_go_with_the_run",
        files_arrive_whole_and_go_with_the_run,
    ),
    ("the_end_leaves_nothing", the_end_leaves_nothing),
    ("what_will_not_do_is_named", what_will_not_do_is_named),
    (
        "remotes_beyond_those_needed_are_let_go",
        remotes_beyond_those_needed_are_let_go,
    ),
    (
        "a_dirty_host_is_refused_until_it_is_healed",
        a_dirty_host_is_refused_until_it_is_healed,
    ),
];

fn toys_answer_and_hear_each_other() {
    let net = Net::new(3);
    let (fleet, mut rig) = net.world(None);
    assert_eq!(fleet.site().places[&crate::world::host(2)].ip.to_string(), "10.9.0.2");
    for n in 1..=3 {
        rig.started(n, 1);
        assert!(matches!(rig.ask(n, Op::Observe), Answer::Status(_)));
    }
    rig.hears(1, 2);
    rig.hears(2, 3);
    rig.hears(3, 1);
    assert_eq!(net.log("n1-toy"), "toy is ready\n");
}

fn files_arrive_whole_and_go_with_the_run() {
    let net = Net::new(2);
    let fleet = net.fleet(None);
    // Of several pieces, of which the last is short; and of none.
    let long: Vec<u8> = (0..(5 << 19) + 3u32).map(|n| (n % 251) as u8).collect();
    for (name, content, executable) in [("tool", &long[..], true), ("empty", &[], false)] {
        let file = HostFile {
            name: name.to_string(),
            content: content.to_vec(),
            executable,
        };
        fleet.put(crate::world::host(2), &file).unwrap();
        let path = fleet.site().places[&crate::world::host(2)].dir.join(name);
        assert_eq!(std::fs::read(&path).unwrap(), content);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111 != 0, executable, "{mode:o}");
    }
    let dir = fleet.site().places[&crate::world::host(2)].dir.clone();
    drop(fleet);
    assert!(!dir.exists());
    assert_eq!(net.left(), Vec::<String>::new());
}

/// Also if the world is only dropped, as when somebody interrupts control.
fn the_end_leaves_nothing() {
    let net = Net::new(3);
    let before: Vec<String> = net
        .machines
        .iter()
        .map(|machine| machine.sh("iptables-save | grep ^- || true"))
        .collect();
    let (fleet, mut rig) = net.world(None);
    rig.done(splitbrain_core::Action::Block {
        links: vec![crate::world::link(1, 2), crate::world::link(3, 2)],
    });
    rig.done(splitbrain_core::Action::Pause {
        hosts: vec![crate::world::host(3)],
    });
    assert!(!net.left().is_empty());
    drop(rig);
    assert_eq!(net.left(), Vec::<String>::new());
    let after: Vec<String> = net
        .machines
        .iter()
        .map(|machine| machine.sh("iptables-save | grep ^- || true"))
        .collect();
    assert_eq!(before, after);
    assert!(net.machines.iter().all(|machine| *machine.released.lock().unwrap()));
    assert_eq!(fleet.epitaph(), "the fleet has ended");
}

fn what_will_not_do_is_named() {
    let net = Net::new(2);
    let refused = |hosts, remotes, network: Option<&str>| {
        let started = Fleet::start(net.order(hosts, None), remotes, network.map(String::from));
        let error = format!("{:#}", started.err().expect("it will not do"));
        assert_eq!(net.left(), Vec::<String>::new());
        error
    };
    let error = refused(3, net.remotes(), None);
    let want =
        "failed to place the cluster: it needs 3 hosts and 2 are given; name more, or lower --nodes or --candidates";
    assert_eq!(error, want);
    let twice = vec![net.remotes()[0].clone(), net.remotes()[0].clone()];
    let error = refused(2, twice, None);
    assert!(error.contains("(machine 1): the host is in use by"), "{error}");
    net.machines[1].sh("ip addr add 10.9.1.2/24 dev eth0");
    let error = refused(2, net.remotes(), None);
    let want =
        "host n2 (machine 2) has several addresses: name the cluster's network with --network; it has 10.9.0.2/24";
    assert!(error.contains(want), "{error}");
    let error = refused(2, net.remotes(), Some("10.9.0.0"));
    assert_eq!(
        error,
        "failed to read --network: '10.9.0.0' is no network such as 10.0.0.0/24"
    );
    net.machines[1]
        .sh("ip addr del 10.9.1.2/24 dev eth0; ip addr del 10.9.0.2/24 dev eth0; ip addr add 10.9.0.1/24 dev eth0");
    let error = refused(2, net.remotes(), None);
    assert!(error.contains("both have the address 10.9.0.1"), "{error}");
}

fn remotes_beyond_those_needed_are_let_go() {
    let net = Net::new(2);
    net.machines[0].sh("ip addr add 10.9.1.1/24 dev eth0");
    let network = Some("10.9.0.0/24".into());
    let fleet = Fleet::start(net.order(1, None), net.remotes(), network).expect("one will do");
    let released = |n: usize| *net.machines[n].released.lock().unwrap();
    assert_eq!(fleet.site().places[&crate::world::host(1)].ip.to_string(), "10.9.0.1");
    assert!(!released(0) && released(1));
    drop(fleet);
    assert!(released(0));
}

fn a_dirty_host_is_refused_until_it_is_healed() {
    let net = Net::new(2);
    net.machines[1].sh("iptables -N SPLITBRAIN-IN");
    let started = Fleet::start(net.order(2, None), net.remotes(), None);
    let error = format!("{:#}", started.err().expect("a dirty host"));
    let names = error.contains("host n2 (machine 2): ") && error.contains("SPLITBRAIN-IN");
    assert!(names && error.contains("run `splitbrain heal`"), "{error}");
    let log = || File::create("/dev/null").unwrap();
    let machine = &net.remotes()[1];
    let healed = heal(&**machine, "".as_ref(), log()).expect("heal it");
    assert!(
        healed.left.is_empty() && healed.removed.iter().any(|what| what.contains("SPLITBRAIN-IN")),
        "{healed:?}"
    );
    let healed = heal(&**machine, "".as_ref(), log()).expect("heal it again");
    assert!(healed.left.is_empty() && healed.removed.is_empty(), "{healed:?}");
    let fleet = Arc::new(Fleet::start(net.order(2, None), net.remotes(), None).expect("all is well"));
    fleet.end();
    fleet.end();
    assert_eq!(net.left(), Vec::<String>::new());
}
