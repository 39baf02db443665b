//! What the cases stand on: an image, runs, a stand-in for the agent, and docker's own client to look with.
use splitbrain_core::plan::Docker;
use splitbrain_core::system::HostRole;
use splitbrain_core::{HostSpec, Name};
use splitbrain_environments::docker;
use splitbrain_environments::ground::Order;
use splitbrain_environments::remote::Remote;
use std::fs::{self, File};
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The base image of these tests, made once by the script for machines without a registry. Its name is the tests', and it
/// stays for the next time: `docker rmi splitbrain-ci-base` removes it.
pub const BASE: &str = "splitbrain-ci-base";
/// How long the engine may take to notice an end.
const SOON: Duration = Duration::from_secs(20);

/// Does in a container what its second argument says.
const STAND_IN: &str = r#"#!/bin/sh
case "$1 $2" in
"steward echo") echo "echoing" >&2; exec cat ;;
"steward deaf") exec sleep 1000 ;;
"steward run") shift 2; eval "$@" ;;
*) echo "unexpected: $*" >&2; exit 2 ;;
esac
"#;

pub fn base_image() {
    let there = Command::new("docker").args(["image", "inspect", BASE]).output();
    if there.expect("docker's client is installed").status.success() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/base-image");
    println!("making the base image {BASE}, once");
    assert!(Command::new(script).arg(BASE).status().unwrap().success());
}

/// What docker's own client says.
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Containers and networks that carry this run's label.
pub fn things_of(run: &str) -> Vec<String> {
    let label = format!("label=splitbrain.run={run}");
    let containers = docker(&[
        "ps",
        "-a",
        "--filter",
        &label,
        "--format",
        "container {{.Names}} {{.State}}",
    ]);
    let networks = docker(&["network", "ls", "--filter", &label, "--format", "network {{.Name}}"]);
    let lines = [containers, networks].join("\n");
    lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect()
}

/// Waits until `seen` is so. Panics with what is seen instead.
pub fn await_that<T: std::fmt::Debug>(what: &str, mut seen: impl FnMut() -> T, so: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        let now = seen();
        if so(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{what}: {now:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run in the making.
pub struct Run {
    pub name: String,
    pub dir: tempfile::TempDir,
    pub program: PathBuf,
    pub settings: Docker,
}

impl Run {
    pub fn new() -> Run {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("stand-in");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Run {
            name: format!("test-{}-{count}", std::process::id()),
            dir,
            program,
            settings: Docker {
                base_image: Some(BASE.to_string()),
                ..Docker::default()
            },
        }
    }

    pub fn order(&self, hosts: usize) -> Order {
        order(&self.name, self.dir.path(), &self.program, hosts)
    }

    pub fn create(&self, hosts: usize) -> Vec<Arc<dyn Remote>> {
        docker::create(&self.order(hosts), &self.settings).unwrap()
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn start(&self, remote: &dyn Remote, args: &[&str]) -> anyhow::Result<UnixStream> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let stream = remote.start_agent(&self.program, &args, File::create(self.log()).unwrap())?;
        // What does not come is an error, and no test without end.
        stream.set_read_timeout(Some(3 * SOON)).unwrap();
        Ok(stream)
    }

    /// What a shell's command in a container writes, without its last line's end.
    pub fn shell(&self, remote: &dyn Remote, command: &str) -> String {
        let mut stream = self.start(remote, &["run", command]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.trim_end().to_string()
    }

    pub fn things(&self) -> Vec<String> {
        things_of(&self.name)
    }
}

pub fn order(run: &str, dir: &Path, program: &Path, hosts: usize) -> Order {
    let host = |n| HostSpec {
        name: Name::numbered("n", n),
        role: HostRole::Member,
        asked: true,
    };
    Order {
        run: run.to_string(),
        program: program.to_path_buf(),
        dir: dir.to_path_buf(),
        hosts: (1..=hosts).map(host).collect(),
        seed: 1,
        settings: Default::default(),
        layered_disks: false,
        sabotage: None,
    }
}
