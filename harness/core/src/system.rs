//! What is deployed and judged.
use crate::name::Name;
use crate::plan::{Plan, Storage};
use crate::promise::Promise;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRole {
    /// Server and candidate in one process.
    Member,
    /// Of the system's own cluster. It is asked as well where its own election is judged.
    Server,
    /// A client of the cluster that takes part in the election.
    Candidate,
    /// The resource that the leader writes to.
    Storage,
}

impl HostRole {
    /// As plans and histories write it.
    pub fn name(self) -> &'static str {
        match self {
            HostRole::Member => "member",
            HostRole::Server => "server",
            HostRole::Candidate => "candidate",
            HostRole::Storage => "storage",
        }
    }
}

impl FromStr for HostRole {
    type Err = String;
    fn from_str(s: &str) -> Result<HostRole, String> {
        [
            HostRole::Member,
            HostRole::Server,
            HostRole::Candidate,
            HostRole::Storage,
        ]
        .into_iter()
        .find(|role| role.name() == s)
        .ok_or_else(|| format!("'{s}' is no role: member, server, candidate or storage"))
    }
}

/// A host of the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Unique in a run.
    pub name: Name,
    /// What it is for.
    pub role: HostRole,
    /// Whether it speaks the candidate protocol, and so is asked operations: members, candidates, observed servers.
    pub asked: bool,
}

/// A host's place, as the environment assigned it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address in the cluster's network.
    pub ip: IpAddr,
    /// An existing, empty directory of its own that outlives its processes.
    pub dir: PathBuf,
}

/// Where the hosts are, and what runs there.
#[derive(Clone, Debug)]
pub struct Site {
    /// By host.
    pub places: BTreeMap<Name, Place>,
    /// Our own program, as it is called on a host.
    pub program: PathBuf,
}

/// What a process's standard streams are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// Standard input and output speak the protocol of [`crate::wire`]; standard error is its log.
    Protocol,
    /// Both outputs are its log.
    Log,
}

/// A process to run on a host. All processes of a host start, stop and die together, in the order given.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// On which host.
    pub host: Name,
    /// Short, for logs: `member`, `etcd`, `candidate`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to a small fixed environment.
    pub env: Vec<(String, String)>,
    /// What its streams are for. At most one process a host speaks the protocol.
    pub stdio: Stdio,
}

/// Who of a system is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Members of our own: server and candidate in one process.
    Member,
    /// The servers' own election, observed at each.
    Server,
    /// Clients that elect a leader among themselves by a recipe on the servers.
    Client,
}

impl Layer {
    /// In a word, as `list systems` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Member => "member",
            Layer::Server => "server",
            Layer::Client => "client",
        }
    }
}

/// Something that must be installed on a system's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// A program on the PATH, or the path of a file.
    pub what: &'static str,
    /// Debian's package that has it.
    pub package: &'static str,
    /// The arguments with which the program prints its version; none for a file, whose resolved name may tell it.
    pub version: &'static [&'static str],
}

/// A system: how it is laid out and deployed, what may be asked of it, what it promises.
pub trait System {
    /// As plans write it.
    fn name(&self) -> &'static str;
    /// One sentence for `list systems`.
    fn describe(&self) -> &'static str;
    /// Who of it is judged.
    fn layer(&self) -> Layer;
    /// What serves as its fencing token, or why there is none, in a few words.
    fn token(&self) -> &'static str;
    /// The source from which it is known what a host believes, binding leader and epoch, in a few words for the report.
    fn beliefs(&self) -> &'static str;
    /// What must be installed on its hosts.
    fn needs(&self) -> &'static [Need] {
        &[]
    }
    /// The kinds of storage that its leaders can write to.
    fn storages(&self) -> &'static [Storage] {
        &[Storage::Fenced, Storage::Unfenced]
    }
    /// The hosts of a run, in order; the storage, if any, last.
    fn hosts(&self, plan: &Plan) -> Vec<HostSpec>;
    /// The names of the operations that its candidates know ([`crate::Op::name`]).
    fn operations(&self) -> &'static [&'static str];
    /// What it promises, under which assumptions, and who says so.
    fn promises(&self, plan: &Plan) -> Vec<Promise>;
    /// Whether its processes keep what they write behind a layer that can break it ([`crate::action::Disk`]).
    fn has_disk_layer(&self) -> bool {
        false
    }
    /// The options it knows in `[options]`, each with a sentence.
    fn options(&self) -> &'static [(&'static str, &'static str)];
    /// Checks what can be checked before any host exists (options, installed binaries). The error names the remedy.
    fn check(&self, plan: &Plan) -> Result<(), String>;
    /// The processes to run, in the order in which hosts are to start.
    fn deploy(&self, plan: &Plan, seed: u64, site: &Site) -> Vec<ProcessSpec>;
}
