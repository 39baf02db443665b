//! Which processes belong to a host.
//!
//! Where a host is a network namespace, all that runs in it belongs to it, also what left its process group or lost its
//! parent. Where a host is a whole machine, all that descends from the agent belongs to it; the agent is the *subreaper*
//! of its descendants (`prctl(2)`), so an orphan among them becomes its child and not that of the machine's first process.
//!
//! Caveats: a process that leaves its network namespace escapes a namespace's host; one that a service manager starts on
//! behalf of ours (`systemd-run`, `docker run`) is no descendant and escapes the agent.
use super::tree::{self, Process, Stat};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use splitbrain_core::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// How a host's processes are found.
pub(crate) enum Scope {
    /// By the inode of its network namespace, each host. Needs a `/proc` that shows the caller's pid namespace, and finds
    /// nothing without: then only process groups are reached.
    Namespaces(BTreeMap<u64, Name>),
    /// The one host's processes are all descendants of the caller.
    Descendants(Name),
}

impl Scope {
    /// Every process on these hosts that is no zombie; never the caller.
    pub fn everything_on(&self, hosts: &[Name]) -> Vec<(Name, Process)> {
        match self {
            Scope::Namespaces(inodes) if proc_is_own() => in_namespaces(inodes, hosts),
            Scope::Namespaces(_) => Vec::new(),
            Scope::Descendants(host) if hosts.contains(host) => {
                let all = tree::everything().unwrap_or_default();
                let own = BTreeSet::from([getpid().as_raw()]);
                let found = tree::descendants(&all, &own, &BTreeSet::new());
                found.iter().map(|stat| (*host, stat.process())).collect()
            }
            Scope::Descendants(_) => Vec::new(),
        }
    }

    /// Sends a signal to a process that [`Scope::everything_on`] has found.
    pub fn signal(&self, process: Process, signal: Signal) {
        // Errors mean that it has just ended; the verification that follows every signal sees what is left.
        match self {
            // In a pid namespace of our own every process is ours.
            Scope::Namespaces(_) => drop(kill(Pid::from_raw(process.pid), signal)),
            Scope::Descendants(_) => drop(process.signal(signal)),
        }
    }
}

fn in_namespaces(inodes: &BTreeMap<u64, Name>, hosts: &[Name]) -> Vec<(Name, Process)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != 1)
        .filter_map(|pid| {
            // A process that is gone or a zombie has no namespace any more.
            let inode = fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino();
            let host = *inodes.get(&inode)?;
            let process = || Stat::of(pid).ok().map(|stat| stat.process());
            hosts
                .contains(&host)
                .then(process)
                .flatten()
                .map(|process| (host, process))
        })
        .collect()
}

/// Whether /proc shows the caller's own pid namespace.
pub(crate) fn proc_is_own() -> bool {
    fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == getpid().to_string().as_str())
}
