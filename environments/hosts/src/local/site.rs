//! A local cluster's hosts, made and not yet used.
use super::channel::{Order, Report, Setup, Traffic};
use super::control::Sandbox;
use super::net;
use crate::fuse;
use crate::ground::{Ending, Ground, HostFile, Launch, Launched};
use crate::logs;
use crate::processes::Spawn;
use crate::sabotage::Sabotage;
use anyhow::{Context, Result, ensure};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::system::{Place, Stdio};
use splitbrain_core::{Action, HostSpec, Name, Proof, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// What a local cluster is made from.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Our own program and the arguments that lead it to [`super::sandbox::main`].
    pub program: Vec<String>,
    /// The run's directory; made if need be. Holds `hosts/NAME/`, a host's own files; `logs/NAME-PROCESS.log`;
    /// `logs/sandbox.log`; and with `pcap` the file `network.pcap`.
    pub dir: PathBuf,
    /// In the order of their addresses.
    pub hosts: Vec<HostSpec>,
    /// Of the run; the switch draws from it.
    pub seed: u64,
    /// Whether to capture the network's packets.
    pub pcap: bool,
    /// Whose clock a clock fault moves; hosts here have none of their own.
    pub clock: ClockOf,
    /// Whether processes are to work on disks that can be broken, mounted for them ([`crate::fuse`]).
    pub layered_disks: bool,
    /// For tests: an action to leave out.
    pub sabotage: Option<Sabotage>,
}

/// The hosts of a local cluster: made, addressed, joined, with no process on them. Dropping it ends them.
pub struct LocalSite {
    site: Site,
    dir: PathBuf,
    clock: ClockOf,
    layered_disks: bool,
    sandbox: Sandbox,
}

impl LocalSite {
    /// Makes the hosts. Fails where user namespaces are forbidden, with the remedy; leaves nothing behind but files.
    pub fn create(config: LocalConfig) -> Result<LocalSite> {
        let names: Vec<Name> = config.hosts.iter().map(|host| host.name).collect();
        let most = net::MAX_HOSTS;
        ensure!(
            names.len() <= most,
            "failed to make {} hosts: at most {most}",
            names.len()
        );
        let distinct: BTreeSet<&Name> = names.iter().collect();
        ensure!(
            distinct.len() == names.len(),
            "failed to make the hosts: a name stands twice"
        );
        let dir = logs::make_run_dir(&config.dir)?;
        let mut places = BTreeMap::new();
        for (n, name) in names.iter().enumerate() {
            let dir = dir.join("hosts").join(name.as_str());
            logs::make_dir(&dir)?;
            places.insert(
                *name,
                Place {
                    ip: net::address(n).into(),
                    dir,
                },
            );
        }
        let sandbox = Sandbox::start(&config.program, logs::file(&dir, "sandbox")?)?;
        let pcap = config.pcap.then(|| create(&dir.join("network.pcap"))).transpose()?;
        let setup = Setup {
            hosts: names,
            seed: config.seed,
            pcap: pcap.is_some(),
            sabotage: config.sabotage,
        };
        let fds: Vec<_> = pcap.iter().map(AsRawFd::as_raw_fd).collect();
        sandbox
            .call(&Order::Setup(setup), &fds)
            .map_err(|why| anyhow::anyhow!("failed to make the hosts: {why}"))?;
        let program = config.program.first().map(PathBuf::from).unwrap_or_default();
        let program = std::path::absolute(&program).unwrap_or(program);
        Ok(LocalSite {
            site: Site { places, program },
            dir,
            clock: config.clock,
            layered_disks: config.layered_disks,
            sandbox,
        })
    }

    /// What every link has carried so far, in the order of names. May wait for an action to end.
    pub fn traffic(&self) -> Result<Vec<Traffic>> {
        let traffic = match self.sandbox.ask(&Order::Traffic, &[]) {
            Ok(Report::Traffic(traffic)) => Ok(traffic),
            Ok(Report::Failed(why)) | Err(why) => Err(why),
            Ok(other) => Err(format!("the sandbox answered {other:?}")),
        };
        traffic.map_err(|why| anyhow::anyhow!("failed to read the links' counters: {why}"))
    }

    fn streams(&self, launch: &Launch) -> Result<Streams, String> {
        let at = |error: io::Error| format!("start {} on {}: {error}", launch.process, launch.host);
        let log = logs::file(&self.dir, &logs::name(launch.host, &launch.process)).map_err(|e| format!("{e:#}"))?;
        match launch.stdio {
            Stdio::Log => {
                let stdin = File::open("/dev/null").map_err(at)?;
                let stdout = log.try_clone().map_err(at)?;
                Ok(Streams {
                    theirs: [stdin.into(), stdout.into(), log.into()],
                    ours: None,
                })
            }
            Stdio::Protocol => {
                let (their_in, our_in) = io::pipe().map_err(at)?;
                let (our_out, their_out) = io::pipe().map_err(at)?;
                let pipes = (File::from(OwnedFd::from(our_in)), File::from(OwnedFd::from(our_out)));
                Ok(Streams {
                    theirs: [their_in.into(), their_out.into(), log.into()],
                    ours: Some(pipes),
                })
            }
        }
    }
}

/// Of a process to start.
struct Streams {
    /// Standard input, output and error.
    theirs: [OwnedFd; 3],
    /// Our ends of the first two, if it speaks the protocol.
    ours: Option<(File, File)>,
}

impl Ground for LocalSite {
    fn site(&self) -> &Site {
        &self.site
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn put(&self, host: Name, file: &HostFile) -> Result<(), String> {
        let dir = fuse::files_of(&self.site.places[&host].dir, self.layered_disks);
        file.write(&dir, false)
            .map_err(|e| format!("failed to write {} for {host} into {}: {e}", file.name, dir.display()))
    }

    fn launch(&self, launch: &Launch) -> Result<Launched, String> {
        let Streams { theirs, ours } = self.streams(launch)?;
        let order = Order::Spawn(Spawn {
            host: launch.host,
            process: launch.process.clone(),
            life: launch.life,
            argv: launch.argv.clone(),
            env: environment(launch),
            dir: launch.dir.clone(),
            layered: self.layered_disks,
        });
        let fds = theirs.each_ref().map(AsRawFd::as_raw_fd);
        let proof = self.sandbox.call(&order, &fds)?;
        let pipes = ours.map(|(stdin, stdout)| (Box::new(stdin) as _, Box::new(stdout) as _));
        Ok(Launched { proof, pipes })
    }

    fn act(&self, action: &Action) -> Result<Vec<Proof>, String> {
        let order = match action.clone() {
            Action::Kill { hosts, unsynced } => Order::Kill(hosts, unsynced),
            Action::Disk { hosts, disk } => Order::Disk(hosts, disk),
            Action::Pause { hosts } => Order::Pause(hosts),
            Action::Resume { hosts } => Order::Resume(hosts),
            Action::Block { links } => Order::Block(links),
            Action::Unblock { links } => Order::Unblock(links),
            Action::Shape { links, shape } => Order::Shape(links, shape),
            Action::Clock { .. } if self.clock == ClockOf::Host => {
                return Err("local hosts share this machine's clock, which is not to be moved: \
                            use clock = \"process\" or \"auto\", or an environment of virtual machines"
                    .into());
            }
            Action::Clock { hosts, skew } => Order::Clock(hosts, skew),
            Action::Start { .. } => unreachable!("processes are started one by one, by launch"),
        };
        self.sandbox.call(&order, &[])
    }

    fn endings(&self) -> Receiver<Ending> {
        self.sandbox.endings()
    }

    fn end(&self) {
        self.sandbox.end();
    }

    fn epitaph(&self) -> String {
        let why = logs::tail(&logs::path(&self.dir, "sandbox"), 0).unwrap_or_else(|| "it left no word".into());
        format!("the sandbox ended by itself: {why}")
    }
}

/// The small fixed environment, and the process's own.
fn environment(launch: &Launch) -> Vec<(String, String)> {
    let path =
        std::env::var("PATH").unwrap_or_else(|_| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let fixed = [
        ("PATH", path),
        ("HOME", launch.dir.to_string_lossy().into_owned()),
        ("LANG", "C.UTF-8".into()),
        ("TZ", "UTC".into()),
    ];
    let fixed = fixed.map(|(key, value)| (key.to_string(), value));
    fixed.into_iter().chain(launch.env.iter().cloned()).collect()
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("failed to create {}", path.display()))
}
