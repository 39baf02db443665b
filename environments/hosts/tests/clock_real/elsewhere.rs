//! The same in a container, and the other architecture's code under an emulator.
use crate::Case;
use std::path::Path;
use std::process::{Command, Stdio};

pub const ALL: &[Case] = &[
    ("the_same_in_a_container", the_same_in_a_container),
    (
        "the_code_for_aarch64_computes_the_same",
        the_code_for_aarch64_computes_the_same,
    ),
];

/// On everything that this test makes.
const LABEL: &str = "splitbrain.test=clock";

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {told}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// An image without content: programs and libraries are this machine's, read-only.
struct Image(String);

impl Image {
    fn make(dir: &Path) -> Image {
        let root = dir.join("root");
        for folder in ["usr", "etc", "tmp", "test"] {
            std::fs::create_dir_all(root.join(folder)).expect("make a folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).expect("make a link");
        }
        let name = format!("splitbrain-clock-test-{}", std::process::id());
        let mut tar = Command::new("tar");
        let mut tar = tar
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tar");
        let mut import = Command::new("docker");
        let change = format!("LABEL {LABEL}");
        import
            .args(["import", "--change", &change, "-", &name])
            .stdin(tar.stdout.take().expect("piped"));
        output(&mut import);
        assert!(tar.wait().expect("its end").success());
        Image(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rmi", "-f", &self.0])
            .stdout(Stdio::null())
            .status();
    }
}

fn the_same_in_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::make(dir.path());
    let program = dir.path().join("clock_real");
    std::fs::copy(std::env::current_exe().expect("our own path"), &program).expect("copy the program");
    let mut docker = Command::new("docker");
    docker.args([
        "run",
        "--rm",
        "--network",
        "none",
        "--cap-add",
        "NET_ADMIN",
        "--label",
        LABEL,
    ]);
    docker
        .args(["-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v"])
        .arg(format!("{}:/test:ro", dir.path().display()));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
    let run = docker.args(["-e", path, &image.0, "/test/clock_real", "inside"]);
    for line in output(run).lines() {
        println!("  in a container: {}", line.trim_start());
    }
}

fn the_code_for_aarch64_computes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("stub");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = Command::new("aarch64-linux-gnu-gcc");
    compiler
        .args(["-static", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&program);
    compiler
        .arg(here.join("tests/clock_real/stub.c"))
        .arg(here.join("src/clock/stub_aarch64.s"));
    output(&mut compiler);
    println!("  {}", output(Command::new("qemu-aarch64-static").arg(&program)));
}
