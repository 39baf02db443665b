//! The observer beside a ZooKeeper server.
//!
//! **Why a claim is sound.** The observer says `elected` when it reads the line by which the server says that it leads
//! epoch E ([`crate::zookeeper::log`]) and `deposed` when it reads the next line by which it gave up. Asked to observe, it
//!
//! 1. reads the log to its end: the log says reign R of epoch E;
//! 2. asks its server's status command `srvr`;
//! 3. reads the log to its end again.
//!
//! It says "leader" only if the log says the same reign of the same epoch before and after, and the status says `Mode:
//! leader`. A server answers so only while it serves as leader, which is after the line of (1) and before it begins to shut
//! down; and before it does that it writes `Shutdown called`, which would have been read in (3). Both lines are written by
//! the thread that leads, in the order of what they tell, and are in the pipe before that thread goes on: neither a pause
//! of the JVM nor a queue can come between. The mode alone would be worth nothing here: it binds no epoch.
//!
//! **Followers** name the leader that they serve under, by the address that they connected to, and no epoch: no line of a
//! follower's names it.
//!
//! Caveat: a leader that has lost its quorum leads on until it looks at how many follow it, every half tick, and finds too
//! few for `syncLimit` ticks. It is believed so here, too: that is its belief. No promise of Zab's is touched by it: what it
//! proposes meanwhile no quorum accepts.
use crate::log_pipe::{Heard, LogPipe};
use crate::voice::{self, Voice};
use crate::zookeeper::log::{Zab, parse};
use crate::zookeeper::register::Register;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Name, Op, Outcome, Role, Status, Unasked};
use splitbrain_node::stdio::Stdio;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// How long the server's status is awaited.
const STATUS: Duration = Duration::from_secs(1);
/// More than a status has.
const LONGEST: u64 = 64 * 1024;

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host.
    pub host: Name,
    /// The pipe into which the server logs.
    pub log: PathBuf,
    /// Where the server hears its clients.
    pub server: SocketAddr,
    /// All servers' addresses, by which leaders get names.
    pub peers: BTreeMap<Name, IpAddr>,
}

/// Runs an observer over the standard streams until control is gone.
///
/// # Errors
/// The log's pipe cannot be opened or read.
pub fn run(settings: Settings) -> Result<()> {
    voice::run_agent(|requests, voice| serve(settings, requests, voice))
}

/// As [`run`], over other streams.
///
/// # Errors
/// As [`run`].
pub async fn run_over(settings: Settings, stdio: Stdio) -> Result<()> {
    voice::over(stdio, |requests, voice| serve(settings, requests, voice)).await
}

async fn serve(settings: Settings, mut requests: Receiver<Request>, voice: Voice) -> Result<()> {
    let observer = Rc::new(Observer {
        log: LogPipe::new(settings.log.clone()),
        register: Register::new(settings.server),
        settings,
        voice,
        zab: RefCell::default(),
    });
    let asked = async {
        while let Some(request) = requests.recv().await {
            let observer = observer.clone();
            tokio::task::spawn_local(async move {
                let outcome = observer.carry_out(request.op).await;
                observer.voice.answer(request.id, outcome);
            });
        }
        Ok(())
    };
    observer.voice.event(Unasked::Ready);
    tokio::select! {
        ended = asked => ended,
        ended = observer.log.listen(|heard| observer.hear(heard)) => ended,
    }
}

struct Observer {
    settings: Settings,
    voice: Voice,
    log: LogPipe,
    register: Register,
    zab: RefCell<Zab>,
}

impl Observer {
    /// Reads the log to its end, and tells what it says.
    fn drain(&self) -> Result<()> {
        self.log.drain(|heard| self.hear(heard))
    }

    fn hear(&self, heard: Heard<'_>) {
        let told = match heard {
            Heard::Line(line) => parse(line).and_then(|line| self.zab.borrow_mut().take(line)),
            Heard::Closed => self.zab.borrow_mut().end(),
        };
        told.into_iter().for_each(|event| self.voice.event(event));
    }

    async fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Observe => self.observe().await,
            Op::Get => self.register.get().await,
            Op::Set { value } => self.register.set(value).await,
            Op::Cas { from, to } => self.register.cas(from, to).await,
            other => Outcome::Fail(format!("a ZooKeeper server knows no {}", other.name())),
        }
    }

    async fn observe(&self) -> Outcome {
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        let before = self.zab.borrow().clone();
        let leads = match timeout(STATUS, mode(self.settings.server)).await {
            Ok(Ok(mode)) => mode.as_deref() == Some("leader"),
            Ok(Err(error)) => return Outcome::Fail(format!("{error:#}")),
            Err(_) => return Outcome::Info(format!("no status within {STATUS:?}")),
        };
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        let now = self.zab.borrow().clone();
        let Some(role) = now.role() else {
            return Outcome::Info("the server has not logged its role yet".to_string());
        };
        if role == Role::Leader && !(leads && before == now) {
            return Outcome::Info("log and status do not agree on who leads".to_string());
        }
        let leader = match now.leader() {
            _ if role == Role::Leader => Some(self.settings.host),
            Some(ip) => self.name_at(ip),
            None => None,
        };
        Outcome::Ok(Answer::Status(Status {
            role,
            epoch: now.epoch(),
            token: None,
            reign: now.reign(),
            leader,
        }))
    }

    fn name_at(&self, ip: IpAddr) -> Option<Name> {
        let mut peers = self.settings.peers.iter();
        peers.find(|(_, at)| **at == ip).map(|(name, _)| *name)
    }
}

/// The mode in which the server serves; `None` while it does not.
async fn mode(server: SocketAddr) -> Result<Option<String>> {
    let asked = || format!("ask {server} for its status");
    let mut stream = TcpStream::connect(server).await.with_context(asked)?;
    stream.write_all(b"srvr").await.with_context(asked)?;
    let mut answer = Vec::new();
    stream
        .take(LONGEST)
        .read_to_end(&mut answer)
        .await
        .with_context(asked)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer
        .lines()
        .find_map(|line| line.strip_prefix("Mode: "))
        .map(str::to_string))
}
