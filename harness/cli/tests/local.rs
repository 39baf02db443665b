//! Whole runs on real hosts: the main job, interrupts, kills of control, and what is left behind (nothing).
mod common;
use common::{Bench, PROGRAM, Ran, elections, faults, verdict};
use splitbrain_core::event::Body;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// Processes whose command line or working directory names `mark`: every process of a run names its store.
fn processes_of(mark: &Path) -> Vec<String> {
    let mark = mark.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if pid != std::process::id() && (line.contains(mark) || cwd.starts_with(mark)) {
            found.push(format!("{pid}: {line}"));
        }
    }
    found
}

/// Waits for the last process of a run to be gone; the kernel takes its time to tear namespaces down.
#[track_caller]
fn nothing_is_left(mark: &Path) {
    let patience = Instant::now();
    loop {
        let left = processes_of(mark);
        if left.is_empty() {
            break;
        }
        assert!(patience.elapsed() < Duration::from_secs(20), "left behind: {left:#?}");
        std::thread::yield_now();
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(mark.to_str().unwrap()),
        "a mount was left behind:\n{mounts}"
    );
}

/// Starts a run and returns once its history has `lines` lines.
fn start_until(bench: &Bench, line: &str, lines: usize) -> Child {
    let mut child = bench.command(line).spawn().unwrap();
    let patience = Instant::now();
    loop {
        let path = bench.store().join("raft/latest/history.jsonl");
        let text = std::fs::read(&path).unwrap_or_default();
        if text.iter().filter(|b| **b == b'\n').count() >= lines {
            return child;
        }
        if child.try_wait().unwrap().is_some() || patience.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let ran = Ran::of(child.wait_with_output().unwrap());
            panic!("no {lines} lines of history: {:?}\n{}\n{}", ran.code, ran.out, ran.err);
        }
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill has no memory effects, and the child has not been waited for, so its pid is its own.
    let result = unsafe { libc::kill(child.id() as i32, signal) };
    assert_eq!(result, 0);
}

#[test]
fn the_main_job_ends_with_a_verdict_and_a_report() {
    let bench = Bench::new();
    let ran = bench
        .run("run --time-limit 12s --every 2s --lasting 1s --seed 3")
        .exits(0);
    let history = bench.history("raft");
    assert!(history.is_whole());
    assert!(elections(&history) >= 1 && faults(&history) >= 2);
    let run = bench.latest("raft");
    for file in [
        "plan.toml",
        "history.jsonl.zst",
        "verdicts.json",
        "report.html",
        "junit.xml",
    ] {
        assert!(run.join(file).is_file(), "no {file}");
        let names = ran.out.contains("report.html");
        assert!(names, "the report must be named: {}", ran.out);
    }
    for host in ["n1", "n2", "n3", "n4", "n5", "storage"] {
        let logs: Vec<_> = std::fs::read_dir(run.join("logs")).unwrap().flatten().collect();
        assert!(
            logs.iter().any(|l| l.file_name().to_string_lossy().starts_with(host)),
            "no log of {host}"
        );
    }
    nothing_is_left(bench.dir.path());
    // The run can be judged and drawn again.
    bench.run("check store/raft/latest").exits(0);
    std::fs::remove_file(run.join("report.html")).unwrap();
    bench.run("report store/raft/latest").exits(0);
    assert!(run.join("report.html").is_file());
    assert!(bench.run("list runs").exits(0).out.contains("raft/"));
}

#[test]
fn the_network_can_be_kept_as_pcap() {
    let bench = Bench::new();
    bench.run("run --time-limit 2s --faults none --pcap --seed 1");
    let pcap = std::fs::read(bench.latest("raft").join("network.pcap")).unwrap();
    assert!(pcap.len() > 10_000, "{} bytes of traffic", pcap.len());
}

#[test]
fn an_interrupt_heals_and_ends_with_130() {
    let bench = Bench::new();
    let child = start_until(&bench, "run --time-limit 60s --every 1s --lasting 20s --seed 5", 400);
    signal(&child, libc::SIGINT);
    let ran = Ran::of(child.wait_with_output().unwrap()).exits(130);
    assert!(ran.err.contains("interrupted"), "{}", ran.err);
    let history = bench.history("raft");
    assert!(history.is_whole(), "an interrupted run still reaches its end");
    nothing_is_left(bench.dir.path());
}

#[test]
fn a_terminal_that_hangs_up_is_an_interrupt() {
    let bench = Bench::new();
    let child = start_until(&bench, "run --time-limit 60s --every 1s --lasting 20s --seed 5", 200);
    signal(&child, libc::SIGHUP);
    Ran::of(child.wait_with_output().unwrap()).exits(130);
    assert!(bench.latest("raft").join("report.html").is_file());
    nothing_is_left(bench.dir.path());
}

/// The pid, outside, of a process of this run whose command line has `word`.
fn pid_of(mark: &Path, word: &str) -> i32 {
    let line = processes_of(mark).into_iter().find(|line| line.contains(word));
    let line = line.unwrap_or_else(|| panic!("no process with '{word}'"));
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_member_that_dies_by_itself_ends_the_run_and_is_named() {
    let bench = Bench::new();
    let child = start_until(&bench, "run --time-limit 60s --faults none --seed 5", 200);
    let pid = pid_of(bench.dir.path(), r#""name":"n2""#);
    // SAFETY: kill has no memory effects; the pid was just found by the run's own mark.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    let ran = Ran::of(child.wait_with_output().unwrap()).exits(4);
    assert!(
        ran.err.contains("n2 ended by itself") && ran.err.contains("logs"),
        "{}",
        ran.err
    );
    let history = bench.history("raft");
    assert!(history.is_whole() && history.events.iter().any(|e| matches!(e.body, Body::Exited { .. })));
    nothing_is_left(bench.dir.path());
}

#[test]
fn a_killed_control_leaves_nothing_but_a_readable_history() {
    // The instants are spread by how much history there is, which is the same on a slow machine and a fast one.
    for (round, lines) in [1, 2, 12, 40, 150, 400, 900].into_iter().enumerate() {
        let bench = Bench::new();
        let line = format!("run --time-limit 60s --every 1s --lasting 2s --seed {round}");
        let mut child = start_until(&bench, &line, lines);
        signal(&child, libc::SIGKILL);
        child.wait().unwrap();
        nothing_is_left(bench.dir.path());
        let ran = bench.run("check store/raft/latest");
        assert_ne!(ran.code, Some(2), "the history of round {round} must read: {}", ran.err);
        assert!(ran.out.contains("cut off"), "{}", ran.out);
        let history = bench.history("raft");
        assert!(
            history.events.len() + 1 >= lines,
            "{} events of {lines} lines",
            history.events.len()
        );
    }
}

#[test]
fn a_sabotaged_fault_is_an_error_not_silence() {
    for (sabotage, fault) in [
        ("block", "partition"),
        ("kill", "kill"),
        ("pause", "pause"),
        ("shape", "packet"),
        ("clock", "clock"),
        ("disk", "disk"),
    ] {
        let bench = Bench::new();
        let line = format!("run --time-limit 20s --every 500ms --faults {fault} --seed 7 --sabotage {sabotage}");
        let ran = bench.run(&line).exits(4);
        assert!(ran.err.contains("failed to inject"), "{sabotage}: {}", ran.err);
    }
}

#[test]
fn clocks_and_disks_break_and_are_mended() {
    let bench = Bench::new();
    let line = "run --faults clock,disk --every 1500ms --lasting 1s --time-limit 15s --seed 6";
    bench.run(line).exits(0);
    assert!(faults(&bench.history("raft")) >= 4);
    let ran = bench
        .run("run --faults clock --clock host --every 1s --time-limit 5s --seed 1")
        .exits(4);
    assert!(ran.err.contains("clock = \"process\""), "{}", ran.err);
}

/// On real hosts a seed is a schedule and no more, so a few are tried; in simulation most 60 s seeds catch it.
#[test]
fn a_broken_raft_is_caught_on_real_hosts_too() {
    let caught = (1..=6).find(|seed| {
        let bench = Bench::new();
        let line = format!(
            "run --mutant ignore-log --faults partition,kill --every 2s --lasting 2s --time-limit 20s --seed {seed}"
        );
        let ran = bench.run(&line);
        assert!(matches!(ran.code, Some(0 | 1 | 3)), "{}", ran.err);
        let outcome = bench.verdicts("raft");
        verdict(&outcome, "applied-agreement")["validity"] == "invalid" && ran.code == Some(1)
    });
    println!(
        "ignore-log: caught with seed {:?}",
        caught.expect("one of six runs shows different applied entries")
    );
}

#[test]
fn an_ordinary_user_can_run_it() {
    // SAFETY: geteuid cannot fail and touches nothing.
    if unsafe { libc::geteuid() } != 0 {
        // Then every other test here already ran as an ordinary user.
        return;
    }
    let bench = Bench::new();
    let program = bench.dir.path().join("splitbrain");
    std::fs::copy(PROGRAM, &program).unwrap();
    let open = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(bench.dir.path());
    open(&program);
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    command
        .args("run --time-limit 3s --every 1s --seed 2".split(' '))
        .current_dir(bench.dir.path());
    Ran::of(
        command
            .output()
            .expect("setpriv (util-linux) starts a program as another user"),
    )
    .exits(0);
    nothing_is_left(bench.dir.path());
}

#[test]
fn a_full_disk_ends_the_run_with_a_clear_error() {
    let bench = Bench::new();
    let store = bench.store();
    std::fs::create_dir(&store).unwrap();
    // A small tmpfs in a mount namespace of its own: the store fills up, the machine does not.
    let script = format!(
        "mount -t tmpfs -o size=400k none {0} && {1} run --time-limit 60s --rate 2000 --seed 4 --store {0}; \
         code=$?; {1} check {0}/raft/latest >{2} 2>&1; echo check $? >>{2}; exit $code",
        store.display(),
        PROGRAM,
        bench.dir.path().join("checked").display()
    );
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(bench.dir.path());
    let ran = Ran::of(command.output().unwrap()).exits(4);
    assert!(ran.err.contains("No space left"), "{}", ran.err);
    let checked = std::fs::read_to_string(bench.dir.path().join("checked")).unwrap();
    assert!(checked.contains("cut off") && !checked.contains("check 2"), "{checked}");
    nothing_is_left(bench.dir.path());
}

#[test]
fn progress_is_quiet_when_piped_and_json_is_one_object() {
    let bench = Bench::new();
    let mut child = bench
        .command("run --env sim --time-limit 30s --seed 1 --json")
        .spawn()
        .unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let mut err = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut err)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let outcome: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outcome["validity"], "valid");
    assert_eq!(err, "");
}
