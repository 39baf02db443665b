//! What a disk does to writes and syncs, and what a power cut takes back.
use crate::processes::tree::{Process, Stat};
use nix::sys::signal::Signal;
use rand::RngExt;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Disk, Unsynced};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes of unsynced writes that can be taken back.
pub(super) const MOST: usize = 64 << 20;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: u64 = 512;

/// What stood where a write went.
struct Undo {
    inode: u64,
    file: Arc<File>,
    offset: u64,
    old: Vec<u8>,
    /// The file's length before.
    length: u64,
    serial: u64,
}

/// What becomes of a write.
pub(super) enum Fate {
    /// Written, all of it.
    Written,
    /// Refused with this error number.
    Refused(i32),
    /// The power is cut: end the writer.
    Cut,
}

struct State {
    disk: Disk,
    cut: Unsynced,
    /// What the last cut took back, until somebody asked.
    took: Option<String>,
    undo: VecDeque<Undo>,
    bytes: usize,
    serial: u64,
    /// Who opened a file to write since the last cut.
    writers: BTreeSet<Process>,
    rng: Rng,
}

/// The disk as a whole.
pub(super) struct Volume {
    state: Mutex<State>,
    sabotage: bool,
}

impl Volume {
    pub fn new(seed: u64, sabotage: bool) -> Volume {
        let state = State {
            disk: Disk::default(),
            cut: Unsynced::Kept,
            took: None,
            undo: VecDeque::new(),
            bytes: 0,
            serial: 0,
            writers: BTreeSet::new(),
            rng: seed::stream(seed, "disk"),
        };
        Volume {
            state: Mutex::new(state),
            sabotage,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the disk is so, and a cut comes with the next write unless it is `Kept`.
    pub fn order(&self, disk: Disk, cut: Unsynced) {
        let mut state = self.lock();
        state.took = None;
        if !self.sabotage {
            state.disk = disk;
            state.cut = cut;
        }
    }

    /// Whether a cut was ordered, whether or not it has come.
    pub fn is_cutting(&self) -> bool {
        let state = self.lock();
        state.cut != Unsynced::Kept || state.took.is_some()
    }

    /// Whether there is room.
    pub fn has_room(&self) -> bool {
        !self.lock().disk.full
    }

    /// What a cut has taken back, once.
    pub fn took(&self) -> Option<String> {
        self.lock().took.take()
    }

    /// A thread of some process opened a file to write. Our own probes are nobody's.
    pub fn opened_by(&self, thread: u32) {
        // A writer from outside our pid namespace has no number here, and is none of those that are to end.
        let writer = i32::try_from(thread).ok().filter(|thread| *thread > 0).and_then(writer);
        if let Some(writer) = writer.filter(|writer| writer.pid != std::process::id() as i32) {
            self.lock().writers.insert(writer);
        }
    }

    /// Ends everybody who has written here, as the end of the power does. They may take a moment to be gone.
    pub fn end_writers(&self) -> BTreeSet<Process> {
        let writers = std::mem::take(&mut self.lock().writers);
        for writer in &writers {
            // Who is gone already is not there to be ended.
            let _ = writer.signal(Signal::SIGKILL);
        }
        writers
    }

    /// Cuts the power now, nobody being in a write. Returns what was taken back; `None` if a write has met the cut already.
    pub fn cut_now(&self) -> Option<String> {
        let mut state = self.lock();
        if state.cut == Unsynced::Kept {
            return None;
        }
        let lost = state.take_back();
        state.cut = Unsynced::Kept;
        Some(match lost {
            0 => "nothing was unsynced".to_string(),
            lost => format!("{lost} unsynced bytes lost, no write under way"),
        })
    }

    /// Writes to the backing file, as far as the disk lets it.
    pub fn write(&self, inode: u64, file: &Arc<File>, offset: u64, data: &[u8]) -> io::Result<Fate> {
        let mut state = self.lock();
        if state.cut != Unsynced::Kept {
            let lost = state.take_back();
            // Disks write whole sectors; programs rely on that.
            let half = (offset + data.len() as u64 / 2) / SECTOR * SECTOR;
            let torn = half.saturating_sub(offset) as usize;
            let kept = if state.cut == Unsynced::Torn { torn } else { 0 };
            file.write_all_at(&data[..kept], offset)?;
            state.cut = Unsynced::Kept;
            let lost = lost + data.len() - kept;
            state.took = Some(format!(
                "{lost} unsynced bytes lost, {kept} bytes of the last write kept"
            ));
            return Ok(Fate::Cut);
        }
        if state.disk.full {
            return Ok(Fate::Refused(libc::ENOSPC));
        }
        let length = file.metadata()?.len();
        let there = length.saturating_sub(offset).min(data.len() as u64) as usize;
        let mut old = vec![0; there];
        file.read_exact_at(&mut old, offset)?;
        file.write_all_at(data, offset)?;
        state.remember(inode, file, offset, old, length);
        Ok(Fate::Written)
    }

    /// Before a file's length is changed: what is cut off can come back.
    pub fn resize(&self, inode: u64, file: &Arc<File>, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        let before = file.metadata()?.len();
        let mut old = vec![0; before.saturating_sub(length).min(MOST as u64) as usize];
        file.read_exact_at(&mut old, length.min(before))?;
        file.set_len(length)?;
        state.remember(inode, file, length.min(before), old, before);
        Ok(())
    }

    /// Syncs to the backing disk, as slowly as ordered. Blocks; not for the thread that serves all.
    pub fn sync(&self, inode: u64, file: &File) -> io::Result<()> {
        let (delay, fails, upto) = {
            let mut state = self.lock();
            let ppm = state.disk.sync_fail_ppm;
            let fails = ppm > 0 && state.rng.random_range(0..1_000_000) < ppm;
            (state.disk.sync_delay, fails, state.serial)
        };
        std::thread::sleep(Duration::from(delay));
        if fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        file.sync_data()?;
        let mut state = self.lock();
        let State { undo, bytes, .. } = &mut *state;
        undo.retain(|write| {
            let stays = write.inode != inode || write.serial > upto;
            if !stays {
                *bytes -= write.old.len();
            }
            stays
        });
        Ok(())
    }
}

/// The process of a thread.
fn writer(thread: i32) -> Option<Process> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Some(Stat::of(group.trim().parse().ok()?).ok()?.process())
}

impl State {
    fn remember(&mut self, inode: u64, file: &Arc<File>, offset: u64, old: Vec<u8>, length: u64) {
        self.serial += 1;
        self.bytes += old.len();
        self.undo.push_back(Undo {
            inode,
            file: file.clone(),
            offset,
            old,
            length,
            serial: self.serial,
        });
        while self.bytes > MOST || self.undo.len() > 1 << 20 {
            let oldest = self.undo.pop_front().expect("there is one");
            self.bytes -= oldest.old.len();
        }
    }

    /// Undoes every unsynced write, newest first. Returns how many bytes were lost, at most what the files shrank by and
    /// what was overwritten.
    fn take_back(&mut self) -> usize {
        let mut lost = 0;
        let mut shrunk: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        while let Some(write) = self.undo.pop_back() {
            let now = write.file.metadata().map_or(0, |m| m.len());
            let entry = shrunk.entry(write.inode).or_insert((now, now));
            entry.1 = write.length;
            lost += write.old.len();
            let _ = write.file.write_all_at(&write.old, write.offset);
            let _ = write.file.set_len(write.length);
        }
        self.bytes = 0;
        lost + shrunk
            .values()
            .map(|(from, to)| from.saturating_sub(*to) as usize)
            .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::Nanos;

    fn file(content: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        Arc::new(file)
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn written(volume: &Volume, file: &Arc<File>, offset: u64, data: &[u8]) -> Fate {
        volume.write(1, file, offset, data).unwrap()
    }

    #[test]
    fn a_cut_takes_back_what_was_not_synced_and_nothing_else() {
        for (cut, kept) in [(Unsynced::Lost, 0), (Unsynced::Torn, 498)] {
            let volume = Volume::new(1, false);
            let file = file(b"durable");
            written(&volume, &file, 7, b" synced");
            volume.sync(1, &file).unwrap();
            written(&volume, &file, 0, b"DUR");
            written(&volume, &file, 14, b" gone");
            volume.resize(1, &file, 3).unwrap();
            volume.order(Disk::default(), cut);
            // To the last whole sector of its first half.
            assert!(matches!(written(&volume, &file, 14, &[b'x'; 1_100]), Fate::Cut));
            assert_eq!(content(&file), [b"durable synced", &vec![b'x'; kept][..]].concat());
            assert!(volume.took().unwrap().contains("unsynced bytes lost"));
            assert!(
                matches!(written(&volume, &file, 0, b"x"), Fate::Written),
                "power is back"
            );
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_a_failing_one_syncs_nothing() {
        let volume = Volume::new(1, false);
        let file = file(b"");
        volume.order(
            Disk {
                full: true,
                ..Disk::default()
            },
            Unsynced::Kept,
        );
        assert!(matches!(written(&volume, &file, 0, b"x"), Fate::Refused(libc::ENOSPC)));
        let failing = Disk {
            sync_fail_ppm: 1_000_000,
            ..Disk::default()
        };
        volume.order(failing, Unsynced::Kept);
        written(&volume, &file, 0, b"x");
        assert_eq!(volume.sync(1, &file).unwrap_err().raw_os_error(), Some(libc::EIO));
        volume.order(Disk::default(), Unsynced::Lost);
        assert_eq!(volume.cut_now().unwrap(), "1 unsynced bytes lost, no write under way");
        assert_eq!(content(&file), b"");
        assert_eq!(volume.cut_now(), None);
    }

    #[test]
    fn a_slow_sync_takes_its_time() {
        let volume = Volume::new(1, false);
        let slow = Disk {
            sync_delay: Nanos::millis(30),
            ..Disk::default()
        };
        volume.order(slow, Unsynced::Kept);
        let start = std::time::Instant::now();
        volume.sync(1, &file(b"x")).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn under_sabotage_orders_do_nothing() {
        let volume = Volume::new(1, true);
        volume.order(
            Disk {
                full: true,
                ..Disk::default()
            },
            Unsynced::Lost,
        );
        assert!(volume.has_room());
        assert!(matches!(written(&volume, &file(b""), 0, b"x"), Fate::Written));
    }
}
