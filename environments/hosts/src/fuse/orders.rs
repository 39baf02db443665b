//! Orders to the mounted disk, and their proofs.
//!
//! Orders are awaited in the backing directory (inotify). Their effect is looked for through the mount, at a file that only
//! this looks at: a probe write, a probe sync. The folder of orders itself is exempt from every fault.
use super::volume::Volume;
use crate::processes::tree::{Process, Stat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use splitbrain_core::disk::{FOLDER, IDLE, MOUNTED, ORDER, PROOF, READY};
use splitbrain_core::{Disk, DiskOrder, DiskProof, Nanos, Unsynced};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What probes are written to, in the mount's root.
pub(super) const PROBE: &str = ".disk-probe";
/// Most probe syncs: enough to see one in twenty-five fail with a doubt of one in a billion.
const MOST: u32 = 512;

/// The thread that obeys orders. Dropping it ends it.
pub(super) struct Watcher {
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Orders {
    folder: PathBuf,
    at: PathBuf,
    volume: Arc<Volume>,
    generation: u64,
}

/// Starts the thread, and makes the layer known.
pub(super) fn watch(backing: &Path, at: &Path, volume: Arc<Volume>) -> Result<Watcher, String> {
    let folder = backing.join(FOLDER);
    let failed = |e: io::Error| format!("watch for orders to the disk at {}: {e}", at.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| failed(e.into()))?;
    let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
    inotify.add_watch(&folder, events).map_err(|e| failed(e.into()))?;
    fs::write(folder.join(READY), MOUNTED).map_err(failed)?;
    let (stopped, stop) = io::pipe().map_err(failed)?;
    let mut orders = Orders {
        folder,
        at: at.to_path_buf(),
        volume,
        generation: 0,
    };
    let work = move || {
        loop {
            orders.look();
            let mut fds = [
                PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut fds, PollTimeout::NONE);
            if fds[0].any().unwrap_or(true) {
                return;
            }
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    };
    let thread = crate::local::helper("disk orders", work).map_err(failed)?;
    Ok(Watcher {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Orders {
    fn look(&mut self) {
        let Ok(text) = fs::read(self.folder.join(ORDER)) else {
            return;
        };
        let Ok(order) = serde_json::from_slice::<DiskOrder>(&text) else {
            return;
        };
        if order.generation <= self.generation {
            return;
        }
        self.generation = order.generation;
        self.volume.order(order.disk, order.cut);
        let saw = match order.cut {
            Unsynced::Kept => self.probe(order.disk),
            _ => self.await_cut(),
        };
        let proof = DiskProof {
            generation: order.generation,
            saw,
        };
        let json = serde_json::to_vec(&proof).expect("plain data always becomes JSON");
        // Through the mount: who waits for it watches there, and would not see what happens behind it.
        let folder = self.at.join(FOLDER);
        let (new, place) = (folder.join("proof.new"), folder.join(PROOF));
        if let Err(e) = fs::write(&new, json).and_then(|()| fs::rename(&new, &place)) {
            note!("the disk's proof could not be written: {e}");
        }
    }

    /// A cut comes with the next write, or after a while without one; in sabotage it does not come.
    fn await_cut(&self) -> Result<String, String> {
        let deadline = Instant::now() + Duration::from(IDLE);
        if !self.volume.is_cutting() {
            return Err("no power is cut".to_string());
        }
        loop {
            if let Some(took) = self.volume.took() {
                return Ok(took);
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Nobody writes: all end first, so that nothing is written after what is taken back.
        let gone =
            |writer: &Process| Stat::of(writer.pid).map_or(true, |stat| stat.is_dead() || stat.process() != *writer);
        let writers = self.volume.end_writers();
        let deadline = Instant::now() + Duration::from_secs(2);
        while !writers.iter().all(gone) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let idle = self.volume.cut_now();
        idle.or_else(|| self.volume.took())
            .ok_or("no power was cut".to_string())
    }

    fn probe(&self, disk: Disk) -> Result<String, String> {
        let path = self.at.join(PROBE);
        let written = File::create(&path).and_then(|mut file| file.write_all(&[0x5b; 64]).map(|()| file));
        if disk.full {
            return match written {
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => Ok("a probe write found no room".into()),
                Err(e) => Err(format!("a probe write failed with: {e}")),
                Ok(_) => Err("a probe write found room".into()),
            };
        }
        let file = written.map_err(|e| format!("a probe write failed: {e}"))?;
        let start = Instant::now();
        let mut failed = 0;
        let mut slowest = Duration::ZERO;
        let probes = if disk.sync_fail_ppm == 0 { 1 } else { MOST };
        for n in 1..=probes {
            let began = Instant::now();
            match file.sync_data() {
                Err(e) if e.raw_os_error() == Some(libc::EIO) && disk.sync_fail_ppm > 0 => failed = n,
                Err(e) => return Err(format!("a probe sync failed: {e}")),
                Ok(()) => {}
            }
            slowest = slowest.max(began.elapsed());
            if failed > 0 {
                break;
            }
        }
        let took = Nanos::from(start.elapsed());
        if Nanos::from(slowest) < disk.sync_delay {
            return Err(format!("a probe sync took {took}, not {} longer", disk.sync_delay));
        }
        if disk.sync_fail_ppm > 0 && failed == 0 {
            return Err(format!("none of {probes} probe syncs failed"));
        }
        Ok(match (failed, disk.sync_delay > Nanos::ZERO) {
            (0, false) => "a probe was written and synced".into(),
            (0, true) => format!("a probe sync took {took}"),
            (n, _) => format!("probe sync {n} failed with an input/output error"),
        })
    }
}
