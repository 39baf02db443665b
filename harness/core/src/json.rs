//! Reading JSON by hand, from one line at a time.
//!
//! Where a value's type is only known once it is read, a tree has to be built; a derived reader builds one of its own
//! first and then ours from it. This cursor goes over the bytes once. It takes exactly the JSON that serde_json takes
//! (no bare control bytes in strings, no half surrogates, numbers without leading zeros), except that it nests less deep.
//!
//! Caveats: a number that is no `i64` is kept as its spelling, because a float would make one of two ids that differ.
use crate::formats::Value;
use std::borrow::Cow;

/// How deep lists and objects may stand in each other.
pub(crate) const MAX_DEPTH: usize = 100;

/// What is wrong, and at which byte of the line.
pub(crate) type Wrong = String;

/// A place in a line.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn wrong(&self, what: &str) -> Wrong {
        match self.bytes.get(self.at) {
            None => format!("{what} expected, but the line ends"),
            Some(_) => format!("{what} expected at byte {}", self.at + 1),
        }
    }

    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub(crate) fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is next.
    #[inline(always)]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.wrong("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// The end of the line, but for blanks.
    pub(crate) fn end(&mut self) -> Result<(), Wrong> {
        self.blank();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the line")),
        }
    }

    /// A string, borrowed where it has no escapes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Wrong> {
        if !self.take(b'"') {
            return Err(self.wrong("a string"));
        }
        let begin = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(begin).map(Cow::Owned),
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong("the string's end")),
            }
        }
        let text = self.text(begin)?;
        self.at += 1;
        Ok(Cow::Borrowed(text))
    }

    fn text(&self, begin: usize) -> Result<&'a str, Wrong> {
        std::str::from_utf8(&self.bytes[begin..self.at])
            .map_err(|e| format!("UTF-8 expected at byte {}", begin + e.valid_up_to() + 1))
    }

    /// The rest of a string from its first escape on.
    fn escaped(&mut self, begin: usize) -> Result<String, Wrong> {
        let mut text = self.text(begin)?.to_string();
        loop {
            let begin = self.at;
            while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..) = self.peek() {
                self.at += 1;
            }
            text.push_str(self.text(begin)?);
            if self.take(b'"') {
                return Ok(text);
            }
            if !self.take(b'\\') {
                return Err(self.wrong("the string's end"));
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, Wrong> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(b @ (b'"' | b'\\' | b'/')) => b as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex()?;
                let mut code = high;
                if (0xd800..0xdc00).contains(&high) && self.take(b'\\') && self.take(b'u') {
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.wrong("the other half of a surrogate pair"));
                    }
                    code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code).ok_or_else(|| self.wrong("a whole surrogate pair"))?
            }
            _ => {
                self.at -= 1;
                return Err(self.wrong("an escape"));
            }
        })
    }

    fn hex(&mut self) -> Result<u32, Wrong> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| (b as char).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn digits(&mut self) -> Result<(), Wrong> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.wrong("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// A number's spelling, and whether it is whole.
    fn number(&mut self) -> Result<(&'a str, bool), Wrong> {
        let begin = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            self.digits()?;
            whole = false;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
            whole = false;
        }
        Ok((self.text(begin)?, whole))
    }

    /// Any value. An object becomes a list of its pairs.
    pub(crate) fn value(&mut self) -> Result<Value, Wrong> {
        self.nested(0)
    }

    fn nested(&mut self, depth: usize) -> Result<Value, Wrong> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} at byte {}", self.at + 1));
        }
        self.blank();
        Ok(match self.peek() {
            Some(b'"') => Value::Text(self.string()?.into()),
            Some(b'-' | b'0'..=b'9') => {
                let (spelling, whole) = self.number()?;
                let int = if whole { spelling.parse().ok() } else { None };
                int.map_or_else(|| Value::Text(spelling.into()), Value::Int)
            }
            Some(b'n') => self.word(b"null").map(|()| Value::Nil)?,
            Some(b't') => self.word(b"true").map(|()| Value::Bool(true))?,
            Some(b'f') => self.word(b"false").map(|()| Value::Bool(false))?,
            Some(b'[') => Value::List(self.list(depth)?),
            Some(b'{') => {
                let mut pairs = Vec::new();
                self.object(|cursor, key| {
                    let pair = vec![Value::Text(key.into()), cursor.nested(depth + 2)?];
                    pairs.push(Value::List(pair));
                    Ok(())
                })?;
                Value::List(pairs)
            }
            _ => return Err(self.wrong("a value")),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Wrong> {
        self.at += 1;
        let mut all = Vec::new();
        self.blank();
        if self.take(b']') {
            return Ok(all);
        }
        loop {
            all.push(self.nested(depth + 1)?);
            self.blank();
            if self.take(b']') {
                return Ok(all);
            }
            if !self.take(b',') {
                return Err(self.wrong("',' or ']'"));
            }
        }
    }

    /// An object; `field` is given each key and reads its value.
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&mut Cursor<'a>, Cow<'a, str>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        self.blank();
        if !self.take(b'{') {
            return Err(self.wrong("'{'"));
        }
        self.blank();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.blank();
            let key = self.string()?;
            self.blank();
            if !self.take(b':') {
                return Err(self.wrong("':'"));
            }
            self.blank();
            field(self, key)?;
            self.blank();
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.wrong("',' or '}'"));
            }
        }
    }
}
