//! Raft in the simulated world: what the world is for.
use splitbrain_core::op::Role;
use splitbrain_core::{
    Action, Answer, Epoch, Happening, HostRole, HostSpec, Link, Name, Nanos, Op, Outcome, Reign, Status, Unasked,
    World, seed,
};
use splitbrain_protocols::Protocol;
use splitbrain_protocols::raft::{Member, MemberConfig, Tuning};
use splitbrain_sim::{SimConfig, SimWorld};
use std::collections::BTreeMap;

struct Cluster {
    world: SimWorld,
    log: Vec<(Nanos, Happening)>,
    /// Who believes to lead, as far as heard.
    reigns: BTreeMap<Name, (Epoch, Reign)>,
    /// Who ever led each epoch.
    leaders: BTreeMap<Epoch, Name>,
    ids: u64,
}

impl Cluster {
    fn new(seed: u64, members: usize) -> Cluster {
        let names: Vec<Name> = (1..=members).map(|n| Name::numbered("n", n)).collect();
        let spec = |&name: &Name| HostSpec {
            name,
            role: HostRole::Member,
            asked: true,
        };
        let mut hosts: Vec<HostSpec> = names.iter().map(spec).collect();
        hosts.push(HostSpec {
            name: "storage".parse().unwrap(),
            role: HostRole::Storage,
            asked: false,
        });
        let build = move |name: Name, records: Vec<Vec<u8>>, life: u32| {
            let config = MemberConfig {
                name,
                peers: names.clone(),
                tuning: Tuning::default(),
                mutant: None,
            };
            let rng = seed::stream(seed, &format!("{name}/{life}"));
            Ok(Box::new(Member::new(config, records, rng)?) as Box<dyn Protocol>)
        };
        Cluster {
            world: SimWorld::new(SimConfig::new(seed, hosts), Box::new(build)),
            log: Vec::new(),
            reigns: BTreeMap::new(),
            leaders: BTreeMap::new(),
            ids: 0,
        }
    }

    fn led(seed: u64, members: usize) -> (Cluster, Name) {
        let mut cluster = Cluster::new(seed, members);
        let (leader, _) = cluster.until_leader(Epoch(0));
        (cluster, leader)
    }

    fn note(&mut self, (at, happening): (Nanos, Happening)) {
        match &happening {
            Happening::Said {
                host,
                what: Unasked::Elected { epoch, reign, .. },
            } => {
                let other = self.leaders.insert(*epoch, *host);
                assert!(other.is_none(), "{other:?} and {host} both led {epoch}");
                self.reigns.insert(*host, (*epoch, *reign));
            }
            Happening::Said {
                host,
                what: Unasked::Deposed { .. },
            }
            | Happening::Started { host, .. } => drop(self.reigns.remove(host)),
            Happening::Exited { .. } | Happening::Garbage { .. } | Happening::Broken(_) => panic!("{happening:?}"),
            _ => {}
        }
        self.log.push((at, happening));
    }

    fn run(&mut self, span: Nanos) {
        let until = self.world.now() + span;
        while let Some(next) = self.world.poll(until) {
            self.note(next);
        }
    }

    /// Goes on until somebody leads an epoch above `above`; at most ten seconds.
    fn until_leader(&mut self, above: Epoch) -> (Name, Epoch) {
        for _ in 0..1000 {
            self.run(Nanos::millis(10));
            let newest = self.reigns.iter().max_by_key(|(_, reign)| reign.0);
            if let Some((host, (epoch, _))) = newest.filter(|(_, reign)| reign.0 > above) {
                return (*host, *epoch);
            }
        }
        panic!("nobody leads above {above} within 10 s");
    }

    fn act(&mut self, action: Action) {
        self.ids += 1;
        self.world.act(self.ids, &action);
        loop {
            let next = self.world.poll(Nanos::MAX).unwrap();
            self.note(next.clone());
            if let Happening::Acted { id, result } = next.1 {
                assert_eq!(id, self.ids);
                result.unwrap();
                return;
            }
        }
    }

    fn ask(&mut self, host: Name, op: Op) -> Option<Outcome> {
        self.ids += 1;
        let id = self.ids;
        self.world.submit(id, host, op);
        self.run(Nanos::millis(200));
        self.log.iter().rev().find_map(|(_, happening)| match happening {
            Happening::Completed { id: of, outcome } if *of == id => Some(outcome.clone()),
            _ => None,
        })
    }

    fn status(&mut self, host: Name) -> Status {
        match self.ask(host, Op::Observe) {
            Some(Outcome::Ok(Answer::Status(status))) => status,
            other => panic!("{host} answered {other:?}"),
        }
    }
}

fn around(host: Name, members: usize) -> Vec<Link> {
    let others = (1..=members)
        .map(|n| Name::numbered("n", n))
        .filter(|&other| other != host);
    let both = others.flat_map(|other| [Link { src: host, dst: other }, Link { src: other, dst: host }]);
    both.collect()
}

#[test]
fn a_leader_emerges_and_everybody_knows() {
    for seed in 0..20 {
        let (mut cluster, leader) = Cluster::led(seed, 5);
        cluster.run(Nanos::secs(2));
        assert_eq!(cluster.reigns.len(), 1, "seed {seed}");
        for n in 1..=5 {
            let host = Name::numbered("n", n);
            let status = cluster.status(host);
            assert_eq!(status.leader, Some(leader), "seed {seed} {host}");
            assert_eq!(status.role == Role::Leader, host == leader);
        }
    }
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back_with_its_log() {
    let (mut cluster, leader) = Cluster::led(1, 3);
    let epoch = cluster.reigns[&leader].0;
    let set = cluster.ask(leader, Op::Set { value: 7 });
    assert_eq!(set, Some(Outcome::Ok(Answer::Done)));
    let hosts = vec![leader];
    cluster.act(Action::Kill {
        hosts: hosts.clone(),
        unsynced: Default::default(),
    });
    cluster.reigns.clear();
    let (next, _) = cluster.until_leader(epoch);
    assert_ne!(next, leader);
    assert_eq!(cluster.ask(next, Op::Get), Some(Outcome::Ok(Answer::Value(Some(7)))));
    cluster.act(Action::Start { hosts });
    cluster.run(Nanos::secs(2));
    let status = cluster.status(leader);
    assert_eq!((status.role, status.leader), (Role::Follower, Some(next)));
}

#[test]
fn a_cut_off_leader_gives_up_and_another_is_elected() {
    let (mut cluster, leader) = Cluster::led(2, 5);
    let epoch = cluster.reigns[&leader].0;
    let links = around(leader, 5);
    cluster.act(Action::Block { links: links.clone() });
    let (next, _) = cluster.until_leader(epoch);
    assert_ne!(next, leader);
    cluster.run(Nanos::secs(2));
    assert_ne!(cluster.status(leader).role, Role::Leader);
    cluster.act(Action::Unblock { links });
    cluster.run(Nanos::secs(2));
    assert_eq!(cluster.status(leader).leader, Some(next));
}

#[test]
fn a_paused_leader_believes_until_it_goes_on() {
    let (mut cluster, leader) = Cluster::led(3, 5);
    let epoch = cluster.reigns[&leader].0;
    let hosts = vec![leader];
    cluster.act(Action::Pause { hosts: hosts.clone() });
    cluster.until_leader(epoch);
    assert_eq!(cluster.reigns.len(), 2, "two believe to lead");
    cluster.act(Action::Resume { hosts });
    cluster.run(Nanos::secs(1));
    assert_eq!(cluster.reigns.len(), 1);
}

/// A minute of trouble for whoever leads, and for others.
fn trouble(seed: u64) -> Cluster {
    let (mut cluster, _) = Cluster::led(seed, 5);
    for round in 0..10_u64 {
        let victim = match cluster.reigns.keys().next() {
            Some(&leader) if round % 2 == 0 => leader,
            _ => Name::numbered("n", 1 + (seed + round) as usize % 5),
        };
        let (hosts, links) = (vec![victim], around(victim, 5));
        let (fault, heal) = match (seed + round) % 3 {
            0 => (
                Action::Kill {
                    hosts: hosts.clone(),
                    unsynced: Default::default(),
                },
                Action::Start { hosts },
            ),
            1 => (Action::Pause { hosts: hosts.clone() }, Action::Resume { hosts }),
            _ => (Action::Block { links: links.clone() }, Action::Unblock { links }),
        };
        cluster.act(fault);
        cluster.reigns.remove(&victim);
        for value in 0..20 {
            if let Some(&leader) = cluster.reigns.keys().next() {
                cluster.ids += 1;
                let value = round * 100 + value;
                cluster.world.submit(cluster.ids, leader, Op::Write { value });
                cluster.ids += 1;
                cluster.world.submit(cluster.ids, leader, Op::Set { value });
            }
            cluster.run(Nanos::millis(200));
        }
        cluster.act(heal);
        cluster.run(Nanos::secs(2));
    }
    cluster
}

#[test]
fn one_leader_per_epoch_whatever_happens_and_the_same_again() {
    for seed in 0..6 {
        // The cluster asserts that no epoch has two leaders.
        let cluster = trouble(seed);
        assert!(cluster.leaders.len() > 2, "seed {seed}: {:?}", cluster.leaders);
        if seed < 2 {
            assert!(cluster.log == trouble(seed).log, "seed {seed} gives one sequence");
            assert!(
                cluster.log != trouble(seed + 1).log,
                "seed {seed} gives a sequence of its own"
            );
        }
    }
}
