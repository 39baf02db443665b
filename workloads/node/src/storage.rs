//! The storage server: [`splitbrain_protocols::storage::Storage`] behind TCP.
//!
//! Candidates connect and speak JSON lines: first `{"hello":"n1"}`, which names the writer, then one
//! [`StoreRequest`] a line, answered by one [`splitbrain_protocols::storage::StoreReply`] a line in the same order. What
//! happens is told to control on standard output as events of the candidate protocol (`ready`, `stored`, `rejected`).
//!
//! **Told before answered.** A write's event is in the pipe to control before its reply is sent, and events are written
//! in the storage's own order, under one lock. So no candidate can tell control of a write that the storage has not, and
//! the history holds every write that anybody was ever told about.
//!
//! A half line at the end of a connection is a request that was never made. A line that is no request ends its
//! connection; what came before it was carried out.
use crate::lines::Lines;
use crate::link;
use crate::log::note;
use crate::stdio::{self, Closed, Stdio};
use crate::store_client::{Hello, json_line};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Line;
use splitbrain_core::{Name, Outcome, Unasked};
use splitbrain_protocols::storage::{Storage, StoreRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What a storage process is told, as its one JSON argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Where candidates connect.
    pub listen: SocketAddr,
    /// Whether it refuses tokens lower than the highest it has seen.
    pub fenced: bool,
}

/// Runs the storage until standard input ends.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(config: &StorageConfig) -> Result<()> {
    let runtime = crate::member::runtime()?;
    runtime.block_on(async {
        let at = || format!("failed to listen on {}", config.listen);
        let listener = TcpListener::bind(config.listen).await.with_context(at)?;
        serve(listener, config.fenced, Stdio::of_process()).await;
        Ok(())
    })
}

/// Serves `listener` until control is gone.
pub async fn serve(listener: TcpListener, fenced: bool, mut stdio: Stdio) {
    let lines = stdio.lines.clone();
    let shared = Arc::new(Shared {
        storage: Mutex::new(Storage::new(fenced)),
        lines: lines.clone(),
    });
    if lines.event(Unasked::Ready).await.is_err() {
        return;
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            request = stdio.requests.recv() => {
                let Some(request) = request else { break };
                let outcome = Outcome::Fail("the storage takes no requests".to_string());
                if lines.say(&Line::Answer { id: request.id, outcome }).await.is_err() {
                    break;
                }
            }
            () = lines.closed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => drop(connections.spawn(shared.clone().connection(stream, addr))),
                Err(e) => {
                    note(format_args!("failed to accept a connection: {e}"));
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(Closed)) => break,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
        }
    }
    lines.drain().await;
}

struct Shared {
    storage: Mutex<Storage>,
    lines: stdio::Lines,
}

impl Shared {
    /// Serves one candidate until it is gone; the error is that control is.
    async fn connection(self: Arc<Shared>, mut stream: TcpStream, addr: SocketAddr) -> Result<(), Closed> {
        if let Err(e) = link::settle(&stream) {
            note(format_args!("failed to set up the connection from {addr}: {e}"));
            return Ok(());
        }
        let mut input = Incoming::default();
        let mut buffer = vec![0; 8192];
        loop {
            let n = match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(n) => n,
            };
            let (requests, nonsense) = input.feed(&buffer[..n]);
            for (by, request) in requests {
                let reply = self.carry_out(by, request).await?;
                if stream.write_all(&reply).await.is_err() {
                    return Ok(());
                }
            }
            if let Some(why) = nonsense {
                note(format_args!("the connection from {addr} is closed: {why}"));
                return Ok(());
            }
        }
    }

    async fn carry_out(&self, by: Name, request: StoreRequest) -> Result<Vec<u8>, Closed> {
        let mut storage = self.storage.lock().await;
        let (reply, event) = storage.apply(by, request);
        if let Some(event) = event {
            // Still under the lock: events come in the storage's order.
            self.lines.say_through(&Line::Event(event)).await?;
        }
        Ok(json_line(&reply))
    }
}

/// One connection's input.
#[derive(Default)]
struct Incoming {
    lines: Lines,
    writer: Option<Name>,
}

impl Incoming {
    /// The requests that `bytes` completes, and why the connection must end after them, if it must.
    fn feed(&mut self, bytes: &[u8]) -> (Vec<(Name, StoreRequest)>, Option<String>) {
        let (mut requests, mut nonsense) = (Vec::new(), None);
        let writer = &mut self.writer;
        let fed = self.lines.feed(bytes, |line| {
            if nonsense.is_some() {
                return;
            }
            let parsed = match *writer {
                Some(by) => serde_json::from_slice(line).map(|request| requests.push((by, request))),
                None => serde_json::from_slice(line).map(|Hello { hello }| *writer = Some(hello)),
            };
            nonsense = parsed.err().map(|e| e.to_string());
        });
        let too_long = fed.err().map(|_| "a line is too long".to_string());
        (requests, nonsense.or(too_long))
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
