//! The processes that we started, as their parent knows them.
//!
//! The caller is the parent of each process that it starts and, as the first of its pid namespace or as a subreaper, of
//! every orphan. It keeps what it started in a table; what those started in turn is found by the [`Scope`].
//!
//! Caveat: one thread reaps for all, so no other thread of the same program may wait for children of its own.
use super::scope::Scope;
use super::{Exit, Spawn};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A process that init started and has not reaped; leader of its own session and process group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub host: Name,
    pub process: String,
    pub life: u32,
    pub pid: Pid,
    /// It was seen to stop, and not yet to continue.
    pub stopped: bool,
}

/// A member's end.
pub(crate) struct Ended {
    pub member: Member,
    /// `exit status 1`, `signal 9 (SIGKILL)`.
    pub how: String,
}

/// All that runs, by host.
pub(crate) struct Members {
    pub running: Vec<Member>,
    /// Ends that nobody asked for and control was not yet told of.
    pub exits: Vec<Exit>,
    /// Where each process worked that ever ran.
    dirs: BTreeMap<(Name, String), PathBuf>,
    signals: SignalFd,
    scope: Scope,
}

impl Members {
    /// An empty table. Takes over SIGCHLD, so to be called before the process has other threads.
    pub fn new(scope: Scope) -> io::Result<Members> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Members {
            running: Vec::new(),
            exits: Vec::new(),
            dirs: BTreeMap::new(),
            signals,
            scope,
        })
    }

    /// Sets how a host's processes are found.
    pub fn know_hosts(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// Readable when a child ended, stopped or continued.
    pub fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Returns when a child changed its state, and after `at_most` in any case.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.drain()
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.signals.read_signal()?.is_some() {}
        Ok(())
    }

    /// Starts a process on a host, in that network namespace or in the caller's; its standard streams are `fds`.
    pub fn spawn(&mut self, spawn: Spawn, netns: Option<&OwnedFd>, fds: [OwnedFd; 3]) -> Result<Pid, String> {
        let (program, args) = spawn.argv.split_first().ok_or("there is no program to start")?;
        if !spawn.dir.is_dir() {
            return Err(format!("the working directory {} is missing", spawn.dir.display()));
        }
        let [stdin, stdout, stderr] = fds.map(Stdio::from);
        let netns = netns.map(AsRawFd::as_raw_fd);
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(spawn.env.iter().map(|(key, value)| (key, value)));
        command
            .current_dir(&spawn.dir)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let enter = move || {
            setsid()?;
            if let Some(netns) = netns {
                // SAFETY: the descriptor is the host's own and stays open as long as the host.
                setns(unsafe { BorrowedFd::borrow_raw(netns) }, CloneFlags::CLONE_NEWNET)?;
            }
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            Ok(())
        };
        // SAFETY: the closure makes three system calls and allocates nothing.
        unsafe { command.pre_exec(enter) };
        let child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        self.dirs.insert((spawn.host, spawn.process.clone()), spawn.dir);
        self.running.push(Member {
            host: spawn.host,
            process: spawn.process,
            life: spawn.life,
            pid,
            stopped: false,
        });
        Ok(pid)
    }

    /// Reaps what has ended. Returns the members among it on the hosts in `asked`; the ends of all others are exits.
    pub fn reap(&mut self, asked: &[Name]) -> Result<Vec<Ended>, String> {
        let mut ended = Vec::new();
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit status {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal {} ({signal})", signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(format!("waitpid: {error}")),
            };
            let Some(position) = self.running.iter().position(|member| member.pid == pid) else {
                continue; // An orphan.
            };
            let member = self.running.swap_remove(position);
            if asked.contains(&member.host) {
                ended.push(Ended { member, how });
            } else {
                self.exits.push(Exit {
                    host: member.host,
                    process: member.process,
                    life: member.life,
                    how,
                });
            }
        }
    }

    /// The members on these hosts, in the order of their start.
    pub fn on<'a>(&'a self, hosts: &'a [Name]) -> impl Iterator<Item = &'a Member> {
        self.running.iter().filter(|member| hosts.contains(&member.host))
    }

    /// Each process that ever ran on a host, with its working directory.
    pub fn dirs(&self, host: Name) -> impl Iterator<Item = (&str, &Path)> {
        let all = self.dirs.iter().filter(move |((at, _), _)| *at == host);
        all.map(|((_, process), dir)| (process.as_str(), dir.as_path()))
    }

    /// Every process on these hosts that is no zombie, members included.
    pub fn everything_on(&self, hosts: &[Name]) -> Vec<(Name, Pid)> {
        let found = self.scope.everything_on(hosts);
        found
            .into_iter()
            .map(|(host, process)| (host, Pid::from_raw(process.pid)))
            .collect()
    }

    /// As [`Members::everything_on`], of one host, with a name for people: control's, or the kernel's for what members have
    /// started.
    pub fn named_on(&self, host: Name) -> Vec<(String, Pid)> {
        let named = |(_, pid): (Name, Pid)| {
            let member = self.running.iter().find(|member| member.pid == pid);
            let name = member.map(|member| member.process.clone());
            let comm = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (name.unwrap_or_else(|| comm().trim().to_string()), pid)
        };
        self.everything_on(&[host]).into_iter().map(named).collect()
    }

    /// Sends a signal to everything on these hosts.
    pub fn signal(&self, hosts: &[Name], signal: Signal) {
        // Errors mean that somebody has just ended; the verification that follows every signal sees what is left.
        for member in self.on(hosts) {
            let _ = killpg(member.pid, signal);
        }
        for (_, process) in self.scope.everything_on(hosts) {
            self.scope.signal(process, signal);
        }
    }
}
