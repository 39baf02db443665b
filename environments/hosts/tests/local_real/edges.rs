//! What is rare: several processes on a host, many hosts, a sandbox that dies, something left over.
use crate::Case;
use crate::death::with_argument;
use crate::rig::{Rig, config, host, link, own_program, toys};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use splitbrain_core::{Action, Happening, Link, Op, ProcessSpec, World};
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalConfig, LocalSite, doctor, end, leftovers};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("a_process_gets_only_its_streams", a_process_gets_only_its_streams),
    ("the_ids_outside_are_known_inside", the_ids_outside_are_known_inside),
    ("processes_of_a_host_start_together", processes_of_a_host_start_together),
    ("many_links_are_proven", many_links_are_proven),
    ("packets_are_captured", packets_are_captured),
    ("strangers_are_refused", strangers_are_refused),
    (
        "the_death_of_the_sandbox_breaks_the_world",
        the_death_of_the_sandbox_breaks_the_world,
    ),
    ("a_leftover_is_found_and_ended", a_leftover_is_found_and_ended),
    ("doctor_finds_all_well", doctor_finds_all_well),
    ("what_cannot_start_is_named", what_cannot_start_is_named),
];

fn log_only(n: usize, name: &str, argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        host: host(n),
        name: name.into(),
        argv: argv.iter().map(|arg| (*arg).to_string()).collect(),
        env: vec![("COLOUR".into(), "blue".into())],
        stdio: splitbrain_core::system::Stdio::Log,
    }
}

/// Runs one command on a host of its own; its output.
fn output(script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("logs/n1-shell.log");
    let site = LocalSite::create(config(dir.path(), 1)).expect("make the host");
    let world =
        LiveWorld::start(Arc::new(site), vec![log_only(1, "shell", &["sh", "-c", script])]).expect("start a shell");
    let mut rig = Rig::bare(world, dir);
    let how = rig.exited(1);
    assert!(how.starts_with("shell: exit status 0"), "{how}");
    fs::read_to_string(log).expect("a log")
}

fn a_process_gets_only_its_streams() {
    let text = output("ls -1 /proc/$$/fd; echo $COLOUR; readlink /proc/$$/fd/0; pwd");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..5], ["0", "1", "2", "blue", "/dev/null"], "{text}");
    assert!(lines[5].ends_with("/hosts/n1"), "{text}");
    // What init blocks for itself, and what Rust ignores, is not for others. Other signals are as control got them.
    let masks = output("grep -E '^Sig(Blk|Ign)' /proc/self/status");
    let bits = |name: &str| {
        let line = masks.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect("a mask").trim(), 16).expect("a number")
    };
    assert_eq!(bits("SigBlk:"), 0, "{masks}");
    assert_eq!(bits("SigIgn:") >> (Signal::SIGPIPE as u32 - 1) & 1, 0, "{masks}");
}

fn the_ids_outside_are_known_inside() {
    let inside = output("cat /proc/self/uid_map; id -u");
    let fields: Vec<&str> = inside.split_whitespace().collect();
    if nix::unistd::geteuid().is_root() {
        let outside = fs::read_to_string("/proc/self/uid_map").unwrap();
        let counts =
            |text: &str| -> Vec<String> { text.split_whitespace().skip(2).step_by(3).map(String::from).collect() };
        assert_eq!(counts(&inside), counts(&outside), "{inside}");
    } else {
        let own = fs::metadata("/proc/self").unwrap().uid().to_string();
        assert_eq!(fields[..3], ["0", &own, "1"], "{inside}");
    }
    assert_eq!(fields.last(), Some(&"0"), "{inside}");
}

fn processes_of_a_host_start_together() {
    let dir = tempfile::tempdir().unwrap();
    let site = LocalSite::create(config(dir.path(), 3)).expect("make the hosts");
    let mut processes = toys(&site);
    processes.push(log_only(1, "helper", &["sh", "-c", "sleep 1000; true"]));
    processes.push(log_only(2, "short", &["sh", "-c", "echo done; exit 4"]));
    let mut rig = Rig::of(LiveWorld::start(Arc::new(site), processes).expect("start all"), dir);
    assert_eq!(rig.exited(2), "short: exit status 4: done");
    let proofs = rig.done(Action::Start { hosts: vec![host(2)] });
    assert_eq!(proofs.len(), 2, "the rest was started anew too: {proofs:?}");
    rig.started(2, 2);
    rig.ready(2);
    let proofs = rig.done(Action::Kill {
        hosts: vec![host(1)],
        unsynced: Default::default(),
    });
    assert!(
        proofs[0].saw.contains("toy (pid") && proofs[0].saw.contains("helper (pid"),
        "{proofs:?}"
    );
    rig.done(Action::Start { hosts: vec![host(1)] });
    rig.started(1, 2);
    rig.ready(1);
}

fn many_links_are_proven() {
    const HOSTS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let site = LocalSite::create(config(dir.path(), HOSTS)).expect("make the hosts");
    let made = start.elapsed();
    let mut rig = Rig::bare(
        LiveWorld::start(Arc::new(site), Vec::new()).expect("start nothing"),
        dir,
    );
    let pairs = (1..=HOSTS).flat_map(|src| {
        (1..=HOSTS)
            .filter(move |dst| *dst != src)
            .map(move |dst| link(src, dst))
    });
    let links: Vec<Link> = pairs.collect();
    let start = Instant::now();
    assert_eq!(rig.done(Action::Block { links: links.clone() }).len(), links.len());
    let proofs = rig.done(Action::Unblock { links: links.clone() });
    assert!(proofs.iter().all(|proof| proof.saw == "probe arrived"));
    println!(
        "  {HOSTS} hosts in {made:?}; {} links blocked and opened in {:?}",
        links.len(),
        start.elapsed()
    );
}

fn packets_are_captured() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("network.pcap");
    let config = LocalConfig {
        pcap: true,
        ..config(dir.path(), 3)
    };
    let site = LocalSite::create(config).expect("make the hosts");
    let processes = toys(&site);
    let others = tempfile::tempdir().unwrap();
    let mut rig = Rig::of(
        LiveWorld::start(Arc::new(site), processes).expect("start the toys"),
        others,
    );
    rig.hears(1, 2);
    drop(rig);
    let bytes = fs::read(file).expect("a capture");
    let hellos = bytes.windows(5).filter(|window| window == b"hello").count();
    assert!(hellos > 0, "{} bytes without a hello", bytes.len());
}

fn strangers_are_refused() {
    let mut rig = Rig::new(None);
    let nobody = vec![host(9)];
    for action in [
        Action::Kill {
            hosts: nobody.clone(),
            unsynced: Default::default(),
        },
        Action::Start { hosts: nobody.clone() },
        Action::Pause { hosts: nobody.clone() },
        Action::Resume { hosts: nobody },
    ] {
        let error = rig.act(action).unwrap_err();
        assert_eq!(error, "no process belongs to host n9");
    }
    for links in [vec![link(1, 9)], vec![link(9, 1)], vec![link(1, 1)]] {
        rig.act(Action::Block { links: links.clone() }).unwrap_err();
        rig.act(Action::Unblock { links }).unwrap_err();
    }
    rig.world.submit(999, host(9), Op::Observe);
    rig.hears(1, 2);
}

fn the_death_of_the_sandbox_breaks_the_world() {
    let mut rig = Rig::new(None);
    let sandbox = with_argument(&format!("splitbrain-sandbox:{}:", std::process::id()));
    assert_eq!(sandbox.len(), 2, "stage 1 and init: {sandbox:?}");
    let stage1 = *sandbox.first().expect("two of them");
    kill(Pid::from_raw(stage1), Signal::SIGKILL).expect("it is ours");
    let why = rig.until("the break", |happening| match happening {
        Happening::Broken(why) => Some(why.clone()),
        _ => None,
    });
    assert!(why.starts_with("the sandbox ended by itself"), "{why}");
    let error = rig
        .act(Action::Kill {
            hosts: vec![host(1)],
            unsynced: Default::default(),
        })
        .unwrap_err();
    assert!(error.contains("sandbox"), "{error}");
    let exits = rig
        .seen
        .iter()
        .filter(|happening| matches!(happening, Happening::Exited { .. }));
    assert_eq!(exits.count(), 0, "{:?}", rig.seen);
}

/// A process that only has a mark; ends with the case.
struct Idle(Child);

impl Idle {
    fn with(mark: &str) -> Idle {
        let mut command = Command::new(own_program());
        Idle(
            command
                .args(["sandbox", mark])
                .env("TOY_IDLES", "1")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_leftover_is_found_and_ended() {
    let space = fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let mut dead = Command::new("/bin/true").spawn().unwrap();
    dead.wait().unwrap();
    let mark = format!("splitbrain-sandbox:{}:1:{space}", dead.id());
    let elsewhere = format!("splitbrain-sandbox:{}:1:{}", dead.id(), space + 1);
    let mut idle = [&mark, &elsewhere].map(|mark| Idle::with(mark));
    // Others may show a mark, and are none of ours: another program, a mark elsewhere on the line.
    let ours = own_program();
    let scripts = tempfile::tempdir().unwrap();
    fs::write(scripts.path().join("sandbox"), "read x").unwrap();
    let decoys = [
        ("/bin/bash", vec!["-c", "read x; :", "sandbox", &mark]),
        ("/bin/bash", vec!["sandbox", &mark]),
        (&ours, vec!["idle", &mark]),
        (&ours, vec!["sandbox", "more", &mark]),
    ];
    let decoys = decoys.map(|(program, args)| {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("TOY_IDLES", "1")
            .current_dir(scripts.path())
            .stdin(Stdio::piped());
        Idle(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    });
    let alive = Rig::new(None);
    let of = |control: u32| {
        let found = leftovers().unwrap().into_iter();
        found
            .filter(|left| left.control.unsigned_abs() == control)
            .collect::<Vec<_>>()
    };
    let found = of(dead.id());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pid.unsigned_abs(), idle[0].0.id());
    assert!(of(std::process::id()).is_empty(), "what is in use is not left over");
    let mut other = found[0].clone();
    other.began += 1;
    end(&other).unwrap();
    assert!(idle[0].0.try_wait().unwrap().is_none(), "another process was spared");
    end(&found[0]).unwrap();
    assert!(!idle[0].0.wait().unwrap().success());
    assert!(of(dead.id()).is_empty());
    end(&found[0]).unwrap();
    assert!(
        idle[1].0.try_wait().unwrap().is_none(),
        "a mark of another pid namespace says nothing here"
    );
    drop((alive, decoys));
}

fn doctor_finds_all_well() {
    let checks = doctor(&[own_program(), "sandbox".into()]);
    assert!(checks.len() == 3 && checks.iter().all(|check| check.ok), "{checks:#?}");
    let checks = doctor(&["/no/such/program".into()]);
    assert!(checks.len() == 1 && !checks[0].ok, "{checks:#?}");
}

fn what_cannot_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let site = LocalSite::create(config(dir.path(), 1)).expect("make the host");
    let missing = ProcessSpec {
        host: host(1),
        name: "server".into(),
        argv: vec!["/no/such/server".into()],
        env: Vec::new(),
        stdio: splitbrain_core::system::Stdio::Log,
    };
    let error = LiveWorld::start(Arc::new(site), vec![missing])
        .err()
        .expect("nothing to start");
    let text = format!("{error:#}");
    assert!(
        text.contains("start server on n1: /no/such/server: No such file"),
        "{text}"
    );
    let mut wrong = config(dir.path(), 1);
    wrong.program = vec!["/bin/true".into()];
    let error = LocalSite::create(wrong).err().expect("true is no sandbox");
    assert!(format!("{error:#}").contains("failed to make the sandbox"), "{error:#}");
}
