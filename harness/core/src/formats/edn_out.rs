//! Writing EDN that Jepsen, Knossos and Elle read: one vector, a map a line.
//!
//! Names become keywords where they can be keywords. Texts in values become strings, because a register may hold any;
//! only in transactions (`:f :txn`, `[[:append x 1] [:r y nil]]`) the first of each step is a keyword, which Elle
//! expects.
use super::{OpEvent, Speaker, Value};
use crate::event::Kind;
use crate::line::quoted;

/// A value in EDN.
pub(super) fn text(value: &Value) -> String {
    let mut out = Vec::new();
    put(&mut out, value);
    String::from_utf8(out).expect("made of texts")
}

/// One event as a map, which is the `index`-th from 0.
pub(super) fn event(out: &mut Vec<u8>, index: u64, event: &OpEvent) {
    out.extend_from_slice(format!("{{:index {index}, ").as_bytes());
    if let Some(time) = event.time {
        out.extend_from_slice(format!(":time {}, ", time.0).as_bytes());
    }
    out.extend_from_slice(b":process ");
    match &event.process {
        Speaker::Client(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Speaker::Other(name) => word(out, name),
    }
    out.extend_from_slice(match event.kind {
        Kind::Invoke => b", :type :invoke, :f ",
        Kind::Ok => b", :type :ok, :f ",
        Kind::Fail => b", :type :fail, :f ",
        Kind::Info => b", :type :info, :f ",
    });
    word(out, &event.f);
    if let Some(key) = &event.key {
        out.extend_from_slice(b", :key ");
        put(out, key);
    }
    out.extend_from_slice(b", :value ");
    match &event.value {
        Value::List(steps) if &*event.f == "txn" => list(out, steps, step),
        value => put(out, value),
    }
    if let Some(error) = &event.error {
        out.extend_from_slice(b", :error ");
        quoted(out, error);
    }
    out.push(b'}');
}

/// A keyword, or a string if it cannot be one.
fn word(out: &mut Vec<u8>, name: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_*+!?.<>=".contains(&b);
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(plain) {
        out.push(b':');
        out.extend_from_slice(name.as_bytes());
    } else {
        quoted(out, name);
    }
}

/// One step of a transaction.
fn step(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::List(parts) if matches!(parts.first(), Some(Value::Text(_))) => {
            let mut first = true;
            list(out, parts, |out, part| match part {
                Value::Text(name) if std::mem::take(&mut first) => word(out, name),
                part => put(out, part),
            });
        }
        value => put(out, value),
    }
}

fn list(out: &mut Vec<u8>, all: &[Value], mut each: impl FnMut(&mut Vec<u8>, &Value)) {
    out.push(b'[');
    for (n, value) in all.iter().enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        each(out, value);
    }
    out.push(b']');
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Text(text) => quoted(out, text),
        Value::List(all) => list(out, all, put),
    }
}
