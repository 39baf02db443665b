//! Redis Sentinel, observed at every host: which redis is the master, and by which configuration epoch.
//!
//! Each host runs a redis, a sentinel and our `observer`. The first host's redis is the master by configuration, the others'
//! are its replicas, which is configuration 1 ("Configuration propagation"); when enough sentinels hold the master for down, a majority of them authorises one to promote a
//! replica. The observer takes part in nothing; see [`observer`] for how it knows.
//!
//! Redis and sentinel write their configuration files anew when they change their minds, and live on by them after a
//! restart ("Sentinel state is persisted in the sentinel configuration file"). So a shell writes each file only if there
//! is none, and becomes the program.
//!
//! **What is promised** is what redis's documentation of Sentinel says: an epoch is used once. That there is one master at
//! a time is promised never: an isolated master goes on, and what is written to it is lost ("Consistency under
//! partitions").
//!
//! **TILT.** A sentinel whose timer is late by 2 s, as after a pause, stops acting for 30 s; two of three in that state promote
//! nobody. The bound for recovery has room for it.
pub mod observer;
mod statement;

use crate::options::{self, count, text};
use crate::raft::{ours, promise, recovery};
use crate::redis::server;
use observer::Settings;
use splitbrain_core::system::Place;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System,
};
use std::net::SocketAddr;

/// The agent beside each sentinel.
pub const OBSERVER: &str = "sentinel-observer";
/// What the sentinels call the master that they watch.
const MASTER: &str = "leader";
/// Hosts unless the plan says otherwise: one may fail.
const HOSTS: usize = 3;
const SENTINEL_PORT: u16 = 26379;
const OPTIONS: &[(&str, &str)] = &[
    (
        "down-after",
        "a sentinel that has no answer for this long holds a server for down (1s)",
    ),
    (
        "failover-timeout",
        "a failover that was not carried out is tried again after twice this (2s)",
    ),
    server::BINARY_OPTION,
];

/// The system `redis-sentinel`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisSentinelSystem;

impl System for RedisSentinelSystem {
    fn name(&self) -> &'static str {
        "redis-sentinel"
    }

    fn describe(&self) -> &'static str {
        "replicated redis servers with sentinels, observed at every host: who is the master, in which epoch"
    }

    fn layer(&self) -> Layer {
        Layer::Server
    }

    fn token(&self) -> &'static str {
        "none: nobody writes with the configuration epoch"
    }

    fn beliefs(&self) -> &'static str {
        "the host's sentinel names its redis with an epoch, and that redis is a master before and after"
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        options::hosts("n", count(plan.nodes, HOSTS), HostRole::Server, true)
    }

    fn operations(&self) -> &'static [&'static str] {
        &["observe"]
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(timing(plan).unwrap_or(DEFAULT_TIMING))
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        timing(plan)?;
        server::check(plan)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let names: Vec<Name> = self.hosts(plan).iter().map(|h| h.name).collect();
        let sentinel = |name: Name| SocketAddr::new(site.places[&name].ip, SENTINEL_PORT);
        let observe = |name: Name| {
            let settings = Settings {
                host: name,
                sentinel: sentinel(name),
                servers: names.iter().map(|&n| (n, server::address(site, n))).collect(),
            };
            ours(site, name, "observer", ["agent", OBSERVER], &settings)
        };
        let all = |&name: &Name| {
            [
                redis(plan, site, &names, name),
                sentinel_process(plan, site, &names, name),
                observe(name),
            ]
        };
        names.iter().flat_map(all).collect()
    }
}

#[derive(Clone, Copy)]
struct Timing {
    down_after: Nanos,
    failover_timeout: Nanos,
}

/// Short, so that a run of a minute sees many failovers; redis's own defaults are 30 s and 3 minutes.
const DEFAULT_TIMING: Timing = Timing {
    down_after: Nanos::secs(1),
    failover_timeout: Nanos::secs(2),
};

fn timing(plan: &Plan) -> Result<Timing, String> {
    let at_least_a_millisecond = |name, default| match options::time(plan, name, default)? {
        time if time < Nanos::millis(1) => Err(format!("option {name} = {time} must be at least 1ms")),
        time => Ok(time),
    };
    Ok(Timing {
        down_after: at_least_a_millisecond("down-after", DEFAULT_TIMING.down_after)?,
        failover_timeout: at_least_a_millisecond("failover-timeout", DEFAULT_TIMING.failover_timeout)?,
    })
}

fn redis(plan: &Plan, site: &Site, names: &[Name], name: Name) -> ProcessSpec {
    let line = |(what, value): (&str, String)| format!("{what} \"{value}\"");
    let mut lines: Vec<String> = server::settings(site, name).into_iter().map(line).collect();
    let first = server::address(site, names[0]);
    if name != names[0] {
        lines.push(format!("replicaof {} {}", first.ip(), first.port()));
    }
    let file = text(&site.places[&name].dir.join("redis.conf"));
    configured(name, "redis", &lines, [server::binary(plan), file])
}

fn sentinel_process(plan: &Plan, site: &Site, names: &[Name], name: Name) -> ProcessSpec {
    let Place { ip, dir } = &site.places[&name];
    let first = server::address(site, names[0]);
    let timing = timing(plan).expect("a plan is checked before it is deployed");
    let milliseconds = |time: Nanos| time.0 / Nanos::millis(1).0;
    let lines = [
        format!("port {SENTINEL_PORT}"),
        format!("bind {ip}"),
        "protected-mode no".to_string(),
        format!("dir \"{}\"", text(dir)),
        format!(
            "sentinel monitor {MASTER} {} {} {}",
            first.ip(),
            first.port(),
            names.len() / 2 + 1
        ),
        format!(
            "sentinel down-after-milliseconds {MASTER} {}",
            milliseconds(timing.down_after)
        ),
        format!(
            "sentinel failover-timeout {MASTER} {}",
            milliseconds(timing.failover_timeout)
        ),
        format!("sentinel parallel-syncs {MASTER} 1"),
        format!("sentinel config-epoch {MASTER} 1"),
    ];
    let file = text(&dir.join("sentinel.conf"));
    let mut spec = configured(name, "sentinel", &lines, [server::binary(plan), file]);
    spec.argv.push("--sentinel".to_string());
    spec
}

/// `program file`, after the file was written if there was none. It appears as a whole or not at all.
fn configured(host: Name, name: &str, lines: &[String], [program, file]: [String; 2]) -> ProcessSpec {
    let script = r#"[ -e "$0" ] || { printf '%s\n' "$1" > "$0.new" && mv "$0.new" "$0"; }; shift; exec "$@""#;
    let shell = ["/bin/sh", "-c", script, &file, &lines.join("\n"), &program, &file];
    server::process(host, name, shell.map(String::from).to_vec())
}

fn promises(timing: Timing) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    vec![
        promise(
            LeaderPerEpoch,
            Always,
            "every configuration of every failover is versioned with a unique version (redis documentation, Sentinel, \
             Configuration epochs)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "the greater version always wins over smaller versions, and is persisted (redis documentation, Sentinel, \
             Configuration propagation; Sentinel persistent state)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "a sentinel learns of a configuration by broadcasts, which may come late",
        ),
        promise(
            Exclusion,
            Never,
            "clients will still be able to write to the old master (redis documentation, Sentinel, Consistency under \
             partitions)",
        ),
        promise(
            FinalAgreement,
            Always,
            "sentinels that are able to communicate will all converge to the same configuration, and always try to \
             impose it (redis documentation, Sentinel, Configuration propagation)",
        ),
        recovery(
            Nanos::secs(60) + timing.down_after + timing.failover_timeout + timing.failover_timeout,
            "a sentinel in TILT acts again after 30 s, an old master is made a replica after 8 s of steady answers, and a \
             failover is tried again after twice its timeout (redis documentation, Sentinel, TILT mode; Configuration \
             epochs)",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;

    fn plan(options: &[(&str, &str)]) -> Plan {
        let mut plan = Plan::new("redis-sentinel", "local");
        plan.options.insert("redis-bin".into(), "/bin/sh".into());
        for (name, value) in options {
            plan.options.insert(name.to_string(), value.to_string());
        }
        plan
    }

    #[test]
    fn each_host_runs_a_redis_a_sentinel_and_an_observer() {
        let plan = plan(&[("down-after", "1500ms")]);
        let site = test_site(&RedisSentinelSystem.hosts(&plan));
        let processes = RedisSentinelSystem.deploy(&plan, 7, &site);
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(shape[..4], ["n1 redis", "n1 sentinel", "n1 observer", "n2 redis"]);
        let redis =
            "port \"6379\"\nbind \"10.0.0.2\"\nprotected-mode \"no\"\ndir \"/data/n2\"\nreplicaof 10.0.0.1 6379";
        assert_eq!(
            processes[3].argv[3..],
            ["/data/n2/redis.conf", redis, "/bin/sh", "/data/n2/redis.conf"]
        );
        let sentinel = "port 26379\nbind 10.0.0.2\nprotected-mode no\ndir \"/data/n2\"\n\
            sentinel monitor leader 10.0.0.1 6379 2\nsentinel down-after-milliseconds leader 1500\n\
            sentinel failover-timeout leader 2000\nsentinel parallel-syncs leader 1\nsentinel config-epoch leader 1";
        assert_eq!(
            processes[4].argv[3..],
            [
                "/data/n2/sentinel.conf",
                sentinel,
                "/bin/sh",
                "/data/n2/sentinel.conf",
                "--sentinel"
            ]
        );
        assert!(!processes[0].argv[4].contains("replicaof"), "{:?}", processes[0].argv);
        assert_eq!(
            processes[2].argv[3],
            r#"{"host":"n1","sentinel":"10.0.0.1:26379","servers":{"n1":"10.0.0.1:6379","n2":"10.0.0.2:6379","n3":"10.0.0.3:6379"}}"#
        );
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        let check = |options, expect: &str| {
            let error = RedisSentinelSystem.check(&plan(options)).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        assert_eq!(RedisSentinelSystem.check(&plan(&[])), Ok(()));
        check(&[("down-after", "soon")], "5s or 300ms");
        check(&[("failover-timeout", "10us")], "at least 1ms");
        check(&[("quorum", "2")], "it knows down-after");
        check(&[("redis-bin", "/nonexistent")], "apt-get install redis-server");
    }
}
