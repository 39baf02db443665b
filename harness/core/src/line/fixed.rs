//! Reading a line in the order in which we write it.
//!
//! Every byte of such a line is expected: fixed words are compared as wholes, eight digits are read at once (as in Lemire's
//! "Quickly parsing eight digits"), and the line's end is where its last brace is. The first byte that is not as expected
//! ends the attempt, and another reader begins anew.
use crate::event::{Body, Event, Kind, Phase, Process};
use crate::name::Name;
use crate::op::{Role, Status};
use crate::time::Nanos;
use crate::{Epoch, Reign, Token};

/// Reads the event that `bytes` start with, up to its closing brace, into `event`; gives its length. `None`: the bytes are
/// not in this form, and `event` has no meaning.
#[inline]
pub(crate) fn fixed(bytes: &[u8], event: &mut Event) -> Option<usize> {
    let mut line = Line { rest: bytes };
    line.word(b"{\"index\":")?;
    event.index = line.number()?;
    line.word(b",\"time\":")?;
    event.time = Nanos(line.number()?);
    line.word(b",\"process\":")?;
    event.process = line.process()?;
    line.word(b",\"type\":\"")?;
    event.kind = line.kind()?;
    line.word(b",\"f\":\"")?;
    event.body = line.body()?;
    event.error = None;
    if line.word(b"}").is_none() {
        line.word(b",\"error\":")?;
        event.error = Some(line.text()?);
        line.word(b"}")?;
    }
    Some(bytes.len() - line.rest.len())
}

/// What of a line is still to be read.
struct Line<'a> {
    rest: &'a [u8],
}

/// Which of eight bytes are no digits: the high bit of each. (A carry can only mark bytes above one that is marked.)
#[inline(always)]
fn no_digits(bytes: u64) -> u64 {
    let digits = bytes ^ 0x3030_3030_3030_3030;
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
}

/// The value of eight digits, the first in the lowest byte.
#[inline(always)]
fn eight_digits(bytes: u64) -> u64 {
    let ones = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

impl<'a> Line<'a> {
    #[inline(always)]
    fn word<const N: usize>(&mut self, word: &[u8; N]) -> Option<()> {
        let (start, rest) = self.rest.split_first_chunk::<N>()?;
        if start != word {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    #[inline(always)]
    fn number(&mut self) -> Option<u64> {
        let Some(chunk) = self.rest.first_chunk::<8>() else {
            return self.slow_number();
        };
        let bytes = u64::from_le_bytes(*chunk);
        let len = (no_digits(bytes).trailing_zeros() / 8) as usize;
        if len == 8 {
            return self.long_number(eight_digits(bytes));
        }
        if len == 0 || chunk[0] == b'0' && len > 1 {
            return None;
        }
        self.rest = &self.rest[len..];
        Some(eight_digits(bytes << (64 - 8 * len)))
    }

    /// A number of which the first eight digits are known.
    #[inline]
    fn long_number(&mut self, high: u64) -> Option<u64> {
        if self.rest[0] == b'0' {
            return None;
        }
        let Some(chunk) = self.rest[8..].first_chunk::<8>() else {
            return self.slow_number();
        };
        let bytes = u64::from_le_bytes(*chunk);
        match (no_digits(bytes).trailing_zeros() / 8) as usize {
            8 => self.slow_number(),
            0 => {
                self.rest = &self.rest[8..];
                Some(high)
            }
            len => {
                self.rest = &self.rest[8 + len..];
                Some(high * POWERS[len] + eight_digits(bytes << (64 - 8 * len)))
            }
        }
    }

    /// A number digit by digit.
    #[cold]
    fn slow_number(&mut self) -> Option<u64> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(len);
        if len == 0 || digits[0] == b'0' && len > 1 {
            return None;
        }
        self.rest = rest;
        digits
            .iter()
            .try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// A name and the quote behind it.
    #[inline(always)]
    fn name(&mut self) -> Option<Name> {
        let (name, len) = Name::before_quote(self.rest)?;
        self.rest = &self.rest[len + 1..];
        Some(name)
    }

    #[inline(always)]
    fn maybe<const N: usize>(&mut self, key: &[u8; N]) -> Option<Option<u64>> {
        if self.word(key).is_none() {
            return Some(None);
        }
        self.number().map(Some)
    }

    #[inline(always)]
    fn field<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        self.word(key)?;
        self.number()
    }

    /// A text without escapes, and its quotes.
    fn text(&mut self) -> Option<String> {
        self.word(b"\"")?;
        let len = self
            .rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.word(b"\"")?;
        std::str::from_utf8(text).ok().map(str::to_string)
    }

    #[inline(always)]
    fn process(&mut self) -> Option<Process> {
        if self.rest.first()? != &b'"' {
            return Some(Process::Client(u32::try_from(self.number()?).ok()?));
        }
        self.rest = &self.rest[1..];
        let name = self.name()?;
        Some(match name.as_str() {
            "nemesis" => Process::Nemesis,
            "control" => Process::Control,
            _ => Process::Host(name),
        })
    }

    #[inline(always)]
    fn kind(&mut self) -> Option<Kind> {
        if self.word(b"ok\"").is_some() {
            return Some(Kind::Ok);
        }
        if self.word(b"invoke\"").is_some() {
            return Some(Kind::Invoke);
        }
        if self.word(b"info\"").is_some() {
            return Some(Kind::Info);
        }
        self.word(b"fail\"").map(|()| Kind::Fail)
    }

    #[inline(always)]
    fn body(&mut self) -> Option<Body> {
        let body = match self.rest.first()? {
            b'o' => self.observe()?,
            b'w' => {
                self.word(b"write\",\"value\":{\"host\":\"")?;
                Body::Write {
                    host: self.name()?,
                    value: self.field(b",\"value\":")?,
                    token: self.maybe(b",\"token\":")?.map(Token),
                    seq: self.maybe(b",\"seq\":")?,
                }
            }
            b'c' => self.cas()?,
            b'g' if self.word(b"get\",\"value\":{\"host\":\"").is_some() => Body::Get {
                host: self.name()?,
                value: self.maybe(b",\"value\":")?,
            },
            b's' => self.with_s()?,
            b'r' => self.with_r()?,
            b'e' if self.word(b"elected\",\"value\":{\"host\":\"").is_some() => Body::Elected {
                host: self.name()?,
                epoch: Epoch(self.maybe(b",\"epoch\":")?.unwrap_or_default()),
                token: self.maybe(b",\"token\":")?.map(Token),
                reign: Reign(self.field(b",\"reign\":")?),
            },
            b'd' => {
                self.word(b"deposed\",\"value\":{\"host\":\"")?;
                let (host, reign) = (self.name()?, Reign(self.field(b",\"reign\":")?));
                self.word(b",\"why\":")?;
                Body::Deposed {
                    host,
                    reign,
                    why: self.text()?,
                }
            }
            b'a' => self.with_a()?,
            _ => self.rarer()?,
        };
        self.word(b"}")?;
        Some(body)
    }

    #[inline(always)]
    fn observe(&mut self) -> Option<Body> {
        self.word(b"observe\",\"value\":{\"host\":\"")?;
        let host = self.name()?;
        if self.word(b",\"answer\":{\"role\":\"").is_none() {
            return Some(Body::Observe { host, answer: None });
        }
        let role = match self.rest.first()? {
            b'l' => self.word(b"leader\"").map(|()| Role::Leader)?,
            b'f' => self.word(b"follower\"").map(|()| Role::Follower)?,
            _ => self.word(b"candidate\"").map(|()| Role::Candidate)?,
        };
        let status = Status {
            role,
            epoch: self.maybe(b",\"epoch\":")?.map(Epoch),
            token: self.maybe(b",\"token\":")?.map(Token),
            reign: self.maybe(b",\"reign\":")?.map(Reign),
            leader: match self.word(b",\"leader\":\"") {
                Some(()) => Some(self.name()?),
                None => None,
            },
        };
        self.word(b"}")?;
        Some(Body::Observe {
            host,
            answer: Some(status),
        })
    }

    #[inline(always)]
    fn cas(&mut self) -> Option<Body> {
        if self.word(b"cas\",\"value\":{\"host\":\"").is_none() {
            self.word(b"campaign\",\"value\":{\"host\":\"")?;
            return self.name().map(|host| Body::Campaign { host });
        }
        let host = self.name()?;
        let from = match self.word(b",\"from\":null") {
            Some(()) => None,
            None => Some(self.field(b",\"from\":")?),
        };
        let to = self.field(b",\"to\":")?;
        Some(Body::Cas { host, from, to })
    }

    #[inline(always)]
    fn with_s(&mut self) -> Option<Body> {
        if self.word(b"set\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Set {
                host: self.name()?,
                value: self.field(b",\"value\":")?,
            });
        }
        if self.word(b"started\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Started {
                host: self.name()?,
                incarnation: u32::try_from(self.field(b",\"incarnation\":")?).ok()?,
            });
        }
        Some(Body::Stored {
            seq: self.field(b"stored\",\"value\":{\"seq\":")?,
            token: Token(self.field(b",\"token\":")?),
            value: self.field(b",\"value\":")?,
            base: self.field(b",\"base\":")?,
            by: self.word(b",\"by\":\"").and_then(|()| self.name())?,
        })
    }

    #[inline(always)]
    fn with_r(&mut self) -> Option<Body> {
        if self.word(b"read\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Read {
                host: self.name()?,
                value: self.maybe(b",\"value\":")?,
            });
        }
        if self.word(b"run\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Run {
                host: self.name()?,
                job: self.field(b",\"job\":")?,
                token: self.maybe(b",\"token\":")?.map(Token),
                seq: self.maybe(b",\"seq\":")?,
            });
        }
        if self.word(b"rejected\",\"value\":{\"token\":").is_some() {
            return Some(Body::Rejected {
                token: Token(self.number()?),
                highest: Token(self.field(b",\"highest\":")?),
                value: self.field(b",\"value\":")?,
                by: self.word(b",\"by\":\"").and_then(|()| self.name())?,
            });
        }
        if self.word(b"release\",\"value\":{\"host\":\"").is_some() {
            return self.name().map(|host| Body::Release { host });
        }
        if self.word(b"resign\",\"value\":{\"host\":\"").is_some() {
            return self.name().map(|host| Body::Resign { host });
        }
        self.word(b"ready\",\"value\":{\"host\":\"")?;
        self.name().map(|host| Body::Ready { host })
    }

    #[inline(always)]
    fn with_a(&mut self) -> Option<Body> {
        if self.word(b"applied\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Applied {
                host: self.name()?,
                index: self.field(b",\"index\":")?,
                term: self.field(b",\"term\":")?,
                digest: self.field(b",\"digest\":")?,
            });
        }
        if self.word(b"acquire\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Acquire {
                host: self.name()?,
                reign: self.maybe(b",\"reign\":")?.map(Reign),
                token: self.maybe(b",\"token\":")?.map(Token),
            });
        }
        self.word(b"aborted\",\"value\":{\"why\":")?;
        self.text().map(|why| Body::Aborted { why })
    }

    fn rarer(&mut self) -> Option<Body> {
        if self.word(b"next\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Next {
                host: self.name()?,
                id: self.maybe(b",\"id\":")?,
            });
        }
        if self.word(b"exited\",\"value\":{\"host\":\"").is_some() {
            let host = self.name()?;
            self.word(b",\"how\":")?;
            return self.text().map(|how| Body::Exited { host, how });
        }
        if self.word(b"garbage\",\"value\":{\"host\":\"").is_some() {
            let host = self.name()?;
            self.word(b",\"what\":")?;
            return self.text().map(|what| Body::Garbage { host, what });
        }
        self.word(b"phase\",\"value\":{\"phase\":")?;
        phase(&self.text()?).map(|phase| Body::Phase { phase })
    }
}

/// As histories write it.
pub(super) fn phase(name: &str) -> Option<Phase> {
    Some(match name {
        "setup" => Phase::Setup,
        "faults" => Phase::Faults,
        "heal" => Phase::Heal,
        "recovery" => Phase::Recovery,
        "final" => Phase::Final,
        "end" => Phase::End,
        _ => return None,
    })
}
