//! The systems that can be judged: how each is deployed, what may be asked of it, what it promises.
//!
//! - [`raft`]: our own members, server and candidate in one process;
//! - [`etcd`]: an etcd cluster's own Raft, observed at every member;
//! - [`election`]: clients of an etcd cluster that campaign with a lease, as the official client's recipe does;
//! - [`gateway`]: the way to etcd, its JSON gateway, without protoc at build time.
//!
//! A system whose hosts need a program of ours beside the installed one finds it in this crate too: the hidden
//! subcommand `agent KIND JSON` of our binary ends in [`agent`]. An agent says nothing that it did not verify: what it
//! cannot prove it answers with `info`, and no leader is never a leader.
// Agents run on hosts: they own their clocks, files and sockets.

pub mod election;
pub mod etcd;
pub mod gateway;
mod options;
pub mod raft;
mod voice;

use anyhow::{Context, bail};
use splitbrain_core::System;

/// Every system there is, in the order in which `list systems` shows them.
pub fn all() -> Vec<Box<dyn System>> {
    vec![
        Box::new(raft::RaftSystem),
        Box::new(etcd::EtcdSystem),
        Box::new(election::EtcdElectionSystem),
    ]
}

/// The system that plans call `name`.
pub fn find(name: &str) -> Option<Box<dyn System>> {
    all().into_iter().find(|system| system.name() == name)
}

/// Runs the agent `kind` with its settings in `json` until standard input ends.
///
/// # Errors
/// `kind` is no agent, `json` is not its settings, or the host refuses what the agent needs.
pub fn agent(kind: &str, json: &str) -> anyhow::Result<()> {
    match kind {
        etcd::OBSERVER => etcd::observer::run(settings(kind, json)?),
        election::CANDIDATE => election::candidate::run(settings(kind, json)?),
        _ => bail!("'{kind}' is no agent: {} or {}", etcd::OBSERVER, election::CANDIDATE),
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
        assert!(find("zookeeper").is_none());
    }

    #[test]
    fn an_unknown_agent_is_refused_with_those_that_there_are() {
        let error = agent("etcd", "{}").unwrap_err().to_string();
        assert!(error.contains(etcd::OBSERVER), "{error}");
        let error = agent(etcd::OBSERVER, "{}").unwrap_err().to_string();
        assert!(error.contains(etcd::OBSERVER), "{error}");
    }
}
