//! What processes on other machines read and write, as control holds it.
//!
//! Bytes that came wait here until somebody reads them, never more than was granted to the host; bytes for a process are
//! sent only as far as the host has granted. So neither side's connection is ever held up by a process or by its reader.
use super::line::{Line, Wake};
use crate::agent::proto::{MAX_DATA, ToHost, WINDOW};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes that are granted at once, so that a stream of small frames costs no grant for each.
const GRANT: u32 = WINDOW / 4;

/// A host's streams, by number.
#[derive(Default)]
pub(super) struct Streams {
    pub inputs: BTreeMap<u32, Inlet>,
    pub outputs: BTreeMap<u32, Outlet>,
    pub logs: BTreeMap<u32, Log>,
}

/// A process's standard input.
pub(super) struct Inlet {
    /// Bytes that may be sent.
    credit: usize,
    /// Nobody reads it any more.
    pub closed: bool,
}

/// A process's standard output.
#[derive(Default)]
pub(super) struct Outlet {
    waiting: VecDeque<u8>,
    /// All was read of it.
    closed: bool,
}

/// What a process complains of.
pub(super) struct Log {
    file: File,
    /// Came and not yet granted anew.
    taken: u32,
}

/// What is to be done about bytes that came.
pub(super) enum Came {
    /// The host may send so many more.
    Grant(u32),
    /// Nothing.
    Nothing,
    /// The host sent more than it was granted.
    TooMuch,
}

impl Streams {
    pub fn open(&mut self, first: u32, protocol: bool, log: File) {
        if protocol {
            let inlet = Inlet {
                credit: WINDOW as usize,
                closed: false,
            };
            self.inputs.insert(first, inlet);
            self.outputs.insert(first + 1, Outlet::default());
        }
        self.logs.insert(first + 2, Log { file: log, taken: 0 });
    }

    pub fn forget(&mut self, first: u32) {
        self.inputs.remove(&first);
        self.outputs.remove(&(first + 1));
        self.logs.remove(&(first + 2));
    }

    /// Takes bytes in.
    pub fn came(&mut self, number: u32, bytes: &[u8]) -> Came {
        if let Some(log) = self.logs.get_mut(&number) {
            // A full disk at control costs the log, not the run.
            let _ = log.file.write_all(bytes);
            log.taken += u32::try_from(bytes.len()).expect("frames are shorter");
            if log.taken < GRANT {
                return Came::Nothing;
            }
            return Came::Grant(std::mem::take(&mut log.taken));
        }
        let Some(outlet) = self.outputs.get_mut(&number) else {
            return Came::Nothing;
        };
        if outlet.waiting.len() + bytes.len() > WINDOW as usize {
            return Came::TooMuch;
        }
        outlet.waiting.extend(bytes);
        Came::Nothing
    }

    /// The host may be sent so many bytes more.
    pub fn granted(&mut self, number: u32, bytes: u32) {
        if let Some(inlet) = self.inputs.get_mut(&number) {
            inlet.credit = inlet.credit.saturating_add(bytes as usize);
        }
    }

    /// All was read of an output, or an input is read no more.
    pub fn closed(&mut self, number: u32) {
        self.logs.remove(&number);
        if let Some(outlet) = self.outputs.get_mut(&number) {
            outlet.closed = true;
        }
        if let Some(inlet) = self.inputs.get_mut(&number) {
            inlet.closed = true;
        }
    }
}

/// Control's end of a process's standard input.
pub(super) struct Input {
    pub line: Arc<Line>,
    pub number: u32,
}

impl Input {
    /// Waits until some bytes may be sent: how many, at most.
    fn room(&self) -> io::Result<usize> {
        let mut state = self.line.lock();
        loop {
            let inlet = state.streams.inputs.get(&self.number).filter(|inlet| !inlet.closed);
            let Some(inlet) = inlet.filter(|_| state.lost.is_none()) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            if inlet.credit > 0 {
                return Ok(inlet.credit.min(MAX_DATA));
            }
            state = self.line.changed.wait(state).expect("no holder panics");
        }
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let length = self.room()?.min(bytes.len());
        if let Some(inlet) = self.line.lock().streams.inputs.get_mut(&self.number) {
            inlet.credit -= length;
        }
        self.line.send_data(self.number, &bytes[..length])?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let inlet = self.line.lock().streams.inputs.remove(&self.number);
        if inlet.is_some_and(|inlet| !inlet.closed) {
            let _ = self.line.send(&ToHost::Close { stream: self.number });
        }
    }
}

/// Control's end of a process's standard output.
pub(super) struct Output {
    pub line: Arc<Line>,
    pub number: u32,
    /// Read and not yet granted anew.
    pub taken: u32,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.line.lock();
        let length = loop {
            let lost = state.lost.is_some();
            let Some(outlet) = state.streams.outputs.get_mut(&self.number) else {
                return Ok(0);
            };
            let length = outlet.waiting.read(buffer)?;
            if length > 0 || outlet.closed || lost || buffer.is_empty() {
                break length;
            }
            state = self.line.changed.wait(state).expect("no holder panics");
        };
        drop(state);
        self.taken += u32::try_from(length).expect("a window is shorter");
        if self.taken >= GRANT {
            self.line.wake(Wake::Grant(self.number, self.taken));
            self.taken = 0;
        }
        Ok(length)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.line.lock().streams.outputs.remove(&self.number);
    }
}
