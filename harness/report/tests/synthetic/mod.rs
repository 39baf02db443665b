//! A run that never happened, but could have: five Raft members without fencing, a leader cut off from its peers that
//! still reaches the storage, one that is paused and wakes up, one that is killed. Every figure follows from the script
//! of reigns and faults below, so that tests know what the picture must show.
#![allow(dead_code)]

mod verdicts;

use splitbrain_core::event::{FaultStep, Hit, Phase};
use splitbrain_core::history::SCHEMA;
use splitbrain_core::plan::{FaultKind, Storage, Target};
use splitbrain_core::{
    Action, Body, Epoch, Event, Header, HostRole, HostSpec, Kind, Link, Name, Nanos, Plan, Process, Proof, Reign, Role,
    Shape, Status, Token, Verdict,
};
use std::collections::BTreeMap;

/// A whole run and its verdicts.
pub struct Synthetic {
    pub header: Header,
    pub events: Vec<Event>,
    pub verdicts: Vec<Verdict>,
}

pub const REPLAY: &str = "splitbrain run --system raft --env local --nodes 5 --storage unfenced --faults partition,kill,pause,packet --time-limit 40s --seed 20261120";

/// Who led when: host, epoch, from, to (milliseconds), and why it ended.
const REIGNS: [(usize, u64, u64, u64, &str); 8] = [
    (2, 1, 900, 6_900, "no quorum answered within an election timeout"),
    (4, 2, 6_100, 15_620, "saw term 3"),
    (1, 3, 13_300, 18_000, ""),
    (5, 5, 19_600, 28_900, "saw term 6"),
    (3, 6, 28_350, 34_900, "saw term 7"),
    (2, 7, 34_600, 37_200, "saw term 8"),
    (4, 8, 37_100, 44_000, "transferred"),
    (1, 9, 44_080, 47_000, ""),
];

const END: u64 = 47_000;

pub fn name(s: &str) -> Name {
    s.parse().unwrap()
}

pub fn host(n: usize) -> Name {
    Name::numbered("n", n)
}

fn ms(t: u64) -> Nanos {
    Nanos::millis(t)
}

struct Script {
    events: Vec<Event>,
    random: u64,
    client: u32,
    seq: u64,
}

impl Script {
    fn say(&mut self, time: Nanos, process: Process, kind: Kind, body: Body) {
        self.events.push(Event {
            index: 0,
            time,
            process,
            kind,
            body,
            error: None,
        });
    }

    fn host(&mut self, t: u64, body: Body) {
        let process = body.host().map_or(Process::Host(name("storage")), Process::Host);
        self.say(ms(t), process, Kind::Info, body);
    }

    /// A number below `n`, from a fixed seed.
    fn below(&mut self, n: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % n
    }

    #[allow(clippy::too_many_arguments)]
    fn fault(
        &mut self,
        fault: u32,
        kind: FaultKind,
        what: &str,
        targets: &[usize],
        at: u64,
        healed: u64,
        acts: [Action; 2],
        saw: [&str; 2],
    ) {
        let [inject, heal] = acts;
        for (t, action, saw, healing) in [(at, inject, saw[0], false), (healed, heal, saw[1], true)] {
            let mut step = FaultStep {
                fault,
                kind,
                what: what.into(),
                targets: targets.iter().map(|n| host(*n)).collect(),
                action,
                proofs: vec![],
            };
            let body = |s: &FaultStep| {
                if healing {
                    Body::Heal(s.clone())
                } else {
                    Body::Fault(s.clone())
                }
            };
            self.say(ms(t), Process::Nemesis, Kind::Invoke, body(&step));
            let places: Vec<String> = match &step.action {
                Action::Block { links } | Action::Unblock { links } | Action::Shape { links, .. } => {
                    links.iter().map(|l| l.to_string()).collect()
                }
                Action::Kill { hosts, .. }
                | Action::Start { hosts }
                | Action::Pause { hosts }
                | Action::Resume { hosts }
                | Action::Clock { hosts, .. }
                | Action::Disk { hosts, .. } => hosts.iter().map(|h| h.to_string()).collect(),
            };
            step.proofs = places.into_iter().map(|at| Proof { at, saw: saw.into() }).collect();
            self.say(ms(t) + Nanos::millis(4), Process::Nemesis, Kind::Ok, body(&step));
        }
    }

    fn aim(&mut self, t: u64, fault: u32, hit: Hit, why: &str) {
        let (target, why) = (Target::Leader, why.into());
        self.say(
            ms(t),
            Process::Nemesis,
            Kind::Info,
            Body::Aim {
                fault,
                target,
                hit,
                why,
            },
        );
    }
}

fn links(of: usize) -> Vec<Link> {
    (1..=5)
        .filter(|n| *n != of)
        .flat_map(|n| {
            let (a, b) = (host(of), host(n));
            [Link { src: a, dst: b }, Link { src: b, dst: a }]
        })
        .collect()
}

fn faults(s: &mut Script) {
    use FaultKind::*;
    let block = |of| [Action::Block { links: links(of) }, Action::Unblock { links: links(of) }];
    let pause = |n| {
        [
            Action::Pause { hosts: vec![host(n)] },
            Action::Resume { hosts: vec![host(n)] },
        ]
    };
    let kill = |n| {
        [
            Action::Kill {
                hosts: vec![host(n)],
                unsynced: Default::default(),
            },
            Action::Start { hosts: vec![host(n)] },
        ]
    };
    let slow = Shape {
        delay: ms(80),
        jitter: ms(40),
        loss_ppm: 50_000,
        ..Shape::default()
    };
    let shape = [
        Action::Shape {
            links: links(3),
            shape: slow,
        },
        Action::Shape {
            links: links(3),
            shape: Shape::default(),
        },
    ];
    let (dropped, passes) = ("probe dropped", "probe passed");
    let (stopped, goes_on) = ("every thread in state T", "every thread runs");
    s.fault(
        1,
        Partition,
        "leader-from-servers: n2 | n1 n3 n4 n5",
        &[2],
        5_000,
        9_000,
        block(2),
        [dropped, passes],
    );
    s.aim(
        5_010,
        1,
        Hit::Hit,
        "n2 answered that it leads in epoch 1, before and after",
    );
    s.fault(2, Pause, "pause n4", &[4], 12_000, 15_500, pause(4), [stopped, goes_on]);
    s.aim(
        12_010,
        2,
        Hit::Hit,
        "n4 answered that it leads in epoch 2 before; paused, it cannot have moved",
    );
    s.fault(
        3,
        Kill,
        "kill n1",
        &[1],
        18_000,
        21_000,
        kill(1),
        ["pid gone", "started, pid 4711"],
    );
    s.aim(18_010, 3, Hit::Hit, "n1 answered that it leads in epoch 3");
    s.host(
        21_005,
        Body::Started {
            host: host(1),
            incarnation: 2,
        },
    );
    s.fault(
        4,
        Packet,
        "packets of n3: 80ms +-40ms, 5% lost",
        &[3],
        20_000,
        26_000,
        shape,
        ["echo took 171 ms", "echo took 0.2 ms"],
    );
    s.fault(
        6,
        Partition,
        "majorities-ring",
        &[1, 2, 3, 4, 5],
        27_000,
        33_000,
        block(5),
        [dropped, passes],
    );
    s.fault(7, Pause, "pause n3", &[3], 34_000, 36_400, pause(3), [stopped, goes_on]);
    s.aim(
        34_020,
        7,
        Hit::Moved,
        "n3 answered that it leads in epoch 6 when asked; when it stopped, n2 campaigned",
    );
    s.aim(36_500, 8, Hit::Missed, "nobody answered that it leads");
    s.fault(
        9,
        Partition,
        "isolate-one: n2 | n1 n3 n4 n5",
        &[2],
        36_700,
        39_400,
        block(2),
        [dropped, passes],
    );
    let step = FaultStep {
        fault: 5,
        kind: Kill,
        what: "kill n5".into(),
        targets: vec![host(5)],
        action: Action::Kill {
            hosts: vec![host(5)],
            unsynced: Default::default(),
        },
        proofs: vec![],
    };
    s.say(ms(24_000), Process::Nemesis, Kind::Invoke, Body::Fault(step.clone()));
    s.say(ms(24_030), Process::Nemesis, Kind::Fail, Body::Fault(step));
    s.events.last_mut().unwrap().error = Some("kill of pid 4512 on n5: no such process".into());
}

fn reigns(s: &mut Script) {
    for (i, (n, epoch, from, to, why)) in REIGNS.into_iter().enumerate() {
        let reign = Reign(i as u64 / 4 + 1);
        let (epoch, token) = (Epoch(epoch), Some(Token(epoch)));
        s.host(
            from,
            Body::Elected {
                host: host(n),
                epoch,
                token,
                reign,
            },
        );
        if !why.is_empty() {
            s.host(
                to,
                Body::Deposed {
                    host: host(n),
                    reign,
                    why: why.into(),
                },
            );
        }
    }
}

fn is_dead(n: usize, t: u64) -> bool {
    n == 1 && (18_000..21_050).contains(&t)
}

fn is_stopped(n: usize, t: u64) -> bool {
    n == 4 && (12_000..15_500).contains(&t) || n == 3 && (34_000..36_400).contains(&t)
}

fn reign_at(n: usize, t: u64) -> Option<(u64, Reign)> {
    let at = REIGNS.iter().position(|r| r.0 == n && r.2 <= t && t < r.3)?;
    Some((REIGNS[at].1, Reign(at as u64 / 4 + 1)))
}

fn observe(s: &mut Script, n: usize, at: Nanos) {
    let t = at.0 / 1_000_000;
    let process = Process::Client(s.client);
    s.client += 1;
    let took = Nanos::micros(180 + s.below(400));
    let body = |answer| Body::Observe { host: host(n), answer };
    s.say(at, process, Kind::Invoke, body(None));
    if is_dead(n, t) || is_stopped(n, t) {
        s.say(at + ms(900), process, Kind::Info, body(None));
        s.events.last_mut().unwrap().error = Some("timed out".into());
        return;
    }
    let led = reign_at(n, (at + took).0 / 1_000_000);
    let status = Status {
        role: if led.is_some() { Role::Leader } else { Role::Follower },
        epoch: led.map(|l| Epoch(l.0)),
        token: led.map(|l| Token(l.0)),
        reign: led.map(|l| l.1),
        leader: None,
    };
    s.say(at + took, process, Kind::Ok, body(Some(status)));
}

fn write(s: &mut Script, n: usize, at: Nanos) {
    let t = at.0 / 1_000_000;
    let process = Process::Client(s.client);
    let value = u64::from(s.client);
    s.client += 1;
    let body = |token, seq| Body::Write {
        host: host(n),
        value,
        token,
        seq,
    };
    s.say(at, process, Kind::Invoke, body(None, None));
    let slow = (20_000..26_000).contains(&t);
    let took = Nanos::micros(
        900 + s.below(1_500) + if slow { s.below(90_000) } else { 0 } + if s.below(40) == 0 { 20_000 } else { 0 },
    );
    let Some((epoch, _)) = reign_at(n, t) else {
        s.say(at + took, process, Kind::Fail, body(None, None));
        s.events.last_mut().unwrap().error = Some("not-leader".into());
        return;
    };
    if is_dead(n, t) || s.below(150) == 0 {
        s.say(at + ms(1_000), process, Kind::Info, body(None, None));
        s.events.last_mut().unwrap().error = Some("storage timed out".into());
        return;
    }
    // A paused leader does what it was asked when it wakes up: its request had been waiting in its pipe.
    let done = if is_stopped(n, t) {
        ms(15_505) + Nanos::micros(s.below(80_000))
    } else {
        at + took
    };
    s.seq += 1;
    let (token, seq) = (Token(epoch), s.seq);
    let by = host(n);
    s.say(
        done - Nanos::micros(300),
        Process::Host(name("storage")),
        Kind::Info,
        Body::Stored {
            seq,
            token,
            value,
            base: seq - 1,
            by,
        },
    );
    s.say(done, process, Kind::Ok, body(Some(token), Some(seq)));
}

/// The plan's header.
pub fn header() -> Header {
    let mut plan = Plan::new("raft", "local");
    plan.name = "raft-unfenced".into();
    plan.nodes = 5;
    plan.storage = Storage::Unfenced;
    plan.time_limit = Nanos::secs(40);
    plan.faults.kinds = FaultKind::ALL.to_vec();
    plan.options.insert("election-timeout".into(), "1s".into());
    let member = |n| HostSpec {
        name: host(n),
        role: HostRole::Member,
        asked: true,
    };
    let mut hosts: Vec<HostSpec> = (1..=5).map(member).collect();
    hosts.push(HostSpec {
        name: name("storage"),
        role: HostRole::Storage,
        asked: false,
    });
    Header {
        splitbrain: SCHEMA,
        seed: 20_261_120,
        plan,
        hosts,
        promises: verdicts::promises(),
        beliefs: String::new(),
        versions: Default::default(),
    }
}

/// The run, with each member asked who leads every `every`; the number of operations grows as `every` shrinks.
pub fn run(every: Nanos) -> Synthetic {
    let mut s = Script {
        events: Vec::new(),
        random: 7,
        client: 0,
        seq: 0,
    };
    for (t, phase) in [
        (0, Phase::Setup),
        (1_200, Phase::Faults),
        (40_000, Phase::Heal),
        (40_400, Phase::Recovery),
        (45_500, Phase::Final),
    ] {
        s.say(ms(t), Process::Control, Kind::Info, Body::Phase { phase });
    }
    for n in 1..=5 {
        s.host(
            20 + n as u64,
            Body::Started {
                host: host(n),
                incarnation: 1,
            },
        );
        s.host(60 + n as u64, Body::Ready { host: host(n) });
    }
    faults(&mut s);
    reigns(&mut s);
    let mut at = ms(1_000);
    while at < ms(END - 1_100) {
        (1..=5).for_each(|n| observe(&mut s, n, at + Nanos(every.0 * n as u64 / 6)));
        at += every;
    }
    for t in (1_250..45_400).step_by(47) {
        let jitter = s.below(40);
        for n in 1..=5 {
            if reign_at(n, t).is_some() || s.below(60) == 0 {
                write(&mut s, n, ms(t + jitter));
            }
        }
    }
    s.events.sort_by_key(|e| e.time);
    s.say(ms(END), Process::Control, Kind::Info, Body::Phase { phase: Phase::End });
    // The storage numbers writes as they reach it, and each answer repeats the number of its write.
    let (mut newest, mut places) = (0, BTreeMap::new());
    for (i, event) in s.events.iter_mut().enumerate() {
        event.index = i as u64;
        match &mut event.body {
            Body::Stored { seq, base, value, .. } => {
                newest += 1;
                (*seq, *base) = (newest, newest - 1);
                places.insert(*value, newest);
            }
            Body::Write {
                seq: Some(seq), value, ..
            } => *seq = places[value],
            _ => {}
        }
    }
    let verdicts = verdicts::of(&s.events);
    Synthetic {
        header: header(),
        events: s.events,
        verdicts,
    }
}
