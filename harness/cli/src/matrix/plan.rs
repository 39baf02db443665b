//! From the command line to cells.
//!
//! A cell is a whole command line of `splitbrain run`. It is parsed and checked here as that command would, so that a
//! slip of the pen, or a program that is not installed, stops the matrix before its first run and not in its third hour.
use crate::args::{Args, Command, MatrixArgs, RunArgs};
use crate::exit::Failure;
use crate::{plan_file, wiring};
use clap::Parser;
use serde::{Deserialize, Serialize};
use splitbrain_core::plan::Workload;
use splitbrain_core::{Nanos, System};
use std::path::PathBuf;

/// The plan's file.
pub const PLAN: &str = "matrix.toml";
/// What a cell may take beside twice its time limit, unless it is told: starting and healing real machines, judging.
const PATIENCE_SECS: u64 = 300;
/// Problems that are told at once.
const PROBLEMS: usize = 12;

/// A matrix, as its file has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MatrixPlan {
    /// What began it.
    pub command: String,
    /// Where it was begun: what paths on the cells' command lines are relative to.
    pub folder: PathBuf,
    /// How many cells run at once; as the machine carries where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// In the order in which they are run.
    #[serde(default, rename = "cell")]
    pub cells: Vec<Planned>,
}

/// A cell, as planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Planned {
    /// The name of its folder.
    pub id: String,
    /// What is judged.
    pub system: String,
    /// What may break, comma separated.
    pub faults: String,
    /// What is asked.
    pub workload: String,
    /// Decides everything random.
    pub seed: u64,
    /// The words after `splitbrain`, but for where its runs are kept and how it answers.
    pub args: Vec<String>,
    /// It hangs if it takes longer, in seconds.
    pub limit: u64,
    /// How much of the machine it takes.
    pub weight: Weight,
    /// Why it is not run at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// How much of the machine a cell takes. Recovery is promised within bounds of time, so a machine that carries too much
/// would break promises that the system kept: better too slow than a false alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// A simulation: one processor.
    Simulated,
    /// Real processes: two processors.
    Real,
    /// Real processes on Java virtual machines, which compile while they run: four processors.
    Java,
    /// On machines that every cell uses: all there are.
    Alone,
}

impl MatrixPlan {
    /// Reads a plan's file.
    pub fn parse(text: &str) -> Result<MatrixPlan, String> {
        let plan: MatrixPlan = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
        // The identifier becomes a path.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        match plan
            .cells
            .iter()
            .find(|c| !c.id.chars().all(plain) || !c.id.starts_with(char::is_alphanumeric))
        {
            Some(cell) => Err(format!("'{}' is no identifier of a cell", cell.id)),
            None => Ok(plan),
        }
    }

    /// As a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan always becomes TOML")
    }

    /// The seeds, in words.
    pub fn seeds(&self) -> String {
        let seeds = self.cells.iter().map(|cell| cell.seed);
        match (seeds.clone().min(), seeds.max()) {
            (Some(first), Some(last)) if first < last => format!("seeds {first} to {last}"),
            (Some(first), _) => format!("seed {first}"),
            (None, _) => "no seeds".to_string(),
        }
    }
}

impl Planned {
    /// The command that runs it by itself.
    pub fn replay(&self) -> String {
        let words = self.args.iter().map(|word| plan_file::quoted(word));
        std::iter::once("splitbrain".to_string())
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The matrix that `args` ask for, from `seed` on.
pub fn plan(args: &MatrixArgs, seed: u64) -> Result<MatrixPlan, Failure> {
    let systems = systems(args)?;
    options(args, &systems)?;
    let last = seed.checked_add(u64::from(args.seeds) - 1);
    let last = last.ok_or_else(|| Failure::usage(format!("{} seeds from {seed} on are too many", args.seeds)))?;
    let faults = match args.faults.is_empty() {
        true => vec!["partition,kill,pause".to_string()],
        false => args.faults.clone(),
    };
    let workloads = match args.workloads.is_empty() {
        true => vec![Workload::default()],
        false => args.workloads.clone(),
    };
    let (mut cells, mut problems) = (Vec::new(), Vec::new());
    for system in &systems {
        for faults in &faults {
            for workload in &workloads {
                match column(args, system.as_ref(), faults, *workload, seed) {
                    Ok(checked) => cells.extend((seed..=last).map(|seed| checked.with_seed(seed))),
                    Err(failure) => problems.push(failure.why().to_string()),
                }
            }
        }
    }
    problems.dedup();
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(PROBLEMS);
        problems.truncate(PROBLEMS);
        problems.extend((more > 0).then(|| format!("and {more} more")));
        return Err(Failure::usage(format!(
            "nothing was started:\n  {}",
            problems.join("\n  ")
        )));
    }
    if args.jobs.is_some_and(|jobs| jobs > 1) && cells.iter().any(|cell| cell.weight == Weight::Alone) {
        return Err(Failure::usage("--jobs: all cells use the same machines, one at a time"));
    }
    for (number, cell) in cells.iter_mut().enumerate() {
        cell.id = format!("{:03}-{}", number + 1, cell.id);
    }
    Ok(MatrixPlan {
        command: command(args, seed),
        folder: std::env::current_dir()
            .map_err(|e| Failure::harness(format!("failed to find the current folder: {e}")))?,
        jobs: args.jobs,
        cells,
    })
}

fn systems(args: &MatrixArgs) -> Result<Vec<Box<dyn System>>, Failure> {
    let find = |name: &String| {
        splitbrain_systems::find(name).ok_or_else(|| {
            let known: Vec<_> = splitbrain_systems::all().iter().map(|s| s.name()).collect();
            Failure::usage(format!("no system '{name}': there is {}", known.join(", ")))
        })
    };
    args.systems.iter().map(find).collect()
}

/// Refuses an option that none of the systems knows.
fn options(args: &MatrixArgs, systems: &[Box<dyn System>]) -> Result<(), Failure> {
    let unknown = |option: &&String| !systems.iter().any(|system| knows(system.as_ref(), option));
    match args.options.iter().find(unknown) {
        Some(option) => Err(Failure::usage(format!(
            "-o {option}: none of the systems has that option"
        ))),
        None => Ok(()),
    }
}

fn knows(system: &dyn System, option: &str) -> bool {
    let key = option.split('=').next().unwrap_or(option);
    system.options().iter().any(|(known, _)| *known == key)
}

/// What the cells have in common that differ only in their seeds, once it is checked.
struct Checked {
    cell: Planned,
    seed_at: usize,
}

impl Checked {
    fn with_seed(&self, seed: u64) -> Planned {
        let mut cell = self.cell.clone();
        cell.seed = seed;
        cell.args[self.seed_at] = seed.to_string();
        cell.id = format!("{}-s{seed}", cell.id);
        cell
    }
}

fn column(
    args: &MatrixArgs,
    system: &dyn System,
    faults: &str,
    workload: Workload,
    seed: u64,
) -> Result<Checked, Failure> {
    let mut words: Vec<String> = ["run", "--seed", &seed.to_string(), "--system", system.name()]
        .map(str::to_string)
        .to_vec();
    let seed_at = 2;
    let mut add = |flag: &str, value: &str| words.extend([flag.to_string(), value.to_string()]);
    add("--faults", faults);
    if workload != Workload::default() {
        add("--workload", workload.name());
    }
    if let Some(env) = &args.env {
        add("--env", env);
    }
    if let Some(limit) = &args.time_limit {
        add("--time-limit", limit);
    }
    for option in args.options.iter().filter(|option| knows(system, option)) {
        add("-o", option);
    }
    words.extend(args.rest.iter().cloned());
    let run = parsed(&words)?;
    let plan = plan_file::plan(&run)?;
    let left_out = match possible(&plan, seed) {
        Err(why) if args.skip_missing => Some(why.why().to_string()),
        Err(why) => return Err(why),
        Ok(()) => None,
    };
    let mut id = format!("{}-{}", system.name(), faults.replace(',', "."));
    if workload != Workload::default() {
        id += &format!("-{}", workload.name());
    }
    let patience = args
        .cell_limit
        .map_or_else(|| Nanos::secs(PATIENCE_SECS).0 + 2 * plan.time_limit.0, |limit| limit.0);
    let cell = Planned {
        id,
        system: system.name().to_string(),
        faults: faults.to_string(),
        workload: workload.name().to_string(),
        seed,
        args: words,
        limit: patience.div_ceil(1_000_000_000),
        weight: weight(&plan.environment, system),
        left_out,
    };
    Ok(Checked { cell, seed_at })
}

/// Parses a cell's words as its command will, with what is added when it is started.
fn parsed(words: &[String]) -> Result<RunArgs, Failure> {
    let added = ["--store", "store", "--json"].map(str::to_string);
    let line = std::iter::once("splitbrain".to_string())
        .chain(words.iter().cloned())
        .chain(added);
    let refused = |e: clap::Error| {
        let text = e.render().to_string();
        let first: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
        Failure::usage(first.join(" ").trim_start_matches("error: ").to_string())
    };
    match Args::try_parse_from(line).map_err(refused)?.command {
        Command::Run(run) => Ok(*run),
        other => unreachable!("a cell's line begins with run, and was parsed as {other:?}"),
    }
}

/// Whether the run can be, as far as that can be known before it is begun.
fn possible(plan: &splitbrain_core::Plan, seed: u64) -> Result<(), Failure> {
    let system = wiring::system(plan)?;
    let hosts = system.hosts(plan);
    splitbrain_nemesis::Nemesis::new(plan, seed, &hosts).map_err(Failure::usage)?;
    Ok(())
}

fn weight(environment: &str, system: &dyn System) -> Weight {
    match environment {
        "sim" => Weight::Simulated,
        "ssh" | "vagrant" => Weight::Alone,
        _ if system.needs().iter().any(|need| need.what == "java") => Weight::Java,
        _ => Weight::Real,
    }
}

/// The command line that began the matrix, with the seed where it was drawn.
fn command(args: &MatrixArgs, seed: u64) -> String {
    let mut words: Vec<String> = std::env::args().skip(2).collect();
    if args.seed.is_none() {
        words.splice(..0, ["--seed".to_string(), seed.to_string()]);
    }
    let words: Vec<_> = words.iter().map(|word| plan_file::quoted(word)).collect();
    format!("splitbrain matrix {}", words.join(" "))
}
