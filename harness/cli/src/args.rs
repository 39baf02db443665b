//! What people type.
use crate::conform;
use crate::grounds::HostArgs;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use splitbrain_checkers::models::{FailedCas, Kind};
use splitbrain_core::formats::{Format, Output};
use splitbrain_core::plan::{FaultKind, Grudge, Storage, Target, Workload};
use splitbrain_core::{Name, Nanos};
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "Exit codes:
  0    all promises held
  1    a promise was broken
  2    usage, a bad plan, or a program that the plan needs is not installed
  3    undecided: too little was seen to judge
  4    the harness or its hosts failed
  130  interrupted (and healed)

Examples:
  splitbrain run                                   5 Raft members, broken for 30 s
  splitbrain run --system etcd-election --faults pause --seed 7
  splitbrain run --env sim --mutant ignore-log --time-limit 60s --seed 0
                                                   a broken Raft, caught in simulation
  splitbrain check store/raft/latest               judge an old history again
  splitbrain check history.edn --model cas-register
                                                   judge a history that others recorded";

const MATRIX_HELP: &str = "Exit codes: the gravest of the cells', in this order:
  1    a cell broke a promise
  4    a cell failed, or hung
  3    a cell could not be decided, or none was run
  0    every cell that was run kept its promises
  2    usage, or a cell that cannot be run here: nothing was started
  130  interrupted (and healed): what is left can be continued

Examples:
  splitbrain matrix --systems raft --env sim --seeds 10
  splitbrain matrix --systems etcd,etcd-election --faults partition,kill,pause --faults clock --seeds 3
  splitbrain matrix --systems raft --env sim --seeds 5 -- --mutant ignore-log --nodes 3
  splitbrain matrix --continue store/matrix/latest";

/// Finds two leaders before your users do: deploys a leader election, breaks network and processes on purpose, records
/// what everyone believed, and judges that record.
#[derive(Debug, Parser)]
#[command(name = "splitbrain", version, styles = STYLES, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: deploy, break, record, judge, report
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunArgs>),
    /// Play the candidate protocol against a program of your own, and say what is wrong
    #[command(after_help = conform::EXIT_CODES)]
    Conform(ConformArgs),
    /// Run many experiments, systems by faults by seeds, and sum them up in one table, page and JUnit file
    #[command(after_help = MATRIX_HELP)]
    Matrix(Box<MatrixArgs>),
    /// Judge a history again: a run's folder or a history file, whole or cut off
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Write a history as EDN, JSON Lines or a timeline, for other tools
    Convert(ConvertArgs),
    /// Write a run's report again
    Report(ReportArgs),
    /// List what there is: systems, faults, checkers, environments, runs
    List(ListArgs),
    /// Check what this machine can do, and say what to do where it cannot
    Doctor(DoctorArgs),
    /// End what a killed run may have left behind, here or on the machines named; touches only what carries our mark
    Heal(Box<HealArgs>),
    /// Print completions for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// (internal) Run a member or the storage on a host
    #[command(hide = true)]
    Node { role: String, config: String },
    /// (internal) Run a system's candidate or observer on a host
    #[command(hide = true)]
    Agent { kind: String, config: String },
}

#[derive(Debug, ClapArgs)]
#[command(allow_negative_numbers = true)]
pub struct RunArgs {
    /// A plan file; options on the command line go before what it says
    pub plan: Option<PathBuf>,
    /// What is deployed and judged: raft, etcd, etcd-election (see `list systems`) [default: raft]
    #[arg(long)]
    pub system: Option<String>,
    /// Where: local (namespaces on this machine), sim (simulated, deterministic), docker, ssh or vagrant [default: local]
    #[arg(long, visible_alias = "environment")]
    pub env: Option<String>,
    /// Servers or members [default: the system's own]
    #[arg(long)]
    pub nodes: Option<u32>,
    /// A program of your own that speaks the candidate protocol, as a shell command: it runs on each candidate's host
    #[arg(long, value_name = "CMD", help_heading = "A service of your own")]
    pub candidate: Option<String>,
    /// A file that the program needs: it is copied to where the program runs, without its folder; may be repeated
    #[arg(long = "file", value_name = "FILE", help_heading = "A service of your own")]
    pub files: Vec<String>,
    /// The servers that the program uses: etcd or zookeeper [default: none]
    #[arg(long, value_name = "NAME", help_heading = "A service of your own")]
    pub servers: Option<String>,
    /// Candidates on hosts of their own, where candidates are clients [default: the system's own]
    #[arg(long)]
    pub candidates: Option<u32>,
    /// What may break, comma separated: partition, kill, pause, packet, clock, disk; or none [default: partition,kill,pause]
    #[arg(long, value_delimiter = ',', value_parser = parse_fault)]
    pub faults: Option<Vec<FaultChoice>>,
    /// Mean time between injections [default: 4s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub every: Option<Nanos>,
    /// Mean time until a fault is healed [default: 3s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub lasting: Option<Nanos>,
    /// Partition shapes to draw from, comma separated (see `list faults`) [default: all that fit]
    #[arg(long, value_delimiter = ',', value_parser = parse_grudge)]
    pub shapes: Option<Vec<Grudge>>,
    /// Targets to draw from: one, minority, majority, all, leader, non-leader, role:ROLE, host:NAME [default: all]
    #[arg(long, value_delimiter = ',')]
    pub targets: Option<Vec<Target>>,
    /// How long operations and faults go on; simulated time in sim [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub time_limit: Option<Nanos>,
    /// Decides everything random [default: drawn, and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// What is asked: leadership, sequence, jobs, lock or register (see `list workloads`) [default: leadership]
    #[arg(long, value_parser = parse_workload)]
    pub workload: Option<Workload>,
    /// Whether the storage compares fencing tokens, or is the service itself: fenced, unfenced or guarded [default: fenced]
    #[arg(long, value_parser = parse_storage)]
    pub storage: Option<Storage>,
    /// Short for --storage unfenced: the storage takes everything, and the report shows the damage
    #[arg(long, conflicts_with = "storage")]
    pub unfenced: bool,
    /// Writes per second asked of each believed leader [default: 20]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Break the protocol on purpose: forget-vote, ignore-log, stale-leader (raft)
    #[arg(long)]
    pub mutant: Option<String>,
    /// The system's own options, as KEY=VALUE; may be repeated (see `list systems`)
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// Short for -o ttl=TIME: the lease of etcd-election's candidates
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<String>,
    /// Short for -o etcd-bin=FILE: which etcd to run
    #[arg(long, value_name = "FILE")]
    pub etcd_bin: Option<String>,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub store: PathBuf,
    /// The run's name: its folder in the store [default: the system's name]
    #[arg(long)]
    pub name: Option<Name>,
    /// Keep what the local network carried, as network.pcap in the run's folder
    #[arg(long)]
    pub pcap: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which machines, and how they are reached
    #[command(flatten)]
    pub machines: HostArgs,
    /// (internal) Leave a fault out but verify it all the same, to see that this is noticed: block, kill, pause, shape,
    /// clock or disk
    #[arg(long, hide = true)]
    pub sabotage: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct MatrixArgs {
    /// What is judged, comma separated (see `list systems`)
    #[arg(long, value_delimiter = ',', required_unless_present = "go_on")]
    pub systems: Vec<String>,
    /// A set of faults that break together, as for `run`; once for each set, or divided by ';' [default: partition,kill,pause]
    #[arg(long, value_delimiter = ';', value_name = "FAULT,...")]
    pub faults: Vec<String>,
    /// What is asked, comma separated (see `list workloads`) [default: leadership]
    #[arg(long, value_delimiter = ',', value_parser = parse_workload)]
    pub workloads: Vec<Workload>,
    /// How many seeds each is run under
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub seeds: u32,
    /// The first seed; the others follow it [default: drawn, and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where, for all [default: local]
    #[arg(long, visible_alias = "environment")]
    pub env: Option<String>,
    /// How long operations and faults go on in each cell [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub time_limit: Option<String>,
    /// An option for those of the systems that know it, as KEY=VALUE; may be repeated
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// How many cells run at once [default: as many as the processors carry: one each in sim, two for a cell elsewhere,
    /// four where it runs Java; one at a time on ssh and vagrant]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
    /// A cell that takes longer hangs, and is ended [default: 5 minutes and twice its time limit]
    #[arg(long, value_name = "TIME")]
    pub cell_limit: Option<Nanos>,
    /// Leave out cells that cannot be run here (a program that is not installed, a workload that the system does not know),
    /// and say so in the table, instead of refusing to begin
    #[arg(long)]
    pub skip_missing: bool,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub store: PathBuf,
    /// Go on with a matrix that was stopped: its folder. Finished cells are not run again
    #[arg(long = "continue", id = "go_on", value_name = "DIR", conflicts_with_all = [
        "systems", "faults", "workloads", "seeds", "seed", "env", "time_limit", "options", "skip_missing", "store", "rest",
    ])]
    pub go_on: Option<PathBuf>,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Any other options of `run`, for every cell
    #[arg(last = true, value_name = "OPTIONS OF run")]
    pub rest: Vec<String>,
}

/// `--faults` takes kinds, or the word none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultChoice {
    Kind(FaultKind),
    Nothing,
}

#[derive(Debug, ClapArgs)]
pub struct HealArgs {
    /// A plan whose machines are to be healed too
    pub plan: Option<PathBuf>,
    /// Heal the machines of this environment too: ssh or vagrant [default: ssh where hosts are named]
    #[arg(long, visible_alias = "environment")]
    pub env: Option<String>,
    /// Remove the images too that docker runs have built
    #[arg(long)]
    pub images: bool,
    #[command(flatten)]
    pub machines: HostArgs,
}

#[derive(Debug, ClapArgs)]
pub struct ConformArgs {
    /// How long each answer is waited for
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub patience: Nanos,
    /// How long it is waited for that the program is elected
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub election: Nanos,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// Runs' folders or history files; with --model also histories of others: EDN, Jepsen's log, key-value logs, JSON Lines
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Judge the operations by this model instead of the plan's promises (see `list models`)
    #[arg(long, value_parser = Kind::named)]
    pub model: Option<Kind>,
    /// How the files are written: auto, splitbrain, edn (Jepsen, Knossos, key-value logs), jepsen-log or jsonl
    #[arg(long, default_value = "auto", requires = "model", value_parser = parse_format)]
    pub format: FormatChoice,
    /// What a comparison that failed says: observe (the value was another) or ignore (nothing, as Knossos has it)
    #[arg(long, default_value = "observe", requires = "model", value_parser = parse_failed_cas)]
    pub failed_cas: FailedCas,
    /// Values are pairs of a key and a value, and each key is an object of its own (jepsen.independent)
    #[arg(long, requires = "model")]
    pub keyed: bool,
    /// Leave out operations that the model does not know, instead of refusing the file
    #[arg(long, requires = "model")]
    pub skip_others: bool,
    /// How many may hold a semaphore at once
    #[arg(long, default_value_t = 2, requires = "model")]
    pub permits: u32,
    /// How often its holder may hold a reentrant mutex
    #[arg(long, default_value_t = 2, requires = "model")]
    pub depth: u32,
    /// Print an order in which the operations fit, replayed before it is printed
    #[arg(long, requires = "model")]
    pub order: bool,
    /// Keys are judged on this many threads [default: one a processor]
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// After this time a file that is not decided ends as unknown
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "model")]
    pub timeout: Nanos,
    /// With more memory than this, in MB, a key that is not decided ends as unknown
    #[arg(long, value_name = "MB", default_value_t = 1024, requires = "model")]
    pub memory: u32,
    /// Print the verdicts as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ConvertArgs {
    /// A run's folder, or a history in any form that `check` reads
    pub path: PathBuf,
    /// How to write it: edn (Knossos, Elle), jsonl, or chrome-trace (a timeline; cannot be read back)
    #[arg(long)]
    pub to: Output,
    /// How it is written: auto, splitbrain, edn, jepsen-log or jsonl
    #[arg(long, default_value = "auto", value_parser = parse_format)]
    pub format: FormatChoice,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A format, or whichever the file's beginning tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    Auto,
    Is(Format),
}

#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// A run's folder, or a history file
    pub path: PathBuf,
    /// Where to write the page [default: report.html in the run's folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Of what [default: everything but runs]
    #[arg(value_enum)]
    pub what: Option<Listing>,
    /// Which of them, where systems are listed: everything about these
    pub names: Vec<String>,
    /// Everything about every system: promises with their sources, options
    #[arg(short, long)]
    pub verbose: bool,
    /// The store whose runs are listed
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub store: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    #[value(alias = "system")]
    Systems,
    Workloads,
    Faults,
    Checkers,
    Models,
    Environments,
    Runs,
}

#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_format(s: &str) -> Result<FormatChoice, String> {
    match s {
        "auto" => Ok(FormatChoice::Auto),
        // What key-value logs hold is EDN, a map a line.
        "kv" => Ok(FormatChoice::Is(Format::Edn)),
        _ => s.parse().map(FormatChoice::Is).map_err(|e| format!("{e}, or auto")),
    }
}

fn parse_failed_cas(s: &str) -> Result<FailedCas, String> {
    match s {
        "observe" => Ok(FailedCas::Observe),
        "ignore" => Ok(FailedCas::Ignore),
        _ => Err("observe or ignore".to_string()),
    }
}

fn parse_fault(s: &str) -> Result<FaultChoice, String> {
    if s == "none" {
        return Ok(FaultChoice::Nothing);
    }
    let kind = FaultKind::ALL.into_iter().find(|k| k.name() == s);
    kind.map(FaultChoice::Kind)
        .ok_or_else(|| format!("no such fault: {}, or none", names(FaultKind::ALL.map(FaultKind::name))))
}

fn parse_grudge(s: &str) -> Result<Grudge, String> {
    let found = Grudge::ALL.into_iter().find(|g| g.name() == s);
    found.ok_or_else(|| format!("no such partition: {}", names(Grudge::ALL.map(Grudge::name))))
}

fn parse_storage(s: &str) -> Result<Storage, String> {
    match s {
        "fenced" => Ok(Storage::Fenced),
        "unfenced" => Ok(Storage::Unfenced),
        "guarded" => Ok(Storage::Guarded),
        _ => Err("fenced, unfenced or guarded".to_string()),
    }
}

fn parse_workload(s: &str) -> Result<Workload, String> {
    let found = Workload::ALL.into_iter().find(|w| w.name() == s);
    found.ok_or_else(|| format!("no such workload: {}", names(Workload::ALL.map(Workload::name))))
}

fn names<const N: usize>(names: [&str; N]) -> String {
    format!("it is one of {}", names.join(", "))
}
