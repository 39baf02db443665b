//! Whether processes' clocks can be moved here at all, found by doing it.
//!
//! What may forbid it is in many places (the architecture, the kernel's vDSO, Yama, a seccomp filter, a restriction of
//! `/proc/PID/mem`), so a process is made for it: a copy of this one that waits, and ends with it.
use super::process::Target;
use super::stub;
use super::trace::Trouble;
use super::words::{Truth, Words};
use nix::unistd::Pid;
use splitbrain_core::{Offset, Skew};

/// Why it cannot be done here, if it cannot.
pub(super) fn missing() -> Option<String> {
    attempt()
        .err()
        .map(|why| format!("the clocks of processes cannot be moved here: {why}"))
}

fn attempt() -> Result<(), String> {
    stub::fresh()?;
    let copy = Copy::start()?;
    let skew = Skew {
        offset: Offset(3_600_000_000_000),
        ..Skew::default()
    };
    let words = Words::default().next(&skew, &Truth::now());
    let tried = Target::of(copy.0).and_then(|target| {
        target.give(&words, false)?;
        target.restore()
    });
    match tried {
        Ok(_) => Ok(()),
        Err(Trouble::Other(why)) => Err(why),
        Err(Trouble::Gone | Trouble::Busy) => Err("a process made to try it ended early".to_string()),
    }
}

/// A copy of this process that does nothing.
struct Copy(Pid);

impl Copy {
    fn start() -> Result<Copy, String> {
        // Without a signal at its end, so that whoever reaps this program's children never sees it.
        // SAFETY: the copy shares nothing with this process, and makes only system calls.
        let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: none of the calls touches memory.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                loop {
                    libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
                }
            }
        }
        if pid < 0 {
            return Err(format!("make a process to try it: {}", std::io::Error::last_os_error()));
        }
        Ok(Copy(Pid::from_raw(i32::try_from(pid).expect("a pid fits"))))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let pid = self.0.as_raw();
        // SAFETY: our own child, not yet reaped; the status is not asked for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_can_be_done_here_and_leaves_no_child() {
        assert_eq!(super::missing(), None);
        let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid()));
        assert_eq!(children.unwrap_or_default(), "");
    }
}
