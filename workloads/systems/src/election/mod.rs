//! Leader election by clients of an etcd cluster, as the official client's recipe does it.
//!
//! The leader is a *client*: it holds a lease, and its key is the oldest of the election. Candidates therefore live on
//! hosts of their own, where they can be paused, killed and cut off like the servers; see [`candidate`] for what they do
//! and [`lease`] for the clock of a session. The fencing token is the create revision of the leader's key.
//!
//! **What is promised** is what etcd's documentation says. Create revisions are unique, since etcd's store is
//! linearizable. Exclusion is promised never: "the lease mechanism itself doesn't guarantee mutual exclusion", which is
//! no matter of faults alone. A client counts its time to live from an answer's arrival and looks at its deadline every
//! 500 ms, the server counts from the keepalive's arrival; a slow machine is enough for two believers.
//!
//! **Clocks** make more of them, and lift nothing that is promised. Servers and clients count a lease by their monotonic
//! clocks: a server's that runs ahead expires it early, a candidate's that runs behind believes in it long after. Epochs and
//! tokens are revisions, which no clock makes. **Disks** are broken at the servers, whose Raft syncs before it answers;
//! candidates keep nothing.
pub mod candidate;
pub mod lease;
mod recipe;
mod store;

use crate::etcd::server;
use crate::options::{self, count};
use crate::raft::{ours, promise, recovery, storage_address, storage_host, storage_process, storage_promises};
use serde::{Deserialize, Serialize};
use splitbrain_core::{Guarantee, Holds, HostRole, HostSpec, Name, Nanos, Plan, ProcessSpec, Promise, Site, System};
use std::net::SocketAddr;

/// The agent that campaigns.
pub const CANDIDATE: &str = "etcd-candidate";
/// Servers unless the plan says otherwise: one may fail.
const SERVERS: usize = 3;
/// Candidates unless the plan says otherwise.
const CANDIDATES: usize = 3;
const OPTIONS: &[(&str, &str)] = &[
    (
        "ttl",
        "time to live of a candidate's lease in whole seconds; etcd gives no less than 2s (3s)",
    ),
    (
        "work",
        "how long a leader's work takes between its look at whether it leads and its write (20ms)",
    ),
    server::BINARY_OPTION,
];

/// What a candidate is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host, its name in the election, and the writer's name at the storage.
    pub host: Name,
    /// The servers' client URLs.
    pub servers: Vec<String>,
    /// Which of them it asks first.
    pub first_server: usize,
    /// The storage.
    pub storage: SocketAddr,
    /// The lease's time to live in seconds.
    pub ttl: u64,
    /// How long a leader's work takes between its look at whether it leads and its write, in nanoseconds.
    pub work: Nanos,
}

/// The system `etcd-election`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EtcdElectionSystem;

impl System for EtcdElectionSystem {
    fn name(&self) -> &'static str {
        "etcd-election"
    }

    fn describe(&self) -> &'static str {
        "clients of an etcd cluster campaign with a lease, as the official client's recipe does"
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        let candidate = |n| HostSpec {
            name: Name::numbered("c", n),
            role: HostRole::Candidate,
            asked: true,
        };
        let mut hosts = server::hosts("s", count(plan.nodes, SERVERS), false);
        hosts.extend((1..=count(plan.candidates, CANDIDATES)).map(candidate));
        hosts.push(storage_host());
        hosts
    }

    fn operations(&self) -> &'static [&'static str] {
        &["observe", "write", "read", "campaign", "resign"]
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(plan, ttl(plan).unwrap_or(DEFAULT_TTL))
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        ttl(plan)?;
        work(plan)?;
        server::check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let hosts = self.hosts(plan);
        let of = |role| hosts.iter().filter(move |h| h.role == role).map(|h| h.name);
        let servers: Vec<Name> = of(HostRole::Server).collect();
        let ttl = ttl(plan).expect("a plan is checked before it is deployed");
        let work = work(plan).expect("a plan is checked before it is deployed");
        let candidate = |(n, host): (usize, Name)| {
            let settings = Settings {
                host,
                servers: servers.iter().map(|&s| server::client_url(site, s)).collect(),
                first_server: n % servers.len(),
                storage: storage_address(site),
                ttl: ttl.0 / Nanos::secs(1).0,
                work,
            };
            ours(site, host, "candidate", ["agent", CANDIDATE], &settings)
        };
        let mut processes = vec![storage_process(plan, site)];
        processes.extend(servers.iter().map(|&s| server::process(plan, site, &servers, s)));
        processes.extend(of(HostRole::Candidate).enumerate().map(candidate));
        processes
    }
}

/// Short, so that a run of a minute sees many elections; the official client's own default is a minute.
const DEFAULT_TTL: Nanos = Nanos::secs(3);

fn work(plan: &Plan) -> Result<Nanos, String> {
    options::time_or_none(plan, "work", Nanos::millis(20))
}

fn ttl(plan: &Plan) -> Result<Nanos, String> {
    let ttl = options::time(plan, "ttl", DEFAULT_TTL)?;
    if !ttl.0.is_multiple_of(Nanos::secs(1).0) {
        return Err(format!(
            "option ttl = {ttl} must be whole seconds: etcd's leases know no others"
        ));
    }
    Ok(ttl)
}

fn promises(plan: &Plan, ttl: Nanos) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    let mut promises = vec![
        promise(
            LeaderPerEpoch,
            Always,
            "the epoch is the create revision of the leader's key, and a revision of etcd's store creates one key (etcd \
             documentation, KV API guarantees)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "each campaign puts a new key, and revisions rise with each change of the store (etcd documentation, KV API \
             guarantees)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "a candidate may learn late that it was elected, when its lease has expired and another leads",
        ),
        promise(
            TokenPerReign,
            Always,
            "the token is the create revision of the key, and each reign has a key of its own (etcd's election recipe)",
        ),
        promise(TokensInRealTime, Never, "as the epochs: a reign may begin late"),
        promise(
            Exclusion,
            Never,
            "the lease mechanism itself doesn't guarantee mutual exclusion (etcd documentation, etcd versus other \
             key-value stores, notes on the usage of lock and lease)",
        ),
        promise(
            FinalAgreement,
            Always,
            "of all keys of the election one is the oldest, and its owner leads",
        ),
        recovery(
            ttl + Nanos::secs(10),
            "the lease of a leader that is gone expires after its time to live, counted anew after an election among the \
             servers; then the next in the queue leads",
        ),
    ];
    promises.extend(storage_promises(plan));
    promises
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;

    fn plan() -> Plan {
        let mut plan = Plan::new("etcd-election", "local");
        plan.options.insert("etcd-bin".into(), "/bin/sh".into());
        plan
    }

    #[test]
    fn candidates_live_on_hosts_of_their_own() {
        let names = |plan: &Plan| {
            let hosts = EtcdElectionSystem.hosts(plan);
            let asked = |h: &HostSpec| format!("{}{}", h.name, if h.asked { "?" } else { "" });
            hosts.iter().map(asked).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&plan()), "s1 s2 s3 c1? c2? c3? storage");
        let small = Plan {
            nodes: 1,
            candidates: 2,
            ..plan()
        };
        assert_eq!(names(&small), "s1 c1? c2? storage");
    }

    #[test]
    fn a_candidate_is_told_where_everything_is() {
        let mut plan = Plan {
            nodes: 2,
            candidates: 2,
            ..plan()
        };
        plan.options.insert("ttl".into(), "4s".into());
        let processes = EtcdElectionSystem.deploy(&plan, 7, &test_site(&EtcdElectionSystem.hosts(&plan)));
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(
            shape,
            ["storage storage", "s1 etcd", "s2 etcd", "c1 candidate", "c2 candidate"]
        );
        assert!(
            processes[1]
                .argv
                .join(" ")
                .starts_with("/bin/sh --name s1 --data-dir /data/s1/etcd")
        );
        assert!(
            processes[1]
                .argv
                .join(" ")
                .ends_with("--logger zap --log-outputs stderr")
        );
        let candidate = &processes[4];
        assert_eq!(candidate.argv[..3], ["/opt/splitbrain", "agent", "etcd-candidate"]);
        assert_eq!(
            candidate.argv[3],
            r#"{"host":"c2","servers":["http://10.0.0.1:2379","http://10.0.0.2:2379"],"first_server":1,"storage":"10.0.0.5:7100","ttl":4,"work":20000000}"#
        );
    }

    fn check(options: &[(&str, &str)], expect: &str) {
        let mut plan = plan();
        for (name, value) in options {
            plan.options.insert(name.to_string(), value.to_string());
        }
        let error = EtcdElectionSystem.check(&plan).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        assert_eq!(EtcdElectionSystem.check(&plan()), Ok(()));
        check(&[("ttl", "2500ms")], "whole seconds");
        check(&[("ttl", "soon")], "5s or 300ms");
        check(&[("work", "hard")], "work = 'hard'");
        check(&[("time-to-live", "5s")], "ttl");
        check(&[("etcd-bin", "/nonexistent")], "apt-get install etcd-server");
    }

    #[test]
    fn recovery_waits_for_the_lease() {
        let mut plan = plan();
        plan.options.insert("ttl".into(), "20s".into());
        let promises = EtcdElectionSystem.promises(&plan);
        let recovery = promises.iter().find(|p| p.guarantee == Guarantee::Recovery);
        assert_eq!(recovery.unwrap().within, Some(Nanos::secs(30)));
    }
}
