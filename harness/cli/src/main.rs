//! `splitbrain`: finds two leaders before your users do.
//!
//! The binary is the only crate that sees all the others. [`args`] is what people type, [`plan_file`] turns it into a
//! plan, [`wiring`] is where a name becomes a thing, [`run`] carries an experiment out and [`matrix`] many, [`shipping`] takes
//! a user's files to the hosts, [`conform`] examines a user's program without any, [`judge`] works on old histories, [`foreign`] on those that others recorded. The
//! same binary is what runs on the hosts (`splitbrain node`, `splitbrain agent`), what enters the local sandbox (`splitbrain
//! sandbox`) and what serves control on a foreign host (`splitbrain steward`); these four are for the harness itself and do
//! not show in `--help`.
//!
//! Exit codes: 0 all promises held, 1 a promise broken, 2 usage or bad plan, 3 undecided, 4 the harness or its hosts
//! failed, 130 interrupted (and healed).
// The binary touches the machine: files, signals, the terminal and the clock.

mod args;
mod conform;
mod exit;
mod foreign;
mod grounds;
mod inspect;
mod interrupts;
mod judge;
mod listing;
mod matrix;
mod plan_file;
mod progress;
mod run;
mod shipping;
mod support;
mod wiring;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use exit::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Sandbox and agent fork, which takes a process without threads, so they are looked for before anything else runs.
    if let Some(code) = wiring::enter_host_if_asked() {
        return code;
    }
    let args = Args::parse();
    let result = match args.command {
        Command::Run(run) => run::run(&run),
        Command::Conform(args) => conform::conform(&args),
        Command::Matrix(matrix) => matrix::matrix(&matrix),
        Command::Check(check) => judge::check(&check),
        Command::Convert(args) => foreign::convert(&args),
        Command::Report(report) => judge::report(&report),
        Command::List(list) => inspect::list(&list),
        Command::Doctor(doctor) => inspect::doctor(&doctor),
        Command::Heal(heal) => inspect::heal(&heal),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "splitbrain", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => man(),
        Command::Node { role, config } => wiring::node(&role, &config),
        Command::Agent { kind, config } => wiring::agent(&kind, &config),
    };
    result.unwrap_or_else(|failure| failure.report())
}

fn man() -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command())
        .render(&mut page)
        .map_err(|e| Failure::harness(e.to_string()))?;
    for sub in Args::command().get_subcommands().filter(|s| !s.is_hide_set()) {
        let man = clap_mangen::Man::new(sub.clone().bin_name(format!("splitbrain {}", sub.get_name())));
        man.render(&mut page).map_err(|e| Failure::harness(e.to_string()))?;
    }
    exit::print(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}
