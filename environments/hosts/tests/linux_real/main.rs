//! What a host does to its own links, for real: hosts are network namespaces on one bridge, each with addresses of both
//! families, and `iptables` runs inside them.
//!
//! No test harness: an ordinary user has to enter a user namespace first, which takes a process with a single thread.

mod blocks;
mod netem;
mod rig;
mod shapes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    rig::enter();
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in blocks::ALL.iter().chain(shapes::ALL).chain(netem::ALL) {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let start = Instant::now();
        let ok = catch_unwind(AssertUnwindSafe(case)).is_ok();
        *if ok { &mut passed } else { &mut failed } += 1;
        let word = if ok { "ok" } else { "FAILED" };
        println!("{name} ... {word} ({} ms)", start.elapsed().as_millis());
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
