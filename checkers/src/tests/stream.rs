//! The pass over the compact form says what the checkers of whole histories say, to the word.
use super::model::{Chance, Model, Sort};
use super::{header, judge, name};
use crate::stream::{Limits, Stream};
use splitbrain_core::compact::{Reader, Writer};
use splitbrain_core::event::FaultStep;
use splitbrain_core::plan::{FaultKind, Workload};
use splitbrain_core::{
    Action, Body, Epoch, Event, Guarantee, Header, Holds, Kind, Nanos, Process, Reign, Role, Status, Token, Validity,
    Verdict,
};
use std::hash::BuildHasher;

const JUDGED: [&str; 6] = [
    "leader-per-epoch",
    "epochs-per-observer",
    "exclusion",
    "token-per-reign",
    "unique-ids",
    "rising-ids",
];

fn written(header: &Header, events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(header, &mut bytes).unwrap();
    events.iter().for_each(|event| writer.event(event, &mut bytes).unwrap());
    bytes
}

fn streamed(bytes: &[u8], limits: Limits) -> Vec<Verdict> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut stream = Stream::new(&reader.header, limits);
    loop {
        let block = reader.block().unwrap();
        if block.is_empty() {
            return stream.finish();
        }
        stream.block(block);
    }
}

#[track_caller]
fn same(header: &Header, events: &[Event], seed: u64) -> Vec<Verdict> {
    let found = streamed(&written(header, events), Limits::default());
    let mut expected = judge(header, events);
    expected.retain(|verdict| JUDGED.contains(&&verdict.checker[..]));
    assert_eq!(found, expected, "seed {seed}");
    found
}

fn seed() -> u64 {
    let seed = std::hash::RandomState::new().hash_one(0);
    println!("seed {seed}");
    seed
}

/// Promises drawn at random.
fn promises(header: &mut Header, chance: &mut Chance) {
    for promise in &mut header.promises {
        promise.holds = match chance.below(4) {
            0 => Holds::Never,
            1 => Holds::Unless(vec![FaultKind::ALL[chance.below(6) as usize]]),
            _ => Holds::Always,
        };
    }
}

/// Whatever can be said, by anybody, in any order: nothing of it need make sense.
struct Babble {
    chance: Chance,
    /// Epochs, tokens, reigns and ids are below this.
    numbers: u64,
    clients: u64,
    values: u64,
}

impl Babble {
    fn few(&mut self, n: u64) -> u64 {
        self.chance.below(n)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(u64) -> T) -> Option<T> {
        let number = self.few(self.numbers);
        (self.few(6) > 0).then(|| make(number))
    }

    fn status(&mut self) -> Status {
        let role = [
            Role::Leader,
            Role::Leader,
            Role::Leader,
            Role::Follower,
            Role::Candidate,
        ];
        Status {
            role: role[self.few(5) as usize],
            epoch: self.maybe(Epoch),
            token: self.maybe(Token),
            reign: self.maybe(Reign),
            leader: None,
        }
    }

    fn said(&mut self) -> (Process, Kind, Body) {
        let host = name(["n1", "n2", "n3", "n4"][self.few(4) as usize]);
        let client = Process::Client((self.few(self.clients) * self.numbers) as u32);
        let kind = [Kind::Invoke, Kind::Invoke, Kind::Ok, Kind::Ok, Kind::Info, Kind::Fail][self.few(6) as usize];
        let ok = kind == Kind::Ok;
        let token = self.maybe(Token).filter(|_| ok);
        let reign = self.maybe(Reign).filter(|_| ok);
        let status = self.status();
        let (value, token_now) = (self.few(self.values), Token(self.few(self.numbers)));
        let asked = |body| (client, kind, body);
        let said = |body| (Process::Host(host), Kind::Info, body);
        match self.few(24) {
            0 => said(Body::Started {
                host,
                incarnation: self.few(3) as u32,
            }),
            1..=3 => said(Body::Elected {
                host,
                epoch: Epoch(self.few(self.numbers)),
                token: self.maybe(Token),
                reign: Reign(self.few(self.numbers)),
            }),
            4..=12 => asked(Body::Observe {
                host,
                answer: Some(status).filter(|_| ok),
            }),
            13 => asked(Body::Acquire { host, reign, token }),
            14..=16 => {
                let seq = None;
                asked(Body::Write {
                    host,
                    value,
                    token,
                    seq,
                })
            }
            17 => {
                let seq = None;
                asked(Body::Run {
                    host,
                    job: value,
                    token,
                    seq,
                })
            }
            18 => said(Body::Stored {
                seq: value,
                token: token_now,
                value,
                base: 0,
                by: host,
            }),
            19 => said(Body::Rejected {
                token: token_now,
                highest: Token(9),
                value,
                by: host,
            }),
            20 | 21 => {
                let id = (ok && self.few(8) > 0).then_some(value);
                asked(Body::Next { host, id })
            }
            22 if self.few(4) == 0 => self.fault(),
            _ => said(Body::Ready { host }),
        }
    }

    fn fault(&mut self) -> (Process, Kind, Body) {
        let step = FaultStep {
            fault: 1,
            kind: FaultKind::ALL[self.few(6) as usize],
            what: String::new(),
            targets: vec![],
            action: Action::Pause { hosts: vec![] },
            proofs: vec![],
        };
        (Process::Nemesis, Kind::Invoke, Body::Fault(step))
    }

    fn history(&mut self, events: u64) -> Vec<Event> {
        let mut time = 0;
        let mut event = |index| {
            let (process, kind, body) = self.said();
            time += match self.few(50) {
                0 => 0,
                1 => 5_000_000_000,
                _ => self.few(1000),
            };
            Event {
                index,
                time: Nanos(time),
                process,
                kind,
                body,
                error: None,
            }
        };
        (0..events).map(&mut event).collect()
    }
}

#[test]
fn babble_is_judged_alike() {
    let seed = seed();
    let mut seen = [0; 3];
    for case in 0..3000 {
        let mut chance = Chance(seed.wrapping_add(case));
        let mut header = header();
        promises(&mut header, &mut chance);
        if chance.below(2) == 0 {
            header.plan.workload = Workload::Sequence;
        }
        if chance.below(8) == 0 {
            header.hosts.clear();
        }
        let (numbers, clients, values) = (2 + chance.below(1000), 1 + chance.below(8), 2 + chance.below(300));
        let events = 1 + chance.below(400);
        let mut babble = Babble {
            chance,
            numbers: if case % 2 == 0 { 2 + numbers % 5 } else { numbers },
            clients,
            values,
        };
        let events = babble.history(events);
        same(&header, &events, seed.wrapping_add(case))
            .iter()
            .for_each(|v| seen[v.validity as usize] += 1);
    }
    assert!(seen.iter().all(|n| *n > 500), "{seen:?}");
}

#[test]
fn histories_of_a_sound_system_and_spoilt_ones_are_judged_alike() {
    let seed = seed();
    for case in 0..150 {
        let mut chance = Chance(seed.wrapping_add(case));
        let mut header = header();
        promises(&mut header, &mut chance);
        let sort = [Sort::Raft, Sort::Lease][chance.below(2) as usize];
        let mut events = Model::new(sort, chance.below(2) == 0, seed.wrapping_add(case)).run(700);
        same(&header, &events, seed.wrapping_add(case));
        let hosts = ["n1", "n2", "n3"];
        for event in &mut events {
            if chance.below(60) > 0 {
                continue;
            }
            match &mut event.body {
                Body::Elected { epoch, token, .. } => (epoch.0, *token) = (epoch.0 + chance.below(2), None),
                Body::Observe {
                    answer: Some(status), ..
                } => {
                    status.epoch = status.epoch.map(|e| Epoch((e.0 + chance.below(3)).saturating_sub(1)));
                }
                Body::Stored { by, .. } => *by = name(hosts[chance.below(3) as usize]),
                Body::Started { incarnation, .. } => *incarnation = 1,
                _ => {}
            }
        }
        same(&header, &events, seed.wrapping_add(case));
    }
}

/// A leader for each number, one after another, each asked twice: nothing is wrong with them.
fn leaders(n: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for epoch in 1..=n {
        let host = name(["n1", "n2"][epoch as usize % 2]);
        let mut say = |process, kind, body| {
            let index = events.len() as u64;
            events.push(Event {
                index,
                time: Nanos(index * 10),
                process,
                kind,
                body,
                error: None,
            });
        };
        let (token, reign) = (Some(Token(epoch)), Reign(epoch));
        let elected = Body::Elected {
            host,
            epoch: Epoch(epoch),
            token,
            reign,
        };
        say(Process::Host(host), Kind::Info, elected);
        let status = Status {
            role: Role::Leader,
            epoch: Some(Epoch(epoch)),
            token,
            reign: Some(reign),
            leader: Some(host),
        };
        let answer = Some(status);
        for _ in 0..2 {
            say(Process::Client(1), Kind::Invoke, Body::Observe { host, answer: None });
            say(Process::Client(1), Kind::Ok, Body::Observe { host, answer });
        }
    }
    events
}

#[test]
fn too_much_to_remember_is_unknown_and_what_was_found_stands() {
    let limits = Limits {
        entries: 100,
        questions: 4,
    };
    let header = header();
    let validity = |events: &[Event], checker: &str| {
        let verdicts = streamed(&written(&header, events), limits);
        let verdict = verdicts.into_iter().find(|v| v.checker == checker).unwrap();
        assert_eq!(
            verdict.validity == Validity::Unknown,
            verdict.summary.contains("remembered"),
            "{verdict:?}"
        );
        verdict.validity
    };
    for checker in &JUDGED[..4] {
        assert_eq!(validity(&leaders(100), checker), Validity::Valid);
    }
    for checker in ["leader-per-epoch", "exclusion", "token-per-reign"] {
        assert_eq!(validity(&leaders(102), checker), Validity::Unknown);
    }
    let mut broken = leaders(102);
    if let Body::Elected { epoch, .. } = &mut broken[5].body {
        *epoch = Epoch(1);
    }
    assert_eq!(validity(&broken, "leader-per-epoch"), Validity::Invalid);
    let mut asked = leaders(10);
    for client in 0..6 {
        let (index, host) = (asked.len() as u64, name("n1"));
        asked.push(Event {
            index,
            time: Nanos(10_000),
            process: Process::Client(client * 1024 + 5),
            kind: Kind::Invoke,
            body: Body::Observe { host, answer: None },
            error: None,
        });
    }
    assert_eq!(validity(&asked[..asked.len() - 1], "exclusion"), Validity::Valid);
    assert_eq!(validity(&asked, "exclusion"), Validity::Unknown);
}

#[test]
fn a_host_without_a_name_is_unknown() {
    let header = header();
    let mut bytes = written(&header, &leaders(3));
    let last = bytes.len() - 32;
    bytes[last + 2] = 77;
    for verdict in streamed(&bytes, Limits::default()) {
        assert_eq!(verdict.validity, Validity::Unknown, "{verdict:?}");
        assert!(verdict.summary.contains("host 77"), "{verdict:?}");
    }
}

#[test]
fn an_observer_forgets_what_no_open_question_can_contradict() {
    let header = header();
    let limits = Limits {
        entries: 5000,
        ..Limits::default()
    };
    let bytes = written(&header, &leaders(20_000));
    let validities: Vec<Validity> = streamed(&bytes, limits).iter().map(|v| v.validity).collect();
    assert_eq!(
        validities,
        [Validity::Unknown, Validity::Valid, Validity::Unknown, Validity::Unknown]
    );
    let found = same(&header, &leaders(5000), 0);
    assert!(
        found.iter().all(|verdict| verdict.validity == Validity::Valid),
        "{found:?}"
    );
    let mut back = leaders(5000);
    let last = back.len() - 1;
    if let Body::Observe {
        answer: Some(status), ..
    } = &mut back[last].body
    {
        status.epoch = Some(Epoch(4000));
    }
    let found = same(&header, &back, 0);
    let fell = found.iter().find(|v| v.checker == "epochs-per-observer").unwrap();
    assert_eq!(fell.validity, Validity::Invalid);
    assert_eq!(fell.anomalies[0].guarantee, Guarantee::EpochsPerObserver);
}

/// These ids are handed out one after another.
fn handed_out(ids: impl Iterator<Item = u64>) -> Vec<Event> {
    let host = name("n1");
    let say = |(n, id): (usize, u64)| {
        let event = |index, kind, id| Event {
            index,
            time: Nanos(index),
            process: Process::Client(1),
            kind,
            body: Body::Next { host, id },
            error: None,
        };
        let index = 2 * n as u64;
        [event(index, Kind::Invoke, None), event(index + 1, Kind::Ok, Some(id))]
    };
    ids.enumerate().flat_map(say).collect()
}

#[test]
fn an_id_that_was_out_long_before_is_told_apart_from_one_that_never_was() {
    let mut header = header();
    header.plan.workload = Workload::Sequence;
    let of = |verdicts: &[Verdict]| verdicts.iter().find(|v| v.checker == "unique-ids").unwrap().clone();
    let evens = || (0..60_000).step_by(2);
    let odds = || evens().map(|id| id + 1);
    let all = || {
        [u64::MAX, u64::MAX - 1]
            .into_iter()
            .chain(evens())
            .chain(odds())
            .chain(60_000..110_000)
    };
    let found = of(&same(&header, &handed_out(all()), 0));
    assert_eq!((found.validity, found.total), (Validity::Valid, 0));
    // Of all below 60,000 nothing is known any more but that they were out: they are one run.
    let again = [0, 7, 59_998, 59_999, 60_000, 109_999, u64::MAX];
    let found = of(&same(&header, &handed_out(all().chain(again)), 0));
    assert_eq!((found.validity, found.total), (Validity::Invalid, again.len() as u64));
    let long = found
        .anomalies
        .iter()
        .filter(|anomaly| anomaly.title.ends_with("out long before"));
    assert_eq!(long.count(), 5, "{found:?}");
    let near = found
        .anomalies
        .iter()
        .filter(|anomaly| anomaly.title.ends_with("twice"));
    assert_eq!(near.count(), 2, "{found:?}");
}
