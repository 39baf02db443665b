//! Writing JSON Lines: an event an object a line.
use super::{OpEvent, Speaker, Value};
use crate::event::Kind;
use crate::line::quoted;

/// As `type` says it.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}

/// One event as an object.
pub(super) fn event(out: &mut Vec<u8>, event: &OpEvent) {
    out.extend_from_slice(b"{\"process\":");
    match &event.process {
        Speaker::Client(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Speaker::Other(name) => quoted(out, name),
    }
    out.extend_from_slice(b",\"type\":");
    quoted(out, kind(event.kind));
    out.extend_from_slice(b",\"f\":");
    quoted(out, &event.f);
    if let Some(key) = &event.key {
        out.extend_from_slice(b",\"key\":");
        put(out, key);
    }
    out.extend_from_slice(b",\"value\":");
    put(out, &event.value);
    if let Some(time) = event.time {
        out.extend_from_slice(format!(",\"time\":{}", time.0).as_bytes());
    }
    if let Some(error) = &event.error {
        out.extend_from_slice(b",\"error\":");
        quoted(out, error);
    }
    out.push(b'}');
}

/// A value in JSON.
pub(super) fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Text(text) => quoted(out, text),
        Value::List(all) => {
            out.push(b'[');
            for (n, value) in all.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                put(out, value);
            }
            out.push(b']');
        }
    }
}
