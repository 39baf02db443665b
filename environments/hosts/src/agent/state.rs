//! Where a host keeps what the agent must not forget, and who may use the host.
//!
//! One folder, [`State::DEFAULT`] unless the variable `SPLITBRAIN_STATE` names another. In it:
//!
//! - `lock`, held (`flock(2)`) by the agent and its guard as long as one of them lives, with the owner's name in it;
//! - `ledger.jsonl` ([`super::ledger`]);
//! - `hosts/`, where processes of ours work; gone after a heal.
//!
//! Each process that we start carries two variables, so that it is known as ours when nobody is left who started it: the
//! run's name and this folder. The folder tells apart agents that share a process table.
use super::ledger::Ledger;
use crate::processes::tree::Process;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names the state's folder; and a mark on each of our processes.
pub(super) const STATE: &str = "SPLITBRAIN_STATE";
/// The run, as a mark on each of our processes.
pub(super) const RUN: &str = "SPLITBRAIN_RUN";

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct State {
    dir: PathBuf,
}

impl State {
    pub const DEFAULT: &str = "/var/lib/splitbrain";

    /// Where it is, made or not.
    pub fn locate() -> State {
        let dir = std::env::var_os(STATE).map_or_else(|| PathBuf::from(State::DEFAULT), PathBuf::from);
        State { dir }
    }

    /// Makes it if need be.
    pub fn make(&self) -> Result<(), String> {
        let failed = |e: io::Error| format!("failed to make {}: {e}{}", self.dir.display(), remedy(&e));
        fs::create_dir_all(&self.dir).map_err(failed)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where processes work.
    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.join(Ledger::FILE)
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Whether an environment, as `/proc/PID/environ` shows it, says that its process is ours.
    pub fn marks(&self, environ: &[u8]) -> bool {
        let mut all = environ.split(|byte| *byte == 0);
        let value = |name: &str| {
            let prefix = format!("{name}=");
            all.clone().find_map(|entry| entry.strip_prefix(prefix.as_bytes()))
        };
        let (run, state) = (value(RUN), value(STATE));
        all.next().is_some() && run.is_some() && state == Some(self.dir.as_os_str().as_bytes())
    }
}

/// What to do about an error of the file system, where that can be said.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ": free some space on that disk",
        Some(libc::EROFS) => ": mount it writable, or name another folder in SPLITBRAIN_STATE",
        Some(libc::EACCES | libc::EPERM) => ": run as root",
        _ => "",
    }
}

/// Who uses the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Owner {
    pub run: String,
    pub guard: Process,
    pub agent: Process,
}

/// The lock's file, opened. Whoever inherits it by fork holds what the other holds.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    pub fn open(state: &State) -> Result<Lock, String> {
        let path = state.lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let failed = |e: io::Error| format!("failed to open {}: {e}{}", path.display(), remedy(&e));
        let file = options.open(&path).map_err(failed)?;
        Ok(Lock { file, path })
    }

    /// Takes it for life, unless somebody else has it.
    pub fn take(&self) -> io::Result<bool> {
        self.flock(libc::LOCK_EX | libc::LOCK_NB)
    }

    fn flock(&self, how: libc::c_int) -> io::Result<bool> {
        loop {
            // SAFETY: a system call on a descriptor of ours, without memory.
            if unsafe { libc::flock(self.file.as_raw_fd(), how) } == 0 {
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EWOULDBLOCK) => return Ok(false),
                Some(libc::EINTR) => {}
                _ => return Err(error),
            }
        }
    }

    /// Returns once nobody else has it and we do.
    pub fn wait(self) -> io::Result<Flock<File>> {
        Flock::lock(self.file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// Whom the file names; that one need not have the lock any more.
    pub fn owner(&self) -> Option<Owner> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the owner into it. Shows as well whether anything can be written here.
    pub fn name(&self, owner: &Owner) -> Result<(), String> {
        let text = serde_json::to_string(owner).expect("plain data always becomes JSON");
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{text}"))
            .and_then(|()| file.sync_all())
            .map_err(|e| format!("failed to write {}: {e}{}", self.path.display(), remedy(&e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ours_by_the_run_and_the_folder() {
        let state = State { dir: "/s".into() };
        assert!(state.marks(b"HOME=/\0SPLITBRAIN_RUN=r1\0SPLITBRAIN_STATE=/s\0"));
        for other in [
            &b""[..],
            b"SPLITBRAIN_RUN=r1\0",
            b"SPLITBRAIN_STATE=/s\0",
            b"SPLITBRAIN_RUN=r1\0SPLITBRAIN_STATE=/s2\0",
            b"X=SPLITBRAIN_RUN=r1\0SPLITBRAIN_STATE=/s\0",
        ] {
            assert!(!state.marks(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
