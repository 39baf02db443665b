//! Which fault fits which hosts.
//!
//! Partitions are among those who take part in the election: members, or servers and candidates together. The storage
//! is on no side: a leader that is cut off from its peers and still reaches the storage is what shows damage, and
//! a cut from the storage is a shape of its own. Only a plan that names the storage strikes it. Disks are broken where
//! something is kept on them: at members and servers.
use splitbrain_core::plan::{FaultKind, Grudge, Target};
use splitbrain_core::{HostRole, HostSpec, Name};

/// What breaks, with the shape where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaks {
    Partition(Grudge),
    Kill,
    Pause,
    Packet,
    Clock,
    Disk,
}

impl Breaks {
    pub(crate) fn kind(self) -> FaultKind {
        match self {
            Breaks::Partition(_) => FaultKind::Partition,
            Breaks::Kill => FaultKind::Kill,
            Breaks::Pause => FaultKind::Pause,
            Breaks::Packet => FaultKind::Packet,
            Breaks::Clock => FaultKind::Clock,
            Breaks::Disk => FaultKind::Disk,
        }
    }

    /// As an error names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Breaks::Partition(grudge) => grudge.name(),
            other => other.kind().name(),
        }
    }

    /// Whether it strikes the host itself, its processes, clocks or disk, of which a host suffers one fault at a time:
    /// a stopped process proves no clock, and a dead one no disk.
    pub(crate) fn occupies_hosts(self) -> bool {
        matches!(self, Breaks::Kill | Breaks::Pause | Breaks::Clock | Breaks::Disk)
    }

    fn may_strike_storage(self) -> bool {
        use Grudge::{IsolateOne, OneWay, SingleLink};
        matches!(
            self,
            Breaks::Pause | Breaks::Packet | Breaks::Partition(IsolateOne | OneWay | SingleLink)
        )
    }
}

/// The hosts, by what they are for.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    hosts: Vec<HostSpec>,
}

impl Topology {
    pub(crate) fn new(hosts: &[HostSpec]) -> Topology {
        Topology { hosts: hosts.to_vec() }
    }

    fn named(&self, wanted: impl Fn(&HostSpec) -> bool) -> Vec<Name> {
        self.hosts
            .iter()
            .filter(|host| wanted(host))
            .map(|host| host.name)
            .collect()
    }

    pub(crate) fn all(&self) -> Vec<Name> {
        self.named(|_| true)
    }

    /// Everybody but the storage.
    pub(crate) fn peers(&self) -> Vec<Name> {
        self.named(|host| host.role != HostRole::Storage)
    }

    pub(crate) fn with_role(&self, role: HostRole) -> Vec<Name> {
        self.named(|host| host.role == role)
    }

    /// Those of `names` who can be asked whether they lead.
    pub(crate) fn asked(&self, names: &[Name]) -> Vec<Name> {
        self.named(|host| host.asked && names.contains(&host.name))
    }

    fn role(&self, name: Name) -> Option<HostRole> {
        self.hosts.iter().find(|host| host.name == name).map(|host| host.role)
    }
}

/// Among whom targets are drawn.
pub(crate) fn domain(topology: &Topology, breaks: Breaks) -> Vec<Name> {
    match breaks {
        Breaks::Partition(Grudge::CandidatesFromServers | Grudge::LeaderFromServers) => {
            topology.with_role(HostRole::Candidate)
        }
        Breaks::Partition(Grudge::LeaderFromStorage) => {
            topology.named(|host| matches!(host.role, HostRole::Member | HostRole::Candidate))
        }
        Breaks::Disk => topology.named(|host| matches!(host.role, HostRole::Member | HostRole::Server)),
        _ => topology.peers(),
    }
}

/// Among whom a target may be named: as [`domain`], and the storage where that makes sense.
pub(crate) fn nameable(topology: &Topology, breaks: Breaks) -> Vec<Name> {
    let mut names = domain(topology, breaks);
    if breaks.may_strike_storage() {
        names.extend(topology.with_role(HostRole::Storage));
    }
    names
}

/// Whether the hosts are such that this can happen to them at all.
pub(crate) fn fits_topology(topology: &Topology, breaks: Breaks) -> Result<(), String> {
    let peers = topology.peers().len();
    let name = breaks.name();
    let least = match breaks {
        Breaks::Kill | Breaks::Pause | Breaks::Packet | Breaks::Clock => 1,
        Breaks::Disk => {
            if domain(topology, breaks).is_empty() {
                return Err(format!(
                    "{name} needs a member or a server, which keep something on their disks"
                ));
            }
            1
        }
        Breaks::Partition(grudge) => match grudge {
            Grudge::IsolateOne | Grudge::Halves | Grudge::OneWay | Grudge::SingleLink => 2,
            Grudge::MinorityMajority | Grudge::Bridge => 3,
            // With three, whoever sees a majority both ways sees all.
            Grudge::MajoritiesRing => 4,
            Grudge::CandidatesFromServers | Grudge::LeaderFromServers => {
                if domain(topology, breaks).is_empty() || topology.with_role(HostRole::Server).is_empty() {
                    return Err(format!(
                        "{name} needs servers and candidates on hosts of their own, and here they are not: use isolate-one"
                    ));
                }
                1
            }
            Grudge::LeaderFromStorage => {
                if domain(topology, breaks).is_empty() || topology.with_role(HostRole::Storage).is_empty() {
                    return Err(format!("{name} needs a storage host and somebody who writes to it"));
                }
                1
            }
        },
    };
    if peers < least {
        return Err(format!(
            "{name} needs {least} hosts beside the storage, and there are {peers}"
        ));
    }
    Ok(())
}

/// Whether `target` can suffer this; the error says why not.
pub(crate) fn fits(topology: &Topology, breaks: Breaks, target: Target) -> Result<(), String> {
    fits_topology(topology, breaks)?;
    let domain = domain(topology, breaks);
    let name = breaks.name();
    match target {
        Target::One => {}
        Target::Minority if domain.len() < 3 => {
            return Err(format!(
                "{name} of a minority needs 3 hosts to choose from, and there are {}",
                domain.len()
            ));
        }
        Target::Minority => {}
        Target::Majority | Target::All => {}
        Target::Leader | Target::NonLeader => {
            if topology.asked(&domain).is_empty() {
                return Err(format!(
                    "{name} of target {target}: nobody there can be asked whether it leads"
                ));
            }
            if target == Target::NonLeader && domain.len() < 2 {
                return Err(format!("{name} of target {target} needs 2 hosts to choose from"));
            }
        }
        Target::Role(role) => {
            if topology.with_role(role).is_empty() {
                return Err(format!("target {target}: no host is a {}", role.name()));
            }
            for host in topology.with_role(role) {
                host_fits(topology, breaks, host)?;
            }
        }
        Target::Host(host) => host_fits(topology, breaks, host)?,
    }
    if matches!(breaks, Breaks::Partition(Grudge::IsolateOne | Grudge::OneWay))
        && surely_struck(topology, target) >= domain.len()
    {
        return Err(format!("{name} of target {target} leaves nobody on the other side"));
    }
    Ok(())
}

fn host_fits(topology: &Topology, breaks: Breaks, host: Name) -> Result<(), String> {
    let Some(role) = topology.role(host) else {
        let known: Vec<&str> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
        return Err(format!(
            "target host:{host}: there is no such host, only {}",
            known.join(" ")
        ));
    };
    if nameable(topology, breaks).contains(&host) {
        return Ok(());
    }
    let name = breaks.name();
    Err(match (breaks, role) {
        (Breaks::Kill, HostRole::Storage) => {
            format!("{name} of {host}: the storage keeps its state in memory only; pause it, or cut it off")
        }
        (Breaks::Clock, HostRole::Storage) => {
            format!("{name} of {host}: the storage goes by no clock; skew those who write to it")
        }
        (Breaks::Disk, HostRole::Storage) => format!("{name} of {host}: the storage keeps its state in memory only"),
        (Breaks::Disk, HostRole::Candidate) => {
            format!("{name} of {host}: a candidate keeps nothing on its disk; break a server's")
        }
        _ => format!("{name} of {host}: it does not fit a {}", role.name()),
    })
}

/// The fewest peers that `target` is sure to strike.
fn surely_struck(topology: &Topology, target: Target) -> usize {
    let peers = topology.peers().len();
    match target {
        Target::All => peers,
        Target::Majority => peers / 2 + 1,
        Target::Role(HostRole::Storage) | Target::Host(_) => 0,
        Target::Role(role) => topology.with_role(role).len(),
        Target::One | Target::Minority | Target::Leader | Target::NonLeader => 1,
    }
}
