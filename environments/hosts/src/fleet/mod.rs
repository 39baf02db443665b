//! Hosts on other machines, as control holds them.
//!
//! Each machine is reached by a [`Remote`] and has an agent of ours ([`crate::agent`]). A [`Fleet`] holds one connection to
//! each ([`line`]) and is the [`Ground`] that [`crate::live::LiveWorld`] stands on: processes are started there, their
//! streams come here, actions become orders.
//!
//! **Proof.** What a single host can see, it proves itself: a process ended, a clock reads wrong. What concerns two, control
//! has them prove to each other ([`verify`]): a block by probes that the receiver drops, a shape by what probes took and
//! what became of them.
//!
//! **Who shapes.** A link's sender, where its kernel has netem; else its receiver, by a queue of ours; else nobody: the
//! action is refused.
//!
//! **Clocks.** Machines with the same boot id are one kernel and have one clock: containers with each other and mostly with
//! control. Such a clock is nobody's own, and is never set.
//!
//! **Lost hosts.** A host is lost when its connection ends or it says nothing for five seconds. Orders to it fail from then
//! on, its processes count as ended, all others go on. An action that names it as well as others is carried out on the
//! others, and fails.
//!
//! **The end.** All hosts that can be reached are told to heal, all at once; one that was lost is tried once more by a new
//! agent. What may be left is told ([`Ground::epitaph`], standard error) and never waited for without bound; hosts that
//! cannot be reached heal themselves ([`splitbrain_core::plan::Hosts::dead_man`]).
mod addresses;
mod end;
mod evidence;
mod heal;
mod line;
mod links;
mod meet;
mod raw;
mod streams;
mod verify;

pub use heal::{Healed, heal};

use crate::agent::proto::{self, Reply, Spawn};
use crate::ground::{Ending, Ground, HostFile, Launch, Launched, Order};
use crate::live::Latch;
use crate::logs;
use crate::remote::Remote;
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use line::{Endings, Line, Wake};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::system::{Place, Stdio};
use splitbrain_core::{Action, Link, Name, Proof, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streams::{Input, Output};

/// No order takes longer: agents bound each of their waits by less.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of a file that go in one order.
const PIECE: usize = 1 << 20;
/// How long an action may take to show its effect between hosts.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same under sabotage, where it will not show any.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// The hosts of a run on other machines: agents running, addressed, with no process on them. Dropping it heals them.
pub struct Fleet {
    order: Order,
    site: Site,
    dir: PathBuf,
    hosts: BTreeMap<Name, Host>,
    endings: Arc<Endings>,
    /// By host, who shares its clock.
    shared_clocks: BTreeMap<Name, String>,
    links: Mutex<BTreeMap<Link, links::State>>,
    serial: AtomicU64,
    /// Opens when the fleet ends.
    over: Latch,
    /// What could not be healed, once it was tried.
    left: Mutex<Option<Vec<String>>>,
}

struct Host {
    line: Arc<Line>,
    remote: Arc<dyn Remote>,
    greeting: proto::Greeting,
}

impl Fleet {
    /// Starts the agents of all hosts and makes them known to each other. Remotes beyond those that are needed are let go.
    /// `network` is that of the cluster's own traffic (`10.0.0.0/24`), for machines with several addresses.
    ///
    /// Fails, with each host's name and the remedy, if there are too few, if one cannot be reached or used, if two are the
    /// same; what was begun is undone.
    pub fn start(order: Order, remotes: Vec<Arc<dyn Remote>>, network: Option<String>) -> Result<Fleet> {
        let started = Fleet::meet(order, &remotes, network.as_deref());
        let used = started.as_ref().map_or(0, |fleet| fleet.hosts.len());
        for why in end::release(&remotes[used..]) {
            eprintln!("splitbrain: {why}");
        }
        started
    }

    fn meet(order: Order, remotes: &[Arc<dyn Remote>], network: Option<&str>) -> Result<Fleet> {
        let dir = logs::make_run_dir(&order.dir)?;
        let endings = Arc::new(Endings::of(order.hosts.len()));
        let met = meet::all(&order, remotes, network, &dir, &endings)?;
        let mut places = BTreeMap::new();
        let mut known = BTreeMap::new();
        for host in &met {
            let place = Place {
                ip: host.ip,
                dir: host.greeting.dir.join("hosts").join(host.name.as_str()),
            };
            places.insert(host.name, place);
            known.insert(host.name, (host.ip, host.greeting.addresses.clone()));
        }
        let program = met
            .first()
            .map(|host| host.greeting.program.clone())
            .unwrap_or_default();
        let shared_clocks = meet::shared_clocks(&met);
        let hosts = met.into_iter().map(|met| {
            let host = Host {
                line: met.line,
                remote: met.remote,
                greeting: met.greeting,
            };
            (met.name, host)
        });
        // From here on dropping it heals the hosts.
        let fleet = Fleet {
            site: Site { places, program },
            dir,
            hosts: hosts.collect(),
            endings,
            shared_clocks,
            links: Mutex::default(),
            serial: AtomicU64::new(1),
            over: Latch::default(),
            left: Mutex::new(None),
            order,
        };
        let peers = addresses::peers(&known);
        let others = |host: &Name| {
            let mut others = peers.clone();
            others.remove(host);
            (*host, proto::Order::Peers(others))
        };
        let told = fleet.ask(fleet.hosts.keys().map(others));
        told.map_err(|why| anyhow::anyhow!("failed to make the hosts known to each other: {why}"))?;
        Ok(fleet)
    }

    fn line(&self, host: Name) -> Result<&Arc<Line>, String> {
        let host = self
            .hosts
            .get(&host)
            .ok_or_else(|| format!("there is no host {host}"))?;
        Ok(&host.line)
    }

    /// Gives each its order at the same time and awaits all answers: those that came, and why others did not.
    fn try_all(&self, orders: impl Iterator<Item = (Name, proto::Order)>) -> (BTreeMap<Name, Reply>, Vec<String>) {
        let under_way: Vec<_> = orders
            .map(|(host, order)| (host, self.line(host).map(|line| line.ask(order))))
            .collect();
        let (mut replies, mut failed) = (BTreeMap::new(), Vec::new());
        for (host, pending) in under_way {
            match pending.and_then(|pending| pending.wait(ANSWER)) {
                Ok(reply) => drop(replies.insert(host, reply)),
                Err(why) => failed.push(why),
            }
        }
        (replies, failed)
    }

    /// The same, where one failure is one of all.
    fn ask(&self, orders: impl Iterator<Item = (Name, proto::Order)>) -> Result<BTreeMap<Name, Reply>, String> {
        let (replies, failed) = self.try_all(orders);
        if failed.is_empty() {
            Ok(replies)
        } else {
            Err(failed.join("; "))
        }
    }

    /// The same order to several hosts; proofs in their order.
    fn each(&self, hosts: &[Name], order: &proto::Order) -> Result<Vec<Proof>, String> {
        let (mut replies, failed) = self.try_all(hosts.iter().map(|host| (*host, order.clone())));
        if matches!(order, proto::Order::Kill(_)) {
            for host in replies.keys() {
                self.line(*host)?.killed();
            }
        }
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        let proofs = hosts.iter().filter_map(|host| replies.remove(host));
        Ok(proofs.flat_map(|reply| reply.proofs).collect())
    }

    /// Lets these hosts tell their time.
    fn beat(&self, hosts: &BTreeSet<Name>) {
        for host in hosts.iter().filter_map(|host| self.hosts.get(host)) {
            host.line.wake(Wake::Beat);
        }
    }

    /// Serial numbers for so many probes: the first.
    fn serials(&self, count: u32) -> u64 {
        self.serial.fetch_add(u64::from(count), Ordering::Relaxed)
    }

    /// Waits, unless the fleet ends.
    fn pause(&self, at_most: Duration) -> Result<(), String> {
        if self.over.wait(at_most) {
            Err("the run has ended".into())
        } else {
            Ok(())
        }
    }

    /// Whether two hosts' raw clocks are one: they have one kernel, and what is known of both clocks agrees with it. (In a
    /// time namespace it would not.)
    fn share_a_clock(&self, one: Name, other: Name) -> bool {
        let (Some(one), Some(other)) = (self.hosts.get(&one), self.hosts.get(&other)) else {
            return false;
        };
        let at = |host: &Host, raw| host.line.lock().clock.at(raw);
        one.greeting.boot_id == other.greeting.boot_id
            && at(one, raw::now())
                .zip(at(other, raw::now()))
                .is_some_and(|(one, other)| one.least <= other.most && other.least <= one.most)
    }

    fn clock_of(&self, hosts: &[Name]) -> Result<BTreeMap<Name, ClockOf>, String> {
        let whose = |host: &Name| match (self.order.settings.clock, self.shared_clocks.get(host)) {
            (ClockOf::Host, Some(with)) => Err(format!(
                "{} shares its clock with {with}, which is not to be moved: set clock = \"process\" in [hosts]",
                self.line(*host)?.label
            )),
            (ClockOf::Auto, Some(_)) => Ok((*host, ClockOf::Process)),
            (asked, _) => Ok((*host, asked)),
        };
        hosts.iter().map(whose).collect()
    }

    fn patience(&self) -> Duration {
        if self.order.sabotage.is_some() {
            SHORT_PATIENCE
        } else {
            PATIENCE
        }
    }
}

impl Ground for Fleet {
    fn site(&self) -> &Site {
        &self.site
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn put(&self, host: Name, file: &HostFile) -> Result<(), String> {
        let dir = &self.site.places[&host].dir;
        // An empty file has one piece too.
        let pieces = file
            .content
            .chunks(PIECE)
            .chain(file.content.is_empty().then_some(&[][..]));
        for (n, piece) in pieces.enumerate() {
            let order = proto::Order::Put(proto::Put {
                dir: dir.clone(),
                layered: self.order.layered_disks,
                name: file.name.clone(),
                executable: file.executable,
                append: n > 0,
                content: BASE64_STANDARD.encode(piece),
            });
            let line = self.line(host)?;
            line.ask(order)
                .wait(ANSWER)
                .map_err(|why| format!("failed to {why} on {host}"))?;
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<Launched, String> {
        let line = self.line(launch.host)?;
        let log = logs::file(&self.dir, &logs::name(launch.host, &launch.process)).map_err(|e| format!("{e:#}"))?;
        let protocol = launch.stdio == Stdio::Protocol;
        let stream = line.expect(&launch.process, launch.life, protocol, log);
        let pipes = protocol.then(|| {
            let input = Input {
                line: line.clone(),
                number: stream,
            };
            let output = Output {
                line: line.clone(),
                number: stream + 1,
                taken: 0,
            };
            (Box::new(input) as _, Box::new(output) as _)
        });
        // Systems know one place of our program; a user's own cache may be another on each host.
        let own = |word: &String| match self.site.program.to_str() == Some(word) {
            true => self.hosts[&launch.host].greeting.program.display().to_string(),
            false => word.clone(),
        };
        let order = proto::Order::Spawn(Spawn {
            process: launch.process.clone(),
            life: launch.life,
            argv: launch.argv.iter().map(own).collect(),
            env: launch.env.clone(),
            dir: launch.dir.clone(),
            layered: self.order.layered_disks,
            stdio: launch.stdio.into(),
            stream,
        });
        let reply = line
            .ask(order)
            .wait(ANSWER)
            .inspect_err(|_| line.forget(&launch.process, stream))?;
        Ok(Launched {
            proof: reply.proofs,
            pipes,
        })
    }

    fn act(&self, action: &Action) -> Result<Vec<Proof>, String> {
        use proto::Order;
        match action {
            Action::Kill { hosts, unsynced } => self.each(hosts, &Order::Kill(*unsynced)),
            Action::Pause { hosts } => self.each(hosts, &Order::Pause),
            Action::Resume { hosts } => self.each(hosts, &Order::Resume),
            Action::Disk { hosts, disk } => self.each(hosts, &Order::Disk(*disk)),
            Action::Clock { hosts, skew } => {
                let whose = self.clock_of(hosts)?;
                let orders = whose
                    .into_iter()
                    .map(|(host, whose)| (host, Order::Clock(*skew, whose)));
                let mut replies = self.ask(orders)?;
                let replies = hosts.iter().filter_map(|host| replies.remove(host));
                Ok(replies.flat_map(|reply| reply.proofs).collect())
            }
            Action::Block { links } => self.block(links),
            Action::Unblock { links } => self.unblock(links),
            Action::Shape { links, shape } => self.shape(links, *shape),
            Action::Start { .. } => unreachable!("processes are started one by one, by launch"),
        }
    }

    fn endings(&self) -> Receiver<Ending> {
        self.endings.take()
    }

    fn end(&self) {
        self.over.open();
        let mut left = self.left.lock().expect("no holder panics");
        if left.is_none() {
            *left = Some(self.heal_all());
        }
    }

    fn epitaph(&self) -> String {
        let lost: Vec<String> = self.hosts.values().filter_map(|host| host.line.loss()).collect();
        match &*self.left.lock().expect("no holder panics") {
            Some(left) if !left.is_empty() => left.join("; "),
            _ if lost.len() == self.hosts.len() => lost.join("; "),
            _ => "the fleet has ended".to_string(),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}
