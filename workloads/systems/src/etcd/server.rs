//! An etcd server as it is installed: where its binary is, and how it is called.
//!
//! Timers are etcd's defaults, written out. zap is asked for as the logger since etcd 3.4 still has another default;
//! etcd 3.3 and older do not know the flag and end at once, saying so.
use crate::log_pipe;
use crate::options::{self, text};
use splitbrain_core::system::Stdio;
use splitbrain_core::{Name, Need, Plan, ProcessSpec, Site};
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) const BINARY_OPTION: (&str, &str) = (
    "etcd-bin",
    "path of the etcd binary, 3.4 or later, on every host (the first 'etcd' on the PATH)",
);
pub(crate) const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What hosts need.
pub(crate) const NEEDS: &[Need] = &[Need {
    what: "etcd",
    package: "etcd-server",
    version: &["--version"],
}];

/// What all systems on etcd ask of a plan.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    options::refuse_simulation(plan)?;
    options::program(plan, BINARY_OPTION.0, &NEEDS[0]).map(drop)
}

fn url(site: &Site, name: Name, port: u16) -> String {
    format!("http://{}", SocketAddr::new(site.places[&name].ip, port))
}

/// Where clients reach the server `name`.
pub(crate) fn client_url(site: &Site, name: Name) -> String {
    url(site, name, CLIENT_PORT)
}

/// Where its peers reach the server `name`.
pub(crate) fn peer_url(site: &Site, name: Name) -> String {
    url(site, name, PEER_PORT)
}

/// Where the pipe is into which the server `name` logs where it is observed.
pub(crate) fn log_path(site: &Site, name: Name) -> PathBuf {
    site.places[&name].dir.join("etcd-log")
}

/// The server `name` of the cluster `servers`, logging on standard error.
pub(crate) fn process(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let argv = argv(plan, site, servers, name, "stderr");
    spec(name, argv)
}

/// The server `name` of the cluster `servers`, logging into the pipe at [`log_path`].
pub(crate) fn process_with_log_pipe(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let pipe = text(&log_path(site, name));
    let etcd = argv(plan, site, servers, name, &pipe);
    spec(name, log_pipe::before(&pipe, etcd))
}

fn spec(host: Name, argv: Vec<String>) -> ProcessSpec {
    ProcessSpec {
        host,
        name: "etcd".to_string(),
        argv,
        env: Vec::new(),
        stdio: Stdio::Log,
    }
}

fn argv(plan: &Plan, site: &Site, servers: &[Name], name: Name, log: &str) -> Vec<String> {
    let binary = options::command(plan, BINARY_OPTION.0, &NEEDS[0]);
    let (client, peer) = (client_url(site, name), peer_url(site, name));
    let cluster: Vec<_> = servers.iter().map(|&s| format!("{s}={}", peer_url(site, s))).collect();
    let data = text(&site.places[&name].dir.join("etcd"));
    let flags = [
        ("--name", name.to_string()),
        ("--data-dir", data),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", cluster.join(",")),
        ("--initial-cluster-token", "splitbrain".to_string()),
        ("--initial-cluster-state", "new".to_string()),
        ("--heartbeat-interval", "100".to_string()),
        ("--election-timeout", "1000".to_string()),
        ("--logger", "zap".to_string()),
        ("--log-outputs", log.to_string()),
    ];
    let words = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
    std::iter::once(binary).chain(words).collect()
}
