//! Messages between members.
//!
//! Each member makes one connection to every peer and only writes to it ([`crate::link`]); what it reads comes over the
//! connections that its peers made. So no two members ever argue about whose connection counts. A connection begins with
//! a greeting frame, `splitbrain/1 SENDER RECEIVER`; every other frame is one message, opaque here.
//!
//! The network may lose, delay and repeat; the protocols are built for it. Here a message is lost when it waited too
//! long, when its connection broke, or when the receiver's greeting made an older connection of the same sender
//! obsolete. Bytes that are no frame end the connection.
//!
//! Caveat: a greeting proves nothing. The cluster's network is the experiment's own, and nobody else is on it.
use crate::frame::{self, HEADER, Header, MAX_PAYLOAD};
use crate::link::{self, Link};
use crate::log::note;
use anyhow::{Result, bail, ensure};
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Messages that may wait for the core; more wait in the kernel, and then at the sender.
const INCOMING: usize = 256;
/// Connections that may be without a greeting at one time, and for how long.
const UNGREETED: usize = 64;
const GREETING: Duration = Duration::from_secs(3);
/// A greeting is two names and a word.
const LONGEST_GREETING: usize = 64;

/// All of one member's connections.
#[derive(Debug)]
pub struct Transport {
    links: BTreeMap<Name, Arc<Link>>,
    incoming: mpsc::Receiver<(Name, Vec<u8>)>,
    tasks: JoinSet<()>,
}

impl Transport {
    /// Begins to accept on `listener` and to serve `peers`; `name` among them is ignored. Must be called in a runtime.
    pub fn start(name: Name, listener: TcpListener, peers: &BTreeMap<Name, SocketAddr>) -> Transport {
        let mut tasks = JoinSet::new();
        let others = peers.iter().filter(|(peer, _)| **peer != name);
        let links: BTreeMap<Name, Arc<Link>> = others
            .map(|(peer, addr)| {
                let mut hello = Vec::new();
                frame::encode(greeting(name, *peer).as_bytes(), &mut hello);
                (*peer, Arc::new(Link::new(peer.to_string(), *addr, hello)))
            })
            .collect();
        for link in links.values() {
            let link = link.clone();
            tasks.spawn(async move { link.run(|| nothing_comes_back).await });
        }
        let (sender, incoming) = mpsc::channel(INCOMING);
        let door = Door {
            name,
            links: links.clone(),
            incoming: sender,
            current: Mutex::default(),
        };
        tasks.spawn(accept_all(listener, Arc::new(door)));
        Transport { links, incoming, tasks }
    }

    /// Sends without waiting; the message may get lost. Panics if `to` is no peer: that is the core's bug.
    pub fn send(&self, to: Name, bytes: &[u8]) {
        let link = self.links.get(&to).unwrap_or_else(|| panic!("{to} is no peer"));
        if bytes.len() > MAX_PAYLOAD {
            let n = bytes.len();
            return note(format_args!(
                "a message of {n} bytes to {to} is too long and was dropped"
            ));
        }
        let mut framed = Vec::with_capacity(HEADER + bytes.len());
        frame::encode(bytes, &mut framed);
        link.outbox.put(framed);
    }

    /// The next message and its sender. Cancelling loses nothing.
    ///
    /// # Errors
    /// A task of the transport ended, which is a bug: all would go on as if a link were cut.
    pub async fn recv(&mut self) -> Result<(Name, Vec<u8>)> {
        tokio::select! {
            Some(message) = self.incoming.recv() => Ok(message),
            ended = self.tasks.join_next() => bail!("a task of the transport ended: {ended:?}"),
        }
    }
}

fn greeting(from: Name, to: Name) -> String {
    format!("splitbrain/1 {from} {to}")
}

fn nothing_comes_back(_: &[u8]) -> std::io::Result<()> {
    Err(Error::new(ErrorKind::InvalidData, "it spoke where it should listen"))
}

/// What accepted connections share.
struct Door {
    name: Name,
    links: BTreeMap<Name, Arc<Link>>,
    incoming: mpsc::Sender<(Name, Vec<u8>)>,
    /// Dropping a peer's sender ends its connection.
    current: Mutex<BTreeMap<Name, oneshot::Sender<()>>>,
}

async fn accept_all(listener: TcpListener, door: Arc<Door>) {
    let ungreeted = Arc::new(Semaphore::new(UNGREETED));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let room = ungreeted.clone().acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, addr)) => {
                let door = door.clone();
                connections.spawn(async move {
                    let Err(e) = door.serve(stream, room).await;
                    note(format_args!("a connection from {addr} ended: {e:#}"));
                });
            }
            Err(e) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                note(format_args!("failed to accept a connection: {e}"));
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Door {
    async fn serve(
        &self,
        stream: TcpStream,
        room: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<std::convert::Infallible> {
        link::settle(&stream)?;
        let mut input = BufReader::new(stream);
        let from = match timeout(GREETING, self.read_greeting(&mut input)).await {
            Ok(from) => from?,
            Err(_) => bail!("it did not greet in time"),
        };
        drop(room);
        let (keep, superseded) = oneshot::channel();
        self.lock().insert(from, keep);
        // The peer is alive, so our own connection to it is worth an attempt now.
        self.links[&from].wake.notify_one();
        let reading = async {
            loop {
                let message = read_frame(&mut input, MAX_PAYLOAD).await?;
                if self.incoming.send((from, message)).await.is_err() {
                    bail!("the member is ending");
                }
            }
        };
        tokio::select! {
            end = reading => end,
            _ = superseded => bail!("{from} has made a newer one"),
        }
    }

    async fn read_greeting(&self, input: &mut BufReader<TcpStream>) -> Result<Name> {
        let bytes = read_frame(input, LONGEST_GREETING).await?;
        let known = self
            .links
            .keys()
            .find(|peer| greeting(**peer, self.name).as_bytes() == bytes);
        match known {
            Some(peer) => Ok(*peer),
            None => bail!(
                "{:?} is no peer's greeting to {}",
                String::from_utf8_lossy(&bytes),
                self.name
            ),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, oneshot::Sender<()>>> {
        self.current.lock().expect("nothing panics while it holds the map")
    }
}

async fn read_frame(input: &mut BufReader<TcpStream>, longest: usize) -> Result<Vec<u8>> {
    let mut header = [0; HEADER];
    input.read_exact(&mut header).await?;
    let header = Header::parse(header).map_err(|bad| anyhow::anyhow!("a frame is bad: {bad}"))?;
    ensure!(
        header.length() <= longest,
        "a frame of {} bytes is too long here",
        header.length()
    );
    let mut payload = vec![0; header.length()];
    input.read_exact(&mut payload).await?;
    header
        .check(&payload)
        .map_err(|bad| anyhow::anyhow!("a frame is bad: {bad}"))?;
    Ok(payload)
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
