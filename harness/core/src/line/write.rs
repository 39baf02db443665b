//! Writing an event as a line.
//!
//! All numbers, names and fixed words of an event fit into [`ROOM`] bytes, so they are put into one buffer on the stack,
//! whose size is checked by the compiler's bounds and not by the growing of a vector, and are appended in one copy. Only
//! free text (a reason, an error) is appended on its own, because only it has no bound.
use crate::event::{Body, Event, Kind, Phase, Process};
use crate::name::Name;
use crate::op::{Role, Status};

/// More than the longest run of fixed words, numbers and names in any event: an observation with every field has under
/// 250 bytes of words, 6 numbers of 20 digits and 3 names of 15 bytes.
const ROOM: usize = 512;

/// `00` to `99`.
const PAIRS: [u8; 200] = pairs();

const fn pairs() -> [u8; 200] {
    let mut table = [0; 200];
    let mut n = 0;
    while n < 100 {
        table[2 * n] = b'0' + (n / 10) as u8;
        table[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    table
}

/// What is written of each byte inside a string: 0 as it is, `u` as `\u00xx`, else a backslash and this.
const ESCAPES: [u8; 256] = escapes();

const fn escapes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
}

/// Appends `text` as a JSON string, quotes included, as serde_json does.
pub(crate) fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut begin = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[begin..at]);
        begin = at + 1;
        if escape == b'u' {
            let hex = |n: u8| b"0123456789abcdef"[n as usize];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', escape]);
        }
    }
    out.extend_from_slice(&bytes[begin..]);
    out.push(b'"');
}

/// A line in the making.
struct Line<'a> {
    room: [u8; ROOM],
    at: usize,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    #[inline(always)]
    fn word<const N: usize>(&mut self, word: &[u8; N]) {
        self.room[self.at..self.at + N].copy_from_slice(word);
        self.at += N;
    }

    #[inline(always)]
    fn number(&mut self, mut n: u64) {
        let len = n.checked_ilog10().map_or(1, |log| log as usize + 1);
        let digits = &mut self.room[self.at..self.at + len];
        self.at += len;
        let mut end = len;
        while end >= 2 {
            let pair = 2 * (n % 100) as usize;
            n /= 100;
            digits[end - 2..end].copy_from_slice(&PAIRS[pair..pair + 2]);
            end -= 2;
        }
        if end == 1 {
            digits[0] = b'0' + n as u8;
        }
    }

    /// All of a name's room is copied, which is one move; what is past its end is overwritten by what follows.
    #[inline(always)]
    fn name(&mut self, name: Name) {
        let (bytes, len) = name.parts();
        self.room[self.at..self.at + Name::MAX_LEN].copy_from_slice(bytes);
        self.at += len;
    }

    #[inline(always)]
    fn field<const N: usize>(&mut self, key: &[u8; N], n: Option<u64>) {
        if let Some(n) = n {
            self.word(key);
            self.number(n);
        }
    }

    fn flush(&mut self) {
        self.out.extend_from_slice(&self.room[..self.at]);
        self.at = 0;
    }

    fn text(&mut self, text: &str) {
        self.flush();
        quoted(self.out, text);
    }

    #[inline(always)]
    fn process(&mut self, process: Process) {
        match process {
            Process::Client(n) => self.number(u64::from(n)),
            Process::Host(name) => {
                self.word(b"\"");
                self.name(name);
                self.word(b"\"");
            }
            Process::Nemesis => self.word(b"\"nemesis\""),
            Process::Control => self.word(b"\"control\""),
        }
    }

    /// `f` and `value` up to the end of the host's name.
    #[inline(always)]
    fn of_host<const N: usize>(&mut self, head: &[u8; N], host: Name) {
        self.word(head);
        self.name(host);
        self.word(b"\"");
    }

    fn status(&mut self, status: &Status) {
        match status.role {
            Role::Leader => self.word(b",\"answer\":{\"role\":\"leader\""),
            Role::Candidate => self.word(b",\"answer\":{\"role\":\"candidate\""),
            Role::Follower => self.word(b",\"answer\":{\"role\":\"follower\""),
        }
        self.field(b",\"epoch\":", status.epoch.map(|epoch| epoch.0));
        self.field(b",\"token\":", status.token.map(|token| token.0));
        self.field(b",\"reign\":", status.reign.map(|reign| reign.0));
        if let Some(leader) = status.leader {
            self.of_host(b",\"leader\":\"", leader);
        }
        self.word(b"}");
    }

    /// What clients ask and candidates answer. `false`: the body is none of these, and nothing was written.
    #[inline(always)]
    fn operation(&mut self, body: &Body) -> bool {
        match *body {
            Body::Observe { host, ref answer } => {
                self.of_host(b",\"f\":\"observe\",\"value\":{\"host\":\"", host);
                if let Some(status) = answer {
                    self.status(status);
                }
            }
            Body::Write {
                host,
                value,
                token,
                seq,
            } => {
                self.of_host(b",\"f\":\"write\",\"value\":{\"host\":\"", host);
                self.field(b",\"value\":", Some(value));
                self.field(b",\"token\":", token.map(|token| token.0));
                self.field(b",\"seq\":", seq);
            }
            Body::Read { host, value } => {
                self.of_host(b",\"f\":\"read\",\"value\":{\"host\":\"", host);
                self.field(b",\"value\":", value);
            }
            Body::Get { host, value } => {
                self.of_host(b",\"f\":\"get\",\"value\":{\"host\":\"", host);
                self.field(b",\"value\":", value);
            }
            Body::Set { host, value } => {
                self.of_host(b",\"f\":\"set\",\"value\":{\"host\":\"", host);
                self.field(b",\"value\":", Some(value));
            }
            Body::Cas { host, from, to } => {
                self.of_host(b",\"f\":\"cas\",\"value\":{\"host\":\"", host);
                match from {
                    Some(_) => self.field(b",\"from\":", from),
                    None => self.word(b",\"from\":null"),
                }
                self.field(b",\"to\":", Some(to));
            }
            _ => return self.rarer_operation(body),
        }
        self.word(b"}");
        true
    }

    fn rarer_operation(&mut self, body: &Body) -> bool {
        match *body {
            Body::Campaign { host } => self.of_host(b",\"f\":\"campaign\",\"value\":{\"host\":\"", host),
            Body::Resign { host } => self.of_host(b",\"f\":\"resign\",\"value\":{\"host\":\"", host),
            Body::Next { host, id } => {
                self.of_host(b",\"f\":\"next\",\"value\":{\"host\":\"", host);
                self.field(b",\"id\":", id);
            }
            Body::Run { host, job, token, seq } => {
                self.of_host(b",\"f\":\"run\",\"value\":{\"host\":\"", host);
                self.field(b",\"job\":", Some(job));
                self.field(b",\"token\":", token.map(|token| token.0));
                self.field(b",\"seq\":", seq);
            }
            Body::Acquire { host, reign, token } => {
                self.of_host(b",\"f\":\"acquire\",\"value\":{\"host\":\"", host);
                self.field(b",\"reign\":", reign.map(|reign| reign.0));
                self.field(b",\"token\":", token.map(|token| token.0));
            }
            Body::Release { host } => self.of_host(b",\"f\":\"release\",\"value\":{\"host\":\"", host),
            _ => return false,
        }
        self.word(b"}");
        true
    }

    /// What hosts say unasked in numbers. `false`: none of these.
    fn said(&mut self, body: &Body) -> bool {
        match *body {
            Body::Elected {
                host,
                epoch,
                token,
                reign,
            } => {
                self.of_host(b",\"f\":\"elected\",\"value\":{\"host\":\"", host);
                self.field(b",\"epoch\":", epoch.known().map(|epoch| epoch.0));
                self.field(b",\"token\":", token.map(|token| token.0));
                self.field(b",\"reign\":", Some(reign.0));
            }
            Body::Applied {
                host,
                index,
                term,
                digest,
            } => {
                self.of_host(b",\"f\":\"applied\",\"value\":{\"host\":\"", host);
                self.field(b",\"index\":", Some(index));
                self.field(b",\"term\":", Some(term));
                self.field(b",\"digest\":", Some(digest));
            }
            Body::Stored {
                seq,
                token,
                value,
                base,
                by,
            } => {
                self.field(b",\"f\":\"stored\",\"value\":{\"seq\":", Some(seq));
                self.field(b",\"token\":", Some(token.0));
                self.field(b",\"value\":", Some(value));
                self.field(b",\"base\":", Some(base));
                self.of_host(b",\"by\":\"", by);
            }
            Body::Rejected {
                token,
                highest,
                value,
                by,
            } => {
                self.field(b",\"f\":\"rejected\",\"value\":{\"token\":", Some(token.0));
                self.field(b",\"highest\":", Some(highest.0));
                self.field(b",\"value\":", Some(value));
                self.of_host(b",\"by\":\"", by);
            }
            Body::Started { host, incarnation } => {
                self.of_host(b",\"f\":\"started\",\"value\":{\"host\":\"", host);
                self.field(b",\"incarnation\":", Some(u64::from(incarnation)));
            }
            Body::Ready { host } => self.of_host(b",\"f\":\"ready\",\"value\":{\"host\":\"", host),
            _ => return false,
        }
        self.word(b"}");
        true
    }

    /// What is said in words. `false`: none of these.
    fn told(&mut self, body: &Body) -> bool {
        match body {
            Body::Deposed { host, reign, why } => {
                self.of_host(b",\"f\":\"deposed\",\"value\":{\"host\":\"", *host);
                self.field(b",\"reign\":", Some(reign.0));
                self.word(b",\"why\":");
                self.text(why);
            }
            Body::Exited { host, how } => {
                self.of_host(b",\"f\":\"exited\",\"value\":{\"host\":\"", *host);
                self.word(b",\"how\":");
                self.text(how);
            }
            Body::Garbage { host, what } => {
                self.of_host(b",\"f\":\"garbage\",\"value\":{\"host\":\"", *host);
                self.word(b",\"what\":");
                self.text(what);
            }
            Body::Phase { phase } => {
                self.word(b",\"f\":\"phase\",\"value\":{\"phase\":");
                match phase {
                    Phase::Setup => self.word(b"\"setup\""),
                    Phase::Faults => self.word(b"\"faults\""),
                    Phase::Heal => self.word(b"\"heal\""),
                    Phase::Recovery => self.word(b"\"recovery\""),
                    Phase::Final => self.word(b"\"final\""),
                    Phase::End => self.word(b"\"end\""),
                }
            }
            Body::Aborted { why } => {
                self.word(b",\"f\":\"aborted\",\"value\":{\"why\":");
                self.text(why);
            }
            _ => return false,
        }
        self.word(b"}");
        true
    }
}

impl Event {
    /// Appends the event as a line of a history, without the newline: the bytes that its `Serialize` writes.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        if matches!(self.body, Body::Fault(_) | Body::Heal(_) | Body::Aim { .. }) {
            return serde_json::to_writer(out, self).expect("plain data always becomes JSON");
        }
        let mut line = Line {
            room: [0; ROOM],
            at: 0,
            out,
        };
        line.field(b"{\"index\":", Some(self.index));
        line.field(b",\"time\":", Some(self.time.0));
        line.word(b",\"process\":");
        line.process(self.process);
        match self.kind {
            Kind::Invoke => line.word(b",\"type\":\"invoke\""),
            Kind::Ok => line.word(b",\"type\":\"ok\""),
            Kind::Fail => line.word(b",\"type\":\"fail\""),
            Kind::Info => line.word(b",\"type\":\"info\""),
        }
        let written = line.operation(&self.body) || line.said(&self.body) || line.told(&self.body);
        assert!(written, "a kind of event that the writer does not know");
        if let Some(error) = &self.error {
            line.word(b",\"error\":");
            line.text(error);
        }
        line.word(b"}");
        line.flush();
    }
}
