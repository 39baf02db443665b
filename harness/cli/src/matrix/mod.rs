//! `splitbrain matrix`: many experiments, systems by faults by seeds, and what came of them at a glance.
//!
//! Each cell is our own program run again, `splitbrain run ... --json`, exactly as a user would run it: a cell that
//! crashes, hangs or is killed takes nothing with it but itself, and what its command printed is what is counted. Everything
//! stands in one folder:
//!
//! ```text
//! STORE/matrix/TIMESTAMP/
//!   matrix.toml            the plan: every cell with its whole command line
//!   cells.jsonl            a line for each cell that ended
//!   cells/ID/NAME/...      the cell's runs, each a run's folder as any other
//!   logs/ID.out, ID.err    what its command printed
//!   index.html, junit.xml  written at the end, and again whenever it is continued
//! ```
//!
//! - [`plan`]: from the command line to cells, all checked before the first is started, by the very code that checks a run;
//! - [`pool`]: runs them, as many at once as the machine carries;
//! - [`record`]: what a cell's command left, as a line of `cells.jsonl`.
//!
//! The hosts' disks are kept of those cells only that did not keep their promises.
//!
//! **Stopping and going on.** An interrupt is passed on to the running cells, which heal and end. When this process is killed,
//! the kernel asks them to do the same. A cell counts as finished when its line is on the disk, and only then:
//! `--continue` runs all others from their beginning. The file `lock` is held by this process and its cells, so nobody goes on
//! while a cell of a killed matrix is still healing.
mod plan;
mod pool;
mod progress;
mod record;

use crate::args::MatrixArgs;
use crate::exit::{self, Failure};
use crate::{inspect, interrupts, run};
use plan::{MatrixPlan, PLAN};
use pool::{Bells, Pool};
use progress::Progress;
use record::Records;
use splitbrain_core::Validity;
use splitbrain_report::matrix::{self as report, Cell, Ending, Matrix};
use splitbrain_runner::store::RunDir;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// How long the cells of a killed matrix may take to heal before going on is refused.
const HEALING: Duration = Duration::from_secs(60);

/// `splitbrain matrix`.
pub fn matrix(args: &MatrixArgs) -> Result<ExitCode, Failure> {
    let (dir, plan, lock) = match &args.go_on {
        Some(path) => go_on(path)?,
        None => begin(args)?,
    };
    let records = Records::open(&dir.path, &plan).map_err(Failure::harness)?;
    let todo: Vec<_> = plan.cells.iter().filter(|cell| records.is_open(cell)).collect();
    let say = format!(
        "matrix of {} cells, {} to run, {}: {}",
        plan.cells.len(),
        todo.len(),
        plan.seeds(),
        dir.path.display()
    );
    let progress = Progress::new(args.json, plan.cells.len(), plan.cells.len() - todo.len());
    progress.say(&say);
    let bells = Arc::new(Bells::new().map_err(|e| Failure::harness(format!("{e:#}")))?);
    let rung = Arc::clone(&bells);
    interrupts::watch(move |count| rung.interrupt(count));
    let pool = Pool {
        dir: &dir.path,
        plan: &plan,
        jobs: args.jobs.or(plan.jobs),
        lock: &lock,
        bells: &bells,
    };
    let ran = pool.run(&todo, progress, |cell| {
        records.add(cell)?;
        tidy(&dir.path, cell);
        Ok(())
    });
    let matrix = conclude(&dir, &plan, &records)?;
    ran.map_err(Failure::harness)?;
    tell(args, &dir, &matrix, bells.was_interrupted())
}

/// A cell that kept its promises leaves its hosts' disks behind no longer: a server's log takes a hundred megabytes, and
/// a matrix has hundreds of cells. History, logs and report stay. What cannot be removed takes room and does no harm.
fn tidy(dir: &Path, cell: &Cell) {
    if let (Ending::Judged(Validity::Valid), Some(run)) = (&cell.ending, &cell.run) {
        let _ = std::fs::remove_dir_all(dir.join(run).join("hosts"));
    }
}

/// A new matrix's folder, plan and lock. Everything is checked before the folder is made.
fn begin(args: &MatrixArgs) -> Result<(RunDir, MatrixPlan, File), Failure> {
    let seed = args.seed.unwrap_or_else(run::draw_seed);
    let plan = plan::plan(args, seed)?;
    let dir = RunDir::create(&args.store, "matrix").map_err(Failure::harness)?;
    let lock = lock(&dir.path)?;
    dir.write(PLAN, &plan.to_toml()).map_err(Failure::harness)?;
    dir.make_latest().map_err(Failure::harness)?;
    Ok((dir, plan, lock))
}

/// The folder, plan and lock of a matrix that was stopped.
fn go_on(path: &Path) -> Result<(RunDir, MatrixPlan, File), Failure> {
    let file = path.join(PLAN);
    let text = std::fs::read_to_string(&file).map_err(|e| {
        Failure::usage(format!(
            "failed to read {}: {e}: is it a matrix's folder?",
            file.display()
        ))
    })?;
    let plan = MatrixPlan::parse(&text)
        .map_err(|e| Failure::usage(format!("{} is no good plan of a matrix:\n{e}", file.display())))?;
    let path = path
        .canonicalize()
        .map_err(|e| Failure::harness(format!("failed to find {}: {e}", path.display())))?;
    let lock = lock(&path)?;
    Ok((RunDir { path }, plan, lock))
}

/// The lock, once no cell of a matrix that was killed holds it any more.
fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let failed = |e: std::io::Error| Failure::harness(format!("failed to lock {}: {e}", path.display()));
    let file = File::options().create(true).append(true).read(true).open(&path);
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let _ = exit::print("the cells of the stopped matrix are still healing: waiting for them\n");
    let (send, locked) = mpsc::channel();
    std::thread::spawn(move || {
        let result = file.lock().map(|()| file);
        let _ = send.send(result);
    });
    match locked.recv_timeout(HEALING) {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(Failure::usage(format!(
            "{} is still in use: a matrix there is running",
            dir.display()
        ))),
    }
}

/// Writes page and JUnit file, as far as the matrix came.
fn conclude(dir: &RunDir, plan: &MatrixPlan, records: &Records) -> Result<Matrix, Failure> {
    let title = dir
        .path
        .file_name()
        .map_or("matrix".into(), |name| name.to_string_lossy());
    let matrix = Matrix {
        title: title.into_owned(),
        command: plan.command.clone(),
        cells: plan.cells.iter().map(|cell| records.get(cell)).collect(),
    };
    dir.write("index.html", &report::html(&matrix))
        .map_err(Failure::harness)?;
    let junit = report::junit(&matrix).map_err(|e| Failure::harness(format!("failed to write JUnit XML: {e}")))?;
    dir.write("junit.xml", &junit).map_err(Failure::harness)?;
    Ok(matrix)
}

fn tell(args: &MatrixArgs, dir: &RunDir, matrix: &Matrix, interrupted: bool) -> Result<ExitCode, Failure> {
    let open = matrix.count(Ending::Open) > 0;
    let code = if interrupted && open {
        exit::INTERRUPTED
    } else {
        gravest(matrix)
    };
    let path = dir.path.display();
    if args.json {
        let object =
            serde_json::json!({"exit": code, "sentence": matrix.sentence(), "matrix": dir.path, "cells": matrix.cells});
        let text = serde_json::to_string_pretty(&object).expect("plain data always becomes JSON");
        exit::print(&(text + "\n"))?;
    } else {
        let go_on = if open {
            format!("go on: splitbrain matrix --continue {path}\n")
        } else {
            String::new()
        };
        exit::print(&format!(
            "\n{}\n{}.\npage: {path}/index.html\n{go_on}",
            report::table(matrix, inspect::width()),
            matrix.sentence()
        ))?;
    }
    Ok(ExitCode::from(code))
}

/// The exit code of the gravest cell. What was left out was asked to be, unless nothing else is there.
fn gravest(matrix: &Matrix) -> u8 {
    let any = |ending| matrix.count(ending) > 0;
    if any(Ending::Judged(Validity::Invalid)) {
        exit::BROKEN
    } else if any(Ending::Failed) {
        exit::HARNESS
    } else if any(Ending::Judged(Validity::Unknown)) || !any(Ending::Judged(Validity::Valid)) {
        exit::UNDECIDED
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cell_that_kept_its_promises_loses_its_disks() {
        let dir = tempfile::tempdir().unwrap();
        let disks = dir.path().join("cells/1/raft/run/hosts");
        let planned = plan::Planned {
            id: "1".to_string(),
            system: "raft".to_string(),
            faults: "kill".to_string(),
            workload: "leadership".to_string(),
            seed: 7,
            args: Vec::new(),
            limit: 1,
            weight: plan::Weight::Simulated,
            left_out: None,
        };
        for (ending, left) in [
            (Ending::Judged(Validity::Invalid), true),
            (Ending::Failed, true),
            (Ending::Judged(Validity::Valid), false),
        ] {
            std::fs::create_dir_all(disks.join("n1")).unwrap();
            let cell = Cell {
                ending,
                run: Some("cells/1/raft/run".to_string()),
                ..record::blank(&planned)
            };
            tidy(dir.path(), &cell);
            assert_eq!(disks.exists(), left);
        }
        assert!(disks.parent().unwrap().exists());
    }
}
