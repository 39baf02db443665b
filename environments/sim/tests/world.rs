//! What the simulated world does to its hosts, seen through a toy.
#[path = "toy/shapes.rs"]
mod shapes;
mod toy;

use splitbrain_core::{Action, Happening, HostRole, HostSpec, Nanos, Op, Outcome, Shape, Unasked, World};
use splitbrain_sim::{Sabotage, SimConfig};
use toy::{CORRUPT, FOUND, HEARD, MS, STORE, Toys, hosts, link, name};

fn one(host: &str) -> Vec<splitbrain_core::Name> {
    vec![name(host)]
}

fn saw(result: Result<Vec<splitbrain_core::Proof>, String>) -> Vec<String> {
    let show = |proof: splitbrain_core::Proof| format!("{}: {}", proof.at, proof.saw);
    result.unwrap().into_iter().map(show).collect()
}

#[test]
fn every_host_starts_and_is_ready() {
    let toys = Toys::ready(1);
    for host in hosts(3) {
        let first = toys.log.iter().position(|(_, happening)| {
            *happening
                == Happening::Started {
                    host: host.name,
                    incarnation: 1,
                }
        });
        let ready = toys.log.iter().position(|(_, happening)| {
            *happening
                == Happening::Said {
                    host: host.name,
                    what: Unasked::Ready,
                }
        });
        assert!(first.unwrap() < ready.unwrap(), "{}", host.name);
    }
}

#[test]
fn a_block_cuts_one_direction_until_it_is_lifted() {
    let mut toys = Toys::ready(2);
    let links = vec![link("n1>n2")];
    let proofs = saw(toys.act(Action::Block { links: links.clone() }));
    assert_eq!(proofs, ["n1>n2: probe dropped"]);
    let from = toys.log.len();
    toys.run(Nanos::secs(2));
    let heard = toys.heard(from);
    assert_eq!(heard["n1>n2"], 0);
    assert!(heard.iter().all(|(link, &n)| link == "n1>n2" || n > 30), "{heard:?}");
    let proofs = saw(toys.act(Action::Unblock { links }));
    assert!(proofs[0].starts_with("n1>n2: probe carried in "), "{proofs:?}");
    let from = toys.log.len();
    toys.run(Nanos::secs(2));
    assert!(toys.heard(from).values().all(|&n| n > 30));
}

#[test]
fn a_paused_host_does_nothing_and_then_all_at_once() {
    let mut toys = Toys::ready(3);
    assert_eq!(
        saw(toys.act(Action::Pause { hosts: one("n1") })),
        ["n1: stopped, inputs are held"]
    );
    toys.run(Nanos::millis(10));
    let asked = toys.submit("n1", Op::Observe);
    let from = toys.log.len();
    toys.run(Nanos::secs(1));
    assert_eq!(toys.completed(asked), None);
    assert!(toys.applied(from, "n1", HEARD + 2).is_empty());
    assert!(toys.heard(from)["n1>n2"] == 0 && toys.heard(from)["n3>n2"] > 15);
    assert_eq!(
        saw(toys.act(Action::Resume { hosts: one("n1") })),
        ["n1: its process handles inputs"]
    );
    let resumed = toys.world.now();
    toys.run(Nanos::millis(40));
    assert!(toys.completed(asked).is_some());
    // It heard all that it had missed, in order, and its clock had gone on.
    let heard = toys.applied(from, "n1", HEARD + 2);
    assert!(heard.len() >= 19 && heard.is_sorted_by_key(|h| h.1), "{heard:?}");
    assert!(heard.iter().all(|h| h.2 + MS > resumed.0), "{heard:?}");
    // Its overdue beat came at once, and only one.
    assert_eq!(toys.heard(from)["n1>n2"], 1);
}

#[test]
fn a_deadline_that_moved_while_it_was_paused_brings_no_tick() {
    let mut toys = Toys::ready(3);
    toys.act(Action::Pause { hosts: one("n1") }).unwrap();
    toys.submit("n1", Op::Campaign);
    toys.run(Nanos::secs(1));
    let from = toys.log.len();
    // The toy panics if it is ticked early.
    toys.act(Action::Resume { hosts: one("n1") }).unwrap();
    toys.run(Nanos::millis(45));
    assert_eq!(toys.heard(from)["n1>n2"], 0);
    toys.run(Nanos::millis(15));
    assert_eq!(toys.heard(from)["n1>n2"], 1);
}

#[test]
fn a_pause_holds_what_waits_for_the_disk() {
    let mut held = 0;
    for seed in 0..20 {
        let mut toys = Toys::ready(seed);
        let set = toys.submit("n1", Op::Set { value: 7 });
        toys.run(Nanos::micros(100));
        toys.act(Action::Pause { hosts: one("n1") }).unwrap();
        let early = toys.completed(set).is_some();
        toys.run(Nanos::secs(1));
        assert_eq!(toys.completed(set).is_some(), early, "seed {seed}");
        toys.act(Action::Resume { hosts: one("n1") }).unwrap();
        toys.run(Nanos::millis(10));
        assert!(toys.completed(set).is_some(), "seed {seed}");
        held += usize::from(!early);
    }
    assert!(held > 5, "{held}");
}

#[test]
fn a_block_cuts_what_is_under_way() {
    let mut toys = Toys::ready(3);
    let links = vec![link("n1>n2")];
    let shape = Shape {
        delay: Nanos::millis(500),
        ..Shape::default()
    };
    toys.act(Action::Shape {
        links: links.clone(),
        shape,
    })
    .unwrap();
    toys.run(Nanos::millis(400));
    let from = toys.log.len();
    toys.act(Action::Block { links }).unwrap();
    toys.run(Nanos::secs(1));
    assert_eq!(toys.heard(from)["n1>n2"], 0);
}

#[test]
fn a_killed_host_keeps_its_disk_and_nothing_else() {
    let mut toys = Toys::ready(4);
    let set = toys.submit("n1", Op::Set { value: 7 });
    toys.run(Nanos::millis(50));
    assert!(toys.completed(set).is_some());
    assert_eq!(
        saw(toys.act(Action::Kill {
            hosts: one("n1"),
            unsynced: Default::default()
        })),
        ["n1: no process left, inputs are lost"]
    );
    toys.run(Nanos::millis(10));
    let from = toys.log.len();
    let lost = toys.submit("n1", Op::Observe);
    toys.run(Nanos::secs(1));
    assert_eq!(toys.heard(from)["n1>n2"] + toys.heard(from)["n2>n1"], 0);
    let from = toys.log.len();
    assert_eq!(
        saw(toys.act(Action::Start { hosts: one("n1") })),
        ["n1: its process handles inputs"]
    );
    toys.run(Nanos::millis(200));
    assert_eq!(toys.completed(lost), None);
    let found = toys.applied(from, "n1", FOUND);
    assert_eq!((found[0].1, found[0].2), (2, 2), "two records, second life");
    let of_n1 = |happening: &Happening| matches!(happening, Happening::Started { host, .. } | Happening::Said { host, .. } if *host == name("n1"));
    let first = toys.log[from..].iter().find(|(_, happening)| of_n1(happening)).unwrap();
    let started = Happening::Started {
        host: name("n1"),
        incarnation: 2,
    };
    assert_eq!(first.1, started);
    assert!(toys.heard(from)["n1>n2"] > 1);
}

#[test]
fn what_was_said_had_been_durable() {
    let mut seen = [false; 3];
    for kill_after in 0..60 {
        let mut toys = Toys::ready(kill_after);
        let set = toys.submit("n1", Op::Set { value: 7 });
        toys.run(Nanos::micros(kill_after * 50));
        toys.act(Action::Kill {
            hosts: one("n1"),
            unsynced: Default::default(),
        })
        .unwrap();
        toys.run(Nanos::millis(1));
        let said = toys.completed(set).is_some();
        let from = toys.log.len();
        toys.act(Action::Start { hosts: one("n1") }).unwrap();
        toys.run(Nanos::millis(10));
        let records = toys.applied(from, "n1", FOUND)[0].1;
        assert!(
            !said || records == 2,
            "killed after {kill_after}: said, and {records} on disk"
        );
        seen[usize::try_from(records).unwrap()] = true;
    }
    assert_eq!(
        seen, [true; 3],
        "none, some and all records survived in some of the kills"
    );
}

#[test]
fn a_compaction_replaces_the_disk() {
    let mut toys = Toys::ready(6);
    toys.submit("n1", Op::Set { value: 7 });
    toys.submit("n1", Op::Cas { from: None, to: 1 });
    toys.run(Nanos::millis(50));
    toys.act(Action::Kill {
        hosts: one("n1"),
        unsynced: Default::default(),
    })
    .unwrap();
    let from = toys.log.len();
    toys.act(Action::Start { hosts: one("n1") }).unwrap();
    toys.run(Nanos::millis(10));
    assert_eq!(toys.applied(from, "n1", FOUND)[0].1, 1);
}

#[test]
fn the_storage_says_what_it_did_and_answers_over_links() {
    let mut toys = Toys::ready(7);
    toys.submit("n1", Op::Write { value: 5 });
    toys.run(Nanos::millis(50));
    toys.submit("n2", Op::Write { value: 4 });
    toys.run(Nanos::millis(50));
    let of_storage = |(_, happening): &(Nanos, Happening)| match happening {
        Happening::Said { host, what } if *host == name("storage") => Some(what.clone()),
        _ => None,
    };
    let said: Vec<Unasked> = toys.log.iter().filter_map(of_storage).collect();
    assert!(
        matches!(
            said[..],
            [
                Unasked::Ready,
                Unasked::Stored { seq: 1, .. },
                Unasked::Rejected { value: 4, .. }
            ]
        ),
        "{said:?}"
    );
    assert_eq!(toys.applied(0, "n1", STORE)[0].2, 1);
    assert_eq!(toys.applied(0, "n2", STORE)[0].2, 0);
    let links = vec![link("n1>storage")];
    toys.act(Action::Block { links }).unwrap();
    toys.submit("n1", Op::Write { value: 6 });
    toys.run(Nanos::millis(50));
    assert_eq!(toys.applied(0, "n1", STORE).len(), 1);
}

#[test]
fn a_reply_of_the_storage_never_reaches_the_next_life() {
    let mut toys = Toys::ready(8);
    let shape = Shape {
        delay: Nanos::secs(1),
        ..Shape::default()
    };
    let links = vec![link("storage>n1")];
    toys.act(Action::Shape { links, shape }).unwrap();
    toys.submit("n1", Op::Write { value: 5 });
    toys.run(Nanos::millis(50));
    toys.act(Action::Kill {
        hosts: one("n1"),
        unsynced: Default::default(),
    })
    .unwrap();
    toys.act(Action::Start { hosts: one("n1") }).unwrap();
    toys.run(Nanos::secs(3));
    assert!(toys.applied(0, "n1", STORE).is_empty());
    toys.submit("n1", Op::Write { value: 6 });
    toys.run(Nanos::secs(3));
    assert_eq!(toys.applied(0, "n1", STORE).len(), 1);
}

#[test]
fn shaped_links_lose_repeat_and_corrupt_messages() {
    let mut toys = Toys::ready(9);
    let shape = |loss_ppm, duplicate_ppm, corrupt_ppm| Shape {
        loss_ppm,
        duplicate_ppm,
        corrupt_ppm,
        ..Shape::default()
    };
    for (to, shape) in [
        ("n1>n2", shape(1_000_000, 0, 0)),
        ("n1>n3", shape(0, 1_000_000, 0)),
        ("n2>n1", shape(0, 0, 1_000_000)),
    ] {
        let links = vec![link(to)];
        toys.act(Action::Shape { links, shape }).unwrap();
    }
    let from = toys.log.len();
    toys.run(Nanos::secs(1));
    let heard = toys.heard(from);
    assert_eq!((heard["n1>n2"], heard["n2>n1"]), (0, 0));
    assert!(heard["n1>n3"] > 30, "{heard:?}");
    assert!(toys.applied(from, "n1", CORRUPT + 2).len() > 15);
}

#[test]
fn actions_repeat_without_harm_and_say_so() {
    let mut toys = Toys::ready(10);
    let mut check = |action: Action, want: &str| assert_eq!(saw(toys.act(action)), [want]);
    check(Action::Resume { hosts: one("n1") }, "n1: already running");
    check(Action::Start { hosts: one("n1") }, "n1: already running");
    check(Action::Pause { hosts: one("n1") }, "n1: stopped, inputs are held");
    check(Action::Pause { hosts: one("n1") }, "n1: stopped, inputs are held");
    check(
        Action::Kill {
            hosts: one("n1"),
            unsynced: Default::default(),
        },
        "n1: no process left, inputs are lost",
    );
    check(
        Action::Kill {
            hosts: one("n1"),
            unsynced: Default::default(),
        },
        "n1: already dead",
    );
    check(Action::Pause { hosts: one("n1") }, "n1: already dead");
    check(Action::Resume { hosts: one("n1") }, "n1: already dead");
    check(Action::Start { hosts: one("n1") }, "n1: its process handles inputs");
    check(
        Action::Block {
            links: vec![link("n1>n2")],
        },
        "n1>n2: probe dropped",
    );
    check(
        Action::Block {
            links: vec![link("n1>n2")],
        },
        "n1>n2: probe dropped",
    );
}

#[test]
fn what_cannot_be_done_is_an_error_and_changes_nothing() {
    let mut toys = Toys::ready(11);
    for (action, want) in [
        (
            Action::Kill {
                hosts: vec![name("n1"), name("storage")],
                unsynced: Default::default(),
            },
            "kill storage: the storage has no disk and would forget its writes",
        ),
        (
            Action::Pause {
                hosts: vec![name("n1"), name("n7")],
            },
            "pause n7: there is no such host",
        ),
        (
            Action::Block {
                links: vec![link("n1>n2"), link("n7>n1")],
            },
            "block n7>n1: there is no host n7",
        ),
        (
            Action::Unblock {
                links: vec![link("n1>n1")],
            },
            "unblock n1>n1: a host has no link to itself",
        ),
    ] {
        assert_eq!(toys.act(action).unwrap_err(), want);
    }
    let from = toys.log.len();
    toys.run(Nanos::secs(1));
    assert!(toys.heard(from).values().all(|&n| n > 15));
}

#[test]
fn an_action_that_does_not_act_is_an_error() {
    let cases = [
        (
            Sabotage::BlockDoesNothing,
            Action::Block {
                links: vec![link("n1>n2")],
            },
            "block n1>n2: a probe was not dropped",
        ),
        (
            Sabotage::KillDoesNothing,
            Action::Kill {
                hosts: one("n1"),
                unsynced: Default::default(),
            },
            "kill n1: its process is still there",
        ),
        (
            Sabotage::PauseDoesNothing,
            Action::Pause { hosts: one("n1") },
            "pause n1: its process still handles inputs",
        ),
    ];
    for (sabotage, action, want) in cases {
        let mut config = SimConfig::new(12, hosts(3));
        config.sabotage = Some(sabotage);
        let mut toys = Toys::new(config);
        toys.run(Nanos::millis(100));
        assert_eq!(toys.act(action).unwrap_err(), want);
    }
}

#[test]
fn a_process_that_cannot_start_exits() {
    let mut all = hosts(2);
    all.push(HostSpec {
        name: name("n9"),
        role: HostRole::Member,
        asked: true,
    });
    let mut toys = Toys::new(SimConfig::new(13, all));
    toys.run(Nanos::millis(100));
    let exited = Happening::Exited {
        host: name("n9"),
        how: "member: no such toy".to_string(),
    };
    assert!(toys.log.iter().any(|(_, happening)| *happening == exited));
    let error = toys.act(Action::Start { hosts: one("n9") }).unwrap_err();
    assert_eq!(error, "start n9: it ended at once: no such toy");
}

#[test]
fn an_id_comes_back_once() {
    let mut toys = Toys::ready(14);
    let asked = toys.submit("n1", Op::Resign);
    let refused = toys.submit("storage", Op::Observe);
    toys.run(Nanos::millis(10));
    let twice =
        |(_, happening): &&(Nanos, Happening)| matches!(happening, Happening::Completed { id, .. } if *id == asked);
    assert_eq!(toys.log.iter().filter(twice).count(), 1);
    assert!(matches!(toys.log.last().unwrap().1, Happening::Garbage { .. }));
    assert!(matches!(toys.completed(refused), Some(Outcome::Fail(_))));
}

#[test]
fn a_world_with_nothing_left_says_so() {
    let mut toys = Toys::new(SimConfig::new(15, vec![]));
    toys.run(Nanos::secs(1));
    assert!(matches!(toys.world.poll(Nanos::MAX), Some((_, Happening::Broken(_)))));
}

fn a_lively_run(seed: u64) -> Vec<(Nanos, Happening)> {
    let mut toys = Toys::ready(seed);
    toys.submit("n1", Op::Set { value: 1 });
    toys.act(Action::Block {
        links: vec![link("n1>n2")],
    })
    .unwrap();
    toys.submit("n2", Op::Write { value: 2 });
    toys.act(Action::Kill {
        hosts: one("n3"),
        unsynced: Default::default(),
    })
    .unwrap();
    toys.act(Action::Pause { hosts: one("n2") }).unwrap();
    toys.run(Nanos::millis(500));
    toys.act(Action::Start { hosts: one("n3") }).unwrap();
    toys.act(Action::Resume { hosts: one("n2") }).unwrap();
    toys.run(Nanos::millis(500));
    toys.log
}

#[test]
fn one_seed_one_sequence() {
    assert_eq!(a_lively_run(16), a_lively_run(16));
    assert_ne!(a_lively_run(16), a_lively_run(17));
}
