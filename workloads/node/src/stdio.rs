//! The candidate protocol on standard streams.
//!
//! Two threads stand between the streams and the async loop. Standard input is read by one, because a read from a pipe
//! cannot be cancelled; standard output is written by the other, one write a line, so that the loop goes on while
//! control is slow to read. The queue between is bounded and keeps its order: when it is full, [`Lines::say`] waits, and
//! the candidate stands still as if it were paused. It neither drops a line, which would falsify the history, nor grows
//! without end.
//!
//! The end of standard input means that control is gone, and so does a standard output that nobody reads: the process
//! then ends. Nothing else may be printed on standard output.
use crate::lines;
use crate::log::note;
use serde::Deserialize;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Outcome, Unasked};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the loop.
const REQUESTS: usize = 1024;
/// Lines that may wait for control.
const WAITING: usize = 16 * 1024;
/// How long [`Lines::drain`] waits for control to read what was said.
const DRAIN: Duration = Duration::from_secs(1);

/// Both directions to control.
#[derive(Debug)]
pub struct Stdio {
    /// What control asks; ends when standard input does.
    pub requests: mpsc::Receiver<Request>,
    /// What is said to control.
    pub lines: Lines,
}

impl Stdio {
    /// The process's own standard streams. Call it once.
    pub fn of_process() -> Stdio {
        Stdio::over(std::io::stdin(), std::io::stdout())
    }

    /// Any two streams, each served by a thread of its own; for tests.
    pub fn over(input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> Stdio {
        let (sender, queue) = mpsc::channel(WAITING);
        let lines = Lines { sender };
        std::thread::spawn(move || write_all(queue, output));
        let (request_sender, requests) = mpsc::channel(REQUESTS);
        let refusals = lines.clone();
        std::thread::spawn(move || read_all(input, request_sender, refusals));
        Stdio { requests, lines }
    }
}

/// Control does not read any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

#[derive(Debug)]
struct Job {
    text: String,
    written: Option<oneshot::Sender<()>>,
}

/// The way to control. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Lines {
    sender: mpsc::Sender<Job>,
}

impl Lines {
    /// Queues `line`, after all that was queued before; waits while the queue is full.
    ///
    /// # Errors
    /// Standard output is closed: control is gone.
    pub async fn say(&self, line: &Line) -> Result<(), Closed> {
        self.put(line.to_json(), None).await
    }

    /// As [`Lines::say`] with [`Line::Event`].
    ///
    /// # Errors
    /// Standard output is closed: control is gone.
    pub async fn event(&self, event: Unasked) -> Result<(), Closed> {
        self.say(&Line::Event(event)).await
    }

    /// As [`Lines::say`], and waits until the line is in the pipe, for what must be known before anything else happens.
    ///
    /// # Errors
    /// Standard output is closed: control is gone.
    pub async fn say_through(&self, line: &Line) -> Result<(), Closed> {
        let (written, done) = oneshot::channel();
        self.put(line.to_json(), Some(written)).await?;
        done.await.map_err(|_| Closed)
    }

    /// Waits, for at most a second, until all that was said is in the pipe. For the end of a process.
    pub async fn drain(&self) {
        let (written, done) = oneshot::channel();
        let empty = async {
            if self.put(String::new(), Some(written)).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, empty).await;
    }

    /// Waits until a line could not be written: control is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    async fn put(&self, text: String, written: Option<oneshot::Sender<()>>) -> Result<(), Closed> {
        self.sender.send(Job { text, written }).await.map_err(|_| Closed)
    }
}

/// Ends when every [`Lines`] is gone or `output` is closed; a dropped queue tells the others.
fn write_all(mut queue: mpsc::Receiver<Job>, mut output: impl Write) {
    while let Some(Job { mut text, written }) = queue.blocking_recv() {
        if !text.is_empty() {
            text.push('\n');
            if output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
        if let Some(written) = written {
            let _ = written.send(());
        }
    }
}

fn read_all(mut input: impl Read, requests: mpsc::Sender<Request>, refusals: Lines) {
    let (mut lines, mut buffer) = (lines::Lines::default(), [0; 8192]);
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return note(format_args!("failed to read standard input: {e}")),
        };
        let mut gone = false;
        let fed = lines.feed(&buffer[..n], |line| gone |= take(line, &requests, &refusals).is_err());
        if fed.is_err() {
            return note(format_args!("standard input: a line is too long to be a request"));
        }
        if gone {
            return;
        }
    }
}

/// Passes one line on. One that is no request is refused by its id where it has one: it definitely did not happen.
fn take(line: &[u8], requests: &mpsc::Sender<Request>, refusals: &Lines) -> Result<(), Closed> {
    #[derive(Deserialize)]
    struct Id {
        id: u64,
    }
    let error = match serde_json::from_slice(line) {
        Ok(request) => return requests.blocking_send(request).map_err(|_| Closed),
        Err(e) => e,
    };
    match serde_json::from_slice(line) {
        Ok(Id { id }) => {
            let outcome = Outcome::Fail(format!("unknown request: {error}"));
            let text = Line::Answer { id, outcome }.to_json();
            let job = Job { text, written: None };
            refusals.sender.blocking_send(job).map_err(|_| Closed)
        }
        Err(_) => {
            let start: String = String::from_utf8_lossy(line).chars().take(200).collect();
            note(format_args!("standard input: no request: {start:?}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::Op;
    use std::io::{BufRead, BufReader};

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn requests_come_in_and_the_end_is_told() {
        let input: &[u8] =
            b"{\"id\":1,\"op\":\"observe\"}\nrubbish\n{\"id\":2,\"op\":\"write\",\"value\":4}\n{\"id\":3,";
        let Stdio { mut requests, .. } = Stdio::over(input, std::io::sink());
        block_on(async {
            assert_eq!(requests.recv().await.unwrap().op, Op::Observe);
            assert_eq!(requests.recv().await.unwrap().id, 2);
            assert_eq!(requests.recv().await, None);
        });
    }

    #[test]
    fn an_unknown_operation_definitely_did_not_happen() {
        let input: &[u8] = b"{\"id\":5,\"op\":\"dance\"}\n";
        let (read, write) = std::io::pipe().unwrap();
        let _stdio = Stdio::over(input, write);
        let mut line = String::new();
        BufReader::new(read).read_line(&mut line).unwrap();
        assert!(
            line.starts_with(r#"{"id":5,"fail":{"reason":"unknown request"#),
            "{line}"
        );
    }

    #[test]
    fn lines_keep_their_order_and_drain_waits_for_them() {
        let (read, write) = std::io::pipe().unwrap();
        let Stdio { lines, .. } = Stdio::over(std::io::empty(), write);
        block_on(async {
            for id in 0..500 {
                let outcome = Outcome::Fail(String::new());
                lines.say(&Line::Answer { id, outcome }).await.unwrap();
            }
            lines.drain().await;
        });
        drop(lines);
        let found: Vec<u64> = BufReader::new(read)
            .lines()
            .map(|line| match Line::parse(line.unwrap().as_bytes()).unwrap() {
                Line::Answer { id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_output_is_told() {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let Stdio { lines, .. } = Stdio::over(std::io::empty(), write);
        block_on(async { while lines.event(Unasked::Ready).await.is_ok() {} });
        block_on(lines.say_through(&Line::Event(Unasked::Ready))).unwrap_err();
    }
}
