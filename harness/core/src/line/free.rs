//! Reading a line in any key order.
//!
//! A value's keys mean nothing until `f` is known, which may stand behind it. So the value is not taken as it comes: its
//! numbers and texts are put into places by their keys, and the body takes them out when its kind is known. A key without
//! a place, a place that is filled twice, and one that nobody empties, are left to the derived deserializer to judge.
use super::fixed::phase;
use crate::event::{Body, Event, Kind, Process};
use crate::json::Cursor;
use crate::name::Name;
use crate::op::{Role, Status};
use crate::time::Nanos;
use crate::{Epoch, Reign, Token};
use std::borrow::Cow;

macro_rules! places {
    ($count:ident: $($name:ident $key:literal)*) => {
        /// The places, in order.
        #[derive(Clone, Copy)]
        enum Place { $($name,)* }

        const $count: usize = [$($key,)*].len();

        fn place(key: &str) -> Option<Place> {
            Some(match key {
                $($key => Place::$name,)*
                _ => return None,
            })
        }
    };
}

// Numbers come first.
places! { PLACES:
    Value "value" Token "token" Seq "seq" From "from" To "to" Id "id" Job "job" Reign "reign" Epoch "epoch"
    Index "index" Term "term" Digest "digest" Base "base" Highest "highest" Incarnation "incarnation" Time "time"
    Process "process"
    Host "host" By "by" Leader "leader" Role "role" Why "why" How "how" What "what" Phase "phase" Type "type" F "f"
    Error "error" Answer "answer"
}

const NUMBERS: usize = Place::Host as usize;
/// Where the name of a process is that is no number.
const SPEAKER: usize = PLACES - NUMBERS;

/// Reads a whole line. `None`: somebody else must judge it.
pub(super) fn free(line: &[u8]) -> Option<Event> {
    let mut top = Places::default();
    let mut value = None;
    let mut cursor = Cursor::new(line);
    cursor
        .object(|cursor, key| {
            if key == "value" && value.is_none() {
                value = Some(Places::read(cursor)?);
                return Ok(());
            }
            top.put(cursor, &key)
        })
        .ok()?;
    cursor.end().ok()?;
    let process = match top.texts[SPEAKER].take() {
        Some(name) => {
            top.empty(Place::Process);
            match &*name {
                "nemesis" => Process::Nemesis,
                "control" => Process::Control,
                name => Process::Host(name.parse().ok()?),
            }
        }
        None => Process::Client(u32::try_from(top.number(Place::Process)?).ok()?),
    };
    let kind = match &*top.text(Place::Type)? {
        "invoke" => Kind::Invoke,
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        _ => return None,
    };
    let event = Event {
        index: top.number(Place::Index)?,
        time: Nanos(top.number(Place::Time)?),
        process,
        kind,
        body: body(&top.text(Place::F)?, value?)?,
        error: top.text(Place::Error).map(Cow::into_owned),
    };
    (top.filled == 0).then_some(event)
}

/// What an object held, by key.
#[derive(Default)]
struct Places<'a> {
    /// A bit for each place that was filled and not emptied.
    filled: u32,
    /// A bit for each that holds `null`.
    null: u32,
    numbers: [u64; NUMBERS],
    texts: [Option<Cow<'a, str>>; SPEAKER + 1],
    answer: Option<Box<Places<'a>>>,
}

impl<'a> Places<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Places<'a>, String> {
        let mut places = Places::default();
        cursor.object(|cursor, key| places.put(cursor, &key))?;
        Ok(places)
    }

    /// Reads the value behind `key`. An error is no more than a refusal, and has no words.
    fn put(&mut self, cursor: &mut Cursor<'a>, key: &str) -> Result<(), String> {
        let place = place(key).ok_or_else(String::new)?;
        let (at, bit) = (place as usize, 1 << place as u32);
        if self.filled & bit != 0 {
            return Err(String::new());
        }
        self.filled |= bit;
        match cursor.peek() {
            Some(b'0'..=b'9') if at < NUMBERS => self.numbers[at] = cursor.whole()?,
            Some(b'"') if matches!(place, Place::Process) => self.texts[SPEAKER] = Some(cursor.string()?),
            Some(b'"') if at >= NUMBERS => self.texts[at - NUMBERS] = Some(cursor.string()?),
            Some(b'{') if matches!(place, Place::Answer) => self.answer = Some(Box::new(Places::read(cursor)?)),
            Some(b'n') => {
                cursor.null()?;
                self.null |= bit;
            }
            _ => return Err(String::new()),
        }
        Ok(())
    }

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

    fn text(&mut self, place: Place) -> Option<Cow<'a, str>> {
        self.empty(place);
        self.texts[place as usize - NUMBERS].take()
    }

    fn owned(&mut self, place: Place) -> Option<String> {
        self.text(place).map(Cow::into_owned)
    }

    fn name(&mut self, place: Place) -> Option<Name> {
        self.text(place)?.parse().ok()
    }

    fn status(mut self) -> Option<Status> {
        let role = match &*self.text(Place::Role)? {
            "leader" => Role::Leader,
            "candidate" => Role::Candidate,
            "follower" => Role::Follower,
            _ => return None,
        };
        let leader = match self.text(Place::Leader) {
            Some(name) => Some(name.parse().ok()?),
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

/// The body of kind `f`, if `value` holds what it needs and nothing else.
fn body(f: &str, mut value: Places<'_>) -> Option<Body> {
    let v = &mut value;
    let body = match f {
        "stored" => Body::Stored {
            seq: v.number(Place::Seq)?,
            token: Token(v.number(Place::Token)?),
            value: v.number(Place::Value)?,
            base: v.number(Place::Base)?,
            by: v.name(Place::By)?,
        },
        "rejected" => Body::Rejected {
            token: Token(v.number(Place::Token)?),
            highest: Token(v.number(Place::Highest)?),
            value: v.number(Place::Value)?,
            by: v.name(Place::By)?,
        },
        "phase" => Body::Phase {
            phase: phase(&v.text(Place::Phase)?)?,
        },
        "aborted" => Body::Aborted {
            why: v.owned(Place::Why)?,
        },
        _ => {
            let host = v.name(Place::Host)?;
            operation(f, host, v).or_else(|| said(f, host, v))?
        }
    };
    (value.filled == 0).then_some(body)
}

fn operation(f: &str, host: Name, v: &mut Places<'_>) -> Option<Body> {
    Some(match f {
        "observe" => Body::Observe {
            host,
            answer: match (v.empty(Place::Answer), v.answer.take()) {
                (true, answer) => Some(answer?.status()?),
                (false, _) => None,
            },
        },
        "write" => Body::Write {
            host,
            value: v.number(Place::Value)?,
            token: v.number(Place::Token).map(Token),
            seq: v.number(Place::Seq),
        },
        "read" => Body::Read {
            host,
            value: v.number(Place::Value),
        },
        "campaign" => Body::Campaign { host },
        "resign" => Body::Resign { host },
        "get" => Body::Get {
            host,
            value: v.number(Place::Value),
        },
        "set" => Body::Set {
            host,
            value: v.number(Place::Value)?,
        },
        "cas" => Body::Cas {
            host,
            from: v.number(Place::From),
            to: v.number(Place::To)?,
        },
        "next" => Body::Next {
            host,
            id: v.number(Place::Id),
        },
        "run" => Body::Run {
            host,
            job: v.number(Place::Job)?,
            token: v.number(Place::Token).map(Token),
            seq: v.number(Place::Seq),
        },
        "acquire" => Body::Acquire {
            host,
            reign: v.number(Place::Reign).map(Reign),
            token: v.number(Place::Token).map(Token),
        },
        "release" => Body::Release { host },
        _ => return None,
    })
}

fn said(f: &str, host: Name, v: &mut Places<'_>) -> Option<Body> {
    Some(match f {
        "elected" => Body::Elected {
            host,
            // `null` is no epoch.
            epoch: match v.null & (1 << Place::Epoch as u32) {
                0 => Epoch(v.number(Place::Epoch).unwrap_or_default()),
                _ => return None,
            },
            token: v.number(Place::Token).map(Token),
            reign: Reign(v.number(Place::Reign)?),
        },
        "deposed" => Body::Deposed {
            host,
            reign: Reign(v.number(Place::Reign)?),
            why: v.owned(Place::Why)?,
        },
        "applied" => Body::Applied {
            host,
            index: v.number(Place::Index)?,
            term: v.number(Place::Term)?,
            digest: v.number(Place::Digest)?,
        },
        "started" => Body::Started {
            host,
            incarnation: u32::try_from(v.number(Place::Incarnation)?).ok()?,
        },
        "ready" => Body::Ready { host },
        "exited" => Body::Exited {
            host,
            how: v.owned(Place::How)?,
        },
        "garbage" => Body::Garbage {
            host,
            what: v.owned(Place::What)?,
        },
        _ => return None,
    })
}
