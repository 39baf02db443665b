//! The node's own disk layer: every write and sync of the log goes through here, and can be made to go wrong.
//!
//! **Problem.** A member must survive a disk that is full, slow or failing, and a power cut in mid-write. The machine's
//! disk cannot be broken for one process's sake. **Mechanism.** The layer follows the protocol of
//! [`splitbrain_core::disk`]: a thread waits (inotify) for orders in the process's directory, adopts each between two
//! operations of the log, and proves it by probes that go through [`Held::write`] and [`Held::sync`] like everything else.
//! Whoever works on the log holds the layer from the first byte to the last sync, so an order is adopted before an
//! operation or after it, and what was proven holds for every operation that begins later.
//!
//! **What each fault does.** A *full* disk takes half of a write and refuses the rest, as disks do. A *slow* one sleeps
//! in each sync: the caller's thread stands still, as in the kernel. A *failing* sync returns the input/output error at
//! once. A *power cut* ends the process by SIGKILL in the middle of its next write, of which the disk gets nothing (lost)
//! or a part (torn); a process that writes nothing meets its end after [`IDLE`] all the same.
//!
//! While nothing is ordered the layer costs one uncontended lock an operation, and no system call.
//!
//! Caveats. (1) What was written before the last completed sync is never lost, and the log syncs at the end of each
//! operation: a cut loses of the one that is under way. (2) After a failed sync the bytes are still in the file, where a
//! kernel may have dropped them; the process ends either way, and a member that finds them again has lost nothing. (3)
//! Delays are measured by the process's own monotonic clock, which a clock fault may skew at the same time.
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use rand::RngExt;
use splitbrain_core::disk::{FOLDER, IDLE, ORDER, PROOF, READY};
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Disk, DiskOrder, DiskProof, Nanos, Unsynced};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a probe.
const PROBE: &[u8] = &[0x5b; 64];
/// Most probe syncs: enough to see one in twenty-five fail with a doubt of one in a billion.
const MOST: u32 = 512;

/// Whether `error` says that there is no room; whatever was written of that operation is to be cut off again.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The layer of one process's directory. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Layer {
    state: Arc<Mutex<State>>,
    /// Closed, it ends the thread.
    stop: Option<io::PipeWriter>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    generation: u64,
    disk: Disk,
    cut: Unsynced,
    rng: Rng,
    die: fn() -> !,
    /// For tests: orders are noted and do nothing.
    blunt: bool,
}

/// The layer, held for one operation of the log.
pub(crate) struct Held<'a>(MutexGuard<'a, State>);

impl Layer {
    /// Makes the folder, obeys the order that stands there, if one does, and waits for others from now on.
    ///
    /// # Errors
    /// The folder cannot be made or watched, or what stands there is no order.
    pub(crate) fn open(dir: &Path) -> Result<Layer> {
        Layer::with(dir, end_by_sigkill, false)
    }

    /// As [`Layer::open`], with another way to die.
    pub(crate) fn with(dir: &Path, die: fn() -> !, blunt: bool) -> Result<Layer> {
        let folder = dir.join(FOLDER);
        let at = || format!("set up the disk layer in {}", folder.display());
        std::fs::create_dir_all(&folder).with_context(at)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).with_context(at)?;
        inotify
            .add_watch(&folder, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE)
            .with_context(at)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut state = State {
            rng: seed::stream(Nanos::from(now).0, "disk layer"),
            folder: folder.clone(),
            generation: 0,
            disk: Disk::default(),
            cut: Unsynced::Kept,
            die,
            blunt,
        };
        if let Some(order) = read_order(&folder).with_context(at)? {
            // A cut was for the life that was given it.
            let cut = Unsynced::Kept;
            state.adopt(DiskOrder { cut, ..order });
        }
        put(&folder, READY, b"the node's storage layer\n").with_context(at)?;
        let state = Arc::new(Mutex::new(state));
        let (stopped, stop) = io::pipe().with_context(at)?;
        let shared = state.clone();
        let watcher = std::thread::Builder::new()
            .name("disk layer".into())
            .spawn(move || watch(&shared, &inotify, &stopped))
            .with_context(at)?;
        Ok(Layer {
            state,
            stop: Some(stop),
            watcher: Some(watcher),
        })
    }

    /// Waits until no order is being adopted, and keeps further ones out.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(lock(&self.state))
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(watcher) = self.watcher.take() {
            // Its panic was a death, which only tests survive.
            let _ = watcher.join();
        }
    }
}

impl Held<'_> {
    /// Writes all of `bytes`, unless the disk is full, or the power is cut.
    pub(crate) fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.0.write(file, bytes)
    }

    /// Makes durable what was written, unless the sync fails; slowly, if syncs are slow.
    pub(crate) fn sync(&mut self, file: &File) -> io::Result<()> {
        self.0.sync(|| file.sync_data())
    }
}

// A lock is poisoned by a death, which only tests survive.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if self.cut != Unsynced::Kept {
            self.cut_power(file, bytes);
        }
        if self.disk.full && !self.blunt {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(Errno::ENOSPC.into());
        }
        file.write_all(bytes)
    }

    fn sync(&mut self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if !self.blunt {
            if self.disk.sync_delay > Nanos::ZERO {
                std::thread::sleep(self.disk.sync_delay.into());
            }
            if self.disk.sync_fail_ppm > 0 && self.rng.random_range(0..1_000_000) < self.disk.sync_fail_ppm {
                return Err(Errno::EIO.into());
            }
        }
        sync()
    }

    /// Ends the process in the middle of writing `bytes`.
    fn cut_power(&mut self, file: &mut File, bytes: &[u8]) -> ! {
        let kept = match self.cut {
            Unsynced::Torn if bytes.len() > 1 => self.rng.random_range(1..bytes.len()),
            _ => 0,
        };
        let lost = bytes.len() - kept;
        let saw = match file.write_all(&bytes[..kept]) {
            Ok(()) => Ok(format!("{lost} of {} unsynced bytes were lost", bytes.len())),
            Err(e) => Err(format!("the part to keep could not be written: {e}")),
        };
        self.prove(saw);
        (self.die)()
    }

    /// Obeys `order` from now on, and proves it. One of an old generation was obeyed already.
    fn adopt(&mut self, order: DiskOrder) {
        if order.generation <= self.generation {
            return;
        }
        self.generation = order.generation;
        self.disk = order.disk;
        self.cut = Unsynced::Kept;
        let saw = self.probe();
        // A cut is proven by what it cuts; only a disk that cannot be set up fails it before.
        match (order.cut, saw) {
            (Unsynced::Kept, saw) => self.prove(saw),
            (_, Err(why)) => self.prove(Err(why)),
            (cut, Ok(_)) => self.cut = cut,
        }
    }

    /// Looks whether the disk is what it should be.
    fn probe(&mut self) -> Result<String, String> {
        let path = self.folder.join("probe");
        let mut file = File::create(&path).map_err(|e| format!("no probe could be made: {e}"))?;
        let seen = self.probe_with(&mut file);
        let _ = std::fs::remove_file(&path);
        seen
    }

    fn probe_with(&mut self, file: &mut File) -> Result<String, String> {
        let mut saw = Vec::new();
        match (self.write(file, PROBE), self.disk.full) {
            (Err(e), true) if is_no_room(&e) => saw.push("a write found no room".to_string()),
            (Err(e), _) => return Err(format!("a probe could not be written: {e}")),
            (Ok(()), true) => return Err(format!("a write of {} bytes found room", PROBE.len())),
            (Ok(()), false) => {}
        }
        if self.disk.sync_fail_ppm > 0 {
            saw.push(self.probe_failing()?);
        }
        let Disk {
            sync_delay,
            sync_fail_ppm,
            full,
        } = self.disk;
        if sync_delay > Nanos::ZERO {
            let began = Instant::now();
            let ended = self.sync(|| file.sync_data());
            let took = Nanos::from(began.elapsed());
            match ended {
                Err(e) if sync_fail_ppm == 0 => return Err(format!("a sync failed: {e}")),
                _ if took < sync_delay => return Err(format!("a sync took {took}, and not {sync_delay}")),
                _ => saw.push(format!("a sync took {took}")),
            }
        } else if sync_fail_ppm == 0 && !full {
            let synced = self.sync(|| file.sync_data());
            synced.map_err(|e| format!("a sync failed: {e}"))?;
            saw.push("a write and a sync went well".to_string());
        }
        Ok(saw.join(", "))
    }

    /// Rolls the die of [`State::sync`] until it fails, without delays and without the disk.
    fn probe_failing(&mut self) -> Result<String, String> {
        let slow = std::mem::replace(&mut self.disk.sync_delay, Nanos::ZERO);
        let failed = (1..=MOST).find(|_| self.sync(|| Ok(())).is_err());
        self.disk.sync_delay = slow;
        let passes = 1.0 - f64::from(self.disk.sync_fail_ppm.min(1_000_000)) / 1e6;
        match failed {
            Some(1) => Ok("a sync failed".to_string()),
            Some(n) => Ok(format!("sync {n} failed")),
            None if passes.powi(MOST as i32) > 1e-9 => Ok(format!("too rare to show in {MOST} syncs: one that fails")),
            None => Err(format!("none of {MOST} syncs failed")),
        }
    }

    fn prove(&self, saw: Result<String, String>) {
        let generation = self.generation;
        let proof = serde_json::to_vec(&DiskProof { generation, saw }).expect("plain data always becomes JSON");
        if let Err(e) = put(&self.folder, PROOF, &proof) {
            crate::log::note(format_args!(
                "failed to prove a disk order in {}: {e}",
                self.folder.display()
            ));
        }
    }
}

/// Adopts orders as they come, and ends a process that is to lose its power and writes nothing.
fn watch(state: &Mutex<State>, inotify: &Inotify, stopped: &io::PipeReader) {
    loop {
        let armed = lock(state).cut != Unsynced::Kept;
        let timeout = match armed {
            true => PollTimeout::try_from(IDLE.0 / 1_000_000).expect("a short time"),
            false => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(0) => {
                let state = lock(state);
                if state.cut != Unsynced::Kept {
                    state.prove(Ok("nothing was unsynced".to_string()));
                    (state.die)();
                }
                continue;
            }
            Ok(_) if fds[1].revents().is_some_and(|seen| !seen.is_empty()) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return crate::log::note(format_args!("failed to wait for disk orders: {e}")),
        }
        // What the events say does not matter: the order in the file does.
        let _ = inotify.read_events();
        let mut state = lock(state);
        match read_order(&state.folder) {
            Ok(Some(order)) => state.adopt(order),
            Ok(None) => {}
            Err(e) => crate::log::note(format_args!("failed to read a disk order: {e:#}")),
        }
    }
}

fn read_order(folder: &Path) -> Result<Option<DiskOrder>> {
    let path = folder.join(ORDER);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("{} is no order", path.display()))?,
        )),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes a file of the folder, whole or not at all.
fn put(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.draft"));
    std::fs::write(&draft, content)?;
    std::fs::rename(&draft, folder.join(name))
}

fn end_by_sigkill() -> ! {
    let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
pub(crate) mod tests;
