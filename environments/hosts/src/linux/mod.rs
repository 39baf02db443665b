//! The links of a host whose kernel is Linux: blocks, shapes and probes, by `iptables`, `tc` and a queue of ours.
//!
//! **Problem.** A link `a>b` must drop or change packets on machines that are somebody else's: whatever rules they
//! have stay as they are, control is never cut off, and what we set can be found and removed after any crash.
//!
//! **Mechanism.** [`Wire`] keeps what is asked, as state; pure functions make commands of the difference between two
//! states ([`commands`], [`netem`]), which are run as they are ([`run`]). A block acts at the receiver, in a chain of our
//! own that matches the sender's addresses. A shape acts at the sender where the kernel has netem, else at the receiver, in
//! a queue of ours ([`shaper`]). [`marks`] finds and removes what is ours without knowing any state. Whether a link really
//! does what it is to is shown by probes between hosts ([`post`]), which is the business of control: it alone sees both
//! ends.
//!
//! Caveats: one `Wire` per network namespace; whoever holds the host's lock may have it. All methods are to be called in the
//! network namespace in which it was opened. An address that several hosts have, as machines behind one NAT do, tells
//! nobody from others and is left alone.
pub mod commands;
mod egress;
mod lanes;
mod marks;
mod missing;
mod netem;
mod post;
mod queue;
mod run;
#[cfg(test)]
mod script_tests;
mod shaper;

pub use post::{PORT, raw_now};

use crate::agent::proto::{Arrival, Burst};
use crate::sabotage::Sabotage;
use commands::{Family, Rules};
use egress::Egress;
use post::Post;
use shaper::Shaper;
use splitbrain_core::{Name, Nanos, Proof, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A host's links, as the host itself sees them.
pub struct Wire {
    sabotage: Option<Sabotage>,
    seed: u64,
    post: Post,
    peers: BTreeMap<Name, Vec<IpAddr>>,
    blocked: BTreeSet<Name>,
    /// Whose packets go through the queue.
    queued: BTreeSet<Name>,
    /// Made with the first shape.
    shaper: Option<Shaper>,
    egress: Egress,
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
    /// Opens the probes' sockets; sets nothing yet. What a queue draws (which packet is lost) comes from `seed`. The error
    /// says what is in the way and how to remove it.
    pub fn open(sabotage: Option<Sabotage>, seed: u64) -> Result<Wire, String> {
        Ok(Wire {
            sabotage,
            seed,
            post: Post::open()?,
            peers: BTreeMap::new(),
            blocked: BTreeSet::new(),
            queued: BTreeSet::new(),
            shaper: None,
            egress: Egress::default(),
            rules: BTreeMap::new(),
        })
    }

    /// What cannot be had here (`iptables`, `netem`, `nfqueue`), with the reason and the remedy. Tries it out.
    pub fn missing() -> BTreeMap<String, String> {
        missing::missing()
    }

    /// Who else there is. The first address of each is the one that probes go to, and must be its own; blocks and shapes are
    /// for all addresses that no other host has, this one included.
    pub fn peers(&mut self, peers: &BTreeMap<Name, Vec<IpAddr>>) -> Result<(), String> {
        let own = own_addresses()?;
        let mut owners: BTreeMap<IpAddr, BTreeSet<Name>> = BTreeMap::new();
        for (name, addresses) in peers {
            for ip in addresses {
                owners.entry(ip.to_canonical()).or_default().insert(*name);
            }
        }
        let alone = |ip: &IpAddr| owners[ip].len() == 1 && !own.contains(ip);
        let mut all = BTreeMap::new();
        for (name, addresses) in peers {
            let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
            let first = addresses.first().ok_or_else(|| format!("{name} has no address"))?;
            if !alone(first) {
                let others: Vec<&str> = owners[first].iter().filter(|o| *o != name).map(Name::as_str).collect();
                let others = if others.is_empty() { vec!["this host"] } else { others };
                return Err(format!(
                    "{name} has the same address {first} as {}",
                    others.join(" and ")
                ));
            }
            all.insert(*name, addresses.into_iter().filter(alone).collect());
        }
        self.peers = all;
        self.apply()
    }

    /// Drops what comes from these peers, from now on, and what is held of it.
    pub fn block(&mut self, names: &[Name]) -> Result<Vec<Proof>, String> {
        self.ready(names)?;
        let before = (self.blocked.clone(), self.queued.clone());
        self.blocked.extend(names);
        self.or_back(before)?;
        if let Some(shaper) = self
            .shaper
            .as_ref()
            .filter(|_| self.sabotage != Some(Sabotage::BlockDoesNothing))
        {
            shaper.cut(names)?;
        }
        let rules = |name: &Name| counted(self.peers[name].len(), "rule");
        Ok(proofs(names, |name| format!("{} in {}", rules(name), commands::BLOCK)))
    }

    /// Takes it again, in the shape that it has.
    pub fn unblock(&mut self, names: &[Name]) -> Result<Vec<Proof>, String> {
        self.ready(names)?;
        let before = (self.blocked.clone(), self.queued.clone());
        self.blocked.retain(|name| !names.contains(name));
        if let Some(shaper) = &self.shaper {
            shaper.carry(names)?;
        }
        self.or_back(before)?;
        Ok(proofs(names, |_| format!("no rule in {}", commands::BLOCK)))
    }

    /// Gives what goes to these peers a shape (netem), in place of the one it has.
    pub fn shape_out(&mut self, names: &[Name], shape: Shape) -> Result<Vec<Proof>, String> {
        self.ready(names)?;
        if self.sabotage != Some(Sabotage::ShapeDoesNothing) {
            self.egress.shape(&self.peers, names, shape)?;
        }
        let words = match shape == Shape::default() {
            true => format!("no netem below {}", netem::HANDLE),
            false => format!("netem {} below {}", netem::arguments(&shape)?, netem::HANDLE),
        };
        Ok(proofs(names, |_| words.clone()))
    }

    /// Gives what comes from these peers a shape (a queue of ours), in place of the one it has.
    pub fn shape_in(&mut self, names: &[Name], shape: Shape) -> Result<Vec<Proof>, String> {
        self.ready(names)?;
        let clean = shape == Shape::default();
        let mut words = match clean {
            true => format!("no rule in {}", commands::SHAPE),
            false => format!("rules in {}", commands::SHAPE),
        };
        if self.sabotage == Some(Sabotage::ShapeDoesNothing) {
            return Ok(proofs(names, |_| words.clone()));
        }
        if self.shaper.is_none() && !clean {
            let failed = |e| format!("open a netfilter queue: {e}");
            self.shaper = Some(Shaper::start(self.seed).map_err(failed)?);
        }
        let before = (self.blocked.clone(), self.queued.clone());
        if let Some(shaper) = &self.shaper {
            let owners = self
                .peers
                .iter()
                .flat_map(|(name, ips)| ips.iter().map(|ip| (*ip, *name)));
            shaper.shape(owners.collect(), names, shape)?;
            match shaper.check()? {
                0 => {}
                dropped => words += &format!(", {dropped} packets dropped since the queue was too slow"),
            }
        }
        match clean {
            true => self.queued.retain(|name| !names.contains(name)),
            false => self.queued.extend(names),
        }
        self.or_back(before)?;
        Ok(proofs(names, |_| words.clone()))
    }

    /// Sends probes: by serial, when each left ([`raw_now`]).
    pub fn probe(&mut self, bursts: &[Burst]) -> Result<Vec<(u64, Nanos)>, String> {
        let mut sent = Vec::new();
        for burst in bursts {
            self.ready(&[burst.to])?;
            sent.extend(self.post.send(burst, self.peers[&burst.to][0])?);
        }
        Ok(sent)
    }

    /// What probes have come, and what was dropped. Fails if a rule of ours is gone that nobody took back, or the queue.
    pub fn probes(&mut self) -> Result<Probes, String> {
        self.ready(&[])?;
        let mut dropped: BTreeMap<Name, u64> = self.blocked.iter().map(|name| (*name, 0)).collect();
        for (family, rules) in self.rules.iter().filter(|(_, rules)| !rules.drop.is_empty()) {
            let counts = commands::counted(&run::run(&commands::count(*family))?);
            for (ip, peer) in &rules.drop {
                let chain = commands::BLOCK;
                let count = counts.get(ip).ok_or_else(|| {
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

    /// Fails if one of these is no peer, or the queue is gone.
    fn ready(&self, names: &[Name]) -> Result<(), String> {
        if let Some(name) = names.iter().find(|name| !self.peers.contains_key(name)) {
            return Err(format!("{name} is no peer of this host"));
        }
        self.shaper.as_ref().map_or(Ok(()), |shaper| shaper.check().map(drop))
    }

    /// Sets what is asked; if that fails, what was asked before.
    fn or_back(&mut self, before: (BTreeSet<Name>, BTreeSet<Name>)) -> Result<(), String> {
        self.apply().inspect_err(|_| {
            (self.blocked, self.queued) = before;
            // One family's rules may be set already. If this fails too, the first failure says more.
            let _ = self.apply();
        })
    }

    /// Makes the rules what is asked. What is blocked does not go through the queue: its block counts it as it comes.
    fn apply(&mut self) -> Result<(), String> {
        let number = self.shaper.as_ref().map_or(0, Shaper::number);
        for family in Family::ALL {
            let mut rules = Rules::default();
            for (name, addresses) in &self.peers {
                let blocked = self.blocked.contains(name) && self.sabotage != Some(Sabotage::BlockDoesNothing);
                for ip in addresses.iter().filter(|ip| Family::of(ip) == family) {
                    if blocked {
                        rules.drop.insert(*ip, *name);
                    } else if self.queued.contains(name) {
                        rules.queue.insert(*ip, *name);
                    }
                }
            }
            let before = self.rules.entry(family).or_default();
            if let Some(command) = commands::change(family, before, &rules, number) {
                run::run(&command)?;
            }
            *before = rules;
        }
        Ok(())
    }
}

fn proofs(names: &[Name], saw: impl Fn(&Name) -> String) -> Vec<Proof> {
    let proof = |name: &Name| Proof {
        at: name.to_string(),
        saw: saw(name),
    };
    names.iter().map(proof).collect()
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// All addresses of this host.
fn own_addresses() -> Result<BTreeSet<IpAddr>, String> {
    let all = nix::ifaddrs::getifaddrs().map_err(|e| format!("list this host's addresses: {e}"))?;
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    };
    Ok(all.filter_map(|interface| ip(interface.address?)).collect())
}
