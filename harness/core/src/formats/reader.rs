//! One reader for all formats, and telling them apart.
use super::{OpEvent, edn, json_lines, log, own};
use crate::history::ReadError;
use std::fmt;
use std::io::BufRead;
use std::str::FromStr;

/// How a history of operations is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own history: a header line, then events.
    Own,
    /// Maps of EDN: Jepsen's `history.edn`, Knossos' samples, and logs of key-value stores.
    Edn,
    /// Jepsen's `jepsen.log`.
    JepsenLog,
    /// An object a line.
    JsonLines,
}

impl Format {
    /// Every format there is.
    pub const ALL: [Format; 4] = [Format::Own, Format::Edn, Format::JepsenLog, Format::JsonLines];

    /// As command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Own => "splitbrain",
            Format::Edn => "edn",
            Format::JepsenLog => "jepsen-log",
            Format::JsonLines => "jsonl",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(s: &str) -> Result<Format, String> {
        let found = Format::ALL.into_iter().find(|format| format.name() == s);
        found.ok_or_else(|| {
            let all = Format::ALL.map(Format::name).join(", ");
            format!("'{s}' is no format: {all}")
        })
    }
}

/// Which format a file is in, by its first bytes: some thousands of them, or all that there are. `None`: none of ours.
pub fn detect(start: &[u8]) -> Option<Format> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let behind = |n: usize| start.get(n..).unwrap_or_default().trim_ascii_start();
    match start.first()? {
        b'{' => match behind(1).first() {
            Some(b'"') if behind(1).starts_with(b"\"splitbrain\"") => Some(Format::Own),
            Some(b'"') => Some(Format::JsonLines),
            _ => Some(Format::Edn),
        },
        b';' | b'^' => Some(Format::Edn),
        b'[' | b'(' if matches!(behind(1).first(), None | Some(b'{' | b'#' | b';' | b'^' | b']' | b')')) => {
            Some(Format::Edn)
        }
        b'#' if matches!(start.get(1), Some(b'_' | b'a'..=b'z' | b'A'..=b'Z')) => Some(Format::Edn),
        _ => {
            let has = |word: &[u8]| start.windows(word.len()).any(|window| window == word);
            let log = has(b"INFO") || has(b"jepsen") || has(b":invoke");
            log.then_some(Format::JepsenLog)
        }
    }
}

enum Inner<R> {
    Own(Box<own::Reader<R>>),
    Edn(edn::Reader<R>),
    JepsenLog(log::Reader<R>),
    JsonLines(json_lines::Reader<R>),
}

/// Reads a history of operations, event by event.
///
/// ```
/// use splitbrain_core::formats::{Format, Reader, Speaker};
///
/// let text = "{:process 3, :type :invoke, :f :write, :value 7}";
/// let mut reader = Reader::new(text.as_bytes(), Format::Edn)?;
/// let event = reader.next_event()?.expect("there is one");
/// assert_eq!((event.process, &*event.f), (Speaker::Client(3), "write"));
/// assert!(reader.next_event()?.is_none());
/// # Ok::<(), splitbrain_core::formats::ReadError>(())
/// ```
pub struct Reader<R>(Inner<R>);

impl<R: BufRead> Reader<R> {
    /// Begins to read. Our own history's header is read at once.
    pub fn new(input: R, format: Format) -> Result<Reader<R>, ReadError> {
        Ok(Reader(match format {
            Format::Own => Inner::Own(Box::new(own::Reader::new(input)?)),
            Format::Edn => Inner::Edn(edn::Reader::new(input)),
            Format::JepsenLog => Inner::JepsenLog(log::Reader::new(input)),
            Format::JsonLines => Inner::JsonLines(json_lines::Reader::new(input)),
        }))
    }

    /// The next event, or `None` at the end. After an error there is nothing to be read.
    pub fn next_event(&mut self) -> Result<Option<OpEvent>, ReadError> {
        match &mut self.0 {
            Inner::Own(reader) => reader.next_event(),
            Inner::Edn(reader) => reader.next_event(),
            Inner::JepsenLog(reader) => reader.next_event(),
            Inner::JsonLines(reader) => reader.next_event(),
        }
    }

    /// What shows that the file ends before its writer meant it to; known once [`Reader::next_event`] gave `None`.
    pub fn cut_off(&self) -> Option<&'static str> {
        match &self.0 {
            Inner::Own(reader) if reader.history.torn > 0 => Some("the last line is incomplete, and left out"),
            Inner::Edn(reader) if reader.cut_off => Some("the closing bracket is missing"),
            Inner::JepsenLog(reader) if reader.cut_off => Some("the last line has no newline: its value may be cut"),
            _ => None,
        }
    }
}
