//! One writer for all formats.
use super::trace_out::Trace;
use super::{OpEvent, edn_out, json_out};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// How a history of operations is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A vector of EDN maps, which Jepsen, Knossos and Elle read.
    Edn,
    /// An object a line.
    JsonLines,
    /// Chrome's trace events, for a timeline. It cannot be read back.
    Trace,
}

impl Output {
    /// Every form there is.
    pub const ALL: [Output; 3] = [Output::Edn, Output::JsonLines, Output::Trace];

    /// As command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Output::Edn => "edn",
            Output::JsonLines => "jsonl",
            Output::Trace => "chrome-trace",
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Output {
    type Err = String;
    fn from_str(s: &str) -> Result<Output, String> {
        let found = Output::ALL.into_iter().find(|output| output.name() == s);
        found.ok_or_else(|| {
            let all = Output::ALL.map(Output::name).join(", ");
            format!("'{s}' is no form to write: {all}")
        })
    }
}

/// Writes a history of operations, event by event. Nothing is whole before [`Writer::finish`].
///
/// What is written as EDN or JSON Lines reads back as the same events, but for [`OpEvent::line`], which becomes the line
/// that it stands in, a key that is nil, which is no key, and times of more than 292 years.
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
    written: u64,
    form: Form,
}

enum Form {
    Edn,
    JsonLines,
    Trace(Trace),
}

impl<W: Write> Writer<W> {
    /// Begins to write.
    pub fn new(out: W, output: Output) -> Writer<W> {
        let (form, head): (_, &[u8]) = match output {
            Output::Edn => (Form::Edn, b"["),
            Output::JsonLines => (Form::JsonLines, b""),
            // The first event is this one, so that every other has a comma before it.
            Output::Trace => (
                Form::Trace(Trace::default()),
                b"{\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"clients\"}}",
            ),
        };
        Writer {
            out,
            buffer: head.to_vec(),
            written: 0,
            form,
        }
    }

    /// Writes the next event.
    pub fn event(&mut self, event: &OpEvent) -> io::Result<()> {
        match &mut self.form {
            Form::Edn => {
                if self.written > 0 {
                    self.buffer.extend_from_slice(b"\n ");
                }
                edn_out::event(&mut self.buffer, self.written, event);
            }
            Form::JsonLines => {
                json_out::event(&mut self.buffer, event);
                self.buffer.push(b'\n');
            }
            Form::Trace(trace) => trace.event(&mut self.buffer, event),
        }
        self.written += 1;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// Writes the end, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        match &mut self.form {
            Form::Edn => self.buffer.extend_from_slice(b"]\n"),
            Form::JsonLines => {}
            Form::Trace(trace) => {
                trace.finish(&mut self.buffer);
                self.buffer.extend_from_slice(b"\n]}\n");
            }
        }
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }
}
