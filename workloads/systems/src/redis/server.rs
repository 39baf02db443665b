//! A redis server as it is installed: where its binary is, and how it is called.
//!
//! Persistence is redis's own default: snapshots now and then, no append-only file. Snapshots come at the earliest a minute
//! after a change, so a server that is killed has forgotten every lock when it starts again.
use crate::options;
use splitbrain_core::system::{Place, Stdio};
use splitbrain_core::{Name, Nanos, Need, Plan, ProcessSpec, Site};
use std::net::SocketAddr;

pub(crate) const BINARY_OPTION: (&str, &str) = (
    "redis-bin",
    "path of the redis-server binary, 6.2 or later, on every host (the first 'redis-server' on the PATH)",
);
const PORT: u16 = 6379;

/// What hosts need.
pub(crate) const NEEDS: &[Need] = &[Need {
    what: "redis-server",
    package: "redis-server",
    version: &["--version"],
}];

/// What all systems on redis ask of a plan.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    options::refuse_simulation(plan)?;
    options::program(plan, BINARY_OPTION.0, &NEEDS[0]).map(drop)
}

/// The binary, as an argument.
pub(crate) fn binary(plan: &Plan) -> String {
    options::command(plan, BINARY_OPTION.0, &NEEDS[0])
}

/// Where clients reach the server `name`.
pub(crate) fn address(site: &Site, name: Name) -> SocketAddr {
    SocketAddr::new(site.places[&name].ip, PORT)
}

/// A process on `host` whose output is its log.
pub(crate) fn process(host: Name, name: &str, argv: Vec<String>) -> ProcessSpec {
    ProcessSpec {
        host,
        name: name.to_string(),
        argv,
        env: Vec::new(),
        stdio: Stdio::Log,
    }
}

/// An instance of its own, in its host's directory.
pub(crate) fn instance(plan: &Plan, site: &Site, name: Name) -> ProcessSpec {
    process(name, "redis", argv(plan, site, name))
}

/// The same; in each life but the first it waits for a bit more than `ttl` before it starts.
pub(crate) fn instance_that_waits(plan: &Plan, site: &Site, name: Name, ttl: Nanos) -> ProcessSpec {
    let script = r#"[ -e "$0" ] && sleep "$1"; : > "$0"; shift; exec "$@""#;
    let mark = options::text(&site.places[&name].dir.join("lived"));
    let wait = ttl + Nanos(ttl.0 / 10) + Nanos::millis(100);
    let seconds = format!("{}.{:03}", wait.0 / 1_000_000_000, wait.0 / 1_000_000 % 1000);
    let shell = ["/bin/sh", "-c", script, &mark, &seconds].map(String::from);
    process(name, "redis", shell.into_iter().chain(argv(plan, site, name)).collect())
}

fn argv(plan: &Plan, site: &Site, name: Name) -> Vec<String> {
    let settings = settings(site, name).into_iter();
    let words = settings.flat_map(|(what, value)| [format!("--{what}"), value]);
    std::iter::once(binary(plan)).chain(words).collect()
}

/// What is not as installed.
pub(crate) fn settings(site: &Site, name: Name) -> [(&'static str, String); 4] {
    let Place { ip, dir } = &site.places[&name];
    [
        ("port", PORT.to_string()),
        ("bind", ip.to_string()),
        ("protected-mode", "no".to_string()),
        ("dir", options::text(dir)),
    ]
}
