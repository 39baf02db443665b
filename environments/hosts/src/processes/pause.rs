//! Pause and resume, with proof.
//!
//! SIGSTOP is not instant: a thread in an uninterruptible wait (a disk flush) stops only after it. A pause is proven when
//! the kernel has reported the stop of each process that we started (it does so once all threads have stopped), and
//! /proc shows every thread of every other process on the host stopped as well.
//!
//! A stop report is given once. Pausing what is already paused is proven by /proc, or where that is masked by the
//! earlier report.
use super::members::{Member, Members};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use splitbrain_core::{Name, Proof};
use std::fs;
use std::time::{Duration, Instant};

/// Stops everything on `hosts` and waits until it stands still. With `sabotage` no signal is sent.
pub(crate) fn pause(
    members: &mut Members,
    hosts: &[Name],
    patience: Duration,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    change(members, hosts, patience, &Change::STOP, sabotage)
}

/// Lets everything on `hosts` go on, and waits until it does.
pub(crate) fn resume(members: &mut Members, hosts: &[Name], patience: Duration) -> Result<Vec<Proof>, String> {
    change(members, hosts, patience, &Change::CONTINUE, false)
}

struct Change {
    signal: Signal,
    report: WaitPidFlag,
    stopped: bool,
    word: &'static str,
    state: &'static str,
}

impl Change {
    const STOP: Change = Change {
        signal: Signal::SIGSTOP,
        report: WaitPidFlag::WSTOPPED,
        stopped: true,
        word: "stopped",
        state: "stopped",
    };
    const CONTINUE: Change = Change {
        signal: Signal::SIGCONT,
        report: WaitPidFlag::WCONTINUED,
        stopped: false,
        word: "continued",
        state: "running",
    };
}

fn change(
    members: &mut Members,
    hosts: &[Name],
    patience: Duration,
    change: &Change,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    let deadline = Instant::now() + patience;
    let before: Vec<Pid> = members
        .on(hosts)
        .filter(|member| member.stopped == change.stopped)
        .map(|m| m.pid)
        .collect();
    loop {
        // Again in each round: a process may have forked between the look and the signal.
        if !sabotage {
            members.signal(hosts, change.signal);
        }
        members.reap(&[])?;
        for member in members.running.iter_mut().filter(|member| hosts.contains(&member.host)) {
            if member.stopped != change.stopped && reported(member.pid, change.report) {
                member.stopped = change.stopped;
            }
        }
        let everything = members.everything_on(hosts);
        let mut wrong: Vec<String> = members
            .on(hosts)
            .filter(|member| member.stopped != change.stopped)
            .map(|member| format!("{} on {} (pid {})", member.process, member.host, member.pid))
            .collect();
        let strays = everything.iter().filter(|(_, pid)| {
            let (stopped, moving) = threads(*pid);
            if change.stopped { moving > 0 } else { stopped > 0 }
        });
        wrong.extend(strays.map(|(host, pid)| format!("pid {pid} on {host}")));
        if wrong.is_empty() {
            let proof = |host: &Name| proof(*host, members, &everything, &before, change);
            return Ok(hosts.iter().map(proof).collect());
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "not {} after {}: {}",
                change.word,
                change.signal,
                wrong.join(", ")
            ));
        }
        members
            .wait(Duration::from_millis(1))
            .map_err(|e| format!("wait for the change: {e}"))?;
    }
}

fn proof(host: Name, members: &Members, everything: &[(Name, Pid)], before: &[Pid], change: &Change) -> Proof {
    let named: Vec<&Member> = members.running.iter().filter(|member| member.host == host).collect();
    let mut saw: Vec<String> = named
        .iter()
        .map(|member| {
            let (process, pid) = (&member.process, member.pid);
            if before.contains(&pid) {
                return format!("{process} (pid {pid}) was {} already", change.state);
            }
            format!(
                "{process} (pid {pid}) {} by signal {}",
                change.word, change.signal as i32
            )
        })
        .collect();
    let others = everything
        .iter()
        .filter(|(at, pid)| *at == host && named.iter().all(|member| member.pid != *pid))
        .count();
    if others > 0 {
        saw.push(format!("{others} processes that it had started {} too", change.word));
    }
    if saw.is_empty() {
        saw.push("already dead".into());
    }
    Proof {
        at: host.to_string(),
        saw: saw.join(", "),
    }
}

/// Whether the kernel has a report of this kind about the child.
fn reported(pid: Pid, report: WaitPidFlag) -> bool {
    match waitid(Id::Pid(pid), report | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::StillAlive) | Err(_) => false,
        Ok(_) => true,
    }
}

/// How many threads of a process are stopped, and how many are not; those that ended are neither.
fn threads(pid: Pid) -> (usize, usize) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return (0, 0);
    };
    let states = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    });
    states.fold((0, 0), |(stopped, moving), state| match state {
        'T' | 't' => (stopped + 1, moving),
        'Z' | 'X' => (stopped, moving),
        _ => (stopped, moving + 1),
    })
}
