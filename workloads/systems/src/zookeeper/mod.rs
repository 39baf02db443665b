//! ZooKeeper: its servers' own election, and two recipes by which its clients elect a leader.
//!
//! - `zookeeper`: Zab, observed at every server. Each host runs two processes, the server as it is installed and our
//!   `observer`, which answers for it and takes part in nothing; see [`observer`] for why a claim is sound.
//! - `zk-sequential` and `zk-ephemeral`: the recipes, on candidates' hosts of their own; see [`recipes`].
pub mod candidate;
mod ephemeral;
mod errors;
pub mod log;
pub mod observer;
pub mod recipes;
mod register;
mod sequential;
pub(crate) mod server;

use crate::options::{self, count};
use crate::raft::{ours, promise, recovery};
use observer::Settings;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System,
};

/// The agent beside each server.
pub const OBSERVER: &str = "zookeeper-observer";
/// Servers unless the plan says otherwise: one may fail.
const SERVERS: usize = 3;
const OPTIONS: &[(&str, &str)] = &[server::TICK_OPTION, server::JAVA_OPTION, server::CLASSPATH_OPTION];

/// The system `zookeeper`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZookeeperSystem;

impl System for ZookeeperSystem {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn describe(&self) -> &'static str {
        "a ZooKeeper ensemble's own Zab, observed at every server: who leads, in which epoch"
    }

    fn layer(&self) -> Layer {
        Layer::Server
    }

    fn token(&self) -> &'static str {
        "none: nobody writes with the epoch"
    }

    fn beliefs(&self) -> &'static str {
        "each server's own log line 'Have quorum of supporters ... zxid: 0xEPOCH00000000', confirmed by its srvr command"
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        options::hosts("n", count(plan.nodes, SERVERS), HostRole::Server, true)
    }

    fn operations(&self) -> &'static [&'static str] {
        &["observe", "get", "set", "cas"]
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(plan)
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        if count(plan.nodes, SERVERS) < 2 {
            return Err("a single ZooKeeper server elects nobody: nodes must be 2 or more".to_string());
        }
        server::check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let servers: Vec<Name> = self.hosts(plan).iter().map(|h| h.name).collect();
        let observe = |name: Name| {
            let settings = Settings {
                host: name,
                log: server::log_path(site, name),
                server: server::client_address(site, name),
                peers: servers.iter().map(|&peer| (peer, site.places[&peer].ip)).collect(),
            };
            ours(site, name, "observer", ["agent", OBSERVER], &settings)
        };
        let both = |&name: &Name| [server::process_with_log_pipe(plan, site, &servers, name), observe(name)];
        servers.iter().flat_map(both).collect()
    }
}

/// How long an ensemble may take to have a leader again, once nothing is broken any more. A server that was alone looks
/// around ever less often, up to 30 ticks apart; then the votes are counted, and a leader gathers a quorum within
/// `initLimit`, 10 ticks, or they begin anew. Two such rounds, and the time in which a JVM starts.
fn recovery_bound(plan: &Plan) -> Nanos {
    let tick = server::tick(plan).unwrap_or(Nanos::ZERO);
    Nanos(tick.0 * 80) + Nanos::secs(10)
}

fn promises(plan: &Plan) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    vec![
        promise(
            LeaderPerEpoch,
            Always,
            "a follower acknowledges a new leader's epoch only if it is higher than any that it acknowledged before, and a \
             leader needs a quorum of them (Junqueira, Reed, Serafini: Zab, 2011, Discovery; ZooKeeper Internals, Leader \
             Activation)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "a new leader's epoch is higher than all that its quorum has accepted, its own among them (Zab, 2011, Discovery)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "the acknowledgements that make a leader may reach it after a later epoch's leader was made",
        ),
        promise(
            Exclusion,
            Never,
            "a leader that was cut off or paused believes until it misses its quorum for syncLimit ticks",
        ),
        promise(
            FinalAgreement,
            Always,
            "a server serves only under the one leader with which it is synchronised (ZooKeeper Internals, Leader Activation)",
        ),
        promise(
            Linearizable,
            Always,
            "writes are linearizable (ZooKeeper Internals, Consistency Guarantees), and each operation here, a get too, ends in \
             a transaction of its own",
        ),
        recovery(
            recovery_bound(plan),
            "80 ticks and 10 s: servers look for each other at most 30 ticks apart (fastleader.maxNotificationInterval), and a \
             leader has initLimit, 10 ticks, to gather its quorum",
        ),
    ]
}

#[cfg(test)]
mod tests;
