//! That nothing comes to harm: the programs go on as they were.
use crate::Case;
use crate::moved::Etcd;
use crate::subject::{HOUR, Subject, set, skew, stop, vdso};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Clocks as Which, Nanos, Skew};
use splitbrain_environments::Sabotage;
use splitbrain_environments::clock::Clocks;
use std::time::{Duration, Instant};

pub const ALL: &[Case] = &[
    (
        "a_busy_process_survives_a_thousand_patches",
        a_busy_process_survives_a_thousand_patches,
    ),
    ("stops_are_short", stops_are_short),
    ("a_stopped_process_stays_stopped", a_stopped_process_stays_stopped),
    ("a_sleeper_sleeps_on", a_sleeper_sleeps_on),
    (
        "children_and_new_programs_read_the_same_clock",
        children_and_new_programs_read_the_same_clock,
    ),
    (
        "what_ends_meanwhile_is_no_error_and_is_reaped_by_its_parent",
        what_ends_meanwhile_is_no_error,
    ),
    ("another_owner_finds_our_mark", another_owner_finds_our_mark),
    ("a_strobe_comes_and_goes", a_strobe_comes_and_goes),
    (
        "a_skew_that_does_nothing_is_noticed",
        a_skew_that_does_nothing_is_noticed,
    ),
    ("a_debugged_process_is_refused", a_debugged_process_is_refused),
    ("all_that_is_needed_is_here", all_that_is_needed_is_here),
];

fn figures(what: &str, mut stops: Vec<f64>) {
    stops.sort_by(f64::total_cmp);
    let at = |share: f64| stops[((stops.len() - 1) as f64 * share) as usize];
    let [least, half, most_of, most] = [0.0, 0.5, 0.99, 1.0].map(at);
    let count = stops.len();
    println!("  {what}: {count} stops: least {least} ms, median {half} ms, 99% {most_of} ms, most {most} ms");
}

fn a_busy_process_survives_a_thousand_patches() {
    let mut busy = Subject::own(&["busy", "16"]);
    let before = vdso(busy.pid());
    let processes = busy.processes();
    let (mut clocks, mut stops, mut restores) = (Clocks::new(None), Vec::new(), Vec::new());
    let mut last = busy.line("");
    for round in 0..1_000 {
        let offset = if round % 2 == 0 { HOUR } else { -HOUR };
        stops.push(stop(&set(
            &mut clocks,
            skew(Which::Realtime, offset, 1_000_000),
            &processes,
        )));
        let proofs = set(&mut clocks, Skew::default(), &processes);
        restores.push(stop(&proofs));
        // A handler that stood over our code all the time keeps it for a while, and is told.
        until("our code is gone", || {
            clocks.tend(&processes).expect("tend");
            !clocks.busy()
        });
        if round % 100 == 99 {
            assert!(vdso(busy.pid()) == before, "its vDSO differs after {round}");
            let now = busy.line("");
            assert!(now[0] > last[0] && now[1] > last[1], "it stands: {now:?}");
            last = now;
        }
    }
    println!("  it read its clocks {} times, and got {} signals", last[0], last[1]);
    figures("patches", stops);
    figures("restores", restores);
}

fn stops_are_short() {
    let dir = tempfile::tempdir().unwrap();
    let (etcd, jvm, own) = (Etcd::start(), Subject::jvm(dir.path()), Subject::own(&["clocks"]));
    for (name, pid) in [
        ("etcd", etcd.pid()),
        ("jvm", jvm.pid()),
        ("a program of one thread", own.pid()),
    ] {
        let processes = [(name.to_string(), pid)];
        let mut clocks = Clocks::new(None);
        let stops = (0..200).map(|round| {
            let skew = if round % 4 == 3 {
                Skew::default()
            } else {
                skew(Which::Both, HOUR + round, 1_000_000)
            };
            stop(&set(&mut clocks, skew, &processes))
        });
        let stops = stops.collect();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
            .expect("its threads")
            .count();
        figures(&format!("{name} ({threads} threads)"), stops);
        set(&mut clocks, Skew::default(), &processes);
    }
}

fn state(pid: Pid) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .expect("a state")
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn a_stopped_process_stays_stopped() {
    let mut subject = Subject::own(&["clocks"]);
    let mut busy = Subject::own(&["busy", "4"]);
    for pid in [subject.pid(), busy.pid()] {
        kill(pid, Signal::SIGSTOP).expect("stop it");
        until("it stops", || state(pid) == 'T');
    }
    let processes = [("one".to_string(), subject.pid()), ("two".to_string(), busy.pid())];
    let mut clocks = Clocks::new(None);
    set(&mut clocks, skew(Which::Both, -HOUR, 1_000_000), &processes);
    set(&mut clocks, skew(Which::Realtime, HOUR, 1_000_000), &processes);
    for (_, pid) in &processes {
        until("all threads stand again", || all_stopped(*pid));
    }
    for pid in [subject.pid(), busy.pid()] {
        kill(pid, Signal::SIGCONT).expect("continue it");
    }
    subject.sample().off_by(0, HOUR);
    busy.line("");
    set(&mut clocks, Skew::default(), &processes);
    subject.sample().off_by(0, 0);
    busy.line("");
}

fn all_stopped(pid: Pid) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).expect("a thread's state"));
    stats
        .into_iter()
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// A system call that was interrupted goes on, with what is left of its time.
fn a_sleeper_sleeps_on() {
    let begin = Instant::now();
    let mut child = std::process::Command::new("sleep").arg("2").spawn().expect("sleep");
    let processes = [("sleep".to_string(), Pid::from_raw(child.id().cast_signed()))];
    let mut clocks = Clocks::new(None);
    for round in 0..50 {
        set(&mut clocks, skew(Which::Both, HOUR + round, 1_000_000), &processes);
    }
    set(&mut clocks, Skew::default(), &processes);
    assert!(child.wait().expect("its end").success(), "its sleep was broken off");
    assert!(
        begin.elapsed() >= Duration::from_secs(2),
        "it slept for {:?}",
        begin.elapsed()
    );
}

fn children_and_new_programs_read_the_same_clock() {
    let mut subject = Subject::own(&["clocks"]);
    let mut clocks = Clocks::new(None);
    let parent = subject.processes();
    set(&mut clocks, skew(Which::Both, HOUR, 1_000_000), &parent);
    let child = Pid::from_raw(i32::try_from(subject.line("fork")[2]).expect("a pid"));
    let both = [("parent".to_string(), subject.pid()), ("child".to_string(), child)];
    // It has its parent's patch before anybody has looked.
    subject.sample().off_by(0, HOUR);
    clocks.tend(&both).expect("tend");
    subject.sample().off_by(0, HOUR);
    set(&mut clocks, skew(Which::Both, -HOUR, 1_000_000), &both);
    subject.sample().off_by(1, -HOUR);
    // A new program has a new vDSO.
    subject.line("exec");
    let sample = subject.sample();
    sample.off_by(0, 0);
    clocks.tend(&both).expect("tend");
    subject.sample().off_by(0, -HOUR);
    // What forks while its parent is restored is found by the next look.
    set(&mut clocks, Skew::default(), &parent);
    assert!(clocks.busy());
    subject.sample().off_by(0, -HOUR);
    clocks.tend(&both).expect("tend");
    subject.sample().off_by(0, 0);
    clocks.tend(&both).expect("tend");
    assert!(!clocks.busy(), "nothing is left to be found");
    let _ = kill(child, Signal::SIGKILL);
}

fn what_ends_meanwhile_is_no_error() {
    let mut clocks = Clocks::new(None);
    for round in 0..40 {
        let mut subject = Subject::own(&["busy", "4"]);
        let mut again = Subject::own(&["again"]);
        let (pid, processes) = (subject.pid(), subject.processes());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(round * 37));
                kill(pid, Signal::SIGKILL).expect("kill it");
            });
            set(&mut clocks, skew(Which::Both, HOUR, 1_000_000), &processes);
            clocks.tend(&processes).expect("tend");
        });
        use std::os::unix::process::ExitStatusExt;
        // Nobody else has taken its end.
        assert_eq!(subject.child.wait().expect("its end").signal(), Some(libc::SIGKILL));
        // What becomes one program after the other is either caught or told.
        let told = clocks.set(skew(Which::Both, HOUR, 1_000_000), ClockOf::Process, &again.processes());
        if let Err(why) = told {
            assert!(why.contains("one program after the other"), "{why}");
        }
        again.child.kill().expect("kill it");
        assert_eq!(again.child.wait().expect("its end").signal(), Some(libc::SIGKILL));
        set(&mut clocks, Skew::default(), &[]);
    }
}

fn another_owner_finds_our_mark() {
    let mut subject = Subject::own(&["clocks"]);
    let before = vdso(subject.pid());
    let processes = subject.processes();
    set(&mut Clocks::new(None), skew(Which::Both, HOUR, 2_000_000), &processes);
    // Whoever had patched it is gone. Another one can move it further, and restore it.
    let mut clocks = Clocks::new(None);
    set(&mut clocks, skew(Which::Both, -HOUR, 1_000_000), &processes);
    subject.sample().off_by(0, -HOUR);
    let proofs = set(&mut Clocks::new(None), Skew::default(), &processes);
    assert!(proofs[0].saw.contains("its vDSO is as it was"), "{proofs:?}");
    assert!(vdso(subject.pid()) == before, "its vDSO differs");
    subject.sample().off_by(0, 0);
}

fn a_strobe_comes_and_goes() {
    let mut subject = Subject::own(&["clocks"]);
    let strobe = Skew {
        strobe: Nanos::millis(100),
        ..skew(Which::Both, HOUR, 1_000_000)
    };
    let mut clocks = Clocks::new(None);
    let proofs = set(&mut clocks, strobe, &subject.processes());
    assert!(proofs[0].saw.contains("reads +1h by turns"), "{proofs:?}");
    let (mut here, mut turns) = (true, 0);
    let begin = Instant::now();
    while turns < 6 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{turns} turns only");
        let sample = subject.sample();
        let is = sample.said[1] - sample.from[1] > HOUR / 2;
        sample.off_by(1, if is { HOUR } else { 0 });
        turns += usize::from(is != here);
        here = is;
    }
    // Its seventh phase begins after six of them.
    assert!(begin.elapsed() > Duration::from_millis(400), "{:?}", begin.elapsed());
}

fn a_skew_that_does_nothing_is_noticed() {
    let subject = Subject::own(&["clocks"]);
    for (which, offset, rate) in [
        (Which::Realtime, HOUR, 1_000_000),
        (Which::Monotonic, -HOUR, 1_000_000),
        (Which::Both, 0, 2_000_000),
        (Which::Both, 0, 1_100_000),
    ] {
        let mut clocks = Clocks::new(Some(Sabotage::ClockDoesNothing));
        let told = clocks.set(skew(which, offset, rate), ClockOf::Process, &subject.processes());
        let why = told.expect_err("it does nothing");
        assert!(why.contains("subject: ") && why.contains("ought to read"), "{why}");
    }
}

fn a_debugged_process_is_refused() {
    let subject = Subject::own(&["clocks"]);
    let pid = subject.pid().as_raw();
    // A tracer is a thread: this one would be allowed to go on.
    let told = std::thread::spawn(move || {
        // SAFETY: seizes our own child; touches no memory.
        unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
        let processes = [("subject".to_string(), Pid::from_raw(pid))];
        std::thread::spawn(move || {
            Clocks::new(None).set(skew(Which::Both, HOUR, 1_000_000), ClockOf::Process, &processes)
        })
        .join()
        .expect("no panic")
    });
    let why = told.join().expect("no panic").expect_err("it is traced");
    assert!(why.contains("traces it already"), "{why}");
}

fn all_that_is_needed_is_here() {
    let missing = Clocks::missing();
    assert!(!missing.contains_key("vdso"), "{missing:?}");
}
