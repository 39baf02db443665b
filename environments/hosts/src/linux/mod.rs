//! The links of a host whose kernel is Linux: blocks, shapes and probes, by `iptables`, `tc` and a queue of ours.
//!
//! **Problem.** A link `a>b` must drop or change packets on machines that are somebody else's: whatever rules they
//! have stay as they are, control is never cut off, and what we set can be found and removed after any crash.
//!
//! **Mechanism.** [`Wire`] keeps what is asked, as state; pure functions make commands of the difference between two
//! states ([`commands`]), which are run as they are ([`run`]). A block acts at the receiver, in a chain of our own that
//! matches the sender's addresses. [`marks`] finds and removes what is ours without knowing any state. Whether a link
//! really does what it is to is shown by probes between hosts ([`post`]), which is the business of control: it alone
//! sees both ends.
//!
//! Caveat: one `Wire` per network namespace; whoever holds the host's lock may have it.
pub mod commands;
mod marks;
mod missing;
mod netem;
mod post;
mod run;

pub use post::{PORT, raw_now};

use crate::agent::proto::{Arrival, Burst};
use crate::sabotage::Sabotage;
use commands::{Family, Rules};
use post::Post;
use splitbrain_core::{Name, Nanos, Proof, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A host's links, as the host itself sees them.
pub struct Wire {
    sabotage: Option<Sabotage>,
    post: Post,
    peers: BTreeMap<Name, Vec<IpAddr>>,
    blocked: BTreeSet<Name>,
    /// What was set, by family.
    rules: BTreeMap<Family, Rules>,
}

/// What probes have shown at the receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Since this was last asked for; a probe that came twice stands here twice.
    pub came: Vec<Arrival>,
    /// Packets from each blocked peer that its block has dropped since it was set.
    pub dropped: BTreeMap<Name, u64>,
    /// Packets that the kernel threw away for a wrong UDP checksum since boot, and probes with wrong bytes.
    pub damaged: u64,
}

impl Wire {
    /// Opens the probes' sockets; sets nothing yet. The error says what is in the way and how to remove it.
    pub fn open(sabotage: Option<Sabotage>, _seed: u64) -> Result<Wire, String> {
        Ok(Wire {
            sabotage,
            post: Post::open()?,
            peers: BTreeMap::new(),
            blocked: BTreeSet::new(),
            rules: BTreeMap::new(),
        })
    }

    /// What cannot be had here (`iptables`, `netem`, `nfqueue`), with the reason and the remedy. Tries it out.
    pub fn missing() -> BTreeMap<String, String> {
        missing::missing()
    }

    /// Who else there is. The first address of each is the one that probes go to; blocks and shapes are for all of them.
    pub fn peers(&mut self, peers: &BTreeMap<Name, Vec<IpAddr>>) -> Result<(), String> {
        let (mut all, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for (name, addresses) in peers {
            let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
            if addresses.is_empty() {
                return Err(format!("{name} has no address"));
            }
            for ip in &addresses {
                if let Some(other) = owners.insert(*ip, *name).filter(|other| other != name) {
                    return Err(format!("{other} and {name} have the same address {ip}"));
                }
            }
            all.insert(*name, addresses);
        }
        self.peers = all;
        self.apply()
    }

    /// Drops what comes from these peers, from now on.
    pub fn block(&mut self, names: &[Name]) -> Result<Vec<Proof>, String> {
        self.known(names)?;
        let before = self.blocked.clone();
        self.blocked.extend(names);
        self.or_back(before)?;
        let rules = |name: &Name| self.peers[name].len();
        let proof = |name: &Name| Proof {
            at: name.to_string(),
            saw: format!("{} in {}", counted(rules(name), "rule"), commands::BLOCK),
        };
        Ok(names.iter().map(proof).collect())
    }

    /// Takes it again.
    pub fn unblock(&mut self, names: &[Name]) -> Result<Vec<Proof>, String> {
        self.known(names)?;
        let before = self.blocked.clone();
        self.blocked.retain(|name| !names.contains(name));
        self.or_back(before)?;
        let proof = |name: &Name| Proof {
            at: name.to_string(),
            saw: format!("no rule in {}", commands::BLOCK),
        };
        Ok(names.iter().map(proof).collect())
    }

    /// Gives what goes to these peers a shape (netem).
    pub fn shape_out(&mut self, _names: &[Name], _shape: Shape) -> Result<Vec<Proof>, String> {
        Err("shapes at the sender cannot be set yet".to_string())
    }

    /// Gives what comes from these peers a shape (a queue of ours).
    pub fn shape_in(&mut self, _names: &[Name], _shape: Shape) -> Result<Vec<Proof>, String> {
        Err("shapes at the receiver cannot be set yet".to_string())
    }

    /// Sends probes: by serial, when each left ([`raw_now`]).
    pub fn probe(&mut self, bursts: &[Burst]) -> Result<Vec<(u64, Nanos)>, String> {
        let mut sent = Vec::new();
        for burst in bursts {
            self.known(&[burst.to])?;
            sent.extend(self.post.send(burst, self.peers[&burst.to][0])?);
        }
        Ok(sent)
    }

    /// What probes have come, and what was dropped. Fails if a rule of ours is gone that nobody took back.
    pub fn probes(&mut self) -> Result<Probes, String> {
        let mut dropped: BTreeMap<Name, u64> = self.blocked.iter().map(|name| (*name, 0)).collect();
        for (family, rules) in self.rules.iter().filter(|(_, rules)| !rules.drop.is_empty()) {
            let counts = commands::counted(&run::run(&commands::count(*family))?);
            for (ip, peer) in &rules.drop {
                let count = counts.get(ip).ok_or_else(|| {
                    let chain = commands::BLOCK;
                    format!(
                        "the rule for {peer} ({ip}) is gone from {chain}: somebody else has changed this host's rules"
                    )
                })?;
                *dropped.entry(*peer).or_default() += count;
            }
        }
        Ok(Probes {
            came: self.post.take()?,
            dropped,
            damaged: self.post.damaged()?,
        })
    }

    /// Removes all that carries our mark from this host, and nothing else: what was removed, in words. A `Wire` that was
    /// open knows nothing of it, and is of no use afterwards.
    pub fn heal() -> Result<Vec<String>, String> {
        marks::heal()
    }

    /// What is left here that carries our mark, in words.
    pub fn leftovers() -> Result<Vec<String>, String> {
        marks::leftovers()
    }

    fn known(&self, names: &[Name]) -> Result<(), String> {
        match names.iter().find(|name| !self.peers.contains_key(name)) {
            None => Ok(()),
            Some(name) => Err(format!("{name} is no peer of this host")),
        }
    }

    /// Sets what is asked; if that fails, what was asked before.
    fn or_back(&mut self, before: BTreeSet<Name>) -> Result<(), String> {
        self.apply().inspect_err(|_| {
            self.blocked = before;
            // One family's rules may be set already. If this fails too, the first failure says more.
            let _ = self.apply();
        })
    }

    /// Makes the rules what is asked.
    fn apply(&mut self) -> Result<(), String> {
        for family in Family::ALL {
            let mut rules = Rules::default();
            for (name, addresses) in &self.peers {
                for ip in addresses.iter().filter(|ip| Family::of(ip) == family) {
                    if self.blocked.contains(name) && self.sabotage != Some(Sabotage::BlockDoesNothing) {
                        rules.drop.insert(*ip, *name);
                    }
                }
            }
            let before = self.rules.entry(family).or_default();
            if let Some(command) = commands::change(family, before, &rules, 0) {
                run::run(&command)?;
            }
            *before = rules;
        }
        Ok(())
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
