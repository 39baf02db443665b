//! Which fault can be done where, and how; or why not.
//!
//! A fault that cannot act must be refused before anything is started, with its reason: an experiment without its
//! fault looks like a passed one. What depends on a machine that is not reached yet (netem, a clock of its own) is found
//! when the fleet is made or the fault injected, and is an error there.
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Plan, System};

/// What an environment does for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works; by what means.
    Works(&'static str),
    /// It works for systems whose processes have a disk layer of ours; by what means, and why for no others.
    OwnNode(&'static str, &'static str),
}

/// The environments, in the order of the README's table.
pub const PLACES: [&str; 5] = ["sim", "local", "docker", "ssh", "vagrant"];

/// What `environment` does for `fault`.
pub fn support(environment: &str, fault: FaultKind) -> Support {
    use FaultKind::{Clock, Disk, Kill, Packet, Partition, Pause};
    use Support::{OwnNode, Works};
    match (environment, fault) {
        ("sim", Disk) => OwnNode("simulated disk", "only our own protocols are simulated"),
        ("docker", Disk) => OwnNode(
            "the node's storage layer",
            "a container has no right to mount a disk of its own (no /dev/fuse, no SYS_ADMIN); use local, ssh or vagrant",
        ),
        ("sim", _) => Works("simulated"),
        ("local", Partition | Packet) => Works("user-space switch"),
        (_, Kill) => Works("SIGKILL by pid"),
        (_, Pause) => Works("SIGSTOP by pid"),
        (_, Partition) => Works("iptables, own chains"),
        (_, Packet) => Works("tc netem, or a queue of ours"),
        ("local" | "docker", Clock) => Works("vDSO, per process"),
        (_, Clock) => Works("host clock, or vDSO per process"),
        (_, Disk) => Works("the node's storage layer; FUSE for others"),
    }
}

/// Why `plan` cannot have one of its faults, if so.
pub fn refusal(plan: &Plan, system: &dyn System) -> Option<String> {
    let scripted = plan.script.iter().map(|fault| fault.fault);
    let kinds = plan.faults.kinds.iter().copied().chain(scripted);
    for kind in kinds {
        if let Support::OwnNode(_, why) = support(&plan.environment, kind)
            && !system.has_disk_layer()
        {
            return Some(format!(
                "{} faults in {} are for raft only, whose log has a layer of ours, and not for {}: {why}",
                kind.name(),
                plan.environment,
                plan.system
            ));
        }
    }
    None
}

/// Whether disks must be mounted for `plan`'s processes: it breaks disks, and the system has no layer of its own.
pub fn layered_disks(plan: &Plan, system: &dyn System) -> bool {
    let mut scripted = plan.script.iter().map(|fault| fault.fault);
    let breaks_disks = plan.faults.kinds.contains(&FaultKind::Disk) || scripted.any(|kind| kind == FaultKind::Disk);
    breaks_disks && !system.has_disk_layer()
}
