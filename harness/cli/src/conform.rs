//! `splitbrain conform`: plays the candidate protocol against one program, and says what is wrong with it.
//!
//! The program runs here as a child process, with a storage of ours on loopback and no faults. Its servers, if it needs
//! any, are the user's: the environment is passed on. Each rule of the protocol is a row of the table, and each row tells
//! what was seen. What could not be tried, because something before it failed, says so, and the program does not conform.
mod play;
mod rows;
mod storage;

use crate::args::ConformArgs;
use crate::exit::{self, Failure};
use play::Player;
use serde_json::json;
use splitbrain_environments::conform::Candidate;
use std::process::ExitCode;
use storage::Loopback;

/// What follows the command's help.
pub const EXIT_CODES: &str = "Exit codes:
  0    nothing is wrong with it
  1    something is
  2    usage, or the program cannot be started

Example:
  SPLITBRAIN_SERVERS=s1=127.0.0.1 splitbrain conform -- python3 workloads/examples/etcd_lease.py";

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; what was seen.
    Good(String),
    /// Not so; what was seen, and what should have been.
    Wrong(String),
    /// Something before it failed.
    NotTried,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Good(_) => "ok",
            Outcome::Wrong(_) => "WRONG",
            Outcome::NotTried => "not tried",
        }
    }

    fn seen(&self) -> &str {
        match self {
            Outcome::Good(seen) | Outcome::Wrong(seen) => seen,
            Outcome::NotTried => "",
        }
    }
}

/// `splitbrain conform`.
pub fn conform(args: &ConformArgs) -> Result<ExitCode, Failure> {
    let storage = Loopback::start().map_err(|e| Failure::harness(format!("failed to start a storage: {e}")))?;
    let env = environment(&storage);
    let candidate = Candidate::start(&args.command, &env)
        .map_err(|e| Failure::usage(format!("failed to start {}: {e}", args.command[0])))?;
    let player = Player::new(candidate, args.patience.into(), args.election.into());
    let rows = rows::all(player, storage);
    let good = rows.iter().all(|(_, outcome)| matches!(outcome, Outcome::Good(_)));
    if args.json {
        let of = |(check, outcome): &(&str, Outcome)| json!({"check": check, "outcome": outcome.word(), "seen": outcome.seen()});
        let rows: Vec<_> = rows.iter().map(of).collect();
        let all = json!({"conforms": good, "checks": rows});
        exit::print(&format!("{all:#}\n"))?;
    } else {
        let of = |(check, outcome): &(&str, Outcome)| {
            vec![
                check.to_string(),
                outcome.word().to_string(),
                splitbrain_report::text::visible(outcome.seen()).into_owned(),
            ]
        };
        let table = crate::inspect::table(&["check", "outcome", "what was seen"], rows.iter().map(of).collect());
        let sentence = match good {
            true => "it speaks the candidate protocol",
            false => "it does not speak the candidate protocol, see workloads/examples/PROTOCOL.md",
        };
        exit::print(&format!("{table}{sentence}\n"))?;
    }
    Ok(ExitCode::from(if good { 0 } else { exit::BROKEN }))
}

/// What a candidate is told; what the user has set already stands, but for the storage.
fn environment(storage: &Loopback) -> Vec<(String, String)> {
    let here = std::env::current_dir().map_or_else(|_| ".".to_string(), |dir| dir.display().to_string());
    let told = [
        ("SPLITBRAIN_HOST", rows::HOST.to_string()),
        ("SPLITBRAIN_IP", "127.0.0.1".to_string()),
        ("SPLITBRAIN_DIR", here),
        ("SPLITBRAIN_SERVERS", String::new()),
        ("SPLITBRAIN_CANDIDATES", format!("{}=127.0.0.1", rows::HOST)),
        ("SPLITBRAIN_WORKLOAD", "leadership".to_string()),
    ];
    let unset = told.into_iter().filter(|(key, _)| std::env::var_os(key).is_none());
    let ours = [("SPLITBRAIN_STORAGE", storage.addr.to_string())];
    let text = |(key, value): (&str, String)| (key.to_string(), value);
    unset.chain(ours).map(text).collect()
}
