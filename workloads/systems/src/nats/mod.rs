//! NATS JetStream's meta leader, observed at every server.
//!
//! The servers of a JetStream cluster form one group, `_meta_`, whose leader places streams and consumers. It is elected
//! by NATS's own Raft. Each host runs two processes: `nats-server` as it is installed, and our `observer`, which answers
//! for it and takes part in nothing.
//!
//! **How an observer knows.** No monitoring endpoint of the server names a term. Its debug log does, if one reads more
//! than one line: [`log`] says how, and why that binds leader and term. Where the log leaves the term open, the claim
//! has no epoch: leadership without a number, which is no evidence for or against one leader per term.
//! The observer hears the log through a pipe as it is written ([`crate::log_pipe`]); see [`observer`].
//!
//! Caveats: timers are those of `nats-server`, which has no option for them: a follower that misses the leader campaigns
//! after 4 to 9 s, and a leader that reaches no majority steps down after 10 to 20 s. The cluster holds no streams.
pub mod log;
pub mod observer;

use crate::log_pipe;
use crate::options::{self, count, text};
use crate::raft::{ours, promise, recovery};
use observer::Settings;
use splitbrain_core::system::Stdio;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System,
};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The agent beside each server.
pub const OBSERVER: &str = "nats-observer";
/// Servers unless the plan says otherwise: one may fail.
const SERVERS: usize = 3;
const CLIENT_PORT: u16 = 4222;
const ROUTE_PORT: u16 = 6222;
const MONITOR_PORT: u16 = 8222;

const NEEDS: &[Need] = &[Need {
    what: "nats-server",
    package: "nats-server",
    version: &["--version"],
}];
const SERVER_OPTION: &str = "nats-server-bin";
const OPTIONS: &[(&str, &str)] = &[(
    SERVER_OPTION,
    "path of the nats-server binary, on every host (the first 'nats-server' on the PATH)",
)];

/// The system `nats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NatsSystem;

impl System for NatsSystem {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn describe(&self) -> &'static str {
        "the meta leader of a NATS JetStream cluster, observed at every server: who leads, in which term"
    }

    fn layer(&self) -> Layer {
        Layer::Server
    }

    fn token(&self) -> &'static str {
        "none: nobody writes with the term"
    }

    fn beliefs(&self) -> &'static str {
        "each server's own debug log: the term of its last voteRequest before 'Switching to leader', confirmed by /jsz; \
         no epoch where a line between them may have changed the term, nor for followers"
    }

    fn needs(&self) -> &'static [Need] {
        NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        options::hosts("n", count(plan.nodes, SERVERS), HostRole::Server, true)
    }

    fn operations(&self) -> &'static [&'static str] {
        &["observe"]
    }

    fn promises(&self, _plan: &Plan) -> Vec<Promise> {
        promises()
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        options::refuse_simulation(plan)?;
        options::program(plan, SERVER_OPTION, &NEEDS[0]).map(drop)
    }

    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let servers: Vec<Name> = self.hosts(plan).iter().map(|h| h.name).collect();
        let observe = |name: Name| {
            let settings = Settings {
                host: name,
                log: log_path(site, name),
                monitor: format!("http://{}", address(site, name, MONITOR_PORT)),
            };
            ours(site, name, "observer", ["agent", OBSERVER], &settings)
        };
        let both = |&name: &Name| [server(plan, site, &servers, name), observe(name)];
        servers.iter().flat_map(both).collect()
    }
}

fn address(site: &Site, name: Name, port: u16) -> SocketAddr {
    SocketAddr::new(site.places[&name].ip, port)
}

/// Where the pipe is into which the server `name` logs.
fn log_path(site: &Site, name: Name) -> PathBuf {
    site.places[&name].dir.join("nats-log")
}

fn server(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let route = |name: Name| format!("nats://{}", address(site, name, ROUTE_PORT));
    let routes: Vec<String> = servers.iter().map(|&s| route(s)).collect();
    let place = &site.places[&name];
    let pipe = text(&log_path(site, name));
    let flags = [
        // Of a name is made the id by which the server goes in Raft, so that it keeps it for life.
        ("--server_name", name.to_string()),
        ("--addr", place.ip.to_string()),
        ("--port", CLIENT_PORT.to_string()),
        ("--http_port", MONITOR_PORT.to_string()),
        ("--store_dir", text(&place.dir.join("nats"))),
        ("--cluster_name", "splitbrain".to_string()),
        ("--cluster", route(name)),
        ("--routes", routes.join(",")),
        ("--log", pipe.clone()),
    ];
    let words = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
    let argv = std::iter::once(options::command(plan, SERVER_OPTION, &NEEDS[0]))
        .chain(words)
        .chain(["--jetstream", "--debug"].map(str::to_string));
    ProcessSpec {
        host: name,
        name: "nats-server".to_string(),
        argv: log_pipe::before(&pipe, argv.collect()),
        env: Vec::new(),
        stdio: Stdio::Log,
    }
}

fn promises() -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    vec![
        promise(
            LeaderPerEpoch,
            Always,
            "the meta group elects by Raft (NATS documentation, JetStream Clustering: RAFT): at most one leader in a \
             given term (Raft paper, 5.2)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "a server's current term only increases while it lives (Raft paper, figure 2)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "votes may reach a candidate of term 5 after term 6 was won elsewhere: it learns late that it won",
        ),
        promise(
            Exclusion,
            Never,
            "a leader that was cut off or paused believes until it hears of a higher term, or until it has found no \
             majority at its look every 10 s (nats-server, server/raft.go, lostQuorumInterval)",
        ),
        promise(
            FinalAgreement,
            Always,
            "followers adopt the leader and term of its heartbeats (Raft paper, 5.1)",
        ),
        recovery(
            Nanos::secs(60),
            "a follower that misses heartbeats for 4 to 9 s campaigns (nats-server, server/raft.go, \
             minElectionTimeoutDefault and maxElectionTimeoutDefault; the documentation names no bound): six elections",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;

    fn plan() -> Plan {
        let mut plan = Plan::new("nats", "local");
        plan.options.insert(SERVER_OPTION.into(), "/opt/nats".into());
        plan
    }

    #[test]
    fn each_host_runs_a_server_and_its_observer() {
        let plan = Plan { nodes: 2, ..plan() };
        let processes = NatsSystem.deploy(&plan, 7, &test_site(&NatsSystem.hosts(&plan)));
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(
            shape,
            ["n1 nats-server", "n1 observer", "n2 nats-server", "n2 observer"]
        );
        let [server, observer] = &processes[..2] else {
            panic!("{processes:?}")
        };
        assert_eq!((server.stdio, observer.stdio), (Stdio::Log, Stdio::Protocol));
        assert_eq!(
            server.argv[3..].join(" "),
            "/data/n1/nats-log /opt/nats --server_name n1 --addr 10.0.0.1 --port 4222 --http_port 8222 \
             --store_dir /data/n1/nats --cluster_name splitbrain --cluster nats://10.0.0.1:6222 \
             --routes nats://10.0.0.1:6222,nats://10.0.0.2:6222 --log /data/n1/nats-log --jetstream --debug"
        );
        assert_eq!(observer.argv[..3], ["/opt/splitbrain", "agent", "nats-observer"]);
        assert_eq!(
            observer.argv[3],
            r#"{"host":"n1","log":"/data/n1/nats-log","monitor":"http://10.0.0.1:8222"}"#
        );
    }

    fn check(change: impl FnOnce(&mut Plan), expect: &str) {
        let mut plan = plan();
        change(&mut plan);
        let error = NatsSystem.check(&plan).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        check(|_| (), "apt-get install nats-server");
        check(|plan| plan.environment = "sim".into(), "local");
        check(|plan| plan.mutant = Some("forget-vote".into()), "no mutant");
        check(
            |plan| drop(plan.options.insert("ttl".into(), "5s".into())),
            SERVER_OPTION,
        );
    }
}
