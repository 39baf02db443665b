//! What processes read and write, as bytes under way between them and control.
//!
//! Each stream has a thread of its own that blocks where its process does, so that one process that reads nothing, or
//! writes without end, holds up nobody else. What bounds them is said in [`super::proto`]: a thread reads no more of a
//! process's output than control has granted and leaves the rest in the pipe, where it stops the process; and of what
//! control writes no more than [`WINDOW`] bytes wait here, for control gets a grant only for what the process has read.
//!
//! Bytes for a stream that is not there any more, or never was, are dropped and granted anew: their process is dead, and
//! control learns that in another way.
use super::proto::{FromHost, MAX_DATA, WINDOW, send, send_data};
use crate::local::helper;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};

/// The way to control. Frames of several threads do not mix.
#[derive(Clone)]
pub(super) struct Out(Arc<Mutex<File>>);

impl Out {
    pub fn new(file: File) -> Out {
        Out(Arc::new(Mutex::new(file)))
    }

    /// Sends a message. Where nobody takes it any more, this process ends, and the guard heals the host.
    pub fn send(&self, message: &FromHost) {
        let mut file = self.0.lock().expect("no holder panics");
        if let Err(error) = send(&mut *file, message) {
            super::serve::abandon(&format!("control takes no answers: {error}"));
        }
    }

    fn data(&self, number: u32, bytes: &[u8]) {
        let mut file = self.0.lock().expect("no holder panics");
        if let Err(error) = send_data(&mut *file, number, bytes) {
            super::serve::abandon(&format!("control takes no output: {error}"));
        }
    }
}

/// All streams, by number.
pub(super) struct Streams {
    out: Out,
    all: Mutex<BTreeMap<u32, Stream>>,
}

#[derive(Clone)]
enum Stream {
    Output(Arc<Grant>),
    Input(Arc<Inbox>),
}

/// Bytes that may still be sent.
struct Grant {
    bytes: Mutex<u32>,
    more: Condvar,
}

/// Bytes that the process is still to read.
struct Inbox {
    waiting: Mutex<Waiting>,
    change: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Streams {
    pub fn new(out: Out) -> Streams {
        Streams {
            out,
            all: Mutex::default(),
        }
    }

    /// Sends all that is read from `pipe`, then says that it was all.
    pub fn carry_output(self: &Arc<Streams>, number: u32, pipe: OwnedFd) -> io::Result<()> {
        let grant = Arc::new(Grant {
            bytes: Mutex::new(WINDOW),
            more: Condvar::new(),
        });
        self.add(number, Stream::Output(Arc::clone(&grant)))?;
        let streams = Arc::clone(self);
        let mut pipe = File::from(pipe);
        let work = move || {
            let mut buffer = vec![0; MAX_DATA];
            loop {
                let most = grant.wait().min(MAX_DATA);
                match pipe.read(&mut buffer[..most]) {
                    Ok(0) => break,
                    Ok(got) => {
                        grant.spend(got);
                        streams.out.data(number, &buffer[..got]);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            streams.remove(number);
            streams.out.send(&FromHost::Closed { stream: number });
        };
        helper(&format!("from {number}"), work).map(drop)
    }

    /// Writes all that control sends for this stream into `pipe`.
    pub fn carry_input(self: &Arc<Streams>, number: u32, pipe: OwnedFd) -> io::Result<()> {
        let inbox = Arc::new(Inbox {
            waiting: Mutex::default(),
            change: Condvar::new(),
        });
        self.add(number, Stream::Input(Arc::clone(&inbox)))?;
        let streams = Arc::clone(self);
        let mut pipe = File::from(pipe);
        let work = move || {
            while let Some(bytes) = inbox.next() {
                let written = pipe.write_all(&bytes);
                streams.grant(number, bytes.len());
                if written.is_err() {
                    break;
                }
            }
            streams.remove(number);
            // What came in between the last write and the removal.
            let rest = inbox.waiting.lock().expect("no holder panics").bytes.len();
            streams.grant(number, rest);
        };
        helper(&format!("to {number}"), work).map(drop)
    }

    /// Control has sent bytes of a stream. An error means that it has sent more than it may.
    pub fn incoming(&self, number: u32, bytes: &[u8]) -> Result<(), String> {
        let all = self.all.lock().expect("no holder panics");
        let Some(Stream::Input(inbox)) = all.get(&number) else {
            drop(all);
            self.grant(number, bytes.len());
            return Ok(());
        };
        // With the table locked, so that the stream's thread cannot end in between and forget these bytes.
        let mut waiting = inbox.waiting.lock().expect("no holder panics");
        if waiting.bytes.len() + bytes.len() > WINDOW as usize {
            return Err(format!("more than {WINDOW} bytes for stream {number} without a grant"));
        }
        waiting.bytes.extend(bytes);
        inbox.change.notify_one();
        Ok(())
    }

    /// Control takes so many bytes more.
    pub fn granted(&self, number: u32, bytes: u32) {
        if let Some(Stream::Output(grant)) = self.all.lock().expect("no holder panics").get(&number) {
            let mut left = grant.bytes.lock().expect("no holder panics");
            *left = left.saturating_add(bytes);
            grant.more.notify_one();
        }
    }

    /// Control writes no more to this stream.
    pub fn close(&self, number: u32) {
        if let Some(Stream::Input(inbox)) = self.all.lock().expect("no holder panics").get(&number) {
            inbox.waiting.lock().expect("no holder panics").closed = true;
            inbox.change.notify_one();
        }
    }

    fn add(&self, number: u32, stream: Stream) -> io::Result<()> {
        let mut all = self.all.lock().expect("no holder panics");
        if all.contains_key(&number) {
            return Err(io::Error::other(format!("stream {number} is in use")));
        }
        all.insert(number, stream);
        Ok(())
    }

    fn remove(&self, number: u32) {
        self.all.lock().expect("no holder panics").remove(&number);
    }

    fn grant(&self, stream: u32, bytes: usize) {
        if bytes > 0 {
            let bytes = u32::try_from(bytes).expect("at most a window");
            self.out.send(&FromHost::Credit { stream, bytes });
        }
    }
}

impl Grant {
    /// How many bytes may be sent, once it is any.
    fn wait(&self) -> usize {
        let left = self.bytes.lock().expect("no holder panics");
        *self.more.wait_while(left, |left| *left == 0).expect("no holder panics") as usize
    }

    fn spend(&self, bytes: usize) {
        *self.bytes.lock().expect("no holder panics") -= u32::try_from(bytes).expect("at most what was granted");
    }
}

impl Inbox {
    /// The next bytes to write; `None` once there are no more to come.
    fn next(&self) -> Option<Vec<u8>> {
        let waiting = self.waiting.lock().expect("no holder panics");
        let idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.closed;
        let mut waiting = self.change.wait_while(waiting, idle).expect("no holder panics");
        let most = waiting.bytes.len().min(MAX_DATA);
        let bytes: Vec<u8> = waiting.bytes.drain(..most).collect();
        (!bytes.is_empty()).then_some(bytes)
    }
}
