//! The matrix as one JUnit file: a suite for each row, a case for each seed.
//!
//! What was left out or not reached is *skipped*: it did not run, and whoever reads the file must see that. What ran and could
//! not be judged, or failed, is an *error*, as in a single run's file.
use super::{Cell, Ending, Matrix, Row, rows};
use crate::text::visible;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use splitbrain_core::Validity;
use std::time::Duration;

/// The matrix as JUnit XML. Fails only if the XML cannot be written.
pub fn junit(matrix: &Matrix) -> anyhow::Result<String> {
    let mut report = Report::new("splitbrain matrix");
    for row in rows(matrix) {
        let mut suite = TestSuite::new(visible(&name(&row)));
        suite
            .properties
            .push(Property::new("command", visible(&matrix.command)));
        suite.set_time(Duration::try_from_secs_f64(row.seconds()).unwrap_or_default());
        for cell in &row.cells {
            suite.add_test_case(case(&row, cell));
        }
        report.add_test_suite(suite);
    }
    Ok(report.to_string()?)
}

fn name(row: &Row) -> String {
    format!("{}, {}, {}", row.system, row.faults, row.workload)
}

fn case(row: &Row, cell: &Cell) -> TestCase {
    let sentence = visible(&cell.sentence);
    let mut status = match cell.ending {
        Ending::Judged(Validity::Valid) => TestCaseStatus::success(),
        Ending::Judged(Validity::Invalid) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Ending::Judged(Validity::Unknown) | Ending::Failed => TestCaseStatus::non_success(NonSuccessKind::Error),
        Ending::LeftOut | Ending::Open => TestCaseStatus::skipped(),
    };
    if cell.ending != Ending::Judged(Validity::Valid) {
        status.set_message(sentence.as_ref()).set_type(cell.ending.name());
    }
    if !matches!(
        cell.ending,
        Ending::Judged(Validity::Valid) | Ending::LeftOut | Ending::Open
    ) {
        status.set_description(format!("{sentence}\nreplay: {}\n", visible(&cell.replay)));
    }
    let mut case = TestCase::new(format!("seed {}", cell.seed), status);
    case.set_classname(visible(&format!("splitbrain.{}", name(row))));
    case.set_time(Duration::try_from_secs_f64(cell.seconds).unwrap_or_default());
    let run = cell
        .run
        .as_deref()
        .map_or(String::new(), |run| format!("run: {}\n", visible(run)));
    case.set_system_out(format!(
        "{sentence}\nelections: {}\nfaults that acted: {}\nhazards: {}\nviolations: {}\n{run}",
        cell.elections, cell.injected, cell.hazards, cell.violations
    ));
    case
}
