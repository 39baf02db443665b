//! Reading a line in any key order.
//!
//! A value's keys mean nothing until `f` is known, which may stand behind it. So the value is not taken as it comes: its
//! numbers and texts are put into places by their keys, and the body takes them out when its kind is known. A key without
//! a place, a place that is filled twice, one that nobody empties, and a text with escapes are left to the derived
//! deserializer.
use super::cursor::Line;
use super::fixed::phase;
use crate::event::{Body, Event, Kind, Process};
use crate::name::Name;
use crate::op::{Role, Status};
use crate::time::Nanos;
use crate::{Epoch, Reign, Token};

macro_rules! places {
    ($($name:ident $key:literal)*) => {
        /// The places, in order.
        #[derive(Clone, Copy)]
        enum Place { $($name,)* }

        /// By a key as a number ([`Line::short_key`]).
        #[inline(always)]
        fn place(key: u64) -> Option<Place> {
            mod keys {
                $(#[allow(non_upper_case_globals)] pub const $name: u64 = super::short($key);)*
            }
            Some(match key {
                $(keys::$name => Place::$name,)*
                _ => return None,
            })
        }

        const PLACES: usize = [$(Place::$name,)*].len();
    };
}

/// A word of at most eight bytes as a number, the first byte the lowest.
const fn short(word: &str) -> u64 {
    let mut number = 0;
    let mut at = 0;
    while at < word.len() {
        number |= (word.as_bytes()[at] as u64) << (8 * at);
        at += 1;
    }
    number
}

// Numbers come first. (`incarnation` is too long for a key as a number, and rare.)
places! {
    Value "value" Token "token" Seq "seq" From "from" To "to" Id "id" Job "job" Reign "reign" Epoch "epoch"
    Index "index" Term "term" Digest "digest" Base "base" Highest "highest" Incarnation "" Time "time"
    Process "process"
    Host "host" By "by" Leader "leader" Role "role" Why "why" How "how" What "what" Phase "phase" Type "type" F "f"
    Error "error" Answer "answer"
}

const NUMBERS: usize = Place::Host as usize;
/// Where the name of a process is that is no number.
const SPEAKER: usize = PLACES - NUMBERS;

/// Reads a whole line into `event`. `None`: somebody else must judge it, and `event` has no meaning.
pub(super) fn free(line: &[u8], event: &mut Event) -> Option<()> {
    // The line itself, its value, and the answer in its value.
    let mut objects = [Places::EMPTY; 3];
    let mut behind = read(Line { rest: line }, &mut objects)?;
    behind.blank();
    if !behind.rest.is_empty() {
        return None;
    }
    let [top, value, answer] = &mut objects;
    event.process = match top.texts[SPEAKER] {
        b"" => Process::Client(u32::try_from(top.number(Place::Process)?).ok()?),
        name => {
            top.empty(Place::Process);
            match name {
                b"nemesis" => Process::Nemesis,
                b"control" => Process::Control,
                name => Process::Host(parse(name)?),
            }
        }
    };
    event.kind = match top.text(Place::Type)? {
        b"invoke" => Kind::Invoke,
        b"ok" => Kind::Ok,
        b"fail" => Kind::Fail,
        b"info" => Kind::Info,
        _ => return None,
    };
    event.index = top.number(Place::Index)?;
    event.time = Nanos(top.number(Place::Time)?);
    event.error = match top.text(Place::Error) {
        Some(error) => Some(std::str::from_utf8(error).ok()?.to_string()),
        None => None,
    };
    let f = top.text(Place::F)?;
    if !top.empty(Place::Value) || top.filled != 0 {
        return None;
    }
    match f {
        b"observe" => {
            let host = value.name(Place::Host)?;
            let answer = if value.empty(Place::Answer) {
                Some(answer.status()?)
            } else {
                None
            };
            event.body = Body::Observe { host, answer };
        }
        f => event.body = body(f, value)?,
    }
    (value.filled == 0).then_some(())
}

fn parse(name: &[u8]) -> Option<Name> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Reads an object into the first of `objects`, and the one in it into the next; gives what is behind it.
fn read<'a>(mut line: Line<'a>, objects: &mut [Places<'a>]) -> Option<Line<'a>> {
    let holder = [Place::Answer, Place::Answer, Place::Value][objects.len() - 1] as u32;
    let (places, inner) = objects.split_first_mut()?;
    line.blank();
    line.word(b"{")?;
    loop {
        line.blank();
        let place = match line.word(b"\"incarnation\"") {
            Some(()) => Place::Incarnation,
            None => place(line.short_key()?)?,
        };
        let (at, bit) = (place as usize, 1 << place as u32);
        if places.filled & bit != 0 {
            return None;
        }
        places.filled |= bit;
        line.blank();
        line.word(b":")?;
        line.blank();
        // The line's own value is an object, and nothing else that is a number or a text elsewhere.
        let is_holder = place as u32 == holder;
        match line.peek()? {
            b'{' if is_holder && !inner.is_empty() => line = read(line, inner)?,
            b'0'..=b'9' if at < NUMBERS && !is_holder => places.numbers[at] = line.number()?,
            b'"' if at >= NUMBERS && !is_holder => places.texts[at - NUMBERS] = line.plain()?,
            b'"' if place as u32 == Place::Process as u32 => {
                places.texts[SPEAKER] = line.plain().filter(|name| !name.is_empty())?;
            }
            b'n' => {
                line.word(b"null")?;
                places.null |= bit;
            }
            _ => return None,
        }
        line.blank();
        if line.take(b'}') {
            return Some(line);
        }
        line.word(b",")?;
    }
}

/// What an object held, by key.
#[derive(Clone, Copy)]
struct Places<'a> {
    /// A bit for each place that was filled and not emptied.
    filled: u32,
    /// A bit for each that holds `null`.
    null: u32,
    numbers: [u64; NUMBERS],
    texts: [&'a [u8]; SPEAKER + 1],
}

impl<'a> Places<'a> {
    const EMPTY: Places<'a> = Places {
        filled: 0,
        null: 0,
        numbers: [0; NUMBERS],
        texts: [b""; SPEAKER + 1],
    };

    /// Empties a place; whether it held something other than `null`.
    fn empty(&mut self, place: Place) -> bool {
        let bit = 1 << place as u32;
        let held = self.filled & !self.null & bit != 0;
        self.filled &= !bit;
        held
    }

    /// `None`: it was not there, or `null`, which is the same to an optional field.
    fn number(&mut self, place: Place) -> Option<u64> {
        self.empty(place).then(|| self.numbers[place as usize])
    }

    fn text(&mut self, place: Place) -> Option<&'a [u8]> {
        self.empty(place).then(|| self.texts[place as usize - NUMBERS])
    }

    fn owned(&mut self, place: Place) -> Option<String> {
        std::str::from_utf8(self.text(place)?).ok().map(str::to_string)
    }

    fn name(&mut self, place: Place) -> Option<Name> {
        parse(self.text(place)?)
    }

    fn status(&mut self) -> Option<Status> {
        let role = match self.text(Place::Role)? {
            b"leader" => Role::Leader,
            b"candidate" => Role::Candidate,
            b"follower" => Role::Follower,
            _ => return None,
        };
        let leader = match self.text(Place::Leader) {
            Some(name) => Some(parse(name)?),
            None => None,
        };
        let status = Status {
            role,
            epoch: self.number(Place::Epoch).map(Epoch),
            token: self.number(Place::Token).map(Token),
            reign: self.number(Place::Reign).map(Reign),
            leader,
        };
        (self.filled == 0).then_some(status)
    }
}

/// The body of kind `f`, if `v` holds what it needs.
fn body(f: &[u8], v: &mut Places<'_>) -> Option<Body> {
    Some(match f {
        b"stored" => Body::Stored {
            seq: v.number(Place::Seq)?,
            token: Token(v.number(Place::Token)?),
            value: v.number(Place::Value)?,
            base: v.number(Place::Base)?,
            by: v.name(Place::By)?,
        },
        b"rejected" => Body::Rejected {
            token: Token(v.number(Place::Token)?),
            highest: Token(v.number(Place::Highest)?),
            value: v.number(Place::Value)?,
            by: v.name(Place::By)?,
        },
        b"phase" => Body::Phase {
            phase: phase(v.text(Place::Phase)?)?,
        },
        b"aborted" => Body::Aborted {
            why: v.owned(Place::Why)?,
        },
        _ => {
            let host = v.name(Place::Host)?;
            return operation(f, host, v).or_else(|| said(f, host, v));
        }
    })
}

fn operation(f: &[u8], host: Name, v: &mut Places<'_>) -> Option<Body> {
    Some(match f {
        b"write" => Body::Write {
            host,
            value: v.number(Place::Value)?,
            token: v.number(Place::Token).map(Token),
            seq: v.number(Place::Seq),
        },
        b"read" => Body::Read {
            host,
            value: v.number(Place::Value),
        },
        b"campaign" => Body::Campaign { host },
        b"resign" => Body::Resign { host },
        b"get" => Body::Get {
            host,
            value: v.number(Place::Value),
        },
        b"set" => Body::Set {
            host,
            value: v.number(Place::Value)?,
        },
        b"cas" => Body::Cas {
            host,
            from: v.number(Place::From),
            to: v.number(Place::To)?,
        },
        b"next" => Body::Next {
            host,
            id: v.number(Place::Id),
        },
        b"run" => Body::Run {
            host,
            job: v.number(Place::Job)?,
            token: v.number(Place::Token).map(Token),
            seq: v.number(Place::Seq),
        },
        b"acquire" => Body::Acquire {
            host,
            reign: v.number(Place::Reign).map(Reign),
            token: v.number(Place::Token).map(Token),
        },
        b"release" => Body::Release { host },
        _ => return None,
    })
}

fn said(f: &[u8], host: Name, v: &mut Places<'_>) -> Option<Body> {
    Some(match f {
        b"elected" => Body::Elected {
            host,
            // `null` is no epoch.
            epoch: match v.null & (1 << Place::Epoch as u32) {
                0 => Epoch(v.number(Place::Epoch).unwrap_or_default()),
                _ => return None,
            },
            token: v.number(Place::Token).map(Token),
            reign: Reign(v.number(Place::Reign)?),
        },
        b"deposed" => Body::Deposed {
            host,
            reign: Reign(v.number(Place::Reign)?),
            why: v.owned(Place::Why)?,
        },
        b"applied" => Body::Applied {
            host,
            index: v.number(Place::Index)?,
            term: v.number(Place::Term)?,
            digest: v.number(Place::Digest)?,
        },
        b"started" => Body::Started {
            host,
            incarnation: u32::try_from(v.number(Place::Incarnation)?).ok()?,
        },
        b"ready" => Body::Ready { host },
        b"exited" => Body::Exited {
            host,
            how: v.owned(Place::How)?,
        },
        b"garbage" => Body::Garbage {
            host,
            what: v.owned(Place::What)?,
        },
        _ => return None,
    })
}
