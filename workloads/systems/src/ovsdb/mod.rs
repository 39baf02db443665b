//! OVSDB's own Raft, observed at every server.
//!
//! Each host runs two processes: `ovsdb-server` as it is installed, with a small database of its own, and our
//! `observer`, which answers for it and takes part in nothing.
//!
//! **How an observer knows.** A claim "this server leads term 5" counts only from a source that binds both. That is the
//! reply to `cluster/status` on the server's control socket: `ovsdb-server` runs its Raft and its control socket in one
//! thread, so that the role, term, vote and leader of one reply are of one instant. See [`observer`] for what follows.
//!
//! **How a cluster comes to be.** As ovsdb(7) has it ("How to Maintain a Clustered Database"): the first server's
//! database is made with `ovsdb-tool create-cluster`, each other's with `join-cluster` and the first server's address;
//! a server then asks to be let in until it is. A shell makes the database where there is none, under another name
//! first, so that a kill cannot leave half of one behind, and becomes the server. An observer says that it is ready when
//! its server is a member, so that no fault strikes a cluster that is still one server.
//!
//! Caveat: the servers have no clients, and so their logs hold little but what elections and members leave there.
mod control;
pub mod observer;
mod status;

use crate::options::{self, count, text};
use crate::raft::{ours, promise, recovery};
use observer::Settings;
use splitbrain_core::system::Stdio;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System,
};
use std::net::SocketAddr;

/// The agent beside each server.
pub const OBSERVER: &str = "ovsdb-observer";
/// Servers unless the plan says otherwise: one may fail.
const SERVERS: usize = 3;
/// Where clients would reach a server.
const CLIENT_PORT: u16 = 6641;
/// Where the other servers reach it.
const RAFT_PORT: u16 = 6644;
/// The database's name.
const DATABASE: &str = "splitbrain";
/// A table is the least that a schema must have.
const SCHEMA: &str = r#"{"name":"splitbrain","version":"1.0.0","tables":{"register":{"columns":{"value":{"type":"integer"}},"isRoot":true}}}"#;
/// Its arguments: the host's folder, `ovsdb-tool`, the schema, the database's name, the server's own address, the
/// address to join at or nothing, and then the server's command.
const SCRIPT: &str = r#"cd "$0" || exit
if [ ! -e db ]; then
    rm -f new
    if [ -z "$5" ]; then echo "$2" >schema && "$1" create-cluster new schema "$4"
    else "$1" join-cluster new "$3" "$4" "$5"
    fi && mv new db || exit
fi
shift 5
exec "$@" db"#;

const NEEDS: &[Need] = &[
    Need {
        what: "ovsdb-server",
        package: "openvswitch-common",
        version: &["--version"],
    },
    Need {
        what: "ovsdb-tool",
        package: "openvswitch-common",
        version: &["--version"],
    },
];
const SERVER_OPTION: &str = "ovsdb-server-bin";
const TOOL_OPTION: &str = "ovsdb-tool-bin";
const OPTIONS: &[(&str, &str)] = &[
    (
        SERVER_OPTION,
        "path of the ovsdb-server binary, on every host (the first 'ovsdb-server' on the PATH)",
    ),
    (
        TOOL_OPTION,
        "path of the ovsdb-tool binary, on every host (the first 'ovsdb-tool' on the PATH)",
    ),
];

/// The system `ovsdb`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OvsdbSystem;

impl System for OvsdbSystem {
    fn name(&self) -> &'static str {
        "ovsdb"
    }

    fn describe(&self) -> &'static str {
        "a clustered OVSDB's own Raft, observed at every server: who leads, in which term"
    }

    fn layer(&self) -> Layer {
        Layer::Server
    }

    fn token(&self) -> &'static str {
        "none: nobody writes with the term"
    }

    fn beliefs(&self) -> &'static str {
        "each server's own reply to cluster/status, role and term of one instant"
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
        options::program(plan, SERVER_OPTION, &NEEDS[0])?;
        options::program(plan, TOOL_OPTION, &NEEDS[1]).map(drop)
    }

    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let servers: Vec<Name> = self.hosts(plan).iter().map(|h| h.name).collect();
        let observe = |name: Name| {
            let settings = Settings {
                host: name,
                dir: site.places[&name].dir.clone(),
                servers: servers.iter().map(|&s| (s, raft_address(site, s))).collect(),
            };
            ours(site, name, "observer", ["agent", OBSERVER], &settings)
        };
        let both = |&name: &Name| [server(plan, site, servers[0], name), observe(name)];
        servers.iter().flat_map(both).collect()
    }
}

/// As ovsdb-tool(1) writes it.
fn raft_address(site: &Site, name: Name) -> String {
    format!("tcp:{}", SocketAddr::new(site.places[&name].ip, RAFT_PORT))
}

fn server(plan: &Plan, site: &Site, first: Name, name: Name) -> ProcessSpec {
    let place = &site.places[&name];
    let joins_at = if name == first {
        String::new()
    } else {
        raft_address(site, first)
    };
    // A port, then an address: the other way round than elsewhere.
    let bracketed = SocketAddr::new(place.ip, CLIENT_PORT).to_string();
    let ip = bracketed.rsplit_once(':').map_or(bracketed.as_str(), |(ip, _)| ip);
    let argv = [
        "/bin/sh".to_string(),
        "-c".to_string(),
        SCRIPT.to_string(),
        text(&place.dir),
        options::command(plan, TOOL_OPTION, &NEEDS[1]),
        SCHEMA.to_string(),
        DATABASE.to_string(),
        raft_address(site, name),
        joins_at,
        options::command(plan, SERVER_OPTION, &NEEDS[0]),
        "-vconsole:info".to_string(),
        "-vsyslog:off".to_string(),
        format!("--unixctl={}", text(&place.dir.join(control::SOCKET))),
        format!("--remote=ptcp:{CLIENT_PORT}:{ip}"),
    ];
    ProcessSpec {
        host: name,
        name: "ovsdb-server".to_string(),
        argv: argv.to_vec(),
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
            "clustered OVSDB uses the Raft of Ongaro's thesis (ovsdb(7), Understanding Cluster Consistency): at most \
             one leader in a given term (Raft paper, 5.2)",
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
            "a leader that was cut off or paused believes until it hears of a higher term, or until an election timeout \
             passes without a majority's replies (Raft thesis, 6.2)",
        ),
        promise(
            FinalAgreement,
            Always,
            "followers adopt the leader and term of its heartbeats (Raft paper, 5.1)",
        ),
        recovery(
            Nanos::secs(30),
            "a follower that misses heartbeats for 1 to 2 s campaigns (ovsdb-server(1), cluster/change-election-timer), \
             and servers that lost each other notice it within 10 s and wait up to 8 s before they connect again (Open \
             vSwitch, lib/reconnect.h, RECONNECT_DEFAULT_PROBE_INTERVAL and RECONNECT_DEFAULT_MAX_BACKOFF)",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;

    fn plan() -> Plan {
        let mut plan = Plan::new("ovsdb", "local");
        for option in [SERVER_OPTION, TOOL_OPTION] {
            plan.options.insert(option.into(), format!("/opt/{option}"));
        }
        plan
    }

    #[test]
    fn the_first_server_makes_the_cluster_and_the_others_join_it() {
        let plan = Plan { nodes: 2, ..plan() };
        let processes = OvsdbSystem.deploy(&plan, 7, &test_site(&OvsdbSystem.hosts(&plan)));
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(
            shape,
            ["n1 ovsdb-server", "n1 observer", "n2 ovsdb-server", "n2 observer"]
        );
        let [first, observer, second, _] = &processes[..] else {
            panic!("{processes:?}")
        };
        assert_eq!((first.stdio, observer.stdio), (Stdio::Log, Stdio::Protocol));
        let server = |host: &str, ip: &str| {
            format!(
                "/opt/ovsdb-server-bin -vconsole:info -vsyslog:off --unixctl=/data/{host}/ctl --remote=ptcp:6641:{ip}"
            )
        };
        assert_eq!(
            first.argv[3..].join(" "),
            format!(
                "/data/n1 /opt/ovsdb-tool-bin {SCHEMA} splitbrain tcp:10.0.0.1:6644  {}",
                server("n1", "10.0.0.1")
            )
        );
        assert_eq!(
            second.argv[3..].join(" "),
            format!(
                "/data/n2 /opt/ovsdb-tool-bin {SCHEMA} splitbrain tcp:10.0.0.2:6644 tcp:10.0.0.1:6644 {}",
                server("n2", "10.0.0.2")
            )
        );
        assert_eq!(observer.argv[..3], ["/opt/splitbrain", "agent", "ovsdb-observer"]);
        assert_eq!(
            observer.argv[3],
            r#"{"host":"n1","dir":"/data/n1","servers":{"n1":"tcp:10.0.0.1:6644","n2":"tcp:10.0.0.2:6644"}}"#
        );
    }

    fn check(change: impl FnOnce(&mut Plan), expect: &str) {
        let mut plan = plan();
        change(&mut plan);
        let error = OvsdbSystem.check(&plan).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        check(|_| (), "apt-get install openvswitch-common");
        check(|plan| plan.environment = "sim".into(), "local");
        check(|plan| plan.mutant = Some("forget-vote".into()), "no mutant");
        check(
            |plan| drop(plan.options.insert("ttl".into(), "5s".into())),
            SERVER_OPTION,
        );
    }
}
