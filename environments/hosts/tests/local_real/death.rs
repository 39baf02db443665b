//! Control dies; nothing may be left.
use crate::Case;
use crate::rig::{config, host, own_program, toys};
use splitbrain_core::seed::stream;
use splitbrain_core::{Action, Nanos, World};
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalSite, end, leftovers};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const ALL: &[Case] = &[
    (
        "control_killed_in_mid_run_leaves_nothing",
        control_killed_in_mid_run_leaves_nothing,
    ),
    (
        "control_killed_at_any_moment_leaves_nothing",
        control_killed_at_any_moment_leaves_nothing,
    ),
];

/// A control: runs a cluster in `dir` with an action now and then, until it is killed.
pub fn control(dir: &str) -> ExitCode {
    let site = LocalSite::create(config(dir.as_ref(), 3)).expect("make the hosts");
    let processes = toys(&site);
    let mut world = LiveWorld::start(Arc::new(site), processes).expect("start the toys");
    println!("up");
    for id in 0.. {
        let hosts = vec![host(1)];
        let action = if id % 2 == 0 {
            Action::Kill {
                hosts,
                unsynced: Default::default(),
            }
        } else {
            Action::Start { hosts }
        };
        world.act(id, &action);
        let until = world.now() + Nanos::millis(20);
        while world.poll(until).is_some() {}
    }
    ExitCode::SUCCESS
}

/// Pids of all processes whose arguments hold `text`.
pub fn with_argument(text: &str) -> BTreeSet<i32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

fn spaces() -> BTreeSet<String> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.flat_map(|pid| ["net", "pid", "mnt", "user"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}"))))
        .filter_map(|link| Some(link.ok()?.to_str()?.to_string()))
        .collect()
}

/// Starts a control, kills it when `wait` returns, and looks for what is left.
fn kill_control(wait: impl FnOnce(&mut std::process::ChildStdout)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_string();
    // The program under a name of its own, which tells its processes from all others.
    let program = format!("{path}/under-test");
    fs::copy(own_program(), &program).unwrap();
    let (before, mounts) = (spaces(), fs::read_to_string("/proc/self/mounts").unwrap());
    let mut command = Command::new(&program);
    let mut control = command.args(["control", &path]).stdout(Stdio::piped()).spawn().unwrap();
    wait(control.stdout.as_mut().unwrap());
    control.kill().unwrap();
    control.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = with_argument(&path);
        let new: Vec<String> = spaces().difference(&before).cloned().collect();
        // Other programs on this machine make namespaces too: only what stays with our processes is ours.
        if left.is_empty() {
            assert!(
                leftovers()
                    .unwrap()
                    .iter()
                    .all(|left| left.control != control.id() as i32),
                "{new:?}"
            );
            break;
        }
        assert!(Instant::now() < deadline, "left: {left:?}, {new:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
    for left in leftovers().unwrap() {
        end(&left).unwrap();
    }
}

fn control_killed_in_mid_run_leaves_nothing() {
    kill_control(|stdout| stdout.read_exact(&mut [0; 3]).expect("it says that it is up"));
}

fn control_killed_at_any_moment_leaves_nothing() {
    use rand::Rng as _;
    let seed = u64::from(std::process::id());
    println!("  seed {seed}");
    let mut random = stream(seed, "death");
    for _ in 0..15 {
        let wait = Duration::from_micros(random.next_u64() % 200_000);
        kill_control(|_| std::thread::sleep(wait));
    }
}
