//! Our own program, run again as a child: what runs one experiment of many.
//!
//! A child is in a process group of its own, so that an interrupt typed at the terminal reaches only its parent, which
//! passes it on once: a second one would be taken for impatience, and end the child without healing. When the parent is
//! killed the kernel sends the child SIGTERM (`PR_SET_PDEATHSIG`), upon which it heals and ends by itself. The kernel takes for
//! the parent the *thread* that started the child, so that thread must live as long as the child: [`Own`] cannot be
//! sent to another, and waits there.
//!
//! The child's standard input is a file that the parent has locked (`flock`). The lock belongs to the open file, which the
//! two share, so it is free again only when both are gone: who takes it knows that no child of a killed parent is still
//! healing.
use crate::local::control::pidfd;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Rung once, heard by everyone who listens, then or later.
#[derive(Debug)]
pub struct Bell {
    ear: PipeReader,
    /// The pipe hangs up, for all readers and for ever, when its writer goes.
    cord: Mutex<Option<PipeWriter>>,
}

impl Bell {
    /// A silent one. Fails if there are no descriptors left.
    pub fn new() -> Result<Bell> {
        let (ear, cord) = io::pipe().context("failed to make a pipe")?;
        let cord = Mutex::new(Some(cord));
        Ok(Bell { ear, cord })
    }

    /// Rings. Says whether it was silent before.
    pub fn ring(&self) -> bool {
        self.cord.lock().expect("no holder panics").take().is_some()
    }

    /// Whether it was rung.
    pub fn was_rung(&self) -> bool {
        self.cord.lock().expect("no holder panics").is_none()
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The child ended, with this status.
    Ended(ExitStatus),
    /// The bell was rung.
    Rung,
    /// The time was over.
    Late,
}

/// Where a child's standard streams go.
#[derive(Debug)]
pub struct Streams {
    /// Nothing is read from it: the lock.
    pub lock: File,
    /// What it answers.
    pub out: File,
    /// What it complains of.
    pub err: File,
}

/// A child that runs our own program. Dropping one that still runs kills it.
#[derive(Debug)]
pub struct Own {
    child: Child,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
    /// The kernel watches the thread that started it.
    on_this_thread: PhantomData<*const ()>,
}

impl Own {
    /// Starts our program with `args` in the folder `dir`.
    pub fn start(args: &[String], dir: &Path, streams: Streams) -> Result<Own> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let parent = Pid::this();
        let mut command = Command::new(&program);
        command.args(args).current_dir(dir).process_group(0);
        command.stdin(streams.lock).stdout(streams.out).stderr(streams.err);
        let die_with_parent = move || {
            prctl::set_pdeathsig(Signal::SIGTERM)?;
            // A parent that died before the call above sends nothing any more.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        };
        // SAFETY: between fork and exec it makes two system calls and allocates nothing.
        unsafe { command.pre_exec(die_with_parent) };
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let pidfd = pidfd(child.id()).context("failed to open the child")?;
        Ok(Own {
            child,
            pidfd,
            ended: None,
            on_this_thread: PhantomData,
        })
    }

    /// Waits until the child ends, `bell` is rung, or `patience` is over.
    pub fn wait(&mut self, bell: Option<&Bell>, patience: Duration) -> Result<Woken> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().context("failed to wait for the child")? {
                self.ended = Some(status);
                return Ok(Woken::Ended(status));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::Late);
            }
            let mut sources = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            sources.extend(bell.map(|bell| PollFd::new(bell.ear.as_fd(), PollFlags::POLLIN)));
            // Rounded up: a wait of no milliseconds at the end would spin.
            let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            match poll(&mut sources, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("failed to wait for the child"),
            }
            let heard = |source: Option<&PollFd>| source.and_then(PollFd::any).unwrap_or(false);
            if heard(sources.get(1)) && !heard(sources.first()) {
                return Ok(Woken::Rung);
            }
        }
    }

    /// Sends a signal. One that has ended does not hear it, and that is no error.
    fn signal(&self, signal: Signal) {
        if self.ended.is_none()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // It was not waited for yet, so the number is still its own.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to heal and end.
    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// Ends it at once, and waits for that. What it had on this machine ends with it, as at any death of a control.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        self.child.kill().context("failed to kill the child")?;
        let status = self.child.wait().context("failed to wait for the child")?;
        self.ended = Some(status);
        Ok(status)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
