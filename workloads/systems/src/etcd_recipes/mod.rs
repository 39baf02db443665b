//! Leader election by clients of an etcd cluster, by the recipes that people use: one file each.
//!
//! - [`etcd-election`](election): the election recipe of the official Go client;
//! - [`etcd-lock`](lock): the lock API, which any client calls and the server carries out;
//! - [`etcd-lease`](lease_key): one key with a lease, created by a transaction if it is absent, and watched.
//!
//! The leader is a *client*: it holds a lease, and a key that hangs on it. Candidates therefore live on hosts of their
//! own, where they can be paused, killed and cut off like the servers; see [`candidate`] for what they do and [`lease`]
//! for the clock of a session. The fencing token is the create revision of the leader's key.
//!
//! **Two fenced storages**: ours, which compares tokens, and etcd itself ([`guarded`]), which compares the leader's key. On
//! the storage's host there is then a [`mirror`], which tells control what was written.
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
mod calls;
pub mod candidate;
mod election;
mod guarded;
pub mod lease;
mod lease_key;
mod lock;
pub mod mirror;
mod promises;

use crate::client;
use crate::contender::Common;
use crate::etcd::server;
use crate::gateway::CallError;
use crate::options;
use crate::raft::{ours, storage_address, storage_host, storage_process};
use serde::{Deserialize, Serialize};
use splitbrain_core::plan::Storage;
use splitbrain_core::{HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System};
use std::net::SocketAddr;

/// The agent that campaigns.
pub const CANDIDATE: &str = "etcd-candidate";
/// The agent that tells of the writes to a guarded storage.
pub const MIRROR: &str = "etcd-mirror";
/// Servers unless the plan says otherwise: one may fail.
const SERVERS: usize = 3;
const TTL_OPTION: (&str, &str) = (
    "ttl",
    "time to live of a candidate's lease in whole seconds; etcd gives no less than 2s (3s)",
);
const LOST_CALL_OPTION: (&str, &str) = (
    "lost-call",
    "what follows a call for the lock that was lost: 'again' with the same lease, as the API's documentation has it and its \
     Java client does, or a 'new-lease' (again)",
);
const OPTIONS: &[(&str, &str)] = &[TTL_OPTION, client::WORK_OPTION, server::BINARY_OPTION];
const LOCK_OPTIONS: &[(&str, &str)] = &[TTL_OPTION, LOST_CALL_OPTION, client::WORK_OPTION, server::BINARY_OPTION];

/// A recipe, each of which is a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The system `etcd-election`.
    Election,
    /// The system `etcd-lock`.
    Lock,
    /// The system `etcd-lease`.
    Lease,
}

/// What follows a call for the lock that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostCall {
    /// The same call, with the same lease.
    Again,
    /// The end of the session and its lease; a call with a new one.
    NewLease,
}

impl LostCall {
    /// Whether a call that ended in `error` ends the session too: it may have put a key there.
    fn ends_session(self, error: &CallError) -> bool {
        self == LostCall::NewLease && !matches!(error, CallError::NotSent(_))
    }
}

/// What a candidate is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every candidate is told.
    pub common: Common,
    /// By which it campaigns.
    pub recipe: Recipe,
    /// The servers' client URLs.
    pub servers: Vec<String>,
    /// Which of them it asks first.
    pub first_server: usize,
    /// The storage; none where it is etcd itself.
    pub storage: Option<SocketAddr>,
    /// The lease's time to live in seconds.
    pub ttl: u64,
    /// Matters to [`Recipe::Lock`] only.
    pub lost_call: LostCall,
}

impl System for Recipe {
    fn name(&self) -> &'static str {
        match self {
            Recipe::Election => "etcd-election",
            Recipe::Lock => "etcd-lock",
            Recipe::Lease => "etcd-lease",
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Recipe::Election => {
                "clients of an etcd cluster campaign with a lease, as the official client's recipe does"
            }
            Recipe::Lock => "clients of an etcd cluster ask its lock API for one lock, with a lease",
            Recipe::Lease => "clients of an etcd cluster race to create one key with a lease, and watch it",
        }
    }

    fn layer(&self) -> Layer {
        Layer::Client
    }

    fn token(&self) -> &'static str {
        "the create revision of the leader's key"
    }

    fn beliefs(&self) -> &'static str {
        "each candidate's own answer: whether its session is done is what it goes by itself"
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn storages(&self) -> &'static [Storage] {
        &[Storage::Fenced, Storage::Unfenced, Storage::Guarded]
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        client::hosts(plan, SERVERS)
    }

    fn operations(&self) -> &'static [&'static str] {
        client::OPERATIONS
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises::promises(*self, plan, ttl(plan).unwrap_or(DEFAULT_TTL))
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Recipe::Lock => LOCK_OPTIONS,
            Recipe::Election | Recipe::Lease => OPTIONS,
        }
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, self.options())?;
        ttl(plan)?;
        lost_call(plan)?;
        client::check(plan)?;
        server::check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let ttl = ttl(plan).expect("a plan is checked before it is deployed");
        let lost_call = lost_call(plan).expect("a plan is checked before it is deployed");
        let names = client::servers(plan, SERVERS);
        let servers: Vec<String> = names.iter().map(|&s| server::client_url(site, s)).collect();
        let candidate = |n: usize, common: Common| {
            let host = common.host;
            let settings = Settings {
                common,
                recipe: *self,
                first_server: n % servers.len(),
                servers: servers.clone(),
                storage: (plan.storage != Storage::Guarded).then(|| storage_address(site)),
                ttl: ttl.0 / Nanos::secs(1).0,
                lost_call,
            };
            ours(site, host, "candidate", ["agent", CANDIDATE], &settings)
        };
        let mut processes = vec![storage(plan, site, &servers)];
        processes.extend(names.iter().map(|&s| server::process(plan, site, &names, s)));
        processes.extend(client::candidates(plan, candidate));
        processes
    }
}

fn storage(plan: &Plan, site: &Site, servers: &[String]) -> ProcessSpec {
    if plan.storage != Storage::Guarded {
        return storage_process(plan, site);
    }
    let host: Name = storage_host().name;
    let servers = servers.to_vec();
    ours(site, host, "mirror", ["agent", MIRROR], &mirror::Settings { servers })
}

/// Short, so that a run of a minute sees many elections; the official client's own default is a minute.
const DEFAULT_TTL: Nanos = Nanos::secs(3);

fn ttl(plan: &Plan) -> Result<Nanos, String> {
    let ttl = options::time(plan, "ttl", DEFAULT_TTL)?;
    if !ttl.0.is_multiple_of(Nanos::secs(1).0) {
        return Err(format!(
            "option ttl = {ttl} must be whole seconds: etcd's leases know no others"
        ));
    }
    Ok(ttl)
}

fn lost_call(plan: &Plan) -> Result<LostCall, String> {
    let name = LOST_CALL_OPTION.0;
    match plan.options.get(name).map(String::as_str) {
        None | Some("again") => Ok(LostCall::Again),
        Some("new-lease") => Ok(LostCall::NewLease),
        Some(text) => Err(format!("option {name} = '{text}' is neither again nor new-lease")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;
    use splitbrain_core::{Guarantee, Holds};

    const ALL: [Recipe; 3] = [Recipe::Election, Recipe::Lock, Recipe::Lease];

    fn plan() -> Plan {
        let mut plan = Plan::new("etcd-election", "local");
        plan.options.insert("etcd-bin".into(), "/bin/sh".into());
        plan
    }

    #[test]
    fn candidates_live_on_hosts_of_their_own() {
        let names = |plan: &Plan| {
            let hosts = Recipe::Election.hosts(plan);
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

    fn deployed(recipe: Recipe, storage: Storage) -> Vec<ProcessSpec> {
        let mut plan = Plan {
            nodes: 2,
            candidates: 2,
            storage,
            ..plan()
        };
        plan.options.insert("ttl".into(), "4s".into());
        recipe.deploy(&plan, 7, &test_site(&recipe.hosts(&plan)))
    }

    #[test]
    fn a_candidate_is_told_where_everything_is() {
        let processes = deployed(Recipe::Election, Storage::Fenced);
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(
            shape,
            ["storage storage", "s1 etcd", "s2 etcd", "c1 candidate", "c2 candidate"]
        );
        let etcd = processes[1].argv.join(" ");
        assert!(etcd.starts_with("/bin/sh --name s1 --data-dir /data/s1/etcd"));
        assert!(etcd.ends_with("--logger zap --log-outputs stderr"));
        let candidate = &processes[4];
        assert_eq!(candidate.argv[..3], ["/opt/splitbrain", "agent", "etcd-candidate"]);
        assert_eq!(
            candidate.argv[3],
            r#"{"common":{"host":"c2","work":20000000,"on_demand":false},"recipe":"election","servers":["http://10.0.0.1:2379","http://10.0.0.2:2379"],"first_server":1,"storage":"10.0.0.5:7100","ttl":4,"lost_call":"again"}"#
        );
    }

    #[test]
    fn where_etcd_is_the_storage_a_mirror_is_on_its_host() {
        let processes = deployed(Recipe::Lock, Storage::Guarded);
        assert_eq!((processes[0].host.as_str(), &*processes[0].name), ("storage", "mirror"));
        assert_eq!(processes[0].argv[..3], ["/opt/splitbrain", "agent", "etcd-mirror"]);
        assert_eq!(
            processes[0].argv[3],
            r#"{"servers":["http://10.0.0.1:2379","http://10.0.0.2:2379"]}"#
        );
        let settings: Settings = serde_json::from_str(&processes[4].argv[3]).unwrap();
        assert_eq!((settings.recipe, settings.storage), (Recipe::Lock, None));
    }

    fn check(options: &[(&str, &str)], expect: &str) {
        let mut plan = plan();
        for (name, value) in options {
            plan.options.insert(name.to_string(), value.to_string());
        }
        for recipe in ALL {
            let error = recipe.check(&plan).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        assert_eq!(Recipe::Election.check(&plan()), Ok(()));
        check(&[("ttl", "2500ms")], "whole seconds");
        check(&[("ttl", "soon")], "5s or 300ms");
        check(&[("work", "hard")], "work = 'hard'");
        check(&[("time-to-live", "5s")], "ttl");
        check(&[("etcd-bin", "/nonexistent")], "apt-get install etcd-server");
        let mut plan = plan();
        plan.options.insert("lost-call".into(), "new-lease".into());
        assert_eq!(Recipe::Lock.check(&plan), Ok(()));
        assert!(Recipe::Lease.check(&plan).unwrap_err().contains("lost-call"));
        plan.options.insert("lost-call".into(), "hope".into());
        assert!(Recipe::Lock.check(&plan).unwrap_err().contains("new-lease"));
    }

    #[test]
    fn a_session_ends_with_a_lost_call_only_where_that_was_asked_for() {
        let [lost, unsent] = [CallError::Lost, CallError::NotSent].map(|error| error(String::new()));
        let ends = [LostCall::Again, LostCall::NewLease].map(|after| [&lost, &unsent].map(|e| after.ends_session(e)));
        assert_eq!(ends, [[false, false], [true, false]]);
    }

    #[test]
    fn recovery_waits_for_the_lease() {
        let mut plan = plan();
        plan.options.insert("ttl".into(), "20s".into());
        for recipe in ALL {
            let promises = recipe.promises(&plan);
            let recovery = promises.iter().find(|p| p.guarantee == Guarantee::Recovery);
            assert_eq!(recovery.unwrap().within, Some(Nanos::secs(30)));
        }
    }

    #[test]
    fn what_is_promised_of_damage_depends_on_the_storage() {
        for (storage, expect) in [
            (Storage::Fenced, Holds::Always),
            (Storage::Unfenced, Holds::Never),
            (Storage::Guarded, Holds::Always),
        ] {
            let plan = Plan { storage, ..plan() };
            for recipe in ALL {
                let promises = recipe.promises(&plan);
                let damage = promises.iter().find(|p| p.guarantee == Guarantee::NoDamage).unwrap();
                assert_eq!(damage.holds, expect, "{recipe:?} {storage:?}");
            }
        }
    }
}
