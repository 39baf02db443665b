//! Processes that we start on a host, whoever the host is: starting, ending, stopping and continuing them, with proof.
//!
//! Who uses this is the parent of all that runs: the first process of a local sandbox, or the agent of a foreign host. What
//! its processes start in turn belongs to the host as well; [`Scope`] says how that is found.
mod disk;
mod kill;
mod members;
mod pause;
mod scope;
pub(crate) mod tree;

pub(crate) use disk::{cut_power, set_disk};
pub(crate) use kill::kill;
pub(crate) use members::Members;
pub(crate) use pause::{pause, resume};
pub(crate) use scope::{Scope, proc_is_own};

use serde::{Deserialize, Serialize};
use splitbrain_core::Name;
use std::path::PathBuf;

/// A process to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spawn {
    /// Where.
    pub host: Name,
    /// As control calls it.
    pub process: String,
    /// The host's how-manieth life this process belongs to.
    pub life: u32,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub dir: PathBuf,
    /// Whether that directory is to stand on a disk that can be broken ([`crate::fuse`]).
    pub layered: bool,
}

/// A process's end that nobody asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub host: Name,
    pub process: String,
    pub life: u32,
    /// `exit status 1`, `signal 11 (SIGSEGV)`.
    pub how: String,
}
