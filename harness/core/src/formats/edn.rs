//! Histories in EDN, as Jepsen and Knossos write them.
//!
//! ```text
//! [{:process 0, :type :invoke, :f :write, :value 3, :index 0, :time 12}   ; a comment
//!  {:process :nemesis, :type :info, :f :start, :value nil}]
//! ```
//!
//! One vector or list of maps, or maps one after another (the key-value logs: a map a line). Comments, discarded forms
//! (`#_`), metadata (`^`) and tags (`#jepsen.history.Op`) are skipped; a tagged form reads as the form. Keys may be
//! keywords, strings or symbols; those of no use here are skipped with whatever stands behind them.
//!
//! What values become: `nil`, booleans and whole numbers (with `N` or `+`, up to 64 bits) themselves; keywords, symbols
//! and characters their names; other numbers their spellings, so that two that differ never become one; vectors, lists
//! and sets a list in the order of writing; a map the list of its pairs.
//!
//! Caveats: a file that ends between two events is only without its bracket: it reads, and [`super::Reader::cut_off`]
//! says so. One that ends within an event is refused. Depth and size of an event are bounded.
use super::fields::{Field, Fields};
use super::source::{CUT, Source};
use super::{OpEvent, Value};
use crate::history::ReadError;
use std::io::BufRead;

/// How deep forms may stand in each other.
const MAX_DEPTH: u32 = 100;

/// Where the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was read yet.
    Begin,
    /// In the one vector or list, that this byte closes.
    Within(u8),
    /// Among maps that nothing surrounds.
    Bare,
    /// Behind the vector or list.
    Behind,
}

/// Reads event by event.
pub(super) struct Reader<R> {
    source: Source<R>,
    place: Place,
    /// Whether the closing bracket is missing.
    pub(super) cut_off: bool,
}

/// The first form of a text, and where what is behind it begins.
pub(super) fn first(text: &str) -> Result<(Value, usize), String> {
    let mut reader = Reader::new(text.as_bytes());
    match reader.form(0) {
        Ok(value) => Ok((value, reader.source.taken())),
        Err(ReadError::Malformed { why, .. }) if why == CUT => Err("the value has no end in this line".to_string()),
        Err(ReadError::Malformed { why, .. }) => Err(why),
        Err(other) => Err(other.to_string()),
    }
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Reader<R> {
        Reader {
            source: Source::new(input),
            place: Place::Begin,
            cut_off: false,
        }
    }

    pub(super) fn next_event(&mut self) -> Result<Option<OpEvent>, ReadError> {
        if self.place == Place::Begin {
            self.source.skip_mark()?;
        }
        loop {
            self.source.begin();
            self.blank(0)?;
            let Some(byte) = self.source.peek()? else {
                self.cut_off = matches!(self.place, Place::Within(_));
                return Ok(None);
            };
            match (byte, self.place) {
                (_, Place::Behind) => return Err(self.wrong("the file's end expected behind the history")),
                (b'[', Place::Begin) => self.enter(b']'),
                (b'(', Place::Begin) => self.enter(b')'),
                (close, Place::Within(bracket)) if close == bracket => {
                    self.source.bump();
                    self.place = Place::Behind;
                }
                (b'{' | b'#' | b'^', _) => {
                    if self.place == Place::Begin {
                        self.place = Place::Bare;
                    }
                    return self.event().map(Some);
                }
                _ => return Err(self.wrong("an event's '{' expected")),
            }
        }
    }

    fn enter(&mut self, close: u8) {
        self.source.bump();
        self.place = Place::Within(close);
    }

    fn wrong(&mut self, what: &str) -> ReadError {
        self.source.wrong(what)
    }

    fn event(&mut self) -> Result<OpEvent, ReadError> {
        self.prefixes(0)?;
        self.source.begin();
        let line = self.source.line();
        if self.source.peek()? != Some(b'{') {
            return Err(self.wrong("an event's '{' expected"));
        }
        self.source.bump();
        let mut fields = Fields::default();
        loop {
            self.blank(0)?;
            if self.source.need()? == b'}' {
                self.source.bump();
                break;
            }
            let field = self.key()?;
            self.blank(0)?;
            if self.source.need()? == b'}' {
                return Err(self.wrong("a value expected behind a key"));
            }
            let value = self.form(1)?;
            if let Some(field) = field {
                fields
                    .put(field, value)
                    .map_err(|why| ReadError::Malformed { line, why })?;
            }
        }
        fields
            .event(line, |value| super::edn_out::text(value).into())
            .map_err(|why| ReadError::Malformed { line, why })
    }

    /// A key of an event; keywords, which nearly all are, without making a text of them.
    fn key(&mut self) -> Result<Option<Field>, ReadError> {
        if self.source.peek()? == Some(b':') {
            let name = self.source.token()?;
            return Ok(Field::named(&name[1..]));
        }
        Ok(match self.form(1)? {
            Value::Text(name) => Field::named(&name),
            _ => None,
        })
    }

    /// Tags and metadata before a form.
    fn prefixes(&mut self, depth: u32) -> Result<(), ReadError> {
        loop {
            self.blank(depth)?;
            match self.source.peek()? {
                Some(b'^') => {
                    self.source.bump();
                    self.form(depth + 1)?;
                }
                Some(b'#') => self.tag()?,
                _ => return Ok(()),
            }
        }
    }

    /// Blanks, commas, comments and discarded forms.
    fn blank(&mut self, depth: u32) -> Result<(), ReadError> {
        loop {
            match self.source.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | 0x0b | 0x0c) => self.source.bump(),
                Some(b';') => self.source.skip_line()?,
                Some(b'#') if self.source.second()? == Some(b'_') => {
                    self.source.bump();
                    self.source.bump();
                    self.form(depth + 1)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn form(&mut self, depth: u32) -> Result<Value, ReadError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("forms nested deeper than {MAX_DEPTH}, none")));
        }
        loop {
            self.blank(depth)?;
            return match self.source.need()? {
                b'"' => self.source.string().map(|text| Value::Text(text.into())),
                b'\\' => self.source.character().map(|c| Value::Text(c.to_string().into())),
                b'[' => self.list(b']', depth),
                b'(' => self.list(b')', depth),
                b'{' => self.map(depth),
                b'^' => {
                    self.source.bump();
                    self.form(depth + 1)?;
                    continue;
                }
                b'#' => match self.source.second()? {
                    Some(b'{') => {
                        self.source.bump();
                        self.list(b'}', depth)
                    }
                    Some(b'"') => {
                        self.source.bump();
                        self.source.pattern().map(|text| Value::Text(text.into()))
                    }
                    Some(b'#') => self.source.token().map(|token| Value::Text(token.into())),
                    _ => {
                        self.tag()?;
                        continue;
                    }
                },
                b']' | b')' | b'}' => Err(self.wrong("a value expected")),
                b'@' | b'`' | b'~' => Err(self.wrong("data expected, not code,")),
                _ => self.atom(),
            };
        }
    }

    fn tag(&mut self) -> Result<(), ReadError> {
        self.source.bump();
        let byte = self.source.need()?;
        if !byte.is_ascii_alphabetic() && byte != b':' {
            return Err(self.wrong("a tag expected behind '#'"));
        }
        self.source.token().map(drop)
    }

    fn list(&mut self, close: u8, depth: u32) -> Result<Value, ReadError> {
        self.source.bump();
        let mut all = Vec::new();
        loop {
            self.blank(depth)?;
            if self.source.need()? == close {
                self.source.bump();
                return Ok(Value::List(all));
            }
            all.push(self.form(depth + 1)?);
        }
    }

    fn map(&mut self, depth: u32) -> Result<Value, ReadError> {
        self.source.bump();
        let mut pairs = Vec::new();
        loop {
            self.blank(depth)?;
            if self.source.need()? == b'}' {
                self.source.bump();
                return Ok(Value::List(pairs));
            }
            let key = self.form(depth + 1)?;
            self.blank(depth)?;
            if self.source.need()? == b'}' {
                return Err(self.wrong("a value expected behind a key"));
            }
            let value = self.form(depth + 1)?;
            pairs.push(Value::List(vec![key, value]));
        }
    }

    fn atom(&mut self) -> Result<Value, ReadError> {
        let token = self.source.token()?;
        let spelled = || Value::Text(token.into());
        Ok(match token {
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            ":" => return Err(self.wrong("a keyword's name expected before")),
            _ if token.starts_with(':') => Value::Text(token[1..].into()),
            _ if !looks_like_number(token) => spelled(),
            _ => match number(token) {
                Some(n) => Value::Int(n),
                None if is_number(token) => spelled(),
                None => {
                    let why = format!("'{}' is no number", token.chars().take(40).collect::<String>());
                    return Err(self.source.malformed(why));
                }
            },
        })
    }
}

fn looks_like_number(token: &str) -> bool {
    let bare = token.strip_prefix(['+', '-']).unwrap_or(token);
    bare.starts_with(|c: char| c.is_ascii_digit())
}

/// A whole number of at most 64 bits.
fn number(token: &str) -> Option<i64> {
    let digits = token.strip_suffix('N').unwrap_or(token);
    let bare = digits.trim_start_matches(['+', '-']);
    // Clojure reads a leading zero as octal: such a spelling stays text.
    if bare.len() > 1 && bare.starts_with('0') {
        return None;
    }
    digits.parse().ok()
}

/// Whether it spells a number of any kind that Clojure has: `12N`, `1/2`, `1.5e-3M`, `0x1f`, `36rZZ`.
fn is_number(token: &str) -> bool {
    let bare = token.strip_prefix(['+', '-']).unwrap_or(token);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let some = |text: &str| !text.is_empty() && digits(text);
    let rest = bare.trim_start_matches(|c: char| c.is_ascii_digit());
    let mut all = rest.chars();
    match all.next() {
        None => true,
        Some('/') => some(all.as_str()),
        Some('x' | 'X') => bare.len() > 2 && all.all(|c| c.is_ascii_hexdigit()),
        Some('r' | 'R') => !all.as_str().is_empty() && all.all(|c| c.is_ascii_alphanumeric()),
        Some(_) => {
            let rest = rest.strip_suffix(['M', 'N']).unwrap_or(rest);
            let (fraction, exponent) = rest.split_once(['e', 'E']).map_or((rest, "0"), |(f, e)| (f, e));
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            some(exponent) && (fraction.is_empty() || fraction.starts_with('.') && digits(&fraction[1..]))
        }
    }
}
