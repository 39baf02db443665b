//! `splitbrain matrix`: many runs, one table, page and JUnit file; stopped in the middle, and continued.
mod common;
use common::{Bench, Ran};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// The newest matrix of a bench.
fn folder(bench: &Bench) -> PathBuf {
    bench.store().join("matrix/latest").canonicalize().unwrap()
}

/// The cells that ended, as their file has them.
fn cells(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("cells.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many runs each cell's folder holds.
fn runs(dir: &Path) -> BTreeMap<String, usize> {
    let names = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|p| !p.ends_with("latest")).collect()
    };
    let count = |cell: &PathBuf| names(cell).iter().map(|name| names(name).len()).sum();
    let cells = names(&dir.join("cells"));
    cells
        .iter()
        .map(|cell| (cell.file_name().unwrap().to_string_lossy().into_owned(), count(cell)))
        .collect()
}

/// Reads what a matrix says of its cells until a line contains `word`.
fn hear(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut heard = String::new();
    loop {
        let mut line = String::new();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended without '{word}':\n{heard}"
        );
        heard += &line;
        if line.contains(word) {
            return;
        }
    }
}

/// Waits until no process of a matrix is left: each of its cells holds the lock.
fn all_gone(dir: &Path) {
    let lock = File::open(dir.join("lock")).unwrap();
    let (send, locked) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(lock.lock()));
    let locked = locked.recv_timeout(Duration::from_secs(60));
    locked.expect("a cell holds the lock for a minute").unwrap();
    let path = dir.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir("/proc").unwrap() {
        let line = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let ours = line.windows(path.len()).any(|window| window == path);
        assert!(!ours, "still there: {}", String::from_utf8_lossy(&line));
    }
}

fn interrupt(child: &Child, signal: i32) {
    // SAFETY: a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn every_cell_is_run_counted_and_linked() {
    let bench = Bench::new();
    let line = "matrix --systems raft --env sim --seeds 3 --seed 5 --time-limit 20s --faults kill;partition,pause";
    let ran = bench.run(&format!("{line} --faults packet")).exits(0);
    assert!(
        ran.out.contains("9 cells: 9 valid") && ran.out.contains("partition,pause"),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("seeds 5 to 7") && ran.err.contains("[9/9]"),
        "{}",
        ran.err
    );
    let dir = folder(&bench);
    let cells = cells(&dir);
    assert_eq!(cells.len(), 9);
    let page = fs::read_to_string(dir.join("index.html")).unwrap();
    for cell in &cells {
        assert!(
            cell["elections"].as_u64() >= Some(1) && cell["injected"].as_u64() >= Some(1),
            "{cell:#}"
        );
        let run = cell["run"].as_str().unwrap();
        assert!(dir.join(run).join("report.html").is_file() && !run.starts_with('/'));
        assert!(
            page.contains(&format!("href=\"{run}/report.html\"")),
            "{run} is not linked"
        );
        // What is counted is what the run's own verdicts say.
        let verdicts = fs::read_to_string(dir.join(run).join("verdicts.json")).unwrap();
        let verdicts: Value = serde_json::from_str(&verdicts).unwrap();
        let coverage = common::verdict(&verdicts, "coverage");
        let elections = coverage["figures"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["name"] == "elections");
        assert_eq!(elections.unwrap()["value"].as_f64(), cell["elections"].as_f64());
        assert_eq!(verdicts["seed"], cell["seed"]);
    }
    let junit = fs::read_to_string(dir.join("junit.xml")).unwrap();
    assert_eq!(
        (
            junit.matches("<testsuite ").count(),
            junit.matches("<testcase ").count()
        ),
        (3, 9),
        "{junit}"
    );
    all_gone(&dir);
    // A matrix that has ended is not run again, whoever continues it.
    let again = bench
        .run(&format!("matrix --continue {} --json", dir.display()))
        .exits(0);
    let told: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&told["exit"], told["cells"].as_array().unwrap().len()), (&0.into(), 9));
    assert!(runs(&dir).values().all(|n| *n == 1));
}

#[test]
fn a_broken_promise_is_the_gravest_and_told_with_its_command() {
    let bench = Bench::new();
    let line = "matrix --systems raft --env sim --seeds 2 --seed 0 --time-limit 60s";
    let ran = bench.run(&format!("{line} -- --mutant ignore-log")).exits(1);
    assert!(
        ran.out.contains("invalid") && ran.out.contains("--mutant ignore-log"),
        "{}",
        ran.out
    );
    let cell = cells(&folder(&bench))
        .into_iter()
        .find(|cell| cell["exit"] == 1)
        .unwrap();
    assert_eq!(cell["ending"]["judged"], "invalid");
    assert!(cell["violations"].as_u64() >= Some(1));
    // The command that the table gives breaks the same promise.
    let replay = cell["replay"].as_str().unwrap().strip_prefix("splitbrain ").unwrap();
    bench.run(replay).exits(1);
    let junit = fs::read_to_string(folder(&bench).join("junit.xml")).unwrap();
    assert!(junit.contains("<failure"), "{junit}");
}

#[test]
fn a_cell_that_fails_or_hangs_is_a_row_and_the_others_are_run() {
    let bench = Bench::new();
    let fake = bench.dir.path().join("etcd");
    fs::write(&fake, "#!/bin/sh\necho '<b>garbage</b>'; exit 3\n").unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let line = "matrix --systems etcd,raft --faults kill --time-limit 5s --seed 7 --jobs 1";
    let ran = bench.run(&format!("{line} -o etcd-bin={}", fake.display())).exits(4);
    let ended = cells(&folder(&bench));
    assert_eq!(ended.len(), 2, "{}", ran.out);
    assert_eq!(
        (&ended[0]["ending"], &ended[0]["exit"]),
        (&"failed".into(), &4.into()),
        "{:#}",
        ended[0]
    );
    assert!(ended[1]["ending"]["judged"].is_string(), "{:#}", ended[1]);
    assert!(ran.out.contains("failed: exit code 4: "), "{}", ran.out);
    let junit = fs::read_to_string(folder(&bench).join("junit.xml")).unwrap();
    assert!(junit.contains("<error"), "{junit}");

    let ran = bench
        .run("matrix --systems raft --faults kill --time-limit 10m --cell-limit 3s --seed 7")
        .exits(4);
    let hung = &cells(&folder(&bench))[0];
    assert!(hung["sentence"].as_str().unwrap().starts_with("hung: "), "{hung:#}");
    assert!(hung["exit"].is_null() && ran.out.contains("1 failed"), "{}", ran.out);
    all_gone(&folder(&bench));
}

/// Simulated cells, whose verdicts are known, and real ones, which leave processes if anything does.
const PLACES: [&str; 2] = ["--env sim --time-limit 10m", "--env local --time-limit 2s"];

/// Starts a matrix of three cells, one after the other, and stops it by `signal` once the first has ended.
fn stopped(bench: &Bench, place: &str, signal: i32) -> (PathBuf, Ran) {
    let line = "matrix --systems raft --seeds 3 --seed 0 --faults kill,pause --jobs 1";
    let mut child = bench.command(&format!("{line} {place}")).spawn().unwrap();
    hear(&mut child, "[1/3]");
    interrupt(&child, signal);
    let mut rest = String::new();
    child.stderr.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    (folder(bench), ran)
}

/// Continues what was stopped, and looks that it was all run once, but for the cell in which it was stopped.
fn continued(bench: &Bench, dir: &Path) {
    let before: Vec<Value> = cells(dir);
    assert!(
        (1..3).contains(&before.len()),
        "it was not stopped in the middle: {before:#?}"
    );
    // As a kill in mid-write would leave it.
    let mut text = fs::read(dir.join("cells.jsonl")).unwrap();
    text.extend(b"{\"id\":\"003-raft");
    fs::write(dir.join("cells.jsonl"), text).unwrap();
    let ran = bench.run(&format!("matrix --continue {}", dir.display()));
    // What a real run of two seconds says depends on what it saw; that it was run does not.
    assert!(matches!(ran.code, Some(0 | 3)), "{:?} {}", ran.code, ran.out);
    assert!(
        !ran.out.contains("not run") && !ran.out.contains("failed"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains(&format!("{} to run", 3 - before.len())), "{}", ran.err);
    let after = cells(dir);
    assert_eq!((after.len(), &after[..before.len()]), (3, &before[..]));
    let runs = runs(dir);
    for cell in &before {
        assert_eq!(
            runs[cell["id"].as_str().unwrap()],
            1,
            "a finished cell was run again: {runs:?}"
        );
    }
    assert!(
        runs.values().sum::<usize>() <= 4,
        "at most the one that was cut off is run twice: {runs:?}"
    );
    all_gone(dir);
}

#[test]
fn an_interrupt_heals_the_running_cell_and_the_rest_can_be_continued() {
    for place in PLACES {
        let bench = Bench::new();
        let (dir, ran) = stopped(&bench, place, libc::SIGINT);
        let ran = ran.exits(130);
        assert!(
            ran.out.contains("not run") && ran.out.contains("--continue"),
            "{}",
            ran.out
        );
        let page = fs::read_to_string(dir.join("index.html")).unwrap();
        assert!(page.contains("not run"), "{page}");
        all_gone(&dir);
        continued(&bench, &dir);
    }
}

#[test]
fn a_killed_matrix_leaves_no_process_and_can_be_continued_at_once() {
    for place in PLACES {
        let bench = Bench::new();
        let (dir, ran) = stopped(&bench, place, libc::SIGKILL);
        assert_eq!(ran.code, None, "{}", ran.err);
        continued(&bench, &dir);
    }
}

#[test]
fn the_cells_of_a_killed_matrix_end_long_before_their_time() {
    let bench = Bench::new();
    let line = "matrix --systems raft --seeds 2 --seed 0 --faults kill --jobs 2 --time-limit 1h";
    let mut child = bench.command(line).spawn().unwrap();
    hear(&mut child, "2 to run");
    let dir = folder(&bench);
    let began = Instant::now();
    // Both have a run with a history, so that they have hosts to end.
    let recorded = |cell: &str| dir.join("cells").join(cell).join("raft/latest/history.jsonl").is_file();
    while !(recorded("001-raft-kill-s0") && recorded("002-raft-kill-s1")) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "no cell began within a minute"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child, libc::SIGKILL);
    child.wait().unwrap();
    all_gone(&dir);
    assert!(cells(&dir).is_empty(), "nobody was there to note an end");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_started_or_left_out_by_name() {
    let check = |line: &str, words: &[&str]| {
        let bench = Bench::new();
        let ran = bench.run(line).exits(2);
        for word in words {
            assert!(ran.err.contains(word), "'{word}' is missing in: {}", ran.err);
        }
        assert!(!bench.store().exists(), "nothing was run, so nothing may be stored");
    };
    check("matrix", &["--systems"]);
    check("matrix --systems raft,zab", &["no system 'zab'", "etcd"]);
    check("matrix --systems raft --faults kill,fire", &["fire", "partition"]);
    check("matrix --systems raft --faults none,kill", &["none goes with no other"]);
    check("matrix --systems raft --seeds 0", &["0"]);
    check("matrix --systems raft --time-limit soon", &["soon"]);
    check("matrix --systems raft -o colour=red", &["none of the systems"]);
    check("matrix --systems raft --env sim -- --system etcd", &["--system"]);
    check(
        "matrix --systems etcd,raft --env sim",
        &["nothing was started", "sim runs raft only"],
    );
    check("matrix --systems etcd -o etcd-bin=/no/such/etcd", &["/no/such/etcd"]);
    check("matrix --continue nowhere", &["nowhere"]);
    check("matrix --continue nowhere --seed 3", &["--seed"]);

    let bench = Bench::new();
    let line = "matrix --systems etcd,raft --env sim --seed 1 --time-limit 20s";
    let ran = bench.run(&format!("{line} --skip-missing")).exits(0);
    assert!(
        ran.out.contains("1 left out, 1 valid") && ran.out.contains("sim runs raft only"),
        "{}",
        ran.out
    );
    let junit = fs::read_to_string(folder(&bench).join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<skipped").count(), 1, "{junit}");
    // Where nothing is left to run, nothing is known.
    let bench = Bench::new();
    bench.run("matrix --systems etcd --env sim --skip-missing").exits(3);
}

#[test]
fn the_command_of_the_page_repeats_a_drawn_seed() {
    let bench = Bench::new();
    bench
        .run("matrix --systems raft --env sim --time-limit 20s --faults kill")
        .exits(0);
    let plan = fs::read_to_string(folder(&bench).join("matrix.toml")).unwrap();
    let seed = cells(&folder(&bench))[0]["seed"].as_u64().unwrap();
    assert!(
        plan.contains(&format!("splitbrain matrix --seed {seed} --systems raft")),
        "{plan}"
    );
}
