//! Notes on standard error, which is a process's log. Each has the seconds since the process began.
use std::fmt::Arguments;
use std::sync::OnceLock;
use std::time::Instant;

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// The instant of the process's first note, or of the first call of this.
pub(crate) fn began() -> Instant {
    *BEGAN.get_or_init(Instant::now)
}

/// Writes one line. Standard error may be gone, which is no reason to stop.
pub(crate) fn note(what: Arguments<'_>) {
    use std::io::Write;
    let seconds = began().elapsed().as_secs_f64();
    let line = format!("{seconds:10.3} {what}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
