//! Members on disks that are full, failing, or lose their power, ordered as an environment orders it: through files.
mod common;

use common::{Child, LONG, listen, name, tokio_listener};
use splitbrain_core::disk::{self, DiskOrder, DiskProof, ORDER, PROOF, READY};
use splitbrain_core::wire::Line;
use splitbrain_core::{Disk, Nanos, Op, Outcome, Unsynced};
use splitbrain_node::member::{Parts, drive};
use splitbrain_node::transport::Transport;
use splitbrain_node::wal::Wal;
use splitbrain_protocols::{Input, Output, Protocol};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Keeps a record for each request, then answers; a look needs no record.
struct Keeper;

impl Protocol for Keeper {
    fn step(&mut self, _now: Nanos, input: Input) -> Vec<Output> {
        let Input::Request(request) = input else {
            return vec![];
        };
        let outcome = Outcome::Fail("kept".to_string());
        let answer = Output::Say(Line::Answer {
            id: request.id,
            outcome,
        });
        match request.op {
            Op::Set { value } => vec![Output::Persist(value.to_le_bytes().to_vec()), answer],
            Op::Write { value } => vec![Output::Compact(vec![value.to_le_bytes().to_vec()]), answer],
            _ => vec![answer],
        }
    }
    fn deadline(&self) -> Nanos {
        Nanos::MAX
    }
}

/// A member that is up: it answers.
fn start(dir: &Path) -> Child {
    let mut child = spawn(dir);
    child.ask(Op::Observe);
    child
}

fn spawn(dir: &Path) -> Child {
    let dir = dir.to_path_buf();
    Child::spawn(move |stdio| async move {
        let (listener, _) = listen();
        drive(Parts {
            core: Box::new(Keeper),
            wal: Wal::open(&dir)?.0,
            transport: Transport::start(name(1), tokio_listener(listener), &BTreeMap::new()),
            store: None,
            stdio,
        })
        .await
    })
}

fn records(dir: &Path) -> Vec<u64> {
    let records = Wal::open(dir).unwrap().1.records;
    let number = |record: Vec<u8>| u64::from_le_bytes(record.try_into().unwrap());
    records.into_iter().map(number).collect()
}

fn wait_for<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = there() {
            return seen;
        }
        assert!(began.elapsed() < LONG, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Orders it as an environment does, without waiting.
fn give(dir: &Path, order: DiskOrder) {
    wait_for("the layer", || disk::file(dir, READY).exists().then_some(()));
    let draft = disk::file(dir, "an-environment's-draft");
    std::fs::write(&draft, serde_json::to_vec(&order).unwrap()).unwrap();
    std::fs::rename(draft, disk::file(dir, ORDER)).unwrap();
}

fn proof(dir: &Path, generation: u64) -> Result<String, String> {
    wait_for("the proof", || {
        let bytes = std::fs::read(disk::file(dir, PROOF)).ok()?;
        let proof: DiskProof = serde_json::from_slice(&bytes).unwrap();
        (proof.generation == generation).then_some(proof.saw)
    })
}

fn order(dir: &Path, generation: u64, disk: Disk) -> String {
    let cut = Unsynced::Kept;
    give(dir, DiskOrder { generation, disk, cut });
    proof(dir, generation).unwrap()
}

fn kept() -> Outcome {
    Outcome::Fail("kept".to_string())
}

#[test]
fn a_member_on_a_full_disk_does_nothing_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path());
    assert_eq!(child.ask(Op::Set { value: 1 }), kept());
    let full = Disk {
        full: true,
        ..Disk::default()
    };
    assert_eq!(order(dir.path(), 1, full), "a write found no room");
    assert_eq!(child.ask(Op::Observe), kept(), "what needs no record is answered");
    let waits = child.submit(Op::Set { value: 2 });
    let refused = Outcome::Fail("the disk is full: nothing was done".to_string());
    let began = Instant::now();
    // Several attempts long.
    while began.elapsed() < Duration::from_millis(250) {
        assert_eq!(child.ask(Op::Observe), refused);
        assert_eq!(child.ask(Op::Set { value: 3 }), refused);
        std::thread::sleep(Duration::from_millis(5));
    }
    order(dir.path(), 2, Disk::default());
    let Some(Line::Answer { id, outcome }) = child.line() else {
        panic!("the write that waited is answered")
    };
    assert_eq!((id, outcome), (waits, kept()));
    order(dir.path(), 3, full);
    let waits = child.submit(Op::Write { value: 4 });
    assert_eq!(child.ask(Op::Observe), refused);
    order(dir.path(), 4, Disk::default());
    assert!(matches!(child.line(), Some(Line::Answer { id, .. }) if id == waits));
    assert_eq!(child.ask(Op::Set { value: 5 }), kept());
    child.end().unwrap();
    assert_eq!(records(dir.path()), [4, 5]);
}

#[test]
fn a_member_on_a_full_disk_ends_when_control_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path());
    let full = Disk {
        full: true,
        ..Disk::default()
    };
    order(dir.path(), 1, full);
    child.submit(Op::Set { value: 2 });
    child.ask(Op::Observe);
    child.end().unwrap();
}

#[test]
fn a_member_whose_sync_fails_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path());
    child.ask(Op::Set { value: 1 });
    let failing = Disk {
        sync_fail_ppm: 1_000_000,
        ..Disk::default()
    };
    assert_eq!(order(dir.path(), 1, failing), "a sync failed");
    child.submit(Op::Set { value: 2 });
    let (ended, said) = child.wait();
    assert_eq!(said, [], "what was not kept is not answered");
    let error = format!("{:#}", ended.unwrap_err());
    assert!(error.contains("fdatasync: Input/output error"), "{error}");
    // Healed while nobody runs, then started.
    let (generation, disk, cut) = (2, Disk::default(), Unsynced::Kept);
    give(dir.path(), DiskOrder { generation, disk, cut });
    let mut child = start(dir.path());
    assert_eq!(proof(dir.path(), 2).as_deref(), Ok("a write and a sync went well"));
    child.ask(Op::Set { value: 3 });
    child.end().unwrap();
    let found = records(dir.path());
    assert!(found.starts_with(&[1]) && found.ends_with(&[3]), "{found:?}");
}

/// Names the directory to a process of this test: it is to lose its power there.
const VICTIM: &str = "SPLITBRAIN_TEST_POWER_CUT";

#[test]
fn a_power_cut_ends_the_process_in_mid_write() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        let mut child = start(Path::new(&dir));
        let mut value = 0;
        // Until it is killed.
        loop {
            value += 1;
            child.ask(Op::Set { value });
        }
    }
    for cut in [Unsynced::Lost, Unsynced::Torn] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_power_cut_ends_the_process_in_mid_write"])
            .env(VICTIM, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let log = dir.path().join("wal");
        wait_for("the first record", || {
            std::fs::metadata(&log).is_ok_and(|m| m.len() > 0).then_some(())
        });
        let (generation, disk) = (1, Disk::default());
        give(dir.path(), DiskOrder { generation, disk, cut });
        let saw = proof(dir.path(), 1).unwrap();
        assert!(saw.ends_with(" of 16 unsynced bytes were lost"), "{saw}");
        let status = process.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        let torn = std::fs::metadata(&log).unwrap().len() % 16;
        assert_eq!(torn > 0, cut == Unsynced::Torn, "{torn} bytes of the last record");
        let found = records(dir.path());
        assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
    }
}
