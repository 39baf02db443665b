//! A history: a header line, then one event a line.
//!
//! The header makes a history self-contained: schema, seed, plan, hosts and promises stand in it, so that `check` and
//! `report` need nothing else, on any machine, at any later time. It holds no wall-clock time: in simulation the same
//! seed gives the same bytes.
//!
//! A run killed at any moment leaves a history that reads up to its last complete line: what follows the last newline is
//! left out and reported ([`History::torn`]). A complete line that does not parse is an error, with its number: it was
//! not a crash that wrote it.
use crate::event::{Body, Event, Phase};
use crate::line::fixed;
use crate::name::Packed;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::system::HostSpec;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// The version of the history's form that this build writes and reads.
pub const SCHEMA: u32 = 1;
/// The longest line in bytes; a file without newlines is no history, however long.
pub const MAX_LINE: u64 = 16 << 20;

/// A history's first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub splitbrain: u32,
    /// Decides generators, targets and schedule.
    pub seed: u64,
    /// The experiment.
    pub plan: Plan,
    /// Who takes part.
    pub hosts: Vec<HostSpec>,
    /// What the system promises.
    pub promises: Vec<Promise>,
    /// Where it is known from what a host believes ([`crate::System::beliefs`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub beliefs: String,
    /// What is installed, by program, as each says of itself; only where the hosts are this machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("failed to read line {line}: {error}")]
    Io {
        /// From 1.
        line: u64,
        /// From the system.
        error: std::io::Error,
    },
    /// A complete line is malformed.
    #[error("line {line} is malformed: {why}")]
    Malformed {
        /// From 1.
        line: u64,
        /// In words.
        why: String,
    },
    /// There is not even a header.
    #[error("no header line: this is no history, or the run was killed before it wrote one")]
    Empty,
    /// Written by another version.
    #[error("schema {0} is not the {SCHEMA} that this build reads")]
    Schema(u32),
}

/// A whole history in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Its first line.
    pub header: Header,
    /// The others, in order; `events[i].index == i`.
    pub events: Vec<Event>,
    /// Bytes after the last newline, left out: the run was cut off in mid-write.
    pub torn: usize,
}

impl History {
    /// Reads a history up to its last complete line.
    pub fn read(input: impl BufRead) -> Result<History, ReadError> {
        let mut reader = Reader::new(input)?;
        let mut events = Vec::new();
        // Each event is read where it stays.
        loop {
            events.push(Event::blank());
            let event = events.last_mut().expect("one was just put there");
            if !reader.next_event_into(event)? {
                break;
            }
        }
        events.pop();
        Ok(History {
            header: reader.header,
            events,
            torn: reader.torn,
        })
    }

    /// Whether the run reached its end: the last phase is there.
    pub fn is_whole(&self) -> bool {
        matches!(
            self.events.last(),
            Some(Event {
                body: Body::Phase { phase: Phase::End },
                ..
            })
        )
    }
}

/// Reads a history event by event, in memory bounded by its longest line.
pub struct Reader<R> {
    /// The first line.
    pub header: Header,
    /// Bytes after the last newline; known once [`Reader::next_event`] gave `None`.
    pub torn: usize,
    input: R,
    /// The header's, as numbers, which compare faster.
    hosts: Vec<Packed>,
    line: u64,
    next_index: u64,
    last_time: Nanos,
    buffer: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut input: R) -> Result<Reader<R>, ReadError> {
        let mut buffer = Vec::new();
        (&mut input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut buffer)
            .map_err(|error| ReadError::Io { line: 1, error })?;
        if buffer.pop() != Some(b'\n') {
            return Err(ReadError::Empty);
        }
        #[derive(Deserialize)]
        struct Version {
            splitbrain: u32,
        }
        let malformed = |e: serde_json::Error| ReadError::Malformed {
            line: 1,
            why: e.to_string(),
        };
        let version: Version = serde_json::from_slice(&buffer).map_err(malformed)?;
        if version.splitbrain != SCHEMA {
            return Err(ReadError::Schema(version.splitbrain));
        }
        let header: Header = serde_json::from_slice(&buffer).map_err(malformed)?;
        Ok(Reader {
            hosts: header.hosts.iter().map(|host| host.name.packed()).collect(),
            header,
            torn: 0,
            input,
            line: 1,
            next_index: 0,
            last_time: Nanos::ZERO,
            buffer,
        })
    }

    /// The next event, or `None` at the end of the last complete line.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        let mut event = Event::blank();
        Ok(self.next_event_into(&mut event)?.then_some(event))
    }

    /// [`Reader::next_event`] into an event that is there already, which is faster; `false` at the end, and then (as after
    /// an error) the event has no meaning.
    ///
    /// Lines in the order in which we write them are read where they lie in the input's buffer: give it a large one.
    pub fn next_event_into(&mut self, event: &mut Event) -> Result<bool, ReadError> {
        self.line += 1;
        // What cannot be filled is met again, and told, where whole lines are read.
        let buffered = self.input.fill_buf().unwrap_or_default();
        match fixed(buffered, event) {
            Some(len) if buffered.get(len) == Some(&b'\n') && (len as u64) < MAX_LINE => {
                self.input.consume(len + 1);
            }
            _ => {
                if !self.next_line(event)? {
                    return Ok(false);
                }
            }
        }
        self.check(event)?;
        Ok(true)
    }

    /// Reads a line that is in no order we know, or does not lie in one piece.
    #[cold]
    fn next_line(&mut self, event: &mut Event) -> Result<bool, ReadError> {
        let line = self.line;
        self.buffer.clear();
        (&mut self.input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| ReadError::Io { line, error })?;
        match self.buffer.pop() {
            None => return Ok(false),
            Some(b'\n') => {}
            Some(_) if self.buffer.len() as u64 + 1 >= MAX_LINE => {
                return Err(ReadError::Malformed {
                    line,
                    why: format!("longer than {MAX_LINE} bytes"),
                });
            }
            Some(_) => {
                self.torn = self.buffer.len() + 1;
                return Ok(false);
            }
        }
        match event.read_any_order(&self.buffer) {
            Ok(()) => Ok(true),
            Err(e) => Err(self.malformed(e.to_string())),
        }
    }

    fn malformed(&self, why: String) -> ReadError {
        ReadError::Malformed { line: self.line, why }
    }

    /// What holds between an event, those before it and the header.
    #[inline(always)]
    fn check(&mut self, event: &Event) -> Result<(), ReadError> {
        if event.index != self.next_index {
            let (index, next) = (event.index, self.next_index);
            return Err(self.malformed(format!("index {index} where {next} belongs")));
        }
        if event.time < self.last_time {
            let (time, last) = (event.time, self.last_time);
            return Err(self.malformed(format!("time {time} after {last}: times never fall")));
        }
        if let Some(host) = event.body.host()
            && !self.hosts.contains(&host.packed())
        {
            return Err(self.malformed(format!("host {host} is not in the header")));
        }
        self.next_index += 1;
        self.last_time = event.time;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> String {
        let plan = Plan::new("raft", "sim");
        let header = Header {
            splitbrain: SCHEMA,
            seed: 7,
            plan,
            hosts: vec![],
            promises: vec![],
            beliefs: String::new(),
            versions: Default::default(),
        };
        serde_json::to_string(&header).unwrap() + "\n"
    }

    const EVENT: &str = r#"{"index":0,"time":1,"process":"control","type":"info","f":"phase","value":{"phase":"end"}}"#;

    #[test]
    fn a_cut_history_reads_to_its_last_complete_line() {
        let whole = header() + EVENT + "\n";
        let history = History::read(whole.as_bytes()).unwrap();
        assert_eq!((history.events.len(), history.torn, history.is_whole()), (1, 0, true));
        let second = EVENT.replace(r#""index":0"#, r#""index":1"#);
        for cut in 1..second.len() {
            let history = History::read((whole.clone() + &second[..cut]).as_bytes()).unwrap();
            assert_eq!((history.events.len(), history.torn), (1, cut));
        }
    }

    #[test]
    fn a_malformed_line_is_named() {
        let text = header() + EVENT + "\nrubbish\n";
        assert!(
            History::read(text.as_bytes())
                .unwrap_err()
                .to_string()
                .starts_with("line 3 is malformed")
        );
        let text = header() + EVENT + "\n" + EVENT + "\n";
        assert!(
            History::read(text.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("index 0 where 1 belongs")
        );
        assert!(matches!(History::read(&b""[..]), Err(ReadError::Empty)));
    }

    #[test]
    fn time_never_falls_and_hosts_are_known() {
        let second = EVENT.replace(r#""index":0,"time":1"#, r#""index":1,"time":0"#);
        let text = header() + EVENT + "\n" + &second + "\n";
        assert!(
            History::read(text.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("times never fall")
        );
        let stranger = r#"{"index":0,"time":1,"process":"n9","type":"info","f":"ready","value":{"host":"n9"}}"#;
        let text = header() + stranger + "\n";
        assert!(
            History::read(text.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("n9 is not in the header")
        );
    }

    #[test]
    fn another_schema_is_refused_by_number() {
        let text = header().replace(r#""splitbrain":1"#, r#""splitbrain":9"#);
        assert!(matches!(History::read(text.as_bytes()), Err(ReadError::Schema(9))));
    }
}
