//! The bytes of an EDN file, and the tokens in them.
//!
//! One event may take [`MAX_LINE`] bytes and no more, so that a file without an end costs no more memory than the
//! longest line of any other format. Between events nothing is kept, and nothing is counted.
use crate::history::{MAX_LINE, ReadError};
use std::io::BufRead;

/// What is wrong with an event that the file does not hold to its end.
pub(super) const CUT: &str = "the file ends within the event that begins here: take the cut-off event out";

/// A file, byte by byte, with the number of the line.
pub(super) struct Source<R> {
    input: R,
    /// A part of the file.
    chunk: Vec<u8>,
    at: usize,
    /// Bytes of the parts before.
    before: u64,
    line: u64,
    /// Where the event that is being read began: the byte, and the line.
    begin: (u64, u64),
    token: Vec<u8>,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(input: R) -> Source<R> {
        Source {
            input,
            chunk: Vec::new(),
            at: 0,
            before: 0,
            line: 1,
            begin: (0, 1),
            token: Vec::new(),
        }
    }

    /// An event begins here.
    pub(super) fn begin(&mut self) {
        self.begin = (self.before + self.at as u64, self.line);
    }

    /// From 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// How many bytes were taken.
    pub(super) fn taken(&self) -> usize {
        self.before as usize + self.at
    }

    /// That something else is expected than what is next.
    pub(super) fn wrong(&mut self, what: &str) -> ReadError {
        if let Ok(None) = self.peek() {
            return self.cut();
        }
        let found: String = String::from_utf8_lossy(self.chunk.get(self.at..).unwrap_or_default())
            .chars()
            .take_while(|c| !c.is_control())
            .take(20)
            .collect();
        let at = if found.is_empty() {
            "the line's end".to_string()
        } else {
            format!("'{found}'")
        };
        self.malformed(format!("{what} at {at}"))
    }

    pub(super) fn malformed(&self, why: String) -> ReadError {
        ReadError::Malformed { line: self.line, why }
    }

    fn cut(&self) -> ReadError {
        ReadError::Malformed {
            line: self.begin.1,
            why: CUT.to_string(),
        }
    }

    /// Fetches the next part of the file; `false`: there is none.
    #[cold]
    fn refill(&mut self) -> Result<bool, ReadError> {
        let line = self.line;
        let part = self.input.fill_buf().map_err(|error| ReadError::Io { line, error })?;
        self.before += self.chunk.len() as u64;
        self.chunk.clear();
        self.chunk.extend_from_slice(part);
        let got = part.len();
        self.input.consume(got);
        self.at = 0;
        if self.before - self.begin.0.min(self.before) > MAX_LINE {
            return Err(self.malformed(format!("an event is longer than {MAX_LINE} bytes")));
        }
        Ok(got > 0)
    }

    /// The next byte; `None` at the file's end.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        if self.at >= self.chunk.len() && !self.refill()? {
            return Ok(None);
        }
        Ok(self.chunk.get(self.at).copied())
    }

    /// The byte behind the next one.
    pub(super) fn second(&mut self) -> Result<Option<u8>, ReadError> {
        if self.at + 1 < self.chunk.len() {
            return Ok(Some(self.chunk[self.at + 1]));
        }
        let last = self.peek()?;
        if last.is_none() {
            return Ok(None);
        }
        // The part ends between the two: what is left of it becomes the start of the next.
        let line = self.line;
        let part = self.input.fill_buf().map_err(|error| ReadError::Io { line, error })?;
        let next = part.first().copied();
        if next.is_some() {
            self.chunk.push(next.unwrap_or_default());
            self.input.consume(1);
        }
        Ok(next)
    }

    /// The next byte of an event, which must be there.
    pub(super) fn need(&mut self) -> Result<u8, ReadError> {
        self.peek()?.ok_or_else(|| self.cut())
    }

    /// Takes the byte that was peeked at.
    #[inline(always)]
    pub(super) fn bump(&mut self) {
        self.line += u64::from(self.chunk[self.at] == b'\n');
        self.at += 1;
    }

    /// The byte order mark that some editors put at a file's start.
    pub(super) fn skip_mark(&mut self) -> Result<(), ReadError> {
        for byte in *b"\xef\xbb\xbf" {
            if self.peek()? != Some(byte) {
                break;
            }
            self.bump();
        }
        Ok(())
    }

    /// Up to the line's end, however long it is.
    pub(super) fn skip_line(&mut self) -> Result<(), ReadError> {
        while let Some(byte) = self.peek()? {
            if byte == b'\n' {
                return Ok(());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<&str, ReadError> {
        match std::str::from_utf8(&self.token) {
            Ok(_) => {}
            Err(_) => return Err(self.malformed("a text is no UTF-8".to_string())),
        }
        Ok(std::str::from_utf8(&self.token).expect("it was just checked"))
    }

    /// Up to the next blank or bracket; never empty.
    pub(super) fn token(&mut self) -> Result<&str, ReadError> {
        self.token.clear();
        while let Some(byte) = self.peek()? {
            let ends = byte <= b' ' || matches!(byte, b',' | b'"' | b';' | b'(' | b')' | b'[' | b']' | b'{' | b'}');
            if ends && !self.token.is_empty() {
                break;
            }
            self.token.push(byte);
            self.bump();
        }
        self.finish()
    }

    /// A string, from its quote.
    pub(super) fn string(&mut self) -> Result<&str, ReadError> {
        self.bump();
        self.token.clear();
        loop {
            match self.need()? {
                b'"' => break self.bump(),
                b'\\' => {
                    self.bump();
                    let c = self.escape()?;
                    self.token.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte => {
                    self.token.push(byte);
                    self.bump();
                }
            }
        }
        self.finish()
    }

    /// A regular expression, from its quote, as it is spelled.
    pub(super) fn pattern(&mut self) -> Result<&str, ReadError> {
        self.bump();
        self.token.clear();
        loop {
            let byte = self.need()?;
            self.bump();
            if byte == b'"' {
                break;
            }
            self.token.push(byte);
            if byte == b'\\' {
                let next = self.need()?;
                self.token.push(next);
                self.bump();
            }
        }
        self.finish()
    }

    fn escape(&mut self) -> Result<char, ReadError> {
        let c = match self.need()? {
            b't' => '\t',
            b'r' => '\r',
            b'n' => '\n',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b @ (b'"' | b'\\' | b'\'' | b'/') => b as char,
            b'0'..=b'7' => return self.octal(),
            b'u' => {
                self.bump();
                return self.surrogates();
            }
            _ => return Err(self.wrong("an escape expected")),
        };
        self.bump();
        Ok(c)
    }

    /// Up to three octal digits.
    fn octal(&mut self) -> Result<char, ReadError> {
        let mut code = 0;
        for _ in 0..3 {
            match self.need()? {
                digit @ b'0'..=b'7' if code * 8 + u32::from(digit - b'0') < 256 => {
                    code = code * 8 + u32::from(digit - b'0');
                    self.bump();
                }
                _ => break,
            }
        }
        Ok(char::from_u32(code).expect("below 256"))
    }

    /// The four digits behind `\u`, and those of the other half if they are one half of a character.
    fn surrogates(&mut self) -> Result<char, ReadError> {
        let high = self.hex()?;
        let mut code = high;
        if (0xd800..0xdc00).contains(&high) {
            for expected in *b"\\u" {
                if self.need()? != expected {
                    return Err(self.wrong("the other half of a surrogate pair expected"));
                }
                self.bump();
            }
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.wrong("a surrogate pair expected before"));
            }
            code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| self.wrong("a whole surrogate pair expected before"))
    }

    fn hex(&mut self) -> Result<u32, ReadError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = (self.need()? as char).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| self.wrong("four hexadecimal digits expected"))?;
            self.bump();
        }
        Ok(code)
    }

    /// A character, from its backslash: `\a`, `\newline`, `\u0041`.
    pub(super) fn character(&mut self) -> Result<char, ReadError> {
        self.bump();
        self.need()?;
        let name = self.token()?;
        let mut all = name.chars();
        let named = match (all.next(), all.next(), name) {
            (Some(c), None, _) => Some(c),
            (_, _, "newline") => Some('\n'),
            (_, _, "return") => Some('\r'),
            (_, _, "space") => Some(' '),
            (_, _, "tab") => Some('\t'),
            (_, _, "formfeed") => Some('\u{c}'),
            (_, _, "backspace") => Some('\u{8}'),
            _ => {
                let code = |digits, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
                let hex = name.strip_prefix('u').filter(|digits| digits.len() == 4);
                let octal = name.strip_prefix('o').filter(|digits| digits.len() <= 3);
                hex.and_then(|d| code(d, 16)).or_else(|| octal.and_then(|d| code(d, 8)))
            }
        };
        named.ok_or_else(|| self.wrong("a character's name expected before"))
    }
}
