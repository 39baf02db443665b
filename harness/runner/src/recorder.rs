//! The recorder: history lines to disk, without the loop ever waiting for the disk.
//!
//! The loop turns an event into a line and appends it to the open *piece*, a block of memory that was there before. A
//! thread of the recorder's own writes each piece that is full, and every [`SYNC_EVERY`] it writes the open one too and syncs.
//! The two share a lock that is held for the copy of one line, or for the exchange of full pieces against empty ones: never
//! while anything is written or synced. Pieces go round, so that a call moves no old bytes and meets no fresh page.
//!
//! What is lost. A round lasts [`SYNC_EVERY`], or as long as its write and sync if that is longer. When control dies, lines
//! of one round can be lost, and of two rounds when its machine dies: 100 ms at most where a disk takes and syncs what it
//! is given within 50 ms. [`Kept::slowest`] says what it was. A line that was cut in the middle is left out by the reader.
//!
//! Before a fault is carried out its `invoke` must be on the disk, because the history is the ledger of what may need
//! healing: [`Recorder::barrier`] waits for that, and only for that.
//!
//! A disk that cannot keep up at all: memory is not endless, so with [`MAX_BEHIND`] bytes recorded and not yet written,
//! [`Recorder::record`] waits until the disk has taken some of them. This is its one wait, and [`Kept::waits`] counts it.
//! To wait is sound: the loop stamps what happens meanwhile with the later time at which it learns of it, so that intervals
//! only grow. An error instead would end a run whose disk is only slow. At the rates of live systems the bound is minutes
//! away; a simulation at full speed is held to the speed of the disk.
//!
//! A disk that is full or gone is noticed by the next [`Recorder::record`], whose error ends the run; what was written
//! before stays readable.
#[cfg(test)]
mod tests;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use splitbrain_core::event::Event;
use splitbrain_core::history::Header;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What was recorded is written and synced this often, if there is anything.
pub const SYNC_EVERY: Duration = Duration::from_millis(10);
/// The loop waits only if the disk falls behind by this many bytes.
pub const MAX_BEHIND: usize = 256 << 20;
/// Bytes in a piece. A longer line gets a piece of its own.
const PIECE: usize = 1 << 20;
/// Bytes of the history that stay in memory after they were synced.
const CACHED: u64 = 64 << 20;
/// Pieces made before the first line: 13 ms of five million events a second.
const READY: usize = 8;
/// Pieces kept for reuse, once a slower disk has needed more.
const SPARE: usize = 32;

#[derive(Default)]
struct Shared {
    /// Where lines are appended.
    open: Vec<u8>,
    /// Full pieces, in order.
    full: Vec<Vec<u8>>,
    /// Empty pieces whose pages are there.
    spare: Vec<Vec<u8>>,
    /// Bytes in full pieces, and in those that the thread has taken and not yet written.
    behind: usize,
    /// How many of these are too many.
    bound: usize,
    /// Lines recorded, and of those the ones on the disk.
    recorded: u64,
    synced: u64,
    barrier: bool,
    closing: bool,
    error: Option<String>,
    kept: Kept,
}

/// How well the disk kept up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Syncs so far.
    pub syncs: u64,
    /// Calls of [`Recorder::record`] that had to wait for the disk.
    pub waits: u64,
    /// The longest that a line can have been without a sync.
    pub slowest: Duration,
}

/// Writes a history while it happens.
pub struct Recorder {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    writer: Option<JoinHandle<()>>,
    line: Vec<u8>,
}

impl Recorder {
    /// Creates the history file at `path`, with `header` as its first line. The file must not exist yet.
    pub fn create(path: &Path, header: &Header) -> Result<Recorder, String> {
        let failed = |e: std::io::Error| format!("failed to create {}: {e}", path.display());
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed)?;
        // Held until the file is closed: a run whose history is locked is still going on.
        file.lock().map_err(failed)?;
        let mut line = serde_json::to_vec(header).expect("plain data always becomes JSON");
        line.push(b'\n');
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)?;
        Recorder::start(Disk::new(file, File::sync_data), path, MAX_BEHIND).map_err(failed)
    }

    fn start(mut disk: Disk, path: &Path, bound: usize) -> std::io::Result<Recorder> {
        let shared = Shared {
            open: piece(),
            spare: (1..READY).map(|_| piece()).collect(),
            bound,
            ..Shared::default()
        };
        let shared = Arc::new((Mutex::new(shared), Condvar::new()));
        let for_writer = Arc::clone(&shared);
        let path = path.to_path_buf();
        let writer = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_until_closed(&for_writer, &mut disk, &path))?;
        Ok(Recorder {
            shared,
            writer: Some(writer),
            line: Vec::with_capacity(512),
        })
    }

    /// Records one event. An error means that the history cannot be kept any more.
    pub fn record(&mut self, event: &Event) -> Result<(), String> {
        self.line.clear();
        event.write_line(&mut self.line);
        self.line.push(b'\n');
        let mut shared = self.lock();
        let full = shared.open.len() + self.line.len() > PIECE && !shared.open.is_empty();
        if full {
            shared = self.next_piece(shared);
        }
        if let Some(error) = &shared.error {
            return Err(error.clone());
        }
        shared.open.extend_from_slice(&self.line);
        shared.recorded += 1;
        drop(shared);
        if full {
            self.shared.1.notify_all();
        }
        Ok(())
    }

    /// Puts an empty piece in the open one's place; waits if the disk is too far behind.
    #[cold]
    fn next_piece<'a>(&'a self, mut shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        let far_behind = |shared: &mut Shared| shared.behind >= shared.bound && shared.error.is_none();
        if far_behind(&mut shared) {
            shared.kept.waits += 1;
            let waited = self.shared.1.wait_while(shared, far_behind);
            shared = waited.expect("the recorder's thread does not panic");
        }
        let empty = shared.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE));
        let full = std::mem::replace(&mut shared.open, empty);
        shared.behind += full.len();
        shared.full.push(full);
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.0.lock().expect("the recorder's thread does not panic")
    }

    /// Waits until everything recorded is on the disk.
    pub fn barrier(&mut self) -> Result<(), String> {
        let mut shared = self.lock();
        let want = shared.recorded;
        shared.barrier = true;
        self.shared.1.notify_all();
        let unsynced = |shared: &mut Shared| shared.synced < want && shared.error.is_none();
        let waited = self.shared.1.wait_while(shared, unsynced);
        shared = waited.expect("the recorder's thread does not panic");
        shared.error.clone().map_or(Ok(()), Err)
    }

    /// How well the disk has kept up so far.
    pub fn kept(&self) -> Kept {
        self.lock().kept
    }

    /// Writes and syncs what is left and closes the file.
    pub fn close(mut self) -> Result<(), String> {
        let result = self.barrier();
        self.stop();
        result
    }

    fn stop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.lock().closing = true;
            self.shared.1.notify_all();
            writer.join().expect("the recorder's thread does not panic");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An empty piece whose pages are there already.
fn piece() -> Vec<u8> {
    let mut piece = vec![1; PIECE];
    piece.clear();
    piece
}

/// The history's file, and how far it is written.
struct Disk {
    file: File,
    sync: fn(&File) -> std::io::Result<()>,
    written: u64,
    /// Whether something was written since the last sync.
    unsynced: bool,
    /// Up to here the system was asked to forget it.
    forgotten: u64,
}

impl Disk {
    fn new(file: File, sync: fn(&File) -> std::io::Result<()>) -> Disk {
        Disk {
            file,
            sync,
            written: 0,
            unsynced: false,
            forgotten: 0,
        }
    }

    fn write(&mut self, pieces: &[Vec<u8>]) -> std::io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            // Of what is not synced yet, this only starts the writing: the sync then waits for less.
            if piece.len() > PIECE / 2 {
                self.advise(self.written, piece.len() as u64);
            }
            self.written += piece.len() as u64;
        }
        self.unsynced |= !pieces.is_empty();
        Ok(())
    }

    /// Syncs, and keeps only the newest [`CACHED`] bytes in memory: to write into pages that the system has just got back
    /// costs a quarter of what new ones cost, and what a long history holds of the memory is taken from the system that is
    /// tested.
    fn sync(&mut self) -> std::io::Result<()> {
        (self.sync)(&self.file)?;
        self.unsynced = false;
        let old = self.written.saturating_sub(CACHED);
        if old >= self.forgotten + PIECE as u64 {
            self.advise(self.forgotten, old - self.forgotten);
            self.forgotten = old;
        }
        Ok(())
    }

    /// Says that these bytes will not be read again soon. Where the advice means nothing, nothing is lost.
    fn advise(&self, from: u64, length: u64) {
        let _ = posix_fadvise(
            &self.file,
            from as i64,
            length as i64,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        );
    }
}

/// The recorder's thread: writes full pieces as they come, and every [`SYNC_EVERY`], and for each barrier, writes what
/// there is and syncs it.
fn write_until_closed(shared: &(Mutex<Shared>, Condvar), disk: &mut Disk, path: &Path) {
    let (mut taken, mut hand) = (Vec::new(), piece());
    let mut began = Instant::now();
    let mut due = began + SYNC_EVERY;
    loop {
        let turn = take(shared, due, &mut taken, &mut hand);
        let begins = Instant::now();
        let mut result = disk.write(&taken);
        if !taken.is_empty() && result.is_ok() {
            give_back(shared, &mut taken, &mut hand);
        }
        let syncs = turn.syncs && disk.unsynced;
        if syncs && result.is_ok() {
            result = disk.sync();
        }
        let lock = shared.0.lock();
        let mut guard = lock.expect("the loop's thread does not panic while it records");
        match result {
            Ok(()) if turn.syncs => guard.synced = turn.recorded,
            Ok(()) => {}
            Err(e) => guard.error = Some(format!("failed to write {}: {e}", path.display())),
        }
        if syncs {
            guard.kept.syncs += 1;
            // What was synced now was recorded after the last time that everything was taken.
            guard.kept.slowest = guard.kept.slowest.max(began.elapsed());
        }
        if turn.syncs {
            began = begins;
            // A late round delays no later one.
            due = (due + SYNC_EVERY).clamp(begins, begins + SYNC_EVERY);
        }
        shared.1.notify_all();
        if guard.error.is_some() || turn.closing {
            return;
        }
    }
}

/// What the recorder's thread is to do with what it took.
struct Turn {
    /// Whether everything was taken, and is to be synced.
    syncs: bool,
    /// Lines recorded so far.
    recorded: u64,
    closing: bool,
}

/// Waits until a piece is full, and takes it; or until `due`, a barrier or the end, and takes every piece that has lines:
/// `hand` becomes the open one.
fn take(
    (lock, changed): &(Mutex<Shared>, Condvar),
    due: Instant,
    taken: &mut Vec<Vec<u8>>,
    hand: &mut Vec<u8>,
) -> Turn {
    let guard = lock.lock().expect("the loop's thread does not panic while it records");
    let patience = due.saturating_duration_since(Instant::now());
    let nothing_to_do = |shared: &mut Shared| !shared.barrier && !shared.closing && shared.full.is_empty();
    let waited = changed.wait_timeout_while(guard, patience, nothing_to_do);
    let mut shared = waited.expect("the loop's thread does not panic while it records").0;
    let syncs = shared.barrier || shared.closing || Instant::now() >= due;
    std::mem::swap(&mut shared.full, taken);
    if syncs && !shared.open.is_empty() {
        shared.behind += shared.open.len();
        taken.push(std::mem::replace(&mut shared.open, std::mem::take(hand)));
    }
    shared.barrier &= !syncs;
    Turn {
        syncs,
        recorded: shared.recorded,
        closing: shared.closing,
    }
}

/// Gives pieces that were written back for reuse, before the sync: it may take long.
fn give_back((lock, changed): &(Mutex<Shared>, Condvar), taken: &mut Vec<Vec<u8>>, hand: &mut Vec<u8>) {
    let written: usize = taken.iter().map(Vec::len).sum();
    taken.retain(|piece| piece.capacity() == PIECE);
    taken.iter_mut().for_each(Vec::clear);
    if hand.capacity() == 0 {
        *hand = taken.pop().unwrap_or_else(piece);
    }
    let mut shared = lock.lock().expect("the loop's thread does not panic while it records");
    shared.behind -= written;
    while shared.spare.len() < SPARE
        && let Some(piece) = taken.pop()
    {
        shared.spare.push(piece);
    }
    drop(shared);
    changed.notify_all();
    taken.clear();
}
