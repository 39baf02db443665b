//! A sound system in a hostile world, reduced to its rules, as a source of histories that no checker may condemn.
//!
//! Time goes in steps; in each, chance elects, teaches, kills, asks, writes and applies. What happens becomes known only
//! after random delays: `elected` lines arrive late (even after the next term was won), answers overtake each other,
//! writes land after their `info`, the old leader goes on believing, a restarted host looks back. What holds is what
//! the promises say: terms are won once and rise; in [`Sort::Lease`] nobody believes before the last leader stopped.
use splitbrain_core::event::{FaultStep, Phase};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Action, Body, Epoch, Event, Kind, Name, Nanos, Process, Reign, Role, Status, Token};

/// What is promised, and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// One leader per term; beliefs may overlap and begin late.
    Raft,
    /// Beliefs never overlap, and rise in real time.
    Lease,
}

/// A splitmix64 generator.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

#[derive(Clone, Copy)]
struct Lead {
    epoch: u64,
    reign: u64,
    base: u64,
}

struct Host {
    name: Name,
    up: bool,
    incarnation: u32,
    reigns: u64,
    known: u64,
    leader: Option<Name>,
    lead: Option<Lead>,
    applied: u64,
    /// When its last line arrived, and when it was started.
    said: u64,
    ready: u64,
}

struct Sent {
    arrives: u64,
    host: usize,
    client: u32,
    token: u64,
    base: u64,
    value: u64,
    answered: bool,
}

/// An event with the instant at which control records it.
type Raw = (u64, Process, Kind, Body);

/// See the module. Times are microseconds.
pub(super) struct Model {
    sort: Sort,
    fenced: bool,
    chance: Chance,
    now: u64,
    hosts: Vec<Host>,
    out: Vec<Raw>,
    term: u64,
    /// Elections that were won and are not known to the winner: (host, incarnation, term, when).
    won: Vec<(usize, u32, u64, u64)>,
    sent: Vec<Sent>,
    highest: u64,
    seq: u64,
    storage_said: u64,
    clients: u32,
    faults: u32,
}

const STEP: u64 = 2_000;
const DELAY: u64 = 40_000;
/// More events than are ever on their way to control at once.
const RECENT: usize = 1000;

impl Model {
    pub fn new(sort: Sort, fenced: bool, seed: u64) -> Model {
        let host = |n| Host {
            name: Name::numbered("n", n),
            up: true,
            incarnation: 1,
            reigns: 0,
            known: 0,
            leader: None,
            lead: None,
            applied: 0,
            said: 0,
            ready: 0,
        };
        Model {
            sort,
            fenced,
            chance: Chance(seed),
            now: 0,
            hosts: (1..=3).map(host).collect(),
            out: Vec::new(),
            term: 0,
            won: Vec::new(),
            sent: Vec::new(),
            highest: 0,
            seq: 0,
            storage_said: 0,
            clients: 0,
            faults: 0,
        }
    }

    /// A whole history of `steps` steps.
    pub fn run(&mut self, steps: u64) -> Vec<Event> {
        for host in 0..3 {
            let (host, incarnation) = (self.hosts[host].name, 1);
            self.put(0, Process::Host(host), Kind::Info, Body::Started { host, incarnation });
        }
        self.phase(Phase::Setup);
        self.now = 10_000;
        self.phase(Phase::Faults);
        for _ in 0..steps {
            self.now += STEP;
            self.step();
        }
        self.recover();
        let mut raw = std::mem::take(&mut self.out);
        raw.sort_by_key(|(time, ..)| *time);
        let event = |(index, (time, process, kind, body))| Event {
            index,
            time: Nanos::micros(time),
            process,
            kind,
            body,
            error: None,
        };
        (0..).zip(raw).map(event).collect()
    }

    fn put(&mut self, time: u64, process: Process, kind: Kind, body: Body) {
        self.out.push((time, process, kind, body));
    }

    fn phase(&mut self, phase: Phase) {
        self.put(self.now, Process::Control, Kind::Info, Body::Phase { phase });
    }

    /// A host says something; its lines arrive in order.
    fn say(&mut self, host: usize, body: Body) {
        let at = (self.now + self.chance.below(DELAY)).max(self.hosts[host].said + 1);
        self.hosts[host].said = at;
        self.put(at, Process::Host(self.hosts[host].name), Kind::Info, body);
    }

    fn step(&mut self) {
        let host = self.chance.below(3) as usize;
        match self.chance.below(100) {
            0..3 => self.elect(host),
            3..10 => self.learn(host),
            10..11 => self.kill(host),
            11..14 => self.start(host),
            14..16 if self.hosts[host].lead.is_some() => self.depose(host),
            16..60 => self.observe(host),
            60..85 => self.write(host),
            85..95 => self.apply(host),
            _ => {}
        }
        self.begin_reigns();
        self.store();
    }

    fn elect(&mut self, host: usize) {
        let leads = self.hosts.iter().any(|h| h.lead.is_some());
        if !self.hosts[host].up || (self.sort == Sort::Lease && leads) {
            return;
        }
        self.term += 1 + self.chance.below(3);
        let late = match self.sort {
            Sort::Raft => self.chance.below(3 * DELAY),
            Sort::Lease => 0,
        };
        self.won
            .push((host, self.hosts[host].incarnation, self.term, self.now + late));
    }

    /// Winners that hear of it begin to lead, if they heard of no higher term meanwhile.
    fn begin_reigns(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.won.extract_if(.., |(.., at)| *at <= now).collect();
        for (host, incarnation, term, _) in due {
            let h = &self.hosts[host];
            if !h.up || h.incarnation != incarnation || h.known > term {
                continue;
            }
            if h.lead.is_some() {
                self.depose(host);
            }
            // The new leader's look at the storage: it reads, and raises the fence.
            let seq = self.seq;
            self.highest = self.highest.max(token(term).0);
            let h = &mut self.hosts[host];
            h.known = term;
            h.reigns += 1;
            h.leader = Some(h.name);
            let (name, reign) = (h.name, Reign(h.reigns));
            h.lead = Some(Lead {
                epoch: term,
                reign: h.reigns,
                base: seq,
            });
            self.say(
                host,
                Body::Elected {
                    host: name,
                    epoch: Epoch(term),
                    token: Some(token(term)),
                    reign,
                },
            );
        }
    }

    fn depose(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        h.leader = None;
        let Some(lead) = h.lead.take() else { return };
        let (host_name, reign) = (h.name, Reign(lead.reign));
        let why = "heard of a higher term".to_string();
        self.say(
            host,
            Body::Deposed {
                host: host_name,
                reign,
                why,
            },
        );
    }

    fn learn(&mut self, host: usize) {
        let heard = self.chance.below(self.term + 1);
        if !self.hosts[host].up || heard <= self.hosts[host].known {
            return;
        }
        self.depose(host);
        // Who leads there is hearsay, and may be wrong.
        let leader = self.hosts[self.chance.below(3) as usize].name;
        let h = &mut self.hosts[host];
        h.known = heard;
        h.leader = Some(leader);
    }

    fn kill(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        self.faults += 1;
        let name = self.hosts[host].name;
        let hosts = vec![name];
        let unsynced = Default::default();
        let step = fault(self.faults, Action::Kill { hosts, unsynced });
        self.put(self.now, Process::Nemesis, Kind::Invoke, Body::Fault(step.clone()));
        let confirmed = self.now + 1 + self.chance.below(DELAY);
        self.put(confirmed, Process::Nemesis, Kind::Ok, Body::Fault(step));
        let now = self.now;
        let h = &mut self.hosts[host];
        h.up = false;
        h.lead = None;
        h.said = h.said.max(confirmed);
        // Nobody answers any more: what was not recorded yet is unknown.
        for (time, process, kind, body) in self.out.iter_mut().rev().take(RECENT) {
            if *time > now && matches!(process, Process::Client(_)) && body.host() == Some(name) {
                *kind = Kind::Info;
                match body {
                    Body::Observe { answer, .. } => *answer = None,
                    Body::Write { token, seq, .. } => (*token, *seq) = (None, None),
                    _ => {}
                }
            }
        }
        let lost = self.sent.iter_mut().filter(|s| s.host == host && s.answered);
        for (client, value) in lost
            .map(|s| (std::mem::take(&mut s.answered), s.client, s.value))
            .map(|(_, c, v)| (c, v))
        {
            let body = written(name, value, None);
            self.out.push((confirmed, Process::Client(client), Kind::Info, body));
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].up {
            return;
        }
        let looks_back = self.chance.below(self.hosts[host].known + 1);
        let at = self.hosts[host].said.max(self.now) + 1 + self.chance.below(DELAY);
        let h = &mut self.hosts[host];
        h.up = true;
        h.incarnation += 1;
        h.reigns = 0;
        h.leader = None;
        h.applied = looks_back.min(h.applied);
        h.known = looks_back;
        (h.said, h.ready) = (at, at);
        let (host, incarnation) = (h.name, h.incarnation);
        self.put(at, Process::Host(host), Kind::Info, Body::Started { host, incarnation });
    }

    /// Asks a host now, or asked it a little before.
    fn observe(&mut self, host: usize) {
        let asked = self
            .now
            .saturating_sub(self.chance.below(DELAY))
            .max(self.hosts[host].ready + 1);
        if !self.hosts[host].up || asked > self.now {
            return;
        }
        let h = &self.hosts[host];
        let host_name = h.name;
        let status = Status {
            role: if h.lead.is_some() { Role::Leader } else { Role::Follower },
            epoch: Some(Epoch(h.known)),
            token: h.lead.map(|l| token(l.epoch)),
            reign: h.lead.map(|l| Reign(l.reign)),
            leader: h.leader,
        };
        self.clients += 1;
        let client = Process::Client(self.clients);
        let body = |answer| Body::Observe {
            host: host_name,
            answer,
        };
        let answered = self.now + 1 + self.chance.below(DELAY);
        self.put(asked, client, Kind::Invoke, body(None));
        self.put(answered, client, Kind::Ok, body(Some(status)));
        // One in five is said by another thread, and may be overtaken by later lines.
        if self.chance.below(5) > 0 {
            self.hosts[host].said = self.hosts[host].said.max(answered);
        }
    }

    fn write(&mut self, host: usize) {
        let Some(lead) = self.hosts[host].lead.filter(|_| self.now > self.hosts[host].ready) else {
            return;
        };
        self.clients += 1;
        let (client, value) = (self.clients, u64::from(self.clients));
        let name = self.hosts[host].name;
        self.put(
            self.now,
            Process::Client(client),
            Kind::Invoke,
            written(name, value, None),
        );
        let answered = self.chance.below(4) > 0;
        if !answered {
            let end = self.now + 1 + self.chance.below(DELAY);
            self.put(end, Process::Client(client), Kind::Info, written(name, value, None));
        }
        self.sent.push(Sent {
            arrives: self.now + self.chance.below(2 * DELAY),
            host,
            client,
            token: token(lead.epoch).0,
            base: lead.base,
            value,
            answered,
        });
    }

    fn store(&mut self) {
        let now = self.now;
        let mut arrived: Vec<Sent> = self.sent.extract_if(.., |s| s.arrives <= now).collect();
        arrived.sort_by_key(|s| s.arrives);
        for sent in arrived {
            self.storage_said = (now + self.chance.below(DELAY)).max(self.storage_said);
            let (token, by) = (Token(sent.token), self.hosts[sent.host].name);
            let value = sent.value;
            let accepted = !self.fenced || sent.token >= self.highest;
            self.highest = self.highest.max(sent.token);
            let highest = Token(self.highest);
            let (line, end) = if accepted {
                self.seq += 1;
                let (seq, base) = (self.seq, sent.base);
                let line = Body::Stored {
                    seq,
                    token,
                    value,
                    base,
                    by,
                };
                (line, (Kind::Ok, written(by, value, Some((token, seq)))))
            } else {
                let line = Body::Rejected {
                    token,
                    highest,
                    value,
                    by,
                };
                (line, (Kind::Fail, written(by, value, None)))
            };
            let storage = Process::Host(super::name("storage"));
            self.put(self.storage_said, storage, Kind::Info, line);
            if sent.answered {
                let seq = self.seq;
                if let Some(lead) = self.hosts[sent.host].lead.as_mut().filter(|_| accepted) {
                    lead.base = lead.base.max(seq);
                }
                let at = now + 1 + self.chance.below(DELAY);
                self.put(at, Process::Client(sent.client), end.0, end.1);
            }
        }
    }

    fn apply(&mut self, host: usize) {
        // The log grows with time, and everything below the term is committed.
        let h = &mut self.hosts[host];
        if !h.up || h.applied >= self.term {
            return;
        }
        h.applied += 1;
        let (name, index) = (h.name, h.applied);
        self.say(
            host,
            Body::Applied {
                host: name,
                index,
                term: index / 3,
                digest: index * 77,
            },
        );
    }

    /// Heals everything, elects a last leader of whom all hear, and looks at all.
    fn recover(&mut self) {
        self.phase(Phase::Heal);
        for fault_number in 1..=self.faults {
            let step = fault(fault_number, Action::Start { hosts: vec![] });
            self.put(self.now, Process::Nemesis, Kind::Invoke, Body::Heal(step.clone()));
            self.put(self.now + 1, Process::Nemesis, Kind::Ok, Body::Heal(step));
        }
        (0..3).for_each(|host| self.start(host));
        self.now += 10 * DELAY;
        self.store();
        self.phase(Phase::Recovery);
        let leader = self.chance.below(3) as usize;
        self.won.clear();
        self.now += 1 + self.chance.below(300_000);
        (0..3).for_each(|host| self.depose(host));
        self.elect(leader);
        self.now += 3 * DELAY;
        self.begin_reigns();
        let name = self.hosts[leader].name;
        for h in &mut self.hosts {
            (h.known, h.leader) = (self.term, Some(name));
        }
        self.now += 3 * DELAY;
        self.phase(Phase::Final);
        self.now += 2 * DELAY;
        (0..3).for_each(|host| self.observe(host));
        self.now += 10 * DELAY;
        self.phase(Phase::End);
    }
}

fn token(term: u64) -> Token {
    Token(3 * term + 7)
}

fn written(host: Name, value: u64, place: Option<(Token, u64)>) -> Body {
    Body::Write {
        host,
        value,
        token: place.map(|p| p.0),
        seq: place.map(|p| p.1),
    }
}

fn fault(fault: u32, action: Action) -> FaultStep {
    FaultStep {
        fault,
        kind: FaultKind::Kill,
        what: "kill".into(),
        targets: vec![],
        action,
        proofs: vec![],
    }
}
