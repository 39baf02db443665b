//! A ZooKeeper server as it is installed: where its jars are, and how it is called.
//!
//! **Timers.** ZooKeeper counts in ticks. With its usual tick of 2 s a cut leader is replaced after ten seconds; to see many
//! elections in a minute the tick is a tenth of that unless the plan says otherwise, and the two timers of elections that
//! are not counted in ticks (`cnxTimeout`, `fastleader.maxNotificationInterval`) are scaled with it. `initLimit` and
//! `syncLimit` are those of the sample configuration.
//!
//! **Files.** Configuration and `myid` are written on the host, by the shell that becomes the server, before its first
//! life; `myid` is written last and tells that both are whole.
//!
//! **Jars.** `zookeeper.jar` of Debian names all jars that it needs but one: what carries its log. slf4j-simple does, since
//! it writes at once and whole lines; see [`crate::zookeeper::log`]. The admin server is off.
use crate::log_pipe;
use crate::options::{self, text};
use splitbrain_core::system::Stdio;
use splitbrain_core::{Name, Nanos, Need, Plan, ProcessSpec, Site};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

pub(crate) const JAVA_OPTION: (&str, &str) = (
    "java-bin",
    "path of the java binary on every host (the first 'java' on the PATH)",
);
pub(crate) const CLASSPATH_OPTION: (&str, &str) = (
    "zookeeper-classpath",
    "class path of ZooKeeper 3.5 or later and of slf4j-simple on every host (Debian's zookeeper.jar and slf4j-simple.jar)",
);
pub(crate) const TICK_OPTION: (&str, &str) = (
    "tick-time",
    "ZooKeeper's tickTime in whole milliseconds, in which all its timers count (200ms; as installed it is 2s)",
);

pub(crate) const CLIENT_PORT: u16 = 2181;
const QUORUM_PORT: u16 = 2888;
const ELECTION_PORT: u16 = 3888;
const TICK: Nanos = Nanos::millis(200);
/// Ticks that a follower may lag behind its leader before either gives the other up.
pub(crate) const SYNC_LIMIT: u64 = 5;

const JAVA: Need = Need {
    what: "java",
    package: "default-jre-headless",
    version: &["-version"],
};
const JARS: [Need; 2] = [
    Need {
        what: "/usr/share/java/zookeeper.jar",
        package: "zookeeper",
        version: &[],
    },
    Need {
        what: "/usr/share/java/slf4j-simple.jar",
        package: "libslf4j-java",
        version: &[],
    },
];
/// What hosts need.
pub(crate) const NEEDS: &[Need] = &[JAVA, JARS[0], JARS[1]];

/// What all systems on ZooKeeper ask of a plan.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    options::refuse_simulation(plan)?;
    tick(plan)?;
    options::program(plan, JAVA_OPTION.0, &JAVA)?;
    if plan.environment != "local" {
        return Ok(());
    }
    for jar in classpath(plan).split(':').filter(|jar| !jar.ends_with('*')) {
        if !Path::new(jar).exists() {
            return Err(format!(
                "no {jar}: apt-get install zookeeper default-jre-headless, or set the option {} to where the jars are",
                CLASSPATH_OPTION.0
            ));
        }
    }
    Ok(())
}

/// How long a tick is.
pub(crate) fn tick(plan: &Plan) -> Result<Nanos, String> {
    let tick = options::time(plan, TICK_OPTION.0, TICK)?;
    if tick < Nanos::millis(1) || !tick.0.is_multiple_of(Nanos::millis(1).0) {
        return Err(format!("option tick-time = {tick} must be whole milliseconds"));
    }
    Ok(tick)
}

fn classpath(plan: &Plan) -> String {
    let debian = || JARS.map(|jar| jar.what).join(":");
    plan.options.get(CLASSPATH_OPTION.0).cloned().unwrap_or_else(debian)
}

/// Where clients reach the server `name`.
pub(crate) fn client_address(site: &Site, name: Name) -> SocketAddr {
    SocketAddr::new(site.places[&name].ip, CLIENT_PORT)
}

/// Where the pipe is into which the server `name` logs where it is observed.
pub(crate) fn log_path(site: &Site, name: Name) -> PathBuf {
    site.places[&name].dir.join("zookeeper-log")
}

/// The server `name` of the ensemble `servers`, logging on standard error. Panics if [`check`] refuses the plan.
pub(crate) fn process(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    spec(name, argv(plan, site, servers, name, "System.err"))
}

/// The server `name` of the ensemble `servers`, logging into the pipe at [`log_path`]. Panics if [`check`] refuses the plan.
pub(crate) fn process_with_log_pipe(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let pipe = text(&log_path(site, name));
    spec(name, log_pipe::before(&pipe, argv(plan, site, servers, name, &pipe)))
}

fn spec(host: Name, argv: Vec<String>) -> ProcessSpec {
    ProcessSpec {
        host,
        name: "zookeeper".to_string(),
        argv,
        env: Vec::new(),
        stdio: Stdio::Log,
    }
}

/// Writes the files before the first life, and becomes the server.
const SCRIPT: &str = concat!(
    r#"[ -s "$0/myid" ] || { mkdir -p "$0" && printf %s "$1" >"$0/zoo.cfg" && sync "$0/zoo.cfg" "#,
    r#"&& printf %s "$2" >"$0/myid" && sync "$0/myid"; } || exit; shift 2; exec "$@""#
);

fn argv(plan: &Plan, site: &Site, servers: &[Name], name: Name, log: &str) -> Vec<String> {
    let tick = tick(plan).expect("a plan is checked before it is deployed").0 / 1_000_000;
    let dir = site.places[&name].dir.join("zookeeper");
    let id = servers.iter().position(|s| *s == name).expect("it is of the ensemble") + 1;
    let cnx_timeout = format!("-Dzookeeper.cnxTimeout={}", (tick * 5 / 2).max(1));
    let most = format!("-Dzookeeper.fastleader.maxNotificationInterval={}", tick * 30);
    let log = format!("-Dorg.slf4j.simpleLogger.logFile={log}");
    let zoo_cfg = text(&dir.join("zoo.cfg"));
    let words = [
        "/bin/sh",
        "-c",
        SCRIPT,
        &text(&dir),
        &config(site, servers, name, &text(&dir), tick),
        &id.to_string(),
        &options::command(plan, JAVA_OPTION.0, &JAVA),
        // A server that holds a few znodes needs no more, and three of them on one machine must not fight.
        "-Xmx64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        // It would write outside of the host's directory.
        "-XX:-UsePerfData",
        &cnx_timeout,
        &most,
        &log,
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
        "-cp",
        &classpath(plan),
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        &zoo_cfg,
    ];
    words.map(str::to_string).to_vec()
}

fn config(site: &Site, servers: &[Name], name: Name, dir: &str, tick: u64) -> String {
    let host = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let own = site.places[&name].ip;
    let mut config = format!(
        "tickTime={tick}\ninitLimit=10\nsyncLimit={SYNC_LIMIT}\ndataDir={dir}\n\
         clientPort={CLIENT_PORT}\nclientPortAddress={own}\nmaxClientCnxns=0\nadmin.enableServer=false\n"
    );
    for (n, server) in servers.iter().enumerate() {
        let at = host(site.places[server].ip);
        config += &format!("server.{}={at}:{QUORUM_PORT}:{ELECTION_PORT}\n", n + 1);
    }
    config
}
