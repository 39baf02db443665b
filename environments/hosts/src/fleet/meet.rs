//! Meeting the hosts: starting their agents, learning what they are like, refusing what cannot work.
//!
//! Hosts are met at the same time and are not equally quick: one may still be taking the program in when another has long
//! greeted. From its greeting on an agent counts control's silence, so its line starts, and beats, with that greeting and
//! not when all have been met.
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
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long an agent may take to say what its host is like. It tries out what its kernel can do.
const GREETING: Duration = Duration::from_secs(20);

/// A host whose agent has greeted, and is beaten to.
pub(super) struct Met {
    pub name: Name,
    pub label: String,
    pub remote: Arc<dyn Remote>,
    pub line: Arc<Line>,
    pub greeting: Greeting,
    /// In the cluster's network.
    pub ip: IpAddr,
}

/// Starts the agents of all hosts at the same time. If one fails, the others are hung up on.
pub(super) fn all(
    order: &Order,
    remotes: &[Arc<dyn Remote>],
    network: Option<&str>,
    dir: &Path,
    endings: &Arc<Endings>,
) -> Result<Vec<Met>> {
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
            .map(|(spec, remote)| scope.spawn(move || meet(order, spec.name, remote, network, dir, endings)))
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
    let agreed = match failed.is_empty() {
        true => strangers(&met),
        false => Err(anyhow!("failed to use the hosts: {}", failed.join("; "))),
    };
    if let Err(why) = agreed {
        for host in &met {
            host.line.cut();
        }
        return Err(why);
    }
    Ok(met)
}

fn meet(
    order: &Order,
    name: Name,
    remote: &Arc<dyn Remote>,
    network: Option<Network>,
    dir: &Path,
    endings: &Arc<Endings>,
) -> Result<Met> {
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
    let log = logs::path(dir, &log_name(name));
    let line = Line::start((name, label.clone()), stream, log, endings.clone())
        .with_context(|| format!("failed to start threads for {label}"))?;
    Ok(Met {
        name,
        label,
        remote: remote.clone(),
        line,
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

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::{HostSpec, Nanos};
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Longer than anything takes that works.
    const LONG: Duration = Duration::from_secs(30);

    /// A machine whose agent is a thread of the test, which says when it is beaten to and when it was hung up on.
    struct Toy {
        ip: IpAddr,
        beaten: Mutex<Sender<()>>,
        ended: Mutex<Sender<()>>,
        /// What must come before the machine is up.
        awaits: Option<Mutex<Receiver<()>>>,
    }

    impl Remote for Toy {
        fn describe(&self) -> String {
            format!("toy {}", self.ip)
        }

        fn start_agent(&self, _: &Path, _: &[String], _: std::fs::File) -> Result<UnixStream> {
            if let Some(awaited) = &self.awaits {
                awaited.lock().unwrap().recv_timeout(LONG)?;
            }
            let (stream, mut agent) = UnixStream::pair()?;
            let (ip, beaten) = (self.ip, self.beaten.lock().unwrap().clone());
            let ended = self.ended.lock().unwrap().clone();
            thread::spawn(move || {
                let greeting = Greeting {
                    version: proto::VERSION,
                    addresses: vec![proto::Address {
                        interface: "eth0".into(),
                        ip,
                        prefix: 24,
                    }],
                    boot_id: ip.to_string(),
                    dir: "/".into(),
                    program: "/program".into(),
                    missing: BTreeMap::new(),
                };
                while let Ok(Some(Frame::Message(heard))) = proto::receive(&mut agent) {
                    match heard {
                        ToHost::Hello(_) => proto::send(&mut agent, &FromHost::Hello(greeting.clone())).unwrap(),
                        ToHost::Beat { n } => {
                            let raw = Nanos::secs(n);
                            let _ = proto::send(&mut agent, &FromHost::Beat { n, raw });
                            let _ = beaten.send(());
                        }
                        _ => panic!("nothing else is asked"),
                    }
                }
                let _ = ended.send(());
            });
            Ok(stream)
        }

        fn address(&self) -> Option<IpAddr> {
            Some(self.ip)
        }

        fn release(&self) -> Result<()> {
            Ok(())
        }
    }

    /// Meets `n1` and `n2` of these addresses, `n2` starting only once `n1` was beaten to; and the ends of their agents.
    fn check(addresses: [&str; 2]) -> (Result<Vec<Met>>, Receiver<()>) {
        let dir = tempfile::tempdir().unwrap();
        let (beaten, awaited) = channel();
        let (ended, ends) = channel();
        let toy = |at: usize, beaten, awaits| -> Arc<dyn Remote> {
            Arc::new(Toy {
                ip: addresses[at].parse().unwrap(),
                beaten: Mutex::new(beaten),
                ended: Mutex::new(ended.clone()),
                awaits,
            })
        };
        let remotes = [toy(0, beaten, None), toy(1, channel().0, Some(Mutex::new(awaited)))];
        let order = Order {
            run: "test".into(),
            program: "/program".into(),
            dir: dir.path().into(),
            hosts: ["n1", "n2"]
                .map(|name| HostSpec {
                    name: name.parse().unwrap(),
                    role: splitbrain_core::HostRole::Member,
                    asked: true,
                })
                .into(),
            seed: 0,
            settings: Default::default(),
            layered_disks: false,
            sabotage: None,
        };
        let logs = logs::make_run_dir(dir.path()).unwrap();
        (all(&order, &remotes, None, &logs, &Arc::new(Endings::of(2))), ends)
    }

    #[test]
    fn a_host_is_beaten_to_while_another_is_still_met() {
        let met = check(["10.0.0.1", "10.0.0.2"]).0.unwrap();
        assert_eq!(
            met.iter().map(|host| host.name.to_string()).collect::<Vec<_>>(),
            ["n1", "n2"]
        );
        for host in &met {
            host.line.cut();
        }
    }

    #[test]
    fn hosts_that_are_the_same_are_hung_up_on() {
        let (met, ends) = check(["10.0.0.1", "10.0.0.1"]);
        let why = format!("{:#}", met.err().unwrap());
        assert!(
            why.starts_with("failed to tell host n1 (toy 10.0.0.1) from host n2"),
            "{why}"
        );
        for _ in 0..2 {
            ends.recv_timeout(LONG).unwrap();
        }
    }
}
