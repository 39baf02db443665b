//! The JSON lines that a candidate speaks on its standard streams.
//!
//! One request or answer or event a line, in UTF-8, at most [`MAX_LINE`] bytes:
//!
//! ```text
//! -> {"id":7,"op":"observe"}          <- {"id":7,"ok":{"role":"leader","epoch":5,"token":5,"reign":2,"leader":"n1"}}
//! -> {"id":8,"op":"write","value":41} <- {"id":8,"ok":{"token":5,"seq":1093}}
//!                                     <- {"id":8,"fail":{"reason":"stale-token"}}
//!                                     <- {"id":8,"info":{"reason":"storage timed out"}}
//!                                     <- {"event":"ready"}
//!                                     <- {"event":"elected","epoch":6,"token":6,"reign":3}
//!                                     <- {"event":"deposed","reign":3,"why":"lease lost"}
//! ```
//!
//! A candidate says `ready` once, when it can answer; it answers each id once, in any order. The storage speaks the
//! same form, events only (`ready`, `stored`, `rejected`).
//! What comes from a host is hostile until parsed: [`Line::parse`] is total, and bounds what it keeps of bad input.
use crate::name::Name;
use crate::op::{Answer, Op, Outcome, Role, Status};
use crate::world::Unasked;
use crate::{Epoch, Reign, Token};
use serde::{Deserialize, Serialize};

/// Longest line in bytes, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// A request to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by control; unique in one process's life.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// What a host said in one line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The answer to request `id`.
    Answer {
        /// Of the request.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something nobody asked for.
    Event(Unasked),
}

/// A line that is no word of the protocol.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}: {line:?}")]
pub struct Garbage {
    /// What is wrong with it.
    pub why: String,
    /// Its first 200 characters.
    pub line: String,
}

#[derive(Serialize, Deserialize, Default)]
struct RawOk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reign: Option<Reign>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    value: Option<Option<u64>>,
}

/// `"value":null` is an answer (the register is empty), a missing `value` is none.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    pub fn serialize<S: Serializer>(v: &Option<Option<u64>>, s: S) -> Result<S::Ok, S::Error> {
        v.flatten().serialize(s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<u64>>, D::Error> {
        Option::<u64>::deserialize(d).map(Some)
    }
}

#[derive(Serialize, Deserialize)]
struct RawReason {
    reason: String,
}

#[derive(Serialize, Deserialize, Default)]
struct RawAnswer {
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<RawOk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fail: Option<RawReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<RawReason>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawLine {
    Answer(RawAnswer),
    Event(Unasked),
}

impl RawOk {
    fn from_answer(answer: Answer) -> RawOk {
        match answer {
            Answer::Status(Status {
                role,
                epoch,
                token,
                reign,
                leader,
            }) => RawOk {
                role: Some(role),
                epoch,
                token,
                reign,
                leader,
                ..RawOk::default()
            },
            Answer::Written { token, seq } => RawOk {
                token: Some(token),
                seq: Some(seq),
                ..RawOk::default()
            },
            Answer::Value(value) => RawOk {
                value: Some(value),
                ..RawOk::default()
            },
            Answer::Held { reign, token } => RawOk {
                reign: Some(reign),
                token,
                ..RawOk::default()
            },
            Answer::Done => RawOk::default(),
        }
    }

    fn into_answer(self) -> Result<Answer, &'static str> {
        match self {
            RawOk {
                role: Some(role),
                epoch,
                token,
                reign,
                leader,
                ..
            } => {
                let status = Status {
                    role,
                    epoch,
                    token,
                    reign,
                    leader,
                };
                if role == Role::Leader && reign.is_none() {
                    return Err("a leader must name its reign");
                }
                Ok(Answer::Status(status))
            }
            RawOk {
                seq: Some(seq),
                token: Some(token),
                ..
            } => Ok(Answer::Written { token, seq }),
            RawOk {
                seq: Some(_),
                token: None,
                ..
            } => Err("a write's answer must name its token"),
            RawOk { value: Some(value), .. } => Ok(Answer::Value(value)),
            RawOk {
                reign: Some(reign),
                token,
                ..
            } => Ok(Answer::Held { reign, token }),
            _ => Ok(Answer::Done),
        }
    }
}

impl Line {
    /// Reads one line, without its newline.
    pub fn parse(line: &[u8]) -> Result<Line, Garbage> {
        let garbage = |why: String| Garbage {
            why,
            line: String::from_utf8_lossy(line).chars().take(200).collect(),
        };
        if line.len() > MAX_LINE {
            return Err(garbage(format!(
                "a line of {} bytes, over the {MAX_LINE} allowed",
                line.len()
            )));
        }
        let raw: RawLine =
            serde_json::from_slice(line).map_err(|e| garbage(format!("no word of the candidate protocol ({e})")))?;
        match raw {
            RawLine::Event(event) => Ok(Line::Event(event)),
            RawLine::Answer(RawAnswer {
                id,
                ok: Some(ok),
                fail: None,
                info: None,
            }) => {
                let answer = ok.into_answer().map_err(|e| garbage(e.to_string()))?;
                Ok(Line::Answer {
                    id,
                    outcome: Outcome::Ok(answer),
                })
            }
            RawLine::Answer(RawAnswer {
                id,
                ok: None,
                fail: Some(f),
                info: None,
            }) => Ok(Line::Answer {
                id,
                outcome: Outcome::Fail(bounded(f.reason)),
            }),
            RawLine::Answer(RawAnswer {
                id,
                ok: None,
                fail: None,
                info: Some(i),
            }) => Ok(Line::Answer {
                id,
                outcome: Outcome::Info(bounded(i.reason)),
            }),
            RawLine::Answer(_) => Err(garbage("an answer must have exactly one of ok, fail and info".into())),
        }
    }

    /// Writes one line, without its newline.
    pub fn to_json(&self) -> String {
        let json = match self {
            Line::Event(event) => serde_json::to_string(event),
            Line::Answer { id, outcome } => {
                let mut raw = RawAnswer {
                    id: *id,
                    ..RawAnswer::default()
                };
                match outcome {
                    Outcome::Ok(answer) => raw.ok = Some(RawOk::from_answer(*answer)),
                    Outcome::Fail(reason) => raw.fail = Some(RawReason { reason: reason.clone() }),
                    Outcome::Info(reason) => raw.info = Some(RawReason { reason: reason.clone() }),
                }
                serde_json::to_string(&raw)
            }
        };
        json.expect("plain data always becomes JSON")
    }
}

fn bounded(reason: String) -> String {
    if reason.len() <= 200 {
        reason
    } else {
        reason.chars().take(200).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) {
        let parsed = Line::parse(line.as_bytes()).unwrap();
        assert_eq!(parsed.to_json(), line);
    }

    #[test]
    fn the_words_of_the_protocol_come_back_as_they_went() {
        check(r#"{"id":7,"ok":{"role":"leader","epoch":5,"token":5,"reign":2,"leader":"n1"}}"#);
        check(r#"{"id":7,"ok":{"role":"follower"}}"#);
        check(r#"{"id":8,"ok":{"token":5,"seq":1093}}"#);
        check(r#"{"id":8,"ok":{"value":null}}"#);
        check(r#"{"id":8,"ok":{"value":4}}"#);
        check(r#"{"id":8,"ok":{"token":5,"reign":2}}"#);
        check(r#"{"id":8,"ok":{}}"#);
        check(r#"{"id":8,"fail":{"reason":"stale-token"}}"#);
        check(r#"{"id":8,"info":{"reason":"storage timed out"}}"#);
        check(r#"{"event":"ready"}"#);
        check(r#"{"event":"elected","epoch":6,"token":6,"reign":3}"#);
        check(r#"{"event":"elected","reign":3}"#);
        check(r#"{"event":"deposed","reign":3,"why":"lease lost"}"#);
        check(r#"{"event":"stored","seq":1,"token":2,"value":9,"base":0,"by":"n1"}"#);
    }

    #[test]
    fn garbage_is_named_and_bounded() {
        for bad in [
            "",
            "hello",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":1,"ok":{},"fail":{"reason":"x"}}"#,
            r#"{"id":1,"ok":{"role":"leader"}}"#,
            r#"{"id":1,"ok":{"seq":4}}"#,
            "\u{1b}[31m",
            r#"{"event":"crowned"}"#,
        ] {
            assert!(Line::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = vec![b'x'; MAX_LINE + 1];
        assert!(Line::parse(&long).unwrap_err().line.len() <= 200);
    }

    #[test]
    fn requests_read_as_the_design_writes_them() {
        let json = serde_json::to_string(&Request {
            id: 8,
            op: Op::Write { value: 41 },
        })
        .unwrap();
        assert_eq!(json, r#"{"id":8,"op":"write","value":41}"#);
    }
}
