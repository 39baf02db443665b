//! A toy protocol whose every doing can be seen from outside, and a world full of it.
use splitbrain_core::op::Role;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{
    Action, Answer, Happening, HostRole, HostSpec, Link, Name, Nanos, Op, Outcome, Proof, Status, Token, Unasked, World,
};
use splitbrain_protocols::storage::{StoreOp, StoreReply, StoreRequest, StoreResult};
use splitbrain_protocols::{Input, Output, Protocol};
use splitbrain_sim::{SimConfig, SimWorld};
use std::collections::BTreeMap;

pub const MS: u64 = 1_000_000;

pub fn name(s: &str) -> Name {
    s.parse().unwrap()
}

pub fn link(s: &str) -> Link {
    let (src, dst) = s.split_once('>').unwrap();
    Link {
        src: name(src),
        dst: name(dst),
    }
}

pub fn hosts(members: usize) -> Vec<HostSpec> {
    let member = |n| HostSpec {
        name: Name::numbered("n", n),
        role: HostRole::Member,
        asked: true,
    };
    let storage = HostSpec {
        name: name("storage"),
        role: HostRole::Storage,
        asked: false,
    };
    (1..=members).map(member).chain([storage]).collect()
}

/// Beats to all peers each 50 ms, with a number. What it hears, applies or persists it says as `Applied`: `index` is
/// a count, `term` what is counted, `digest` a detail.
pub struct Toy {
    peers: Vec<Name>,
    beats: u64,
    next: Nanos,
    records: u64,
    life: u32,
}

/// `term` of a message heard; plus the sender's number.
pub const HEARD: u64 = 100;
/// `term` of a message that was changed on its way; plus the sender's number.
pub const CORRUPT: u64 = 200;
/// `term` of what was found on the disk at the start.
pub const FOUND: u64 = 300;
/// `term` of a reply of the storage; `digest` is 1 if it accepted.
pub const STORE: u64 = 400;

fn number(name: Name) -> u64 {
    name.as_str()[1..].parse().unwrap()
}

fn applied(index: u64, term: u64, digest: u64) -> Output {
    Output::Say(Line::Event(Unasked::Applied { index, term, digest }))
}

impl Toy {
    fn request(&mut self, now: Nanos, Request { id, op }: Request) -> Vec<Output> {
        let answer = |answer| {
            let outcome = Outcome::Ok(answer);
            Output::Say(Line::Answer { id, outcome })
        };
        match op {
            // Durable first, then said.
            Op::Set { value } => vec![
                Output::Persist(value.to_le_bytes().to_vec()),
                Output::Persist(value.to_le_bytes().to_vec()),
                answer(Answer::Done),
            ],
            Op::Next | Op::Run { .. } | Op::Acquire | Op::Release => panic!("no test asks this of a toy"),
            Op::Cas { .. } => vec![Output::Compact(vec![vec![9]]), answer(Answer::Done)],
            Op::Write { value } => {
                // The token is the value, so that a test chooses it.
                let what = StoreOp::Write {
                    token: Token(value),
                    base: 0,
                    value,
                };
                vec![Output::Store(StoreRequest { id, what }), answer(Answer::Done)]
            }
            // Puts its next beat off.
            Op::Campaign => {
                self.next = now + Nanos::millis(50);
                vec![answer(Answer::Done)]
            }
            // Twice, which no protocol may.
            Op::Resign => vec![answer(Answer::Done), answer(Answer::Done)],
            _ => vec![answer(Answer::Status(Status {
                role: Role::Follower,
                epoch: None,
                token: None,
                reign: None,
                leader: None,
            }))],
        }
    }
}

impl Protocol for Toy {
    fn step(&mut self, now: Nanos, input: Input) -> Vec<Output> {
        match input {
            Input::Start => {
                self.next = now + Nanos::millis(50);
                vec![
                    Output::Say(Line::Event(Unasked::Ready)),
                    applied(self.records, FOUND, u64::from(self.life)),
                ]
            }
            Input::Tick => {
                assert!(now >= self.next, "a tick came early");
                self.next = now + Nanos::millis(50);
                self.beats += 1;
                let bytes = [self.beats.to_le_bytes(), (!self.beats).to_le_bytes()].concat();
                let send = |&to| Output::Send {
                    to,
                    bytes: bytes.clone(),
                };
                self.peers.iter().map(send).collect()
            }
            Input::Message { from, bytes } => {
                let beat = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let check = u64::from_le_bytes(bytes[8..].try_into().unwrap());
                let what = if beat == !check { HEARD } else { CORRUPT };
                vec![applied(beat, what + number(from), now.0)]
            }
            Input::Request(request) => self.request(now, request),
            Input::Store(StoreReply { id, result }) => {
                let accepted = matches!(result, StoreResult::Accepted { .. });
                vec![applied(id, STORE, u64::from(accepted))]
            }
        }
    }

    fn deadline(&self) -> Nanos {
        self.next
    }
}

/// A world, and all that happened in it.
pub struct Toys {
    pub world: SimWorld,
    pub log: Vec<(Nanos, Happening)>,
    ids: u64,
}

impl Toys {
    pub fn new(config: SimConfig) -> Toys {
        let members: Vec<Name> = config
            .hosts
            .iter()
            .map(|h| h.name)
            .filter(|n| *n != name("storage"))
            .collect();
        let build = move |host: Name, records: Vec<Vec<u8>>, life: u32| {
            if host == name("n9") {
                return Err("no such toy".to_string());
            }
            let toy = Toy {
                peers: members.iter().copied().filter(|peer| *peer != host).collect(),
                beats: 0,
                next: Nanos::MAX,
                records: records.len() as u64,
                life,
            };
            Ok(Box::new(toy) as Box<dyn Protocol>)
        };
        Toys {
            world: SimWorld::new(config, Box::new(build)),
            log: Vec::new(),
            ids: 0,
        }
    }

    /// Three members and a storage, all ready.
    pub fn ready(seed: u64) -> Toys {
        let mut toys = Toys::new(SimConfig::new(seed, hosts(3)));
        toys.run(Nanos::millis(100));
        toys
    }

    /// Goes on for `span`.
    pub fn run(&mut self, span: Nanos) {
        let until = self.world.now() + span;
        while let Some(happening) = self.world.poll(until) {
            self.log.push(happening);
        }
        assert_eq!(self.world.now(), until);
    }

    /// Acts, and goes on until that is done.
    pub fn act(&mut self, action: Action) -> Result<Vec<Proof>, String> {
        self.ids += 1;
        self.world.act(self.ids, &action);
        loop {
            let (at, happening) = self.world.poll(Nanos::MAX).unwrap();
            self.log.push((at, happening.clone()));
            match happening {
                Happening::Acted { id, result } if id == self.ids => return result,
                _ => {}
            }
        }
    }

    /// Asks, and does not wait.
    pub fn submit(&mut self, host: &str, op: Op) -> u64 {
        self.ids += 1;
        self.world.submit(self.ids, name(host), op);
        self.ids
    }

    pub fn completed(&self, wanted: u64) -> Option<&Outcome> {
        self.log.iter().find_map(|(_, happening)| match happening {
            Happening::Completed { id, outcome } if *id == wanted => Some(outcome),
            _ => None,
        })
    }

    /// What `host` applied under `term` from log position `from` on: (when said, index, digest).
    pub fn applied(&self, from: usize, host: &str, wanted: u64) -> Vec<(Nanos, u64, u64)> {
        let of = |(at, happening): &(Nanos, Happening)| match *happening {
            Happening::Said {
                host: by,
                what: Unasked::Applied { index, term, digest },
            } if by == name(host) && term == wanted => Some((*at, index, digest)),
            _ => None,
        };
        self.log[from..].iter().filter_map(of).collect()
    }

    /// How many beats each link carried since log position `from`.
    pub fn heard(&self, from: usize) -> BTreeMap<String, usize> {
        let mut heard = BTreeMap::new();
        for (src, dst) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            let count = self.applied(from, &format!("n{dst}"), HEARD + src).len();
            heard.insert(format!("n{src}>n{dst}"), count);
        }
        heard
    }
}
