//! Breaking the disks of processes, through the layers that stand between them and the machine's own.
//!
//! The protocol is [`splitbrain_core::disk`]; this is the environment's side of it. An order goes into the directory of each
//! process that has a layer. Where the process runs, its proof is awaited; where it does not, the order is left for its next
//! life. A power cut is proven twice: by the layer's word on what was lost, and by the kernel's on how the process ended.
//!
//! Caveats: a process is taken to have no layer until its layer has said that it is ready, which it does before the process's
//! first write: an order that comes earlier is refused. Of several processes that share a directory the first to run is
//! taken for the one with the layer.
use super::kill::end_rest;
use super::members::{Ended, Members};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;
use splitbrain_core::disk::{self, FOLDER, MOUNTED, ORDER, PROOF, READY};
use splitbrain_core::{Disk, DiskOrder, DiskProof, Name, Proof, Unsynced};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory with a layer, and an order for it.
struct Target {
    host: Name,
    process: String,
    dir: PathBuf,
    /// Of the process, if it runs.
    pid: Option<Pid>,
    order: DiskOrder,
    /// Whether the layer outlives the process: then its proof comes in any case.
    outlives: bool,
    /// Sees the proof come.
    watch: Inotify,
}

/// Makes the disks on `hosts` as `disk` says, and waits until their layers have seen it. With `sabotage` no order is given,
/// and `patience` bounds the waiting.
pub(crate) fn set_disk(
    members: &mut Members,
    hosts: &[Name],
    disk: Disk,
    patience: Option<Duration>,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    let targets = targets(members, hosts, |before| DiskOrder {
        disk,
        cut: Unsynced::Kept,
        ..before
    })?;
    give(&targets, sabotage)?;
    let mut proofs = Vec::new();
    for target in &targets {
        let saw = match target.pid {
            Some(_) => target.await_proof(members, target.deadline(patience), &[], &mut Vec::new())?,
            None => "does not run and will start with it".to_string(),
        };
        proofs.push(target.proof(&saw));
    }
    Ok(proofs)
}

/// Cuts the power of everything on `hosts`: processes with a layer end in mid-write, then all others end. With `sabotage` no
/// order is given, and `patience` bounds the waiting.
pub(crate) fn cut_power(
    members: &mut Members,
    hosts: &[Name],
    unsynced: Unsynced,
    patience: Duration,
    sabotage: bool,
) -> Result<Vec<Proof>, String> {
    assert!(unsynced != Unsynced::Kept, "a cut loses something");
    let mut targets = targets(members, hosts, |before| DiskOrder {
        cut: unsynced,
        ..before
    })?;
    // Who does not run has nothing unsynced.
    targets.retain(|target| target.pid.is_some());
    give(&targets, sabotage)?;
    let mut ended = Vec::new();
    let mut saw = Vec::new();
    for target in &targets {
        let deadline = target.deadline(sabotage.then_some(patience));
        let words = target.await_proof(members, deadline, hosts, &mut ended)?;
        // A mounted disk ends those who wrote there, and need not be the end of the process by which it is known.
        if !target.outlives {
            target.await_end(members, Instant::now() + patience, hosts, &mut ended)?;
        }
        saw.push(target.proof(&words));
    }
    let mut proofs = end_rest(members, hosts, patience, ended)?;
    for proof in &mut proofs {
        for words in saw.iter().filter(|words| words.at == proof.at) {
            proof.saw = format!("{}, {}", words.saw, proof.saw);
        }
    }
    Ok(proofs)
}

/// The directories with a layer on these hosts, each with its next order. A host without any is an error.
fn targets(members: &Members, hosts: &[Name], order: impl Fn(DiskOrder) -> DiskOrder) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for host in hosts {
        let known: Vec<_> = members.dirs(*host).collect();
        let dirs: BTreeSet<&Path> = known.iter().map(|(_, dir)| *dir).collect();
        let before = targets.len();
        for dir in dirs.into_iter().filter(|dir| disk::file(dir, READY).exists()) {
            let there = known
                .iter()
                .filter(|(_, other)| *other == dir)
                .map(|(process, _)| *process);
            let pid = |process: &str| {
                let mut on = members.on(std::slice::from_ref(host));
                on.find(|member| member.process == process).map(|member| member.pid)
            };
            let first = there.clone().next().map(|process| (process, None));
            let running = there.clone().find_map(|process| Some((process, Some(pid(process)?))));
            let (process, pid) = running.or(first).expect("some process works there");
            targets.push(Target::new(*host, process, dir, pid, &order)?);
        }
        if targets.len() == before {
            let names: Vec<&str> = known.iter().map(|(process, _)| *process).collect();
            let names = if names.is_empty() {
                "nothing".into()
            } else {
                names.join(", ")
            };
            return Err(format!(
                "{host}: {names} runs there without a layer between it and its disk, so the disk cannot be broken for it \
                 alone: break those of systems that have one (`splitbrain list systems`)"
            ));
        }
    }
    Ok(targets)
}

/// Gives all orders, then it is time to wait.
fn give(targets: &[Target], sabotage: bool) -> Result<(), String> {
    if sabotage {
        return Ok(());
    }
    targets.iter().try_for_each(|target| {
        target
            .give()
            .map_err(|e| format!("order a disk fault in {}: {e}", target.dir.display()))
    })
}

impl Target {
    fn new(
        host: Name,
        process: &str,
        dir: &Path,
        pid: Option<Pid>,
        order: impl Fn(DiskOrder) -> DiskOrder,
    ) -> Result<Target, String> {
        let failed = |e: io::Error| format!("watch {}: {e}", dir.join(FOLDER).display());
        let before: DiskOrder = read(&disk::file(dir, ORDER))?.unwrap_or_default();
        let next = DiskOrder {
            generation: before.generation + 1,
            ..before
        };
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| failed(e.into()))?;
        let seen = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        watch.add_watch(&dir.join(FOLDER), seen).map_err(|e| failed(e.into()))?;
        Ok(Target {
            host,
            process: process.to_string(),
            dir: dir.to_path_buf(),
            pid,
            order: order(next),
            outlives: fs::read_to_string(disk::file(dir, READY)).is_ok_and(|name| name == MOUNTED),
            watch,
        })
    }

    fn give(&self) -> io::Result<()> {
        let draft = disk::file(&self.dir, "order.draft");
        let text = serde_json::to_vec(&self.order).expect("plain data always becomes JSON");
        fs::write(&draft, text)?;
        fs::rename(&draft, disk::file(&self.dir, ORDER))
    }

    fn deadline(&self, patience: Option<Duration>) -> Instant {
        Instant::now() + patience.unwrap_or_else(|| self.order.patience().into())
    }

    /// What the layer has seen. Ends on the hosts in `asked` that happen meanwhile go to `ended`.
    fn await_proof(
        &self,
        members: &mut Members,
        deadline: Instant,
        asked: &[Name],
        ended: &mut Vec<Ended>,
    ) -> Result<String, String> {
        loop {
            // The end is looked for first: a proof comes before it.
            let runs = self.runs(members, asked, ended)?;
            let proof = read::<DiskProof>(&disk::file(&self.dir, PROOF))?;
            if let Some(proof) = proof.filter(|proof| proof.generation == self.order.generation) {
                return proof.saw.map_err(|why| format!("{}: {why}", self.who()));
            }
            let runs = runs || self.outlives;
            if !runs && self.order.disk.is_healthy() && self.order.cut.is_kept() {
                // By the fault that is healed here, as it may; the order stands for its next life.
                return Ok("ended on its bad disk and will start with a healthy one".to_string());
            }
            if !runs {
                return Err(format!("{} ended without a word on its disk", self.who()));
            }
            if Instant::now() >= deadline {
                return Err(format!("{} did not prove that its disk is as ordered", self.who()));
            }
            self.wait(members, deadline)?;
        }
    }

    fn await_end(
        &self,
        members: &mut Members,
        deadline: Instant,
        asked: &[Name],
        ended: &mut Vec<Ended>,
    ) -> Result<(), String> {
        while self.runs(members, asked, ended)? {
            if Instant::now() >= deadline {
                return Err(format!("{} outlives its power", self.who()));
            }
            self.wait(members, deadline)?;
        }
        Ok(())
    }

    fn runs(&self, members: &mut Members, asked: &[Name], ended: &mut Vec<Ended>) -> Result<bool, String> {
        ended.extend(members.reap(asked)?);
        let hosts = [self.host];
        let mut on = members.on(&hosts);
        Ok(on.any(|member| Some(member.pid) == self.pid))
    }

    /// Returns when something was written or a child has changed.
    fn wait(&self, members: &mut Members, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let mut fds = [
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(members.signals(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("wait for {}: {error}", self.who())),
        }
        // What the events say does not matter: the proof in the file does.
        let _ = self.watch.read_events();
        members
            .wait(Duration::ZERO)
            .map_err(|e| format!("wait for {}: {e}", self.who()))
    }

    fn who(&self) -> String {
        match self.pid {
            Some(pid) => format!("{} on {} (pid {pid})", self.process, self.host),
            None => format!("{} on {}", self.process, self.host),
        }
    }

    fn proof(&self, saw: &str) -> Proof {
        Proof {
            at: self.host.to_string(),
            saw: format!("{}: {saw}", self.process),
        }
    }
}

/// A file of the layer's folder; `None` if there is none.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("read {}: {error}", path.display())),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| format!("{} is not understood: {e}", path.display())),
    }
}
