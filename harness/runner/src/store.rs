//! The store: `STORE/NAME/TIMESTAMP/`, one folder a run, and a `latest` link beside them.
//!
//! A run's folder has `plan.toml`, the history (`history.jsonl` while it is written, `history.jsonl.zst` once sealed),
//! `logs/`, `verdicts.json`, `report.html` and `junit.xml`. Sealing packs the history into zstd frames of at most
//! [`FRAME`] bytes of text each, checksummed, independent of each other and cut at line ends, so that a reader can start in the
//! middle and damage in one frame costs only that frame. The plain file is removed only after the packed one was synced
//! and read back.
use splitbrain_core::history::{Header, History, ReadError};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Text bytes in one zstd frame, at most (a longer line has a frame of its own).
pub const FRAME: usize = 64 << 10;
/// The history's name while it is written.
pub const PLAIN: &str = "history.jsonl";
/// The history's name once it is sealed.
pub const SEALED: &str = "history.jsonl.zst";

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    /// Absolute.
    pub path: PathBuf,
}

impl RunDir {
    /// Makes a new folder for a run called `name`. `latest` still points at the run before.
    pub fn create(store: &Path, name: &str) -> Result<RunDir, String> {
        let parent = store.join(name);
        let failed = |what: &Path, e: std::io::Error| format!("failed to create {}: {e}", what.display());
        fs::create_dir_all(&parent).map_err(|e| failed(&parent, e))?;
        let parent = parent.canonicalize().map_err(|e| failed(&parent, e))?;
        let stamp = timestamp(SystemTime::now());
        for n in 1.. {
            let id = if n == 1 { stamp.clone() } else { format!("{stamp}-{n}") };
            let path = parent.join(&id);
            match fs::create_dir(&path) {
                Ok(()) => {
                    fs::create_dir(path.join("logs")).map_err(|e| failed(&path, e))?;
                    return Ok(RunDir { path });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed(&path, e)),
            }
        }
        unreachable!("some number is free")
    }

    /// Points `latest` at this run: once it has a history that can be judged.
    pub fn make_latest(&self) -> Result<(), String> {
        let (parent, id) = (self.path.parent(), self.path.file_name());
        let (parent, id) = (
            parent.expect("a run's folder is in another"),
            id.expect("a run's folder has a name"),
        );
        point_latest(parent, Path::new(id))
            .map_err(|e| format!("failed to point {} at the run: {e}", parent.join("latest").display()))
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of this run, whole or not at all.
    pub fn write(&self, name: &str, content: &str) -> Result<(), String> {
        let target = self.file(name);
        let draft = self.file(&format!(".{name}.draft"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&draft)?;
            file.write_all(content.as_bytes())?;
            file.sync_data()?;
            fs::rename(&draft, &target)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&draft);
            format!("failed to write {}: {e}", target.display())
        })
    }

    /// Packs the history. The plain file goes only once the packed one is proven good.
    pub fn seal(&self) -> Result<(), String> {
        let (plain, sealed) = (self.file(PLAIN), self.file(SEALED));
        let draft = self.file(".history.draft");
        let pack = || -> std::io::Result<()> {
            let mut packed = File::create(&draft)?;
            let mut input = BufReader::new(File::open(&plain)?);
            let mut text = Vec::with_capacity(2 * FRAME);
            let mut packer = zstd::bulk::Compressor::new(1)?;
            packer.include_checksum(true)?;
            loop {
                let more = input.read_until(b'\n', &mut text)? > 0;
                if text.len() >= FRAME || (!more && !text.is_empty()) {
                    packed.write_all(&packer.compress(&text)?)?;
                    text.clear();
                }
                if !more {
                    break;
                }
            }
            packed.sync_data()?;
            let mut unpacked = zstd::Decoder::new(File::open(&draft)?)?;
            if !same(&mut unpacked, &mut File::open(&plain)?)? {
                return Err(std::io::Error::other("the packed history reads back differently"));
            }
            fs::rename(&draft, &sealed)?;
            fs::remove_file(&plain)
        };
        pack().map_err(|e| {
            let _ = fs::remove_file(&draft);
            format!("failed to seal {}: {e}", plain.display())
        })
    }
}

fn same(a: &mut impl Read, b: &mut impl Read) -> std::io::Result<bool> {
    let (mut a, mut b) = (
        BufReader::with_capacity(1 << 16, a),
        BufReader::with_capacity(1 << 16, b),
    );
    loop {
        let (x, y) = (a.fill_buf()?, b.fill_buf()?);
        let n = x.len().min(y.len());
        if n == 0 {
            return Ok(x.is_empty() && y.is_empty());
        }
        if x[..n] != y[..n] {
            return Ok(false);
        }
        a.consume(n);
        b.consume(n);
    }
}

/// The link is made beside and moved over the old one, so that there is always a good one.
fn point_latest(parent: &Path, id: &Path) -> std::io::Result<()> {
    let draft = parent.join(format!(".latest-{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    std::os::unix::fs::symlink(id, &draft)?;
    fs::rename(&draft, parent.join("latest"))
}

/// `20261120T190512.345Z`: sorts as time does, and is a good file name everywhere.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let millis = since.subsec_millis();
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}.{millis:03}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

/// The Gregorian date of a day since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

/// Why a history could not be opened or read.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such file or run.
    Missing(String),
    /// It is there, and is no readable history.
    Bad(String),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Missing(why) | OpenError::Bad(why) => f.write_str(why),
        }
    }
}

/// The history file meant by `path`: a file itself, or a run's folder (sealed or not).
pub fn history_file(path: &Path) -> Result<PathBuf, OpenError> {
    if path.is_dir() {
        let found = [SEALED, PLAIN].iter().map(|name| path.join(name)).find(|p| p.is_file());
        return found.ok_or_else(|| {
            OpenError::Missing(format!(
                "no {SEALED} and no {PLAIN} in {}: is it a run's folder?",
                path.display()
            ))
        });
    }
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    Err(OpenError::Missing(format!("no such run or file: {}", path.display())))
}

/// Reads a history, plain or packed, up to its last complete line.
pub fn read_history(path: &Path) -> Result<History, OpenError> {
    let file = history_file(path)?;
    History::read(open(&file)?).map_err(|e: ReadError| OpenError::Bad(format!("{}: {e}", file.display())))
}

/// The text of a file, unpacked if it is packed by zstd.
pub fn open(file: &Path) -> Result<Box<dyn BufRead>, OpenError> {
    let missing = |e: std::io::Error| OpenError::Missing(format!("failed to open {}: {e}", file.display()));
    let mut input = BufReader::with_capacity(1 << 16, File::open(file).map_err(missing)?);
    let start = input.fill_buf().map_err(missing)?;
    if !start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(input));
    }
    let decoder = CutIsEnd(zstd::Decoder::with_buffer(input).map_err(missing)?);
    Ok(Box::new(BufReader::with_capacity(1 << 16, decoder)))
}

/// A packed history whose last frame was cut off reads up to the cut, as a plain one does. A frame whose checksum is
/// wrong stays an error.
struct CutIsEnd<R>(R);

impl<R: Read> Read for CutIsEnd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its history is sealed.
    Ended,
    /// Its control still records.
    Running,
    /// Its control is gone, and its history was never sealed.
    CutOff,
}

fn state(file: &Path) -> State {
    if file.ends_with(SEALED) {
        return State::Ended;
    }
    // The recorder holds the file locked for as long as it lives.
    match File::open(file).map(|file| file.try_lock_shared()) {
        Ok(Err(fs::TryLockError::WouldBlock)) => State::Running,
        _ => State::CutOff,
    }
}

/// A run in a store, for listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `NAME/TIMESTAMP`.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Its history's header, if it can be read.
    pub header: Option<Header>,
    /// How far it has come.
    pub state: State,
}

/// Every run of a store, by name and time. A store that does not exist has none.
pub fn list(store: &Path) -> Result<Vec<Listed>, String> {
    let folders = |path: &Path| -> Result<Vec<PathBuf>, String> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(format!("failed to list {}: {e}", path.display())),
        };
        let real = |p: &PathBuf| p.symlink_metadata().is_ok_and(|m| m.is_dir());
        let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(real).collect();
        found.sort();
        Ok(found)
    };
    let mut runs = Vec::new();
    for name in folders(store)? {
        for path in folders(&name)? {
            let Ok(file) = history_file(&path) else { continue };
            let id = path.strip_prefix(store).unwrap_or(&path).display().to_string();
            runs.push(Listed {
                id,
                header: header_of(&file),
                state: state(&file),
                path,
            });
        }
    }
    Ok(runs)
}

fn header_of(file: &Path) -> Option<Header> {
    let mut input: Box<dyn BufRead> = Box::new(BufReader::new(File::open(file).ok()?));
    if file.ends_with(SEALED) {
        input = Box::new(BufReader::new(zstd::Decoder::with_buffer(input).ok()?));
    }
    splitbrain_core::history::Reader::new(input)
        .ok()
        .map(|reader| reader.header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_dates() {
        let at = |s: u64| timestamp(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "19700101T000000.000Z");
        assert_eq!(at(951_782_400), "20000229T000000.000Z");
        assert_eq!(at(1_795_201_512), "20261120T190512.000Z");
    }

    #[test]
    fn two_runs_of_one_instant_get_two_folders_and_latest_is_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..20).map(|_| RunDir::create(dir.path(), "raft").unwrap()).collect();
        runs.iter().for_each(|run| run.make_latest().unwrap());
        let latest = dir.path().join("raft/latest").canonicalize().unwrap();
        assert_eq!(latest, runs.last().unwrap().path);
        let unique: std::collections::BTreeSet<_> = runs.iter().map(|r| r.path.clone()).collect();
        assert_eq!(unique.len(), 20);
    }

    #[test]
    fn sealing_keeps_every_byte_in_independent_frames() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), "raft").unwrap();
        let text: String = (0..20_000)
            .map(|i| format!("{{\"index\":{i},\"rest\":\"of the line\"}}\n"))
            .collect();
        fs::write(run.file(PLAIN), &text).unwrap();
        run.seal().unwrap();
        assert!(!run.file(PLAIN).exists());
        let packed = fs::read(run.file(SEALED)).unwrap();
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), text.as_bytes());
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let frames: Vec<usize> = (0..packed.len() - 3).filter(|&i| packed[i..i + 4] == magic).collect();
        assert!(frames.len() >= text.len() / FRAME / 2, "{} frames", frames.len());
        let tail = zstd::decode_all(&packed[*frames.last().unwrap()..]).unwrap();
        assert!(tail.starts_with(b"{\"index\":") && text.as_bytes().ends_with(&tail));
        // A flipped bit is noticed, a cut is an end.
        let mut flipped = packed.clone();
        flipped[packed.len() / 2] ^= 1;
        let mut out = Vec::new();
        let unpack = |bytes: &[u8], out: &mut Vec<u8>| {
            out.clear();
            CutIsEnd(zstd::Decoder::new(bytes).unwrap()).read_to_end(out)
        };
        assert!(unpack(&flipped, &mut out).is_err());
        unpack(&packed[..packed.len() - 10], &mut out).unwrap();
        assert!(out.len() < text.len() && text.as_bytes().starts_with(&out));
    }
}
