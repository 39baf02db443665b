//! The disk layer: how an environment orders disk faults, and how it learns that they act.
//!
//! A *layer* stands between a process and its disk: the storage layer of our own node, or a file system in user space that
//! is mounted over a process's directory. Only a layer can make a disk misbehave without touching the machine's own. The
//! environment and the layer share nothing but the process's directory, so they talk through three files in its folder
//! [`FOLDER`]:
//!
//! - [`READY`], made by the layer before the process's first write, with the layer's own name in one line. It stays when
//!   the process ends. Without it there is no layer, and the environment refuses;
//! - [`ORDER`], a [`DiskOrder`], made by the environment: written under another name, then renamed, so that it is whole;
//! - [`PROOF`], a [`DiskProof`], made by the layer in the same way.
//!
//! **An order is absolute**, in place of the one before, and its `generation` rises with each. The layer adopts an order
//! between two operations of the process, never within one, and proves it with the same stroke: by probes that go the way
//! that the process's own writes and syncs go. *Full*: a probe write found no room. *Slow*: a probe sync took at least the
//! delay. *Failing*: of enough probe syncs one failed. *Healthy*: a probe write and a probe sync went well. A
//! layer that did not see the effect says so in [`DiskProof::saw`]. No proof within [`DiskOrder::patience`] is an error.
//!
//! **A power cut** is an order with `cut` other than [`Unsynced::Kept`]. At the process's next write the layer puts nothing
//! of it (`Lost`) or a part of it (`Torn`) on the disk, syncs nothing, writes its proof (how much was lost) and ends the
//! process by SIGKILL: the process dies in mid-write. A process that writes nothing for [`IDLE`] is ended all the same, and
//! the proof says that nothing was unsynced. So a cut's end is no end by itself: the environment awaits it, and ends what
//! else runs on the host. The order's `disk` is obeyed by the next life, its `cut` by nobody but the life that was given it.
//!
//! **A host without a process** has nobody to prove anything. An order is then only left for the next life, whose layer
//! adopts it before the process's first write. This is how the disk of a process that ended by its fault is healed: first the
//! order, then the start.
//!
//! This module is only the vocabulary and the names; who reads and writes is the node, and the environments.
use crate::action::{Action, Disk, Unsynced};
use crate::event::{Body, Event, Kind};
use crate::name::Name;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layer's folder, in the process's directory.
pub const FOLDER: &str = ".disk";
/// Made by the layer; one line, its name.
pub const READY: &str = "ready";
/// The name of a layer that outlives the processes on it, and so proves an order after their end too.
pub const MOUNTED: &str = "a file system in user space\n";
/// A [`DiskOrder`] as JSON.
pub const ORDER: &str = "order.json";
/// A [`DiskProof`] as JSON.
pub const PROOF: &str = "proof.json";

/// A power cut comes so long after its order at the latest, if the process writes nothing.
pub const IDLE: Nanos = Nanos::millis(300);

/// One of the layer's files for the process that runs in `dir`.
pub fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(FOLDER).join(name)
}

/// What the environment wants of the layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskOrder {
    /// Of all orders to this directory, from 1. A layer obeys only a generation above the last one it adopted.
    pub generation: u64,
    /// How the disk is from now on.
    #[serde(default)]
    pub disk: Disk,
    /// Whether the process is to end in mid-write, and what becomes of that write.
    #[serde(default)]
    pub cut: Unsynced,
}

impl DiskOrder {
    /// How long the environment waits for the proof: probes take their time on a disk that is slow on purpose, and on one
    /// that is slow by itself.
    pub fn patience(&self) -> Nanos {
        Nanos::secs(5) + self.disk.sync_delay + self.disk.sync_delay
    }
}

/// What the layer saw of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskProof {
    /// As the order had it.
    pub generation: u64,
    /// In a few words what was seen, or what should have been and was not.
    pub saw: Result<String, String>,
}

/// On which hosts processes may end by themselves just now: a process that finds its disk full, or whose syncs fail, does
/// right to end rather than to go on without a memory.
///
/// That holds from the moment in which such a disk is asked for until the same fault's start of the host is confirmed,
/// which comes after the disk was healed: news of an end may be late, but not later than the next life.
#[derive(Clone, Debug, Default)]
pub struct MayEnd {
    hosts: BTreeMap<u32, BTreeSet<Name>>,
}

impl MayEnd {
    /// Takes the next event of a history in.
    pub fn event(&mut self, event: &Event) {
        match (&event.body, event.kind) {
            (Body::Fault(step), Kind::Invoke) => {
                if let Action::Disk { hosts, disk } = &step.action
                    && disk.may_end_processes()
                {
                    self.hosts.insert(step.fault, hosts.iter().copied().collect());
                }
            }
            (Body::Heal(step), Kind::Ok) => {
                if let Action::Start { hosts } = &step.action
                    && let Some(open) = self.hosts.get_mut(&step.fault)
                {
                    open.retain(|host| !hosts.contains(host));
                }
            }
            _ => {}
        }
    }

    /// Whether a process of `host` may end by itself.
    pub fn contains(&self, host: Name) -> bool {
        self.hosts.values().any(|hosts| hosts.contains(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FaultStep, Process};
    use crate::plan::FaultKind;

    #[test]
    fn orders_and_proofs_keep_their_form() {
        let order = DiskOrder {
            generation: 3,
            disk: Disk {
                sync_delay: Nanos::millis(200),
                ..Disk::default()
            },
            cut: Unsynced::Torn,
        };
        let json = r#"{"generation":3,"disk":{"full":false,"sync-delay":"200ms","sync-fail-ppm":0},"cut":"torn"}"#;
        assert_eq!(serde_json::to_string(&order).unwrap(), json);
        assert_eq!(serde_json::from_str::<DiskOrder>(json).unwrap(), order);
        let least: DiskOrder = serde_json::from_str(r#"{"generation":1}"#).unwrap();
        assert_eq!((least.disk, least.cut), (Disk::default(), Unsynced::Kept));
        for (saw, json) in [
            (Ok("no room".to_string()), r#"{"generation":3,"saw":{"Ok":"no room"}}"#),
            (Err("room".to_string()), r#"{"generation":3,"saw":{"Err":"room"}}"#),
        ] {
            let proof = DiskProof { generation: 3, saw };
            assert_eq!(serde_json::to_string(&proof).unwrap(), json);
            assert_eq!(serde_json::from_str::<DiskProof>(json).unwrap(), proof);
        }
        assert_eq!(file(Path::new("/d"), ORDER), Path::new("/d/.disk/order.json"));
    }

    fn event(kind: Kind, heal: bool, fault: u32, action: Action) -> Event {
        let step = FaultStep {
            fault,
            kind: FaultKind::Disk,
            what: String::new(),
            targets: vec![],
            action,
            proofs: vec![],
        };
        Event {
            index: 0,
            time: Nanos::ZERO,
            process: Process::Nemesis,
            kind,
            body: if heal { Body::Heal(step) } else { Body::Fault(step) },
            error: None,
        }
    }

    #[test]
    fn a_process_may_end_from_the_asking_to_the_start() {
        let [a, b]: [Name; 2] = ["n1", "n2"].map(|name| name.parse().unwrap());
        let disk = |full| Action::Disk {
            hosts: vec![a],
            disk: Disk {
                full,
                sync_delay: Nanos::millis(1),
                ..Disk::default()
            },
        };
        let start = Action::Start { hosts: vec![a] };
        let mut may = MayEnd::default();
        may.event(&event(Kind::Invoke, false, 1, disk(false)));
        assert!(!may.contains(a), "a slow disk ends nobody");
        may.event(&event(Kind::Invoke, false, 2, disk(true)));
        assert!(may.contains(a) && !may.contains(b));
        may.event(&event(Kind::Ok, true, 2, disk(false)));
        may.event(&event(Kind::Ok, true, 1, start.clone()));
        may.event(&event(Kind::Invoke, true, 2, start.clone()));
        assert!(may.contains(a), "its own start is not confirmed");
        may.event(&event(Kind::Ok, true, 2, start));
        assert!(!may.contains(a));
    }
}
