//! Reading a line in the order in which we write it.
//!
//! Every byte of such a line is expected: fixed words are compared as wholes, and the line's end is where its last brace is.
//! The first byte that is not as expected ends the attempt, and another reader begins anew.
use super::cursor::Line;
use crate::event::{Body, Event, Kind, Phase, Process};
use crate::name::Packed;
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
    line.body(&mut event.body)?;
    event.error = None;
    if line.word(b"}").is_none() {
        line.word(b",\"error\":")?;
        event.error = Some(line.apart(Line::text)?);
        line.word(b"}")?;
    }
    Some(bytes.len() - line.rest.len())
}

impl Line<'_> {
    #[inline(always)]
    fn process(&mut self) -> Option<Process> {
        if self.rest.first()? != &b'"' {
            return Some(Process::Client(u32::try_from(self.number()?).ok()?));
        }
        self.rest = &self.rest[1..];
        let name = self.name()?;
        Some(match name.parts() {
            (b"nemesis\0\0\0\0\0\0\0\0", _) => Process::Nemesis,
            (b"control\0\0\0\0\0\0\0\0", _) => Process::Control,
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

    /// Each arm writes the body where it stays: it is large, and one that is handed from arm to arm is copied each time.
    #[inline(always)]
    fn body(&mut self, body: &mut Body) -> Option<()> {
        match self.rest.first()? {
            b'o' => self.observe(body)?,
            b'w' => {
                self.word(b"write\",\"value\":{\"host\":\"")?;
                *body = Body::Write {
                    host: self.packed()?.name(),
                    value: self.field(b",\"value\":")?,
                    token: self.maybe(b",\"token\":")?.map(Token),
                    seq: self.maybe(b",\"seq\":")?,
                };
            }
            b'c' => self.cas(body)?,
            b'g' if self.word(b"get\",\"value\":{\"host\":\"").is_some() => {
                let (host, value) = (self.packed()?, self.maybe(b",\"value\":")?);
                *body = Body::Get {
                    host: host.name(),
                    value,
                };
            }
            b's' => self.with_s(body)?,
            b'r' if self.word(b"read\",\"value\":{\"host\":\"").is_some() => {
                let (host, value) = (self.packed()?, self.maybe(b",\"value\":")?);
                *body = Body::Read {
                    host: host.name(),
                    value,
                };
            }
            b'e' if self.word(b"elected\",\"value\":{\"host\":\"").is_some() => {
                *body = Body::Elected {
                    host: self.packed()?.name(),
                    epoch: Epoch(self.maybe(b",\"epoch\":")?.unwrap_or_default()),
                    token: self.maybe(b",\"token\":")?.map(Token),
                    reign: Reign(self.field(b",\"reign\":")?),
                };
            }
            b'd' => {
                self.word(b"deposed\",\"value\":{\"host\":\"")?;
                let (host, reign) = (self.name()?, Reign(self.field(b",\"reign\":")?));
                let why = self.text_of(b",\"why\":")?;
                *body = Body::Deposed { host, reign, why };
            }
            b'a' if self.word(b"applied\",\"value\":{\"host\":\"").is_some() => {
                *body = Body::Applied {
                    host: self.packed()?.name(),
                    index: self.field(b",\"index\":")?,
                    term: self.field(b",\"term\":")?,
                    digest: self.field(b",\"digest\":")?,
                };
            }
            _ => *body = self.apart(Line::rarer)?,
        }
        self.word(b"}")
    }

    #[inline(always)]
    fn observe(&mut self, body: &mut Body) -> Option<()> {
        self.word(b"observe\",\"value\":{\"host\":\"")?;
        let host = self.packed()?;
        if self.word(b",\"answer\":{\"role\":\"").is_none() {
            *body = Body::Observe {
                host: host.name(),
                answer: None,
            };
            return Some(());
        }
        let role = match self.rest.first()? {
            b'l' => self.word(b"leader\"").map(|()| Role::Leader)?,
            b'f' => self.word(b"follower\"").map(|()| Role::Follower)?,
            _ => self.word(b"candidate\"").map(|()| Role::Candidate)?,
        };
        let epoch = self.maybe(b",\"epoch\":")?.map(Epoch);
        let token = self.maybe(b",\"token\":")?.map(Token);
        let reign = self.maybe(b",\"reign\":")?.map(Reign);
        let leader = match self.word(b",\"leader\":\"") {
            Some(()) => Some(self.packed()?),
            None => None,
        };
        let answer = Some(Status {
            role,
            epoch,
            token,
            reign,
            leader: leader.map(Packed::name),
        });
        *body = Body::Observe {
            host: host.name(),
            answer,
        };
        self.word(b"}")
    }

    #[inline(always)]
    fn cas(&mut self, body: &mut Body) -> Option<()> {
        if self.word(b"cas\",\"value\":{\"host\":\"").is_none() {
            self.word(b"campaign\",\"value\":{\"host\":\"")?;
            *body = Body::Campaign { host: self.name()? };
            return Some(());
        }
        let host = self.packed()?;
        let from = match self.word(b",\"from\":null") {
            Some(()) => None,
            None => Some(self.field(b",\"from\":")?),
        };
        let to = self.field(b",\"to\":")?;
        *body = Body::Cas {
            host: host.name(),
            from,
            to,
        };
        Some(())
    }

    #[inline(always)]
    fn with_s(&mut self, body: &mut Body) -> Option<()> {
        if self.word(b"set\",\"value\":{\"host\":\"").is_some() {
            let (host, value) = (self.packed()?, self.field(b",\"value\":")?);
            *body = Body::Set {
                host: host.name(),
                value,
            };
            return Some(());
        }
        if self.word(b"stored\",\"value\":{\"seq\":").is_some() {
            *body = Body::Stored {
                seq: self.number()?,
                token: Token(self.field(b",\"token\":")?),
                value: self.field(b",\"value\":")?,
                base: self.field(b",\"base\":")?,
                by: self.word(b",\"by\":\"").and_then(|()| self.packed())?.name(),
            };
            return Some(());
        }
        self.word(b"started\",\"value\":{\"host\":\"")?;
        let (host, incarnation) = (self.name()?, self.field(b",\"incarnation\":")?);
        let incarnation = u32::try_from(incarnation).ok()?;
        *body = Body::Started { host, incarnation };
        Some(())
    }

    #[inline(never)]
    fn rarer(&mut self) -> Option<Body> {
        if self.word(b"run\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Run {
                host: self.name()?,
                job: self.field(b",\"job\":")?,
                token: self.maybe(b",\"token\":")?.map(Token),
                seq: self.maybe(b",\"seq\":")?,
            });
        }
        if self.word(b"next\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Next {
                host: self.name()?,
                id: self.maybe(b",\"id\":")?,
            });
        }
        if self.word(b"acquire\",\"value\":{\"host\":\"").is_some() {
            return Some(Body::Acquire {
                host: self.name()?,
                reign: self.maybe(b",\"reign\":")?.map(Reign),
                token: self.maybe(b",\"token\":")?.map(Token),
            });
        }
        if self.word(b"release\",\"value\":{\"host\":\"").is_some() {
            return self.name().map(|host| Body::Release { host });
        }
        if self.word(b"rejected\",\"value\":{\"token\":").is_some() {
            return Some(Body::Rejected {
                token: Token(self.number()?),
                highest: Token(self.field(b",\"highest\":")?),
                value: self.field(b",\"value\":")?,
                by: self.word(b",\"by\":\"").and_then(|()| self.name())?,
            });
        }
        self.rarest()
    }

    fn rarest(&mut self) -> Option<Body> {
        if self.word(b"resign\",\"value\":{\"host\":\"").is_some() {
            return self.name().map(|host| Body::Resign { host });
        }
        if self.word(b"ready\",\"value\":{\"host\":\"").is_some() {
            return self.name().map(|host| Body::Ready { host });
        }
        if self.word(b"exited\",\"value\":{\"host\":\"").is_some() {
            let (host, how) = (self.name()?, self.text_of(b",\"how\":")?);
            return Some(Body::Exited { host, how });
        }
        if self.word(b"garbage\",\"value\":{\"host\":\"").is_some() {
            let (host, what) = (self.name()?, self.text_of(b",\"what\":")?);
            return Some(Body::Garbage { host, what });
        }
        if self.word(b"aborted\",\"value\":{\"why\":").is_some() {
            return self.text().map(|why| Body::Aborted { why });
        }
        self.word(b"phase\",\"value\":{\"phase\":")?;
        phase(self.text()?.as_bytes()).map(|phase| Body::Phase { phase })
    }
}

/// As histories write it.
pub(super) fn phase(name: &[u8]) -> Option<Phase> {
    Some(match name {
        b"setup" => Phase::Setup,
        b"faults" => Phase::Faults,
        b"heal" => Phase::Heal,
        b"recovery" => Phase::Recovery,
        b"final" => Phase::Final,
        b"end" => Phase::End,
        _ => return None,
    })
}
