//! Meeting the hosts: starting their agents, learning what they are like, refusing what cannot work.
use super::addresses::{self, Network};
use super::line::{Endings, Line};
use crate::agent::proto::{self, Frame, FromHost, Greeting, Hello, ToHost};
use crate::ground::Order;
use crate::logs;
use crate::remote::Remote;
use anyhow::{Context, Result, anyhow, bail, ensure};
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long an agent may take to say what its host is like. It tries out what its kernel can do.
const GREETING: Duration = Duration::from_secs(20);

/// A host whose agent has greeted.
pub(super) struct Met {
    pub name: Name,
    pub label: String,
    pub remote: Arc<dyn Remote>,
    pub stream: UnixStream,
    pub greeting: Greeting,
    /// In the cluster's network.
    pub ip: IpAddr,
}

/// Starts the agents of all hosts at the same time.
pub(super) fn all(order: &Order, remotes: &[Arc<dyn Remote>], network: Option<&str>, dir: &Path) -> Result<Vec<Met>> {
    let network = network.map(str::parse::<Network>).transpose();
    let network = network.map_err(|why| anyhow!("failed to read --network: {why}"))?;
    let (needed, given) = (order.hosts.len(), remotes.len());
    ensure!(
        given >= needed,
        "failed to place the cluster: it needs {needed} hosts and {given} are given; name more, or lower --nodes or \
         --candidates"
    );
    let results: Vec<Result<Met>> = thread::scope(|scope| {
        let each = order.hosts.iter().zip(remotes);
        let threads: Vec<_> = each
            .map(|(spec, remote)| scope.spawn(move || meet(order, spec.name, remote, network, dir)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|met| met.unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    let (mut met, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(host) => met.push(host),
            Err(why) => failed.push(format!("{why:#}")),
        }
    }
    if !failed.is_empty() {
        bail!("failed to use the hosts: {}", failed.join("; "));
    }
    strangers(&met)?;
    Ok(met)
}

fn meet(order: &Order, name: Name, remote: &Arc<dyn Remote>, network: Option<Network>, dir: &Path) -> Result<Met> {
    let label = format!("host {name} ({})", remote.describe());
    let log = logs::file(dir, &log_name(name))?;
    let mut stream = remote.start_agent(&order.program, &["serve".to_string()], log)?;
    let hello = Hello {
        version: proto::VERSION,
        run: order.run.clone(),
        host: name,
        dead_man: order.settings.dead_man,
        // Each host draws its own numbers.
        seed: seed(order.seed, name),
        sabotage: order.sabotage,
    };
    let greeting = greet(&mut stream, hello).map_err(|why| match logs::tail(&logs::path(dir, &log_name(name)), 0) {
        Some(last) => anyhow!("{label}: {why}: {last}"),
        None => anyhow!("{label}: {why}"),
    })?;
    let ip =
        addresses::choose(remote.address(), &greeting.addresses, network).map_err(|why| anyhow!("{label} {why}"))?;
    Ok(Met {
        name,
        label,
        remote: remote.clone(),
        stream,
        greeting,
        ip,
    })
}

fn greet(stream: &mut UnixStream, hello: Hello) -> Result<Greeting, String> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock => format!("its agent did not greet within {}s", GREETING.as_secs()),
        _ => format!("its agent does not speak as it should: {error}"),
    };
    stream.set_read_timeout(Some(GREETING)).map_err(io)?;
    stream.set_write_timeout(Some(GREETING)).map_err(io)?;
    proto::send(stream, &ToHost::Hello(hello)).map_err(io)?;
    match proto::receive::<FromHost>(stream).map_err(io)? {
        Some(Frame::Message(FromHost::Hello(greeting))) if greeting.version == proto::VERSION => Ok(greeting),
        Some(Frame::Message(FromHost::Hello(greeting))) => Err(format!(
            "its agent is of another version ({}, not {})",
            greeting.version,
            proto::VERSION
        )),
        Some(Frame::Message(FromHost::Refused(why))) => Err(why),
        Some(_) => Err("its agent does not greet first".into()),
        None => Err("its agent ended before it greeted".into()),
    }
}

/// One stream of numbers for each host.
fn seed(run: u64, host: Name) -> u64 {
    use rand::Rng;
    splitbrain_core::seed::stream(run, host.as_str()).next_u64()
}

/// What an agent prints goes to `logs/HOST-agent.log`.
pub(super) fn log_name(host: Name) -> String {
    logs::name(host, "agent")
}

/// No machine and no address may stand for two hosts.
fn strangers(met: &[Met]) -> Result<()> {
    for (n, one) in met.iter().enumerate() {
        for other in &met[..n] {
            let (a, b) = (&other.label, &one.label);
            ensure!(
                one.ip != other.ip,
                "failed to tell {a} from {b}: both have the address {}; name each machine once, or another --network",
                one.ip
            );
        }
    }
    Ok(())
}

/// Hosts without a clock of their own, with who shares it: `control`, `n2`.
pub(super) fn shared_clocks(met: &[Met]) -> BTreeMap<Name, String> {
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut shared = BTreeMap::new();
    for host in met {
        let others = met.iter().filter(|other| other.name != host.name);
        let same: Vec<String> = others
            .filter(|other| other.greeting.boot_id == host.greeting.boot_id)
            .map(|other| other.name.to_string())
            .collect();
        if host.greeting.boot_id == own.trim() {
            shared.insert(host.name, "control".to_string());
        } else if !same.is_empty() {
            shared.insert(host.name, same.join(", "));
        }
    }
    shared
}

/// Opens the connection to each host for good.
pub(super) fn lines(met: &[Met], dir: &Path, endings: &Arc<Endings>) -> Result<Vec<Arc<Line>>> {
    met.iter()
        .map(|host| {
            let log: PathBuf = logs::path(dir, &log_name(host.name));
            let stream = host.stream.try_clone().context("failed to copy a descriptor")?;
            Line::start((host.name, host.label.clone()), stream, log, endings.clone())
                .with_context(|| format!("failed to start threads for {}", host.label))
        })
        .collect()
}
