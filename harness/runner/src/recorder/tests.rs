//! What reaches the file, when, and who waits for it.
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

/// A recorder whose disk is a pipe that takes nothing once it is full, and the pipe's other end. 1 KiB behind is too much.
fn on_a_pipe() -> (Recorder, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let disk = Disk::new(File::from(std::os::fd::OwnedFd::from(writer)), |_| Ok(()));
    (Recorder::start(disk, Path::new("pipe"), 1 << 10).unwrap(), reader)
}

fn aborted(index: u64, length: usize) -> Event {
    let why = "x".repeat(length);
    Event {
        body: Body::Aborted { why },
        ..event(index)
    }
}

#[test]
fn lines_of_any_length_are_in_the_file_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut recorder = Recorder::create(&path, &header()).unwrap();
    let mut expected = serde_json::to_string(&header()).unwrap() + "\n";
    for i in 0..400 {
        // From 8 bytes to more than two pieces; the last pieces are far more than those kept for reuse.
        let length = 8 << (i * 7 % 19);
        let event = aborted(i, length as usize);
        recorder.record(&event).unwrap();
        expected += &(serde_json::to_string(&event).unwrap() + "\n");
        if i % 97 == 0 {
            recorder.barrier().unwrap();
        }
    }
    recorder.close().unwrap();
    assert!(expected.len() > SPARE * PIECE);
    assert!(
        std::fs::read_to_string(&path).unwrap() == expected,
        "the file has other lines"
    );
}

#[test]
fn a_barrier_waits_for_the_line_after_a_full_piece_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut recorder = Recorder::create(&path, &header()).unwrap();
    for i in 0..20 {
        recorder.record(&aborted(2 * i, PIECE)).unwrap();
        let before = recorder.kept().syncs;
        recorder.record(&event(2 * i + 1)).unwrap();
        // The full piece is written by itself, and that is no sync of the open one.
        while !recorder.lock().full.is_empty() {
            std::thread::yield_now();
        }
        recorder.barrier().unwrap();
        assert!(recorder.kept().syncs > before, "line {i} was not synced");
        assert_eq!(read(&path).events.len() as u64, 2 * i + 2);
    }
}

#[test]
fn a_line_reaches_the_file_though_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut recorder = Recorder::create(&path, &header()).unwrap();
    for i in 0..3 {
        recorder.record(&event(i)).unwrap();
        while recorder.kept().syncs <= i {
            std::thread::yield_now();
        }
        assert_eq!(read(&path).events.len() as u64, i + 1);
    }
    assert_eq!(recorder.kept().waits, 0);
}

#[test]
fn nobody_waits_for_a_disk_that_stands_still_until_too_much_is_behind() {
    let (mut recorder, reader) = on_a_pipe();
    // Full at once, and never read; what fits in the open piece is not behind yet.
    recorder.record(&aborted(0, PIECE)).unwrap();
    let shared = Arc::clone(&recorder.shared);
    while shared.0.lock().unwrap().behind == 0 {
        std::thread::yield_now();
    }
    (1..1000).for_each(|i| recorder.record(&aborted(i, 100)).unwrap());
    assert_eq!(recorder.kept().waits, 0);
    let one_more = std::thread::spawn(move || {
        let mut results = (0..).map(|i| recorder.record(&aborted(1000 + i, PIECE / 2)));
        results.find_map(Result::err)
    });
    while shared.0.lock().unwrap().kept.waits == 0 {
        std::thread::yield_now();
    }
    // A disk that goes away ends the wait, and every later call.
    drop(reader);
    let error = one_more.join().unwrap().unwrap();
    assert!(error.starts_with("failed to write pipe: "), "{error}");
    assert_eq!(shared.0.lock().unwrap().kept.waits, 1);
}

#[test]
fn a_disk_that_moves_again_ends_the_wait() {
    let (mut recorder, mut reader) = on_a_pipe();
    let shared = Arc::clone(&recorder.shared);
    let recording = std::thread::spawn(move || {
        (0..4).for_each(|i| recorder.record(&aborted(i, PIECE)).unwrap());
        recorder.close().unwrap();
    });
    while shared.0.lock().unwrap().kept.waits == 0 {
        std::thread::yield_now();
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    recording.join().unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(text.len() > 4 * PIECE && text.ends_with("}\n"));
}

#[test]
fn nobody_waits_for_a_sync() {
    static GATE: Mutex<()> = Mutex::new(());
    let shut = GATE.lock().unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let disk = Disk::new(file.reopen().unwrap(), |_| {
        drop(GATE.lock().unwrap());
        Ok(())
    });
    let mut recorder = Recorder::start(disk, file.path(), MAX_BEHIND).unwrap();
    recorder.record(&event(0)).unwrap();
    while file.as_file().metadata().unwrap().len() == 0 {
        std::thread::yield_now();
    }
    // The first line is written, and its sync lasts until the gate is opened.
    (1..100_000).for_each(|i| recorder.record(&event(i)).unwrap());
    let kept = recorder.kept();
    assert_eq!((kept.syncs, kept.waits), (0, 0));
    drop(shut);
    recorder.close().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
    assert_eq!(text.lines().count(), 100_000);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let shared = Shared {
        open: b"x\n".to_vec(),
        closing: true,
        ..Shared::default()
    };
    let shared = (Mutex::new(shared), Condvar::new());
    let file = File::options().write(true).open("/dev/full").unwrap();
    let mut full = Disk::new(file, File::sync_data);
    write_until_closed(&shared, &mut full, Path::new("/dev/full"));
    let error = shared.0.lock().unwrap().error.clone().unwrap();
    assert!(
        error.contains("/dev/full") && error.contains("No space left"),
        "{error}"
    );
}
