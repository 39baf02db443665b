//! Random events of every kind, for tests and benches.
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use splitbrain_core::action::Link;
use splitbrain_core::event::{FaultStep, Hit, Phase};
use splitbrain_core::formats::{OpEvent, Speaker, Value};
use splitbrain_core::op::{Role, Status};
use splitbrain_core::plan::{FaultKind, Target};
use splitbrain_core::time::Offset;
use splitbrain_core::*;

/// The randomness of one test.
pub struct Dice(pub ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0.random_range(0..n)
    }

    pub fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    pub fn maybe<T>(&mut self, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        if self.flip() { Some(make(self)) } else { None }
    }

    /// Small, large, and at the edges of what the digits of a number may be.
    pub fn number(&mut self) -> u64 {
        match self.below(5) {
            0 => self.below(10),
            1 => 10u64.pow(self.below(20) as u32).wrapping_sub(self.below(2)),
            2 => u64::MAX - self.below(3),
            3 => self.below(1 << 40),
            _ => self.0.random(),
        }
    }

    /// What hosts are called here.
    pub const NAMES: [&str; 8] = ["n1", "n2", "c-2", "c12", "storage", "a-name-of-fifte", "nemesis", "x"];

    pub fn name(&mut self) -> Name {
        self.of(&Dice::NAMES).parse().unwrap()
    }

    pub fn names(&mut self) -> Vec<Name> {
        (0..self.below(4)).map(|_| self.name()).collect()
    }

    /// Text as hostile as text can be.
    pub fn text(&mut self) -> String {
        let pieces = [
            "lease lost",
            "\"",
            "\\",
            "\n",
            "\r\n",
            "\t",
            "\u{0}",
            "\u{1f}",
            "\u{7f}",
            "\u{8}\u{c}",
            "é",
            "名",
            "🦀",
            "</script>",
            "'",
            "{}[]:,;#_@^`~",
            "\u{2028}",
            "\u{feff}",
            "nil",
            ":ok",
            "\\u0041",
            "0",
            " ",
            "",
        ];
        (0..self.below(6)).map(|_| self.of(&pieces)).collect()
    }

    /// One change: a byte or a part of the text is lost, doubled, or replaced by another or by something hostile.
    pub fn damage(&mut self, text: &mut Vec<u8>) {
        const HOSTILE: [&[u8]; 30] = [
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b"(",
            b")",
            b",",
            b":",
            b"\n",
            b"\t",
            b" ",
            b"0",
            b"9",
            b"-",
            b".",
            b"e",
            b"null",
            b"nil",
            b"true",
            b"#",
            b"#_",
            b"^",
            b";",
            b"\xff",
            b"\0",
            b"18446744073709551616",
            b"\\ud800",
            b"\xef\xbb\xbf",
        ];
        let at = self.below(text.len() as u64 + 1) as usize;
        let most = 1 << self.below(8);
        let end = (at + self.below(most) as usize).min(text.len());
        match self.below(6) {
            0 => drop(text.drain(at..end)),
            1 => {
                let piece = text[at..end].to_vec();
                let to = self.below(text.len() as u64 + 1) as usize;
                text.splice(to..to, piece);
            }
            2 => {
                let piece = self.of(&HOSTILE);
                text.splice(at..at, piece.iter().copied());
            }
            3 if at < text.len() => {
                let piece = self.of(&HOSTILE);
                text.splice(at..at + 1, piece.iter().copied());
            }
            4 if at < text.len() => text[at] ^= 1 << self.below(8),
            5 if self.below(8) == 0 => text.truncate(at),
            _ => {}
        }
    }

    pub fn event(&mut self) -> Event {
        let process = match self.below(4) {
            0 => Process::Client(self.0.random()),
            1 => Process::Host(self.of(&["n1", "storage", "a-name-of-fifte"]).parse().unwrap()),
            2 => Process::Nemesis,
            _ => Process::Control,
        };
        Event {
            index: self.number(),
            time: Nanos(self.number()),
            process,
            kind: self.of(&[Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info]),
            body: self.body(),
            error: self.maybe(Dice::text),
        }
    }

    /// An event as a reader could have read it, in line `line`.
    pub fn op_event(&mut self, line: u64) -> OpEvent {
        let process = match self.below(4) {
            0 => Speaker::Other(self.of(&["nemesis", "12", "", "n 1", "é"]).into()),
            1 => Speaker::Client(self.0.random()),
            _ => Speaker::Client(self.below(5) as i64),
        };
        let f = match self.below(3) {
            0 => self.text(),
            _ => self.of(&["read", "write", "cas", "txn", "a/b"]).to_string(),
        };
        OpEvent {
            line,
            time: self.maybe(|d| Nanos(d.number() >> 1)),
            process,
            kind: self.of(&[Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info]),
            f: f.into(),
            key: self.maybe(|d| d.value(2)).filter(|key| *key != Value::Nil),
            value: self.value(4),
            error: self.maybe(|d| d.text().into()),
        }
    }

    pub fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Nil,
            1 => Value::Bool(self.flip()),
            2 => Value::Int(self.number() as i64),
            3 | 4 => Value::Text(self.text().into()),
            _ => Value::List((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
        }
    }

    fn status(&mut self) -> Status {
        Status {
            role: self.of(&[Role::Leader, Role::Candidate, Role::Follower]),
            epoch: self.maybe(|d| Epoch(d.number())),
            token: self.maybe(|d| Token(d.number())),
            reign: self.maybe(|d| Reign(d.number())),
            leader: self.maybe(Dice::name),
        }
    }

    /// Every kind of body, each as likely as any other.
    pub fn body(&mut self) -> Body {
        let host = self.name();
        match self.below(26) {
            n @ 0..12 => self.operation(n, host),
            12 => Body::Elected {
                host,
                epoch: Epoch(if self.flip() { 0 } else { self.number() }),
                token: self.maybe(|d| Token(d.number())),
                reign: Reign(self.number()),
            },
            13 => Body::Deposed {
                host,
                reign: Reign(self.number()),
                why: self.text(),
            },
            14 => Body::Applied {
                host,
                index: self.number(),
                term: self.number(),
                digest: self.number(),
            },
            15 => Body::Stored {
                seq: self.number(),
                token: Token(self.number()),
                value: self.number(),
                base: self.number(),
                by: host,
            },
            16 => Body::Rejected {
                token: Token(self.number()),
                highest: Token(self.number()),
                value: self.number(),
                by: host,
            },
            17 => Body::Started {
                host,
                incarnation: self.0.random(),
            },
            18 => Body::Ready { host },
            19 => Body::Exited { host, how: self.text() },
            20 => Body::Garbage {
                host,
                what: self.text(),
            },
            21 => Body::Fault(self.step()),
            22 => Body::Heal(self.step()),
            23 => Body::Aim {
                fault: self.0.random(),
                target: self.of(&[
                    Target::One,
                    Target::NonLeader,
                    Target::Role(HostRole::Storage),
                    Target::Host(host),
                ]),
                hit: self.of(&[Hit::Hit, Hit::Missed, Hit::Moved]),
                why: self.text(),
            },
            24 => Body::Phase {
                phase: self.of(&[
                    Phase::Setup,
                    Phase::Faults,
                    Phase::Heal,
                    Phase::Recovery,
                    Phase::Final,
                    Phase::End,
                ]),
            },
            _ => Body::Aborted { why: self.text() },
        }
    }

    fn operation(&mut self, which: u64, host: Name) -> Body {
        match which {
            0 => Body::Observe {
                host,
                answer: self.maybe(Dice::status),
            },
            1 => Body::Write {
                host,
                value: self.number(),
                token: self.maybe(|d| Token(d.number())),
                seq: self.maybe(Dice::number),
            },
            2 => Body::Read {
                host,
                value: self.maybe(Dice::number),
            },
            3 => Body::Campaign { host },
            4 => Body::Resign { host },
            5 => Body::Get {
                host,
                value: self.maybe(Dice::number),
            },
            6 => Body::Set {
                host,
                value: self.number(),
            },
            7 => Body::Cas {
                host,
                from: self.maybe(Dice::number),
                to: self.number(),
            },
            8 => Body::Next {
                host,
                id: self.maybe(Dice::number),
            },
            9 => Body::Run {
                host,
                job: self.number(),
                token: self.maybe(|d| Token(d.number())),
                seq: self.maybe(Dice::number),
            },
            10 => Body::Acquire {
                host,
                reign: self.maybe(|d| Reign(d.number())),
                token: self.maybe(|d| Token(d.number())),
            },
            _ => Body::Release { host },
        }
    }

    fn step(&mut self) -> FaultStep {
        FaultStep {
            fault: self.0.random(),
            kind: self.of(&FaultKind::ALL),
            what: self.text(),
            targets: self.names(),
            action: self.action(),
            proofs: (0..self.below(3))
                .map(|_| Proof {
                    at: self.text(),
                    saw: self.text(),
                })
                .collect(),
        }
    }

    fn action(&mut self) -> Action {
        let hosts = self.names();
        let links: Vec<Link> = hosts.iter().map(|&src| Link { src, dst: hosts[0] }).collect();
        let unsynced = self.of(&[Unsynced::Kept, Unsynced::Lost, Unsynced::Torn]);
        let shape = Shape {
            delay: Nanos::millis(self.below(1000)),
            loss_ppm: self.0.random(),
            rate: self.number(),
            ..Shape::default()
        };
        let skew = Skew {
            clocks: self.of(&[Clocks::Both, Clocks::Realtime, Clocks::Monotonic]),
            offset: Offset(self.below(1 << 50) as i64 - (1 << 49)),
            rate_ppm: self.0.random(),
            strobe: Nanos::millis(self.below(3)),
        };
        let disk = Disk {
            full: self.flip(),
            sync_delay: Nanos::micros(self.below(9)),
            sync_fail_ppm: self.0.random(),
        };
        match self.below(9) {
            0 => Action::Kill { hosts, unsynced },
            1 => Action::Start { hosts },
            2 => Action::Pause { hosts },
            3 => Action::Resume { hosts },
            4 => Action::Block { links },
            5 => Action::Unblock { links },
            6 => Action::Shape { links, shape },
            7 => Action::Clock { hosts, skew },
            _ => Action::Disk { hosts, disk },
        }
    }
}
