//! What was done to this host and not yet undone, on its disk.
//!
//! One JSON document a line; each is on the disk before what it announces is done, so that whatever happens in between,
//! the ledger names at least what there is to undo. Undoing twice is harmless, forgetting is not. The ledger is emptied
//! once a heal has left nothing.
//!
//! What the entries are for: rules of the network are undone by their marks alone, whatever was asked; processes by pid and
//! start time (and by their marks); a clock only by what its entry says. After a reboot none of it is there any more, nor
//! are the pids what they were: entries of another boot count for nothing but the files.
use super::state::{State, remedy};
use crate::clock::HostClockUndo;
use crate::processes::tree::Process;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub(super) enum Entry {
    /// The first line: whose the following ones are.
    Run { run: String, host: String, boot_id: String },
    /// A process is about to be started.
    Spawn { process: String },
    /// It was.
    Started { process: String, is: Process },
    /// Processes are about to be stopped.
    Pause,
    /// The network's rules are about to be changed.
    Network { what: String },
    /// Clocks are about to be skewed: those of processes, which end by a heal, or the host's own, and how that is undone.
    Clock { undo: Option<HostClockUndo> },
    /// The host's own clock is true again.
    ClockTrue,
    /// Processes' disks are about to misbehave.
    Disk { what: String },
}

/// The file, opened to write.
pub(super) struct Ledger {
    file: File,
    path: PathBuf,
    head: Entry,
    empty: Arc<AtomicBool>,
}

impl Ledger {
    pub const FILE: &str = "ledger.jsonl";

    /// Opens an empty one; `head` becomes its first line together with the first entry.
    pub fn open(state: &State, head: Entry) -> Result<Ledger, String> {
        let path = state.ledger();
        let failed = |e: io::Error| format!("failed to open {}: {e}{}", path.display(), remedy(&e));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        // The file's name must be on the disk too.
        File::open(state.dir()).and_then(|dir| dir.sync_all()).map_err(failed)?;
        let empty = file.metadata().map_err(failed)?.len() == 0;
        assert!(empty, "whoever opens a ledger has looked that it is empty");
        Ok(Ledger {
            file,
            path,
            head,
            empty: Arc::new(AtomicBool::new(true)),
        })
    }

    /// True as long as there is nothing to undo. For other threads.
    pub fn is_empty(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.empty)
    }

    /// Returns once the entry is on the disk. What it announces must not be done if this fails.
    pub fn note(&mut self, entry: &Entry) -> Result<(), String> {
        let mut lines = Vec::new();
        let first = self.empty.swap(false, Ordering::SeqCst);
        for entry in first.then_some(&self.head).into_iter().chain([entry]) {
            serde_json::to_writer(&mut lines, entry).expect("plain data always becomes JSON");
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|e| {
            format!(
                "nothing was done, since {} cannot be written: {e}{}",
                self.path.display(),
                remedy(&e)
            )
        })
    }

    /// Forgets everything: nothing is left to undo.
    pub fn clear(&mut self) -> Result<(), String> {
        clear(&self.path)?;
        self.empty.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Empties a ledger. One that is missing is empty.
pub(super) fn clear(path: &Path) -> Result<(), String> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    let cleared = file.and_then(|file| file.set_len(0).and_then(|()| file.sync_all()));
    cleared.map_err(|e| format!("failed to empty {}: {e}", path.display()))
}

/// Every entry of a ledger; one that is missing is empty. A last line without its end was never acted upon; any other line
/// that is not understood is an error, for it may say what is to be undone.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| format!("failed to read {}: {e}", path.display()))?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(n, line)| {
        let bad = |e| {
            format!(
                "line {} of {} is not understood ({e}): see what it means, then remove the file",
                n + 1,
                path.display()
            )
        };
        serde_json::from_str(line).map_err(bad)
    };
    whole.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_up_to_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(Ledger::FILE);
        assert_eq!(read(&path).unwrap(), []);
        let entry = Entry::Spawn { process: "toy".into() };
        let line = serde_json::to_string(&entry).unwrap();
        assert_eq!(line, r#"{"did":"spawn","process":"toy"}"#);
        for (text, want) in [
            (String::new(), 0),
            (format!("{line}\n"), 1),
            (format!("{line}\n{line}"), 1),
            (format!("{line}\n{line}\n{{\"did\":"), 2),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), vec![entry.clone(); want]);
        }
        fs::write(&path, format!("nonsense\n{line}\n")).unwrap();
        assert!(read(&path).unwrap_err().contains("line 1"));
    }
}
