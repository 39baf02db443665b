//! What people type.
use crate::grounds::HostArgs;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use splitbrain_core::plan::{FaultKind, Grudge, Storage, Target};
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
  splitbrain check store/raft/latest               judge an old history again";

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
    /// Judge a history again: a run's folder or a history file, whole or cut off
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
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
    /// Whether the storage compares fencing tokens [default: fenced]
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
pub struct CheckArgs {
    /// A run's folder, or a history file
    pub path: PathBuf,
    /// Print the verdicts as one JSON object
    #[arg(long)]
    pub json: bool,
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
    /// The store whose runs are listed
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub store: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    Systems,
    Faults,
    Checkers,
    Environments,
    Runs,
}

#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
        _ => Err("fenced or unfenced".to_string()),
    }
}

fn names<const N: usize>(names: [&str; N]) -> String {
    format!("it is one of {}", names.join(", "))
}
