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

    /// The name that `bytes` start with, and how many they are; `None`: they do not start with a name and a quote.
    #[inline(always)]
    pub(crate) fn before_quote(bytes: &[u8]) -> Option<(Name, usize)> {
        let mut room = [0; Name::MAX_LEN];
        let mut len = 0;
        loop {
            match *bytes.get(len)? {
                b'"' => break,
                byte @ b'a'..=b'z' => *room.get_mut(len)? = byte,
                byte @ (b'0'..=b'9' | b'-') if len > 0 => *room.get_mut(len)? = byte,
                _ => return None,
            }
            len += 1;
        }
        let name = Name {
            bytes: room,
            len: len as u8,
        };
        (len > 0).then_some((name, len))
    }

    /// A name from a prefix and a number: `numbered("n", 1)` is `n1`. Panics if the result is no name.
    pub fn numbered(prefix: &str, n: usize) -> Name {
        format!("{prefix}{n}").parse().expect("prefix and number make a name")
    }
}

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
