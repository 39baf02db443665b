//! Leader election by the lock of redis's documentation: on one instance (`redis-lock`), and on five that know nothing of
//! each other (`redlock`). See `recipe` for the lock and [`candidate`] for what its holder does.
//!
//! **There is no fencing token and no epoch**: the lock is a random value, which orders nothing. So the storage cannot
//! tell an old leader's write from a new one's, and the document itself says: "You should implement fencing tokens."
//!
//! **What is promised** is what "Distributed Locks with Redis" (redis.io) says. "At any given moment, only one client can
//! hold a lock", that is within its validity time; a candidate's belief ends with it, by its own monotonic clock. What the
//! document excepts lifts the promise:
//!
//! - *clocks*: the local time of all "updates at approximately at the same rate", and redis expires keys by a clock that can
//!   be set;
//! - *pauses*: it holds "only as long as the client holding the lock terminates its work within the lock validity time";
//! - *kills*: the single instance is assumed to be "always available". Of five, one that is restarted without persistence
//!   can be locked again while its older lock is held ("Performance, Crash Recovery and fsync"). With *delayed restarts*
//!   ("unavailable for at least a bit more than the max TTL") it is promised again; the option does that.
//! - *disks*: a power cut is a kill too.
//!
//! Partitions and slow links lift nothing: they cost time, which is counted against the holder.
pub mod candidate;
mod recipe;

use crate::client;
use crate::contender::Common;
use crate::options;
use crate::raft::{ours, promise, recovery, storage_address, storage_process, storage_promises};
use crate::redis::server;
use serde::{Deserialize, Serialize};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Guarantee, Holds, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System};
use std::net::SocketAddr;

/// The agent that takes the lock.
pub const CANDIDATE: &str = "redis-candidate";

const TTL_OPTION: (&str, &str) = (
    "ttl",
    "time to live of the lock's key, and the longest validity time (3s)",
);
const EXTENSIONS_OPTION: (&str, &str) = (
    "extensions",
    "how often a holder extends the lock before it lets go of it (60)",
);
const LOCK_OPTIONS: &[(&str, &str)] = &[
    TTL_OPTION,
    EXTENSIONS_OPTION,
    ("timeout", "how long the instance's answer is awaited (500ms)"),
    client::WORK_OPTION,
    server::BINARY_OPTION,
];
const REDLOCK_OPTIONS: &[(&str, &str)] = &[
    TTL_OPTION,
    EXTENSIONS_OPTION,
    (
        "timeout",
        "how long each instance's answer is awaited; small compared with the ttl (50ms)",
    ),
    (
        "delayed-restarts",
        "an instance that crashed stays away for a bit more than the ttl, as advised without persistence (false)",
    ),
    client::WORK_OPTION,
    server::BINARY_OPTION,
];

/// What a candidate is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every candidate is told.
    pub common: Common,
    /// The instances.
    pub instances: Vec<SocketAddr>,
    /// The storage.
    pub storage: SocketAddr,
    /// Time to live of the key, in nanoseconds.
    pub ttl: Nanos,
    /// How long an instance's answer is awaited, in nanoseconds.
    pub timeout: Nanos,
    /// How often the lock is extended before it is given up.
    pub extensions: u64,
}

/// The system `redis-lock`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisLockSystem;

/// The system `redlock`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedlockSystem;

/// What tells the two apart.
struct Variant {
    instances: usize,
    timeout: Nanos,
    options: &'static [(&'static str, &'static str)],
}

const SINGLE: Variant = Variant {
    instances: 1,
    timeout: Nanos::millis(500),
    options: LOCK_OPTIONS,
};
const REDLOCK: Variant = Variant {
    instances: 5,
    timeout: Nanos::millis(50),
    options: REDLOCK_OPTIONS,
};
const TOKEN: &str = "none: the lock is a random value, which orders nothing";
const BELIEFS: &str = "each candidate's own answer: the validity time is what it goes by itself";

impl System for RedisLockSystem {
    fn name(&self) -> &'static str {
        "redis-lock"
    }

    fn describe(&self) -> &'static str {
        "clients of one redis take the documented lock: SET NX PX, and scripts that check its random value"
    }

    fn layer(&self) -> Layer {
        Layer::Client
    }

    fn token(&self) -> &'static str {
        TOKEN
    }

    fn beliefs(&self) -> &'static str {
        BELIEFS
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        client::hosts(plan, SINGLE.instances)
    }

    fn operations(&self) -> &'static [&'static str] {
        client::OPERATIONS
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        use FaultKind::{Clock, Disk, Kill, Pause};
        let exclusion = promise(
            Guarantee::Exclusion,
            Holds::Unless(vec![Kill, Pause, Clock, Disk]),
            "within the validity time no other client may acquire the lock; safe with a single, always available \
             instance (redis documentation, Distributed Locks, Correct Implementation with a Single Instance)",
        );
        SINGLE.promises(plan, exclusion)
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        SINGLE.options
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        if plan.nodes > 1 {
            return Err("redis-lock is a lock on one server: leave out --nodes, or choose the system redlock".into());
        }
        SINGLE.check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        SINGLE.deploy(plan, site)
    }
}

impl System for RedlockSystem {
    fn name(&self) -> &'static str {
        "redlock"
    }

    fn describe(&self) -> &'static str {
        "clients of five independent redis instances take the same lock on a majority, by the Redlock algorithm"
    }

    fn layer(&self) -> Layer {
        Layer::Client
    }

    fn token(&self) -> &'static str {
        TOKEN
    }

    fn beliefs(&self) -> &'static str {
        BELIEFS
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        client::hosts(plan, REDLOCK.instances)
    }

    fn operations(&self) -> &'static [&'static str] {
        client::OPERATIONS
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        use FaultKind::{Clock, Disk, Kill, Pause};
        let (lifted, why) = match delayed_restarts(plan) {
            Ok(true) => (
                vec![Pause, Clock],
                "Mutual exclusion, also over crashes: an instance stays away after one until all locks that it knew have \
                 expired (redis documentation, Distributed Locks, Performance, Crash Recovery and fsync)",
            ),
            _ => (
                vec![Kill, Pause, Clock, Disk],
                "Mutual exclusion: at any given moment, only one client can hold a lock; an instance that restarts \
                 without persistence may break it (redis documentation, Distributed Locks, Safety and Liveness \
                 Guarantees; Performance, Crash Recovery and fsync)",
            ),
        };
        REDLOCK.promises(plan, promise(Guarantee::Exclusion, Holds::Unless(lifted), why))
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        REDLOCK.options
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        delayed_restarts(plan)?;
        REDLOCK.check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        REDLOCK.deploy(plan, site)
    }
}

impl Variant {
    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, self.options)?;
        let (ttl, timeout) = (ttl(plan)?, self.timeout(plan)?);
        if timeout >= ttl {
            return Err(format!("option timeout = {timeout} must be shorter than ttl = {ttl}"));
        }
        extensions(plan)?;
        client::check(plan)?;
        server::check(plan)
    }

    fn timeout(&self, plan: &Plan) -> Result<Nanos, String> {
        options::time(plan, "timeout", self.timeout)
    }

    fn promises(&self, plan: &Plan, exclusion: Promise) -> Vec<Promise> {
        let ttl = ttl(plan).unwrap_or(DEFAULT_TTL);
        let mut promises = vec![
            exclusion,
            promise(
                Guarantee::FinalAgreement,
                Holds::Always,
                "a majority of the instances holds one value, and who finds another there steps down",
            ),
            recovery(
                ttl + ttl + Nanos::secs(10),
                "the key of a holder that is gone expires after its time to live, an instance that waits before it \
                 restarts does so for little longer; then a client acquires the lock after a few random delays (redis \
                 documentation, Distributed Locks, Liveness Arguments)",
            ),
        ];
        promises.extend(storage_promises(plan, false));
        promises
    }

    fn deploy(&self, plan: &Plan, site: &Site) -> Vec<ProcessSpec> {
        let good = "a plan is checked before it is deployed";
        let ttl = ttl(plan).expect(good);
        let servers = client::servers(plan, self.instances);
        let candidate = |_, common: Common| {
            let host = common.host;
            let settings = Settings {
                common,
                instances: servers.iter().map(|&s| server::address(site, s)).collect(),
                storage: storage_address(site),
                ttl,
                timeout: self.timeout(plan).expect(good),
                extensions: extensions(plan).expect(good),
            };
            ours(site, host, "candidate", ["agent", CANDIDATE], &settings)
        };
        let instance = |&name: &Name| match delayed_restarts(plan).expect(good) {
            true => server::instance_that_waits(plan, site, name, ttl),
            false => server::instance(plan, site, name),
        };
        let mut processes = vec![storage_process(plan, site)];
        processes.extend(servers.iter().map(instance));
        processes.extend(client::candidates(plan, candidate));
        processes
    }
}

/// Short, so that a run of a minute sees many elections; the document's examples have 10 s and 30 s.
const DEFAULT_TTL: Nanos = Nanos::secs(3);

fn ttl(plan: &Plan) -> Result<Nanos, String> {
    let ttl = options::time(plan, TTL_OPTION.0, DEFAULT_TTL)?;
    if ttl < Nanos::millis(100) {
        return Err(format!("option ttl = {ttl} must be at least 100ms"));
    }
    Ok(ttl)
}

fn extensions(plan: &Plan) -> Result<u64, String> {
    match plan.options.get(EXTENSIONS_OPTION.0) {
        None => Ok(60),
        Some(text) => text
            .parse()
            .map_err(|_| format!("option extensions = '{text}' is no number")),
    }
}

fn delayed_restarts(plan: &Plan) -> Result<bool, String> {
    options::switch(plan, "delayed-restarts", false)
}

#[cfg(test)]
mod tests;
