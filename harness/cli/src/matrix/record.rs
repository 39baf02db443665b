//! What a cell's command left, and the file that keeps it: a line of JSON for each cell that ended.
//!
//! The command is believed only where its exit code and its answer agree. Whatever else it did, crash, hang, print
//! garbage, is a failure of that cell with the reason that can be given. A line that a kill cut off is no line: its cell
//! did not end.
use super::plan::{MatrixPlan, Planned};
use crate::exit;
use serde::Deserialize;
use splitbrain_core::{Severity, Validity, Verdict};
use splitbrain_report::matrix::{Cell, Ending};
use splitbrain_report::total;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// The file.
const FILE: &str = "cells.jsonl";
/// Bytes that are read of what a cell's command printed.
const ENOUGH: u64 = 8 << 20;

/// What became of a cell's command.
pub enum Left {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It did not end within so long, and was ended.
    Hung(Duration),
    /// It could not even be started.
    NotStarted(String),
}

/// What its standard output went to.
pub fn out(dir: &Path, cell: &Planned) -> PathBuf {
    dir.join("logs").join(format!("{}.out", cell.id))
}

/// What its standard error went to.
pub fn err(dir: &Path, cell: &Planned) -> PathBuf {
    dir.join("logs").join(format!("{}.err", cell.id))
}

/// What `run --json` answers, as far as it is counted here.
#[derive(Deserialize)]
struct Told {
    validity: Validity,
    sentence: String,
    replay: String,
    #[serde(default)]
    run: Option<PathBuf>,
    #[serde(default)]
    failed: Option<String>,
    verdicts: Vec<Verdict>,
}

/// A cell as it ended; `None` if it was interrupted before its end, so that it must be run again.
pub fn cell(dir: &Path, planned: &Planned, left: &Left, took: Duration, interrupted: bool) -> Option<Cell> {
    let told: Option<Told> = serde_json::from_slice(&beginning(&out(dir, planned))).ok();
    let complaint = || complaint(&err(dir, planned));
    let (ending, sentence) = match left {
        Left::NotStarted(why) => (Ending::Failed, why.clone()),
        Left::Hung(limit) => {
            let why = format!("hung: it had not ended after {} s, and was ended", limit.as_secs());
            (Ending::Failed, why)
        }
        Left::Ended(status) => match (judged(*status), &told) {
            (Some(validity), Some(told)) if told.validity == validity => {
                (Ending::Judged(validity), told.sentence.clone())
            }
            // An interrupted cell fails in many ways, and none of them says anything.
            _ if interrupted => return None,
            (Some(_), _) => (
                Ending::Failed,
                format!("its answer does not go with {}", ending_of(*status)),
            ),
            (None, told) => {
                let why = told.as_ref().and_then(|told| told.failed.clone()).or_else(complaint);
                let how = ending_of(*status);
                (Ending::Failed, why.map_or(how.clone(), |why| format!("{how}: {why}")))
            }
        },
    };
    let told = told.as_ref();
    let verdicts = told.map_or(&[][..], |told| &told.verdicts);
    let sum = |severity| verdicts.iter().map(|v| total(v, severity)).sum();
    Some(Cell {
        ending,
        sentence,
        exit: match left {
            Left::Ended(status) => status.code(),
            _ => None,
        },
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        elections: figures(verdicts, |name| name == "elections"),
        injected: figures(verdicts, |name| name.ends_with(" faults")),
        hazards: sum(Severity::Hazard),
        violations: sum(Severity::Violation),
        replay: told.map_or_else(|| planned.replay(), |told| told.replay.clone()),
        run: told.and_then(|told| below(dir, told.run.as_deref()?)),
        ..blank(planned)
    })
}

/// A cell of which nothing is known but its plan.
pub fn blank(planned: &Planned) -> Cell {
    Cell {
        id: planned.id.clone(),
        system: planned.system.clone(),
        faults: planned.faults.clone(),
        workload: planned.workload.clone(),
        seed: planned.seed,
        ending: Ending::Open,
        sentence: "it was not reached".to_string(),
        exit: None,
        seconds: 0.0,
        elections: 0,
        injected: 0,
        hazards: 0,
        violations: 0,
        replay: planned.replay(),
        run: None,
    }
}

/// The verdict that an exit code stands for.
fn judged(status: ExitStatus) -> Option<Validity> {
    let verdicts = [Validity::Valid, Validity::Invalid, Validity::Unknown];
    verdicts
        .into_iter()
        .find(|validity| status.code() == Some(i32::from(exit::of(*validity))))
}

fn ending_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// What the checker of coverage counted.
fn figures(verdicts: &[Verdict], wanted: impl Fn(&str) -> bool) -> u64 {
    let coverage = verdicts.iter().filter(|v| v.checker == "coverage");
    let figures = coverage.flat_map(|v| &v.figures).filter(|f| wanted(&f.name));
    figures.map(|f| f.value as u64).sum()
}

fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(ENOUGH).read_to_end(&mut bytes);
    }
    bytes
}

/// What a command complained of: from its last `error:` on, or else its last line.
fn complaint(path: &Path) -> Option<String> {
    let bytes = beginning(path);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let text = match text.rfind("error: ") {
        Some(at) => &text[at + "error: ".len()..],
        None => text.lines().last()?,
    };
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    Some(lines.join(" ").chars().take(600).collect()).filter(|text: &String| !text.is_empty())
}

/// A run's folder relative to the matrix's, if it is inside and has a report.
fn below(dir: &Path, run: &Path) -> Option<String> {
    let inside = run.strip_prefix(dir).ok()?;
    let mut parts = Vec::new();
    for part in inside.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            _ => return None,
        }
    }
    run.join("report.html").is_file().then(|| parts.join("/"))
}

/// The cells that ended, in memory and on the disk.
pub struct Records {
    path: PathBuf,
    file: RefCell<File>,
    ended: RefCell<BTreeMap<String, Cell>>,
}

impl Records {
    /// Those of the matrix in `dir`; a cell that its plan does not have is not one of them.
    pub fn open(dir: &Path, plan: &MatrixPlan) -> Result<Records, String> {
        let path = dir.join(FILE);
        let failed = |e: std::io::Error| format!("failed to open {}: {e}", path.display());
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .map_err(failed)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        // What a kill cut off goes, or the next line would be added to it.
        file.set_len(whole as u64).map_err(failed)?;
        let mut ended = BTreeMap::new();
        for (number, line) in text[..whole].split(|b| *b == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let cell: Cell =
                serde_json::from_slice(line).map_err(|e| format!("{}, line {}: {e}", path.display(), number + 1))?;
            if plan.cells.iter().any(|planned| planned.id == cell.id) {
                ended.insert(cell.id.clone(), cell);
            }
        }
        Ok(Records {
            path,
            file: RefCell::new(file),
            ended: RefCell::new(ended),
        })
    }

    /// Whether a cell is still to be run.
    pub fn is_open(&self, planned: &Planned) -> bool {
        planned.left_out.is_none() && !self.ended.borrow().contains_key(&planned.id)
    }

    /// Keeps a cell: it is on the disk when this returns.
    pub fn add(&self, cell: &Cell) -> Result<(), String> {
        let line = serde_json::to_string(cell).expect("plain data always becomes JSON") + "\n";
        let mut file = self.file.borrow_mut();
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|e| format!("failed to write {}: {e}", self.path.display()))?;
        self.ended.borrow_mut().insert(cell.id.clone(), cell.clone());
        Ok(())
    }

    /// A planned cell as it is now.
    pub fn get(&self, planned: &Planned) -> Cell {
        match (&planned.left_out, self.ended.borrow().get(&planned.id)) {
            (Some(why), _) => Cell {
                ending: Ending::LeftOut,
                sentence: why.clone(),
                ..blank(planned)
            },
            (None, Some(cell)) => cell.clone(),
            (None, None) => blank(planned),
        }
    }
}
