//! Undoing what was done to a host, from its ledger and our marks alone.
//!
//! Whoever heals is a process of its own with one thread: the guard of an agent that is dead, an agent whose guard is dead,
//! or `splitbrain heal`. It holds the lock, so that nobody does anything in the meantime. What cannot be undone stays in
//! the ledger and is named.
//!
//! The order matters: first the processes, for they would go on to write, to fork and to send; then the rules that cut them
//! off, then mounts, at last files.
use super::ledger::{self, Entry};
use super::state::{Lock, Owner, State};
use crate::clock::HostClockUndo;
use crate::linux::Wire;
use crate::processes::tree::{self, Process, Stat};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::geteuid;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long processes may take to end by SIGKILL; one that waits for its disk takes its time.
const KILL: Duration = Duration::from_secs(10);
/// How long `heal` waits for an agent that is ending.
const WAIT: Duration = Duration::from_secs(5);
/// How often it looks meanwhile whether that agent stands still.
const LOOK: Duration = Duration::from_millis(200);

/// What a heal did.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Healed {
    /// What was undone, in words.
    pub removed: Vec<String>,
    /// What is still there, and why.
    pub left: Vec<String>,
}

/// What a look has found.
#[derive(Clone, Debug, Serialize)]
struct Checked {
    left: Vec<String>,
    in_use_by: Option<String>,
}

/// Undoes everything. The caller holds the lock.
pub(super) fn heal(state: &State) -> Healed {
    let mut healed = Healed::default();
    let entries = entries(state, &mut healed);
    processes(state, &entries, &mut healed);
    clock(&entries, &mut healed);
    network(&mut healed);
    mounts(state, &mut healed);
    files(state, &mut healed);
    if healed.left.is_empty()
        && let Err(why) = ledger::clear(&state.ledger())
    {
        healed.left.push(why);
    }
    healed
}

/// Heals, and says on standard error what came of it. Returns the exit code.
pub(super) fn and_tell(state: &State) -> i32 {
    let healed = heal(state);
    for (word, what) in [("removed", &healed.removed), ("left", &healed.left)] {
        if !what.is_empty() {
            note!("{word}: {}", what.join(", "));
        }
    }
    i32::from(!healed.left.is_empty())
}

/// `splitbrain steward heal`.
pub(super) fn heal_command() -> i32 {
    let state = State::locate();
    let healed = alone(&state).map_or_else(
        |why| Healed {
            left: vec![why],
            ..Healed::default()
        },
        |_lock| heal(&state),
    );
    println!(
        "{}",
        serde_json::to_string(&healed).expect("plain data always becomes JSON")
    );
    i32::from(!healed.left.is_empty())
}

/// `splitbrain steward check`.
pub(super) fn check_command() -> i32 {
    let state = State::locate();
    let lock = state.dir().is_dir().then(|| Lock::open(&state)).transpose();
    let checked = match lock {
        Err(why) => Checked {
            left: vec![why],
            in_use_by: None,
        },
        Ok(lock) => Checked {
            left: leftovers(&state),
            in_use_by: lock
                .filter(|lock| !lock.take().unwrap_or(false))
                .map(|lock| user(&lock)),
        },
    };
    println!(
        "{}",
        serde_json::to_string(&checked).expect("plain data always becomes JSON")
    );
    i32::from(!checked.left.is_empty() || checked.in_use_by.is_some())
}

/// What an agent does whose guard was killed. It is still the subreaper of its processes, and single-threaded again.
pub(super) fn finish_command() -> i32 {
    let state = State::locate();
    note!("the agent heals this host: its guard has ended");
    match alone(&state) {
        Ok(_lock) => and_tell(&state),
        Err(why) => {
            note!("{why}");
            1
        }
    }
}

/// Returns the lock once nobody uses the host.
fn alone(state: &State) -> Result<nix::fcntl::Flock<fs::File>, String> {
    if !geteuid().is_root() {
        return Err("nothing was looked at: healing a host needs the rights of root".into());
    }
    state.make()?;
    let lock = Lock::open(state)?;
    let other = Lock::open(state)?;
    let (done, taken) = channel();
    // The wait ends with this process at the latest.
    std::thread::spawn(move || drop(done.send(lock.wait())));
    let deadline = Instant::now() + WAIT;
    loop {
        match taken.recv_timeout(LOOK) {
            Ok(lock) => return lock.map_err(|e| format!("failed to lock {}: {e}", state.dir().display())),
            Err(_) if Instant::now() < deadline => end_if_stopped(other.owner()),
            Err(_) => return Err(format!("this host is in use by {}: end that run first", user(&other))),
        }
    }
}

/// Who holds the lock, in words.
pub(super) fn user(lock: &Lock) -> String {
    let owner = lock.owner();
    owner.map_or_else(
        || "an agent that has not named itself yet".into(),
        |owner| format!("run {} (agent pid {})", owner.run, owner.agent.pid),
    )
}

/// An agent or a guard that stands still will not let go of the host. The agent is ended and the guard goes on, which then
/// heals: it finds what nobody else can, since all that the agent has started becomes its child.
fn end_if_stopped(owner: Option<Owner>) {
    let Some(Owner { run, guard, agent }) = owner else {
        return;
    };
    let stopped =
        |process: &Process| Stat::of(process.pid).is_ok_and(|stat| stat.process() == *process && stat.state == 'T');
    if ![guard, agent].iter().any(stopped) {
        return;
    }
    note!("run {run} stands still and is ended");
    for (process, signal) in [(agent, Signal::SIGKILL), (guard, Signal::SIGCONT)] {
        if let Err(error) = process.signal(signal) {
            note!("failed to send {signal} to pid {}: {error}", process.pid);
        }
    }
}

/// What is found on a host that nobody uses. Empty if it is clean.
pub(super) fn leftovers(state: &State) -> Vec<String> {
    let mut healed = Healed::default();
    let entries = entries(state, &mut healed);
    let mut left = healed.left;
    match ours(state, &entries) {
        Ok(processes) => left.extend(processes.iter().map(|stat| format!("process {}", words(stat.pid)))),
        Err(error) => left.push(format!("processes cannot be listed: {error}")),
    }
    match mounts_below(state.dir()) {
        Ok(mounts) => left.extend(mounts.iter().map(|at| format!("a mount on {}", at.display()))),
        Err(error) => left.push(format!("mounts cannot be listed: {error}")),
    }
    match Wire::leftovers() {
        Ok(rules) => left.extend(rules),
        Err(why) => left.push(why),
    }
    if skewed(&entries).is_some() {
        left.push("the host's clock, which was set wrong".into());
    }
    if state.hosts().exists() {
        left.push(format!("files of a run in {}", state.hosts().display()));
    }
    if left.is_empty() && !entries.is_empty() {
        left.push(format!("a ledger of {}", run(&entries)));
    }
    left
}

fn run(entries: &[Entry]) -> String {
    match entries.first() {
        Some(Entry::Run { run, .. }) => format!("run {run}"),
        _ => "an unnamed run".into(),
    }
}

fn entries(state: &State, healed: &mut Healed) -> Vec<Entry> {
    ledger::read(&state.ledger()).unwrap_or_else(|why| {
        healed.left.push(why);
        Vec::new()
    })
}

/// The kernel's present life.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_string())
}

/// Processes of ours but for the caller and its ancestors: descendants of the caller, those in the ledger with what
/// descends from them, and those with our mark.
fn ours(state: &State, entries: &[Entry]) -> io::Result<Vec<Stat>> {
    let boot = boot_id()?;
    let same_boot = entries
        .iter()
        .any(|entry| matches!(entry, Entry::Run { boot_id, .. } if *boot_id == boot));
    let all = tree::everything()?;
    let line = tree::own_line(&all);
    let own = i32::try_from(std::process::id()).expect("a pid fits");
    let noted: BTreeSet<Process> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Started { is, .. } if same_boot => Some(*is),
            _ => None,
        })
        .collect();
    let space = space(own);
    let marked = |stat: &&Stat| {
        let environ = fs::read(format!("/proc/{}/environ", stat.pid)).unwrap_or_default();
        // The same folder in another container is another host's.
        state.marks(&environ) && self::space(stat.pid) == space
    };
    let is_root = |stat: &&Stat| !line.contains(&stat.pid) && (noted.contains(&stat.process()) || marked(stat));
    let mut roots: BTreeSet<i32> = all.iter().filter(is_root).map(|stat| stat.pid).collect();
    let mut found: BTreeMap<i32, Stat> = all
        .iter()
        .filter(|stat| roots.contains(&stat.pid) && !stat.is_dead())
        .map(|stat| (stat.pid, *stat))
        .collect();
    roots.insert(own);
    found.extend(
        tree::descendants(&all, &roots, &line)
            .into_iter()
            .map(|stat| (stat.pid, stat)),
    );
    Ok(found.into_values().collect())
}

fn space(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// `12 (etcd)`.
fn words(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{pid} ({})", name.trim())
}

fn processes(state: &State, entries: &[Entry], healed: &mut Healed) {
    let deadline = Instant::now() + KILL;
    let mut killed: BTreeMap<Process, String> = BTreeMap::new();
    loop {
        let left = match ours(state, entries) {
            Ok(left) => left,
            Err(error) => {
                healed.left.push(format!("processes cannot be listed: {error}"));
                break;
            }
        };
        if left.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let names = left
                .iter()
                .map(|stat| format!("process {} outlives SIGKILL", words(stat.pid)));
            healed.left.extend(names);
            break;
        }
        for stat in &left {
            killed.entry(stat.process()).or_insert_with(|| words(stat.pid));
            if let Err(error) = stat.process().signal(Signal::SIGKILL) {
                healed
                    .left
                    .push(format!("process {} cannot be ended: {error}", words(stat.pid)));
            }
        }
        if !healed.left.is_empty() {
            break;
        }
        await_end(&left, deadline);
    }
    healed
        .removed
        .extend(killed.into_values().map(|words| format!("process {words}")));
}

/// Returns when one of them has ended, or an instant later.
fn await_end(processes: &[Stat], deadline: Instant) {
    let open: Vec<_> = processes
        .iter()
        .filter_map(|stat| stat.process().open().ok().flatten())
        .collect();
    let mut fds: Vec<_> = open
        .iter()
        .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
        .collect();
    let left = deadline.saturating_duration_since(Instant::now());
    // Where the kernel has no such descriptors, the next look tells.
    let most = if fds.is_empty() { Duration::from_millis(2) } else { left };
    let _ = poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX));
    // Those that have become our children.
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
}

/// How the host's clock is given its true time, if it has not.
fn skewed(entries: &[Entry]) -> Option<&HostClockUndo> {
    entries.iter().fold(None, |skewed, entry| match entry {
        Entry::Clock { undo: Some(undo) } => Some(undo),
        Entry::ClockTrue => None,
        _ => skewed,
    })
}

fn clock(entries: &[Entry], healed: &mut Healed) {
    match skewed(entries).map(HostClockUndo::restore) {
        Some(Ok(done)) => healed.removed.push(done),
        Some(Err(why)) => healed.left.push(format!("the host's clock is wrong: {why}")),
        None => {}
    }
}

fn network(healed: &mut Healed) {
    match Wire::heal() {
        Ok(removed) => healed.removed.extend(removed),
        Err(why) => healed.left.push(why),
    }
}

fn mounts(state: &State, healed: &mut Healed) {
    let mounts = match mounts_below(state.dir()) {
        Ok(mounts) => mounts,
        Err(error) => return healed.left.push(format!("mounts cannot be listed: {error}")),
    };
    // The newest first: it may lie upon others.
    for at in mounts.iter().rev() {
        match umount2(at, MntFlags::MNT_DETACH) {
            Ok(()) => healed.removed.push(format!("a mount on {}", at.display())),
            Err(error) => healed.left.push(format!("a mount on {}: {error}", at.display())),
        }
    }
}

/// File systems in user space that are mounted inside `dir`, the oldest first.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(fuse_mount)
        .filter(|at| at.starts_with(&dir) && *at != dir)
        .collect())
}

/// Where a line of `/proc/self/mountinfo` (`proc(5)`) has mounted something in user space.
fn fuse_mount(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let kind = fields
        .iter()
        .position(|field| *field == b"-")
        .and_then(|at| fields.get(at + 1))?;
    if !kind.starts_with(b"fuse") {
        return None;
    }
    let mut bytes = Vec::new();
    let mut rest = *fields.get(4)?;
    // Blanks and backslashes are written as their octal numbers.
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .first_chunk::<3>()
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) if byte == b'\\' => {
                bytes.push(value);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn files(state: &State, healed: &mut Healed) {
    let dir = state.hosts();
    match fs::remove_dir_all(&dir) {
        Ok(()) => healed.removed.push(format!("files in {}", dir.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => healed.left.push(format!("files in {}: {error}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_in_user_space_are_found() {
        let line = |at: &str, kind: &str| format!("36 35 98:0 /mnt1 {at} rw,noatime master:1 - {kind} /dev/root rw");
        let found = |at: &str, kind: &str| fuse_mount(line(at, kind).as_bytes());
        assert_eq!(found("/a", "fuse.x"), Some("/a".into()));
        assert_eq!(found("/a\\040b\\134c", "fuse"), Some("/a b\\c".into()));
        assert_eq!(found("/a", "ext4"), None);
        assert_eq!(fuse_mount(b""), None);
    }
}
