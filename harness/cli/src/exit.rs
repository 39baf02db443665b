//! Exit codes, and how a command fails.
use splitbrain_core::Validity;
use std::io::Write;
use std::process::ExitCode;

/// A promise was broken.
pub const BROKEN: u8 = 1;
/// The command line or the plan is wrong.
pub const USAGE: u8 = 2;
/// Too little was seen to judge.
pub const UNDECIDED: u8 = 3;
/// The harness or its hosts failed.
pub const HARNESS: u8 = 4;
/// Interrupted, and healed.
pub const INTERRUPTED: u8 = 130;

/// The exit code of a verdict.
pub fn of(validity: Validity) -> u8 {
    match validity {
        Validity::Valid => 0,
        Validity::Invalid => BROKEN,
        Validity::Unknown => UNDECIDED,
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    why: String,
}

impl Failure {
    /// The user asked for what cannot be.
    pub fn usage(why: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            why: why.into(),
        }
    }

    /// The harness or its hosts failed.
    pub fn harness(why: impl Into<String>) -> Failure {
        Failure {
            code: HARNESS,
            why: why.into(),
        }
    }

    /// Why, in words.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Says so on standard error, and gives the exit code.
    pub fn report(self) -> ExitCode {
        anstream::eprintln!(
            "{}error:{} {}",
            anstyle::AnsiColor::Red.on_default().bold(),
            anstyle::Reset,
            self.why
        );
        ExitCode::from(self.code)
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::harness(format!("failed to write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
