//! The agent of a foreign host, for real: every case starts one and talks to it as control does.
//!
//! The agent needs root, and heals by its marks whatever it finds; so the test enters a mount and a network namespace of its
//! own first, and each case gives the agent a folder of its own for its state.

mod death;
mod disks;
#[path = "../toys/layer.rs"]
mod layer;
mod rig;
mod streams;
mod work;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some(splitbrain_environments::remote::AGENT) {
        let code = splitbrain_environments::agent::main(&args[1..]);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    if args.first().map(String::as_str) == Some("toy-layer") {
        return layer::main(&args[1]);
    }
    enter();
    // As `cargo test -- NAME` passes it on.
    let named = args.iter().find(|arg| !arg.starts_with('-'));
    let filter = named.cloned().unwrap_or_default();
    let all = work::ALL.iter().chain(streams::ALL).chain(disks::ALL).chain(death::ALL);
    let mut failed = 0;
    for (name, case) in all.filter(|(name, _)| name.contains(&filter)) {
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

fn enter() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the agent needs root, and so does its test"
    );
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("enter namespaces of our own");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make mounts private");
}
