//! A file line by line, in memory bounded by the longest line that may be.
use crate::history::{MAX_LINE, ReadError};
use std::io::{BufRead, Read};

/// Lines with their numbers.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    buffer: Vec<u8>,
    /// Whether the last line had no newline.
    pub(super) unended: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Lines<R> {
        Lines {
            input,
            number: 0,
            buffer: Vec::new(),
            unended: false,
        }
    }

    /// The next line with its number, without newline, carriage return and byte order mark.
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        self.buffer.clear();
        self.number += 1;
        let line = self.number;
        (&mut self.input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| ReadError::Io { line, error })?;
        match self.buffer.last() {
            None => return Ok(None),
            Some(b'\n') => {
                self.buffer.pop();
            }
            Some(_) if self.buffer.len() as u64 >= MAX_LINE => {
                let why = format!("longer than {MAX_LINE} bytes");
                return Err(ReadError::Malformed { line, why });
            }
            Some(_) => self.unended = true,
        }
        let mut text = self.buffer.as_slice();
        if line == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        Ok(Some((line, text.strip_suffix(b"\r").unwrap_or(text))))
    }
}
