//! A local cluster's hosts, made and not yet used.
use super::channel::{Order, Report, Setup, Traffic};
use super::control::Sandbox;
use super::net;
use crate::sabotage::Sabotage;
use anyhow::{Context, Result, ensure};
use splitbrain_core::system::Place;
use splitbrain_core::{HostSpec, Name, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

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
    /// For tests: an action to leave out.
    pub sabotage: Option<Sabotage>,
}

/// The hosts of a local cluster: made, addressed, joined, with no process on them. Dropping it ends them.
pub struct LocalSite {
    site: Site,
    dir: PathBuf,
    pub(crate) sandbox: Sandbox,
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
        let logs = config.dir.join("logs");
        make_dir(&logs)?;
        // Processes work in directories of their own, so paths must be whole.
        let dir = fs::canonicalize(&config.dir).with_context(|| format!("failed to find {}", config.dir.display()))?;
        let mut places = BTreeMap::new();
        for (n, name) in names.iter().enumerate() {
            let dir = dir.join("hosts").join(name.as_str());
            make_dir(&dir)?;
            places.insert(
                *name,
                Place {
                    ip: net::address(n).into(),
                    dir,
                },
            );
        }
        let sandbox = Sandbox::start(&config.program, log_file(&dir, "sandbox")?)?;
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
            sandbox,
        })
    }

    /// Where the hosts are, for [`splitbrain_core::System::deploy`].
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The run's directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// What every link has carried so far, in the order of names.
pub(crate) fn traffic(sandbox: &Sandbox) -> Result<Vec<Traffic>, String> {
    match sandbox.ask(&Order::Traffic, &[])? {
        Report::Traffic(traffic) => Ok(traffic),
        Report::Failed(why) => Err(why),
        other => Err(format!("the sandbox answered {other:?}")),
    }
}

/// The log of `what` (`sandbox`, `n1-member`) in a run's directory.
pub(crate) fn log_path(dir: &Path, what: &str) -> PathBuf {
    dir.join("logs").join(format!("{what}.log"))
}

/// The same, opened to write at its end.
pub(crate) fn log_file(dir: &Path, what: &str) -> Result<File> {
    let path = log_path(dir, what);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("failed to create {}", path.display()))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to make the directory {}", path.display()))
}
