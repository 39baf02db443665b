//! Standing still: every thread of a process is stopped, looked at and let go again, by `ptrace(2)`.
//!
//! A process must not run in the bytes that are being replaced. So all its threads are seized (which sends no signal) and
//! interrupted; whatever happens afterwards, [`Still`] lets all of them go when it is dropped, and the kernel does so should
//! this program die. A process that was stopped by SIGSTOP before is still stopped by it afterwards.
//!
//! A thread that waits for its disk cannot be stopped before the disk has answered, and need not be: it is inside the
//! kernel, and will stop before it runs an instruction of its own. What must be known is where it will go on, which
//! `/proc/PID/task/TID/syscall` tells.
//!
//! **Who may.** `ptrace` belongs to the thread that seized: all of it happens within one call. An end of a thread that is
//! seen here is left for whoever waits for that process, if that is this program.
//!
//! Caveats: no other thread of this program may reap children (`waitpid(-1)`) at the same time. A program that ignores or
//! blocks SIGTRAP has it at its default afterwards where one of its threads had to be stepped.
use super::regs::Regs;
use crate::processes::tree::Stat;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a thread may take to stop, unless it is inside the kernel.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long a thread that did not stop is looked at for being inside the kernel.
const SOON: Duration = Duration::from_millis(1);
/// How long one that waits for its disk is awaited to be let go; after that it is tried again by [`late`].
const DISK: Duration = Duration::from_secs(1);
/// Steps after which a thread ought to have left some bytes.
const STEPS: usize = 2_000;
/// Bytes of a stack that are looked at for a signal's frame.
const FRAME: usize = 32 * 1024;

/// Why a process could not be held.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It has ended, or has become another program meanwhile.
    Gone,
    /// A signal's handler will return into the bytes: later.
    Busy,
    /// This.
    Other(String),
}

/// A thread, seized.
#[derive(Debug)]
struct Thread {
    tid: i32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked to stop.
    Asked,
    /// Inside the kernel for long, and will go on outside of what was asked to be left.
    Inside,
    Stopped,
}

/// A process of which no thread runs.
pub(super) struct Still {
    pid: i32,
    threads: Vec<Thread>,
    since: Instant,
    memory: File,
}

/// What a thread that is traced has done.
enum Event {
    /// Nothing yet.
    None,
    /// It stands, because we asked or because of a stop signal.
    Stop,
    /// It stands with a signal that it has not got yet.
    Signal(i32),
    Ended,
}

impl Still {
    /// Stops all threads of a process. None of them stands in `bytes` then, nor returns there from a signal's handler.
    pub fn hold(pid: i32, memory: File, bytes: &[Range<u64>]) -> Result<Still, Trouble> {
        let mut still = Still {
            pid,
            threads: Vec::new(),
            since: Instant::now(),
            memory,
        };
        // A thread that was not seized yet may start another one: look again until there is none.
        while still.seize()? > 0 {
            still.settle()?;
        }
        if still.threads.is_empty() {
            return Err(Trouble::Gone);
        }
        if !bytes.is_empty() {
            still.leave(bytes)?;
        }
        Ok(still)
    }

    /// The process's memory.
    pub fn memory(&self) -> &File {
        &self.memory
    }

    /// A thread that stands, for a call; the first thread if it can be it.
    pub fn standing(&self) -> impl Iterator<Item = i32> + '_ {
        let stand = self.threads.iter().filter(|thread| thread.state == State::Stopped);
        stand.map(|thread| thread.tid)
    }

    /// Lets the process go on. How long it was held.
    pub fn release(mut self) -> Duration {
        self.let_go()
    }

    /// Seizes the threads that were not; how many that were.
    fn seize(&mut self) -> Result<usize, Trouble> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).map_err(|_| Trouble::Gone)?;
        let tids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let new: Vec<i32> = tids
            .filter(|tid| self.threads.iter().all(|thread| thread.tid != *tid))
            .collect();
        let mut seized = 0;
        for tid in new {
            match request(libc::PTRACE_SEIZE, tid, 0, 0) {
                Ok(()) => {}
                Err(Errno::ESRCH) => continue,
                Err(_) if thread_is_dead(self.pid, tid) => continue,
                Err(error) => return Err(Trouble::Other(refused(self.pid, error))),
            }
            seized += 1;
            // An error means that it has just ended, which waiting will tell.
            let _ = request(libc::PTRACE_INTERRUPT, tid, 0, 0);
            self.threads.push(Thread {
                tid,
                state: State::Asked,
            });
        }
        Ok(seized)
    }

    /// Waits until all threads stand, or are inside the kernel for longer.
    fn settle(&mut self) -> Result<(), Trouble> {
        let begin = Instant::now();
        loop {
            self.threads.retain_mut(|thread| {
                if thread.state != State::Asked {
                    return true;
                }
                match event(self.pid, thread.tid) {
                    Event::None => {}
                    Event::Stop => thread.state = State::Stopped,
                    // It gets its signal, and stops at the handler's first instruction.
                    Event::Signal(signal) => drop(request(libc::PTRACE_CONT, thread.tid, 0, signal)),
                    Event::Ended => return false,
                }
                true
            });
            let mut waiting = self.threads.iter_mut().filter(|thread| thread.state == State::Asked);
            let Some(first) = waiting.next() else {
                return Ok(());
            };
            if begin.elapsed() > SOON && inside(self.pid, first.tid).is_some() {
                first.state = State::Inside;
            } else if begin.elapsed() > SOON && thread_is_dead(self.pid, first.tid) {
                // Its end cannot be seen while other threads of a process that was killed are traced.
                return Err(Trouble::Gone);
            } else if begin.elapsed() > PATIENCE {
                let (pid, tid) = (self.pid, first.tid);
                return Err(Trouble::Other(format!(
                    "stop thread {tid} of pid {pid}: it did not in {PATIENCE:?}"
                )));
            }
            give_way();
        }
    }

    /// Sees to it that no thread goes on inside of `bytes`.
    fn leave(&mut self, bytes: &[Range<u64>]) -> Result<(), Trouble> {
        let stands = |at: u64| bytes.iter().any(|range| range.contains(&at));
        for thread in &self.threads {
            if thread.state == State::Inside {
                let fine = |(stack, at)| !stands(at) && !self.returns_there(stack, stands);
                if !inside(self.pid, thread.tid).is_some_and(fine) {
                    return Err(Trouble::Busy);
                }
                continue;
            }
            let mut regs = match Regs::of(thread.tid) {
                Err(Errno::ESRCH) => continue,
                other => other.map_err(|e| Trouble::Other(format!("read registers of pid {}: {e}", self.pid)))?,
            };
            if stands(regs.at()) {
                regs = self.step_out(thread.tid, stands)?;
            }
            if self.returns_there(regs.stack(), stands) {
                return Err(Trouble::Busy);
            }
        }
        Ok(())
    }

    fn step_out(&self, tid: i32, stands: impl Fn(u64) -> bool) -> Result<Regs, Trouble> {
        let failed = |e: Errno| match e {
            Errno::ESRCH => Trouble::Gone,
            e => Trouble::Other(format!("step thread {tid} of pid {}: {e}", self.pid)),
        };
        let quiet = Quiet::begin(self.pid, tid).map_err(failed)?;
        for _ in 0..STEPS {
            quiet.until_trap(libc::PTRACE_SINGLESTEP)?;
            let regs = Regs::of(tid).map_err(failed)?;
            if !stands(regs.at()) {
                return Ok(regs);
            }
        }
        Err(Trouble::Busy)
    }

    /// Whether some word on a stack is such an address, as in the frame of a signal that came there.
    fn returns_there(&self, stack: u64, stands: impl Fn(u64) -> bool) -> bool {
        let mut bytes = vec![0; FRAME];
        let got = self.memory.read_at(&mut bytes, stack).unwrap_or(0);
        let mut words = bytes[..got].as_chunks::<8>().0.iter();
        words.any(|word| stands(u64::from_ne_bytes(*word)))
    }

    /// Makes one thread call `function(first, second)` by way of the trampoline, with a stack below its own of which nothing
    /// remains. Returns what it returned and the 16 bytes at `second`, which is on that stack.
    pub fn call(&self, tid: i32, trampoline: u64, function: u64, first: u64) -> Result<(u64, [u8; 16]), Trouble> {
        const STACK: u64 = 512;
        let odd = |what: &str, e: &dyn std::fmt::Display| Trouble::Other(format!("{what} pid {}: {e}", self.pid));
        let gone = |what: &str, e: Errno| {
            if e == Errno::ESRCH {
                Trouble::Gone
            } else {
                odd(what, &e)
            }
        };
        let own = Regs::of(tid).map_err(|e| gone("read registers of", e))?;
        // Beyond the red zone, which the thread may use below its stack pointer.
        let low = (own.stack() - 128 - STACK) & !15;
        let mut kept = [0; STACK as usize];
        self.memory
            .read_exact_at(&mut kept, low)
            .map_err(|e| odd("read the stack of", &e))?;
        let result = low + STACK - 32;
        let quiet = Quiet::begin(self.pid, tid).map_err(|e| gone("silence signals of", e))?;
        let run = || -> Result<_, Trouble> {
            let call = own.calling(trampoline, function, [first, result], low + STACK - 64);
            call.set(tid).map_err(|e| gone("set registers of", e))?;
            quiet.until_trap(libc::PTRACE_CONT)?;
            let after = Regs::of(tid).map_err(|e| gone("read registers of", e))?;
            let mut bytes = [0; 16];
            self.memory
                .read_exact_at(&mut bytes, result)
                .map_err(|e| odd("read the stack of", &e))?;
            Ok((after.returned(), bytes))
        };
        let got = run();
        let restored = own.set(tid).map_err(|e| gone("restore registers of", e));
        let written = self
            .memory
            .write_all_at(&kept, low)
            .map_err(|e| odd("restore the stack of", &e));
        let got = got?;
        restored?;
        written?;
        Ok(got)
    }

    /// Returns how long those stood that could be stopped.
    fn let_go(&mut self) -> Duration {
        // Those that stand first: they need not wait for the others.
        let detach = |tid| request(libc::PTRACE_DETACH, tid, 0, 0).is_ok();
        self.threads
            .retain(|thread| thread.state != State::Stopped || !detach(thread.tid));
        let (held, begin) = (self.since.elapsed(), Instant::now());
        loop {
            // What is left waits for its disk, or was killed. An end has to be seen here, or the process never ends for its
            // parent; and the first thread's cannot be seen before all others' were.
            self.threads.retain(|thread| !let_go_if_it_stands(self.pid, thread.tid));
            if self.threads.is_empty() {
                return held;
            }
            if begin.elapsed() > DISK {
                let late = self.threads.drain(..).map(|thread| (self.pid, thread.tid));
                LATE.with_borrow_mut(|all| all.extend(late));
                return held;
            }
            give_way();
        }
    }
}

thread_local! {
    /// Threads that are traced by this one and were not let go, since they did not stand yet.
    static LATE: RefCell<Vec<(i32, i32)>> = const { RefCell::new(Vec::new()) };
}

/// Lets threads go that waited for their disk for very long when all others were let go. Whether none is left.
pub(super) fn late() -> bool {
    LATE.with_borrow_mut(|late| {
        late.retain(|(pid, tid)| !let_go_if_it_stands(*pid, *tid));
        late.is_empty()
    })
}

fn let_go_if_it_stands(pid: i32, tid: i32) -> bool {
    let signal = match event(pid, tid) {
        Event::None => return false,
        Event::Stop => 0,
        Event::Signal(signal) => signal,
        Event::Ended => return true,
    };
    let _ = request(libc::PTRACE_DETACH, tid, 0, signal);
    true
}

impl Drop for Still {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A thread that gets no signals but those of its own doing. Those that come wait in the kernel.
struct Quiet {
    pid: i32,
    tid: i32,
    mask: u64,
    /// A stop signal came, which cannot be made to wait.
    stop: Cell<bool>,
}

impl Quiet {
    fn begin(pid: i32, tid: i32) -> Result<Quiet, Errno> {
        let mut mask = 0_u64;
        let all = !(1_u64 << (libc::SIGTRAP - 1));
        mask_request(libc::PTRACE_GETSIGMASK, tid, &raw mut mask)?;
        mask_request(libc::PTRACE_SETSIGMASK, tid, (&raw const all).cast_mut())?;
        let stop = Cell::new(false);
        Ok(Quiet { pid, tid, mask, stop })
    }

    /// Lets it run (or step) until it stands by a trap.
    fn until_trap(&self, run: libc::c_uint) -> Result<(), Trouble> {
        let (pid, tid) = (self.pid, self.tid);
        let begin = Instant::now();
        let go_on = || request(run, tid, 0, 0).map_err(|_| Trouble::Gone);
        go_on()?;
        loop {
            match event(pid, tid) {
                Event::Signal(libc::SIGTRAP) => return Ok(()),
                Event::Signal(libc::SIGSTOP) => {
                    self.stop.set(true);
                    go_on()?;
                }
                Event::Signal(signal) => {
                    return Err(Trouble::Other(format!(
                        "thread {tid} of pid {pid} got signal {signal} in our code"
                    )));
                }
                // A stop signal, or our own asking that came late: neither moves the thread.
                Event::Stop => go_on()?,
                Event::Ended => return Err(Trouble::Gone),
                // Its end cannot be seen while other threads of a process that was killed are traced.
                Event::None if begin.elapsed() > SOON && thread_is_dead(pid, tid) => return Err(Trouble::Gone),
                Event::None if begin.elapsed() > PATIENCE => {
                    return Err(Trouble::Other(format!("thread {tid} of pid {pid} never came back")));
                }
                Event::None => give_way(),
            }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // An error means that the thread is gone.
        let _ = mask_request(libc::PTRACE_SETSIGMASK, self.tid, &raw mut self.mask);
        if self.stop.get() {
            // It takes effect once the process is let go.
            let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), Signal::SIGSTOP);
        }
    }
}

/// Lets others run for a moment. There is no waiting for a thread with an end to the waiting, and who only yields is in the
/// way of those that are to stop.
fn give_way() {
    std::thread::sleep(Duration::from_micros(5));
}

fn request(request: libc::c_uint, tid: i32, address: usize, data: i32) -> Result<(), Errno> {
    // SAFETY: none of the requests that this is called with touches memory of ours.
    let done = unsafe { libc::ptrace(request, tid, address, data as libc::c_long) };
    Errno::result(done).map(drop)
}

fn mask_request(request: libc::c_uint, tid: i32, mask: *mut u64) -> Result<(), Errno> {
    // SAFETY: the mask is eight bytes of ours, as the second argument says.
    let done = unsafe { libc::ptrace(request, tid, 8, mask) };
    Errno::result(done).map(drop)
}

/// What a thread has done since it was last asked. An end stays to be seen by who waits for our own child's.
fn event(pid: i32, tid: i32) -> Event {
    let look = |flags| {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = flags | libc::WNOHANG | libc::__WALL;
        // SAFETY: the kernel writes one siginfo, to a place of ours.
        let done = unsafe { libc::waitid(libc::P_PID, tid.cast_unsigned(), info.as_mut_ptr(), flags) };
        Errno::result(done)?;
        // SAFETY: zeroed at least, which is valid.
        let info = unsafe { info.assume_init() };
        // SAFETY: waitid fills these in, or leaves zeros.
        Ok(unsafe { (info.si_pid() != 0).then(|| (info.si_code, info.si_status())) })
    };
    let (code, status) = match look(libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT) {
        Ok(None) | Err(Errno::EINTR) => return Event::None,
        Err(_) => return Event::Ended,
        Ok(Some(seen)) => seen,
    };
    match code {
        libc::CLD_TRAPPED | libc::CLD_STOPPED => {
            let _: Result<_, Errno> = look(libc::WSTOPPED);
            if status >> 8 == libc::PTRACE_EVENT_STOP || code == libc::CLD_STOPPED {
                Event::Stop
            } else {
                Event::Signal(status & 0x7f)
            }
        }
        _ => {
            let ours = Stat::of(pid).is_ok_and(|stat| stat.parent == std::process::id().cast_signed());
            if !(ours && tid == pid) {
                // Until the tracer has seen it, its own parent does not.
                let _: Result<_, Errno> = look(libc::WEXITED);
            }
            Event::Ended
        }
    }
}

/// With which stack, and where, a thread that is blocked inside the kernel will go on.
fn inside(pid: i32, tid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let mut words = text.split_whitespace().rev();
    let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let at = number()?;
    Some((number()?, at))
}

fn thread_is_dead(pid: i32, tid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"));
    let state = |stat: String| stat.rsplit_once(')')?.1.trim_start().chars().next();
    stat.ok().and_then(state).is_none_or(|state| matches!(state, 'Z' | 'X'))
}

/// Why a process cannot be seized, and what to do.
fn refused(pid: i32, error: Errno) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))
        .map(str::trim);
    let why = match (tracer, yama()) {
        (Some(tracer), _) if tracer != "0" => format!("pid {tracer} traces it already (a debugger, strace): end that"),
        (_, 3) => "kernel.yama.ptrace_scope is 3, which forbids it until the next boot".to_string(),
        (_, 1 | 2) => "kernel.yama.ptrace_scope forbids it: set it to 0, or run as root".to_string(),
        _ => "it needs the same user, or root with CAP_SYS_PTRACE".to_string(),
    };
    format!("hold pid {pid} (ptrace): {error}: {why}")
}

/// How far Yama restricts `ptrace`; 0 where there is no Yama.
fn yama() -> u32 {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.ok().and_then(|scope| scope.trim().parse().ok()).unwrap_or(0)
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Other(error.to_string())
    }
}
