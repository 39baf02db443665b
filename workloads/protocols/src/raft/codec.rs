//! Messages and records as bytes.
//!
//! A byte string is the postcard form of the value and a CRC32C of it. UDP-like corruption flips bits that TCP's
//! checksum may miss and a nemesis flips on purpose; a flipped bit must lose the message, never change a vote. CRC32C
//! finds every error of up to three bits in messages of this size, and misses others once in four billion. The sum
//! also covers what kind of value it is, so that a record can never be read as a message.
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raft::message::{Message, Record};

/// A value with a byte form of its own.
pub(super) trait Coded: Serialize + DeserializeOwned {
    /// Mixed into the checksum.
    const KIND: u32;
}

impl Coded for Message {
    const KIND: u32 = u32::from_le_bytes(*b"msg1");
}

impl Coded for Record {
    const KIND: u32 = u32::from_le_bytes(*b"rec1");
}

/// The bytes of `value`.
pub(super) fn encode<T: Coded>(value: &T) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(value).expect("plain data always has a byte form");
    let sum = crc32c::crc32c_append(T::KIND, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// The value, or why the bytes are none.
pub(super) fn decode<T: Coded>(bytes: &[u8]) -> Result<T, String> {
    let (payload, sum) = bytes.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
    if crc32c::crc32c_append(T::KIND, payload) != u32::from_le_bytes(*sum) {
        return Err("checksum does not match".into());
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too long", rest.len())),
        Err(e) => Err(format!("unknown form ({e})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log::{Command, Entry, State};
    use crate::raft::message::{Body, Stored};

    fn messages() -> Vec<Message> {
        let entries = vec![
            Entry {
                term: 3,
                command: Command::Cas {
                    from: Some(7),
                    to: u64::MAX,
                },
            };
            3
        ];
        let (last_index, last_term) = (300, 5);
        let body = [
            Body::PreVote { last_index, last_term },
            Body::Vote {
                last_index,
                last_term,
                transfer: true,
            },
            Body::VoteReply { granted: true },
            Body::Append {
                prev_index: 4,
                prev_term: 2,
                entries,
                commit: 4,
                round: 9,
            },
            Body::Snapshot {
                state: State::default(),
                round: 1,
            },
            Body::AppendReply {
                round: 9,
                result: Stored::Conflict { prev: 3, hint: 2 },
            },
            Body::TimeoutNow,
        ];
        body.into_iter().map(|body| Message { term: 7, body }).collect()
    }

    #[test]
    fn messages_come_back_as_they_went() {
        for message in messages() {
            assert_eq!(decode::<Message>(&encode(&message)), Ok(message));
        }
    }

    #[test]
    fn one_or_two_flipped_bits_and_every_cut_are_noticed() {
        for message in messages() {
            let good = encode(&message);
            for i in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[i / 8] ^= 1 << (i % 8);
                assert!(decode::<Message>(&bad).is_err(), "bit {i} of {message:?}");
                let j = (i * 7 + 3) % (good.len() * 8);
                bad[j / 8] ^= 1 << (j % 8);
                assert!(
                    bad == good || decode::<Message>(&bad).is_err(),
                    "bits {i} and {j} of {message:?}"
                );
            }
            for cut in 0..good.len() {
                assert!(decode::<Message>(&good[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_record_is_no_message() {
        let record = encode(&Record::Ballot { term: 1, vote: None });
        assert!(decode::<Message>(&record).is_err());
        assert!(decode::<Record>(&record).is_ok());
    }
}
