//! Running a command of the host's, bounded in time.
//!
//! The agent reaps every child it has, whoever started it, and so may take away the exit status of a command from under
//! us. Each command therefore runs in a small shell that writes the status behind its output; its end is seen by a pidfd,
//! which stays readable whoever reaps. Input and output are files in memory: no pipe can fill up.
use super::commands::Command;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process;
use std::time::{Duration, Instant};

/// Longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the host's tools are; an SSH session's own path often lacks the second half.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// The command, and its status in a last line of its own.
const SCRIPT: &str = r#""$@"; printf '\n%s' "$?""#;

/// Why a command did not do what it was to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such program.
    Absent,
    /// It said this, or did not end.
    Failed(String),
}

/// Runs a command to its end: what it printed. The error names the command, what it said and, if known, the remedy.
pub fn run(command: &Command) -> Result<String, String> {
    attempt(command).map_err(|failure| match failure {
        Failure::Absent => format!("{command}: not found: {}", install(&command.argv[0])),
        Failure::Failed(why) => format!("{command}: {why}"),
    })
}

/// As [`run`]; `None` if there is no such program.
pub fn run_if_there(command: &Command) -> Result<Option<String>, String> {
    match attempt(command) {
        Ok(text) => Ok(Some(text)),
        Err(Failure::Absent) => Ok(None),
        Err(Failure::Failed(why)) => Err(format!("{command}: {why}")),
    }
}

fn install(program: &str) -> String {
    let package = match program.split('-').next() {
        Some("iptables" | "ip6tables") => "iptables",
        _ => "iproute2",
    };
    format!("install {package} on the host (apt-get install {package})")
}

/// As [`run`], with the program's absence told apart.
pub fn attempt(command: &Command) -> Result<String, Failure> {
    let (status, out, err) = execute(command).map_err(|e| Failure::Failed(e.to_string()))?;
    match status {
        Some(0) => Ok(out),
        Some(127) => Err(Failure::Absent),
        Some(status) => Err(Failure::Failed(explain(status, &err))),
        None => Err(Failure::Failed(format!(
            "it did not end within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

/// The lines that say something, and what can be done about it.
fn explain(status: i32, err: &str) -> String {
    let lines: Vec<&str> = err
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    let said = match lines.is_empty() {
        true => format!("exit status {status}"),
        false => lines.join("; "),
    };
    if ["ermission denied", "not permitted", "must be root"]
        .iter()
        .any(|s| said.contains(s))
    {
        return format!("{said}: needs root with CAP_NET_ADMIN (in a container: --cap-add NET_ADMIN)");
    }
    said
}

fn execute(command: &Command) -> io::Result<(Option<i32>, String, String)> {
    let (mut input, out, err) = (memory()?, memory()?, memory()?);
    input.write_all(command.stdin.as_bytes())?;
    input.seek(SeekFrom::Start(0))?;
    let mut child = process::Command::new("/bin/sh")
        .args(["-c", SCRIPT, "sh"])
        .args(&command.argv)
        .env_clear()
        .envs([("PATH", PATH), ("LC_ALL", "C")])
        .stdin(input)
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .process_group(0)
        .spawn()?;
    let ended = ended(child.id())?;
    if !ended {
        // The shell and what it started; the group lives as long as one of them does.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    }
    // An error means that somebody else was faster.
    let _ = child.wait();
    let out = text(out)?;
    let (printed, status) = out.rsplit_once('\n').unwrap_or_default();
    let status = status.parse().ok().filter(|_| ended);
    if ended && status.is_none() {
        return Err(io::Error::other("it was ended by somebody else"));
    }
    Ok((status, printed.to_string(), text(err)?))
}

/// Whether the process ended in time.
fn ended(pid: u32) -> io::Result<bool> {
    // SAFETY: plain numbers; the descriptor that comes back is nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        // It has ended and was reaped already.
        return if error.raw_os_error() == Some(libc::ESRCH) {
            Ok(true)
        } else {
            Err(error)
        };
    }
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor fits")) };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn memory() -> io::Result<File> {
    Ok(memfd_create("command", MFdFlags::MFD_CLOEXEC)?.into())
}

fn text(mut file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, stdin: &str) -> Result<String, Failure> {
        let mut command = Command::new(&["sh", "-c", script]);
        command.stdin = stdin.to_string();
        attempt(&command)
    }

    #[test]
    fn output_comes_back_as_it_was() {
        assert_eq!(sh("cat; echo; printf end", "a\n7"), Ok("a\n7\nend".to_string()));
        let long = "x".repeat(1 << 20);
        assert_eq!(sh("cat", &long), Ok(long));
    }

    #[test]
    fn a_failure_says_what_the_command_said() {
        assert_eq!(sh("echo no >&2; exit 3", ""), Err(Failure::Failed("no".to_string())));
        assert_eq!(sh("exit 3", ""), Err(Failure::Failed("exit status 3".to_string())));
        let denied = sh("echo Permission denied >&2; exit 4", "");
        assert!(matches!(denied, Err(Failure::Failed(why)) if why.contains("NET_ADMIN")));
    }

    #[test]
    fn an_absent_program_is_told_with_its_package() {
        let command = Command::new(&["ip6tables-restored", "--noflush"]);
        assert_eq!(attempt(&command), Err(Failure::Absent));
        assert!(run(&command).unwrap_err().contains("apt-get install iptables"));
        assert_eq!(run_if_there(&command), Ok(None));
    }

    #[test]
    fn a_status_reaped_by_somebody_else_is_known_all_the_same() {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let done = std::sync::atomic::AtomicBool::new(false);
        let own = nix::unistd::gettid();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // Only what this test started: other tests of the process have children, too.
                    let children = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
                    for pid in children.unwrap_or_default().split_whitespace() {
                        let pid = Pid::from_raw(pid.parse().expect("a pid"));
                        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                    }
                }
            });
            let seen: Vec<_> = (0..50)
                .map(|_| (sh("echo no >&2; exit 3", ""), sh("echo yes", "")))
                .collect();
            // Before anything can fail: the other thread is waited for.
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            for both in seen {
                let expected = (Err(Failure::Failed("no".to_string())), Ok("yes\n".to_string()));
                assert_eq!(both, expected);
            }
        });
    }
}
