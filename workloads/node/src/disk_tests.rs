use super::*;
use std::time::Duration;

/// Generous: only a failing test waits this long.
const LONG: Duration = Duration::from_secs(30);

/// Ends the operation that dies; its log can then be opened again, as after a restart.
pub(crate) fn die() -> ! {
    std::panic::resume_unwind(Box::new("the power was cut"))
}

pub(crate) fn give(dir: &Path, order: DiskOrder) {
    put(&dir.join(FOLDER), ORDER, &serde_json::to_vec(&order).unwrap()).unwrap();
}

fn proof(dir: &Path) -> Option<DiskProof> {
    let bytes = std::fs::read(dir.join(FOLDER).join(PROOF)).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// Waits for the proof of a generation.
pub(crate) fn proven(dir: &Path, generation: u64) -> Result<String, String> {
    let began = Instant::now();
    loop {
        match proof(dir) {
            Some(proof) if proof.generation == generation => return proof.saw,
            _ => assert!(began.elapsed() < LONG, "generation {generation} was not proven"),
        }
        std::thread::yield_now();
    }
}

pub(crate) fn order(generation: u64, disk: Disk) -> DiskOrder {
    let cut = Unsynced::Kept;
    DiskOrder { generation, disk, cut }
}

pub(crate) const FULL: Disk = Disk {
    full: true,
    sync_delay: Nanos::ZERO,
    sync_fail_ppm: 0,
};

pub(crate) fn failing(sync_fail_ppm: u32) -> Disk {
    let sync_delay = Nanos::ZERO;
    Disk {
        full: false,
        sync_delay,
        sync_fail_ppm,
    }
}

fn slow(ms: u64) -> Disk {
    Disk {
        sync_delay: Nanos::millis(ms),
        ..Disk::default()
    }
}

/// Gives each disk to a layer, and tells what it saw of it.
fn saw(blunt: bool, disks: &[Disk]) -> Vec<Result<String, String>> {
    let dir = tempfile::tempdir().unwrap();
    let _layer = Layer::with(dir.path(), die, blunt).unwrap();
    let give = |(n, disk): (u64, &Disk)| {
        give(dir.path(), order(n, *disk));
        proven(dir.path(), n)
    };
    (1..).zip(disks).map(give).collect()
}

#[test]
fn every_order_is_proven_by_what_was_seen() {
    let disks = [FULL, failing(1_000_000), slow(30), Disk::default(), failing(500_000)];
    let [full, failing, slow, healthy, half] = &saw(false, &disks)[..] else {
        panic!()
    };
    assert_eq!(full.as_deref(), Ok("a write found no room"));
    assert_eq!(failing.as_deref(), Ok("a sync failed"));
    assert!(slow.as_ref().unwrap().starts_with("a sync took "), "{slow:?}");
    assert_eq!(healthy.as_deref(), Ok("a write and a sync went well"));
    assert!(half.as_ref().unwrap().ends_with("failed"), "{half:?}");
    let rare = Disk {
        sync_fail_ppm: 1,
        ..slow_and_full()
    };
    let rare = saw(false, &[rare]).remove(0).unwrap();
    assert!(
        rare.starts_with("a write found no room, too rare to show in 512 syncs: one that fails, a sync took "),
        "{rare}"
    );
}

fn slow_and_full() -> Disk {
    Disk { full: true, ..slow(5) }
}

#[test]
fn a_layer_without_effect_does_not_prove_one() {
    let wants = [
        (FULL, "a write of 64 bytes found room"),
        (failing(1_000_000), "none of 512 syncs failed"),
        (slow(10_000), "and not 10.000s"),
    ];
    let disks: Vec<Disk> = wants.iter().map(|(disk, _)| *disk).collect();
    for (saw, (disk, want)) in saw(true, &disks).into_iter().zip(wants) {
        let why = saw.expect_err(want);
        assert!(why.ends_with(want), "{disk}: {why}");
    }
}

#[test]
fn an_order_that_stands_is_obeyed_from_the_first_write_on_and_its_cut_is_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
    let cut = Unsynced::Lost;
    give(dir.path(), DiskOrder { cut, ..order(4, FULL) });
    let layer = Layer::with(dir.path(), die, false).unwrap();
    assert_eq!(proof(dir.path()).unwrap().saw.as_deref(), Ok("a write found no room"));
    let mut file = File::create(dir.path().join("file")).unwrap();
    let error = layer.hold().write(&mut file, b"four").unwrap_err();
    assert!(is_no_room(&error), "{error}");
    assert_eq!(file.metadata().unwrap().len(), 2, "a full disk takes a part");
    // An order of the past changes nothing; the next one does.
    give(dir.path(), order(3, Disk::default()));
    give(dir.path(), order(5, Disk::default()));
    proven(dir.path(), 5).unwrap();
    layer.hold().write(&mut file, b"more").unwrap();
}

#[test]
fn what_is_no_order_is_refused_at_the_start_and_ignored_later() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::open(dir.path()).unwrap();
    put(&dir.path().join(FOLDER), ORDER, b"{").unwrap();
    give(dir.path(), order(1, FULL));
    proven(dir.path(), 1).unwrap();
    drop(layer);
    put(&dir.path().join(FOLDER), ORDER, b"{").unwrap();
    let error = format!("{:#}", Layer::open(dir.path()).unwrap_err());
    assert!(error.contains("order.json is no order"), "{error}");
}

#[test]
fn a_cut_of_nothing_comes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::with(dir.path(), die, false).unwrap();
    let cut = Unsynced::Lost;
    give(
        dir.path(),
        DiskOrder {
            cut,
            ..order(1, Disk::default())
        },
    );
    assert_eq!(proven(dir.path(), 1).as_deref(), Ok("nothing was unsynced"));
    let watcher = layer.watcher.as_ref().unwrap();
    let began = Instant::now();
    while !watcher.is_finished() {
        assert!(began.elapsed() < LONG, "it proved its death, and lives");
        std::thread::yield_now();
    }
}

impl Layer {
    /// Obeys at once, without the way through the file.
    pub(crate) fn obey(&self, order: DiskOrder) {
        lock(&self.state).adopt(order);
    }
}
