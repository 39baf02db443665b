//! The recorder: history lines to disk, without the loop ever waiting for the disk.
//!
//! The loop turns an event into a line in a shared buffer; a thread of the recorder's own swaps the buffer out, writes
//! it and syncs it, every [`SYNC_EVERY`] at the latest. A line is therefore on the disk 100 ms after it was recorded,
//! whatever happens to control; a line that was cut in the middle is left out by the reader.
//!
//! Before a fault is carried out its `invoke` must be on the disk, because the history is the ledger of what may need
//! healing: [`Recorder::barrier`] waits for that, and only for that.
//!
//! A disk that is full or gone is noticed by the next [`Recorder::record`], whose error ends the run; what was written
//! before stays readable.
use splitbrain_core::event::Event;
use splitbrain_core::history::Header;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A recorded line reaches the disk within this time.
pub const SYNC_EVERY: Duration = Duration::from_millis(50);
/// The loop waits only if the disk falls behind by this much.
const MAX_BEHIND: usize = 64 << 20;

#[derive(Default)]
struct Shared {
    buffer: Vec<u8>,
    /// Lines recorded, and of those the ones on the disk.
    recorded: u64,
    synced: u64,
    barrier: bool,
    closing: bool,
    error: Option<String>,
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
        let shared = Arc::new((Mutex::new(Shared::default()), Condvar::new()));
        let for_writer = Arc::clone(&shared);
        let path = path.to_path_buf();
        let writer = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_until_closed(&for_writer, &mut file, &path))
            .map_err(failed)?;
        Ok(Recorder {
            shared,
            writer: Some(writer),
            line: Vec::with_capacity(512),
        })
    }

    /// Records one event. An error means that the history cannot be kept any more.
    pub fn record(&mut self, event: &Event) -> Result<(), String> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).expect("plain data always becomes JSON");
        self.line.push(b'\n');
        let (lock, changed) = &*self.shared;
        let mut shared = lock.lock().expect("the recorder's thread does not panic");
        while shared.buffer.len() > MAX_BEHIND && shared.error.is_none() {
            shared = changed.wait(shared).expect("the recorder's thread does not panic");
        }
        if let Some(error) = &shared.error {
            return Err(error.clone());
        }
        shared.buffer.extend_from_slice(&self.line);
        shared.recorded += 1;
        Ok(())
    }

    /// Waits until everything recorded is on the disk.
    pub fn barrier(&mut self) -> Result<(), String> {
        let (lock, changed) = &*self.shared;
        let mut shared = lock.lock().expect("the recorder's thread does not panic");
        let want = shared.recorded;
        shared.barrier = true;
        changed.notify_all();
        while shared.synced < want && shared.error.is_none() {
            shared = changed.wait(shared).expect("the recorder's thread does not panic");
        }
        shared.error.clone().map_or(Ok(()), Err)
    }

    /// Writes and syncs what is left and closes the file.
    pub fn close(mut self) -> Result<(), String> {
        let result = self.barrier();
        self.stop();
        result
    }

    fn stop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.shared
                .0
                .lock()
                .expect("the recorder's thread does not panic")
                .closing = true;
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

fn write_until_closed(shared: &(Mutex<Shared>, Condvar), file: &mut File, path: &Path) {
    let (lock, changed) = shared;
    let mut taken = Vec::new();
    loop {
        let mut guard = lock.lock().expect("the loop's thread does not panic while it records");
        if !guard.barrier && !guard.closing {
            guard = changed
                .wait_timeout(guard, SYNC_EVERY)
                .expect("no panic while recording")
                .0;
        }
        let closing = guard.closing;
        guard.barrier = false;
        std::mem::swap(&mut guard.buffer, &mut taken);
        let recorded = guard.recorded;
        drop(guard);
        let result = match taken.is_empty() {
            true => Ok(()),
            false => file.write_all(&taken).and_then(|()| file.sync_data()),
        };
        taken.clear();
        let mut guard = lock.lock().expect("the loop's thread does not panic while it records");
        match result {
            Ok(()) => guard.synced = recorded,
            Err(e) => guard.error = Some(format!("failed to write {}: {e}", path.display())),
        }
        changed.notify_all();
        if guard.error.is_some() || (closing && guard.buffer.is_empty()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::event::{Body, Kind, Phase, Process};
    use splitbrain_core::history::{History, SCHEMA};
    use splitbrain_core::{Nanos, Plan};

    fn header() -> Header {
        Header {
            splitbrain: SCHEMA,
            seed: 7,
            plan: Plan::new("raft", "sim"),
            hosts: vec![],
            promises: vec![],
            beliefs: String::new(),
            versions: Default::default(),
        }
    }

    fn event(index: u64) -> Event {
        let body = Body::Phase { phase: Phase::Setup };
        Event {
            index,
            time: Nanos(index),
            process: Process::Control,
            kind: Kind::Info,
            body,
            error: None,
        }
    }

    fn read(path: &Path) -> History {
        History::read(std::io::BufReader::new(File::open(path).unwrap())).unwrap()
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        (0..1000).for_each(|i| recorder.record(&event(i)).unwrap());
        recorder.close().unwrap();
        let history = read(&path);
        assert_eq!(
            (history.header, history.events.len(), history.torn),
            (header(), 1000, 0)
        );
    }

    #[test]
    fn after_a_barrier_the_lines_are_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.record(&event(0)).unwrap();
        recorder.barrier().unwrap();
        assert_eq!(read(&path).events.len(), 1);
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let shared = (
            Mutex::new(Shared {
                buffer: b"x\n".to_vec(),
                closing: true,
                ..Shared::default()
            }),
            Condvar::new(),
        );
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        write_until_closed(&shared, &mut full, Path::new("/dev/full"));
        let error = shared.0.lock().unwrap().error.clone().unwrap();
        assert!(
            error.contains("/dev/full") && error.contains("No space left"),
            "{error}"
        );
    }
}
