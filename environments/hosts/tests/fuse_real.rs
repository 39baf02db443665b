//! A mounted disk behaves like a directory until it is told not to. Needs root (or a user namespace) and /dev/fuse.
use rand::RngExt;
use splitbrain_core::disk::{FOLDER, ORDER, PROOF, READY};
use splitbrain_core::seed;
use splitbrain_core::{Disk, DiskOrder, DiskProof, Nanos, Unsynced};
use splitbrain_environments::fuse::{self, Mounted};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Rig {
    disk: Option<Mounted>,
    dir: tempfile::TempDir,
    generation: u64,
}

impl Rig {
    fn new(sabotage: bool) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let disk = fuse::mount(&dir.path().join("backing"), &dir.path().join("disk"), 1, sabotage);
        Rig {
            disk: Some(disk.unwrap_or_else(|why| panic!("failed to {why}"))),
            dir,
            generation: 0,
        }
    }

    fn at(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Gives an order as an environment does, through the mount, and waits for its proof.
    fn order(&mut self, disk: Disk, cut: Unsynced) -> Result<String, String> {
        self.generation += 1;
        let folder = self.at().join(FOLDER);
        let order = DiskOrder {
            generation: self.generation,
            disk,
            cut,
        };
        fs::write(folder.join("new"), serde_json::to_vec(&order).unwrap()).unwrap();
        fs::rename(folder.join("new"), folder.join(ORDER)).unwrap();
        let start = Instant::now();
        loop {
            let text = fs::read(folder.join(PROOF)).unwrap_or_default();
            match serde_json::from_slice::<DiskProof>(&text) {
                Ok(proof) if proof.generation == self.generation => return proof.saw,
                _ => assert!(start.elapsed() < Duration::from_secs(30), "no proof"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            if name.starts_with(FOLDER) || name.starts_with(".disk-probe") {
                continue;
            }
            if path.is_dir() {
                found.insert(name, b"dir".to_vec());
                todo.push(path);
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// One random operation, the same in both places; errors must be the same too.
fn operate(root: &Path, seed: u64, step: u64) -> Result<(), ErrorKind> {
    let mut rng = seed::stream(seed, &format!("step {step}"));
    let mut name = || {
        root.join(format!(
            "{}{}",
            ["", "sub/", "sub/deep/"][rng.random_range(0..3)],
            rng.random_range(0..4)
        ))
    };
    let (one, two) = (name(), name());
    let (choice, length) = (rng.random_range(0..11), rng.random_range(1..200_000usize));
    let offset = rng.random_range(0..100_000u64);
    let write = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let result = match choice {
        0 => fs::create_dir_all(root.join("sub/deep")),
        1 | 2 => File::create(&one).and_then(|mut file| file.write_all(&vec![step as u8; length])),
        3 | 4 => write(&one).and_then(|file| file.write_all_at(&vec![step as u8; length], offset)),
        5 => write(&one).and_then(|file| file.set_len(offset)),
        6 => fs::rename(&one, &two),
        7 => fs::remove_file(&one),
        8 => write(&one).and_then(|file| file.sync_all()),
        9 => fs::hard_link(&one, &two),
        _ => OpenOptions::new()
            .append(true)
            .open(&one)
            .and_then(|mut file| file.write_all(b"appended")),
    };
    result.map_err(|e| e.kind())
}

#[test]
fn it_is_a_directory_like_any_other() {
    let rig = Rig::new(false);
    let seed = std::process::id().into();
    println!("seed {seed}");
    let plain = tempfile::tempdir().unwrap();
    for step in 0..600 {
        let [here, there] = [rig.at(), plain.path().to_path_buf()].map(|root| operate(&root, seed, step));
        assert_eq!(here, there, "step {step}");
    }
    assert_eq!(tree(&rig.at()), tree(plain.path()));
    assert!(tree(plain.path()).len() > 2);
    let ready = fs::read_to_string(rig.at().join(FOLDER).join(READY)).unwrap();
    assert!(ready.contains("user space"));
}

#[test]
fn orders_act_and_are_taken_back() {
    let mut rig = Rig::new(false);
    let full = Disk {
        full: true,
        ..Disk::default()
    };
    rig.order(full, Unsynced::Kept).unwrap();
    let error = fs::write(rig.at().join("file"), b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let slow = Disk {
        sync_delay: Nanos::millis(80),
        ..Disk::default()
    };
    rig.order(slow, Unsynced::Kept).unwrap();
    let file = File::create(rig.at().join("file")).unwrap();
    let start = Instant::now();
    file.sync_all().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80));
    let failing = Disk {
        sync_fail_ppm: 1_000_000,
        ..Disk::default()
    };
    rig.order(failing, Unsynced::Kept).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(
        rig.order(Disk::default(), Unsynced::Kept).unwrap(),
        "a probe was written and synced"
    );
    file.sync_all().unwrap();
}

#[test]
fn a_power_cut_ends_the_writer_and_takes_back_what_it_had_not_synced() {
    for (cut, tail) in [(Unsynced::Lost, ""), (Unsynced::Torn, "")] {
        let mut rig = Rig::new(false);
        let file = rig.at().join("log");
        // A line, synced; then lines without a sync, for ever.
        let script = "printf 'synced\\n' > log; sync log; while printf 'unsynced\\n' >> log; do :; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .current_dir(rig.at())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while fs::read(&file).unwrap_or_default().len() < 100 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let saw = rig.order(Disk::default(), cut).unwrap();
        assert!(saw.contains("unsynced bytes lost"), "{saw}");
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        let mut text = String::new();
        File::open(&file).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("synced\n"), "{text}");
        let rest = &text["synced\n".len()..];
        match cut {
            Unsynced::Torn => assert!(
                rest.is_empty() || rest.len() < "unsynced\n".len() || rest.contains('\0'),
                "{rest:?}"
            ),
            _ => assert_eq!(rest, tail),
        }
    }
}

#[test]
fn who_writes_nothing_is_ended_all_the_same() {
    let mut rig = Rig::new(false);
    let script = "exec 3> held; printf unsynced >&3; exec sleep 1000";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .current_dir(rig.at())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while fs::read(rig.at().join("held")).unwrap_or_default().len() < 8 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let saw = rig.order(Disk::default(), Unsynced::Lost).unwrap();
    assert_eq!(saw, "8 unsynced bytes lost, no write under way");
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(fs::read(rig.at().join("held")).unwrap(), b"");
}

#[test]
fn under_sabotage_every_order_is_seen_not_to_act() {
    let mut rig = Rig::new(true);
    let slow = Disk {
        sync_delay: Nanos::millis(500),
        ..Disk::default()
    };
    let failing = Disk {
        sync_fail_ppm: 1_000_000,
        ..Disk::default()
    };
    for disk in [
        Disk {
            full: true,
            ..Disk::default()
        },
        slow,
        failing,
    ] {
        rig.order(disk, Unsynced::Kept).unwrap_err();
    }
    rig.order(Disk::default(), Unsynced::Lost).unwrap_err();
}

#[test]
fn etcd_keeps_its_data_on_it() {
    let rig = Rig::new(false);
    let data = rig.at().join("etcd");
    let run = |port: u16| {
        let url = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        Command::new("etcd")
            .args([
                "--data-dir",
                data.to_str().unwrap(),
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--log-outputs",
                "stderr",
                "--logger",
                "zap",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("etcd: {e}: apt-get install etcd-server"))
    };
    let port = 20_000 + (std::process::id() % 20_000) as u16;
    for life in 0..2 {
        let mut etcd = run(port);
        let mut log = String::new();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(etcd.stderr.take().unwrap()));
        let ready = lines.by_ref().any(|line| {
            let line = line.unwrap_or_default();
            log += &line;
            log += "\n";
            line.contains("published local member to cluster")
        });
        etcd.kill().unwrap();
        etcd.wait().unwrap();
        assert!(ready, "life {life}: {log}");
    }
}

#[test]
fn nothing_is_left_when_it_is_dropped() {
    let mut rig = Rig::new(false);
    fs::write(rig.at().join("file"), b"x").unwrap();
    let held = File::open(rig.at().join("file")).unwrap();
    drop(rig.disk.take());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(rig.at().to_str().unwrap()));
    drop(held);
    assert!(
        rig.dir.path().join("backing/file").is_file(),
        "the files stay in the backing directory"
    );
}
