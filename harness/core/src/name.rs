//! The name of a host: short, lower case, and copied like a number.
//!
//! A history of a million events names a host in each of them. Names are therefore at most 15 bytes and live inline:
//! no allocation, no interning table, an order that is the same in every process.
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::str::FromStr;

/// A host's name: 1 to 15 bytes of `[a-z0-9-]`, starting with a letter (`n1`, `c2`, `storage`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    bytes: [u8; 15],
    len: u8,
}

/// Text that is no host name.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{0}' is no name: 1 to 15 of a-z, 0-9 and '-', starting with a letter")]
pub struct BadName(String);

impl Name {
    /// Longest name in bytes.
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len as usize]).expect("a name is ASCII")
    }

    /// Its bytes with what is left of their room, and how many of them count.
    pub(crate) fn parts(&self) -> (&[u8; Name::MAX_LEN], usize) {
        (&self.bytes, self.len as usize)
    }

    /// The name as one number.
    #[inline(always)]
    pub(crate) fn packed(self) -> Packed {
        let mut all = [0; 16];
        all[..Name::MAX_LEN].copy_from_slice(&self.bytes);
        all[Name::MAX_LEN] = self.len;
        Packed(u128::from_le_bytes(all))
    }

    /// A name from a prefix and a number: `numbered("n", 1)` is `n1`. Panics if the result is no name.
    pub fn numbered(prefix: &str, n: usize) -> Name {
        format!("{prefix}{n}").parse().expect("prefix and number make a name")
    }
}

/// A name as one number, which stays in registers where an array of bytes would go through memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed(u128);

impl Packed {
    /// The name that `bytes` start with, and how many they are; `None`: they do not start with a name and a quote.
    #[inline(always)]
    pub(crate) fn before_quote(bytes: &[u8]) -> Option<(Packed, usize)> {
        let Some(chunk) = bytes.first_chunk::<8>() else {
            return Packed::long_before_quote(bytes);
        };
        let word = u64::from_le_bytes(*chunk);
        if !chunk[0].is_ascii_lowercase() {
            return None;
        }
        let mut len = 1;
        let mut rest = word >> 8;
        while IN_NAMES[(rest & 0xff) as usize] {
            len += 1;
            rest >>= 8;
        }
        // Eight bytes of a name leave nothing of the word, as no byte at all does.
        if rest & 0xff != u64::from(b'"') {
            return Packed::long_before_quote(bytes);
        }
        let text = word & ((1 << (8 * len)) - 1);
        Some((Packed(u128::from(text) | (len as u128) << 120), len))
    }

    /// [`Packed::before_quote`] byte by byte.
    #[cold]
    fn long_before_quote(bytes: &[u8]) -> Option<(Packed, usize)> {
        let len = bytes.iter().take(Name::MAX_LEN + 1).position(|&byte| byte == b'"')?;
        let name: Name = std::str::from_utf8(&bytes[..len]).ok()?.parse().ok()?;
        Some((name.packed(), len))
    }

    #[inline(always)]
    pub(crate) fn name(self) -> Name {
        let [bytes @ .., len] = self.0.to_le_bytes();
        Name { bytes, len }
    }
}

/// Which bytes may stand in a name, though not all of them first.
const IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128u8 {
        table[byte as usize] = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        byte += 1;
    }
    table
};

impl FromStr for Name {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Name, BadName> {
        let ok = (1..=Name::MAX_LEN).contains(&s.len())
            && s.as_bytes()[0].is_ascii_lowercase()
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !ok {
            return Err(BadName(s.chars().take(40).collect()));
        }
        let mut bytes = [0; 15];
        bytes[..s.len()].copy_from_slice(s.as_bytes());
        Ok(Name {
            bytes,
            len: s.len() as u8,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(d)?;
        s.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_hurt_a_path_or_a_page() {
        for bad in ["", "N1", "../x", "n 1", "<b>", "1n", "a-name-of-16-char"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert_eq!("n1".parse::<Name>().unwrap().as_str(), "n1");
    }

    #[test]
    fn orders_as_text_does() {
        let [a, b]: [Name; 2] = ["n1", "n2"].map(|s| s.parse().unwrap());
        assert!(a < b);
    }
}
