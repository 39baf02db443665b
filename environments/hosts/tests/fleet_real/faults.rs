//! Actions over a fleet, and each one's proof.
use crate::Case;
use crate::rig::Net;
use crate::world::{host, link};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::time::Offset;
use splitbrain_core::{Action, Answer, Happening, Link, Op, Skew, Unsynced, World};
use splitbrain_environments::Sabotage;
use splitbrain_environments::fleet::Fleet;
use splitbrain_environments::ground::Ground;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("a_block_is_one_way_and_heals", a_block_is_one_way_and_heals),
    ("a_cluster_is_cut_soon", a_cluster_is_cut_soon),
    (
        "kill_is_proven_and_start_begins_a_new_life",
        kill_is_proven_and_start_begins_a_new_life,
    ),
    ("pause_stops_and_resume_continues", pause_stops_and_resume_continues),
    ("an_end_of_its_own_is_told", an_end_of_its_own_is_told),
    ("a_flood_is_not_everybodys", a_flood_is_not_everybodys),
    ("who_says_too_much_is_heard_no_more", who_says_too_much_is_heard_no_more),
    ("a_full_pipe_holds_nobody_up", a_full_pipe_holds_nobody_up),
    ("what_cannot_start_is_named", what_cannot_start_is_named),
    ("sabotage_is_noticed", sabotage_is_noticed),
    ("a_shared_clock_is_not_moved", a_shared_clock_is_not_moved),
    ("what_others_drop_proves_no_block", what_others_drop_proves_no_block),
];

fn kill(n: usize) -> Action {
    Action::Kill {
        hosts: vec![host(n)],
        unsynced: Unsynced::Kept,
    }
}

fn a_block_is_one_way_and_heals() {
    let net = Net::new(3);
    let (_fleet, mut rig) = net.world(None);
    let links = vec![link(1, 2)];
    let proofs = rig.done(Action::Block { links: links.clone() });
    let [proof] = &proofs[..] else { panic!("{proofs:?}") };
    assert_eq!(proof.at, "n1>n2");
    assert_eq!(proof.saw, "probe dropped by n2, not received, 2 rules in SPLITBRAIN-IN");
    rig.deaf(2, 1, 3);
    rig.hears(1, 2);
    rig.done(Action::Block { links: links.clone() });
    let proofs = rig.done(Action::Unblock { links: links.clone() });
    assert_eq!(proofs[0].saw, "probe arrived, no rule in SPLITBRAIN-IN");
    rig.hears(2, 1);
    rig.done(Action::Unblock { links });
    let error = rig
        .act(Action::Block {
            links: vec![link(1, 9)],
        })
        .unwrap_err();
    assert!(error.contains("there is no host n9"), "{error}");
}

fn a_cluster_is_cut_soon() {
    let net = Net::new(5);
    let (_fleet, mut rig) = net.world(None);
    let sides: [&[usize]; 2] = [&[1, 2], &[3, 4, 5]];
    let across = |a: usize, b: usize| sides[0].contains(&a) != sides[0].contains(&b);
    let pairs = (1..=5).flat_map(|src| (1..=5).map(move |dst| (src, dst)));
    let links: Vec<Link> = pairs.filter(|(a, b)| across(*a, *b)).map(|(a, b)| link(a, b)).collect();
    assert_eq!(links.len(), 12);
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(rig.done(Action::Block { links: links.clone() }).len(), 12);
        let cut = start.elapsed();
        assert_eq!(rig.done(Action::Unblock { links: links.clone() }).len(), 12);
        println!(
            "  5 hosts cut into two in {cut:?}, healed in {:?}",
            start.elapsed() - cut
        );
    }
}

fn kill_is_proven_and_start_begins_a_new_life() {
    let net = Net::new(3);
    let (_fleet, mut rig) = net.world(None);
    let proofs = rig.done(kill(1));
    assert!(proofs[0].saw.contains("ended by signal 9"), "{proofs:?}");
    assert_eq!(rig.done(kill(1))[0].saw, "already dead");
    let proofs = rig.done(Action::Start { hosts: vec![host(1)] });
    assert!(proofs[0].saw.starts_with("toy (pid "), "{proofs:?}");
    rig.started(1, 2);
    rig.ready(1);
    let again = rig.done(Action::Start { hosts: vec![host(1)] });
    assert_eq!(again[0].saw, "already running");
    assert!(
        !rig.seen.iter().any(|seen| matches!(seen, Happening::Exited { .. })),
        "{:?}",
        rig.seen
    );
}

fn pause_stops_and_resume_continues() {
    let net = Net::new(3);
    let (_fleet, mut rig) = net.world(None);
    let hosts = vec![host(2), host(1)];
    let proofs = rig.done(Action::Pause { hosts: hosts.clone() });
    assert!(
        proofs.len() == 2 && proofs[0].at == "n2" && proofs[1].at == "n1",
        "{proofs:?}"
    );
    let id = rig.submit(1, Op::Observe);
    rig.done(Action::Resume { hosts: vec![host(2)] });
    rig.deaf(3, 1, 2);
    rig.done(Action::Resume { hosts });
    rig.until("the answer", |happening| match happening {
        Happening::Completed { id: came, .. } => (*came == id).then_some(()),
        _ => None,
    });
}

fn an_end_of_its_own_is_told() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    rig.submit(1, Op::Resign);
    assert_eq!(rig.exited(1), "toy: exit status 3: toy is ready | cannot go on");
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
    rig.ready(1);
    // Only the words of the life that ended are told.
    rig.submit(1, Op::Resign);
    assert_eq!(rig.exited(1), "toy: exit status 3: toy is ready | cannot go on");
}

/// What a host says without end holds up neither the others nor its own answers to orders.
fn a_flood_is_not_everybodys() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    // More than fits into mailbox, stream and pipe, and fewer than a process may say in a second.
    const COUNT: u64 = 15_000;
    let flood = rig.submit(1, Op::Set { value: COUNT });
    // Nobody polls: the flood fills the mailbox, its stream and the toy's pipe.
    let started = Instant::now();
    let links = vec![link(1, 2), link(2, 1)];
    rig.world.act(1_000_000, &Action::Block { links });
    rig.until("the block", |happening| match happening {
        Happening::Acted { id: 1_000_000, result } => Some(result.clone().expect("it is proven")),
        _ => None,
    });
    println!("  two links blocked during a flood in {:?}", started.elapsed());
    assert!(matches!(rig.ask(2, Op::Observe), Answer::Status(_)));
    rig.until("the flood's end", |happening| match happening {
        Happening::Completed { id, .. } => (*id == flood).then_some(()),
        _ => None,
    });
    let said = rig
        .seen
        .iter()
        .filter(|seen| matches!(seen, Happening::Said { .. }))
        .count() as u64;
    assert_eq!(said, COUNT);
}

fn who_says_too_much_is_heard_no_more() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    rig.submit(1, Op::Set { value: u64::MAX });
    let why = rig.until("the end of hearing", |happening| match happening {
        Happening::Garbage { host: at, what } => (*at == host(1)).then(|| what.clone()),
        _ => None,
    });
    assert!(why.contains("it floods"), "{why}");
    rig.seen.clear();
    // It cannot write any more, and so it ends; whatever it does, nothing of it is heard.
    for _ in 0..10 {
        rig.ask(2, Op::Observe);
    }
    let heard = rig
        .seen
        .iter()
        .filter(|seen| matches!(seen, Happening::Said { .. }))
        .count();
    assert_eq!(heard, 0);
}

fn a_full_pipe_holds_nobody_up() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(None);
    rig.done(Action::Pause { hosts: vec![host(1)] });
    for _ in 0..50_000 {
        rig.submit(1, Op::Observe);
    }
    assert!(matches!(rig.ask(2, Op::Observe), Answer::Status(_)));
    rig.done(Action::Resume { hosts: vec![host(1)] });
    rig.done(kill(1));
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
    assert!(matches!(rig.ask(1, Op::Observe), Answer::Status(_)));
}

fn what_cannot_start_is_named() {
    use splitbrain_core::ProcessSpec;
    use splitbrain_core::system::Stdio;
    let net = Net::new(1);
    let missing = ProcessSpec {
        host: host(1),
        name: "server".into(),
        argv: vec!["/no/such/server".into()],
        env: Vec::new(),
        stdio: Stdio::Log,
    };
    let started = splitbrain_environments::live::LiveWorld::start(net.fleet(None), vec![missing]);
    let error = format!("{:#}", started.err().expect("nothing to start"));
    assert!(
        error.contains("host n1 (machine 1): start server on n1: /no/such/server"),
        "{error}"
    );
    assert_eq!(net.left(), Vec::<String>::new());
}

fn sabotage_is_noticed() {
    let net = Net::new(3);
    let check = |sabotage, action, want: &str| {
        let (fleet, mut rig) = net.world(Some(sabotage));
        let error = rig.act(action).unwrap_err();
        assert!(error.contains(want), "{error}");
        drop(rig);
        assert_eq!(fleet.epitaph(), "the fleet has ended");
    };
    let links = vec![link(1, 2)];
    let arrived = "n1>n2: a probe arrived although the link is blocked";
    check(Sabotage::BlockDoesNothing, Action::Block { links }, arrived);
    let alive = "host n1 (machine 1): still alive after SIGKILL: toy on n1";
    check(Sabotage::KillDoesNothing, kill(1), alive);
    let goes_on = "host n1 (machine 1): not stopped after SIGSTOP: toy on n1";
    check(
        Sabotage::PauseDoesNothing,
        Action::Pause { hosts: vec![host(1)] },
        goes_on,
    );
}

/// All machines of the test have control's clock.
fn a_shared_clock_is_not_moved() {
    let net = Net::new(2);
    let mut order = net.order(2, None);
    order.settings.clock = ClockOf::Host;
    let fleet = Fleet::start(order, net.remotes(), None).expect("two hosts");
    let skew = Skew {
        offset: Offset(3_600_000_000_000),
        ..Skew::default()
    };
    let hosts = vec![host(2)];
    let error = fleet.act(&Action::Clock { hosts, skew }).unwrap_err();
    let want = "host n2 (machine 2) shares its clock with control, which is not to be moved: set clock = \"process\" in [hosts]";
    assert_eq!(error, want);
}

/// That no probe arrives is not enough: the rule must be ours, and count.
fn what_others_drop_proves_no_block() {
    let net = Net::new(2);
    let (_fleet, mut rig) = net.world(Some(Sabotage::BlockDoesNothing));
    net.machines[1].sh("iptables -t raw -A PREROUTING -s 10.9.0.1 -j DROP");
    let error = rig
        .act(Action::Block {
            links: vec![link(1, 2)],
        })
        .unwrap_err();
    assert!(
        error.starts_with("n1>n2: of ") && error.ends_with("none was counted as dropped by n2"),
        "{error}"
    );
}
