//! The way from a candidate to the storage.
//!
//! A request is written to at most one connection and never repeated on another: a harness that wrote twice would
//! report damage that no leader did. Whoever gets no reply in time knows nothing about his write, and must say so.
use crate::lines::Lines;
use crate::link::Link;
use serde::{Deserialize, Serialize};
use splitbrain_core::Name;
use splitbrain_protocols::storage::{StoreReply, StoreRequest};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Replies that may wait for the candidate; more are lost.
const REPLIES: usize = 1024;

/// The first line on a connection to the storage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Who will write.
    pub hello: Name,
}

/// Sends requests to the storage. Clones share one connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct StoreClient {
    link: Arc<Link>,
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StoreClient {
    /// Starts the task that connects, as writer `name`, to the storage at `addr`, once there is something to send, and
    /// again whenever the connection was lost. Replies come in the order in which they arrive. Must be called in a
    /// tokio runtime.
    pub fn spawn(name: Name, addr: SocketAddr) -> (StoreClient, mpsc::Receiver<StoreReply>) {
        let (sender, replies) = mpsc::channel(REPLIES);
        let hello = json_line(&Hello { hello: name });
        let link = Arc::new(Link::new("the storage".to_string(), addr, hello));
        let running = link.clone();
        let task = tokio::spawn(async move {
            let reader = || {
                let (mut lines, sender) = (Lines::default(), sender.clone());
                move |bytes: &[u8]| take(&mut lines, bytes, &sender)
            };
            running.run(reader).await;
        });
        let task = Arc::new(AbortOnDrop(task.abort_handle()));
        (StoreClient { link, _task: task }, replies)
    }

    /// Sends without waiting. Request or reply may get lost; a request that finds no connection for half a second is.
    pub fn send(&self, request: &StoreRequest) {
        self.link.outbox.put(json_line(request));
    }
}

/// Passes the replies in `bytes` on.
fn take(lines: &mut Lines, bytes: &[u8], replies: &mpsc::Sender<StoreReply>) -> std::io::Result<()> {
    let mut nonsense = None;
    let fed = lines.feed(bytes, |line| match serde_json::from_slice(line) {
        // A full queue loses the reply, as the network may.
        Ok(reply) => drop(replies.try_send(reply)),
        Err(e) => nonsense = Some(e.to_string()),
    });
    match (fed, nonsense) {
        (Ok(()), None) => Ok(()),
        (_, why) => {
            let why = why.unwrap_or_else(|| "a line is too long".to_string());
            Err(Error::new(
                ErrorKind::InvalidData,
                format!("no reply of the storage: {why}"),
            ))
        }
    }
}

pub(crate) fn json_line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain data always becomes JSON");
    line.push(b'\n');
    line
}
