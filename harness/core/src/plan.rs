//! The plan of a run: what `plan.toml` holds and what every history's header repeats.
//!
//! ```toml
//! name = "raft-partitions"
//! system = "raft"
//! environment = "local"
//! nodes = 5
//! storage = "fenced"
//! time-limit = "30s"
//!
//! [faults]
//! kinds = ["partition", "kill", "pause"]
//! every = "4s"       # mean time between injections
//! lasting = "3s"     # mean time until the healing
//!
//! [[script]]         # instead of, or beside, the random schedule
//! at = "5s"
//! lasting = "3s"
//! fault = "partition"
//! shape = "isolate-one"
//! target = "leader"
//!
//! [options]          # the system's own, see `splitbrain list systems`
//! ttl = "5s"
//! ```
use crate::action::{Disk, Shape, Skew, Unsynced};
use crate::name::Name;
use crate::system::HostRole;
use crate::time::{self, Nanos};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use crate::deploy::{Deploy, Part};
pub use crate::hosts::{ClockOf, Docker, HostKeys, Hosts, Ssh, Vagrant};

/// What a run is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// The folder of its runs in the store; the system's name unless given.
    #[serde(default)]
    pub name: String,
    /// `raft`, `etcd`, `etcd-election`, ...
    pub system: String,
    /// `local`, `sim`, `docker`, `ssh`, `vagrant`.
    pub environment: String,
    /// Servers or members; the system's own default where 0.
    #[serde(default)]
    pub nodes: u32,
    /// Candidates on hosts of their own, for systems whose candidates are clients; the system's own default where 0.
    #[serde(default)]
    pub candidates: u32,
    /// What is asked of the candidates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: Workload,
    /// Whether the storage compares tokens.
    #[serde(default)]
    pub storage: Storage,
    /// How long operations and faults go on, in the world's own time.
    #[serde(with = "time::text", default = "default_time_limit")]
    pub time_limit: Nanos,
    /// Decides everything random; drawn and printed where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Writes that are asked of each believed leader, per second.
    #[serde(default = "default_rate")]
    pub rate: f64,
    /// A deliberately broken variant of the system's own protocol, to see the checkers catch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// The random schedule.
    #[serde(default)]
    pub faults: Faults,
    /// The scripted schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Scripted>,
    /// The system's own options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// What all environments with real hosts heed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hosts: Hosts,
    /// What `candidate` runs: a service of the user's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deploy: Deploy,
    /// Where `docker` gets its containers from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub docker: Docker,
    /// Where `ssh` finds its hosts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh: Ssh,
    /// Where `vagrant` finds its machines.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vagrant: Vagrant,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_time_limit() -> Nanos {
    Nanos::secs(30)
}

fn default_rate() -> f64 {
    20.0
}

impl Plan {
    /// The plan of `system` in `environment`, everything else at its default and no faults.
    pub fn new(system: &str, environment: &str) -> Plan {
        Plan {
            name: system.to_string(),
            system: system.to_string(),
            environment: environment.to_string(),
            nodes: 0,
            candidates: 0,
            workload: Workload::default(),
            storage: Storage::default(),
            time_limit: default_time_limit(),
            seed: None,
            rate: default_rate(),
            mutant: None,
            faults: Faults::default(),
            script: Vec::new(),
            options: BTreeMap::new(),
            hosts: Hosts::default(),
            deploy: Deploy::default(),
            docker: Docker::default(),
            ssh: Ssh::default(),
            vagrant: Vagrant::default(),
        }
    }
}

/// Whether the storage compares tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// It rejects a token lower than the highest one seen.
    #[default]
    Fenced,
    /// It takes everything.
    Unfenced,
    /// The coordination service itself is the storage: a write is a transaction that holds only while the leader's own key
    /// is there. For systems that list it.
    Guarded,
}

/// What is asked of the candidates, beside looking at who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Leaders write to the storage under their tokens.
    #[default]
    Leadership,
    /// Leaders hand out unique rising ids.
    Sequence,
    /// Leaders run jobs, each exactly once.
    Jobs,
    /// Candidates acquire and release the lock that the election stands for.
    Lock,
    /// Every host is asked for the system's own replicated register.
    Register,
}

impl Workload {
    /// Every workload there is.
    pub const ALL: [Workload; 5] = [
        Workload::Leadership,
        Workload::Sequence,
        Workload::Jobs,
        Workload::Lock,
        Workload::Register,
    ];

    /// As plans and command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Leadership => "leadership",
            Workload::Sequence => "sequence",
            Workload::Jobs => "jobs",
            Workload::Lock => "lock",
            Workload::Register => "register",
        }
    }

    /// One sentence for `list workloads`.
    pub fn describe(self) -> &'static str {
        match self {
            Workload::Leadership => "whoever believes that he leads writes to the storage under his token",
            Workload::Sequence => "leaders hand out ids: none twice, and each higher than those handed out before",
            Workload::Jobs => "leaders run jobs in order: each exactly once; twice and never are told apart",
            Workload::Lock => "candidates acquire and release the lock that the election stands for",
            Workload::Register => {
                "every host reads, sets and compares the system's own register: one copy, in real time"
            }
        }
    }

    /// The operations ([`crate::Op::name`]) without which a system cannot be asked this.
    pub fn operations(self) -> &'static [&'static str] {
        match self {
            Workload::Leadership => &["observe"],
            Workload::Sequence => &["observe", "next"],
            Workload::Jobs => &["observe", "run"],
            Workload::Lock => &["observe", "acquire", "release"],
            Workload::Register => &["observe", "get", "set", "cas"],
        }
    }
}

/// The random schedule: what may break, how often, for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Faults {
    /// Drawn from evenly; empty means no random faults.
    pub kinds: Vec<FaultKind>,
    /// Mean time between injections.
    #[serde(with = "time::text")]
    pub every: Nanos,
    /// Mean time from a fault's injection to its healing.
    #[serde(with = "time::text")]
    pub lasting: Nanos,
    /// Partition shapes to draw from; all that fit the topology where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Grudge>,
    /// Targets to draw from; all that fit the fault where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            kinds: Vec::new(),
            every: Nanos::secs(4),
            lasting: Nanos::secs(3),
            shapes: Vec::new(),
            targets: Vec::new(),
        }
    }
}

/// One fault of a scripted schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scripted {
    /// When, since the faults phase began.
    #[serde(with = "time::text")]
    pub at: Nanos,
    /// For how long.
    #[serde(with = "time::text")]
    pub lasting: Nanos,
    /// What breaks.
    pub fault: FaultKind,
    /// How a partition cuts; `isolate-one` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Grudge>,
    /// Whom; `one` unless given, or who the shape names: `leader-from-storage` strikes the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What a packet fault does; drawn from the seed unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Shape>,
    /// What a clock fault does; drawn from the seed unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Skew>,
    /// What a disk fault does; drawn from the seed unless given, like `unsynced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// A disk fault that is a kill: what becomes of unsynced writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsynced: Option<Unsynced>,
}

/// What can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Hosts cannot reach each other.
    Partition,
    /// Processes end as by SIGKILL, and start again later.
    Kill,
    /// Processes stop as by SIGSTOP, and go on later.
    Pause,
    /// Links delay, lose, duplicate, reorder, corrupt or throttle.
    Packet,
    /// The clocks that processes read jump, strobe or drift.
    Clock,
    /// Disks are full, slow or failing, or lose at a kill what was not synced.
    Disk,
}

impl FaultKind {
    /// Every kind there is.
    pub const ALL: [FaultKind; 6] = [
        FaultKind::Partition,
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::Packet,
        FaultKind::Clock,
        FaultKind::Disk,
    ];

    /// As plans and command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Partition => "partition",
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Packet => "packet",
            FaultKind::Clock => "clock",
            FaultKind::Disk => "disk",
        }
    }

    /// One sentence for `list faults`.
    pub fn describe(self) -> &'static str {
        match self {
            FaultKind::Partition => "hosts cannot reach each other: packets are dropped, per direction",
            FaultKind::Kill => "a host's processes end as by SIGKILL and start again from their disks",
            FaultKind::Pause => "a host's processes stop as by SIGSTOP and go on later, believing what they believed",
            FaultKind::Packet => "links delay, jitter, lose, duplicate, reorder, corrupt or throttle packets",
            FaultKind::Clock => "the clocks that a host's processes read jump, strobe or drift",
            FaultKind::Disk => "disks are full, sync slowly or fail to, or lose at a kill what was not synced",
        }
    }
}

/// How a partition cuts: who drops whose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grudge {
    /// The targets on one side, all others on the other.
    IsolateOne,
    /// Two halves.
    Halves,
    /// A random minority against the rest.
    MinorityMajority,
    /// Two halves that both reach one host between them.
    Bridge,
    /// Every host sees a majority, no two see the same.
    MajoritiesRing,
    /// The target is not heard, but hears; or hears nothing, but is heard.
    OneWay,
    /// One direction between two hosts.
    SingleLink,
    /// Candidates cannot reach servers.
    CandidatesFromServers,
    /// The leader cannot reach the storage.
    LeaderFromStorage,
    /// The target cannot reach the system's servers, but still reaches the storage.
    LeaderFromServers,
}

impl Grudge {
    /// Every shape there is.
    pub const ALL: [Grudge; 10] = [
        Grudge::IsolateOne,
        Grudge::Halves,
        Grudge::MinorityMajority,
        Grudge::Bridge,
        Grudge::MajoritiesRing,
        Grudge::OneWay,
        Grudge::SingleLink,
        Grudge::CandidatesFromServers,
        Grudge::LeaderFromStorage,
        Grudge::LeaderFromServers,
    ];

    /// As plans and histories write it.
    pub fn name(self) -> &'static str {
        match self {
            Grudge::IsolateOne => "isolate-one",
            Grudge::Halves => "halves",
            Grudge::MinorityMajority => "minority-majority",
            Grudge::Bridge => "bridge",
            Grudge::MajoritiesRing => "majorities-ring",
            Grudge::OneWay => "one-way",
            Grudge::SingleLink => "single-link",
            Grudge::CandidatesFromServers => "candidates-from-servers",
            Grudge::LeaderFromStorage => "leader-from-storage",
            Grudge::LeaderFromServers => "leader-from-servers",
        }
    }
}

/// Whom a fault strikes: `one`, `minority`, `majority`, `all`, `leader`, `non-leader`, `role:server`, `host:n1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A random host.
    One,
    /// Fewer than half, at least one.
    Minority,
    /// More than half.
    Majority,
    /// Every host but the storage.
    All,
    /// Who answers that it leads; asked just before.
    Leader,
    /// A random host that does not answer that it leads.
    NonLeader,
    /// Every host of this role.
    Role(HostRole),
    /// This host.
    Host(Name),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::One => f.write_str("one"),
            Target::Minority => f.write_str("minority"),
            Target::Majority => f.write_str("majority"),
            Target::All => f.write_str("all"),
            Target::Leader => f.write_str("leader"),
            Target::NonLeader => f.write_str("non-leader"),
            Target::Role(role) => write!(f, "role:{}", role.name()),
            Target::Host(name) => write!(f, "host:{name}"),
        }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Target, String> {
        let bad = || {
            format!(
                "'{s}' is no target: one, minority, majority, all, leader, non-leader, \
                 role:member|server|candidate|storage, or host:NAME"
            )
        };
        Ok(match s {
            "one" => Target::One,
            "minority" => Target::Minority,
            "majority" => Target::Majority,
            "all" => Target::All,
            "leader" => Target::Leader,
            "non-leader" => Target::NonLeader,
            _ => match s.split_once(':') {
                Some(("role", role)) => Target::Role(role.parse().map_err(|_| bad())?),
                Some(("host", name)) => Target::Host(name.parse().map_err(|_| bad())?),
                _ => return Err(bad()),
            },
        })
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Target, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for s in [
            "one",
            "minority",
            "majority",
            "all",
            "leader",
            "non-leader",
            "role:server",
            "host:n1",
        ] {
            assert_eq!(s.parse::<Target>().unwrap().to_string(), s);
        }
        assert!("role:king".parse::<Target>().is_err());
    }
}
