//! Work on old histories: `check` judges again, `report` draws again. No cluster needed.
use crate::args::{CheckArgs, ReportArgs};
use crate::exit::{self, Failure};
use crate::foreign;
use crate::plan_file;
use serde::Serialize;
use splitbrain_core::history::History;
use splitbrain_core::{Validity, Verdict, verdict};
use splitbrain_runner::store::{self, OpenError};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `verdicts.json` and `--json` hold.
#[derive(Serialize)]
pub struct Outcome<'a> {
    /// The gravest of the verdicts'.
    pub validity: Validity,
    /// In one sentence.
    pub sentence: String,
    /// Decides everything random.
    pub seed: u64,
    /// The command that runs it again.
    pub replay: String,
    /// Events in the history.
    pub events: usize,
    /// Bytes left out at the end of a history that was cut off.
    pub torn: usize,
    /// Whether the run reached its end.
    pub whole: bool,
    /// The run's folder, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
    /// Why the run ended early, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// One a checker.
    pub verdicts: &'a [Verdict],
}

impl<'a> Outcome<'a> {
    /// The outcome of a judged history.
    pub fn new(history: &History, verdicts: &'a [Verdict], run: Option<&Path>) -> Outcome<'a> {
        Outcome {
            validity: verdict::merge(verdicts),
            sentence: splitbrain_report::sentence(&history.header, verdicts),
            seed: history.header.seed,
            replay: replay(history, run),
            events: history.events.len(),
            torn: history.torn,
            whole: history.is_whole(),
            run: run.map(Path::to_path_buf),
            failed: None,
            verdicts,
        }
    }

    /// As pretty JSON with a newline.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data always becomes JSON") + "\n"
    }
}

/// Every checker's verdict on a history.
pub fn judge(history: &History) -> Vec<Verdict> {
    splitbrain_checkers::judge(&history.header, &history.events)
}

/// The report page of a judged history.
pub fn page(history: &History, verdicts: &[Verdict], run: Option<&Path>) -> String {
    splitbrain_report::html(&report_run(history, verdicts, &replay(history, run), &title(history)))
}

/// The JUnit file of a judged history.
pub fn junit(history: &History, verdicts: &[Verdict], run: Option<&Path>) -> Result<String, String> {
    splitbrain_report::junit(&report_run(history, verdicts, &replay(history, run), &title(history)))
        .map_err(|e| format!("failed to write JUnit XML: {e}"))
}

fn replay(history: &History, run: Option<&Path>) -> String {
    plan_file::replay(&history.header.plan, history.header.seed, run)
}

/// The run's folder that `path` names, if it names one.
fn run_folder(path: &Path) -> Option<PathBuf> {
    path.is_dir()
        .then(|| path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))
}

fn title(history: &History) -> String {
    format!("{}, seed {}", history.header.plan.name, history.header.seed)
}

fn report_run<'a>(
    history: &'a History,
    verdicts: &'a [Verdict],
    replay: &'a str,
    title: &'a str,
) -> splitbrain_report::Run<'a> {
    splitbrain_report::Run {
        header: &history.header,
        events: &history.events,
        verdicts,
        replay,
        title,
        torn: history.torn,
    }
}

/// The verdicts as people read them.
pub fn table(verdicts: &[Verdict]) -> String {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    splitbrain_report::verdict_table(verdicts, color)
}

/// Reads a history; a missing one is the user's mistake, a bad one too: exit 2 with the line.
pub fn open(path: &Path) -> Result<History, Failure> {
    store::read_history(path).map_err(|e| match e {
        OpenError::Missing(why) | OpenError::Bad(why) => Failure::usage(why),
    })
}

/// `splitbrain check`.
pub fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    if let Some(kind) = args.model {
        return foreign::check(args, kind);
    }
    let mut gravest = Validity::Valid;
    let mut outcomes = Vec::new();
    for path in &args.paths {
        let history = open(path)?;
        let verdicts = judge(&history);
        let outcome = Outcome::new(&history, &verdicts, run_folder(path).as_deref());
        gravest = gravest.max(outcome.validity);
        if args.json {
            outcomes.push(serde_json::to_value(&outcome).expect("plain data always becomes JSON"));
            continue;
        }
        if args.paths.len() > 1 {
            exit::print(&format!("{}\n", path.display()))?;
        }
        exit::print(&in_words(&outcome))?;
    }
    if args.json {
        // One file is one object, as it always was.
        let all = match outcomes.len() {
            1 => outcomes.remove(0),
            _ => serde_json::Value::Array(outcomes),
        };
        exit::print(&(serde_json::to_string_pretty(&all).expect("plain data always becomes JSON") + "\n"))?;
    }
    Ok(ExitCode::from(exit::of(gravest)))
}

fn in_words(outcome: &Outcome) -> String {
    let mut text = String::new();
    if !outcome.whole {
        let torn = match outcome.torn {
            0 => String::new(),
            n => format!(", and {n} bytes of an unfinished line were left out"),
        };
        text += &format!(
            "This history was cut off: it has {} events and no end{torn}.\n\n",
            outcome.events
        );
    }
    text + &format!(
        "{}\n{}\n\nrun it again: {}\n",
        table(outcome.verdicts),
        outcome.sentence,
        outcome.replay
    )
}

/// `splitbrain report`.
pub fn report(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let history = open(&args.path)?;
    let verdicts = judge(&history);
    let target = match &args.output {
        Some(file) => file.clone(),
        None if args.path.is_dir() => args.path.join("report.html"),
        None => {
            return Err(Failure::usage(
                "a history file has no folder for its report: say where with --output FILE",
            ));
        }
    };
    std::fs::write(&target, page(&history, &verdicts, run_folder(&args.path).as_deref()))
        .map_err(|e| Failure::harness(format!("failed to write {}: {e}", target.display())))?;
    exit::print(&format!("{}\n", target.display()))?;
    Ok(ExitCode::SUCCESS)
}
