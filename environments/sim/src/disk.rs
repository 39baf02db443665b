//! A host's disk, which may be full, slow or failing, and power that is cut in mid-write.
//!
//! What the node's storage layer does, at the grain of whole records. On a *full* disk a write waits until there is room,
//! and its process with it: a core takes no input before its records are durable, and what control asks is refused. On a
//! *slow* one the process waits for as long as the write takes. A *failing* sync ends the process; of the records that were
//! to be synced, some may be on the disk. A *power cut* awaits the host's next write, ends the process in the middle of it, and
//! of its records the disk has none (lost) or some (torn: the half of a record that is there too is cut off at the restart).
//! Who writes nothing for [`IDLE`] meets the cut all the same.
use crate::Sabotage;
use crate::host::{Admission, Write};
use crate::world::{Due, SimWorld};
use rand::RngExt;
use splitbrain_core::disk::IDLE;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Disk, Happening, HostRole, Name, Nanos, Proof, Unsynced};
use std::collections::BTreeSet;

/// How long a process that waits for room may take to notice that there is some.
const ROOM_EVERY: u64 = 50_000_000;
/// Most probe syncs.
const MOST: u32 = 512;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It waits for room.
    Stalls,
    /// It is durable after so long, if its sync does not fail.
    Takes(Nanos),
}

/// A write that begins now on such a disk.
pub(crate) fn begin(disk: &Disk, rng: &mut Rng) -> Begun {
    if disk.full {
        return Begun::Stalls;
    }
    Begun::Takes(Nanos(rng.random_range(200_000..=2_000_000)) + disk.sync_delay)
}

/// Whether a sync that ends now on such a disk fails.
pub(crate) fn sync_fails(disk: &Disk, rng: &mut Rng) -> bool {
    disk.sync_fail_ppm > 0 && rng.random_range(0..1_000_000) < disk.sync_fail_ppm
}

/// A power cut that some hosts still await.
pub(crate) struct Cut {
    id: u64,
    unsynced: Unsynced,
    waiting: BTreeSet<Name>,
    proofs: Vec<Proof>,
    failures: Vec<String>,
}

impl SimWorld {
    /// Makes a host's disk be so, and looks at it as a write does.
    pub(crate) fn spoil(&mut self, name: Name, disk: Disk) -> Result<String, String> {
        if self.hosts[&name].role == HostRole::Storage {
            return Err("the storage has no disk: it keeps its writes in memory".to_string());
        }
        disk.check()?;
        if self.sabotage != Some(Sabotage::DiskDoesNothing) {
            self.host(name).bad = disk;
        }
        let saw = self.look_at_disk(name, &disk)?;
        self.find_room(name);
        Ok(saw)
    }

    /// Probes go through the functions that writes go through, with a copy of their chance.
    fn look_at_disk(&self, name: Name, should: &Disk) -> Result<String, String> {
        let (is, mut rng) = (&self.hosts[&name].bad, self.disk.clone());
        let mut saw = Vec::new();
        match (begin(is, &mut rng), should.full) {
            (Begun::Stalls, true) => saw.push("a write found no room".to_string()),
            (Begun::Stalls, false) => return Err("a write found no room".to_string()),
            (Begun::Takes(_), true) => return Err("a write found room".to_string()),
            (Begun::Takes(took), false) if took < should.sync_delay => {
                return Err(format!("a sync took {took}, and not {}", should.sync_delay));
            }
            (Begun::Takes(took), false) if should.sync_delay > Nanos::ZERO => saw.push(format!("a sync took {took}")),
            (Begun::Takes(_), false) => {}
        }
        let failed = (1..=MOST).find(|_| sync_fails(is, &mut rng));
        let passes = 1.0 - f64::from(should.sync_fail_ppm.min(1_000_000)) / 1e6;
        match (failed, should.sync_fail_ppm) {
            (Some(_), 0) => return Err("a sync failed".to_string()),
            (Some(n), _) => saw.push(format!("sync {n} failed")),
            (None, 0) => {}
            (None, _) if passes.powi(MOST as i32) > 1e-9 => {
                saw.push(format!("too rare to show in {MOST} syncs: one that fails"));
            }
            (None, _) => return Err(format!("none of {MOST} syncs failed")),
        }
        if saw.is_empty() {
            saw.push("a write and a sync went well".to_string());
        }
        Ok(saw.join(", "))
    }

    /// Lets a write that waited for room go on, if there is some now.
    fn find_room(&mut self, name: Name) {
        let host = &self.hosts[&name];
        let waits = host.process.as_ref().is_some_and(|process| process.no_room);
        if !waits || host.bad.full {
            return;
        }
        let notices = Nanos(self.disk.random_range(0..=ROOM_EVERY));
        self.running(name).expect("it waits").no_room = false;
        self.begin_write(name, notices);
    }

    /// Sees the write under way of a host through, `after` some time.
    pub(crate) fn begin_write(&mut self, name: Name, after: Nanos) {
        let (now, life, bad) = (self.now, self.hosts[&name].incarnation, self.hosts[&name].bad);
        let begun = begin(&bad, &mut self.disk);
        let process = self.running(name).expect("only a running process writes");
        process.stalled = begun == Begun::Stalls || bad.sync_delay > Nanos::ZERO || after > Nanos::ZERO;
        match begun {
            Begun::Stalls => process.no_room = true,
            Begun::Takes(takes) => self.push(now + after + takes, Due::Written { host: name, life }),
        }
    }

    /// Ends a process whose sync failed.
    pub(crate) fn fail_sync(&mut self, name: Name) {
        let mut kept = 0;
        if let Some(Write::Append(records)) = &self.running(name).expect("it wrote").writing {
            let most = records.len();
            kept = self.disk.random_range(0..=most);
        }
        self.end_in_write(name, kept);
        let role = self.hosts[&name].role.name();
        let how = format!("{role}: fdatasync: input/output error");
        self.say(name, Happening::Exited { host: name, how });
    }

    /// Ends a host's process; of the records under way the first `kept` are on the disk. How many there were.
    pub(crate) fn end_in_write(&mut self, name: Name, kept: usize) -> usize {
        let process = self.host(name).process.take().expect("only who lives ends");
        let (Some(Write::Append(mut records)) | Some(Write::Replace(mut records))) = process.writing else {
            return 0;
        };
        let all = records.len();
        records.truncate(kept);
        self.host(name).disk.extend(records);
        all
    }

    /// Arms a power cut; `Acted` comes when every host has met it.
    pub(crate) fn cut_power(&mut self, id: u64, hosts: &[Name], unsynced: Unsynced) {
        let mut cut = Cut {
            id,
            unsynced,
            waiting: BTreeSet::new(),
            proofs: Vec::new(),
            failures: Vec::new(),
        };
        let mut writing = Vec::new();
        for &name in hosts {
            match self.hosts[&name].process.as_ref() {
                None => cut.proofs.push(proof(name, "already dead")),
                Some(process) => {
                    cut.waiting.insert(name);
                    writing.extend(process.writing.is_some().then_some(name));
                    let life = self.hosts[&name].incarnation;
                    self.push(self.now + IDLE, Due::Idle { host: name, life });
                }
            }
        }
        self.cuts.push(cut);
        for name in writing {
            self.meet_cut(name);
        }
        self.end_cuts();
    }

    /// Whether the power of this host is to be cut in its next write.
    pub(crate) fn awaits_cut(&self, name: Name) -> bool {
        let acts = self.sabotage != Some(Sabotage::DiskDoesNothing);
        acts && self.cuts.iter().any(|cut| cut.waiting.contains(&name))
    }

    /// The host wrote nothing for long.
    pub(crate) fn idle(&mut self, name: Name, life: u32) {
        if self.hosts[&name].incarnation == life {
            self.meet_cut(name);
        }
    }

    /// Cuts the host's power now, if it awaits that, in the write under way if there is one.
    pub(crate) fn meet_cut(&mut self, name: Name) {
        let Some(at) = self.cuts.iter().position(|cut| cut.waiting.contains(&name)) else {
            return;
        };
        if self.awaits_cut(name) {
            let saw = self.lose(name, self.cuts[at].unsynced);
            self.cuts[at].proofs.push(proof(name, &saw));
        }
        if self.hosts[&name].admits() != Admission::Lost {
            self.cuts[at]
                .failures
                .push(format!("kill {name}: its process is still there"));
        }
        self.cuts[at].waiting.remove(&name);
        self.end_cuts();
    }

    fn lose(&mut self, name: Name, unsynced: Unsynced) -> String {
        let before = self.hosts[&name].disk.len();
        let writing = &self.running(name).expect("who awaits a cut lives").writing;
        let kept = match (unsynced, writing) {
            (Unsynced::Torn, Some(Write::Append(records))) => {
                let most = records.len();
                self.disk.random_range(0..most)
            }
            _ => 0,
        };
        let all = self.end_in_write(name, kept);
        let lost = before + all - self.hosts[&name].disk.len();
        match all {
            0 => "nothing was unsynced, no process left".to_string(),
            _ => format!("{lost} of {all} unsynced records were lost, no process left"),
        }
    }

    fn end_cuts(&mut self) {
        let (done, waiting) = std::mem::take(&mut self.cuts)
            .into_iter()
            .partition(|cut| cut.waiting.is_empty());
        self.cuts = waiting;
        for cut in done {
            let result = match cut.failures.is_empty() {
                true => Ok(cut.proofs),
                false => Err(cut.failures.join("; ")),
            };
            self.acted(cut.id, result);
        }
    }
}

fn proof(name: Name, saw: &str) -> Proof {
    Proof {
        at: name.to_string(),
        saw: saw.to_string(),
    }
}
