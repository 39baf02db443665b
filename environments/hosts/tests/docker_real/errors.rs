//! What does not work says so: the host or engine, the reason, the remedy.
use crate::Case;
use crate::rig::{Run, docker};
use splitbrain_environments::docker;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

pub const ALL: &[Case] = &[
    ("no_engine_or_no_right_to_it", no_engine_or_no_right_to_it),
    ("no_such_base_image", no_such_base_image),
    ("no_such_mount", no_such_mount),
    ("a_name_that_is_taken_by_another", a_name_that_is_taken_by_another),
    (
        "an_image_that_cannot_run_our_program",
        an_image_that_cannot_run_our_program,
    ),
    ("a_program_that_ends_at_once", a_program_that_ends_at_once),
];

pub fn tell_what_the_doctor_says() -> ExitCode {
    let (ok, detail, remedy) = docker::doctor();
    println!("{ok} | {detail} | {remedy}");
    ExitCode::SUCCESS
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

/// The error of a run that must not get as far as a container; nothing of it may be left.
fn refused(run: &Run) -> String {
    let error = match docker::create(&run.order(1), &run.settings) {
        Err(error) => error,
        Ok(hosts) => run.start(&*hosts[0], &["echo"]).expect_err("this cannot work"),
    };
    assert_eq!(run.things(), [""; 0]);
    format!("{error:#}")
}

fn no_engine_or_no_right_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("look");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [dir.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let look = |host: &str, uid: u32| {
        let mut command = Command::new(&copy);
        command.arg("doctor").env("DOCKER_HOST", host).uid(uid).gid(uid);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    has(&look("", 0), &["true | ", "/var/run/docker.sock speaks version 1."]);
    has(
        &look("unix:///nowhere.sock", 0),
        &["false | there is no docker engine at /nowhere.sock", "install it"],
    );
    has(
        &look("tcp://127.0.0.1:1", 0),
        &["false | ", "only unix:// sockets", "ssh -L"],
    );
    has(
        &look("", 65534),
        &["false | this user may not use", "usermod -aG docker"],
    );
}

fn no_such_base_image() {
    let mut run = Run::new();
    // A registry on this machine that nobody runs: the answer comes at once, with or without a network.
    run.settings.base_image = Some("127.0.0.1:1/nothing:1".to_string());
    has(
        &refused(&run),
        &[
            "127.0.0.1:1/nothing:1 is not on the docker engine",
            "environments/docker/base-image NAME",
            "--base-image",
        ],
    );
    run.settings.base_image = None;
    run.settings.image = Some("127.0.0.1:1/nothing:1".to_string());
    has(&refused(&run), &["127.0.0.1:1/nothing:1", "--image"]);
}

fn no_such_mount() {
    let mut run = Run::new();
    run.settings.mounts = vec!["/no/such/folder".to_string()];
    has(
        &refused(&run),
        &[
            "container splitbrain-test-",
            "/no/such/folder",
            "a folder of the engine's machine",
        ],
    );
    run.settings.mounts = vec!["relative".to_string()];
    has(&refused(&run), &["'relative'", "absolute"]);
}

fn a_name_that_is_taken_by_another() {
    let run = Run::new();
    let name = format!("splitbrain-{}-n1", run.name);
    let image = run.settings.base_image.clone().unwrap();
    docker(&["create", "--name", &name, &image, "true"]);
    let words = refused(&run);
    // It stands.
    docker(&["rm", &name]);
    has(&words, &[&name, "is not this run's", "docker rm"]);
}

fn an_image_that_cannot_run_our_program() {
    let run = Run::new();
    let image = format!("splitbrain-test-empty-{}", std::process::id());
    let tar = run.dir.path().join("empty.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    archive.append_data(&mut header, "etc-release", &[][..]).unwrap();
    archive.finish().unwrap();
    docker(&["import", tar.to_str().unwrap(), &image]);
    let mut run = Run::new();
    run.settings.base_image = None;
    run.settings.image = Some(image.clone());
    let hosts = docker::create(&run.order(1), &run.settings).unwrap();
    let log = fs::File::create(run.log()).unwrap();
    let own = std::env::current_exe().unwrap();
    let error = hosts[0].start_agent(&own, &[], log).expect_err("there is no loader");
    has(
        &format!("{error:#}"),
        &["container splitbrain-test-", "ld-linux", "Debian 12"],
    );
    drop(hosts);
    assert_eq!(run.things(), [""; 0]);
    docker(&["rmi", &image]);
}

fn a_program_that_ends_at_once() {
    let run = Run::new();
    let hosts = run.create(1);
    // Some of the agent's errands are short: its words and its end come over the stream all the same.
    let mut stream = run
        .start(&*hosts[0], &["run", "echo dying >&2; echo words; exit 3"])
        .unwrap();
    let mut words = String::new();
    std::io::Read::read_to_string(&mut stream, &mut words).unwrap();
    assert_eq!(words, "words\n");
    assert_eq!(fs::read_to_string(run.log()).unwrap(), "dying\n");
}
