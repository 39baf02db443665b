//! An etcd server as it is installed: where its binary is, and how it is called.
//!
//! Timers are etcd's defaults, written out. zap is asked for as the logger since etcd 3.4 still has another default;
//! etcd 3.3 and older do not know the flag and end at once, saying so.
use crate::etcd::server_spec;
use crate::options;
use splitbrain_core::system::Stdio;
use splitbrain_core::{HostSpec, Name, Plan, ProcessSpec, Site};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) const BINARY_OPTION: (&str, &str) = (
    "etcd-bin",
    "path of the etcd binary, 3.4 or later, on every host (the first 'etcd' on the PATH)",
);
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// Servers `PREFIX1` to `PREFIXcount`.
pub(crate) fn hosts(prefix: &str, count: usize, asked: bool) -> Vec<HostSpec> {
    (1..=count)
        .map(|n| server_spec(Name::numbered(prefix, n), asked))
        .collect()
}

/// What all systems on etcd ask of a plan. A binary is looked for and not run: nothing but an environment runs a
/// command.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    options::refuse_mutant(plan)?;
    if plan.environment == "sim" {
        return Err(format!(
            "{} is a real program and cannot be simulated: choose an environment with hosts, such as local",
            plan.system
        ));
    }
    binary(plan).map(drop)
}

const REMEDY: &str = "apt-get install etcd-server, or set the option etcd-bin to the path of a binary";

fn binary(plan: &Plan) -> Result<PathBuf, String> {
    match plan.options.get(BINARY_OPTION.0) {
        // Other machines have their own; one that has none says so when it is started.
        Some(path) if plan.environment != "local" => Ok(PathBuf::from(path)),
        None if plan.environment != "local" => Ok(PathBuf::from("etcd")),
        Some(path) if options::is_executable(Path::new(path)) => Ok(PathBuf::from(path)),
        Some(path) => Err(format!("option etcd-bin = '{path}' is no executable file: {REMEDY}")),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            options::in_path("etcd", &path).ok_or_else(|| format!("no etcd on the PATH: {REMEDY}"))
        }
    }
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

/// The pipe into which the server `name` logs where it is observed.
pub(crate) fn log_pipe(site: &Site, name: Name) -> PathBuf {
    site.places[&name].dir.join("etcd-log")
}

/// The server `name` of the cluster `servers`, logging on standard error.
pub(crate) fn process(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let argv = argv(plan, site, servers, name, "stderr");
    spec(name, argv)
}

/// The server `name` of the cluster `servers`, logging into [`log_pipe`].
pub(crate) fn process_with_log_pipe(plan: &Plan, site: &Site, servers: &[Name], name: Name) -> ProcessSpec {
    let pipe = text(&log_pipe(site, name));
    let etcd = argv(plan, site, servers, name, &pipe);
    // The pipe is there already in every life but the first; the observer's end may open before or after.
    let script = r#"[ -p "$0" ] || mkfifo "$0"; exec "$@""#.to_string();
    let shell = ["/bin/sh".to_string(), "-c".to_string(), script, pipe];
    spec(name, shell.into_iter().chain(etcd).collect())
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

fn text(path: &Path) -> String {
    path.to_str().expect("paths of a site are UTF-8").to_string()
}

fn argv(plan: &Plan, site: &Site, servers: &[Name], name: Name, log: &str) -> Vec<String> {
    // Hosts may have a binary where control has none; a plan that was checked names one or finds one here.
    let binary = match plan.options.get(BINARY_OPTION.0) {
        Some(path) => path.clone(),
        None => binary(plan).map_or_else(|_| "etcd".to_string(), |path| text(&path)),
    };
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
