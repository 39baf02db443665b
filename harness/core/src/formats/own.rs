//! Our own history as a history of operations.
//!
//! The register's `get`, `set` and `cas` become the `read`, `write` and `cas` that models know; every other operation keeps
//! its name. Their values, in an invocation what was asked and in a completion what was answered:
//!
//! - `read` and `next`: what was read or handed out, nil while it is not known (or if there is nothing);
//! - `write` what was written, `cas` `[from to]`, `run` the job's number;
//! - `acquire`: the fencing token that came with the lock, nil if none did; `campaign`, `resign`, `release`: nil;
//! - `observe`: nil, and when answered `[role epoch token reign leader]`.
//!
//! What is no operation keeps who spoke and its name, with what it says in words or numbers.
//!
//! Caveats: the storage's `read` and `write` have the same names as the register's; no workload asks for both.
use super::{OpEvent, Speaker, Value};
use crate::event::{Body, Event, Process};
use crate::history::{self, ReadError};
use crate::name::Name;
use crate::op::{Role, Status};
use std::io::BufRead;

/// Reads event by event.
pub(super) struct Reader<R> {
    pub(super) history: history::Reader<R>,
    event: Event,
    line: u64,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Result<Reader<R>, ReadError> {
        Ok(Reader {
            history: history::Reader::new(input)?,
            event: Event::blank(),
            line: 1,
        })
    }

    pub(super) fn next_event(&mut self) -> Result<Option<OpEvent>, ReadError> {
        if !self.history.next_event_into(&mut self.event)? {
            return Ok(None);
        }
        self.line += 1;
        let mut event = OpEvent::from(&self.event);
        event.line = self.line;
        Ok(Some(event))
    }
}

impl From<&Event> for OpEvent {
    /// The event in the words of Jepsen's histories; `line` is 0.
    fn from(event: &Event) -> OpEvent {
        let (f, value) = said(&event.body);
        OpEvent {
            line: 0,
            time: Some(event.time),
            process: match event.process {
                Process::Client(n) => Speaker::Client(i64::from(n)),
                Process::Host(name) => Speaker::Other(name.as_str().into()),
                Process::Nemesis => Speaker::Other("nemesis".into()),
                Process::Control => Speaker::Other("control".into()),
            },
            kind: event.kind,
            f: f.into(),
            key: None,
            value,
            error: event.error.as_deref().map(Box::from),
        }
    }
}

/// A number beyond 63 bits keeps its spelling.
fn number(n: u64) -> Value {
    i64::try_from(n).map_or_else(|_| text(&n.to_string()), Value::Int)
}

fn maybe(n: Option<u64>) -> Value {
    n.map_or(Value::Nil, number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn name(name: Name) -> Value {
    text(name.as_str())
}

fn said(body: &Body) -> (&'static str, Value) {
    match body {
        Body::Observe { answer, .. } => ("observe", answer.as_ref().map_or(Value::Nil, status)),
        Body::Write { value, .. } => ("write", number(*value)),
        Body::Read { value, .. } | Body::Get { value, .. } => ("read", maybe(*value)),
        Body::Set { value, .. } => ("write", number(*value)),
        Body::Cas { from, to, .. } => ("cas", Value::List(vec![maybe(*from), number(*to)])),
        Body::Campaign { .. } => ("campaign", Value::Nil),
        Body::Resign { .. } => ("resign", Value::Nil),
        Body::Next { id, .. } => ("next", maybe(*id)),
        Body::Run { job, .. } => ("run", number(*job)),
        Body::Acquire { token, .. } => ("acquire", maybe(token.map(|token| token.0))),
        Body::Release { .. } => ("release", Value::Nil),
        _ => noted(body),
    }
}

fn noted(body: &Body) -> (&'static str, Value) {
    match body {
        Body::Elected {
            host,
            epoch,
            token,
            reign,
        } => {
            let epoch = maybe(epoch.known().map(|epoch| epoch.0));
            let token = maybe(token.map(|token| token.0));
            ("elected", Value::List(vec![name(*host), epoch, token, number(reign.0)]))
        }
        Body::Deposed { host, reign, .. } => ("deposed", Value::List(vec![name(*host), number(reign.0)])),
        Body::Applied { host, index, term, .. } => {
            ("applied", Value::List(vec![name(*host), number(*index), number(*term)]))
        }
        Body::Stored {
            seq, token, value, by, ..
        } => {
            let all = vec![number(*seq), number(token.0), number(*value), name(*by)];
            ("stored", Value::List(all))
        }
        Body::Rejected { token, value, by, .. } => (
            "rejected",
            Value::List(vec![number(token.0), number(*value), name(*by)]),
        ),
        Body::Started { host, .. } => ("started", name(*host)),
        Body::Ready { host } => ("ready", name(*host)),
        Body::Exited { how, .. } => ("exited", text(how)),
        Body::Garbage { what, .. } => ("garbage", text(what)),
        Body::Fault(step) => ("fault", text(&step.what)),
        Body::Heal(step) => ("heal", text(&step.what)),
        Body::Aim { why, .. } => ("aim", text(why)),
        Body::Phase { phase } => ("phase", text(&format!("{phase:?}").to_lowercase())),
        Body::Aborted { why } => ("aborted", text(why)),
        other => unreachable!("an operation is told above: {other:?}"),
    }
}

fn status(status: &Status) -> Value {
    let role = match status.role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
    };
    Value::List(vec![
        text(role),
        maybe(status.epoch.map(|epoch| epoch.0)),
        maybe(status.token.map(|token| token.0)),
        maybe(status.reign.map(|reign| reign.0)),
        status.leader.map_or(Value::Nil, name),
    ])
}
