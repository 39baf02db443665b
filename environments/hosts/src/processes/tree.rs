//! The process table, as `/proc` shows it.
//!
//! A pid may be given to another process as soon as its process was reaped. So a process is a pid *and* the time at which it
//! began ([`Process`]), and signals to what is not our own child go through a descriptor that stands for one process only.
//!
//! A look at `/proc` is no snapshot. A child whose parent ended between two reads seems to have no parent; such a look is
//! taken again, so that a child is never missed because it was being handed over.
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One process, and never another one that got its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct Process {
    pub pid: i32,
    /// When it began, in the kernel's clock ticks since boot.
    pub began: u64,
}

/// What `/proc/PID/stat` says (`proc(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: i32,
    pub parent: i32,
    /// `R`, `S`, `D`, `T`, `Z`, ...
    pub state: char,
    pub began: u64,
}

/// Looks that may find an orphan on its way to its new parent.
const LOOKS: usize = 20;

impl Stat {
    /// Of one process.
    pub fn of(pid: i32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
    }

    fn parse(text: &str) -> Option<Stat> {
        let pid = text.split_whitespace().next()?.parse().ok()?;
        // The name, field 2, may hold blanks and parentheses: count from its last one.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let began = fields.nth(17)?.parse().ok()?;
        Some(Stat {
            pid,
            parent,
            state,
            began,
        })
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    pub fn process(&self) -> Process {
        Process {
            pid: self.pid,
            began: self.began,
        }
    }
}

/// When process `pid` began, in clock ticks since boot.
pub(crate) fn began(pid: i32) -> io::Result<u64> {
    Stat::of(pid).map(|stat| stat.began)
}

/// Every process that can be seen.
pub(crate) fn everything() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for _ in 0..LOOKS {
        all = look()?;
        let known: BTreeSet<i32> = all.iter().map(|stat| stat.pid).collect();
        // 0 is the parent of those whose parent is outside of this pid namespace.
        if all.iter().all(|stat| stat.parent == 0 || known.contains(&stat.parent)) {
            break;
        }
    }
    Ok(all)
}

fn look() -> io::Result<Vec<Stat>> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // What ends between the listing and the reading is not there.
    Ok(pids.filter_map(|pid| Stat::of(pid).ok()).collect())
}

/// Those of `all` that are alive and descend from one of `roots`; the roots themselves and what descends from `except` are
/// not among them.
pub(crate) fn descendants(all: &[Stat], roots: &BTreeSet<i32>, except: &BTreeSet<i32>) -> Vec<Stat> {
    let mut children: BTreeMap<i32, Vec<&Stat>> = BTreeMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = BTreeMap::new();
    let mut todo: Vec<i32> = roots.iter().copied().collect();
    while let Some(parent) = todo.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if !except.contains(&child.pid) && !roots.contains(&child.pid) && found.insert(child.pid, **child).is_none()
            {
                todo.push(child.pid);
            }
        }
    }
    found.into_values().filter(|stat| !stat.is_dead()).collect()
}

/// The calling process and all from which it descends.
pub(crate) fn own_line(all: &[Stat]) -> BTreeSet<i32> {
    let parents: BTreeMap<i32, i32> = all.iter().map(|stat| (stat.pid, stat.parent)).collect();
    let mut line = BTreeSet::new();
    let mut next = Some(getpid().as_raw());
    while let Some(pid) = next {
        // A pid that comes twice is a look that was no snapshot.
        next = if line.insert(pid) {
            parents.get(&pid).copied()
        } else {
            None
        };
    }
    line
}

impl Process {
    /// A descriptor that stands for it; `None` if it has ended.
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let pid = libc::c_long::from(self.pid);
        // SAFETY: a system call without memory; what it returns is a new descriptor that nobody else owns.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        // SAFETY: see above.
        let fd = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor fits")) };
        // The descriptor now stands for one process; is it the one that was meant?
        Ok((began(self.pid).ok() == Some(self.began)).then_some(fd))
    }

    /// Sends a signal. To one that has ended is no error.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let fd = match self.open() {
            Ok(Some(fd)) => fd,
            Ok(None) => return Ok(()),
            // Linux before 5.3 has no such descriptors; then a look at the start time has to do.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return match began(self.pid) {
                    Ok(began) if began == self.began => gone_is_fine(kill(Pid::from_raw(self.pid), signal)),
                    _ => Ok(()),
                };
            }
            Err(error) => return Err(error),
        };
        let number = signal as libc::c_int;
        // SAFETY: a system call on a descriptor of ours, without memory.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), number, 0, 0) };
        gone_is_fine(Errno::result(sent).map(drop))
    }
}

fn gone_is_fine(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, state: char) -> Stat {
        Stat {
            pid,
            parent,
            state,
            began: 0,
        }
    }

    #[test]
    fn a_name_may_look_like_the_fields_after_it() {
        let rest = "S 7 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5551 1 1";
        let want = Stat {
            pid: 12,
            parent: 7,
            state: 'S',
            began: 5551,
        };
        for name in ["sh", "a b", "x) Z 1 (y", ")"] {
            assert_eq!(Stat::parse(&format!("12 ({name}) {rest}")), Some(want), "{name}");
        }
        assert_eq!(Stat::parse("12 (sh) S 7"), None);
    }

    #[test]
    fn descendants_are_found_through_the_dead_and_not_through_the_excepted() {
        let all = [
            stat(1, 0, 'S'),
            stat(10, 1, 'S'),
            stat(11, 10, 'S'),
            stat(12, 11, 'Z'),
            stat(13, 12, 'R'),
            stat(20, 10, 'S'),
            stat(21, 20, 'S'),
            stat(30, 1, 'S'),
        ];
        let pids = |except: &[i32]| {
            let found = descendants(&all, &BTreeSet::from([10]), &except.iter().copied().collect());
            found.iter().map(|stat| stat.pid).collect::<Vec<_>>()
        };
        assert_eq!(pids(&[]), [11, 13, 20, 21]);
        assert_eq!(pids(&[20]), [11, 13]);
    }

    #[test]
    fn another_process_with_the_same_pid_gets_no_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = Stat::of(pid).unwrap().process();
        let former = Process {
            began: own.began - 1,
            ..own
        };
        former.signal(Signal::SIGKILL).unwrap();
        own.signal(Signal::SIGTERM).unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        own.signal(Signal::SIGTERM).unwrap();
    }
}
