//! The guard: the process that sees to it that the agent's host is healed, whatever becomes of the agent.
//!
//! It is the agent's parent, has one thread and nothing to do but to wait. The agent tells it on a socket of theirs that it
//! has taken the host ([`Word::Armed`]), that a frame of control has come ([`Word::Alive`]) and that all was undone
//! ([`Word::Bye`]). The dead-man timer runs here and not in the agent, so that it works if the agent hangs or was stopped.
//!
//! The guard is a subreaper: when the agent dies, the agent's processes become children of the guard, and it finds them also
//! if they have wiped their environment. It gave standard input and output to the agent, so that both close with the agent.
use super::state::{Lock, State};
use super::{heal, serve};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, fork};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the agent tells its guard; one packet each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The host is the agent's, and is to be healed if it hears nothing for so long (nanoseconds).
    Armed(u64),
    /// Control lives.
    Alive,
    /// Nothing is left to undo.
    Bye,
}

impl Word {
    const LENGTH: usize = 9;

    fn bytes(self) -> [u8; Word::LENGTH] {
        let (kind, value) = match self {
            Word::Armed(nanos) => (b'a', nanos),
            Word::Alive => (b'l', 0),
            Word::Bye => (b'b', 0),
        };
        let mut bytes = [kind; Word::LENGTH];
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; Word::LENGTH]) -> Option<Word> {
        let (kind, value) = bytes.split_first()?;
        match kind {
            b'a' => Some(Word::Armed(u64::from_le_bytes(value.try_into().ok()?))),
            b'l' => Some(Word::Alive),
            b'b' => Some(Word::Bye),
            _ => None,
        }
    }

    /// Tells the guard. A sign of life may get lost while the guard has many to read.
    pub fn tell(self, guard: &OwnedFd) -> io::Result<()> {
        let wait = match self {
            Word::Alive => MsgFlags::MSG_DONTWAIT,
            _ => MsgFlags::empty(),
        };
        loop {
            match send(guard.as_raw_fd(), &self.bytes(), wait | MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) if self == Word::Alive => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Control's first word must come within this time.
const HELLO: Duration = Duration::from_secs(60);

/// Where the tools that faults need are, on systems whose remote shells do not look there.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Becomes guard and agent. Returns the exit code of whichever of the two the caller is then.
pub(super) fn serve() -> i32 {
    match split() {
        Ok(Side::Guard(guard)) => guard.watch(),
        Ok(Side::Agent { lock, socket }) => serve::run(lock, socket),
        Err(error) => {
            note!("the agent cannot start: {error}");
            1
        }
    }
}

enum Side {
    Guard(Guard),
    Agent {
        lock: Result<(State, Lock), String>,
        socket: OwnedFd,
    },
}

fn split() -> io::Result<Side> {
    prepare();
    // Opened before the fork, so that both hold what the agent takes.
    let state = State::locate();
    let lock = state.make().and_then(|()| Lock::open(&state));
    let mut mask = SigSet::empty();
    let handled = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    handled.into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    prctl::set_child_subreaper(true)?;
    let (own, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: this process has one thread (see `agent::main`), so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(own);
            let lock = lock.map(|lock| (state, lock));
            Ok(Side::Agent { lock, socket: other })
        }
        ForkResult::Parent { child } => {
            drop(other);
            let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            Ok(Side::Guard(Guard {
                agent: child,
                socket: own,
                signals: SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
                _lock: lock.ok(),
                state,
                patience: HELLO,
                armed: false,
                done: false,
            }))
        }
    }
}

/// What is inherited must not reach the host's processes, and the tools must be found.
fn prepare() {
    // SAFETY: a system call without memory, which closes nothing now. Linux before 5.11 cannot; then what was inherited
    // stays so.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
    // SAFETY: this process has one thread (see `agent::main`).
    unsafe { std::env::set_var("PATH", format!("{path}:{SBIN}")) };
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
}

struct Guard {
    agent: Pid,
    socket: OwnedFd,
    signals: SignalFd,
    state: State,
    /// Held, not used: with it the host is the agent's until it is healed, also if the agent is dead.
    _lock: Option<Lock>,
    /// How long the agent may say nothing.
    patience: Duration,
    armed: bool,
    done: bool,
}

/// Why the guard stops waiting.
enum End {
    /// The agent has ended, with this exit code.
    Agent(i32),
    /// It must.
    Silence,
    Signal(Signal),
    Error(io::Error),
}

impl Guard {
    fn watch(mut self) -> i32 {
        let end = self.wait();
        let (why, code) = match &end {
            End::Agent(code) => (format!("the agent has ended with status {code}"), *code),
            End::Silence => (format!("no word from control for {:?}", self.patience), 1),
            End::Signal(signal) => (format!("{signal} came"), 1),
            End::Error(error) => (format!("the guard can wait no longer: {error}"), 1),
        };
        if !matches!(end, End::Agent(_)) {
            self.end_agent();
        }
        // Its last words, said before it ended.
        while let Ok(Some(word)) = self.hear(MsgFlags::MSG_DONTWAIT) {
            self.heed(word);
        }
        if self.done || !self.armed {
            return code;
        }
        note!("the guard heals this host: {why}");
        heal::and_tell(&self.state)
    }

    fn wait(&mut self) -> End {
        let mut deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::Silence;
            }
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let ready = {
                let mut fds = [
                    PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, timeout) {
                    Ok(_) => fds.map(|fd| fd.any().unwrap_or(true)),
                    Err(Errno::EINTR) => continue,
                    Err(error) => return End::Error(error.into()),
                }
            };
            let [told, signalled] = ready;
            if told {
                match self.hear(MsgFlags::empty()) {
                    Ok(Some(word)) => {
                        self.heed(word);
                        deadline = Instant::now() + self.patience;
                    }
                    Ok(None) => return self.reap(None),
                    Err(error) => return End::Error(error),
                }
            }
            if signalled && let Some(end) = self.signalled() {
                return end;
            }
        }
    }

    fn signalled(&mut self) -> Option<End> {
        loop {
            let info = match self.signals.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) => return None,
                Err(error) => return Some(End::Error(error.into())),
            };
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => match self.reap(Some(WaitPidFlag::WNOHANG)) {
                    End::Agent(code) => return Some(End::Agent(code)),
                    // It was another child, or the agent was only stopped.
                    End::Error(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                    other => return Some(other),
                },
                Ok(signal) => return Some(End::Signal(signal)),
                Err(_) => {}
            }
        }
    }

    fn reap(&self, flags: Option<WaitPidFlag>) -> End {
        loop {
            return match waitpid(self.agent, flags) {
                Ok(WaitStatus::Exited(_, code)) => End::Agent(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => End::Agent(128 + signal as i32),
                Ok(WaitStatus::StillAlive) => End::Error(Errno::EAGAIN.into()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => End::Error(error.into()),
            };
        }
    }

    fn end_agent(&self) {
        // It is our child and not reaped, so the pid is its own.
        let _ = kill(self.agent, Signal::SIGKILL);
        let _ = self.reap(None);
    }

    fn heed(&mut self, word: Word) {
        match word {
            Word::Armed(nanos) => {
                self.armed = true;
                self.patience = Duration::from_nanos(nanos);
            }
            Word::Alive => {}
            Word::Bye => self.done = true,
        }
    }

    /// The agent's next word; `None` once it has closed the socket.
    fn hear(&self, flags: MsgFlags) -> io::Result<Option<Word>> {
        let mut bytes = [0; Word::LENGTH];
        loop {
            return match recv(self.socket.as_raw_fd(), &mut bytes, flags) {
                Ok(0) | Err(Errno::ECONNRESET) => Ok(None),
                Ok(_) => Word::parse(&bytes)
                    .map(Some)
                    .ok_or_else(|| io::Error::other(format!("the agent says {bytes:?}"))),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_as_they_were_said() {
        for word in [Word::Armed(5_000_000_000), Word::Alive, Word::Bye] {
            assert_eq!(Word::parse(&word.bytes()), Some(word));
        }
        assert_eq!(Word::parse(&[0; Word::LENGTH]), None);
    }
}
