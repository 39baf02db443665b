//! A small stand-in for the runner: carries commands out after a while, answers who leads, and checks after each step
//! that no two faults contradict each other.
use rand::RngExt;
use splitbrain_core::event::{FaultStep, Kind, Phase, Process};
use splitbrain_core::op::{Role, Status};
use splitbrain_core::plan::{FaultKind, Grudge, Scripted, Target};
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{
    Action, Body, Command, Disk, Epoch, Event, Generator, HostSpec, Lane, Link, Name, Nanos, Next, Op, Plan, Reign,
    Shape, Skew, Token, View,
};
use splitbrain_nemesis::Nemesis;
use std::collections::{BTreeMap, BTreeSet};

/// A plan of a minute with these kinds of random faults.
pub fn plan(kinds: &[FaultKind]) -> Plan {
    let mut plan = Plan::new("raft", "sim");
    plan.time_limit = Nanos::secs(60);
    plan.faults.kinds = kinds.to_vec();
    plan
}

/// A fault `at` seconds into the faults, for two seconds.
pub fn scripted(at: u64, fault: FaultKind, shape: Option<Grudge>, target: Option<Target>) -> Scripted {
    Scripted {
        at: Nanos::secs(at),
        lasting: Nanos::secs(2),
        fault,
        shape,
        target,
        packets: None,
        clock: None,
        disk: None,
        unsynced: None,
    }
}

enum Due {
    Acted { step: FaultStep, heal: bool, fails: bool },
    Answer { process: u32, host: Name, lane: Lane },
    TimeOut { process: u32, host: Name, lane: Lane },
}

/// What the stand-in's world is like.
#[derive(Clone, Copy)]
pub struct Ways {
    /// How long an action takes at most.
    pub act: Nanos,
    /// Mean time between changes of leader; zero for never.
    pub reign: Nanos,
    /// Whether the first injection fails.
    pub first_fails: bool,
    /// Whether other clients' questions time out just after the nemesis asks.
    pub noise: bool,
    /// Whether the first injection is never confirmed.
    pub first_hangs: bool,
    /// Whether the second healing fails.
    pub second_heal_fails: bool,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways {
            act: Nanos::millis(20),
            reign: Nanos::ZERO,
            first_fails: false,
            noise: false,
            first_hangs: false,
            second_heal_fails: false,
        }
    }
}

pub struct Rig {
    pub nemesis: Nemesis,
    pub log: Vec<Event>,
    hosts: Vec<HostSpec>,
    view: View,
    ways: Ways,
    rng: Rng,
    now: Nanos,
    due: BTreeMap<(Nanos, u64), Due>,
    serial: u64,
    processes: u32,
    pub leader: Option<Name>,
    epoch: u64,
    pub blocked: BTreeSet<Link>,
    pub shaped: BTreeMap<Link, Shape>,
    pub dead: BTreeSet<Name>,
    pub paused: BTreeSet<Name>,
    pub skewed: BTreeMap<Name, Skew>,
    pub bad: BTreeMap<Name, Disk>,
    /// Links and hosts with an action under way.
    busy: BTreeSet<String>,
    next_reign: Nanos,
    /// Healings asked for.
    heals: u32,
}

impl Rig {
    pub fn new(plan: &Plan, seed: u64, hosts: &[HostSpec], ways: Ways) -> Rig {
        let view = View {
            phase: Some(Phase::Setup),
            hosts: hosts.to_vec(),
            ready: hosts.iter().filter(|h| h.asked).map(|h| h.name).collect(),
            ..View::default()
        };
        Rig {
            nemesis: Nemesis::new(plan, seed, hosts).unwrap(),
            log: Vec::new(),
            hosts: hosts.to_vec(),
            view,
            ways,
            rng: seed::stream(seed, "rig"),
            now: Nanos::ZERO,
            due: BTreeMap::new(),
            serial: 0,
            processes: 0,
            leader: hosts.iter().find(|h| h.asked).map(|h| h.name),
            epoch: 1,
            blocked: BTreeSet::new(),
            shaped: BTreeMap::new(),
            dead: BTreeSet::new(),
            paused: BTreeSet::new(),
            skewed: BTreeMap::new(),
            bad: BTreeMap::new(),
            busy: BTreeSet::new(),
            heals: 0,
            next_reign: if ways.reign == Nanos::ZERO {
                Nanos::MAX
            } else {
                ways.reign
            },
        }
    }

    /// A whole run: set-up, faults, healing.
    pub fn run(plan: &Plan, seed: u64, hosts: &[HostSpec], ways: Ways) -> Rig {
        Rig::new(plan, seed, hosts, ways).finish(plan)
    }

    /// A whole run of a rig that was changed before.
    pub fn finish(mut self, plan: &Plan) -> Rig {
        assert_eq!(self.nemesis.next(self.now, &self.view), Next::Wait(Nanos::MAX));
        self.go(Nanos::secs(1));
        self.enter(Phase::Faults);
        self.go(plan.time_limit);
        self.enter(Phase::Heal);
        self.go(Nanos::secs(10));
        assert_eq!(self.nemesis.next(self.now, &self.view), Next::Done, "the healing ends");
        self
    }

    fn enter(&mut self, phase: Phase) {
        self.view.phase = Some(phase);
        self.view.phase_began = self.now;
        self.record(Process::Control, Kind::Info, Body::Phase { phase });
    }

    fn go(&mut self, span: Nanos) {
        let until = self.now + span;
        while self.now < until {
            let wake = loop {
                match self.nemesis.next(self.now, &self.view) {
                    Next::Do(command) => self.execute(command),
                    Next::Wait(at) => {
                        assert!(at > self.now, "waits for {at} at {}", self.now);
                        break at;
                    }
                    Next::Done => break Nanos::MAX,
                }
            };
            let event = self.due.keys().next().map_or(Nanos::MAX, |key| key.0);
            self.now = wake.min(event).min(until).min(self.next_reign);
            if self.now == self.next_reign {
                self.crown();
            } else if self.now == event {
                let (_, due) = self.due.pop_first().unwrap();
                self.handle(due);
            }
            self.check();
        }
    }

    /// Somebody else leads, or nobody for a while.
    fn crown(&mut self) {
        self.next_reign = self.now + Nanos(self.rng.random_range(1..=2 * self.ways.reign.0));
        if let Some(host) = self.leader.take() {
            let reign = Reign(self.epoch);
            let why = "overthrown".to_string();
            self.record(Process::Host(host), Kind::Info, Body::Deposed { host, reign, why });
        } else {
            let asked: Vec<Name> = self.hosts.iter().filter(|h| h.asked).map(|h| h.name).collect();
            let host = asked[self.rng.random_range(0..asked.len())];
            self.leader = Some(host);
            self.epoch += 1;
            let (epoch, token, reign) = (Epoch(self.epoch), Some(Token(self.epoch)), Reign(self.epoch));
            self.record(
                Process::Host(host),
                Kind::Info,
                Body::Elected {
                    host,
                    epoch,
                    token,
                    reign,
                },
            );
        }
    }

    fn record(&mut self, process: Process, kind: Kind, body: Body) {
        let event = Event {
            index: self.log.len() as u64,
            time: self.now,
            process,
            kind,
            body,
            error: None,
        };
        self.nemesis.notify(&event);
        self.log.push(event);
    }

    fn later(&mut self, span: Nanos, due: Due) {
        self.serial += 1;
        self.due.insert((self.now + span, self.serial), due);
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Note(body) => self.record(Process::Nemesis, Kind::Info, body),
            Command::Invoke { host, lane, op } => {
                assert_eq!((lane, op), (Lane::Nemesis, Op::Observe));
                assert!(self.view.is_free(host, lane), "{host} is busy");
                self.view.busy.insert((host, lane));
                self.processes += 1;
                let process = self.processes;
                self.record(
                    Process::Client(process),
                    Kind::Invoke,
                    Body::Observe { host, answer: None },
                );
                let takes = Nanos(self.rng.random_range(100_000..=2_000_000));
                if self.ways.noise {
                    let (process, lane) = (0, Lane::Observe);
                    self.later(Nanos(1), Due::TimeOut { process, host, lane });
                }
                if self.paused.contains(&host) || self.dead.contains(&host) {
                    self.later(Nanos::secs(2), Due::TimeOut { process, host, lane });
                } else {
                    self.later(takes, Due::Answer { process, host, lane });
                }
            }
            Command::Inject(step) => self.act(step, false),
            Command::Heal(step) => self.act(step, true),
        }
    }

    fn act(&mut self, step: FaultStep, heal: bool) {
        for place in places(&step.action) {
            assert!(self.busy.insert(place.clone()), "two actions at {place} at once");
        }
        if !heal {
            for host in hosts_of(&step.action) {
                assert!(!self.suffers(host), "{host} suffers a fault already: {}", step.what);
            }
        }
        self.heals += u32::from(heal);
        let fails = (self.ways.first_fails && step.fault == 1 && !heal)
            || (self.ways.second_heal_fails && heal && self.heals == 2);
        let body = if heal {
            Body::Heal(step.clone())
        } else {
            Body::Fault(step.clone())
        };
        self.record(Process::Nemesis, Kind::Invoke, body);
        if self.ways.first_hangs && step.fault == 1 && !heal {
            self.busy.clear();
            return;
        }
        let takes = Nanos(self.rng.random_range(1..=self.ways.act.0));
        self.later(takes, Due::Acted { step, heal, fails });
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Acted { step, heal, fails } => {
                for place in places(&step.action) {
                    self.busy.remove(&place);
                }
                self.carry_out(&step.action);
                let body = if heal { Body::Heal(step) } else { Body::Fault(step) };
                let kind = if fails { Kind::Fail } else { Kind::Ok };
                self.record(Process::Nemesis, kind, body);
            }
            Due::Answer { process, host, lane } => {
                let leads = self.leader == Some(host);
                let answer = Some(Status {
                    role: if leads { Role::Leader } else { Role::Follower },
                    epoch: Some(Epoch(self.epoch)),
                    token: None,
                    reign: leads.then_some(Reign(self.epoch)),
                    leader: None,
                });
                self.view.busy.remove(&(host, lane));
                self.record(Process::Client(process), Kind::Ok, Body::Observe { host, answer });
            }
            Due::TimeOut { process, host, lane } => {
                self.view.busy.remove(&(host, lane));
                self.record(
                    Process::Client(process),
                    Kind::Info,
                    Body::Observe { host, answer: None },
                );
            }
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Kill { hosts, .. } => {
                self.dead.extend(hosts);
                self.view.ready.retain(|h| !hosts.contains(h));
            }
            Action::Start { hosts } => {
                self.dead.retain(|h| !hosts.contains(h));
                self.view.ready.extend(hosts);
            }
            Action::Pause { hosts } => self.paused.extend(hosts),
            Action::Resume { hosts } => self.paused.retain(|h| !hosts.contains(h)),
            Action::Block { links } => self.blocked.extend(links),
            Action::Unblock { links } => self.blocked.retain(|l| !links.contains(l)),
            Action::Shape { links, shape } if *shape == Shape::default() => {
                self.shaped.retain(|l, _| !links.contains(l));
            }
            Action::Shape { links, shape } => {
                for link in links {
                    assert!(self.shaped.insert(*link, *shape).is_none(), "{link} has two shapes");
                }
            }
            Action::Clock { hosts, skew } if skew.is_none() => self.skewed.retain(|h, _| !hosts.contains(h)),
            Action::Clock { hosts, skew } => self.skewed.extend(hosts.iter().map(|h| (*h, *skew))),
            Action::Disk { hosts, disk } if disk.is_healthy() => self.bad.retain(|h, _| !hosts.contains(h)),
            Action::Disk { hosts, disk } => self.bad.extend(hosts.iter().map(|h| (*h, *disk))),
        }
    }

    /// Whether a fault of its own holds this host.
    fn suffers(&self, host: Name) -> bool {
        let (dead, paused) = (self.dead.contains(&host), self.paused.contains(&host));
        dead || paused || self.skewed.contains_key(&host) || self.bad.contains_key(&host)
    }

    /// What must hold at every moment: exactly those links are blocked that an open, idle fault cuts.
    fn check(&self) {
        assert!(self.dead.is_disjoint(&self.paused), "{:?} {:?}", self.dead, self.paused);
        if !self.busy.is_empty() || self.ways.first_fails || self.ways.first_hangs {
            return;
        }
        let mut open: BTreeMap<u32, &FaultStep> = BTreeMap::new();
        for event in self.log.iter().filter(|event| event.kind == Kind::Ok) {
            match &event.body {
                Body::Fault(step) => drop(open.insert(step.fault, step)),
                // Other healings may take several steps.
                Body::Heal(step) if matches!(step.action, Action::Unblock { .. }) => {
                    assert!(open.remove(&step.fault).is_some(), "healed once, after its injection");
                }
                _ => {}
            }
        }
        let cuts = open.values().filter_map(|step| match &step.action {
            Action::Block { links } => Some(links),
            _ => None,
        });
        let held: BTreeSet<Link> = cuts.flatten().copied().collect();
        assert_eq!(held, self.blocked);
    }

    pub fn is_clean(&self) -> bool {
        let links = self.blocked.is_empty() && self.shaped.is_empty();
        links && !self.hosts.iter().any(|host| self.suffers(host.name))
    }

    /// Injections and healings that were asked for, and notes, one line each: `12.345s fault 1 kill n1`.
    pub fn lines(&self) -> Vec<String> {
        let line = |event: &Event| {
            let rest = match (&event.body, event.kind) {
                (Body::Fault(step), Kind::Invoke) => format!("fault {} {}", step.fault, step.what),
                (Body::Heal(step), Kind::Invoke) => format!("heal {} {}", step.fault, step.what),
                (Body::Aim { fault, target, hit, .. }, _) => format!("aim {fault} {target} {hit:?}").to_lowercase(),
                _ => return None,
            };
            Some(format!("{} {rest}", event.time))
        };
        self.log.iter().filter_map(line).collect()
    }
}

/// The hosts that an action strikes themselves.
fn hosts_of(action: &Action) -> Vec<Name> {
    match action {
        Action::Kill { hosts, .. }
        | Action::Start { hosts }
        | Action::Pause { hosts }
        | Action::Resume { hosts }
        | Action::Clock { hosts, .. }
        | Action::Disk { hosts, .. } => hosts.clone(),
        Action::Block { .. } | Action::Unblock { .. } | Action::Shape { .. } => Vec::new(),
    }
}

fn places(action: &Action) -> Vec<String> {
    match action {
        Action::Block { links } | Action::Unblock { links } => links.iter().map(|l| format!("cut {l}")).collect(),
        Action::Shape { links, .. } => links.iter().map(|l| format!("shape {l}")).collect(),
        _ => hosts_of(action).iter().map(Name::to_string).collect(),
    }
}
