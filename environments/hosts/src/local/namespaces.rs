//! Entering new user, network, mount and pid namespaces.
//!
//! An ordinary user becomes uid 0 of a user namespace in which only his own id exists; that is enough for all that a
//! local cluster needs (interfaces, mounts, other namespaces). Root maps all the ids that he has one to one instead, so
//! that he can still read other users' directories and programs can still change to users of their own.
//!
//! Distributions forbid user namespaces in several ways, each with its own switch: [`explain`] names them.
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getpid, pipe2, read, write};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// Enters the namespaces. The calling process must have a single thread; of the pid namespace its next child is the
/// first process.
pub(super) fn enter() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    let mapper = if uid.is_root() { Mapper::fork() } else { None };
    let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    unshare(all).map_err(|e| explain("unshare(user, net, mount, pid namespaces)", e))?;
    let mapped = mapper.is_some_and(Mapper::map);
    if !mapped {
        let own = |file: &str, text: String| {
            let path = format!("/proc/self/{file}");
            fs::write(&path, text).map_err(|e| explain(&format!("write to {path}"), e))
        };
        own("setgroups", "deny".into())?;
        own("uid_map", format!("0 {uid} 1"))?;
        own("gid_map", format!("0 {gid} 1"))?;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(|e| explain("make mounts private", e))
}

/// Mounts a /proc of the new pid namespace. May fail (in a container whose /proc is masked); then strays cannot be
/// found, and it says so.
pub(super) fn mount_proc() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>) {
        eprintln!("no /proc of our own ({error}): stray processes cannot be found");
    }
}

/// An error of a system call, with what to do about it.
pub(super) fn explain(what: &str, error: impl Into<io::Error>) -> String {
    let error = error.into();
    let remedy = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EPERM | Errno::EACCES => {
            ": user namespaces are forbidden here; allow them with `sysctl kernel.unprivileged_userns_clone=1` (Debian), \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), or in docker with \
             `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
        }
        Errno::ENOSPC | Errno::EUSERS => {
            ": no more namespaces are allowed here; raise `sysctl user.max_user_namespaces` and its neighbours \
             (max_net_namespaces, max_mnt_namespaces, max_pid_namespaces) above 0"
        }
        Errno::EINVAL => ": this kernel lacks user, network, mount or pid namespaces, or the process has threads",
        _ => "",
    };
    format!("{what}: {error}{remedy}")
}

/// A child that stays outside: only a process of the parent namespace may map more than one id.
struct Mapper {
    child: Pid,
    go: OwnedFd,
}

impl Mapper {
    fn fork() -> Option<Mapper> {
        let uids = identity(&fs::read_to_string("/proc/self/uid_map").ok()?)?;
        let gids = identity(&fs::read_to_string("/proc/self/gid_map").ok()?)?;
        let target = getpid();
        let (wait, go) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).ok()?;
        // SAFETY: this process has one thread, so the child may do anything.
        match unsafe { fork() }.ok()? {
            ForkResult::Parent { child } => Some(Mapper { child, go }),
            ForkResult::Child => {
                drop(go);
                let told = read(&wait, &mut [0]) == Ok(1);
                let done = told
                    && fs::write(format!("/proc/{target}/uid_map"), uids).is_ok()
                    && fs::write(format!("/proc/{target}/gid_map"), gids).is_ok();
                // SAFETY: ends the child without running what was registered for its parent's end.
                unsafe { libc::_exit(i32::from(!done)) }
            }
        }
    }

    /// Whether all ids were mapped.
    fn map(self) -> bool {
        let told = write(&self.go, &[1]).is_ok();
        drop(self.go);
        let ended = waitpid(self.child, None);
        told && matches!(ended, Ok(WaitStatus::Exited(_, 0)))
    }
}

/// From a namespace's id map, the map under which a child namespace has the same ids.
fn identity(map: &str) -> Option<String> {
    map.lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(format!("{first} {first} {count}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_container_map_to_themselves() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(identity(map).unwrap(), "0 0 1\n1 1 65536\n");
        assert_eq!(identity("nonsense"), None);
    }

    #[test]
    fn what_is_forbidden_comes_with_its_remedy() {
        assert!(explain("unshare", Errno::EPERM).contains("apparmor_restrict_unprivileged_userns=0"));
        assert!(explain("unshare", Errno::ENOSPC).contains("user.max_user_namespaces"));
    }
}
