//! JSON Lines: an operation's event as an object a line.
//!
//! ```text
//! {"process":0,"type":"invoke","f":"cas","value":[1,2],"key":"x","time":1200}
//! ```
//!
//! The keys stand in any order, and keys that are not of the form are skipped. A `process` that is a number is a client;
//! one that is a text is a nemesis or the like, and asks nothing. A file whose last object is incomplete is refused: its
//! writer did not mean it to end there, and an object that was cut off cannot be told from one that is wrong.
use super::OpEvent;
use super::fields::{Field, Fields};
use super::lines::Lines;
use crate::history::ReadError;
use crate::json::{Cursor, Wrong};
use std::io::BufRead;

/// Reads event by event.
pub(super) struct Reader<R>(Lines<R>);

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Reader<R> {
        Reader(Lines::new(input))
    }

    pub(super) fn next_event(&mut self) -> Result<Option<OpEvent>, ReadError> {
        while let Some((line, text)) = self.0.next_line()? {
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let event = event(line, text).map_err(|why| ReadError::Malformed { line, why })?;
            return Ok(Some(event));
        }
        Ok(None)
    }
}

fn event(line: u64, text: &[u8]) -> Result<OpEvent, Wrong> {
    let mut fields = Fields::default();
    let mut error = "";
    let mut cursor = Cursor::new(text);
    cursor.object(|cursor, key| {
        let begin = cursor.at();
        let value = cursor.value()?;
        let Some(field) = Field::named(&key) else { return Ok(()) };
        if field == Field::Error {
            error = std::str::from_utf8(&text[begin..cursor.at()]).unwrap_or_default();
        }
        fields.put(field, value)
    })?;
    cursor.end()?;
    fields.event(line, |_| error.into())
}
