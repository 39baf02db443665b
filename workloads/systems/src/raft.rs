//! Our own Raft: server and candidate are one process, the *member*.
//!
//! Members elect a leader among themselves (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", 2014; Ongaro's thesis for pre-vote, check-quorum and leadership transfer). The leader writes to the
//! storage with its term for a token. Members also keep a small replicated register (`get`, `set`, `cas`).
//!
//! What is promised is the paper's and no more. One leader per *term* (5.2), not one self-believed leader per instant: a
//! leader that was cut off believes until check-quorum ends its reign. Nor need terms begin in order of real time: the
//! votes that elect a candidate of term 5 may reach it after term 6 was won elsewhere, and it learns late that it won.
//!
//! No promise is lifted by clocks or disks. No safety argument of Raft reads a clock, and this one has no leases: a wrong
//! clock makes elections that nobody needed, or none for a while. What a vote or an append answers for is on the disk
//! before the answer leaves (thesis 3.8); a member that cannot keep it does not answer (full) or ends (failing sync).
use crate::options::{self, count};
use splitbrain_core::plan::{Storage, Workload};
use splitbrain_core::system::Place;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Plan, ProcessSpec, Promise, Site, System,
};
use splitbrain_node::member::MemberConfig;
use splitbrain_node::protocols::raft::{Mutant, Tuning};
use splitbrain_node::storage::StorageConfig;
use std::net::SocketAddr;

/// Where members listen for each other.
const MEMBER_PORT: u16 = 7000;
/// Where the storage listens.
pub(crate) const STORAGE_PORT: u16 = 7100;
/// Members unless the plan says otherwise: two may fail.
const MEMBERS: usize = 5;

const OPTIONS: &[(&str, &str)] = &[
    (
        "election-timeout",
        "shortest wait for a leader before a campaign; waits are drawn from one to two times this (300ms)",
    ),
    ("heartbeat", "time between two heartbeats of a leader (50ms)"),
    (
        "pre-vote",
        "ask whether an election could be won before the term is raised (true)",
    ),
    (
        "check-quorum",
        "a leader that hears no quorum for an election timeout steps down (true)",
    ),
];

/// The system `raft`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaftSystem;

impl System for RaftSystem {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn describe(&self) -> &'static str {
        "our own Raft: members elect a leader, which writes to the storage with its term for a token"
    }

    fn layer(&self) -> Layer {
        Layer::Member
    }

    fn token(&self) -> &'static str {
        "the term"
    }

    fn beliefs(&self) -> &'static str {
        "each member's own answer, which is of one instant of its state"
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        let member = |n| HostSpec {
            name: Name::numbered("n", n),
            role: HostRole::Member,
            asked: true,
        };
        let mut hosts: Vec<_> = (1..=count(plan.nodes, MEMBERS)).map(member).collect();
        hosts.push(storage_host());
        hosts
    }

    fn operations(&self) -> &'static [&'static str] {
        &[
            "observe", "write", "read", "next", "run", "get", "set", "cas", "campaign", "resign",
        ]
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(plan)
    }

    fn has_disk_layer(&self) -> bool {
        true
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        mutant(plan)?;
        let tuning = tuning(plan)?;
        if tuning.heartbeat >= tuning.election_timeout {
            return Err(format!(
                "option heartbeat = {} must be shorter than election-timeout = {}",
                tuning.heartbeat, tuning.election_timeout
            ));
        }
        Ok(())
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let tuning = tuning(plan).expect("a plan is checked before it is deployed");
        let mutant = mutant(plan).expect("a plan is checked before it is deployed");
        let hosts = self.hosts(plan);
        let members: Vec<Name> = hosts.iter().filter(|h| h.asked).map(|h| h.name).collect();
        let address = |name: Name, port| SocketAddr::new(site.places[&name].ip, port);
        let mut processes = vec![storage_process(plan, site)];
        for &name in &members {
            let config = MemberConfig {
                name,
                listen: address(name, MEMBER_PORT),
                peers: members.iter().map(|&peer| (peer, address(peer, MEMBER_PORT))).collect(),
                storage: Some(storage_address(site)),
                dir: site.places[&name].dir.clone(),
                seed,
                tuning,
                mutant,
            };
            processes.push(ours(site, name, "member", ["node", "member"], &config));
        }
        processes
    }
}

/// The host `storage`, last in every system that writes.
pub(crate) fn storage_host() -> HostSpec {
    HostSpec {
        name: storage_name(),
        role: HostRole::Storage,
        asked: false,
    }
}

fn storage_name() -> Name {
    "storage".parse().expect("it is a name")
}

/// Where candidates find the storage.
pub(crate) fn storage_address(site: &Site) -> SocketAddr {
    let Place { ip, .. } = site.places[&storage_name()];
    SocketAddr::new(ip, STORAGE_PORT)
}

/// The storage server. It starts before those that write to it.
pub(crate) fn storage_process(plan: &Plan, site: &Site) -> ProcessSpec {
    let config = StorageConfig {
        listen: storage_address(site),
        fenced: plan.storage == Storage::Fenced,
    };
    ours(site, storage_name(), "storage", ["node", "storage"], &config)
}

/// A process of our own program that speaks the protocol: `PROGRAM COMMAND KIND JSON`.
pub(crate) fn ours(
    site: &Site,
    host: Name,
    name: &str,
    command: [&str; 2],
    config: &impl serde::Serialize,
) -> ProcessSpec {
    let program = site.program.to_str().expect("the program's path is UTF-8");
    let json = serde_json::to_string(config).expect("plain data always becomes JSON");
    ProcessSpec {
        host,
        name: name.to_string(),
        argv: vec![
            program.to_string(),
            command[0].to_string(),
            command[1].to_string(),
            json,
        ],
        env: Vec::new(),
        stdio: splitbrain_core::system::Stdio::Protocol,
    }
}

/// The deliberately broken variant that `plan` asks for.
///
/// # Errors
/// There is none of that name; the error lists those that there are.
/// How the plan wants Raft broken, if at all; also for who runs the same members without hosts.
///
/// # Errors
/// The plan names a mutant that there is none of.
pub fn mutant(plan: &Plan) -> Result<Option<Mutant>, String> {
    plan.mutant.as_deref().map(str::parse).transpose()
}

/// The members' timing, from the plan's options over the defaults.
///
/// # Errors
/// An option is no time or no truth value.
/// The timers and switches that the plan asks for; also for who runs the same members without hosts.
///
/// # Errors
/// An option cannot be read.
pub fn tuning(plan: &Plan) -> Result<Tuning, String> {
    let default = Tuning::default();
    Ok(Tuning {
        election_timeout: options::time(plan, "election-timeout", default.election_timeout)?,
        heartbeat: options::time(plan, "heartbeat", default.heartbeat)?,
        pre_vote: options::switch(plan, "pre-vote", default.pre_vote)?,
        check_quorum: options::switch(plan, "check-quorum", default.check_quorum)?,
        ..default
    })
}

/// A promise without a bound.
pub(crate) fn promise(guarantee: Guarantee, holds: Holds, source: &str) -> Promise {
    Promise {
        guarantee,
        holds,
        within: None,
        source: source.to_string(),
    }
}

/// The promise that a leader emerges within `within` of the last healing.
pub(crate) fn recovery(within: Nanos, source: &str) -> Promise {
    Promise {
        within: Some(within),
        ..promise(Guarantee::Recovery, Holds::Always, source)
    }
}

/// What the storage promises to every system, and what it cannot promise where no tokens are compared; with what the
/// plan's workload makes of it. `has_token`: whether the system has a fencing token at all.
pub(crate) fn storage_promises(plan: &Plan, has_token: bool) -> Vec<Promise> {
    use Holds::{Always, Never};
    let (order_why, damage, damage_why) = match plan.storage {
        Storage::Fenced if has_token => (
            "the fenced storage refuses a token lower than the highest it has seen (Kleppmann, How to do distributed \
             locking)",
            Always,
            "a leader looks under its token before it writes, and from then on the fenced storage refuses lower ones",
        ),
        Storage::Guarded => (
            "an accepted write raises the version of one key, within a transaction of the service itself",
            Always,
            "a write is a transaction that holds only while the leader's own key is there, and it looked after its key was \
             made",
        ),
        Storage::Fenced | Storage::Unfenced => (
            "every accepted write has the place in the storage's order that its writer was told; tokens are not compared",
            Never,
            if has_token {
                "an old leader's write may arrive after a new leader's, and this storage compares no tokens"
            } else {
                "an old leader's write may arrive after a new leader's, and there is no token by which to tell"
            },
        ),
    };
    let mut promises = vec![
        promise(Guarantee::StorageOrder, Always, order_why),
        promise(Guarantee::NoDamage, damage.clone(), damage_why),
    ];
    match plan.workload {
        Workload::Leadership | Workload::Lock | Workload::Register => {}
        Workload::Sequence => promises.extend([Guarantee::UniqueIds, Guarantee::RisingIds].map(|guarantee| {
            let why = "a leader hands out what it wrote above the newest id, if nobody else can write in between";
            promise(guarantee, damage.clone(), why)
        })),
        Workload::Jobs => {
            let why = "a leader runs a job only if it saw that it had not run, if nobody else can write in between";
            promises.push(promise(Guarantee::ExactlyOnce, damage, why));
        }
    }
    promises
}

fn promises(plan: &Plan) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    let mut promises = vec![
        promise(
            LeaderPerEpoch,
            Always,
            "Election Safety: at most one leader in a given term (Raft paper, 5.2)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "a server's current term only increases (Raft paper, figure 2)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "votes may reach a candidate of term 5 after term 6 was won elsewhere: it learns late that it won",
        ),
        promise(
            TokenPerReign,
            Always,
            "the token is the term, and a member leads at most once in a term",
        ),
        promise(
            TokensInRealTime,
            Never,
            "the token is the term, and a term's reign may begin late",
        ),
        promise(
            Exclusion,
            Never,
            "a leader that was cut off or paused believes until it hears of a higher term, or until check-quorum",
        ),
        promise(
            AppliedAgreement,
            Always,
            "State Machine Safety: no two servers apply different entries at one index (Raft paper, 5.4.3)",
        ),
        promise(
            Linearizable,
            Always,
            "a set or cas takes effect when its entry is applied, and a get asks a quorum whether its leader still leads \
             (Raft paper, 8; ReadIndex, Raft thesis, 6.4)",
        ),
        promise(
            FinalAgreement,
            Always,
            "followers adopt the leader and term of its heartbeats (Raft paper, 5.1)",
        ),
        recovery(
            Nanos::secs(10),
            "election timeouts are a fraction of a second and randomised: an election takes a few of them (Raft paper, 9.3)",
        ),
    ];
    promises.extend(storage_promises(plan, true));
    promises
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;

    fn plan() -> Plan {
        Plan::new("raft", "local")
    }

    #[test]
    fn five_members_and_the_storage_unless_the_plan_says_otherwise() {
        let names = |plan: &Plan| {
            let hosts = RaftSystem.hosts(plan);
            hosts.iter().map(|h| h.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&plan()), "n1 n2 n3 n4 n5 storage");
        let three = Plan { nodes: 3, ..plan() };
        assert_eq!(names(&three), "n1 n2 n3 storage");
    }

    #[test]
    fn a_member_is_told_where_everything_is() {
        let mut plan = Plan {
            nodes: 1,
            mutant: Some("forget-vote".into()),
            storage: Storage::Unfenced,
            ..plan()
        };
        plan.options.insert("election-timeout".into(), "1s".into());
        let processes = RaftSystem.deploy(&plan, 7, &test_site(&RaftSystem.hosts(&plan)));
        let [storage, member] = &processes[..] else {
            panic!("{processes:?}")
        };
        assert_eq!(
            storage.argv,
            [
                "/opt/splitbrain",
                "node",
                "storage",
                r#"{"listen":"10.0.0.2:7100","fenced":false}"#
            ]
        );
        assert_eq!(member.argv[..3], ["/opt/splitbrain", "node", "member"]);
        let config: MemberConfig = serde_json::from_str(&member.argv[3]).unwrap();
        assert_eq!(config.listen.to_string(), "10.0.0.1:7000");
        assert_eq!(config.storage.unwrap().to_string(), "10.0.0.2:7100");
        assert_eq!(config.dir.to_str(), Some("/data/n1"));
        assert_eq!(config.seed, 7);
        assert_eq!(config.tuning.election_timeout, Nanos::secs(1));
        assert_eq!(config.mutant, Some(Mutant::ForgetVote));
    }

    fn check(change: impl FnOnce(&mut Plan), expect: &str) {
        let mut plan = plan();
        change(&mut plan);
        let error = RaftSystem.check(&plan).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        assert_eq!(RaftSystem.check(&plan()), Ok(()));
        check(|plan| plan.mutant = Some("forgetful".into()), "forget-vote");
        check(
            |plan| drop(plan.options.insert("ttl".into(), "5s".into())),
            "election-timeout",
        );
        check(
            |plan| drop(plan.options.insert("heartbeat".into(), "1s".into())),
            "must be shorter",
        );
    }
}
