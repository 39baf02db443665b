//! Sandboxes whose control is gone.
//!
//! The kernel ends a sandbox with its control, so normally there is nothing to find. A sandbox is known by its [`Mark`]: the
//! pid of its control, when that began, and in which pid namespace both are. It is left over if no such process exists.
//!
//! Anybody may write a mark on a command line, so a sandbox must also run our own program, and its line must be exactly
//! the one that control gives it: program, the word `sandbox`, mark. A program that was
//! built anew since has another file and is known by its name, which `/proc` shows with "(deleted)".
use super::control::pidfd;
use super::sandbox::{Mark, began, own_pid_space};
use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The argument before the mark.
const WORD: &[u8] = b"sandbox";

/// A process of a sandbox whose control is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its pid.
    pub pid: i32,
    /// When it began, in clock ticks since boot: with the pid, no other process.
    pub began: u64,
    /// The control that it belonged to.
    pub control: i32,
}

/// Looks for what is left over, in the caller's pid namespace. Fails if there is no /proc.
pub fn leftovers() -> Result<Vec<Leftover>> {
    let space = own_pid_space().context("failed to read /proc/self/ns/pid")?;
    let entries = fs::read_dir("/proc").context("failed to read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids.filter_map(|pid| leftover(pid, space)).collect())
}

fn leftover(pid: i32, space: u64) -> Option<Leftover> {
    let began_first = began(pid).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let args: Vec<&[u8]> = line.strip_suffix(&[0])?.split(|byte| *byte == 0).collect();
    let [program, word, mark] = args[..] else { return None };
    let mark = Mark::parse(std::str::from_utf8(mark).ok()?)?;
    if word != WORD || !runs_our_program(pid, program) {
        return None;
    }
    let dead = began(mark.control).ok() != Some(mark.began);
    // A pid may be given to another process between two looks; the start time tells.
    (mark.space == space && dead && began(pid).ok() == Some(began_first)).then_some(Leftover {
        pid,
        began: began_first,
        control: mark.control,
    })
}

/// Whether a process runs the program that we are, or one that was in its place before.
fn runs_our_program(pid: i32, argv0: &[u8]) -> bool {
    let (own, other) = (Path::new("/proc/self/exe"), format!("/proc/{pid}/exe"));
    let Ok(path) = fs::read_link(own) else { return false };
    match (fs::metadata(own), fs::metadata(&other), fs::read_link(&other)) {
        (Ok(a), Ok(b), _) if (a.dev(), a.ino()) == (b.dev(), b.ino()) => true,
        (_, _, Ok(other)) => file_name(&path) == file_name(&other),
        // The kernel may hide from an ordinary user what runs in a user namespace. Then the line has to do.
        (_, _, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            file_name(&path) == file_name(Path::new(OsStr::from_bytes(argv0)))
        }
        _ => false,
    }
}

/// The last part of a path, without the kernel's note that the file is gone.
fn file_name(path: &Path) -> Option<&[u8]> {
    let name = path.file_name()?.as_bytes();
    Some(name.strip_suffix(b" (deleted)").unwrap_or(name))
}

/// Ends a leftover, and with it all that runs inside its sandbox. A leftover that is already gone is no error; one that
/// belongs to another user is.
pub fn end(leftover: &Leftover) -> Result<()> {
    let Leftover { pid, began: start, .. } = *leftover;
    let fd = match pidfd(pid.unsigned_abs()) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("failed to open process {pid}")),
    };
    // The descriptor now stands for one process; is it the one that was found?
    if began(pid).ok() != Some(start) {
        return Ok(());
    }
    // SAFETY: a system call on a descriptor of ours, without memory.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), libc::SIGKILL, 0, 0) };
    if sent < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        return Err(error).with_context(|| format!("failed to kill process {pid}"));
    }
    let patience = PollTimeout::from(5000_u16);
    let ready = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], patience)?;
    ensure!(
        ready > 0,
        "failed to see the end of process {pid} within 5 s of its kill"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_name_when_it_was_built_anew() {
        let name = |path| file_name(Path::new(path)).unwrap();
        assert_eq!(name("/a/splitbrain (deleted)"), name("/b/splitbrain"));
        assert_ne!(name("/usr/bin/bash"), name("/usr/bin/splitbrain"));
    }
}
