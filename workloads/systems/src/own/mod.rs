//! A service of the user's own, in any language: the system `candidate`.
//!
//! A program that speaks the candidate protocol (`workloads/examples/PROTOCOL.md`) on its standard streams runs on each
//! candidate's host. The plan's `[deploy]` section says what it is, which files it needs and which servers it uses: built-in
//! ones ([`servers`]), or a program of the user's on each server's host, or none. Nothing of ours stands between the
//! program and control: what it says is what is judged.
//!
//! **What it is told** stands in its environment: its host's name, address and directory, the storage's address, all servers
//! and candidates by name and address, the workload, and what the plan adds.
//!
//! **What is promised** is what the plan says. Where it says nothing, what every election is for is assumed: one leader per
//! epoch, one reign per token, a leader within a bound, agreement in the end. Exclusion is not, since no lease and no lock
//! over a network can promise it; a plan may.
//!
//! **When it starts.** Servers take a while, and a candidate that gives up meanwhile would end the run. So a candidate's
//! first start waits for the ports of all servers ([`prepare`]). Later lives do not: servers may be down then, and a
//! candidate has to live with that.
pub mod prepare;
mod servers;

use crate::client;
use crate::etcd::server as etcd;
use crate::options::{self, count, text};
use crate::raft::{promise, recovery, storage_address, storage_host, storage_process, storage_promises};
use crate::zookeeper::server as zookeeper;
use servers::BuiltIn;
use splitbrain_core::plan::Part;
use splitbrain_core::system::Stdio;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Plan, ProcessSpec, Promise, Site, System,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The agent that waits for servers.
pub const AWAIT: &str = "await";
/// As plans write the system.
pub const NAME: &str = "candidate";
/// Servers, where there are any, and candidates unless the plan says otherwise.
const HOSTS: usize = 3;
const OPTIONS: &[(&str, &str)] = &[
    (
        "recovery",
        "within what time of the last healing a leader is promised (15s)",
    ),
    etcd::BINARY_OPTION,
    zookeeper::TICK_OPTION,
    zookeeper::JAVA_OPTION,
    zookeeper::CLASSPATH_OPTION,
];

/// The system `candidate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnSystem;

impl System for OwnSystem {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> &'static str {
        "a program of your own in any language, on each candidate's host: --candidate 'CMD', or a plan's [deploy]"
    }

    fn layer(&self) -> Layer {
        Layer::Client
    }

    fn token(&self) -> &'static str {
        "what the program says"
    }

    fn beliefs(&self) -> &'static str {
        "each candidate's own words, as the candidate protocol has them"
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        let mut hosts = options::hosts("s", server_count(plan), HostRole::Server, false);
        hosts.extend(options::hosts(
            "c",
            count(plan.candidates, HOSTS),
            HostRole::Candidate,
            true,
        ));
        hosts.push(storage_host());
        hosts
    }

    fn operations(&self) -> &'static [&'static str] {
        client::OPERATIONS
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(plan)
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        options::refuse_simulation(plan)?;
        within(plan)?;
        let deploy = &plan.deploy;
        check_part("candidate", &deploy.candidate)?;
        if !deploy.candidate.ports.is_empty() {
            return Err("[deploy.candidate] has ports: it is servers that are waited for, see [deploy.server]".into());
        }
        match (&deploy.servers, &deploy.server) {
            (Some(_), Some(_)) => {
                Err("[deploy] has servers and a [deploy.server]: built-in servers, or some of your own".into())
            }
            (Some(name), None) => (servers::find(name)?.check)(plan),
            (None, Some(part)) => check_part("server", part),
            (None, None) if plan.nodes > 0 => {
                Err("there are no servers to have --nodes of: see --servers and [deploy.server]".into())
            }
            (None, None) => Ok(()),
        }
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let ground = Ground::new(plan, site);
        let mut processes = vec![storage_process(plan, site)];
        let mut ports = Vec::new();
        if let Some(built_in) = built_in(plan) {
            let of = |&server: &Name| (built_in.process)(plan, site, &ground.servers, server);
            processes.extend(ground.servers.iter().map(of));
            ports.push(built_in.port);
        } else if let Some(part) = &plan.deploy.server {
            let of = |&server: &Name| ground.processes(part, server, "server", Stdio::Log, &[]);
            processes.extend(ground.servers.iter().flat_map(of));
            ports.clone_from(&part.ports);
        }
        let awaited = ground.addresses(&ports);
        let of = |&host: &Name| ground.processes(&plan.deploy.candidate, host, "candidate", Stdio::Protocol, &awaited);
        processes.extend(ground.candidates.iter().flat_map(of));
        processes
    }
}

fn server_count(plan: &Plan) -> usize {
    match (&plan.deploy.servers, &plan.deploy.server) {
        (None, None) => 0,
        _ => count(plan.nodes, HOSTS),
    }
}

/// Of a plan that was checked.
fn built_in(plan: &Plan) -> Option<&'static BuiltIn> {
    let name = plan.deploy.servers.as_ref()?;
    Some(servers::find(name).expect("a plan is checked before it is deployed"))
}

fn check_part(name: &str, part: &Part) -> Result<(), String> {
    if part.command.trim().is_empty() {
        return Err(format!(
            "nothing is said to run on the {name}s' hosts: --candidate 'CMD', or command = \"CMD\" in [deploy.{name}]"
        ));
    }
    let variables = || part.env.keys().chain(part.lists.keys());
    let good = |key: &&String| {
        let mut bytes = key.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if let Some(bad) = variables().find(|key| !good(key) || key.starts_with("SPLITBRAIN_")) {
        return Err(format!(
            "'{bad}' in [deploy.{name}] cannot be a variable of your own: letters, digits and '_', and not SPLITBRAIN_"
        ));
    }
    if let Some(both) = part.env.keys().find(|key| part.lists.contains_key(*key)) {
        return Err(format!("'{both}' stands in both env and lists of [deploy.{name}]"));
    }
    let distinct: BTreeSet<_> = part.logs.iter().map(|log| log_name(log)).collect();
    if distinct.len() < part.logs.len() {
        return Err(format!("two logs of [deploy.{name}] have the same name"));
    }
    Ok(())
}

/// What every process is told.
struct Ground<'a> {
    plan: &'a Plan,
    site: &'a Site,
    servers: Vec<Name>,
    candidates: Vec<Name>,
}

impl<'a> Ground<'a> {
    fn new(plan: &'a Plan, site: &'a Site) -> Ground<'a> {
        let hosts = OwnSystem.hosts(plan);
        let of = |role| hosts.iter().filter(|h| h.role == role).map(|h| h.name).collect();
        Ground {
            plan,
            site,
            servers: of(HostRole::Server),
            candidates: of(HostRole::Candidate),
        }
    }

    /// `pattern` once for each of `hosts`.
    fn list(&self, hosts: &[Name], pattern: &str) -> String {
        let fill = |host: &Name| {
            let ip = self.site.places[host].ip.to_string();
            pattern.replace("{name}", host.as_str()).replace("{ip}", &ip)
        };
        hosts.iter().map(fill).collect::<Vec<_>>().join(",")
    }

    fn addresses(&self, ports: &[u16]) -> Vec<SocketAddr> {
        let of = |server: &Name| {
            let ip = self.site.places[server].ip;
            ports.iter().map(move |&port| SocketAddr::new(ip, port))
        };
        self.servers.iter().flat_map(of).collect()
    }

    fn env(&self, part: &Part, host: Name) -> Vec<(String, String)> {
        let place = &self.site.places[&host];
        let told = [
            ("SPLITBRAIN_HOST", host.to_string()),
            ("SPLITBRAIN_IP", place.ip.to_string()),
            ("SPLITBRAIN_DIR", text(&place.dir)),
            ("SPLITBRAIN_STORAGE", storage_address(self.site).to_string()),
            ("SPLITBRAIN_SERVERS", self.list(&self.servers, "{name}={ip}")),
            ("SPLITBRAIN_CANDIDATES", self.list(&self.candidates, "{name}={ip}")),
            ("SPLITBRAIN_WORKLOAD", self.plan.workload.name().to_string()),
        ];
        let told = told.map(|(key, value)| (key.to_string(), value));
        let lists = part
            .lists
            .iter()
            .map(|(key, pattern)| (key.clone(), self.list(&self.servers, pattern)));
        let env = part.env.iter().map(|(key, value)| (key.clone(), value.clone()));
        told.into_iter().chain(env).chain(lists).collect()
    }

    /// The process of `part` on `host`, and those that follow its logs.
    fn processes(&self, part: &Part, host: Name, name: &str, stdio: Stdio, awaited: &[SocketAddr]) -> Vec<ProcessSpec> {
        // The shell becomes the command, so that what is paused and killed is the command.
        let exec = format!("exec {}", part.command);
        let shell = |script: String, words: Vec<String>| {
            let head = ["/bin/sh".to_string(), "-c".to_string(), script];
            head.into_iter().chain(words).collect::<Vec<_>>()
        };
        let argv = if awaited.is_empty() {
            shell(exec, Vec::new())
        } else {
            let settings = prepare::Settings {
                ports: awaited.to_vec(),
            };
            let json = serde_json::to_string(&settings).expect("plain data always becomes JSON");
            let script = format!("\"$0\" agent {AWAIT} \"$1\" </dev/null || exit; {exec}");
            shell(script, vec![text(&self.site.program), json])
        };
        let mut processes = vec![ProcessSpec {
            host,
            name: name.to_string(),
            argv,
            env: self.env(part, host),
            stdio,
        }];
        let follow = |log: &String| ProcessSpec {
            host,
            name: log_name(log),
            // From its start, in each life: what was written before a kill stands there again.
            argv: ["tail", "-n", "+1", "-F", "--", log].map(str::to_string).to_vec(),
            env: Vec::new(),
            stdio: Stdio::Log,
        };
        processes.extend(part.logs.iter().map(follow));
        processes
    }
}

/// What the process that follows the file `log` is called.
fn log_name(log: &str) -> String {
    let base = log.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("log-{}", base.chars().map(plain).collect::<String>())
}

fn within(plan: &Plan) -> Result<Nanos, String> {
    options::time(plan, "recovery", Nanos::secs(15))
}

fn promises(plan: &Plan) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    const PURPOSE: &str = "assumed of every election unless the plan's [deploy.promises] says otherwise";
    const NOTHING: &str = "nobody says so: the plan's [deploy.promises] may";
    let mut promises = vec![
        promise(LeaderPerEpoch, Always, PURPOSE),
        promise(EpochsPerObserver, Never, NOTHING),
        promise(EpochsInRealTime, Never, NOTHING),
        promise(
            TokenPerReign,
            if plan.deploy.tokens { Always } else { Never },
            if plan.deploy.tokens {
                PURPOSE
            } else {
                "the plan says that there are no tokens"
            },
        ),
        promise(TokensInRealTime, Never, NOTHING),
        promise(
            Exclusion,
            Never,
            "no lease and no lock over a network excludes an old leader's belief; the plan's [deploy.promises] may say so",
        ),
        promise(FinalAgreement, Always, PURPOSE),
        recovery(within(plan).unwrap_or(Nanos::secs(15)), PURPOSE),
    ];
    promises.extend(storage_promises(plan, plan.deploy.tokens));
    for (guarantee, vow) in &plan.deploy.promises {
        let said = Promise {
            within: (*guarantee == Recovery).then(|| within(plan).unwrap_or(Nanos::secs(15))),
            ..promise(*guarantee, vow.0.clone(), "the plan's [deploy.promises]")
        };
        match promises.iter_mut().find(|p| p.guarantee == *guarantee) {
            Some(assumed) => *assumed = said,
            None => promises.push(said),
        }
    }
    promises
}

#[cfg(test)]
mod tests;
