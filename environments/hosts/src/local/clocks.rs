//! The hosts' clocks. All hosts of a sandbox are one machine with one clock, so a skew is always one of processes.
use crate::clock::Clocks;
use crate::processes::{Members, proc_is_own};
use crate::sabotage::Sabotage;
use nix::unistd::Pid;
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Name, Proof, Skew};
use std::collections::BTreeMap;

/// Each host's that were ever skewed.
#[derive(Default)]
pub(super) struct HostClocks {
    hosts: BTreeMap<Name, Clocks>,
}

impl HostClocks {
    /// Skews the clocks that everything on these hosts reads, and proves it.
    pub fn set(
        &mut self,
        members: &Members,
        hosts: &[Name],
        skew: Skew,
        sabotage: Option<Sabotage>,
    ) -> Result<Vec<Proof>, String> {
        if !proc_is_own() {
            return Err(
                "skew clocks: the sandbox has no /proc of its own, which a container that masks /proc forbids: \
                        run outside of it, or with --security-opt systempaths=unconfined"
                    .to_string(),
            );
        }
        let mut proofs = Vec::new();
        for host in hosts {
            let clocks = self.hosts.entry(*host).or_insert_with(|| Clocks::new(sabotage));
            let seen = clocks.set(skew, ClockOf::Process, &everything(members, *host));
            let seen = seen.map_err(|why| format!("{host}: {why}"))?;
            proofs.extend(seen.into_iter().map(|proof| Proof {
                at: host.to_string(),
                ..proof
            }));
        }
        Ok(proofs)
    }

    /// Whether there is something to look after.
    pub fn busy(&self) -> bool {
        self.hosts.values().any(Clocks::busy)
    }

    /// Sees to it that what has started meanwhile reads the host's time: on one host, or on all.
    pub fn tend(&mut self, members: &Members, only: Option<Name>) -> Result<(), String> {
        let asked = |host: &Name| only.is_none_or(|only| only == *host);
        let busy = self
            .hosts
            .iter_mut()
            .filter(|(host, clocks)| asked(host) && clocks.busy());
        for (host, clocks) in busy {
            let tended = clocks.tend(&everything(members, *host));
            tended.map_err(|why| format!("{host}: {why}"))?;
        }
        Ok(())
    }
}

/// What runs on a host, by name.
fn everything(members: &Members, host: Name) -> Vec<(String, Pid)> {
    let name = |pid| {
        let member = members.running.iter().find(|member| member.pid == pid);
        member.map_or("a child", |member| &member.process).to_string()
    };
    let found = members.everything_on(&[host]);
    found.into_iter().map(|(_, pid)| (name(pid), pid)).collect()
}
