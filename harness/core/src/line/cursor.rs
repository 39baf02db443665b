//! What both readers of lines are made of.
//!
//! Eight bytes are looked at as one number: which of them are digits, and which the digits' value is, as in Lemire's "Quickly
//! parsing eight digits"; where the first quote is, as in Mycroft's test for a zero byte. Whatever is not as expected is
//! `None`, and the place in the line then has no meaning.
use crate::name::{Name, Packed};

/// What of a line is still to be read.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// From here.
    pub(super) rest: &'a [u8],
}

/// Which of eight bytes are no digits: the high bit of each. (A carry can only mark bytes above one that is marked.)
#[inline(always)]
fn no_digits(bytes: u64) -> u64 {
    let digits = bytes ^ 0x3030_3030_3030_3030;
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
}

/// The value of eight digits, the first in the lowest byte.
#[inline(always)]
fn eight_digits(bytes: u64) -> u64 {
    let ones = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

impl<'a> Line<'a> {
    #[inline(always)]
    pub(super) fn word<const N: usize>(&mut self, word: &[u8; N]) -> Option<()> {
        let (start, rest) = self.rest.split_first_chunk::<N>()?;
        if start != word {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    /// Calls what is not inlined with a copy, so that `rest` itself has no address and stays in registers.
    #[inline(always)]
    pub(super) fn apart<T>(&mut self, call: impl FnOnce(&mut Line<'a>) -> Option<T>) -> Option<T> {
        let mut copy = Line { rest: self.rest };
        let found = call(&mut copy);
        self.rest = copy.rest;
        found
    }

    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<u64> {
        let Some(chunk) = self.rest.first_chunk::<8>() else {
            return self.apart(Line::slow_number);
        };
        let bytes = u64::from_le_bytes(*chunk);
        // Most numbers are short: for one digit or two, asking for each is less work than taking eight.
        let [first, second, third] =
            [bytes as u8, (bytes >> 8) as u8, (bytes >> 16) as u8].map(|b| b.wrapping_sub(b'0'));
        if first > 9 {
            return None;
        }
        if second > 9 {
            self.rest = &self.rest[1..];
            return Some(u64::from(first));
        }
        if first == 0 {
            return None;
        }
        if third > 9 {
            self.rest = &self.rest[2..];
            return Some(u64::from(first) * 10 + u64::from(second));
        }
        let len = (no_digits(bytes).trailing_zeros() / 8) as usize;
        if len == 8 {
            return self.long_number(eight_digits(bytes));
        }
        self.rest = &self.rest[len..];
        Some(eight_digits(bytes << (64 - 8 * len)))
    }

    /// A number of which the first eight digits are known.
    #[inline(always)]
    fn long_number(&mut self, high: u64) -> Option<u64> {
        let Some(chunk) = self.rest[8..].first_chunk::<8>() else {
            return self.apart(Line::slow_number);
        };
        let bytes = u64::from_le_bytes(*chunk);
        match (no_digits(bytes).trailing_zeros() / 8) as usize {
            8 => self.apart(Line::slow_number),
            0 => {
                self.rest = &self.rest[8..];
                Some(high)
            }
            len => {
                self.rest = &self.rest[8 + len..];
                Some(high * POWERS[len] + eight_digits(bytes << (64 - 8 * len)))
            }
        }
    }

    /// A number digit by digit.
    #[cold]
    fn slow_number(&mut self) -> Option<u64> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(len);
        if len == 0 || digits[0] == b'0' && len > 1 {
            return None;
        }
        self.rest = rest;
        digits
            .iter()
            .try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// A name and the quote behind it.
    #[inline(always)]
    pub(super) fn packed(&mut self) -> Option<Packed> {
        let (name, len) = Packed::before_quote(self.rest)?;
        self.rest = self.rest.get(len + 1..)?;
        Some(name)
    }

    #[inline(always)]
    pub(super) fn name(&mut self) -> Option<Name> {
        self.packed().map(Packed::name)
    }

    #[inline(always)]
    pub(super) fn maybe<const N: usize>(&mut self, key: &[u8; N]) -> Option<Option<u64>> {
        if self.word(key).is_none() {
            return Some(None);
        }
        self.number().map(Some)
    }

    #[inline(always)]
    pub(super) fn field<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        self.word(key)?;
        self.number()
    }

    /// A text without escapes, and its quotes.
    #[inline(never)]
    pub(super) fn text(&mut self) -> Option<String> {
        self.word(b"\"")?;
        let len = self
            .rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.word(b"\"")?;
        std::str::from_utf8(text).ok().map(str::to_string)
    }

    #[inline(always)]
    pub(super) fn text_of<const N: usize>(&mut self, key: &[u8; N]) -> Option<String> {
        self.word(key)?;
        self.apart(Line::text)
    }

    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `byte` if it is next.
    #[inline(always)]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.rest = &self.rest[1..];
        }
        there
    }

    #[inline(always)]
    pub(super) fn blank(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// A key of fewer than eight bytes, and its quotes, as one number: the first byte the lowest. A key with an escape is
    /// none that anybody looks for.
    #[inline(always)]
    pub(super) fn short_key(&mut self) -> Option<u64> {
        let behind = self.rest.strip_prefix(b"\"")?;
        let word = match behind.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => last_word(behind),
        };
        let quotes = quotes(word);
        if quotes == 0 {
            return None;
        }
        let len = (quotes.trailing_zeros() / 8) as usize;
        // A last byte of zero would be lost in the number, and an empty key would be nothing.
        if word.to_le_bytes()[len.checked_sub(1)?] == 0 {
            return None;
        }
        self.rest = &behind[len + 1..];
        Some(word & ((1 << (8 * len)) - 1))
    }

    /// A string without escapes, of which nobody has said yet whether it is UTF-8.
    #[inline(always)]
    pub(super) fn plain(&mut self) -> Option<&'a [u8]> {
        if !self.take(b'"') {
            return None;
        }
        let len = self
            .rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.take(b'"').then_some(text)
    }
}

/// Fewer than eight bytes as a number, with zeros behind them.
#[cold]
fn last_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The high bit of each byte that is a quote; exact up to the first of them.
#[inline(always)]
fn quotes(word: u64) -> u64 {
    const EVERY: u64 = 0x0101_0101_0101_0101;
    let zero = word ^ (EVERY * b'"' as u64);
    zero.wrapping_sub(EVERY) & !zero & 0x8080_8080_8080_8080
}
