//! A process's standard streams, as control holds them.
//!
//! Reading: lines of at most [`MAX_LINE`] bytes; what is longer is garbage, told as soon as it is too long and kept only at
//! its start. A line that ends without a newline was cut off by its process's death and counts as not said. A process that
//! says more than [`FLOOD`] lines within a second is not read any further: no program under test has so much to say, and the
//! history would fill the disk.
//! Writing: from a thread of its own behind a short queue. A paused process reads nothing; once its pipe and the queue
//! are full, requests to it are dropped, as a network would, and time out.
use super::mailbox::{Item, Mailbox};
use super::{Clock, Latch};
use crate::local::helper;
use splitbrain_core::wire::{Line, MAX_LINE};
use splitbrain_core::{Happening, Name, Nanos};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Most requests that wait for a process to read them, beside those in its pipe.
const WAITING: usize = 256;
/// Garbage lines of one host that are reported; what follows is only drained.
const REPORTED: u32 = 10;

/// Lines a second that no process has to say: the busiest storage says a few thousand.
const FLOOD: u32 = 20_000;

/// Whose stream it is.
pub(super) struct Voice {
    pub host: Name,
    pub life: u32,
    /// Garbage lines of the host so far, in all its lives.
    pub garbage: Arc<AtomicU32>,
}

/// Reads a process's standard output to its end, then opens `done`.
pub(super) fn listen(
    stream: impl Read + Send + 'static,
    voice: Voice,
    clock: Clock,
    mailbox: Arc<Mailbox>,
    done: Arc<Latch>,
) -> io::Result<()> {
    let name = format!("hear {}", voice.host);
    helper(&name, move || {
        let mut lines = Lines::new(stream);
        let (mut second, mut said) = (clock.now(), 0);
        while let Some(line) = lines.next_line() {
            let at = clock.now();
            if at >= second + Nanos::secs(1) {
                (second, said) = (at, 0);
            }
            said += 1;
            let what = match line.and_then(|line| Line::parse(line).map_err(|garbage| garbage.to_string())) {
                _ if said > FLOOD => Happening::Garbage {
                    host: voice.host,
                    what: format!("it floods: more than {FLOOD} lines within a second"),
                },
                Ok(Line::Answer { id, outcome }) => Happening::Completed { id, outcome },
                Ok(Line::Event(what)) => Happening::Said { host: voice.host, what },
                Err(_) if voice.garbage.fetch_add(1, Ordering::Relaxed) >= REPORTED => continue,
                Err(what) => Happening::Garbage { host: voice.host, what },
            };
            let of = Some((voice.host, voice.life));
            if !mailbox.offer(voice.host, Item { at, of, what }) || said > FLOOD {
                break;
            }
        }
        done.open();
    })
    .map(drop)
}

/// Takes lines for a process's standard input, and never waits for it.
#[derive(Clone)]
pub(super) struct Mouth(SyncSender<Vec<u8>>);

impl Mouth {
    /// Writes to `stream` until the process is gone, or all copies of the mouth are.
    pub fn open(mut stream: impl Write + Send + 'static, host: Name) -> io::Result<Mouth> {
        let (sender, lines) = sync_channel::<Vec<u8>>(WAITING);
        helper(&format!("tell {host}"), move || {
            for line in lines {
                if stream.write_all(&line).is_err() {
                    break;
                }
            }
        })?;
        Ok(Mouth(sender))
    }

    /// Hands over a line, or drops it if too many wait.
    pub fn tell(&self, line: Vec<u8>) {
        let _ = self.0.try_send(line);
    }
}

/// Lines of bounded length.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// Whether the rest of the present line is left out.
    skipping: bool,
}

impl<R: Read> Lines<R> {
    pub fn new(input: R) -> Lines<R> {
        Lines {
            input: BufReader::with_capacity(32 * 1024, input),
            line: Vec::new(),
            skipping: false,
        }
    }

    /// After the end: the bytes that came behind the last newline.
    pub fn unfinished(&self) -> usize {
        self.line.len()
    }

    /// The next line without its newline; an error for one that is too long; `None` at the end.
    pub fn next_line(&mut self) -> Option<Result<&[u8], String>> {
        self.line.clear();
        loop {
            let bytes = match self.input.fill_buf() {
                Ok([]) => return None,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..newline.unwrap_or(bytes.len())];
            let used = newline.map_or(bytes.len(), |at| at + 1);
            if self.skipping {
                self.skipping = newline.is_none();
                self.input.consume(used);
                continue;
            }
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.input.consume(used);
            // With its newline it is too long.
            if self.line.len() == MAX_LINE {
                self.skipping = newline.is_none();
                let start = String::from_utf8_lossy(&self.line[..200]);
                return Some(Err(format!("a line over the {MAX_LINE} bytes allowed: {start:?}")));
            }
            if newline.is_some() {
                return Some(Ok(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &[&str]) {
        let mut lines = Lines::new(input);
        let mut got = Vec::new();
        while let Some(line) = lines.next_line() {
            got.push(match line {
                Ok(line) => String::from_utf8_lossy(line).into_owned(),
                Err(why) => why.chars().take(30).collect(),
            });
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn lines_end_with_a_newline() {
        check(b"one\n\ntwo\n", &["one", "", "two"]);
        check(b"one\nsaid by half", &["one"]);
        check(b"", &[]);
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let fits = "x".repeat(MAX_LINE - 1);
        check(format!("{fits}\nafter\n").as_bytes(), &[&fits, "after"]);
        let long = "x".repeat(MAX_LINE);
        check(
            format!("{long}\nafter\n").as_bytes(),
            &["a line over the 65536 bytes al", "after"],
        );
        let huge = "x".repeat(10 * MAX_LINE);
        check(
            format!("{huge}\nafter\n").as_bytes(),
            &["a line over the 65536 bytes al", "after"],
        );
    }

    #[test]
    fn a_mouth_never_waits() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mouth = Mouth::open(Stuck, "n1".parse().unwrap()).unwrap();
        for _ in 0..10 * WAITING {
            mouth.tell(vec![0; 100]);
        }
    }
}
