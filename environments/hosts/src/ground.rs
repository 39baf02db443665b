//! What the world of real hosts needs of whatever makes them: a sandbox on this machine, or a fleet of machines.
//!
//! [`crate::live::LiveWorld`] knows lives, inputs and the mailbox; a [`Ground`] knows where hosts are, starts processes
//! there and carries actions out there. All methods may be called from any thread; each is bounded in time.
use crate::sabotage::Sabotage;
use splitbrain_core::system::Stdio;
use splitbrain_core::{Action, Name, Proof, Site};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// A file for a host's processes.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// Its name in the host's directory.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Whether it may be executed.
    pub executable: bool,
}

impl HostFile {
    /// Writes it into `dir`; `append`: behind what is there.
    pub(crate) fn write(&self, dir: &Path, append: bool) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mode = if self.executable { 0o755 } else { 0o644 };
        let mut file = std::fs::File::options()
            .create(true)
            .write(true)
            .truncate(!append)
            .append(append)
            .mode(mode)
            .open(dir.join(&self.name))?;
        file.write_all(&self.content)
    }
}

/// A process to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Where.
    pub host: Name,
    /// As control calls it; unique on its host.
    pub process: String,
    /// The host's how-manieth life this process belongs to.
    pub life: u32,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the ground's small fixed environment (`PATH`, `HOME`, `LANG`, `TZ`).
    pub env: Vec<(String, String)>,
    /// Working directory, on the host.
    pub dir: PathBuf,
    /// What its streams are for. What is log ends in `logs/HOST-PROCESS.log` in the run's directory.
    pub stdio: Stdio,
}

/// A process that was started.
pub struct Launched {
    /// `member (pid 12) started`.
    pub proof: Vec<Proof>,
    /// Our ends of its standard input and output, if it speaks the protocol. Reading ends when the process and all that
    /// hold its output have ended, or its host is lost.
    pub pipes: Option<(Box<dyn Write + Send>, Box<dyn Read + Send>)>,
}

/// A process's end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Where.
    pub host: Name,
    /// Which.
    pub process: String,
    /// In which of its host's lives.
    pub life: u32,
    /// `exit status 1`, `signal 11 (SIGSEGV)`, `the host was lost: no word from it for 5s`.
    pub how: String,
}

/// Hosts, made and addressed.
pub trait Ground: Send + Sync {
    /// Where the hosts are, for [`splitbrain_core::System::deploy`].
    fn site(&self) -> &Site;
    /// The run's directory at control, absolute.
    fn dir(&self) -> &Path;
    /// Writes a file into the directory of `host`, before any process was started there. Its name has no folders.
    fn put(&self, host: Name, file: &HostFile) -> Result<(), String>;
    /// Starts a process. An error names the host, what was to start, and the remedy if there is one.
    fn launch(&self, launch: &Launch) -> Result<Launched, String>;
    /// Carries out any action but [`Action::Start`], and proves it where it acts. A refusal says why and what to do.
    fn act(&self, action: &Action) -> Result<Vec<Proof>, String>;
    /// The ends of processes that nobody had killed. Closed when the ground has ended. To be taken once.
    fn endings(&self) -> Receiver<Ending>;
    /// Ends every process and undoes every action on every host that can still be reached. May be called twice.
    fn end(&self);
    /// Why it ended although nobody had asked, in words.
    fn epitaph(&self) -> String;
}

/// What every ground's maker is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// Unique per run and short: our mark on what we make. Lower-case letters, digits and `-`.
    pub run: String,
    /// Our own program at control.
    pub program: PathBuf,
    /// The run's directory at control; made if need be.
    pub dir: PathBuf,
    /// The hosts to be, in order.
    pub hosts: Vec<splitbrain_core::HostSpec>,
    /// Of the run: what the ground draws (which packet is lost) comes from it.
    pub seed: u64,
    /// What the plan says of all hosts.
    pub settings: splitbrain_core::plan::Hosts,
    /// Whether processes are to work on disks that can be broken, mounted for them ([`crate::fuse`]): for disk faults on
    /// programs that have no layer of their own.
    pub layered_disks: bool,
    /// For tests: an action to leave out.
    pub sabotage: Option<Sabotage>,
}
