//! The whole of it: agents in containers, and faults between and inside them. This program is the agent, too.
use crate::Case;
use crate::rig::{Run, await_that, order};
use splitbrain_core::system::Stdio;
use splitbrain_core::{Action, Link, Name, Nanos, Proof, Shape};
use splitbrain_environments::Sabotage;
use splitbrain_environments::docker;
use splitbrain_environments::fleet::Fleet;
use splitbrain_environments::ground::{Ground, Launch, Launched};
use std::io::{Read, Write};
use std::time::Instant;

pub const ALL: &[Case] = &[
    (
        "faults_act_in_containers_and_are_proven",
        faults_act_in_containers_and_are_proven,
    ),
    (
        "a_container_that_is_lost_is_told_and_the_rest_goes_on",
        a_container_that_is_lost_is_told_and_the_rest_goes_on,
    ),
    (
        "a_block_that_does_nothing_is_noticed",
        a_block_that_does_nothing_is_noticed,
    ),
];

fn fleet(run: &Run, hosts: usize, sabotage: Option<Sabotage>) -> Fleet {
    let program = std::env::current_exe().unwrap();
    let mut order = order(&run.name, run.dir.path(), &program, hosts);
    order.sabotage = sabotage;
    let begun = Instant::now();
    let remotes = docker::create(&order, &run.settings).unwrap();
    let fleet = Fleet::start(order, remotes, None).unwrap_or_else(|error| panic!("{error:#}"));
    println!("  {hosts} hosts in {} ms", begun.elapsed().as_millis());
    fleet
}

fn host(n: usize) -> Name {
    Name::numbered("n", n)
}

fn cat(fleet: &Fleet, host: Name, life: u32) -> Launched {
    let launch = Launch {
        host,
        process: "cat".into(),
        life,
        argv: vec!["/bin/cat".into()],
        env: Vec::new(),
        dir: fleet.site().places[&host].dir.clone(),
        stdio: Stdio::Protocol,
    };
    fleet.launch(&launch).unwrap()
}

fn act(fleet: &Fleet, what: &str, action: &Action) -> Vec<Proof> {
    let begun = Instant::now();
    let proofs = fleet.act(action).unwrap_or_else(|why| panic!("{what}: {why}"));
    println!("  {what} in {} ms: {}", begun.elapsed().as_millis(), proofs[0].saw);
    proofs
}

fn links(sources: &[usize], targets: &[usize]) -> Vec<Link> {
    let all = sources.iter().flat_map(|a| targets.iter().map(move |b| (*a, *b)));
    all.flat_map(|(a, b)| [(a, b), (b, a)])
        .map(|(a, b)| Link {
            src: host(a),
            dst: host(b),
        })
        .collect()
}

fn faults_act_in_containers_and_are_proven() {
    let run = Run::new();
    let fleet = fleet(&run, 5, None);
    let mut cats: Vec<Launched> = (1..=5).map(|n| cat(&fleet, host(n), 1)).collect();
    for launched in &mut cats {
        let (input, output) = launched.pipes.as_mut().unwrap();
        input.write_all(b"miau").unwrap();
        input.flush().unwrap();
        let mut back = [0; 4];
        output.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"miau");
    }
    let cut = links(&[1, 2], &[3, 4, 5]);
    // Once to warm up, and once to measure.
    for _ in 0..2 {
        let blocked = act(&fleet, "cut into two", &Action::Block { links: cut.clone() });
        let proven = |link: &&Link| blocked.iter().any(|proof| proof.at == link.to_string());
        assert_eq!(cut.iter().filter(proven).count(), 12, "{blocked:?}");
        act(&fleet, "joined", &Action::Unblock { links: cut.clone() });
    }
    let shape = Shape {
        delay: Nanos::millis(20),
        ..Shape::default()
    };
    let one = links(&[1], &[2]);
    act(
        &fleet,
        "delayed",
        &Action::Shape {
            links: one.clone(),
            shape,
        },
    );
    let shape = Shape::default();
    act(&fleet, "delayed no more", &Action::Shape { links: one, shape });
    let hosts = vec![host(1)];
    act(&fleet, "paused", &Action::Pause { hosts: hosts.clone() });
    act(&fleet, "resumed", &Action::Resume { hosts: hosts.clone() });
    let unsynced = Default::default();
    act(&fleet, "killed", &Action::Kill { hosts, unsynced });
    drop(cat(&fleet, host(1), 2));
    fleet.end();
    assert_eq!(run.things(), [""; 0]);
}

fn a_container_that_is_lost_is_told_and_the_rest_goes_on() {
    let run = Run::new();
    let fleet = fleet(&run, 3, None);
    let endings = fleet.endings();
    let _cat = cat(&fleet, host(1), 1);
    crate::rig::docker(&["kill", &format!("splitbrain-{}-n1", run.name)]);
    let ending = endings.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!((ending.host, &*ending.process), (host(1), "cat"));
    assert!(ending.how.contains("the host was lost"), "{}", ending.how);
    act(
        &fleet,
        "cut",
        &Action::Block {
            links: links(&[2], &[3]),
        },
    );
    let why = fleet.act(&Action::Pause { hosts: vec![host(1)] }).unwrap_err();
    assert!(why.contains(&format!("container splitbrain-{}-n1", run.name)), "{why}");
    fleet.end();
    await_that("nothing is left", || run.things(), Vec::is_empty);
}

fn a_block_that_does_nothing_is_noticed() {
    let run = Run::new();
    let fleet = fleet(&run, 2, Some(Sabotage::BlockDoesNothing));
    let why = fleet
        .act(&Action::Block {
            links: links(&[1], &[2]),
        })
        .unwrap_err();
    println!("  {why}");
    assert!(why.contains("n1>n2"), "{why}");
}
