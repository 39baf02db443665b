//! Who is let in, who is believed, and what is said otherwise.
use crate::rig::{Agent, Rig, Wish, keygen, one, reserved};
use splitbrain_core::plan::{HostKeys, Ssh};
use splitbrain_environments::ssh;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

/// A host through another.
pub fn through(jump: &Rig, rig: &Rig) -> Ssh {
    let mut settings = rig.settings("root");
    settings.jump = Some(jump.host("worker"));
    let both =
        fs::read_to_string(jump.path("known_hosts")).unwrap() + &fs::read_to_string(rig.path("known_hosts")).unwrap();
    fs::write(rig.path("known_hosts"), both).unwrap();
    fs::copy(rig.path("key.pub"), jump.path("authorized_keys")).unwrap();
    settings
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

#[track_caller]
fn starts(rig: &Rig, settings: &Ssh) {
    let remote = one(settings);
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

fn fingerprint(rig: &Rig, public: &str) -> String {
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(rig.path(public))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().nth(1).unwrap().to_string()
}

#[test]
fn an_unknown_host_key_is_refused_and_nothing_is_written() {
    let rig = Rig::new();
    fs::write(rig.path("known_hosts"), "").unwrap();
    let text = rig.refused(&rig.settings("root"));
    says(
        &text,
        &[
            "its host key is not known",
            "ssh-ed25519",
            &fingerprint(&rig, "host_ed25519.pub"),
        ],
    );
    says(&text, &["ssh-keyscan -p", "--accept-new-host-keys"]);
    assert_eq!(fs::read_to_string(rig.path("known_hosts")).unwrap(), "");
    assert!(rig.copies("root").is_empty());
}

#[test]
fn a_new_host_key_is_taken_and_written_if_asked() {
    let rig = Rig::new();
    fs::remove_file(rig.path("known_hosts")).unwrap();
    let mut settings = rig.settings("root");
    settings.host_keys = HostKeys::AcceptNew;
    starts(&rig, &settings);
    let want = fs::read_to_string(rig.path("host_ed25519.pub")).unwrap();
    let want: Vec<&str> = want.split_whitespace().take(2).collect();
    let line = format!("[127.0.0.1]:{} {}\n", rig.address.port(), want.join(" "));
    assert_eq!(fs::read_to_string(rig.path("known_hosts")).unwrap(), line);
    starts(&rig, &rig.settings("root"));
}

#[test]
fn a_changed_host_key_is_always_refused() {
    let rig = Rig::new();
    keygen(&rig.path("other"), "ed25519", "");
    rig.know("other.pub");
    let before = fs::read_to_string(rig.path("known_hosts")).unwrap();
    for host_keys in [HostKeys::Check, HostKeys::AcceptNew] {
        let mut settings = rig.settings("root");
        settings.host_keys = host_keys;
        let text = rig.refused(&settings);
        says(
            &text,
            &[
                "ITS HOST KEY HAS CHANGED",
                "known_hosts:1",
                &fingerprint(&rig, "host_ed25519.pub"),
            ],
        );
    }
    assert_eq!(fs::read_to_string(rig.path("known_hosts")).unwrap(), before);
}

#[test]
fn a_host_is_met_by_the_key_that_is_known() {
    let rig = Rig::new();
    rig.know("host_rsa.pub");
    starts(&rig, &rig.settings("root"));
}

#[test]
fn a_wrong_key_is_named() {
    let rig = Rig::new();
    keygen(&rig.path("wrong"), "ed25519", "");
    let mut settings = rig.settings("root");
    settings.identity = Some(rig.path("wrong").display().to_string());
    let text = rig.refused(&settings);
    let wrong = rig.path("wrong").display().to_string();
    says(&text, &["none of these keys", &wrong, "authorized_keys", "--identity"]);
}

#[test]
fn every_kind_of_key_works() {
    let rig = Rig::new();
    for kind in ["rsa", "ecdsa", "ed25519"] {
        keygen(&rig.path(kind), kind, "");
        fs::copy(rig.path(&format!("{kind}.pub")), rig.path("authorized_keys")).unwrap();
        let mut settings = rig.settings("root");
        settings.identity = Some(rig.path(kind).display().to_string());
        starts(&rig, &settings);
    }
}

#[test]
fn a_key_with_a_passphrase_is_left_to_an_agent() {
    let rig = Rig::new();
    keygen(&rig.path("locked"), "ed25519", "secret");
    let mut settings = rig.settings("root");
    settings.identity = Some(rig.path("locked").display().to_string());
    says(&rig.refused(&settings), &["it has a passphrase", "ssh-add"]);
}

#[test]
fn missing_files_are_named() {
    let rig = Rig::new();
    let settings = Ssh {
        identity: Some("/nowhere/key".to_string()),
        ..rig.settings("root")
    };
    says(
        &format!("{:#}", ssh::remotes(&settings).err().unwrap()),
        &["/nowhere/key"],
    );
    let settings = Ssh {
        known_hosts: Some("/nowhere/hosts".to_string()),
        ..rig.settings("root")
    };
    says(
        &format!("{:#}", ssh::remotes(&settings).err().unwrap()),
        &["/nowhere/hosts"],
    );
    says(
        &format!("{:#}", ssh::remotes(&Ssh::default()).err().unwrap()),
        &["--hosts"],
    );
    let settings = Ssh {
        hosts: vec!["root@n1".to_string(), "admin@n1:22".to_string()],
        ..Ssh::default()
    };
    says(
        &format!("{:#}", ssh::remotes(&settings).err().unwrap()),
        &["are the same host"],
    );
}

/// Runs one of these tests in a process whose home and agent are the rig's; true in there.
fn elsewhere(name: &str, home: &std::path::Path, agent: Option<&std::path::Path>) -> bool {
    if env::var_os("SSH_TEST_INNER").is_some() {
        return true;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env("SSH_TEST_INNER", home)
        .env("HOME", home);
    match agent {
        Some(socket) => command.env("SSH_AUTH_SOCK", socket),
        None => command.env_remove("SSH_AUTH_SOCK"),
    };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// What the inner process is told of the rig outside.
fn inner_settings(host: &str) -> Ssh {
    Ssh {
        hosts: vec![host.to_string()],
        ..Ssh::default()
    }
}

fn inner(home: &str) -> anyhow::Result<()> {
    let host = fs::read_to_string(format!("{home}/host"))?;
    let remote = one(&inner_settings(&host));
    let log = fs::File::create(format!("{home}/inner-log"))?;
    let program = format!("{home}/program");
    let mut stream = remote.start_agent(program.as_ref(), &["echo".to_string()], log)?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(())
}

/// A home with the rig's known hosts.
fn home(rig: &Rig) -> std::path::PathBuf {
    let home = rig.path("home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::copy(rig.path("known_hosts"), home.join(".ssh/known_hosts")).unwrap();
    fs::copy(rig.path("program"), home.join("program")).unwrap();
    fs::write(home.join("host"), rig.host("root")).unwrap();
    home
}

#[test]
fn the_keys_of_an_agent_are_tried() {
    if let Ok(home) = env::var("SSH_TEST_INNER") {
        return inner(&home).unwrap();
    }
    let rig = Rig::new();
    // The right one is not the first.
    keygen(&rig.path("wrong"), "ed25519", "");
    let agent = Agent::with(&rig.path("wrong"));
    agent.add(&rig.path("key"));
    assert!(!elsewhere(
        "meeting::the_keys_of_an_agent_are_tried",
        &home(&rig),
        Some(&agent.socket)
    ));
}

#[test]
fn the_usual_files_are_tried() {
    if let Ok(home) = env::var("SSH_TEST_INNER") {
        return inner(&home).unwrap();
    }
    let rig = Rig::new();
    let home = home(&rig);
    fs::copy(rig.path("key"), home.join(".ssh/id_rsa")).unwrap();
    assert!(!elsewhere("meeting::the_usual_files_are_tried", &home, None));
}

#[test]
fn without_any_key_the_remedy_is_told() {
    if let Ok(home) = env::var("SSH_TEST_INNER") {
        let text = format!("{:#}", inner(&home).unwrap_err());
        return says(&text, &["there is no key to log in with", "ssh-keygen", "--identity"]);
    }
    let rig = Rig::new();
    assert!(!elsewhere(
        "meeting::without_any_key_the_remedy_is_told",
        &home(&rig),
        None
    ));
}

#[test]
fn passwords_are_not_asked_for() {
    let rig = Rig::with(&Wish {
        config: "PubkeyAuthentication no\nPasswordAuthentication yes".to_string(),
        ..Wish::default()
    });
    says(
        &rig.refused(&rig.settings("root")),
        &["takes no keys from user root, only password"],
    );
}

#[test]
fn a_jump_host_is_passed_through_and_checked() {
    let (jump, rig) = (Rig::new(), Rig::new());
    let settings = through(&jump, &rig);
    starts(&rig, &settings);
    assert!(jump.copies("worker").is_empty(), "nothing is left on a jump host");
    // Its own key is checked like any other's.
    rig.know("host_ed25519.pub");
    says(
        &rig.refused(&settings),
        &[
            "jump host",
            &jump.address.to_string(),
            "its host key is not known",
            &fingerprint(&jump, "host_ed25519.pub"),
        ],
    );
}

#[test]
fn a_jump_host_that_cannot_reach_the_host_says_so() {
    let (jump, rig) = (Rig::new(), Rig::new());
    let (_reserved, address) = reserved();
    let mut settings = through(&jump, &rig);
    settings.hosts = vec![format!("root@{address}")];
    says(
        &rig.refused(&settings),
        &["jump host", "cannot reach 127.0.0.1", "AllowTcpForwarding"],
    );
}

#[test]
fn nobody_listening_is_told() {
    let rig = Rig::new();
    let (_reserved, address) = reserved();
    let mut settings = rig.settings("root");
    settings.hosts = vec![format!("root@{address}")];
    says(&rig.refused(&settings), &["nothing listens at", "start its sshd"]);
}

#[test]
fn a_host_that_does_not_answer_is_given_up() {
    let rig = Rig::new();
    // A queue that is full lets the kernel drop what comes.
    let (socket, address) = reserved();
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut settings = rig.settings("root");
    settings.hosts = vec![format!("root@{address}")];
    let _first = TcpStream::connect(address).unwrap();
    says(&rig.refused(&settings), &["did not answer within 5s", "is it up"]);
}

#[test]
fn a_name_without_an_address_is_told() {
    let rig = Rig::new();
    let mut settings = rig.settings("root");
    settings.hosts = vec!["root@no-such-host.invalid".to_string()];
    says(
        &rig.refused(&settings),
        &["the name no-such-host.invalid has no address"],
    );
}

#[test]
fn what_is_no_sshd_is_told() {
    let rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = rig.settings("root");
    settings.hosts = vec![format!("root@{}", listener.local_addr().unwrap())];
    // One that says something else and hangs up; then one that says nothing at all.
    let server = thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        first.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        drop(first);
        listener.accept().unwrap().0
    });
    says(
        &rig.refused(&settings),
        &["no SSH connection could be made", "is that its sshd"],
    );
    says(
        &rig.refused(&settings),
        &["no SSH connection could be made", "imed out"],
    );
    drop(server.join().unwrap());
}

#[test]
fn a_full_disk_is_told() {
    let rig = Rig::with(&Wish {
        mounts: "mount -t tmpfs -o size=1m none DIR/root".to_string(),
        ..Wish::default()
    });
    let mut program = crate::rig::PROGRAM.as_bytes().to_vec();
    program.resize(3_000_000, b'#');
    fs::write(rig.path("program"), program).unwrap();
    says(
        &rig.refused(&rig.settings("root")),
        &["its disk is full", "needs 3 MB", "make room"],
    );
}

#[test]
fn a_server_without_sftp_is_told() {
    let rig = Rig::with(&Wish {
        config: String::new(),
        ..Wish::default()
    });
    says(&rig.refused(&rig.settings("root")), &["has no sftp", "Subsystem sftp"]);
}

#[test]
fn another_kind_of_machine_is_refused() {
    let rig = Rig::with(&Wish {
        mounts: "printf \"#!/bin/sh\\necho Linux aarch64\" > /run/uname; chmod 755 /run/uname; \
                 mount --bind /run/uname /usr/bin/uname"
            .to_string(),
        ..Wish::default()
    });
    says(
        &rig.refused(&rig.settings("root")),
        &["it is a Linux aarch64 machine", "this program is for Linux"],
    );
    assert!(rig.copies("root").is_empty());
}

#[test]
fn a_program_that_does_not_run_there_is_told() {
    let rig = Rig::new();
    let old = "#!/bin/sh\necho \"$0: /lib/libc.so.6: version \\`GLIBC_2.99' not found (required by $0)\" >&2\nexit 1\n";
    fs::write(rig.path("program"), old).unwrap();
    says(
        &rig.refused(&rig.settings("root")),
        &["its C library is too old", "GLIBC_2.99"],
    );
    fs::write(rig.path("program"), "#!/nowhere/interpreter\n").unwrap();
    says(
        &rig.refused(&rig.settings("root")),
        &["our program does not run there", "not found"],
    );
}

#[test]
fn a_user_without_a_shell_is_told() {
    let rig = Rig::with(&Wish {
        shell: "/usr/sbin/nologin".to_string(),
        ..Wish::default()
    });
    says(
        &rig.refused(&rig.settings("root")),
        &["This account is currently not available"],
    );
}
