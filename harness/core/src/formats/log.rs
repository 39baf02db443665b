//! Jepsen's text log: the operations among everything else that a run says.
//!
//! ```text
//! INFO  jepsen.util - 0   :invoke :write  3
//! 2026-01-31 12:00:00,123{GMT}    INFO    [jepsen worker 3] jepsen.util: 3    :info   :write  4   :timed-out
//! ```
//!
//! (with tabs between the fields). An operation is a field that ends with a number or keyword, followed by a field that
//! is a keyword: who, and `:invoke`, `:ok`, `:fail` or `:info`. Every other line is skipped; but a line that has this
//! form, a client's number and another keyword in the type's place is refused, because a skipped operation would make others
//! look wrong. Where a line has no tabs, blanks stand for them.
//!
//! What follows the value is the error. Old logs put `:timed-out` in the value's place: a keyword alone in a client's
//! `:fail` or `:info` is an error, and the value, which the invocation had, is nil.
//!
//! Caveats: nothing marks the end of a value, so a last line without a newline is read as it stands, and
//! [`super::Reader::cut_off`] says so.
use super::edn;
use super::fields::kind;
use super::lines::Lines;
use super::{OpEvent, Speaker, Value};
use crate::event::Kind;
use crate::history::ReadError;
use std::io::BufRead;

/// Reads event by event.
pub(super) struct Reader<R> {
    lines: Lines<R>,
    /// Whether the last line was an operation without a newline.
    pub(super) cut_off: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Reader<R> {
        Reader {
            lines: Lines::new(input),
            cut_off: false,
        }
    }

    pub(super) fn next_event(&mut self) -> Result<Option<OpEvent>, ReadError> {
        while let Some((line, text)) = self.lines.next_line()? {
            let malformed = |why| ReadError::Malformed { line, why };
            if let Some(found) = find(text) {
                let event = found.event(line).map_err(malformed)?;
                self.cut_off = self.lines.unended;
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

/// A line with the form of an operation.
struct Found<'a> {
    process: Speaker,
    /// Without its colon.
    kind: &'a [u8],
    /// What follows.
    rest: &'a [u8],
    tab: bool,
}

fn find(text: &[u8]) -> Option<Found<'_>> {
    let tab = text.contains(&b'\t');
    let is_break = |byte: &u8| if tab { *byte == b'\t' } else { *byte == b' ' };
    let mut from = 0;
    while let Some(gap) = text[from..].iter().position(is_break).map(|at| from + at) {
        let kind = gap + text[gap..].iter().take_while(|byte| is_break(byte)).count();
        from = kind;
        let Some(after) = text[kind..].strip_prefix(b":") else {
            continue;
        };
        let before = &text[..gap];
        let begin = before
            .iter()
            .rposition(|byte| byte.is_ascii_whitespace())
            .map_or(0, |at| at + 1);
        let Some(process) = speaker(&before[begin..]) else {
            continue;
        };
        let end = after.iter().position(is_break).unwrap_or(after.len());
        let (kind, rest) = after.split_at(end);
        // A number, a tab and a keyword are an operation, if need be with a wrong type; in other places a colon says less.
        let sure = tab && matches!(process, Speaker::Client(_));
        let behind = rest.trim_ascii_start();
        if sure || matches!(kind, b"invoke" | b"ok" | b"fail" | b"info") && (tab || behind.starts_with(b":")) {
            return Some(Found {
                process,
                kind,
                rest,
                tab,
            });
        }
    }
    None
}

fn speaker(word: &[u8]) -> Option<Speaker> {
    let word = std::str::from_utf8(word).ok()?;
    if let Some(name) = word.strip_prefix(':') {
        return (!name.is_empty()).then(|| Speaker::Other(name.into()));
    }
    word.parse().ok().map(Speaker::Client)
}

impl Found<'_> {
    fn event(self, line: u64) -> Result<OpEvent, String> {
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_string());
        let is_break = |c: char| if self.tab { c == '\t' } else { c == ' ' };
        let kind = kind(utf8(self.kind)?.trim_end())?;
        let rest = utf8(self.rest)?.trim_start_matches(is_break);
        let (f, rest) = rest.split_once(is_break).unwrap_or((rest, ""));
        let f = match f.trim_end().strip_prefix(':') {
            Some(name) if !name.is_empty() => name,
            _ if matches!(self.process, Speaker::Other(_)) => f.trim_end(),
            _ => return Err("the operation's :f expected behind its type".to_string()),
        };
        let rest = rest.trim();
        let (value, error) = if rest.is_empty() {
            (Value::Nil, "")
        } else {
            self.value(kind, rest)?
        };
        Ok(OpEvent {
            line,
            time: None,
            process: self.process,
            kind,
            f: f.into(),
            key: None,
            value,
            error: (!error.is_empty()).then(|| error.into()),
        })
    }

    /// The value and the error.
    fn value<'t>(&self, kind: Kind, rest: &'t str) -> Result<(Value, &'t str), String> {
        let client = matches!(self.process, Speaker::Client(_));
        let keyword = |text: &'t str| text.strip_prefix(':').unwrap_or(text);
        let failed = matches!(kind, Kind::Fail | Kind::Info);
        if client && failed && rest.starts_with(':') && !rest.contains(char::is_whitespace) {
            return Ok((Value::Nil, keyword(rest)));
        }
        let first = edn::first(rest);
        if !client {
            // What a nemesis says is for people: a value if it is one, else words.
            let whole = first.ok().filter(|(_, behind)| *behind == rest.len());
            return Ok((whole.map_or_else(|| Value::Text(rest.into()), |(value, _)| value), ""));
        }
        let (value, behind) = first?;
        let error = rest[behind..].trim();
        if !error.is_empty() && !failed {
            return Err(format!(
                "the line's end expected behind the value, at '{}'",
                start(error)
            ));
        }
        Ok((value, keyword(error)))
    }
}

fn start(text: &str) -> String {
    text.chars().take(40).collect()
}
