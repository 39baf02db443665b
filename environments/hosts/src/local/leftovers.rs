//! Sandboxes whose control is gone.
//!
//! The kernel ends a sandbox with its control, so normally there is nothing to find. A sandbox is known by its [`Mark`]: the
//! pid of its control, when that began, and in which pid namespace both are. It is left over if no such process exists.
use super::control::pidfd;
use super::sandbox::{Mark, began, own_pid_space};
use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

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
    let last = line.strip_suffix(&[0])?.rsplit(|byte| *byte == 0).next()?;
    let mark = Mark::parse(std::str::from_utf8(last).ok()?)?;
    let dead = began(mark.control).ok() != Some(mark.began);
    // A pid may be given to another process between two looks; the start time tells.
    (mark.space == space && dead && began(pid).ok() == Some(began_first)).then_some(Leftover {
        pid,
        began: began_first,
        control: mark.control,
    })
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
