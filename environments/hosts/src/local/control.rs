//! Control's side of the sandbox: starting it, giving it orders, ending it.
use super::channel::{self, Order, Report};
use super::sandbox::Mark;
use crate::ground::Ending;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use splitbrain_core::Proof;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// No order takes longer: init bounds each of its waits by less.
const ANSWER: Duration = Duration::from_secs(60);
/// How long an orderly end may take before stage 1 is killed, and with it everything.
const END: Duration = Duration::from_secs(5);

/// A running sandbox. Dropping it ends everything inside and waits until it has ended.
pub(crate) struct Sandbox {
    socket: OwnedFd,
    replies: Mutex<Receiver<Report>>,
    endings: Mutex<Option<Receiver<Ending>>>,
    receiver: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    stage1: OwnedFd,
    ended: Mutex<Receiver<()>>,
}

impl Sandbox {
    /// Starts a sandbox by running `program` (with the prefix of its arguments); what it complains of goes to `log`.
    /// Fails where the kernel or its settings forbid it, with the remedy.
    pub fn start(program: &[String], log: File) -> Result<Sandbox> {
        let (own, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context("failed to make a socket pair")?;
        let Some((path, prefix)) = program.split_first() else {
            bail!("failed to start the sandbox: no program is named");
        };
        let mark = Mark::own().context("failed to read /proc/self")?.text();
        let mut command = Command::new(path);
        command.args(prefix).arg(mark);
        command.stdin(other).stdout(Stdio::null()).stderr(log);
        let (keeper, stage1, ended) = keep(command).with_context(|| format!("failed to start {path}"))?;
        let (to_replies, replies) = channel();
        let (to_endings, endings) = channel();
        let socket = own.try_clone().context("failed to copy a descriptor")?;
        let receiver = helper("reports", move || receive(&socket, &to_replies, &to_endings))?;
        let sandbox = Sandbox {
            socket: own,
            replies: Mutex::new(replies),
            endings: Mutex::new(Some(endings)),
            receiver: Some(receiver),
            keeper: Some(keeper),
            stage1,
            ended: Mutex::new(ended),
        };
        match sandbox.answer() {
            Ok(Report::Entered) => Ok(sandbox),
            Ok(Report::Failed(why)) | Err(why) => bail!("failed to make the sandbox: {why}"),
            Ok(other) => bail!("failed to make the sandbox: it said {other:?}"),
        }
    }

    /// Gives an order and waits for its proofs, or for why there are none.
    pub fn call(&self, order: &Order, fds: &[RawFd]) -> Result<Vec<Proof>, String> {
        match self.ask(order, fds)? {
            Report::Done(proofs) => Ok(proofs),
            Report::Failed(why) => Err(why),
            other => Err(format!("the sandbox answered {other:?}")),
        }
    }

    /// Gives an order and waits for its answer, whatever that is.
    pub fn ask(&self, order: &Order, fds: &[RawFd]) -> Result<Report, String> {
        // The lock makes an order and its answer one: answers carry no number.
        let replies = self.replies.lock().expect("no holder panics");
        channel::send(&self.socket, order, fds).map_err(|e| format!("the sandbox takes no orders: {e}"))?;
        wait_answer(&replies)
    }

    fn answer(&self) -> Result<Report, String> {
        wait_answer(&self.replies.lock().expect("no holder panics"))
    }

    /// The ends of processes that nobody had killed. Closed when the sandbox has ended. To be taken once.
    pub fn endings(&self) -> Receiver<Ending> {
        self.endings
            .lock()
            .expect("no holder panics")
            .take()
            .expect("taken once")
    }

    /// Ends everything inside, and waits until it has ended. Callers that wait for an answer get an error.
    pub fn end(&self) {
        // Init takes the end of its socket for the end of control.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let ended = self.ended.lock().expect("no holder panics");
        if ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            // SAFETY: a system call on a descriptor of ours; the process it stands for cannot be another's.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.stage1.as_raw_fd(),
                    libc::SIGKILL,
                    0,
                    0,
                )
            };
            let _ = ended.recv_timeout(END);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
        for thread in [self.keeper.take(), self.receiver.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

fn wait_answer(replies: &Receiver<Report>) -> Result<Report, String> {
    match replies.recv_timeout(ANSWER) {
        Ok(report) => Ok(report),
        Err(RecvTimeoutError::Disconnected) => Err("the sandbox has ended".into()),
        Err(RecvTimeoutError::Timeout) => Err(format!("the sandbox did not answer within {ANSWER:?}")),
    }
}

/// Starts stage 1 from a thread that lives as long as stage 1: the kernel kills it when that thread ends.
fn keep(mut command: Command) -> io::Result<(JoinHandle<()>, OwnedFd, Receiver<()>)> {
    let (started, start) = channel();
    let (end, ended) = channel::<()>();
    let keeper = helper("keeper", move || {
        let spawned = command.spawn();
        // Its copies of our descriptors (the socket's other end) must not outlive the start.
        drop(command);
        match spawned {
            Ok(mut child) => {
                let _ = started.send(pidfd(child.id()));
                let _ = child.wait();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
        drop(end);
    })?;
    let stage1 = start.recv().map_err(io::Error::other)??;
    Ok((keeper, stage1, ended))
}

/// A descriptor that stands for a process, and never for another one that got its pid later.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call without memory; what it returns is a new descriptor that nobody else owns.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor fits")) })
}

fn receive(socket: &OwnedFd, replies: &Sender<Report>, endings: &Sender<Ending>) {
    while let Ok(Some((report, _))) = channel::receive::<Report>(socket) {
        // Where nobody listens any more, the sandbox is being ended.
        match report {
            Report::Exited(exit) => drop(endings.send(Ending {
                host: exit.host,
                process: exit.process,
                life: exit.life,
                how: exit.how,
            })),
            answer => drop(replies.send(answer)),
        }
    }
}

/// A thread that takes no signals: those are for the program's own threads, and a closed pipe is an error to it.
pub(crate) fn helper(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let quiet = move || {
        let mut all = SigSet::all();
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
        ] {
            all.remove(fault);
        }
        let _ = all.thread_block();
        work();
    };
    thread::Builder::new().name(name.into()).spawn(quiet)
}
