//! Machines for tests: a docker image made from Debian packages, and containers that run sshd.
//!
//! The image has a name of its own and stays on the machine, so that only the first test that needs it waits for it.
//! Containers and networks of a test carry its own label and are gone with it.
#![allow(dead_code)] // each test file uses its own part

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What `--base-image` and sshd containers are made from.
pub const BASE: &str = "splitbrain-test-base";

/// Runs a program to its end; panics with all it said if it failed.
#[track_caller]
pub fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; is it installed?"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The same, whatever comes of it.
pub fn try_sh(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the base image unless it is there: a minute, once per machine.
pub fn base_image() -> &'static str {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
    if try_sh("docker", &["image", "inspect", BASE]).is_none() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../environments/docker/base-image");
        sh(script.to_str().unwrap(), &[BASE, "openssh-server", "sudo", "procps"]);
    }
    BASE
}

/// Everything of a kind (`container`, `network`, `image`) with a label.
pub fn labelled(kind: &str, label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    let mut args = vec![kind, "ls", "--quiet", "--filter", &filter];
    if kind == "container" {
        args.push("--all");
    }
    sh("docker", &args).lines().map(str::to_string).collect()
}

/// Waits for `done`, which must come within `patience`.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut done: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    loop {
        match done() {
            Ok(()) => return,
            Err(why) => assert!(start.elapsed() < patience, "{what}: not after {patience:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Containers that run sshd, published on loopback, with keys of their own that are known.
pub struct SshHosts {
    label: String,
    dir: tempfile::TempDir,
    /// Container names.
    pub names: Vec<String>,
    /// Ports on 127.0.0.1.
    pub ports: Vec<u16>,
}

impl SshHosts {
    /// `count` of them; root and the user `alice` (no sudo) let the key in.
    pub fn start(count: usize) -> SshHosts {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mark = format!("sbtest-{}-{n}", std::process::id());
        let mut hosts = SshHosts {
            label: format!("splitbrain-test={mark}"),
            dir: tempfile::tempdir().unwrap(),
            names: Vec::new(),
            ports: Vec::new(),
        };
        let key = hosts.identity();
        sh(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()],
        );
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        sh("docker", &["network", "create", "--label", &hosts.label, &mark]);
        let script = format!(
            "mkdir -p /run/sshd; useradd -m -s /bin/sh alice; for home in /root /home/alice; do \
             mkdir -p $home/.ssh; echo '{}' > $home/.ssh/authorized_keys; chmod 700 $home/.ssh; done; \
             chown -R alice /home/alice; ssh-keygen -A >/dev/null; exec /usr/sbin/sshd -D -e",
            public.trim()
        );
        for i in 1..=count {
            let name = format!("{mark}-{i}");
            sh(
                "docker",
                &[
                    "run",
                    "--detach",
                    "--init",
                    "--name",
                    &name,
                    "--label",
                    &hosts.label,
                    "--network",
                    &mark,
                    "--cap-add",
                    "NET_ADMIN",
                    "--publish",
                    "127.0.0.1::22",
                    base_image(),
                    "sh",
                    "-c",
                    &script,
                ],
            );
            hosts.names.push(name);
        }
        let mut known = String::new();
        for name in hosts.names.clone() {
            let port = sh("docker", &["port", &name, "22/tcp"]);
            let port: u16 = port
                .lines()
                .next()
                .unwrap()
                .rsplit(':')
                .next()
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            let mut keys = String::new();
            eventually("sshd", Duration::from_secs(60), || {
                let found = hosts
                    .try_exec(&name, "cat /etc/ssh/ssh_host_*_key.pub")
                    .ok_or("no host keys yet")?;
                keys = found;
                let banner = std::net::TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                    std::io::Read::read_exact(&mut stream, &mut [0; 4])
                });
                banner.map_err(|e| e.to_string())
            });
            for key in keys.lines() {
                known += &format!("[127.0.0.1]:{port} {key}\n");
            }
            hosts.ports.push(port);
        }
        std::fs::write(hosts.known_hosts(), known).unwrap();
        hosts
    }

    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("id_ed25519")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// `--hosts` for the first `count` of them, as `user`.
    pub fn list(&self, user: &str, count: usize) -> String {
        let hosts: Vec<_> = self.ports[..count]
            .iter()
            .map(|port| format!("{user}@127.0.0.1:{port}"))
            .collect();
        hosts.join(",")
    }

    /// The flags that reach the first `count` of them.
    pub fn flags(&self, count: usize) -> String {
        format!(
            "--env ssh --hosts {} --identity {} --known-hosts {}",
            self.list("root", count),
            self.identity().display(),
            self.known_hosts().display()
        )
    }

    /// Runs a shell command inside.
    #[track_caller]
    pub fn exec(&self, name: &str, command: &str) -> String {
        sh("docker", &["exec", name, "sh", "-c", command])
    }

    pub fn try_exec(&self, name: &str, command: &str) -> Option<String> {
        try_sh("docker", &["exec", name, "sh", "-c", command])
    }

    /// What of ours is on a host: chains, qdiscs, processes, entries of the ledger.
    pub fn ours_on(&self, name: &str) -> Vec<String> {
        const LOOK: &str = "iptables-save 2>/dev/null | grep SPLITBRAIN; ip6tables-save 2>/dev/null | grep SPLITBRAIN; \
            tc qdisc show | grep 5b1d; cat /var/lib/splitbrain/ledger* 2>/dev/null; \
            for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -q ^SPLITBRAIN_RUN= && echo $p $(tr '\\0' ' ' < $p/cmdline); \
            tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q 'splitbrain stewar[d]' && echo $p steward; done; true";
        self.exec(name, LOOK).lines().map(str::to_string).collect()
    }

    /// Fails unless all hosts are clean within `patience`.
    #[track_caller]
    pub fn are_clean_within(&self, patience: Duration) {
        for name in &self.names {
            eventually(name, patience, || match self.ours_on(name) {
                left if left.is_empty() => Ok(()),
                left => Err(format!("left behind: {left:#?}")),
            });
        }
    }
}

impl Drop for SshHosts {
    fn drop(&mut self) {
        for container in labelled("container", &self.label) {
            try_sh("docker", &["rm", "--force", "--volumes", &container]);
        }
        for network in labelled("network", &self.label) {
            try_sh("docker", &["network", "rm", &network]);
        }
    }
}
