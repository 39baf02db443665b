//! A small world of Raft cores: a lossy network with partitions, disks, and processes that die in mid-step.
//!
//! A process that dies carries out only a random part of its last step's effects, the first ones: exactly what a driver
//! that obeys the order of effects leaves behind. Nothing here is shared with the simulator, so that the two cannot be
//! wrong in the same way.
mod watch;

use rand::RngExt as _;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Name, Nanos};
use splitbrain_protocols::raft::log::Command;
use splitbrain_protocols::raft::message::{Durable, Message, Record};
use splitbrain_protocols::raft::{Config, Effect, Event, Mutant, Raft, Tuning};
use std::collections::{BTreeMap, BTreeSet};
use watch::Watch;

/// A member's host.
pub struct Host {
    pub name: Name,
    pub raft: Option<Raft>,
    pub disk: Vec<Record>,
    lives: u32,
    restart_due: Nanos,
}

/// What the world is like; drawn from the seed.
#[derive(Clone, Debug)]
pub struct Climate {
    pub members: usize,
    pub tuning: Tuning,
    pub mutant: Option<Mutant>,
    /// Longest way of a message.
    pub delay: Nanos,
    /// Messages lost, in percent.
    pub loss: u32,
    /// Mean time between faults.
    pub fault_every: Nanos,
    /// Longest time that a dead process stays dead.
    pub down: Nanos,
}

impl Climate {
    pub fn draw(rng: &mut Rng, mutant: Option<Mutant>) -> Climate {
        let pick = |rng: &mut Rng, of: &[u64]| of[rng.random_range(0..of.len())];
        Climate {
            members: rng.random_range(3..=5),
            tuning: Tuning {
                pre_vote: rng.random_bool(0.7),
                check_quorum: rng.random_bool(0.7),
                snapshot_every: pick(rng, &[1, 3, 8, 20, 1000]),
                ..Tuning::default()
            },
            mutant,
            delay: Nanos::millis(pick(rng, &[2, 10, 40, 120])),
            loss: pick(rng, &[0, 1, 5, 20]) as u32,
            fault_every: Nanos::millis(pick(rng, &[50, 200, 1000])),
            down: Nanos::millis(pick(rng, &[20, 200, 1500])),
        }
    }
}

pub struct World {
    pub climate: Climate,
    pub hosts: Vec<Host>,
    pub watch: Watch,
    seed: u64,
    rng: Rng,
    now: Nanos,
    flying: BTreeMap<(Nanos, u64), (Name, Name, Message)>,
    sent: u64,
    asked: u64,
    cut: BTreeSet<(Name, Name)>,
    fault_due: Nanos,
    ask_due: Nanos,
    calm: bool,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = seed::stream(seed, "world");
        let climate = Climate::draw(&mut rng, mutant);
        let host = |n| Host {
            name: Name::numbered("n", n),
            raft: None,
            disk: Vec::new(),
            lives: 0,
            restart_due: Nanos::ZERO,
        };
        World {
            hosts: (1..=climate.members).map(host).collect(),
            watch: Watch::new(mutant.is_none()),
            climate,
            seed,
            rng,
            now: Nanos::ZERO,
            flying: BTreeMap::new(),
            sent: 0,
            asked: 0,
            cut: BTreeSet::new(),
            fault_due: Nanos::millis(500),
            ask_due: Nanos::millis(500),
            calm: false,
        }
    }

    /// Lives until `end`; an error is the first broken property.
    pub fn run(&mut self, end: Nanos) -> Result<(), String> {
        while self.now < end {
            self.next().map_err(|why| format!("at {}: {why}", self.now))?;
        }
        Ok(())
    }

    /// Ends all faults; dead processes start again, and nothing more is asked.
    pub fn heal(&mut self) {
        self.calm = true;
        self.cut.clear();
        self.climate.loss = 0;
        self.hosts.iter_mut().for_each(|h| h.restart_due = self.now);
    }

    /// What must be true some time after [`World::heal`].
    pub fn check_recovered(&self) -> Result<(), String> {
        let rafts: Vec<&Raft> = self.hosts.iter().filter_map(|h| h.raft.as_ref()).collect();
        let leaders = rafts.iter().filter(|r| r.role() == splitbrain_core::Role::Leader);
        let told = |r: &&Raft| (r.term(), r.leader(), *r.state());
        let first = told(&rafts[0]);
        if leaders.count() != 1 || rafts.len() != self.hosts.len() || rafts.iter().any(|r| told(r) != first) {
            let all: Vec<_> = rafts.iter().map(told).collect();
            return Err(format!("no recovery: {all:?}"));
        }
        Ok(())
    }

    /// Whatever comes next in time.
    fn next(&mut self) -> Result<(), String> {
        let timer = |h: &Host| h.raft.as_ref().map_or(h.restart_due, Raft::deadline);
        let (timer_due, timed) = (0..self.hosts.len())
            .map(|i| (timer(&self.hosts[i]), i))
            .min()
            .expect("there are hosts");
        let flight = self.flying.first_key_value().map_or(Nanos::MAX, |((due, _), _)| *due);
        let (fault, ask) = match self.calm {
            true => (Nanos::MAX, Nanos::MAX),
            false => (self.fault_due, self.ask_due),
        };
        let next = timer_due.min(flight).min(fault).min(ask);
        self.now = self.now.max(next);
        if next == timer_due {
            if self.hosts[timed].raft.is_none() {
                return self.start(timed);
            }
            self.step(timed, Event::Tick)?;
            let due = timer(&self.hosts[timed]);
            let stuck = self.hosts[timed].raft.is_some() && due <= self.now;
            return if stuck {
                Err("a tick left its deadline behind".into())
            } else {
                Ok(())
            };
        }
        if next == flight {
            let (_, (from, to, message)) = self.flying.pop_first().expect("something flies");
            let to = self.hosts.iter().position(|h| h.name == to).expect("a host");
            return self.step(to, Event::Message { from, message });
        }
        if next == fault {
            self.fault_due = self.now + self.climate.fault_every + self.up_to(self.climate.fault_every);
            return self.fault();
        }
        self.ask_due = self.now + self.up_to(Nanos::millis(80));
        self.ask()
    }

    fn up_to(&mut self, most: Nanos) -> Nanos {
        Nanos(self.rng.random_range(0..=most.0))
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.hosts.len())
    }

    fn ask(&mut self) -> Result<(), String> {
        let host = self.any();
        self.asked += 1;
        let id = self.asked;
        let command = match self.rng.random_bool(0.5) {
            true => Command::Set(id),
            false => Command::Cas {
                from: self.hosts[host].raft.as_ref().and_then(|r| r.state().value),
                to: id,
            },
        };
        let event = match self.rng.random_range(0..100) {
            0 => Event::Campaign,
            1..3 => Event::Transfer { id },
            3..40 => Event::Read { id },
            _ => Event::Propose { id, command },
        };
        self.watch.asked(&event);
        self.step(host, event)
    }

    fn fault(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..10) {
            0..4 => {
                // It dies in the middle of whatever it does on a tick that may come early.
                let host = self.any();
                self.kill(host, Event::Tick)
            }
            4 => {
                for host in 0..self.hosts.len() {
                    self.kill(host, Event::Tick)?;
                }
                Ok(())
            }
            5..7 => {
                self.cut.clear();
                let side: Vec<bool> = self.hosts.iter().map(|_| self.rng.random_bool(0.5)).collect();
                for (a, &left) in side.iter().enumerate() {
                    for (b, _) in side.iter().enumerate().filter(|(_, right)| **right != left) {
                        self.cut.insert((self.hosts[a].name, self.hosts[b].name));
                    }
                }
                Ok(())
            }
            7..9 => {
                let (a, b) = (self.any(), self.any());
                self.cut.insert((self.hosts[a].name, self.hosts[b].name));
                Ok(())
            }
            _ => {
                self.cut.clear();
                Ok(())
            }
        }
    }

    fn start(&mut self, i: usize) -> Result<(), String> {
        let host = &mut self.hosts[i];
        host.lives += 1;
        let durable = Durable::recover(host.disk.clone())?;
        let config = Config {
            name: host.name,
            members: (1..=self.climate.members).map(|n| Name::numbered("n", n)).collect(),
            tuning: self.climate.tuning,
            mutant: self.climate.mutant,
        };
        let rng = seed::stream(self.seed, &format!("{}/{}", host.name, host.lives));
        host.raft = Some(Raft::new(config, durable, rng));
        self.watch.started(host.name);
        self.step(i, Event::Start)
    }

    fn step(&mut self, i: usize, event: Event) -> Result<(), String> {
        // A step may be a process's last at any time.
        if !self.calm && self.rng.random_range(0..2000) == 0 {
            return self.kill(i, event);
        }
        let Some(raft) = &mut self.hosts[i].raft else {
            return Ok(());
        };
        let effects = raft.step(self.now, event);
        self.carry_out(i, effects)?;
        self.watch.disk(&self.hosts[i], self.sent)?;
        self.watch.logs(&self.hosts, self.sent)
    }

    /// The process dies within this step.
    fn kill(&mut self, i: usize, event: Event) -> Result<(), String> {
        let Some(raft) = &mut self.hosts[i].raft else {
            return Ok(());
        };
        let mut effects = raft.step(self.now, event);
        effects.truncate(self.rng.random_range(0..=effects.len()));
        self.carry_out(i, effects)?;
        self.hosts[i].raft = None;
        self.hosts[i].restart_due = self.now + self.up_to(self.climate.down) + Nanos(1);
        Ok(())
    }

    /// In order, looking at the disk before anything leaves.
    fn carry_out(&mut self, i: usize, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            let host = &self.hosts[i];
            let raft = host.raft.as_ref().expect("it has just stepped");
            self.watch.effect(host.name, raft, &effect)?;
            match effect {
                Effect::Persist(record) => self.hosts[i].disk.push(record),
                Effect::Compact(records) => self.hosts[i].disk = records,
                Effect::Send { to, message } => {
                    self.watch.durable(host, to, &message, self.sent)?;
                    self.carry(self.hosts[i].name, to, message);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn carry(&mut self, from: Name, to: Name, message: Message) {
        self.sent += 1;
        if self.cut.contains(&(from, to)) || self.rng.random_range(0..100) < self.climate.loss {
            return;
        }
        let copies = if self.rng.random_range(0..50) == 0 { 2 } else { 1 };
        for copy in 0..copies {
            // Now and then a message comes much later than those sent after it.
            let slow = if self.rng.random_range(0..200) == 0 { 20 } else { 1 };
            let due = self.now + self.up_to(Nanos(self.climate.delay.0 * slow)) + Nanos::micros(100);
            let key = (due, self.sent * 2 + copy);
            self.flying.insert(key, (from, to, message.clone()));
        }
    }
}
