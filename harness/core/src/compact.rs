//! What a history says of leadership, in records of 32 bytes.
//!
//! A run of weeks leaves hundreds of millions of events, most of them questions whether somebody leads and their
//! answers. Whether there was one leader per epoch, one reign per token, and one leader at a time hangs on a few numbers
//! of each. Here they stand at fixed places, so that a checker reads them as fast as memory gives them, and so that a
//! file that was cut off is read up to its last whole record.
//!
//! ```text
//! file    "SBLEADER", version u32, length of the header u32, the header (JSON), zeros up to a multiple of 32, records
//! record  byte 0   the tag (low half) and flags (high half)
//!         byte 1   how many events were left out before this one: they say nothing of leadership
//!         2..4     host, by its number: its place in the header, or a later one that a NAME record gave
//!         4..8     client; of STARTED the life, of TRIED the kind of fault by its place in FaultKind::ALL
//!         8..12    nanoseconds since the record before
//!         12..16   reign
//!         16..24   epoch; of an id that was handed out the id
//!         24..32   token
//! ```
//!
//! Numbers are little-endian. NAME (a host's name at 16..32) and MARK are no events. A MARK says absolutely where the
//! next event stands, as if it were the event before it were left out: its index at 16..24, the time at 24..32. It comes
//! where a gap fits its field no longer.
//!
//! Caveats: reigns of more than 32 bits and more than 65,536 hosts do not fit, and are errors. Deposed leaders, phases,
//! what followers say of others, and the storage's sequence numbers are left out.
use crate::event::{Body, Event, Kind, Process};
use crate::history::Header;
use crate::ids::Reign;
use crate::name::Name;
use crate::op::{Role, Status};
use crate::plan::FaultKind;
use crate::time::Nanos;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// How a file begins.
pub const MAGIC: [u8; 8] = *b"SBLEADER";
/// Of the form that this build writes and reads.
pub const VERSION: u32 = 1;
/// The length of a record in bytes.
pub const RECORD: usize = 32;

/// A record as it stands in a file.
pub type Raw = [u8; RECORD];

/// A record as four numbers of eight bytes.
#[inline(always)]
pub fn words(raw: &Raw) -> [u64; 4] {
    let word = |n: usize| u64::from_le_bytes(*raw[8 * n..].first_chunk().expect("a record has four words"));
    [word(0), word(1), word(2), word(3)]
}

/// What a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// No event: the name of a host that the header lacks.
    Name,
    /// No event: where the next one stands.
    Mark,
    /// A host's life begins.
    Started,
    /// A reign begins.
    Elected,
    /// A client asks a host for its belief, or for the lock.
    Asked,
    /// A belief.
    Answered,
    /// The lock is held.
    Held,
    /// No belief, or no lock.
    Unanswered,
    /// A client asks a host to write, or to run a job.
    WriteAsked,
    /// It did.
    Written,
    /// It did not, or nobody knows.
    Unwritten,
    /// The storage took a host's write.
    Stored,
    /// The storage refused one.
    Refused,
    /// A kind of fault was tried for the first time.
    Tried,
    /// A client asks for an id.
    IdAsked,
    /// It got one (flag [`EPOCH`]), or it got none, or nobody knows (flag [`LEADS`]).
    IdEnded,
}

const TAGS: [Tag; 16] = [
    Tag::Name,
    Tag::Mark,
    Tag::Started,
    Tag::Elected,
    Tag::Asked,
    Tag::Answered,
    Tag::Held,
    Tag::Unanswered,
    Tag::WriteAsked,
    Tag::Written,
    Tag::Unwritten,
    Tag::Stored,
    Tag::Refused,
    Tag::Tried,
    Tag::IdAsked,
    Tag::IdEnded,
];

/// The flag of an answer that claims to lead.
pub const LEADS: u8 = 1;
/// The flag of a record that names an epoch, or an id.
pub const EPOCH: u8 = 2;
/// The flag of a record that names a token.
pub const TOKEN: u8 = 4;
/// The flag of a record that names a reign.
pub const REIGN: u8 = 8;

/// A record's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it tells of.
    pub tag: Tag,
    /// Which numbers it has.
    pub flags: u8,
    /// Events that were left out before it.
    pub skipped: u8,
    /// Which host.
    pub host: u16,
    /// Which client.
    pub client: u32,
    /// Nanoseconds since the record before.
    pub wait: u32,
    /// 0 if it names none.
    pub reign: u32,
    /// 0 if it names none.
    pub epoch: u64,
    /// 0 if it names none.
    pub token: u64,
}

impl Record {
    /// Reads the numbers. Every record can be read: each tag and each flag means something.
    pub fn read(raw: &Raw) -> Record {
        let [first, second, epoch, token] = words(raw);
        Record {
            tag: TAGS[(first & 15) as usize],
            flags: (first >> 4 & 15) as u8,
            skipped: (first >> 8) as u8,
            host: (first >> 16) as u16,
            client: (first >> 32) as u32,
            wait: second as u32,
            reign: (second >> 32) as u32,
            epoch,
            token,
        }
    }

    fn new(tag: Tag) -> Record {
        Record {
            tag,
            flags: 0,
            skipped: 0,
            host: 0,
            client: 0,
            wait: 0,
            reign: 0,
            epoch: 0,
            token: 0,
        }
    }

    /// As it stands in a file.
    pub fn raw(&self) -> Raw {
        let first = self.tag as u64
            | u64::from(self.flags) << 4
            | u64::from(self.skipped) << 8
            | u64::from(self.host) << 16
            | u64::from(self.client) << 32;
        let second = u64::from(self.wait) | u64::from(self.reign) << 32;
        let mut raw = [0; RECORD];
        for (to, word) in raw.chunks_exact_mut(8).zip([first, second, self.epoch, self.token]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        raw
    }

    /// The name that a [`Tag::Name`] gives, if it is one.
    pub fn name(raw: &Raw) -> Option<Name> {
        let text = raw[16..].split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

/// Turns events into records.
#[derive(Debug)]
pub struct Writer {
    hosts: BTreeMap<Name, u16>,
    tried: Vec<FaultKind>,
    /// Where the next event stands if none is left out, and the last one's time.
    next: u64,
    time: Nanos,
}

impl Writer {
    /// Begins a file in `out`. An error is a fragment in words.
    pub fn new(header: &Header, out: &mut Vec<u8>) -> Result<Writer, String> {
        let json = serde_json::to_vec(header).map_err(|e| format!("no header: {e}"))?;
        let length = u32::try_from(json.len()).map_err(|_| "the header is longer than 4 GB".to_string())?;
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(json);
        out.resize(out.len().next_multiple_of(RECORD), 0);
        if header.hosts.len() > usize::from(u16::MAX) {
            return Err(format!("{} hosts: records tell 65,536 apart", header.hosts.len()));
        }
        Ok(Writer {
            hosts: (0..).zip(&header.hosts).map(|(n, host)| (host.name, n)).collect(),
            tried: Vec::new(),
            next: 0,
            time: Nanos::ZERO,
        })
    }

    /// Appends what an event says of leadership, if anything. An error is a fragment that names the event.
    pub fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), String> {
        let told = self
            .told(event, out)
            .map_err(|why| format!("event {}: {why}", event.index))?;
        let Some(mut record) = told else { return Ok(()) };
        let skipped = event.index.checked_sub(self.next).map(u8::try_from);
        let wait = event.time.0.checked_sub(self.time.0).map(u32::try_from);
        match (skipped, wait) {
            (Some(Ok(skipped)), Some(Ok(wait))) => (record.skipped, record.wait) = (skipped, wait),
            _ => {
                let mark = Record {
                    epoch: event.index,
                    token: event.time.0,
                    ..Record::new(Tag::Mark)
                };
                out.extend(mark.raw());
            }
        }
        out.extend(record.raw());
        (self.next, self.time) = (event.index + 1, event.time);
        Ok(())
    }

    fn told(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<Option<Record>, String> {
        let faults = |body: &Body| match body {
            Body::Fault(step) => Some(step.kind),
            Body::Exited { .. } => Some(FaultKind::Kill),
            _ => None,
        };
        if let Some(kind) = faults(&event.body) {
            return Ok(self.tried(kind));
        }
        let host = match event.body {
            Body::Stored { by, .. } | Body::Rejected { by, .. } => Some(by),
            _ => event.body.host(),
        };
        let (Some(host), Some(mut record)) = (host, telling(event)?) else {
            return Ok(None);
        };
        record.host = self.host(host, out)?;
        if let (Process::Client(client), false) = (event.process, record.tag == Tag::Started) {
            record.client = client;
        }
        Ok(Some(record))
    }

    fn tried(&mut self, kind: FaultKind) -> Option<Record> {
        if self.tried.contains(&kind) {
            return None;
        }
        self.tried.push(kind);
        let place = FaultKind::ALL.iter().position(|k| *k == kind)?;
        Some(Record {
            client: place as u32,
            ..Record::new(Tag::Tried)
        })
    }

    fn host(&mut self, name: Name, out: &mut Vec<u8>) -> Result<u16, String> {
        if let Some(number) = self.hosts.get(&name) {
            return Ok(*number);
        }
        let number = u16::try_from(self.hosts.len()).map_err(|_| "records tell 65,536 hosts apart".to_string())?;
        self.hosts.insert(name, number);
        let mut raw = Record {
            host: number,
            ..Record::new(Tag::Name)
        }
        .raw();
        let text = name.as_str().as_bytes();
        raw[16..16 + text.len()].copy_from_slice(text);
        out.extend(raw);
        Ok(number)
    }
}

/// A record's words, host and place left open; `None` where the event says nothing of leadership.
fn telling(event: &Event) -> Result<Option<Record>, String> {
    let client = matches!(event.process, Process::Client(_));
    let pick = |asked, ok, otherwise| match event.kind {
        Kind::Invoke => asked,
        Kind::Ok => ok,
        _ => otherwise,
    };
    let mut record = Record::new(Tag::Name);
    match event.body {
        Body::Started { incarnation, .. } => {
            (record.tag, record.client) = (Tag::Started, incarnation);
        }
        Body::Elected {
            epoch, token, reign, ..
        } => {
            record.tag = Tag::Elected;
            record.numbers(Some(reign), epoch.known().map(|e| e.0), token.map(|t| t.0))?;
        }
        Body::Observe { answer, .. } if client => {
            let told = if answer.is_some() {
                Tag::Answered
            } else {
                Tag::Unanswered
            };
            record.tag = pick(Tag::Asked, told, Tag::Unanswered);
            if let (Tag::Answered, Some(status)) = (record.tag, answer) {
                record.status(&status)?;
            }
        }
        Body::Acquire { reign, token, .. } if client => {
            record.tag = pick(Tag::Asked, Tag::Held, Tag::Unanswered);
            if record.tag == Tag::Held {
                record.numbers(reign, None, token.map(|t| t.0))?;
            }
        }
        Body::Write { token, .. } | Body::Run { token, .. } if client => {
            record.tag = pick(Tag::WriteAsked, Tag::Written, Tag::Unwritten);
            if record.tag == Tag::Written {
                record.numbers(None, None, token.map(|t| t.0))?;
            }
        }
        Body::Stored { token, .. } => {
            record.tag = Tag::Stored;
            record.numbers(None, None, Some(token.0))?;
        }
        Body::Rejected { token, .. } => {
            record.tag = Tag::Refused;
            record.numbers(None, None, Some(token.0))?;
        }
        Body::Next { id, .. } if client => {
            record.tag = pick(Tag::IdAsked, Tag::IdEnded, Tag::IdEnded);
            match event.kind {
                Kind::Ok => record.numbers(None, id, None)?,
                Kind::Info => record.flags = LEADS,
                Kind::Invoke | Kind::Fail => {}
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(record))
}

impl Record {
    fn status(&mut self, status: &Status) -> Result<(), String> {
        self.numbers(status.reign, status.epoch.map(|e| e.0), status.token.map(|t| t.0))?;
        if status.role == Role::Leader {
            self.flags |= LEADS;
        }
        Ok(())
    }

    fn numbers(&mut self, reign: Option<Reign>, epoch: Option<u64>, token: Option<u64>) -> Result<(), String> {
        if let Some(Reign(reign)) = reign {
            let short = u32::try_from(reign);
            self.reign = short.map_err(|_| format!("reign {reign} does not fit 32 bits: judge the history itself"))?;
            self.flags |= REIGN;
        }
        if let Some(epoch) = epoch {
            self.epoch = epoch;
            self.flags |= EPOCH;
        }
        if let Some(token) = token {
            self.token = token;
            self.flags |= TOKEN;
        }
        Ok(())
    }
}

/// Reads a file block by block, in bounded memory.
#[derive(Debug)]
pub struct Reader<R> {
    /// The history's first line.
    pub header: Header,
    input: R,
    buffer: Vec<u8>,
    /// The whole records of this block end here, and what was read of the next one ends there.
    whole: usize,
    filled: usize,
}

/// Bytes that are read at once: what a core keeps close.
const BLOCK: usize = 256 << 10;
/// No header is longer.
const MAX_HEADER: u32 = 64 << 20;

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(mut input: R) -> Result<Reader<R>, String> {
        let mut start = [0; 16];
        let short = |e: io::Error| format!("no header: {e}");
        input.read_exact(&mut start).map_err(short)?;
        let number = |at: usize| u32::from_le_bytes(*start[at..].first_chunk().expect("there are 16 bytes"));
        if start[..8] != MAGIC {
            return Err("no compact history: it does not begin with SBLEADER".to_string());
        }
        if number(8) != VERSION {
            let version = number(8);
            return Err(format!("version {version} is not the {VERSION} that this build reads"));
        }
        let length = number(12);
        if length > MAX_HEADER {
            return Err(format!("a header of {length} bytes is longer than any"));
        }
        let padded = (16 + length as usize).next_multiple_of(RECORD) - 16;
        let mut json = Vec::new();
        let read = (&mut input).take(padded as u64).read_to_end(&mut json).map_err(short)?;
        if read < padded {
            return Err("no header: the file ends in it".to_string());
        }
        let header = serde_json::from_slice(&json[..length as usize]).map_err(|e| format!("no header: {e}"))?;
        Ok(Reader {
            header,
            input,
            buffer: vec![0; BLOCK],
            whole: 0,
            filled: 0,
        })
    }

    /// The next records, none at the end. What follows the last whole record is left out.
    pub fn block(&mut self) -> io::Result<&[Raw]> {
        self.buffer.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        self.whole = 0;
        while self.filled < RECORD {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(&[]),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let (records, rest) = self.buffer[..self.filled].as_chunks();
        self.whole = self.filled - rest.len();
        Ok(records)
    }

    /// Bytes after the last whole record: the file was cut off.
    pub fn torn(&self) -> usize {
        self.filled - self.whole
    }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
