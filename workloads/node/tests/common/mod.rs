//! Members in threads of this process, with pipes for standard streams, and control at the other end.
#![allow(dead_code, missing_docs)]
use anyhow::Result;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Name, Op, Outcome, Unasked};
use splitbrain_node::stdio::Stdio;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Generous: only a failing test waits this long.
pub const LONG: Duration = Duration::from_secs(30);

pub fn name(n: usize) -> Name {
    Name::numbered("n", n)
}

pub fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Must be called in a runtime.
pub fn tokio_listener(listener: std::net::TcpListener) -> TcpListener {
    TcpListener::from_std(listener).unwrap()
}

/// A process, as a thread.
pub struct Child {
    input: Option<PipeWriter>,
    said: mpsc::Receiver<Line>,
    thread: JoinHandle<Result<()>>,
    next_id: u64,
    /// Events that were said while an answer was awaited.
    pub events: Vec<Unasked>,
}

impl Child {
    /// Runs `process` on a runtime in a thread of its own.
    pub fn spawn<F, P>(process: F) -> Child
    where
        F: FnOnce(Stdio) -> P + Send + 'static,
        P: Future<Output = Result<()>>,
    {
        let (stdin, input) = std::io::pipe().unwrap();
        let (output, stdout) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async { process(Stdio::over(stdin, stdout)).await })
        });
        Child {
            input: Some(input),
            said: read(output),
            thread,
            next_id: 1,
            events: Vec::new(),
        }
    }

    /// Asks without waiting; the id.
    pub fn submit(&mut self, op: Op) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Request { id, op }).unwrap();
        line.push(b'\n');
        // A process that has ended reads no more; who waits for the answer will notice.
        let _ = self.input.as_mut().unwrap().write_all(&line);
        id
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, op: Op) -> Outcome {
        let asked = self.submit(op);
        loop {
            match self.line().expect("an answer") {
                Line::Answer { id, outcome } if id == asked => return outcome,
                Line::Answer { .. } => {}
                Line::Event(event) => self.events.push(event),
            }
        }
    }

    /// The next line; `None` when the process has closed its output.
    pub fn line(&mut self) -> Option<Line> {
        match self.said.recv_timeout(LONG) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing was said for {LONG:?}"),
        }
    }

    /// Closes standard input, and waits for the end.
    pub fn end(mut self) -> Result<()> {
        drop(self.input.take());
        join(self.thread)
    }

    /// Waits for the end without closing anything; how it ended, and what else it said.
    pub fn wait(self) -> (Result<()>, Vec<Line>) {
        let ended = join(self.thread);
        drop(self.input);
        (ended, self.said.iter().collect())
    }
}

/// As `JoinHandle::join`, for a while.
fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    let began = Instant::now();
    while !thread.is_finished() {
        assert!(began.elapsed() < LONG, "the process did not end in {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join().unwrap()
}

/// Reads lines in a thread, so that a test can give up on a silent process.
fn read(output: PipeReader) -> mpsc::Receiver<Line> {
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let line = Line::parse(line.unwrap().as_bytes()).unwrap();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    said
}
