//! The logs of a run's processes, at control: `logs/HOST-PROCESS.log` in the run's directory, wherever the host is.
use anyhow::{Context, Result};
use splitbrain_core::Name;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What the log of a host's process is called, for [`path`].
pub(crate) fn name(host: Name, process: &str) -> String {
    format!("{host}-{process}")
}

/// The log of `what` (`sandbox`, `n1-member`) in a run's directory.
pub(crate) fn path(dir: &Path, what: &str) -> PathBuf {
    dir.join("logs").join(format!("{what}.log"))
}

/// The same, opened to write at its end.
pub(crate) fn file(dir: &Path, what: &str) -> Result<File> {
    let path = path(dir, what);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))
}

/// Its length in bytes; 0 if there is none yet.
pub(crate) fn length(dir: &Path, what: &str) -> u64 {
    fs::metadata(path(dir, what)).map_or(0, |found| found.len())
}

/// The last words of a log after its first `from` bytes: at most three lines and 600 characters; `None` if there are none
/// or they cannot be read.
pub(crate) fn tail(path: &Path, from: u64) -> Option<String> {
    const LONGEST: u64 = 2048;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST).max(from)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    let skip = last.chars().count().saturating_sub(600);
    (!last.is_empty()).then(|| last.chars().skip(skip).collect())
}

/// Makes a run's directory with its `logs`, and says where it is. Processes work in directories of their own, so paths must
/// be whole.
pub(crate) fn make_run_dir(dir: &Path) -> Result<PathBuf> {
    make_dir(&dir.join("logs"))?;
    fs::canonicalize(dir).with_context(|| format!("failed to find {}", dir.display()))
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to make the directory {}", path.display()))
}
