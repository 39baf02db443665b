//! Starting, stopping and ending processes; what an agent says and refuses.
use crate::Case;
use crate::rig::{Agent, Place, gone, hello, runs, state};
use nix::mount::{MsFlags, mount};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Skew, Unsynced};
use splitbrain_environments::Sabotage;
use splitbrain_environments::agent::proto::{FromHost, Hello, Order, SpawnStdio};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub const ALL: &[Case] = &[
    ("the_greeting_says_what_the_host_is", the_greeting_says_what_the_host_is),
    ("a_process_gets_a_small_environment", a_process_gets_a_small_environment),
    ("what_cannot_start_is_named", what_cannot_start_is_named),
    ("an_end_is_reported", an_end_is_reported),
    (
        "a_pause_stops_all_and_a_kill_ends_all",
        a_pause_stops_all_and_a_kill_ends_all,
    ),
    ("sabotage_is_noticed", sabotage_is_noticed),
    (
        "clocks_of_processes_go_wrong_and_right",
        clocks_of_processes_go_wrong_and_right,
    ),
    ("an_orderly_end_leaves_nothing", an_orderly_end_leaves_nothing),
    ("who_is_no_root_is_refused", who_is_no_root_is_refused),
    ("another_version_is_refused", another_version_is_refused),
    ("a_full_disk_is_named", a_full_disk_is_named),
];

/// A shell, a child of it, and one that leaves its session and its environment.
pub const FAMILY: &str = "echo $$; sleep 1000 & echo $!; \
    setsid env -i sh -c 'echo $$; exec sleep 1000' & wait";
/// As [`FAMILY`], and the last one loses its parent too.
pub const ORPHAN: &str = "echo $$; sleep 1000 & echo $!; \
    (setsid env -i sh -c 'echo $$; exec sleep 1000' &); wait";

fn the_greeting_says_what_the_host_is() {
    for args in [
        "link add v0 type veth peer name v1",
        "addr add 10.9.8.7/24 dev v0",
        "addr add fd00::7/64 dev v0",
    ] {
        let status = Command::new("ip").args(args.split(' ')).status().unwrap();
        assert!(status.success(), "ip {args}");
    }
    let place = Place::new();
    let (_agent, greeting) = Agent::greeted(&place, &hello());
    let has = |ip: &str, prefix: u8| {
        let same = |a: &&_| {
            let a: &splitbrain_environments::agent::proto::Address = a;
            a.ip == ip.parse::<std::net::IpAddr>().unwrap() && a.prefix == prefix && a.interface == "v0"
        };
        greeting.addresses.iter().find(same).is_some()
    };
    assert!(has("10.9.8.7", 24) && has("fd00::7", 64), "{greeting:?}");
    assert!(greeting.addresses.iter().all(|address| !address.ip.is_loopback()));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(greeting.boot_id, boot.trim());
    assert_eq!(greeting.dir, place.state());
    assert_eq!(greeting.program, std::env::current_exe().unwrap());
}

fn a_process_gets_a_small_environment() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let dir = place.state().join("hosts/n1/deep");
    let mut spawn = agent.spawn_order(
        &["sh", "-c", "pwd; env; ls /proc/self/fd | wc -l >&2"],
        SpawnStdio::Protocol,
        dir.clone(),
    );
    spawn.env = vec![("OWN".into(), "1".into()), ("SPLITBRAIN_RUN".into(), "other".into())];
    let stream = spawn.stream;
    agent.done(Order::Spawn(spawn));
    assert_eq!(agent.line(stream + 1), dir.display().to_string());
    // Its own three, and that of the folder that is listed.
    assert_eq!(agent.line(stream + 2), "4");
    agent.until("the end of its output", |message| {
        matches!(message, FromHost::Closed { stream: closed } if *closed == stream + 1).then_some(())
    });
    let said = String::from_utf8(agent.data[&(stream + 1)].clone()).unwrap();
    let names: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for line in [
        "OWN=1".to_string(),
        "TZ=UTC".to_string(),
        "SPLITBRAIN_RUN=test".to_string(),
        format!("HOME={}", dir.display()),
        format!("SPLITBRAIN_STATE={}", place.state().display()),
    ] {
        assert!(said.lines().any(|other| other == line), "{line} is not in {said}");
    }
    let known = [
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "OWN",
        "SPLITBRAIN_RUN",
        "SPLITBRAIN_STATE",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
}

fn what_cannot_start_is_named() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let script = place.dir.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    for (argv, want) in [
        (&["no-such-program"][..], "install it on this host"),
        (&["/no/such"], "/no/such is missing"),
        (&[script.to_str().unwrap()], "No such file"),
        (&[], "there is no program"),
    ] {
        let spawn = agent.spawn_order(argv, SpawnStdio::Log, place.state().join("hosts/n1"));
        let error = agent.order(Order::Spawn(spawn)).unwrap_err();
        assert!(error.contains("start toy on n1") && error.contains(want), "{error}");
    }
    agent.start(&place, &["true"]);
}

fn an_end_is_reported() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    for (script, want) in [("exit 3", "exit status 3"), ("kill -SEGV $$", "signal 11 (SIGSEGV)")] {
        agent.start(&place, &["sh", "-c", script]);
        let how = agent.until("an exit", |message| match message {
            FromHost::Exited { process, life: 1, how } if process == "toy" => Some(how.clone()),
            _ => None,
        });
        assert_eq!(how, want);
    }
    // A process that was killed on demand is no exit of its own.
    agent.start(&place, &["sleep", "1000"]);
    agent.done(Order::Kill(Unsynced::Kept));
    agent.rounds(3);
    assert!(
        !agent
            .seen
            .iter()
            .any(|message| matches!(message, FromHost::Exited { .. })),
        "{:?}",
        agent.seen
    );
}

fn a_pause_stops_all_and_a_kill_ends_all() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let family = agent.script(&place, FAMILY, 3);
    let shell = family[0];
    let saw = agent.done(Order::Pause);
    assert!(
        saw.starts_with(&format!("toy (pid {shell}) stopped by signal 19")),
        "{saw}"
    );
    assert!(family.iter().all(|pid| state(*pid) == Some('T')), "{family:?}");
    assert!(agent.done(Order::Pause).contains("was stopped already"));
    let saw = agent.done(Order::Resume);
    assert!(saw.contains("continued by signal 18"), "{saw}");
    assert!(
        family.iter().all(|pid| runs(*pid) && state(*pid) != Some('T')),
        "{family:?}"
    );
    agent.done(Order::Pause);
    let saw = agent.done(Order::Kill(Unsynced::Kept));
    let want = format!("toy (pid {shell}) ended by signal 9 (SIGKILL)");
    assert!(
        saw.contains(&want) && saw.contains("2 processes that it had started ended"),
        "{saw}"
    );
    assert!(!family.iter().any(|pid| runs(*pid)), "{family:?}");
    assert_eq!(agent.done(Order::Kill(Unsynced::Kept)), "already dead");
}

fn sabotage_is_noticed() {
    for (sabotage, order, want) in [
        (
            Sabotage::KillDoesNothing,
            Order::Kill(Unsynced::Kept),
            "still alive after SIGKILL",
        ),
        (Sabotage::PauseDoesNothing, Order::Pause, "not stopped after SIGSTOP"),
    ] {
        let place = Place::new();
        let mut agent = Agent::sabotaged(&place, sabotage);
        let (pid, _) = agent.start(&place, &["sleep", "1000"]);
        let error = agent.order(order).unwrap_err();
        assert!(error.contains(want) && error.contains(&pid.to_string()), "{error}");
        agent.done(Order::Heal);
        assert!(!runs(pid), "sabotage is not for the healing");
    }
}

fn an_orderly_end_leaves_nothing() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let family = agent.script(&place, FAMILY, 3);
    fs::write(place.state().join("hosts/n1/file"), "x").unwrap();
    let saw = agent.done(Order::Heal);
    assert!(saw.contains("ended by signal 9") && saw.contains("files in"), "{saw}");
    assert!(!family.iter().any(|pid| runs(*pid)), "{family:?}");
    assert_eq!(agent.done(Order::Heal), "already dead");
    agent.hang_up();
    assert!(agent.ended());
    let mut names: Vec<_> = fs::read_dir(place.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["ledger.jsonl", "lock"]);
    assert_eq!(fs::read_to_string(place.state().join("ledger.jsonl")).unwrap(), "");
    assert!(!place.log().contains("the guard heals"), "{}", place.log());
    assert_eq!(
        place.ask("check"),
        (true, serde_json::json!({"left": [], "in_use_by": null}))
    );
}

fn who_is_no_root_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    for path in [place.dir.path(), &place.state()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let copy = place.dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["steward", "serve"])
        .env("SPLITBRAIN_STATE", place.state());
    command.uid(65534).gid(65534);
    let mut agent = Agent::by(command);
    agent.say(&splitbrain_environments::agent::proto::ToHost::Hello(hello()));
    let why = agent.until("a refusal", |message| match message {
        FromHost::Refused(why) => Some(why.clone()),
        _ => None,
    });
    assert!(why.contains("rights of root") && why.contains("sudo"), "{why}");
}

fn another_version_is_refused() {
    let place = Place::new();
    let why = Agent::refused(&place, &Hello { version: 99, ..hello() });
    assert!(why.contains("version 1 and control 99"), "{why}");
}

fn a_full_disk_is_named() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let size = Some("size=64k");
    mount(Some("tmpfs"), &place.state(), Some("tmpfs"), MsFlags::empty(), size).unwrap();
    let fill = || {
        let filler = place.state().join("filler");
        let _ = fs::write(&filler, vec![0; 1 << 20]);
    };
    fill();
    let why = Agent::refused(&place, &hello());
    assert!(
        why.contains("No space left") && why.contains("free some space"),
        "{why}"
    );
    fs::remove_file(place.state().join("filler")).unwrap();
    let mut agent = Agent::new(&place);
    fill();
    let spawn = agent.spawn_order(&["sleep", "1000"], SpawnStdio::Log, place.dir.path().join("elsewhere"));
    let why = agent.order(Order::Spawn(spawn)).unwrap_err();
    assert!(
        why.contains("nothing was done") && why.contains("free some space"),
        "{why}"
    );
    fs::remove_file(place.state().join("filler")).unwrap();
    let (pid, _) = agent.start(&place, &["sleep", "1000"]);
    agent.hang_up();
    gone(&[pid]);
    agent.ended();
    nix::mount::umount(&place.state()).unwrap();
}

/// Seconds that a process's clock is ahead, by its own word.
fn ahead(agent: &mut Agent, stream: u32) -> i64 {
    agent.write(stream, b"\n");
    let there: i64 = agent.line(stream + 1).parse().expect("seconds");
    let here = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    there - i64::try_from(here.as_secs()).unwrap()
}

fn clocks_of_processes_go_wrong_and_right() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let script = "read x; while read x; do date +%s; done";
    // It says when the process that it starts is the one that is looked for below.
    let fork = "sleep 1000 & until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done; echo forked";
    let (_, stream) = agent.start(&place, &["bash", "-c", &format!("{fork}; {script}")]);
    assert_eq!(agent.line(stream + 1), "forked");
    agent.write(stream, b"\n");
    let hour = Skew {
        offset: splitbrain_core::time::Offset(3600 * 1_000_000_000),
        ..Skew::default()
    };
    let saw = agent.done(Order::Clock(hour, ClockOf::Process));
    assert!(
        saw.contains("toy (pid ") && saw.contains("sleep (pid ") && saw.contains("reads +1h"),
        "{saw}"
    );
    // What starts later gets it too.
    let (_, later) = agent.start(&place, &["bash", "-c", "while read x; do printf '%(%s)T\n' -1; done"]);
    assert!((3590..=3610).contains(&ahead(&mut agent, later)));
    let saw = agent.done(Order::Clock(Skew::default(), ClockOf::Process));
    assert!(saw.contains("clocks true"), "{saw}");
    assert!((-10..=10).contains(&ahead(&mut agent, later)));
    let place = Place::new();
    let mut agent = {
        drop(agent);
        Agent::sabotaged(&place, Sabotage::ClockDoesNothing)
    };
    agent.start(&place, &["sleep", "1000"]);
    let error = agent.order(Order::Clock(hour, ClockOf::Process)).unwrap_err();
    assert!(error.starts_with("toy: "), "{error}");
}
