//! What the tests of the whole program share: they run it as a user does.
#![allow(dead_code)] // each test file uses its own part

use splitbrain_core::History;
use splitbrain_core::event::{Body, Event, Kind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_splitbrain");

/// One call of the program, ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Panics with everything it said unless it ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// A store of its own, gone with the test.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// `splitbrain run LINE --store ...`, words split at spaces.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(line.split_whitespace()).current_dir(self.dir.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }

    /// The newest run called `name`.
    pub fn latest(&self, name: &str) -> PathBuf {
        self.store().join(name).join("latest").canonicalize().unwrap()
    }

    pub fn history(&self, name: &str) -> History {
        splitbrain_runner::store::read_history(&self.latest(name)).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn verdicts(&self, name: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.latest(name).join("verdicts.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// The verdict of one checker in `verdicts.json`.
pub fn verdict<'a>(outcome: &'a serde_json::Value, checker: &str) -> &'a serde_json::Value {
    let verdicts = outcome["verdicts"].as_array().unwrap();
    verdicts
        .iter()
        .find(|v| v["checker"] == checker)
        .unwrap_or_else(|| panic!("no verdict by {checker} in {outcome:#}"))
}

pub fn count(events: &[Event], pick: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|e| pick(e)).count()
}

/// Elections that control saw.
pub fn elections(history: &History) -> usize {
    count(&history.events, |e| matches!(e.body, Body::Elected { .. }))
}

/// Faults that took effect.
pub fn faults(history: &History) -> usize {
    count(&history.events, |e| {
        matches!(e.body, Body::Fault(_)) && e.kind == Kind::Ok
    })
}

/// Unpacks a sealed history into bytes.
pub fn history_bytes(run: &Path) -> Vec<u8> {
    std::fs::read(run.join(splitbrain_runner::store::SEALED)).unwrap()
}
