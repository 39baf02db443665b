//! Clock faults, for real: running programs are skewed and asked for the time in their own way.
//!
//! One program in several parts, chosen by its first argument: a program that tells its clocks, a busy one, or, without
//! any, the test itself. The test runs here, and once more in a container without any right but that on its network.
//! Needs etcd, a JDK (17), docker, gcc-aarch64-linux-gnu and qemu-user-static.

mod elsewhere;
mod harm;
mod moved;
mod programs;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("clocks") => programs::clocks(),
        Some("busy") => programs::busy(args[1].parse().expect("a number of threads")),
        Some("again") => programs::again(),
        Some("inside") => test(moved::ALL.iter().chain(harm::ALL), ""),
        _ => {
            // As `cargo test -- NAME` passes it on.
            let filter = args
                .iter()
                .find(|arg| !arg.starts_with('-'))
                .cloned()
                .unwrap_or_default();
            test(moved::ALL.iter().chain(harm::ALL).chain(elsewhere::ALL), &filter)
        }
    }
}

fn test<'a>(cases: impl Iterator<Item = &'a Case>, filter: &str) -> ExitCode {
    let mut failed = 0;
    for (name, case) in cases.filter(|(name, _)| name.contains(filter)) {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(case));
        let word = if ended.is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(ended.is_err());
        println!("{name} ... {word} ({} ms)", start.elapsed().as_millis());
    }
    if failed > 0 {
        println!("{failed} cases FAILED");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
