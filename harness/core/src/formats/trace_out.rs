//! Writing Chrome's trace events, which browsers and Perfetto show as a timeline.
//!
//! A client is a thread, and an operation a bar on it (`ph` X) from invocation to completion, written when it completes.
//! One whose end is unknown, or missing, begins (`B`) and never ends: viewers draw it to the end. What others say is an
//! instant (`i`) across all threads. Times are in microseconds; where a history has none, each event takes one.
use super::json_out::{kind, put};
use super::{OpEvent, Speaker, Value};
use crate::event::Kind;
use crate::line::quoted;
use crate::time::Nanos;
use std::collections::BTreeMap;

/// What is known of operations that have not ended.
#[derive(Default)]
pub(super) struct Trace {
    open: BTreeMap<i64, Asked>,
    seen: u64,
}

struct Asked {
    at: Nanos,
    event: OpEvent,
}

impl Trace {
    /// Writes what `event` completes, each on a line of its own with a comma before it.
    pub(super) fn event(&mut self, out: &mut Vec<u8>, event: &OpEvent) {
        let at = event.time.unwrap_or(Nanos::micros(self.seen));
        self.seen += 1;
        let Speaker::Client(client) = event.process else {
            return instant(out, event, at, b"\"s\":\"g\"", 0);
        };
        let asked = self.open.remove(&client);
        if event.kind == Kind::Invoke {
            if let Some(asked) = asked {
                bar(out, client, &asked, None, at);
            }
            let event = event.clone();
            self.open.insert(client, Asked { at, event });
            return;
        }
        match asked {
            Some(asked) => bar(out, client, &asked, Some(event), at),
            None => instant(out, event, at, b"\"s\":\"t\"", client),
        }
    }

    /// Writes what never ended.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        for (client, asked) in std::mem::take(&mut self.open) {
            bar(out, client, &asked, None, asked.at);
        }
    }
}

fn micros(out: &mut Vec<u8>, key: &str, time: Nanos) {
    let text = format!(",\"{key}\":{}.{:03}", time.0 / 1000, time.0 % 1000);
    out.extend_from_slice(text.as_bytes());
}

/// `write 3`.
fn name(event: &OpEvent) -> String {
    let mut name = event.f.to_string();
    if event.value != Value::Nil {
        let value = super::edn_out::text(&event.value);
        name.push(' ');
        name.extend(value.chars().take(60));
    }
    name
}

fn bar(out: &mut Vec<u8>, client: i64, asked: &Asked, ended: Option<&OpEvent>, at: Nanos) {
    let known = ended.filter(|event| event.kind != Kind::Info);
    out.extend_from_slice(b",\n{\"name\":");
    quoted(out, &name(known.unwrap_or(&asked.event)));
    out.extend_from_slice(b",\"cat\":");
    quoted(out, ended.map_or("open", |event| kind(event.kind)));
    out.extend_from_slice(if known.is_some() {
        b",\"ph\":\"X\""
    } else {
        b",\"ph\":\"B\""
    });
    micros(out, "ts", asked.at);
    if known.is_some() {
        micros(out, "dur", at.since(asked.at));
    }
    out.extend_from_slice(format!(",\"pid\":1,\"tid\":{client},\"args\":{{\"asked\":").as_bytes());
    put(out, &asked.event.value);
    if let Some(event) = ended {
        out.extend_from_slice(b",\"answered\":");
        put(out, &event.value);
    }
    about(out, ended.unwrap_or(&asked.event));
}

/// The rest of `args`, and the event's end.
fn about(out: &mut Vec<u8>, event: &OpEvent) {
    if let Some(key) = &event.key {
        out.extend_from_slice(b",\"key\":");
        put(out, key);
    }
    if let Some(error) = &event.error {
        out.extend_from_slice(b",\"error\":");
        quoted(out, error);
    }
    out.extend_from_slice(b"}}");
}

fn instant(out: &mut Vec<u8>, event: &OpEvent, at: Nanos, scope: &[u8], thread: i64) {
    let (process, speaker) = match &event.process {
        Speaker::Client(_) => (1, "client"),
        Speaker::Other(name) => (0, &**name),
    };
    out.extend_from_slice(b",\n{\"name\":");
    quoted(out, &name(event));
    out.extend_from_slice(b",\"cat\":");
    quoted(out, speaker);
    out.extend_from_slice(b",\"ph\":\"i\",");
    out.extend_from_slice(scope);
    micros(out, "ts", at);
    out.extend_from_slice(format!(",\"pid\":{process},\"tid\":{thread},\"args\":{{\"value\":").as_bytes());
    put(out, &event.value);
    about(out, event);
}
