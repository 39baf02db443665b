//! A member: one protocol core, and everything it may not touch itself.
//!
//! The driver waits for the next thing to happen (a request, a message, a reply of the storage, the core's deadline),
//! steps the core with it, and carries the outputs out strictly in order. A `Persist` or `Compact` is synced to the disk
//! before the next output begins; `Persist`s in a row share one `fdatasync`. That is the whole durability argument: a
//! vote that was sent is on the disk.
//!
//! **One thread.** The runtime is single-threaded and the `fdatasync` blocks it, on purpose. The core may take no input
//! before its records are durable in any case, and meanwhile the kernel's buffers keep what arrives. A slow disk makes a
//! slow member, which is what its peers should see.
//!
//! **A full disk** stops the member and does not end it: what must be durable is tried again until there is room, and
//! until then nothing that comes after it happens. It neither votes nor appends nor beats; what control asks meanwhile is
//! refused, and so definitely was not done. A **failing sync** ends it: the kernel may have dropped the pages that it could
//! not write and report success the next time, so what a later sync says of them is worth nothing (see [`crate::wal`]). The
//! next life finds what the disk really holds. Both are what a member may do while its disk is bad, and only then.
//!
//! **Time** is [`Instant`] since the process began, made never to fall. It reads the vDSO's monotonic clock, as other
//! programs do, so that a nemesis that skews a process's clock skews the core's time with it. The timer's sleep is the
//! kernel's and keeps real time: when it ends early by the skewed clock, it is set again.
//!
//! The process ends with status 0 when control is gone (standard input ended, or nobody reads standard output), and with
//! an error when its log fails: a member that cannot remember must not go on.
use crate::log::{began, note};
use crate::stdio::{Closed, Stdio};
use crate::store_client::StoreClient;
use crate::transport::Transport;
use crate::wal::{Wal, WalError};
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Line;
use splitbrain_core::{Name, Nanos, Outcome, seed};
use splitbrain_protocols::raft::{self, Mutant, Tuning};
use splitbrain_protocols::storage::StoreReply;
use splitbrain_protocols::{Input, Output, Protocol};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a member process is told, as its one JSON argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// This member.
    pub name: Name,
    /// Where it listens for its peers.
    pub listen: SocketAddr,
    /// Where its peers listen. It may be among them itself.
    pub peers: BTreeMap<Name, SocketAddr>,
    /// Where the storage listens, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<SocketAddr>,
    /// Where its log is; its own, and there again after a restart.
    pub dir: PathBuf,
    /// The run's.
    pub seed: u64,
    /// Timers and switches.
    #[serde(default)]
    pub tuning: Tuning,
    /// How it is broken on purpose, if at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<Mutant>,
}

/// Runs a Raft member until control is gone.
///
/// # Errors
/// The address cannot be listened on, or the log cannot be read or written.
pub fn run(config: MemberConfig) -> Result<()> {
    began();
    runtime()?.block_on(async {
        let at = || format!("failed to listen on {} as {}", config.listen, config.name);
        let listener = TcpListener::bind(config.listen).await.with_context(at)?;
        run_on(config, listener, Stdio::of_process()).await
    })
}

/// Runs a Raft member that listens on `listener`, whatever its configuration says.
///
/// # Errors
/// As [`run`].
pub async fn run_on(config: MemberConfig, listener: TcpListener, stdio: Stdio) -> Result<()> {
    let (wal, found) = Wal::open(&config.dir).with_context(|| format!("failed to start {}", config.name))?;
    if found.torn > 0 {
        note(format_args!("cut a torn tail of {} bytes off the log", found.torn));
    }
    let mut all: Vec<Name> = config.peers.keys().copied().collect();
    if !all.contains(&config.name) {
        all.push(config.name);
        all.sort();
    }
    let member = raft::MemberConfig {
        name: config.name,
        peers: all,
        tuning: config.tuning,
        mutant: config.mutant,
    };
    let rng = seed::stream(config.seed, &format!("{} life {}", config.name, found.life));
    let core = raft::Member::new(member, found.records, rng)
        .map_err(|why| anyhow!("failed to start {} from {}: {why}", config.name, config.dir.display()))?;
    let parts = Parts {
        core: Box::new(core),
        wal,
        transport: Transport::start(config.name, listener, &config.peers),
        store: config.storage.map(|addr| StoreClient::spawn(config.name, addr)),
        stdio,
    };
    drive(parts).await
}

/// The runtime of every process of ours: see the module's "One thread".
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("failed to set up the async runtime")
}

/// A core and all that it is driven with.
pub struct Parts {
    /// The protocol; not yet started.
    pub core: Box<dyn Protocol>,
    /// Where its records go.
    pub wal: Wal,
    /// Its peers.
    pub transport: Transport,
    /// The storage; without one, its requests are lost.
    pub store: Option<(StoreClient, mpsc::Receiver<StoreReply>)>,
    /// Control.
    pub stdio: Stdio,
}

/// Drives a core until control is gone.
///
/// # Errors
/// The log cannot be written.
pub async fn drive(parts: Parts) -> Result<()> {
    let (store, replies) = parts.store.unzip();
    let mut driver = Driver {
        core: parts.core,
        wal: parts.wal,
        transport: parts.transport,
        store,
        replies,
        stdio: parts.stdio,
        clock: Clock::new(),
    };
    let ended = driver.run().await;
    driver.stdio.lines.drain().await;
    match ended {
        Ok(()) => Ok(()),
        Err(e) if e.is::<Closed>() => Ok(()),
        Err(e) => Err(e),
    }
}

/// How often a full disk is tried again: nobody tells when there is room.
const ROOM_EVERY: Duration = Duration::from_millis(50);

/// Monotonic time since the process began.
struct Clock {
    start: Instant,
    last: Nanos,
}

impl Clock {
    fn new() -> Clock {
        let (start, last) = (Instant::now(), Nanos::ZERO);
        Clock { start, last }
    }

    /// Never less than before, even if the machine's clock is set back under us.
    fn now(&mut self) -> Nanos {
        self.last = self.last.max(self.start.elapsed().into());
        self.last
    }

    /// Ends at `deadline`; never, if that is beyond what the machine's clock can tell.
    async fn sleep_until(&self, deadline: Nanos) {
        match self.start.checked_add(Duration::from(deadline)) {
            Some(instant) if deadline != Nanos::MAX => tokio::time::sleep_until(instant.into()).await,
            _ => std::future::pending().await,
        }
    }
}

struct Driver {
    core: Box<dyn Protocol>,
    wal: Wal,
    transport: Transport,
    store: Option<StoreClient>,
    replies: Option<mpsc::Receiver<StoreReply>>,
    stdio: Stdio,
    clock: Clock,
}

impl Driver {
    async fn run(&mut self) -> Result<()> {
        self.step(Input::Start).await?;
        while let Some(input) = self.next_input().await? {
            self.step(input).await?;
        }
        Ok(())
    }

    /// What happens next; `None` when control is gone. The sources are asked in random order, so that none starves
    /// another.
    async fn next_input(&mut self) -> Result<Option<Input>> {
        loop {
            let deadline = self.core.deadline();
            tokio::select! {
                request = self.stdio.requests.recv() => return Ok(request.map(Input::Request)),
                () = self.stdio.lines.closed() => return Ok(None),
                message = self.transport.recv() => {
                    let (from, bytes) = message?;
                    return Ok(Some(Input::Message { from, bytes }));
                }
                Some(reply) = next_reply(&mut self.replies) => return Ok(Some(Input::Store(reply))),
                () = self.clock.sleep_until(deadline) => {
                    if self.clock.now() >= deadline {
                        return Ok(Some(Input::Tick));
                    }
                }
            }
        }
    }

    async fn step(&mut self, input: Input) -> Result<()> {
        let now = self.clock.now();
        let outputs = self.core.step(now, input);
        let mut unsynced = Vec::new();
        for output in outputs {
            if let Output::Persist(record) = output {
                unsynced.push(record);
                continue;
            }
            self.sync(&mut unsynced).await?;
            match output {
                Output::Persist(_) => unreachable!("taken above"),
                Output::Compact(records) => self.keep(|wal| wal.replace(&records)).await?,
                Output::Send { to, bytes } => self.transport.send(to, &bytes),
                Output::Store(request) => {
                    if let Some(store) = &self.store {
                        store.send(&request);
                    }
                }
                Output::Say(line) => self.stdio.lines.say(&line).await?,
            }
        }
        self.sync(&mut unsynced).await
    }

    async fn sync(&mut self, unsynced: &mut Vec<Vec<u8>>) -> Result<()> {
        if !unsynced.is_empty() {
            self.keep(|wal| wal.append(unsynced)).await?;
            unsynced.clear();
        }
        Ok(())
    }

    /// Does `write` until it is done: as often as there is no room.
    async fn keep(&mut self, write: impl Fn(&mut Wal) -> Result<(), WalError>) -> Result<()> {
        let mut refusals = 0_u64;
        loop {
            match write(&mut self.wal) {
                Ok(()) if refusals > 0 => {
                    note(format_args!("there is room again, after {refusals} attempts"));
                    return Ok(());
                }
                Ok(()) => return Ok(()),
                Err(WalError::Broken(e)) => return Err(e),
                Err(WalError::Full(_)) if refusals > 0 => {}
                Err(full) => note(format_args!("{full}: nothing is done until there is room")),
            }
            refusals += 1;
            self.await_room().await?;
        }
    }

    /// Lets some time pass in which nothing is done; the error is that control is gone.
    async fn await_room(&mut self) -> Result<()> {
        let later = tokio::time::sleep(ROOM_EVERY);
        tokio::pin!(later);
        loop {
            tokio::select! {
                () = &mut later => return Ok(()),
                () = self.stdio.lines.closed() => return Err(Closed.into()),
                request = self.stdio.requests.recv() => {
                    let id = request.ok_or(Closed)?.id;
                    let outcome = Outcome::Fail("the disk is full: nothing was done".to_string());
                    self.stdio.lines.say(&Line::Answer { id, outcome }).await?;
                }
            }
        }
    }
}

async fn next_reply(replies: &mut Option<mpsc::Receiver<StoreReply>>) -> Option<StoreReply> {
    match replies {
        Some(replies) => replies.recv().await,
        None => None,
    }
}
