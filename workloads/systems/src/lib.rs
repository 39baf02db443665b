//! The systems that can be judged: how each is deployed, what may be asked of it, what it promises.
//!
//! - [`raft`]: our own members, server and candidate in one process;
//! - [`etcd`]: an etcd cluster's own Raft, observed at every member;
//! - [`etcd_recipes`]: clients of an etcd cluster that elect a leader: the election recipe, the lock API, a key with a lease;
//! - [`ovsdb`]: a clustered OVSDB's own Raft, observed at every server;
//! - [`nats`]: the meta leader of a NATS JetStream cluster, observed at every server;
//! - [`zookeeper`]: a ZooKeeper ensemble's own Zab, observed at every server, and two recipes of its clients;
//! - [`redis`]: its documented locks, on one instance and on five, and Sentinel's choice of a master;
//! - [`own`]: a program of the user's own in any language;
//! - [`gateway`]: the way to etcd, its JSON gateway, without protoc at build time.
//!
//! A system whose hosts need a program of ours beside the installed one finds it in this crate too: the hidden
//! subcommand `agent KIND JSON` of our binary ends in [`agent`]. An agent says nothing that it did not verify: what it
//! cannot prove it answers with `info`, and no leader is never a leader.
// Agents run on hosts: they own their clocks, files and sockets.

mod client;
pub mod contender;
pub mod etcd;
pub mod etcd_recipes;
pub mod gateway;
mod log_pipe;
pub mod nats;
mod options;
pub mod ovsdb;
pub mod own;
pub mod raft;
pub mod redis;
mod store;
mod voice;
pub mod zookeeper;

use anyhow::{Context, bail};
use splitbrain_core::System;
use zookeeper::candidate::Recipe;

/// Every system there is, in the order in which `list systems` shows them.
pub fn all() -> Vec<Box<dyn System>> {
    vec![
        Box::new(raft::RaftSystem),
        Box::new(etcd::EtcdSystem),
        Box::new(etcd_recipes::Recipe::Election),
        Box::new(etcd_recipes::Recipe::Lock),
        Box::new(etcd_recipes::Recipe::Lease),
        Box::new(ovsdb::OvsdbSystem),
        Box::new(nats::NatsSystem),
        Box::new(zookeeper::ZookeeperSystem),
        Box::new(zookeeper::recipes::ZookeeperRecipe(Recipe::Sequential)),
        Box::new(zookeeper::recipes::ZookeeperRecipe(Recipe::Ephemeral)),
        Box::new(redis::lock::RedisLockSystem),
        Box::new(redis::lock::RedlockSystem),
        Box::new(redis::sentinel::RedisSentinelSystem),
        Box::new(own::OwnSystem),
    ]
}

/// The system that plans call `name`.
pub fn find(name: &str) -> Option<Box<dyn System>> {
    all().into_iter().find(|system| system.name() == name)
}

/// The kinds of [`agent`].
const AGENTS: &[&str] = &[
    etcd::OBSERVER,
    etcd_recipes::CANDIDATE,
    etcd_recipes::MIRROR,
    nats::OBSERVER,
    ovsdb::OBSERVER,
    zookeeper::OBSERVER,
    zookeeper::recipes::CANDIDATE,
    redis::lock::CANDIDATE,
    redis::sentinel::OBSERVER,
    own::AWAIT,
];

/// Runs the agent `kind` with its settings in `json` until standard input ends.
///
/// # Errors
/// `kind` is no agent, `json` is not its settings, or the host refuses what the agent needs.
pub fn agent(kind: &str, json: &str) -> anyhow::Result<()> {
    match kind {
        etcd::OBSERVER => etcd::observer::run(settings(kind, json)?),
        etcd_recipes::CANDIDATE => etcd_recipes::candidate::run(settings(kind, json)?),
        etcd_recipes::MIRROR => etcd_recipes::mirror::run(settings(kind, json)?),
        nats::OBSERVER => nats::observer::run(settings(kind, json)?),
        ovsdb::OBSERVER => ovsdb::observer::run(settings(kind, json)?),
        zookeeper::OBSERVER => zookeeper::observer::run(settings(kind, json)?),
        zookeeper::recipes::CANDIDATE => zookeeper::candidate::run(settings(kind, json)?),
        redis::lock::CANDIDATE => redis::lock::candidate::run(settings(kind, json)?),
        redis::sentinel::OBSERVER => redis::sentinel::observer::run(settings(kind, json)?),
        own::AWAIT => own::prepare::run(&settings(kind, json)?),
        _ => bail!("'{kind}' is no agent: there is {}", AGENTS.join(", ")),
    }
}

fn settings<T: serde::de::DeserializeOwned>(kind: &str, json: &str) -> anyhow::Result<T> {
    serde_json::from_str(json).with_context(|| format!("read the settings of the agent '{kind}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_found_by_the_names_that_plans_write() {
        for system in all() {
            assert_eq!(find(system.name()).expect("it is in the list").name(), system.name());
        }
        assert!(find("zookeper").is_none());
    }

    #[test]
    fn an_unknown_agent_is_refused_with_those_that_there_are() {
        let error = agent("etcd", "{}").unwrap_err().to_string();
        assert!(error.contains(etcd::OBSERVER), "{error}");
        let error = agent(etcd::OBSERVER, "{}").unwrap_err().to_string();
        assert!(error.contains(etcd::OBSERVER), "{error}");
    }
}
