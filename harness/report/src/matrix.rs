//! Many runs at a glance: one table, one page, one JUnit file.
//!
//! A matrix is systems by sets of faults by workloads, each run under several seeds. What is told of a run here is what
//! its own report says of it, counted; the page links that report, by a path relative to its own, so that a
//! folder may be moved or uploaded as a whole.
//!
//! What did not run is never counted among what ran: a cell that was left out, or not reached, is a row of its own kind.
mod junit;
mod page;

pub use junit::junit;
pub use page::html;

use crate::text::{plural, visible};
use serde::{Deserialize, Serialize};
use splitbrain_core::Validity;
use std::fmt::Write;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style, Width};

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was judged: this was the verdict.
    Judged(Validity),
    /// The harness or its hosts failed, or it hung.
    Failed,
    /// It cannot be here: a program is not installed, or the system does not know the workload.
    LeftOut,
    /// It was not reached.
    Open,
}

impl Ending {
    /// Every ending, the gravest first.
    pub const ALL: [Ending; 6] = [
        Ending::Judged(Validity::Invalid),
        Ending::Failed,
        Ending::Judged(Validity::Unknown),
        Ending::Open,
        Ending::LeftOut,
        Ending::Judged(Validity::Valid),
    ];

    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Judged(validity) => crate::words::validity(validity),
            Ending::Failed => "failed",
            Ending::LeftOut => "left out",
            Ending::Open => "not run",
        }
    }

    /// A sign, so that nothing is said by colour alone.
    pub fn symbol(self) -> &'static str {
        match self {
            Ending::Judged(validity) => crate::words::symbol(validity),
            Ending::Failed => "!",
            Ending::LeftOut => "–",
            Ending::Open => "…",
        }
    }
}

/// One run of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    /// Unique in the matrix; the name of its folder.
    pub id: String,
    /// What was judged.
    pub system: String,
    /// What could break, comma separated.
    pub faults: String,
    /// What was asked.
    pub workload: String,
    /// What decided everything random.
    pub seed: u64,
    /// How it ended.
    pub ending: Ending,
    /// The verdict in a sentence, or why there is none.
    pub sentence: String,
    /// The exit code, where it ended by itself.
    pub exit: Option<i32>,
    /// Of control's time, from start to end.
    pub seconds: f64,
    /// Reigns that began.
    pub elections: u64,
    /// Faults that acted.
    pub injected: u64,
    /// Harm that was never promised away.
    pub hazards: u64,
    /// Promises broken.
    pub violations: u64,
    /// The command that runs it again.
    pub replay: String,
    /// The run's folder, relative to the matrix's, its parts divided by slashes; none where there is no report.
    pub run: Option<String>,
}

/// A matrix, as far as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Its folder's name.
    pub title: String,
    /// The command that began it.
    pub command: String,
    /// Every cell, in the plan's order.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// How many cells ended so.
    pub fn count(&self, ending: Ending) -> usize {
        self.cells.iter().filter(|cell| cell.ending == ending).count()
    }

    /// Whether more than one workload is asked, so that it must be told.
    fn tells_workload(&self) -> bool {
        self.cells.iter().any(|cell| cell.workload != self.cells[0].workload)
    }

    /// In one sentence: how many cells, and how they ended.
    pub fn sentence(&self) -> String {
        let counts: Vec<String> = Ending::ALL
            .into_iter()
            .map(|ending| (self.count(ending), ending))
            .filter(|(n, _)| *n > 0)
            .map(|(n, ending)| format!("{n} {}", ending.name()))
            .collect();
        let cells = plural(self.cells.len() as u64, "cell", "cells");
        format!("{cells}: {}", counts.join(", "))
    }
}

/// The cells that differ in nothing but their seeds, added up.
struct Row<'a> {
    system: &'a str,
    faults: &'a str,
    workload: &'a str,
    cells: Vec<&'a Cell>,
}

impl Row<'_> {
    fn sum(&self, of: impl Fn(&Cell) -> u64) -> u64 {
        self.cells.iter().map(|cell| of(cell)).sum()
    }

    fn seconds(&self) -> f64 {
        self.cells.iter().map(|cell| cell.seconds).sum()
    }

    /// Whether any of them was run.
    fn ran(&self) -> bool {
        let ran = |cell: &&Cell| !matches!(cell.ending, Ending::LeftOut | Ending::Open);
        self.cells.iter().any(ran)
    }
}

fn rows(matrix: &Matrix) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for cell in &matrix.cells {
        let same = |row: &&mut Row| {
            (row.system, row.faults, row.workload) == (&cell.system[..], &cell.faults[..], &cell.workload[..])
        };
        match rows.iter_mut().find(same) {
            Some(row) => row.cells.push(cell),
            None => rows.push(Row {
                system: &cell.system,
                faults: &cell.faults,
                workload: &cell.workload,
                cells: vec![cell],
            }),
        }
    }
    rows
}

/// The matrix for a terminal of `width` columns: a row for each system, set of faults and workload, and then, one by one,
/// every cell that is not valid, with why and how to run it again.
pub fn table(matrix: &Matrix, width: usize) -> String {
    let mut builder = Builder::default();
    let mut head = vec!["system", "faults"];
    if matrix.tells_workload() {
        head.push("workload");
    }
    let texts = head.len();
    head.extend(["verdicts", "elections", "faults acted", "hazards", "violations", "time"]);
    builder.push_record(head);
    for row in rows(matrix) {
        let mut record = vec![visible(row.system).into_owned(), visible(row.faults).into_owned()];
        if matrix.tells_workload() {
            record.push(visible(row.workload).into_owned());
        }
        let of_row = |ending| row.cells.iter().filter(|cell| cell.ending == ending).count();
        let verdicts: Vec<String> = { Ending::ALL.iter().rev() }
            .filter(|ending| of_row(**ending) > 0)
            .map(|ending| format!("{} {} {}", ending.symbol(), of_row(*ending), ending.name()))
            .collect();
        record.push(verdicts.join("\n"));
        if row.ran() {
            let numbers = [
                row.sum(|c| c.elections),
                row.sum(|c| c.injected),
                row.sum(|c| c.hazards),
                row.sum(|c| c.violations),
            ];
            record.extend(numbers.map(|n| n.to_string()));
            record.push(format!("{:.1} s", row.seconds()));
        } else {
            record.extend(["-"; 5].map(str::to_string));
        }
        builder.push_record(record);
    }
    let mut table = builder.build();
    table
        .with(Style::rounded())
        .modify(Columns::new(1..2), Width::wrap(30).keep_words(true))
        .modify(Columns::new(texts + 1..), Alignment::right());
    let mut text = format!("{table}\n");
    for ending in Ending::ALL
        .into_iter()
        .filter(|e| *e != Ending::Judged(Validity::Valid))
    {
        for cell in matrix.cells.iter().filter(|cell| cell.ending == ending) {
            let _ = writeln!(text, "{}", told(cell, width));
        }
    }
    text
}

/// A cell that is not valid, in a line or two.
fn told(cell: &Cell, width: usize) -> String {
    let sentence = crate::text::clip(&cell.sentence, width.max(60) * 2);
    let line = format!(
        "{} {}: {}: {sentence}",
        cell.ending.symbol(),
        visible(&cell.id),
        cell.ending.name()
    );
    match cell.ending {
        Ending::LeftOut | Ending::Open => line,
        _ => format!("{line}\n    {}", visible(&cell.replay)),
    }
}

#[cfg(test)]
mod tests;
