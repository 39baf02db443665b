//! The agent's threads, from control's first word to the end.
//!
//! The first thread carries orders out, one after the other, and may be held up by what it does. The reader takes what
//! control sends: it answers beats, hands orders and bytes on, and never waits for a process. A third thread waits for the
//! guard's death.
//!
//! **The end.** When control's stream ends and nothing is left to undo, the agent says goodbye to its guard and ends. In any
//! other case it just ends ([`abandon`]), at once and whatever its threads are doing, and the guard heals the host: there is
//! one way in which a host is healed when things went wrong, and it is not by the process in which they went wrong.
use super::guard::Word;
use super::orders::Worker;
use super::proto::{Frame, FromHost, Greeting, Hello, Order, ToHost, VERSION, receive};
use super::state::{Lock, Owner, RUN, STATE, State};
use super::streams::{Out, Streams};
use super::{FINISH, heal};
use crate::linux::raw_now;
use crate::local::helper;
use crate::processes::tree::Stat;
use crate::remote::AGENT;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stdin, dup2_stdout, geteuid, getppid, setsid};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Ends the agent as it is; the guard then heals the host.
pub(super) fn abandon(why: &str) -> ! {
    note!("the agent ends: {why}");
    // SAFETY: ends the process; nothing that is registered for its end matters.
    unsafe { libc::_exit(1) }
}

/// Serves control until it is gone. `lock` was opened for this host, or could not be. Returns the exit code.
pub(super) fn run(lock: Result<(State, Lock), String>, guard: OwnedFd) -> i32 {
    let (mut input, output) = match take_streams() {
        Ok(streams) => streams,
        Err(error) => {
            note!("the agent cannot start: {error}");
            return 1;
        }
    };
    let out = Out::new(output);
    let hello = match receive::<ToHost>(&mut input) {
        Ok(Some(Frame::Message(ToHost::Hello(hello)))) => hello,
        Ok(None) => return 0,
        other => {
            note!("control's first word is no greeting: {other:?}");
            return 1;
        }
    };
    let admitted = lock.and_then(|(state, lock)| {
        admit(&hello, &state, &lock, &guard)?;
        let (worker, greeting) = Worker::start(&hello, state, out.clone())?;
        Ok((worker, greeting, lock))
    });
    let (worker, greeting, _lock) = match admitted {
        Ok(admitted) => admitted,
        Err(why) => {
            out.send(&FromHost::Refused(why));
            return 1;
        }
    };
    match Agent::start(worker, greeting, input, out, guard) {
        Ok(never) => match never {},
        Err(error) => abandon(&format!("a thread does not start: {error}")),
    }
}

/// Takes control's stream away from standard input and output: nothing else may read from it or write to it.
fn take_streams() -> io::Result<(File, File)> {
    setsid()?;
    prctl::set_child_subreaper(true)?;
    let copy = |fd: OwnedFd| File::from(fd);
    let (input, output) = (duplicate(io::stdin())?, duplicate(io::stdout())?);
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(io::stderr())?;
    Ok((copy(input), copy(output)))
}

fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the descriptor was made by the call above and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes the host for this run, unless it cannot be used.
fn admit(hello: &Hello, state: &State, lock: &Lock, guard: &OwnedFd) -> Result<(), String> {
    if hello.version != VERSION {
        return Err(format!(
            "the agent speaks version {VERSION} and control {}: both must be the same program",
            hello.version
        ));
    }
    if !geteuid().is_root() {
        return Err("the agent has not the rights of root, which faults need: log in as root, or allow sudo".into());
    }
    if !lock
        .take()
        .map_err(|e| format!("failed to lock {}: {e}", state.dir().display()))?
    {
        return Err(format!(
            "the host is in use by {}: wait for its end, or run `splitbrain heal`",
            heal::user(lock)
        ));
    }
    let left = heal::leftovers(state);
    if !left.is_empty() {
        return Err(format!(
            "an earlier run left on this host: {}; run `splitbrain heal`",
            left.join(", ")
        ));
    }
    let process = |pid: i32| Stat::of(pid).map(|stat| stat.process());
    let own = i32::try_from(std::process::id()).expect("a pid fits");
    let owner = process(own).and_then(|agent| {
        Ok(Owner {
            run: hello.run.clone(),
            guard: process(getppid().as_raw())?,
            agent,
        })
    });
    lock.name(&owner.map_err(|e| format!("failed to read /proc: {e}"))?)?;
    // What this process runs carries the mark too.
    // SAFETY: this process has one thread as yet.
    unsafe {
        std::env::set_var(RUN, &hello.run);
        std::env::set_var(STATE, state.dir());
    }
    let armed = Word::Armed(hello.dead_man.0).tell(guard);
    armed.map_err(|e| format!("the guard does not listen: {e}"))
}

/// What comes to the thread that carries orders out.
pub(super) struct Asked {
    pub id: u64,
    pub order: Order,
}

/// The reader's belongings.
struct Agent {
    out: Out,
    streams: Arc<Streams>,
    guard: Arc<OwnedFd>,
    orders: Sender<Asked>,
    /// Wakes the thread that carries orders out.
    bell: Arc<EventFd>,
    /// Held while an order is carried out.
    busy: Arc<Mutex<()>>,
    /// True as long as there is nothing to undo.
    clean: Arc<AtomicBool>,
}

/// Of what does not return.
enum Never {}

impl Agent {
    fn start(mut worker: Worker, greeting: Greeting, input: File, out: Out, guard: OwnedFd) -> io::Result<Never> {
        let (orders, asked) = channel();
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let agent = Agent {
            out: out.clone(),
            streams: worker.streams(),
            guard: Arc::new(guard),
            orders,
            bell: Arc::new(bell),
            busy: Arc::default(),
            clean: worker.is_clean(),
        };
        let (bell, busy, guard) = (
            Arc::clone(&agent.bell),
            Arc::clone(&agent.busy),
            Arc::clone(&agent.guard),
        );
        helper("guard", move || outlive(&guard))?;
        out.send(&FromHost::Hello(greeting));
        helper("reader", move || agent.read(input))?;
        let error = worker.work(&asked, &bell, &busy);
        abandon(&format!("orders cannot be awaited: {error}"))
    }

    fn read(self, mut input: File) {
        loop {
            let frame = match receive::<ToHost>(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => self.end(),
                Err(error) => abandon(&format!("control's stream breaks: {error}")),
            };
            if let Err(error) = Word::Alive.tell(&self.guard) {
                abandon(&format!("the guard does not listen: {error}"));
            }
            match frame {
                Frame::Message(message) => self.heed(message),
                Frame::Data(stream, bytes) => {
                    if let Err(why) = self.streams.incoming(stream, &bytes) {
                        abandon(&format!("control sends {why}"));
                    }
                }
            }
        }
    }

    fn heed(&self, message: ToHost) {
        match message {
            ToHost::Hello(_) => abandon("control greets twice"),
            ToHost::Beat { n } => self.out.send(&FromHost::Beat { n, raw: raw_now() }),
            ToHost::Do { id, order } => {
                // The other end lives as long as this process.
                let _ = self.orders.send(Asked { id, order });
                let _ = self.bell.write(1);
            }
            ToHost::Credit { stream, bytes } => self.streams.granted(stream, bytes),
            ToHost::Close { stream } => self.streams.close(stream),
        }
    }

    fn end(&self) -> ! {
        // Nothing is carried out from here on.
        let Ok(_idle) = self.busy.try_lock() else {
            abandon("control is gone in the middle of an order")
        };
        if !self.clean.load(Ordering::SeqCst) {
            abandon("control is gone without having healed the host");
        }
        let _ = Word::Bye.tell(&self.guard);
        // SAFETY: ends the process; nothing that is registered for its end matters.
        unsafe { libc::_exit(0) }
    }
}

/// Waits for the guard's death, then becomes what heals the host: the same process, so that what descends from it still
/// does, without its threads.
fn outlive(guard: &OwnedFd) {
    // The guard never says anything.
    while recv(guard.as_raw_fd(), &mut [0], MsgFlags::empty()) == Err(Errno::EINTR) {}
    let error = Command::new("/proc/self/exe").args([AGENT, FINISH]).exec();
    abandon(&format!("the guard is gone, and healing does not start: {error}"))
}
