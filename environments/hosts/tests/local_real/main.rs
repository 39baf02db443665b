//! The local environment, for real: every case makes a sandbox, starts processes in it and breaks them.
//!
//! One program in several parts, chosen by its first argument: the sandbox, a toy candidate, a control to be killed, or,
//! without any, the test itself. Run as root it runs itself once more as an ordinary user.

mod cases;
mod clocks;
mod death;
mod disks;
mod edges;
#[path = "../toys/layer.rs"]
mod layer;
mod rig;
#[path = "../world/mod.rs"]
mod world;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// A test, by name.
type Case = (&'static str, fn());

const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        // For a mark in the process table.
        Some("sandbox" | "idle") if std::env::var_os("TOY_IDLES").is_some() => loop {
            std::thread::park();
        },
        Some("sandbox") => exit(splitbrain_environments::local::sandbox::main(&args[1..])),
        Some("toy") => world::toy::main(&args[1..]),
        Some("toy-layer") => layer::main(&args[1]),
        Some("control") => death::control(&args[1]),
        _ => {
            // As `cargo test -- NAME` passes it on.
            let filter = args
                .iter()
                .find(|arg| !arg.starts_with('-'))
                .cloned()
                .unwrap_or_default();
            test(&filter)
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn test(filter: &str) -> ExitCode {
    let user = nix::unistd::geteuid();
    let cases = cases::ALL
        .iter()
        .chain(clocks::ALL)
        .chain(edges::ALL)
        .chain(disks::ALL)
        .chain(death::ALL)
        .filter(|(name, _)| name.contains(filter));
    let mut failed = 0;
    for (name, case) in cases {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(case));
        let word = if ended.is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(ended.is_err());
        println!("{name} (uid {user}) ... {word} ({} ms)", start.elapsed().as_millis());
    }
    if failed > 0 {
        println!("{failed} cases FAILED as uid {user}");
        return ExitCode::FAILURE;
    }
    if user.is_root() {
        as_nobody(filter)
    } else {
        ExitCode::SUCCESS
    }
}

/// The same once more, as a user without any right.
fn as_nobody(filter: &str) -> ExitCode {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copy = dir.path().join("local_real");
    std::fs::copy(std::env::current_exe().expect("our own path"), &copy).expect("copy the program");
    for path in [dir.path(), &copy] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("give it away");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("make it runnable");
    }
    let mut command = Command::new(&copy);
    command
        .arg(filter)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir(dir.path())
        .env("TMPDIR", dir.path());
    let status = command.status().expect("run as an ordinary user");
    exit(status.code().unwrap_or(1))
}
