//! The `docker` environment against a real engine. Fails where there is none.
//!
//! One program in several parts, chosen by its first argument: a control to be killed, one that only looks at the engine,
//! an agent, or, without any, the test itself.

mod cases;
mod death;
mod errors;
mod rig;
mod whole;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("steward") => ExitCode::from(u8::try_from(splitbrain_environments::agent::main(&args[1..])).unwrap_or(1)),
        Some("control") => death::control(&args[1..]),
        Some("doctor") => errors::tell_what_the_doctor_says(),
        _ => test(args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str)),
    }
}

fn test(filter: &str) -> ExitCode {
    rig::base_image();
    let cases = cases::ALL.iter().chain(errors::ALL).chain(death::ALL).chain(whole::ALL);
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases.filter(|(name, _)| name.contains(filter)) {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(case));
        let word = if ended.is_ok() { "ok" } else { "FAILED" };
        *if ended.is_ok() { &mut passed } else { &mut failed } += 1;
        println!("{name} ... {word} ({} ms)", start.elapsed().as_millis());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
