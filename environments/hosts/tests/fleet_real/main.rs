//! A fleet, for real: agents in network namespaces on a bridge, held and broken as machines of others are.
//!
//! One program in several parts, chosen by its first argument: the agent, a toy candidate, or, without any, the test itself.

mod faults;
mod lost;
mod meeting;
mod rig;
mod shapes;
#[path = "../world/mod.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(splitbrain_environments::remote::AGENT) => {
            let code = splitbrain_environments::agent::main(&args[1..]);
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
        Some("toy") => return world::toy::main(&args[1..]),
        _ => {}
    }
    rig::enter();
    // As `cargo test -- NAME` passes it on.
    let named = args.iter().find(|arg| !arg.starts_with('-'));
    let filter = named.cloned().unwrap_or_default();
    let all = meeting::ALL
        .iter()
        .chain(faults::ALL)
        .chain(shapes::ALL)
        .chain(lost::ALL);
    let mut failed = 0;
    for (name, case) in all.filter(|(name, _)| name.contains(&filter)) {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(case));
        let word = if ended.is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(ended.is_err());
        println!("{name} ... {word} ({} ms)", start.elapsed().as_millis());
    }
    rig::bury();
    if failed > 0 {
        println!("{failed} cases FAILED");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
