//! The sandbox's own two processes.
//!
//! The program that control runs calls [`main`] before it has started any thread (the kernel refuses a new user
//! namespace to a process with threads). Its process becomes *stage 1*: it enters new namespaces, forks, and from then
//! on only waits. The child is *init*, the first process of the new pid namespace.
//!
//! The chain of deaths, each link by the kernel: control dies, so stage 1 gets SIGKILL (`PR_SET_PDEATHSIG`), so init
//! gets SIGKILL, so every process of the pid namespace gets SIGKILL. Two races are closed by hand: a parent that died
//! before the signal was asked for is seen by its pid (stage 1), or by the end of a pipe that it held (init). Init also
//! ends as soon as the socket to control closes, which makes an orderly end the same as a disorderly one.
//!
//! Caveat: the kernel sends that signal when the *thread* that spawned stage 1 ends, so control spawns it from a thread
//! that lives as long as the sandbox.
use super::channel::{self, Report};
use super::{init, namespaces};
pub(crate) use crate::processes::tree::began;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stdin, fork, getppid, pipe2, setsid};
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process;

/// What a sandbox is recognised by in the process table: whose it is. Its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Control's pid.
    pub control: i32,
    /// When control began, in the kernel's clock ticks since boot: a pid alone may have been given again.
    pub began: u64,
    /// Control's pid namespace: elsewhere its pid means nothing.
    pub space: u64,
}

const MARK: &str = "splitbrain-sandbox";

impl Mark {
    /// The calling process's.
    pub fn own() -> io::Result<Mark> {
        let control = i32::try_from(process::id()).expect("a pid fits");
        Ok(Mark {
            control,
            began: began(control)?,
            space: own_pid_space()?,
        })
    }

    /// As an argument.
    pub fn text(&self) -> String {
        format!("{MARK}:{}:{}:{}", self.control, self.began, self.space)
    }

    /// From an argument; `None` if it is no mark.
    pub fn parse(text: &str) -> Option<Mark> {
        let mut parts = text.strip_prefix(MARK)?.strip_prefix(':')?.split(':');
        let mark = Mark {
            control: parts.next()?.parse().ok()?,
            began: parts.next()?.parse().ok()?,
            space: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(mark)
    }
}

/// The number of the calling process's pid namespace.
pub(crate) fn own_pid_space() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// Becomes the sandbox. `args` are the program's arguments after the prefix that [`super::LocalConfig`] names; standard
/// input is the socket to control. Returns the exit code. To be called before any thread exists.
pub fn main(args: &[String]) -> i32 {
    let socket = match take_socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("this command is for internal use: standard input is no socket of splitbrain's ({error})");
            return 2;
        }
    };
    match start(args, &socket) {
        Ok(Stage::One { init }) => {
            drop(socket);
            wait_for(init)
        }
        Ok(Stage::Init { parent }) => init::run(socket, parent),
        Err(why) => {
            // Control may be gone; then nobody is left to tell.
            let _ = channel::send(&socket, &Report::Failed(why), &[]);
            1
        }
    }
}

enum Stage {
    One { init: nix::unistd::Pid },
    Init { parent: OwnedFd },
}

fn start(args: &[String], socket: &OwnedFd) -> Result<Stage, String> {
    let mark = args
        .last()
        .and_then(|arg| Mark::parse(arg))
        .ok_or("the mark is missing")?;
    // Out of control's process group: an interrupt from the terminal is for control alone, which then heals.
    setsid().map_err(|e| format!("setsid: {e}"))?;
    namespaces::enter()?;
    die_with_parent()?;
    if getppid().as_raw() != mark.control {
        return Err("control died early".into());
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe: {e}"))?;
    // SAFETY: this process has one thread (see `main`), so the child may do anything.
    match unsafe { fork() }.map_err(|e| namespaces::explain("fork", e))? {
        ForkResult::Parent { child } => {
            // Held open, never written: init sees its end when this process ends.
            std::mem::forget(write);
            Ok(Stage::One { init: child })
        }
        ForkResult::Child => {
            drop(write);
            die_with_parent()?;
            namespaces::mount_proc();
            channel::send(socket, &Report::Entered, &[]).map_err(|e| format!("socket: {e}"))?;
            Ok(Stage::Init { parent: read })
        }
    }
}

fn die_with_parent() -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("prctl(PR_SET_PDEATHSIG): {e}"))
}

/// Moves the socket away from standard input, so that no process of a host gets it; nor does one get what control had
/// inherited itself.
fn take_socket() -> io::Result<OwnedFd> {
    // Linux before 5.11 cannot; then what was inherited stays so, as without us.
    // SAFETY: a system call without memory, which closes nothing now.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let copy = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the descriptor was made by the call above and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(copy) };
    nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SockType)?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    Ok(socket)
}

fn wait_for(init: nix::unistd::Pid) -> i32 {
    loop {
        match waitpid(init, None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back_and_nothing_else_is() {
        let mark = Mark::own().unwrap();
        assert_eq!(Mark::parse(&mark.text()), Some(mark.clone()));
        for other in [
            "",
            "splitbrain-sandbox",
            "splitbrain-sandbox:1:2",
            "splitbrain-sandbox:1:2:3:4",
            "x:1:2:3",
        ] {
            assert_eq!(Mark::parse(other), None, "{other}");
        }
        assert_eq!(mark.control, i32::try_from(process::id()).unwrap());
    }
}
