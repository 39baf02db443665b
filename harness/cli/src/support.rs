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
    /// It works for systems whose processes have a disk layer of ours; by what means.
    OwnNode(&'static str),
}

/// The environments, in the order of the README's table.
pub const PLACES: [&str; 5] = ["sim", "local", "docker", "ssh", "vagrant"];

/// What `environment` does for `fault`.
pub fn support(environment: &str, fault: FaultKind) -> Support {
    use FaultKind::{Clock, Disk, Kill, Packet, Partition, Pause};
    use Support::{OwnNode, Works};
    match (environment, fault) {
        ("sim", Disk) => OwnNode("simulated disk"),
        ("sim", _) => Works("simulated"),
        ("local", Partition | Packet) => Works("user-space switch"),
        (_, Kill) => Works("SIGKILL by pid"),
        (_, Pause) => Works("SIGSTOP by pid"),
        (_, Partition) => Works("iptables, own chains"),
        (_, Packet) => Works("tc netem, or a queue of ours"),
        ("local" | "docker", Clock) => Works("vDSO, per process"),
        (_, Clock) => Works("host clock, or vDSO per process"),
        (_, Disk) => OwnNode("the node's storage layer"),
    }
}

/// Why `plan` cannot have one of its faults, if so.
pub fn refusal(plan: &Plan, system: &dyn System) -> Option<String> {
    let scripted = plan.script.iter().map(|fault| fault.fault);
    let kinds = plan.faults.kinds.iter().copied().chain(scripted);
    for kind in kinds {
        if let Support::OwnNode(_) = support(&plan.environment, kind)
            && !system.has_disk_layer()
        {
            return Some(format!(
                "{} faults need a layer between a process and its disk, and {} runs as it is installed: use --system raft",
                kind.name(),
                plan.system
            ));
        }
    }
    None
}
