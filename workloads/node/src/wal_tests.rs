use super::*;
use crate::disk::tests::{FULL, die, failing, order};
use proptest::prelude::*;
use rand::RngExt;
use splitbrain_core::{Disk, DiskOrder, Unsynced, seed};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn records(seed: u64) -> Vec<Vec<u8>> {
    let mut rng = seed::stream(seed, "wal");
    let mut record = |_| {
        let len = [0, 1, 7, 40, 300][rng.random_range(0..5)];
        // Low values make plausible lengths, and so the search work.
        (0..len).map(|_| rng.random_range(0..4u8)).collect()
    };
    (0..6).map(&mut record).collect()
}

/// Opens a log whose file holds `bytes`; the records, or the error in full.
fn open(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wal"), bytes).unwrap();
    let (_, recovered) = Wal::open(dir.path()).map_err(|e| format!("{e:#}"))?;
    let left = std::fs::metadata(dir.path().join("wal")).unwrap().len();
    assert_eq!(
        left + recovered.torn,
        bytes.len() as u64,
        "the torn tail is cut off the file"
    );
    Ok(recovered.records)
}

/// The records in `bytes`, or the error in full. As [`open`] without the disk, for thousands of cases.
fn scanned(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    scan(bytes).map(|(records, _)| records).map_err(|e| format!("{e:#}"))
}

fn ends(records: &[Vec<u8>]) -> Vec<usize> {
    let mut end = 0;
    let add = |r: &Vec<u8>| {
        end += frame::HEADER + r.len();
        end
    };
    records.iter().map(add).collect()
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, found) = Wal::open(dir.path()).unwrap();
    assert!(found.records.is_empty());
    assert_eq!(found.life, 1);
    wal.append(&["a", "b"]).unwrap();
    wal.append(&["c"]).unwrap();
    drop(wal);
    let (mut wal, found) = Wal::open(dir.path()).unwrap();
    assert_eq!(found.records, [b"a", b"b", b"c"]);
    assert_eq!(found.life, 2);
    wal.replace(&["snapshot"]).unwrap();
    wal.append(&["d"]).unwrap();
    drop(wal);
    let (_wal, found) = Wal::open(dir.path()).unwrap();
    assert_eq!(found.records, [&b"snapshot"[..], b"d"]);
}

#[test]
fn a_log_cut_anywhere_keeps_every_whole_record() {
    for seed in 0..4 {
        let records = records(seed);
        let (bytes, ends) = (encode_all(&records).unwrap(), ends(&records));
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(
                scanned(&bytes[..cut]).unwrap(),
                records[..whole],
                "seed {seed}, cut {cut}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_with_its_offset_or_was_the_tail() {
    for seed in 0..2 {
        let records = records(seed);
        let (bytes, ends) = (encode_all(&records).unwrap(), ends(&records));
        for bit in 0..bytes.len() * 8 {
            let mut hurt = bytes.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            let which = ends.iter().filter(|end| **end <= bit / 8).count();
            let start = if which == 0 { 0 } else { ends[which - 1] };
            match scanned(&hurt) {
                Ok(found) => {
                    assert_eq!(which, records.len() - 1, "seed {seed}, bit {bit}: not the tail");
                    assert_eq!(found, records[..which], "seed {seed}, bit {bit}");
                }
                Err(e) => {
                    assert!(
                        which < records.len() - 1,
                        "seed {seed}, bit {bit}: a tail was refused: {e}"
                    );
                    let offset = format!("the record at offset {start} is corrupt");
                    assert!(e.contains(&offset), "seed {seed}, bit {bit}: {e}");
                }
            }
        }
    }
}

#[test]
fn corruption_names_the_file_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = encode_all(&["a", "b"]).unwrap();
    bytes[8] ^= 1;
    std::fs::write(dir.path().join("wal"), &bytes).unwrap();
    let error = format!("{:#}", Wal::open(dir.path()).unwrap_err());
    assert!(error.contains("/wal: the record at offset 0 is corrupt"), "{error}");
    assert_eq!(std::fs::read(dir.path().join("wal")).unwrap(), bytes, "it is evidence");
}

#[test]
fn a_tail_of_zeros_or_noise_is_cut_off() {
    let records = records(9);
    let bytes = encode_all(&records).unwrap();
    for n in [1, 7, 8, 9, 4096] {
        for byte in [0, 0x5a, 0xff] {
            let tail = vec![byte; n];
            assert_eq!(
                open(&[&bytes[..], &tail].concat()).unwrap(),
                records,
                "{n} bytes {byte}"
            );
        }
    }
}

#[test]
fn a_recovered_log_can_be_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = encode_all(&["a"]).unwrap();
    bytes.extend([1, 2, 3]);
    std::fs::write(dir.path().join("wal"), &bytes).unwrap();
    let (mut wal, found) = Wal::open(dir.path()).unwrap();
    assert_eq!(found.torn, 3);
    wal.append(&["b"]).unwrap();
    drop(wal);
    assert_eq!(Wal::open(dir.path()).unwrap().1.records, [b"a", b"b"]);
}

#[test]
fn an_unfinished_replacement_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wal"), encode_all(&["old"]).unwrap()).unwrap();
    std::fs::write(dir.path().join("wal.new"), encode_all(&["new"]).unwrap()).unwrap();
    let (_wal, found) = Wal::open(dir.path()).unwrap();
    assert_eq!(found.records, [b"old"]);
    assert!(!dir.path().join("wal.new").exists());
}

#[test]
fn two_processes_cannot_share_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Wal::open(dir.path()).unwrap();
    let error = format!("{:#}", Wal::open(dir.path()).unwrap_err());
    assert!(error.contains("another process has it open"), "{error}");
}

#[test]
fn after_a_failure_the_log_refuses_all_work() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(dir.path()).unwrap();
    wal.append(&["a"]).unwrap();
    // A directory in the way makes the replacement fail.
    std::fs::create_dir(dir.path().join("wal.new")).unwrap();
    wal.replace(&["b"]).unwrap_err();
    std::fs::remove_dir(dir.path().join("wal.new")).unwrap();
    assert!(
        wal.append(&["c"])
            .unwrap_err()
            .to_string()
            .contains("an earlier write failed")
    );
    drop(wal);
    assert_eq!(Wal::open(dir.path()).unwrap().1.records, [b"a"]);
}

#[test]
fn a_record_over_the_bound_is_refused_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(dir.path()).unwrap();
    wal.append(&[vec![0; MAX_PAYLOAD + 1]]).unwrap_err();
    wal.append(&["a"]).unwrap();
}

/// Opens a log whose process survives its own death.
fn open_mortal(dir: &Path) -> (Wal, Recovered) {
    Wal::open_on(dir, |dir| Layer::with(dir, die, false)).unwrap()
}

#[test]
fn a_full_disk_changes_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open_mortal(dir.path());
    wal.append(&["a"]).unwrap();
    wal.disk.obey(order(1, FULL));
    for _ in 0..2 {
        let error = wal.append(&["b", "c"]).unwrap_err();
        assert!(matches!(error, WalError::Full(_)), "{error}");
        assert!(error.to_string().ends_with("no space left on the disk"), "{error}");
        assert!(matches!(wal.replace(&["d"]), Err(WalError::Full(_))));
        assert_eq!(
            std::fs::read(dir.path().join("wal")).unwrap(),
            encode_all(&["a"]).unwrap()
        );
        assert!(!dir.path().join("wal.new").exists());
    }
    wal.disk.obey(order(2, Disk::default()));
    wal.append(&["e"]).unwrap();
    drop(wal);
    assert_eq!(Wal::open(dir.path()).unwrap().1.records, [b"a", b"e"]);
}

#[test]
fn a_failed_sync_ends_the_log_and_keeps_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open_mortal(dir.path());
    wal.append(&["a"]).unwrap();
    wal.disk.obey(order(1, failing(1_000_000)));
    let error = format!("{:#}", wal.append(&["b"]).unwrap_err());
    assert!(
        error.contains("fdatasync") && error.contains("Input/output error"),
        "{error}"
    );
    wal.disk.obey(order(2, Disk::default()));
    let again = wal.append(&["c"]).unwrap_err().to_string();
    assert!(again.contains("an earlier write failed"), "{again}");
    drop(wal);
    assert_eq!(Wal::open(dir.path()).unwrap().1.records[0], b"a");
}

/// What is done to a log.
#[derive(Clone, Debug)]
enum Work {
    Append(Vec<Vec<u8>>),
    Replace(Vec<Vec<u8>>),
    /// While the disk is so.
    Under(Disk, Box<Work>),
}

fn some_records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    // Low values make plausible lengths.
    prop::collection::vec(prop::collection::vec(0..4u8, 0..60), 1..4)
}

fn some_work() -> impl Strategy<Value = Work> {
    let plain = prop_oneof![
        3 => some_records().prop_map(Work::Append),
        1 => some_records().prop_map(Work::Replace),
    ];
    prop_oneof![
        3 => plain.clone(),
        1 => plain.prop_map(|work| Work::Under(FULL, Box::new(work))),
    ]
}

/// Does it, and tells whether it was acknowledged. Panics where the process dies.
fn work_on(wal: &mut Wal, work: &Work, generation: &mut u64) -> bool {
    match work {
        Work::Append(records) => wal.append(records).is_ok(),
        Work::Replace(records) => wal.replace(records).is_ok(),
        Work::Under(disk, work) => {
            for (disk, work) in [(*disk, Some(work)), (Disk::default(), None)] {
                *generation += 1;
                wal.disk.obey(order(*generation, disk));
                if let Some(work) = work {
                    assert!(!work_on(wal, work, generation), "a bad disk acknowledged {work:?}");
                }
            }
            false
        }
    }
}

/// What `work` makes of a log, when it is acknowledged.
fn after(records: &[Vec<u8>], work: &Work) -> Vec<Vec<u8>> {
    match work {
        Work::Append(more) => [records, more].concat(),
        Work::Replace(all) => all.clone(),
        Work::Under(..) => records.to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    // A life is some work, then a crash in the middle of one piece of it: the power is cut, or the sync fails. The next
    // life must find all that was acknowledged, then perhaps whole records of the piece that was not, and nothing else.
    #[test]
    fn no_crash_loses_what_was_acknowledged(
        lives in prop::collection::vec((prop::collection::vec(some_work(), 0..4), some_work(), 0..3usize), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut known, mut generation) = (Vec::new(), 0);
        for (works, last, crash) in &lives {
            let (mut wal, found) = open_mortal(dir.path());
            prop_assert_eq!(&found.records, &known);
            for work in works {
                if work_on(&mut wal, work, &mut generation) {
                    known = after(&known, work);
                }
            }
            generation += 1;
            let (disk, cut) = [
                (Disk::default(), Unsynced::Lost),
                (Disk::default(), Unsynced::Torn),
                (failing(1_000_000), Unsynced::Kept),
            ][*crash];
            wal.disk.obey(DiskOrder { generation, disk, cut });
            let last = match last {
                Work::Under(_, inner) => inner,
                last => last,
            };
            let ended = catch_unwind(AssertUnwindSafe(|| work_on(&mut wal, last, &mut generation)));
            prop_assert!(ended.is_err() || (cut == Unsynced::Kept && !ended.unwrap()), "it survived {:?}", cut);
            drop(wal);
            generation += 1;
            let heal = order(generation, Disk::default());
            crate::disk::tests::give(dir.path(), heal);
            let (_, found) = open_mortal(dir.path());
            let whole = after(&known, last);
            let kept = found.records;
            let appended = matches!(last, Work::Append(_)) && whole.starts_with(&kept) && kept.starts_with(&known);
            prop_assert!(kept == known || appended, "{:?} became {:?}", known, kept);
            known = kept;
        }
    }
}
