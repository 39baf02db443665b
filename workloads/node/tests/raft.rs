//! Three real Raft members and a real storage, over loopback.
mod common;

use common::{Child, LONG, listen, name, tokio_listener};
use splitbrain_core::{Answer, Name, Op, Outcome, Role, Status, Unasked};
use splitbrain_node::member::{self, MemberConfig};
use splitbrain_node::storage;
use splitbrain_protocols::raft::Tuning;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

struct Cluster {
    dir: tempfile::TempDir,
    peers: BTreeMap<Name, SocketAddr>,
    storage_addr: SocketAddr,
    members: BTreeMap<Name, Child>,
    storage: Child,
}

/// Listens on `listener`, or anew where its last life did.
fn start_member(
    name: Name,
    listener: Option<std::net::TcpListener>,
    peers: &BTreeMap<Name, SocketAddr>,
    storage: SocketAddr,
    dir: &Path,
) -> Child {
    let config = MemberConfig {
        name,
        listen: peers[&name],
        peers: peers.clone(),
        storage: Some(storage),
        dir: dir.join(name.as_str()),
        seed: 7,
        // Slow machines that run many tests at once must not lose leaders for it.
        tuning: Tuning {
            election_timeout: splitbrain_core::Nanos::secs(1),
            snapshot_every: 8,
            ..Tuning::default()
        },
        mutant: None,
    };
    Child::spawn(move |stdio| async move {
        let listener = match listener {
            Some(listener) => tokio_listener(listener),
            None => bind(config.listen).await,
        };
        member::run_on(config, listener, stdio).await
    })
}

/// A peer's attempt to connect to itself can hold the port for a moment.
async fn bind(addr: SocketAddr) -> tokio::net::TcpListener {
    let began = Instant::now();
    loop {
        match tokio::net::TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(e) => assert!(began.elapsed() < LONG, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Cluster {
    fn start(fenced: bool) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let listeners: BTreeMap<_, _> = (1..=3).map(|n| (name(n), listen())).collect();
        let peers: BTreeMap<_, _> = listeners.iter().map(|(name, (_, addr))| (*name, *addr)).collect();
        let (listener, storage_addr) = listen();
        let storage = Child::spawn(move |stdio| async move {
            storage::serve(tokio_listener(listener), fenced, stdio).await;
            Ok(())
        });
        let members = listeners
            .into_iter()
            .map(|(name, (listener, _))| {
                (
                    name,
                    start_member(name, Some(listener), &peers, storage_addr, dir.path()),
                )
            })
            .collect();
        Cluster {
            dir,
            peers,
            storage_addr,
            members,
            storage,
        }
    }

    fn ask(&mut self, who: Name, op: Op) -> Outcome {
        self.members.get_mut(&who).unwrap().ask(op)
    }

    fn observe(&mut self, who: Name) -> Status {
        match self.ask(who, Op::Observe) {
            Outcome::Ok(Answer::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until some member leads and all the others that run follow it.
    fn leader(&mut self) -> Name {
        let (began, names) = (Instant::now(), self.members.keys().copied().collect::<Vec<_>>());
        while began.elapsed() < LONG {
            let seen: Vec<Status> = names.iter().map(|n| self.observe(*n)).collect();
            let leaders = names.iter().zip(&seen).filter(|(_, s)| s.role == Role::Leader);
            let leaders: Vec<_> = leaders.map(|(n, _)| *n).collect();
            if let [leader] = leaders[..]
                && seen
                    .iter()
                    .all(|s| s.leader == Some(leader) && s.epoch == seen[0].epoch)
            {
                return leader;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no leader in {LONG:?}");
    }

    /// Asks the leader until the answer is `ok` or a definite `mismatch`; other failures are a changing leadership.
    fn ask_leader(&mut self, op: Op) -> Outcome {
        let began = Instant::now();
        while began.elapsed() < LONG {
            let leader = self.leader();
            match self.ask(leader, op) {
                Outcome::Fail(why) if why != "mismatch" => std::thread::sleep(Duration::from_millis(10)),
                Outcome::Info(why) => panic!("{op:?} ended unknown: {why}"),
                outcome => return outcome,
            }
        }
        panic!("{op:?} did not succeed in {LONG:?}");
    }

    fn stop(&mut self, who: Name) {
        self.members.remove(&who).unwrap().end().unwrap();
    }

    fn start_again(&mut self, who: Name) {
        let child = start_member(who, None, &self.peers, self.storage_addr, self.dir.path());
        self.members.insert(who, child);
    }

    fn end(self) {
        for member in self.members.into_values() {
            member.end().unwrap();
        }
        self.storage.end().unwrap();
    }
}

fn value(value: Option<u64>) -> Outcome {
    Outcome::Ok(Answer::Value(value))
}

const DONE: Outcome = Outcome::Ok(Answer::Done);

#[test]
fn a_leader_emerges_and_does_its_work() {
    let mut cluster = Cluster::start(true);
    let leader = cluster.leader();
    let status = cluster.observe(leader);
    assert_eq!(status.token.map(|t| t.0), status.epoch.map(|e| e.0));
    assert_eq!(cluster.ask_leader(Op::Get), value(None));
    assert_eq!(cluster.ask_leader(Op::Set { value: 4 }), DONE);
    assert_eq!(cluster.ask_leader(Op::Cas { from: Some(4), to: 5 }), DONE);
    assert_eq!(
        cluster.ask_leader(Op::Cas { from: Some(4), to: 6 }),
        Outcome::Fail("mismatch".into())
    );
    assert_eq!(cluster.ask_leader(Op::Get), value(Some(5)));
    for seq in 1..=3 {
        let wrote = cluster.ask_leader(Op::Write { value: 40 + seq });
        assert!(
            matches!(wrote, Outcome::Ok(Answer::Written { seq: s, .. }) if s == seq),
            "{wrote:?}"
        );
    }
    assert_eq!(cluster.ask_leader(Op::Read), value(Some(43)));
    let follower = *cluster.members.keys().find(|n| **n != leader).unwrap();
    if cluster.leader() == leader {
        assert!(matches!(
            cluster.ask(follower, Op::Write { value: 50 }),
            Outcome::Fail(_)
        ));
    }
    cluster.end();
}

#[test]
fn what_was_agreed_outlives_every_process() {
    let mut cluster = Cluster::start(true);
    // More than `snapshot_every`, so that logs are compacted too.
    for value in 1..=20 {
        assert_eq!(cluster.ask_leader(Op::Set { value }), DONE);
    }
    let first = cluster.leader();
    let before = cluster.observe(first).epoch;
    // A new leader without the old one...
    cluster.stop(first);
    let second = cluster.leader();
    assert_ne!(first, second);
    assert!(cluster.observe(second).epoch > before);
    assert_eq!(cluster.ask_leader(Op::Get), value(Some(20)));
    assert_eq!(cluster.ask_leader(Op::Set { value: 21 }), DONE);
    cluster.start_again(first);
    cluster.leader();
    // ... and everything again from the disks alone.
    for n in 1..=3 {
        cluster.stop(name(n));
    }
    for n in 1..=3 {
        cluster.start_again(name(n));
    }
    let third = cluster.leader();
    assert!(cluster.observe(third).epoch > before, "terms never fall");
    assert_eq!(cluster.ask_leader(Op::Get), value(Some(21)));
    let child = &cluster.members[&third];
    assert!(matches!(child.events[0], Unasked::Ready), "{:?}", child.events);
    cluster.end();
}
