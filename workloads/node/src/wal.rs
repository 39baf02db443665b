//! The write-ahead log: what a member must not forget.
//!
//! A Raft member that forgets its vote can vote twice in one term, and two leaders follow (Ongaro's thesis, 3.8: "servers
//! update their persistent state before responding to RPCs"). The log is one file of frames (see [`crate::frame`]),
//! appended to and made durable with `fdatasync` before [`Wal::append`] returns. [`Wal::replace`] swaps the whole log for
//! a shorter one by writing a new file, syncing it, renaming it over the old one and syncing the directory: a crash
//! leaves the old log or the new one, never a mixture.
//!
//! **Torn tail or corruption?** A process that dies in an append leaves a frame that is cut or wrong, and nothing after
//! it. That append never returned, so nothing depended on it: opening cuts it off. A wrong frame with a valid frame
//! somewhere after it is something else, since appends go strictly one after the other: synced data was damaged, and
//! opening refuses, naming file and offset. To forget it silently would break the protocol, not the harness.
//!
//! Caveats. (1) Damage to the very last frame looks like a torn tail and is cut off; no checksum can tell them apart.
//! (2) A power cut may keep a later page of one unsynced append and lose an earlier one. If that append had several
//! frames, this looks like corruption and is refused: loud, though nothing promised was lost. A killed process cannot
//! leave this. (3) A payload that contains the image of a valid frame can make its own torn tail look like corruption;
//! by chance this happens once in 2^32 positions. (4) After a failed append or sync the file's state is unknown and the
//! log refuses all further work: the kernel may have dropped the pages that it failed to write (Rebello et al., "Can
//! Applications Recover from fsync Failures?", ATC 2020). A write that found no room is no such failure: what the disk took
//! of it is cut off again, and the log is as it was ([`WalError::Full`]). (5) The whole log is read into memory.
use crate::disk::{Held, Layer, is_no_room};
use crate::frame::{self, MAX_PAYLOAD};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// How many bytes may be checksummed in the search for a frame after a bad one. A tail is far shorter; only contents
/// made for the purpose get here, and they are refused like corruption.
const SEARCH_BUDGET: u64 = 4 << 30;

/// What an opened log held.
#[derive(Debug)]
pub struct Recovered {
    /// The payloads, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes of a torn tail that were cut off.
    pub torn: u64,
    /// How many times the log has been opened, from 1: whatever a process draws at random in one life must differ from
    /// what it drew in another.
    pub life: u64,
}

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// There is no room. Nothing was kept, the log is as it was, and the same call may succeed later.
    #[error("failed to write the log in {0}: no space left on the disk")]
    Full(String),
    /// Anything else. Unless a record was too long, what the disk holds is unknown, and every later call fails.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}

/// The file, as far as it is known.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    file: File,
    /// Bytes of the file, all of them durable.
    length: u64,
}

/// A write-ahead log in a directory of its own, locked against every other process.
#[derive(Debug)]
pub struct Wal {
    log: Log,
    disk: Layer,
    /// Held and not used: the lock lives as long as this.
    _lock: File,
    failed: bool,
}

impl Wal {
    /// Opens the log in `dir`, making both where they do not exist, and cuts a torn tail off.
    ///
    /// # Errors
    /// Corruption before the tail (with file and offset), another process that has the log open, or the system's refusal.
    pub fn open(dir: &Path) -> Result<(Wal, Recovered)> {
        Wal::open_on(dir, Layer::open)
    }

    fn open_on(dir: &Path, layer: impl FnOnce(&Path) -> Result<Layer>) -> Result<(Wal, Recovered)> {
        let at = || format!("open the log in {}", dir.display());
        std::fs::create_dir_all(dir).with_context(at)?;
        let mut lock = lock(dir).with_context(at)?;
        let disk = layer(dir)?;
        // No order comes in between: a disk that becomes full now must find a member that can wait for room.
        let mut held = disk.hold();
        let life = count_life(&mut lock, &mut held).with_context(at)?;
        // A replacement that never was renamed never happened.
        match std::fs::remove_file(dir.join("wal.new")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(at),
            _ => {}
        }
        let path = dir.join("wal");
        let file = open_appending(&path).with_context(at)?;
        let bytes = std::fs::read(&path).with_context(at)?;
        let (records, end) = scan(&bytes).with_context(|| format!("read {}", path.display()))?;
        let torn = (bytes.len() - end) as u64;
        if torn > 0 {
            file.set_len(end as u64).with_context(at)?;
        }
        held.sync(&file).with_context(at)?;
        sync_dir(dir).with_context(at)?;
        drop(held);
        let log = Log {
            dir: dir.to_path_buf(),
            file,
            length: end as u64,
        };
        let wal = Wal {
            log,
            disk,
            _lock: lock,
            failed: false,
        };
        Ok((wal, Recovered { records, torn, life }))
    }

    /// Appends `records` with one write and one `fdatasync`. When this returns `Ok`, they are durable.
    ///
    /// # Errors
    /// A record over [`MAX_PAYLOAD`] bytes (nothing is written then), no room (nothing was kept), or the system's refusal,
    /// after which every call fails.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), WalError> {
        let bytes = encode_all(records)?;
        self.guarded(|log, disk| {
            if let Err(e) = disk.write(&mut log.file, &bytes) {
                // What the disk took would make the next append look like corruption.
                let cut = is_no_room(&e) && log.file.set_len(log.length).is_ok();
                return if cut { Ok(false) } else { Err(e).context("append") };
            }
            disk.sync(&log.file).context("fdatasync")?;
            log.length += bytes.len() as u64;
            Ok(true)
        })
    }

    /// Replaces the whole log by `records`, atomically. When this returns `Ok`, they are durable and the old ones gone.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn replace<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), WalError> {
        let bytes = encode_all(records)?;
        self.guarded(|log, disk| {
            let new = log.dir.join("wal.new");
            let written = File::create(&new).and_then(|mut file| disk.write(&mut file, &bytes).map(|()| file));
            let file = match written {
                Ok(file) => file,
                Err(e) if is_no_room(&e) => {
                    // It only takes room; the next opening removes it as well.
                    let _ = std::fs::remove_file(&new);
                    return Ok(false);
                }
                Err(e) => return Err(e).context("write wal.new"),
            };
            disk.sync(&file).context("fdatasync wal.new")?;
            std::fs::rename(&new, log.dir.join("wal")).context("rename wal.new to wal")?;
            sync_dir(&log.dir).context("fsync the directory")?;
            log.file = open_appending(&log.dir.join("wal")).context("open the new log")?;
            log.length = bytes.len() as u64;
            Ok(true)
        })
    }

    /// `work` says whether there was room.
    fn guarded(&mut self, work: impl FnOnce(&mut Log, &mut Held<'_>) -> Result<bool>) -> Result<(), WalError> {
        let at = format!("failed to write the log in {}", self.log.dir.display());
        if self.failed {
            return Err(WalError::Broken(anyhow!("{at}: an earlier write failed")));
        }
        // Set first, so that an early return out of `work` leaves it set.
        self.failed = true;
        let room = work(&mut self.log, &mut self.disk.hold()).context(at)?;
        self.failed = false;
        if room {
            Ok(())
        } else {
            Err(WalError::Full(self.log.dir.display().to_string()))
        }
    }
}

fn lock(dir: &Path) -> Result<File> {
    let file = open_appending(&dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another process has it open"),
        Err(TryLockError::Error(e)) => Err(e.into()),
    }
}

/// The lock file is as many bytes long as the log has had lives.
fn count_life(lock: &mut File, disk: &mut Held<'_>) -> std::io::Result<u64> {
    disk.write(lock, b".")?;
    disk.sync(lock)?;
    Ok(lock.metadata()?.len())
}

fn open_appending(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn encode_all<R: AsRef<[u8]>>(records: &[R]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records.iter().map(AsRef::as_ref) {
        let n = record.len();
        ensure!(
            n <= MAX_PAYLOAD,
            "a record of {n} bytes is over the {MAX_PAYLOAD} allowed"
        );
        frame::encode(record, &mut bytes);
    }
    Ok(bytes)
}

/// The records of a log's `bytes`, and where the last valid one ends.
fn scan(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, usize)> {
    let (mut records, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match frame::decode(&bytes[at..]) {
            Ok(payload) => {
                records.push(payload.to_vec());
                at += frame::HEADER + payload.len();
            }
            Err(bad) => {
                refuse_corruption(bytes, at, bad)?;
                break;
            }
        }
    }
    Ok((records, at))
}

/// An error if the bad frame at `at` cannot be a torn tail.
fn refuse_corruption(bytes: &[u8], at: usize, bad: frame::Bad) -> Result<()> {
    let mut budget = SEARCH_BUDGET;
    for later in at + 1..bytes.len() {
        let rest = &bytes[later..];
        if frame::decode(rest).is_ok() {
            bail!(
                "the record at offset {at} is corrupt ({bad}), and a valid one follows at offset {later}: \
                 what was durable is damaged, so the member must not start from it"
            );
        }
        budget = budget.saturating_sub(cost(rest));
        if budget == 0 {
            bail!("the record at offset {at} is corrupt ({bad}), and whether a valid one follows could not be told");
        }
    }
    Ok(())
}

/// How many bytes the decoding of `rest` checksummed.
fn cost(rest: &[u8]) -> u64 {
    match frame::decode_length(rest) {
        Some(n) if frame::HEADER + n <= rest.len() => n as u64,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
