//! Kill, with proof.
//!
//! A kill is proven by the kernel's own word: each process that we started on the host was reaped and told how it ended,
//! and no process of the host's is left.
use super::members::{Ended, Members};
use nix::sys::signal::Signal;
use splitbrain_core::{Name, Proof};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Ends everything on `hosts` and waits until it has ended. With `sabotage` no signal is sent.
pub(crate) fn kill(
    members: &mut Members,
    hosts: &[Name],
    patience: Duration,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    // What ended before the signal is an exit of its own.
    members.reap(&[])?;
    end_all(members, hosts, patience, Vec::new(), sabotage)
}

/// As [`kill`], of what is left on `hosts` after some have ended on demand.
pub(crate) fn end_rest(
    members: &mut Members,
    hosts: &[Name],
    patience: Duration,
    ended: Vec<Ended>,
) -> Result<Vec<Proof>, String> {
    end_all(members, hosts, patience, ended, false)
}

fn end_all(
    members: &mut Members,
    hosts: &[Name],
    patience: Duration,
    mut ended: Vec<Ended>,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    let deadline = Instant::now() + patience;
    let mut strays = BTreeSet::new();
    loop {
        let left = members.everything_on(hosts);
        strays.extend(left.iter().copied());
        // Again in each round: a process may have forked between the look and the signal.
        if !sabotage {
            members.signal(hosts, Signal::SIGKILL);
        }
        ended.extend(members.reap(hosts)?);
        if left.is_empty() && members.on(hosts).next().is_none() {
            break;
        }
        if Instant::now() >= deadline {
            return Err(still_there(members, hosts, &left));
        }
        members
            .wait(Duration::from_millis(1))
            .map_err(|e| format!("wait for the end: {e}"))?;
    }
    for end in &ended {
        strays.remove(&(end.member.host, end.member.pid));
    }
    Ok(hosts.iter().map(|host| proof(*host, &ended, &strays)).collect())
}

fn proof(host: Name, ended: &[Ended], strays: &BTreeSet<(Name, nix::unistd::Pid)>) -> Proof {
    let mut saw: Vec<String> = ended
        .iter()
        .filter(|end| end.member.host == host)
        .map(|end| format!("{} (pid {}) ended by {}", end.member.process, end.member.pid, end.how))
        .collect();
    let others = strays.iter().filter(|(at, _)| *at == host).count();
    if others > 0 {
        saw.push(format!("{others} processes that it had started ended"));
    }
    if saw.is_empty() {
        saw.push("already dead".into());
    }
    Proof {
        at: host.to_string(),
        saw: saw.join(", "),
    }
}

fn still_there(members: &Members, hosts: &[Name], left: &[(Name, nix::unistd::Pid)]) -> String {
    let mut names: Vec<String> = members
        .on(hosts)
        .map(|member| format!("{} on {} (pid {})", member.process, member.host, member.pid))
        .collect();
    names.extend(left.iter().map(|(host, pid)| format!("pid {pid} on {host}")));
    format!("still alive after SIGKILL: {}", names.join(", "))
}
