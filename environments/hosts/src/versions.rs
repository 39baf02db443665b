//! Which version of a program or file is installed on this machine.
//!
//! A verdict on "etcd" says little where nobody knows which etcd. Programs tell their version when asked, each in a form
//! of its own (`etcd Version: 3.4.23`, `Redis server v=7.0.15 sha=...`, `nats-server: v2.9.10`); what they have in common
//! is that the first word with two numbers and a dot between them is the version. A file that cannot be asked, a jar, has it in one of
//! its names: links lead from the one to the other, on Debian from `zookeeper-3.8.0.jar` to `zookeeper.jar`.
//!
//! Caveat: this is what a program says of itself, and it is asked as an ordinary child, outside any sandbox. One that says
//! nothing within [`PATIENCE`] is killed with its children, and has no version; it is installed all the same.
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a program may take to say its version. A Java virtual machine takes half a second on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read of what it says.
const ENOUGH: u64 = 16 << 10;

/// Something installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Its version, where it could be learnt.
    pub version: Option<String>,
}

/// Looks for `what`, a program on the PATH or the path of a program or file. A program is asked for its version with the
/// arguments `ask`; without any, the resolved file's name is taken to tell it. `None` if there is no such thing.
pub fn find(what: &str, ask: &[&str]) -> Option<Found> {
    if ask.is_empty() {
        let path = PathBuf::from(what).canonicalize().ok()?;
        let version = names(&path).iter().find_map(|name| version_in(name));
        return Some(Found { path, version });
    }
    let path = program(what)?;
    let version = version_in(&said(&path, ask, PATIENCE).unwrap_or_default());
    Some(Found { path, version })
}

/// The names of `file` without their endings: its own, and those of links to it beside it that begin alike.
fn names(file: &Path) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let Some(own) = stem(file) else { return Vec::new() };
    let beside = file.parent().and_then(|dir| dir.read_dir().ok());
    let links = beside.into_iter().flatten().flatten().map(|entry| entry.path());
    let alike = |path: &PathBuf| stem(path).is_some_and(|name| name.starts_with(&format!("{own}-")));
    let same = |path: &PathBuf| path.canonicalize().is_ok_and(|target| target == file);
    let mut names: Vec<String> = links
        .filter(alike)
        .filter(same)
        .filter_map(|path| stem(&path))
        .collect();
    names.sort();
    names.insert(0, own);
    names
}

/// The executable that `what` means. Servers are often installed where only root's PATH looks.
fn program(what: &str) -> Option<PathBuf> {
    if what.contains('/') {
        return Some(PathBuf::from(what)).filter(|path| is_executable(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(more).map(|dir| dir.join(what));
    { found }.find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The beginning of what `program` says on both its outputs when it is asked. `None` if it cannot be run.
fn said(program: &Path, ask: &[&str], patience: Duration) -> Option<String> {
    let (mut ours, theirs) = std::io::pipe().ok()?;
    let mut command = Command::new(program);
    command.args(ask).current_dir("/").stdin(Stdio::null());
    // A group of its own, so that its children can be ended with it.
    command.stdout(theirs.try_clone().ok()?).stderr(theirs).process_group(0);
    let child = command.spawn().ok()?;
    // The command holds the other end of the pipe.
    drop(command);
    let (send, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = (&mut ours).take(ENOUGH).read_to_end(&mut bytes);
        let _ = send.send(bytes);
    });
    let bytes = heard.recv_timeout(patience);
    end(child);
    Some(String::from_utf8_lossy(&bytes.ok()?).into_owned())
}

/// Ends a child that has said what it had to say, and all that it started.
fn end(mut child: Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It was not waited for yet, so the number is still its own.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// The first word that looks like a version: `3.4.23`, `2.9.10`, `3.6.0-rc.1`.
fn version_in(text: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = &rest[rest.find(|c: char| c.is_ascii_digit())?..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || ".-+~".contains(c);
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let number = &rest[..rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len())];
        if number.trim_end_matches('.').contains('.') {
            return Some(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_string());
        }
        rest = &rest[number.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_with_a_dotted_number_is_the_version() {
        let check = |text: &str, version: Option<&str>| assert_eq!(version_in(text).as_deref(), version, "{text}");
        check(
            "etcd Version: 3.4.23\nGit SHA: Not provided\nGo Version: go1.19.8",
            Some("3.4.23"),
        );
        check(
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0",
            Some("7.0.15"),
        );
        check("nats-server: v2.9.10", Some("2.9.10"));
        check("ovsdb-server (Open vSwitch) 3.1.0\n", Some("3.1.0"));
        check("openjdk version \"17.0.13\" 2024-10-15", Some("17.0.13"));
        check("etcd Version: 3.6.0-rc.1, built", Some("3.6.0-rc.1"));
        check("zookeeper-3.8.0", Some("3.8.0"));
        check("copyright 2009 (C) 7. no number", None);
        check("", None);
    }

    fn script(dir: &Path, name: &str, text: &str) -> String {
        let file = dir.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file.display().to_string()
    }

    #[test]
    fn a_program_is_asked_on_both_outputs_and_a_file_tells_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let err = script(dir.path(), "tool", "echo \"tool v1.2.3 $1\" >&2; exit 1");
        assert_eq!(find(&err, &["-v"]).unwrap().version.as_deref(), Some("1.2.3"));
        let quiet = script(dir.path(), "quiet", "exit 0");
        assert_eq!(find(&quiet, &["-v"]).unwrap().version, None);
        let flood = script(dir.path(), "flood", "echo 4.5.6; exec yes");
        assert_eq!(find(&flood, &["-v"]).unwrap().version.as_deref(), Some("4.5.6"));
        let (jar, link) = (dir.path().join("lib-3.8.0.jar"), dir.path().join("lib.jar"));
        std::fs::write(&jar, "").unwrap();
        std::os::unix::fs::symlink(&jar, &link).unwrap();
        let found = find(link.to_str().unwrap(), &[]).unwrap();
        assert_eq!(
            (found.path, found.version.as_deref()),
            (jar.canonicalize().unwrap(), Some("3.8.0"))
        );
        let (jar, link) = (dir.path().join("other.jar"), dir.path().join("other-1.7.32.jar"));
        std::fs::write(&jar, "").unwrap();
        std::fs::write(dir.path().join("other-recipes-9.9.9.jar"), "").unwrap();
        std::os::unix::fs::symlink(&jar, &link).unwrap();
        assert_eq!(
            find(jar.to_str().unwrap(), &[]).unwrap().version.as_deref(),
            Some("1.7.32")
        );
        assert_eq!(find("/no/such/file.jar", &[]), None);
        assert_eq!(find("no-such-program-anywhere", &["-v"]), None);
        assert!(find("sh", &["-c", "echo 1.2"]).unwrap().path.is_absolute());
    }

    #[test]
    fn a_program_that_says_nothing_is_ended_with_its_children_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Whoever has the pipe open for writing is alive: its end is theirs.
        let all_ended = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        let text = format!("exec 3>{}; sleep 600 & echo 7.8.9; wait", fifo.display());
        let hangs = script(dir.path(), "hangs", &text);
        assert_eq!(said(Path::new(&hangs), &["-v"], Duration::from_millis(500)), None);
        assert_eq!(all_ended.join().unwrap(), b"");
    }
}
