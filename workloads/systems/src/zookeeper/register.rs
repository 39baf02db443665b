//! `get`, `set` and `cas` on one znode, by way of the local server.
//!
//! ZooKeeper's writes are linearizable, its reads are not: a server answers them from its own state, and `sync` before them
//! is no operation of a quorum, so that a leader that was replaced and does not know it yet may answer it (ZooKeeper
//! Internals, "Consistency Guarantees"). What is asked here is therefore bound by a *transaction*: a read fetches value and
//! version from the local server, and then commits a transaction that changes nothing and holds only if the version is still
//! the same. Where it commits, the value was the register's at that point of the one order of all transactions, between call
//! and answer. A `cas` writes on condition of the version that it read; a mismatch, which is a reading as well, is committed
//! like one.
//!
//! Nothing is repeated that may have had an effect: only a condition that did not hold is tried again, with what is there
//! now. What has no answer is `info`: it waits in the client, the servers or the network, and may happen yet.
use crate::zookeeper::errors::outcome;
use splitbrain_core::{Answer, Outcome};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use zookeeper_client::{Acls, Client, CreateMode, Error, MultiWriteError, SessionState};

const PATH: &str = "/splitbrain-register";
/// How long an answer is awaited.
const WITHIN: Duration = Duration::from_millis(1800);
/// Of the observer's own session, of which nothing depends.
const SESSION: Duration = Duration::from_secs(2);
/// Before a session that could not be had is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts at one operation.
const ATTEMPTS: u32 = 5;

/// The register as one server's clients see it. For one thread, in a `LocalSet`.
pub(super) struct Register {
    server: SocketAddr,
    line: RefCell<Option<Rc<Line>>>,
}

/// A session that is opened anew when it ends.
#[derive(Default)]
struct Line {
    client: RefCell<Option<Client>>,
    opened: Notify,
}

/// Value and version, as the local server knows them.
struct Seen {
    value: Option<u64>,
    version: i32,
}

impl Register {
    pub(super) fn new(server: SocketAddr) -> Register {
        Register {
            server,
            line: RefCell::default(),
        }
    }

    /// Reads the register.
    pub(super) async fn get(&self) -> Outcome {
        self.with_client(async |client| {
            for _ in 0..ATTEMPTS {
                let seen = read(client).await?;
                if is_still(client, seen.version).await? {
                    return Ok(Outcome::Ok(Answer::Value(seen.value)));
                }
            }
            Ok(changed_too_often())
        })
        .await
    }

    /// Sets the register.
    pub(super) async fn set(&self, value: u64) -> Outcome {
        self.with_client(async |client| {
            // So that it is there.
            read(client).await?;
            client.set_data(PATH, value.to_string().as_bytes(), None).await?;
            Ok(Outcome::Ok(Answer::Done))
        })
        .await
    }

    /// Sets the register to `to` if it holds `from`.
    pub(super) async fn cas(&self, from: Option<u64>, to: u64) -> Outcome {
        self.with_client(async |client| {
            for _ in 0..ATTEMPTS {
                let seen = read(client).await?;
                if seen.value != from {
                    if is_still(client, seen.version).await? {
                        return Ok(Outcome::Fail("mismatch".to_string()));
                    }
                    continue;
                }
                match client
                    .set_data(PATH, to.to_string().as_bytes(), Some(seen.version))
                    .await
                {
                    Ok(_) => return Ok(Outcome::Ok(Answer::Done)),
                    Err(Error::BadVersion) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(changed_too_often())
        })
        .await
    }

    async fn with_client(&self, asked: impl AsyncFnOnce(&Client) -> Result<Outcome, Error>) -> Outcome {
        let line = self.line();
        let Ok(client) = timeout(WITHIN / 2, line.client()).await else {
            return Outcome::Fail("no session with the server: it was never sent".to_string());
        };
        match timeout(WITHIN / 2, asked(&client)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => outcome(&error),
            Err(_) => Outcome::Info(format!("no answer within {:?}", WITHIN / 2)),
        }
    }

    /// The session is opened when it is first needed, so that who asks for no register costs the server nothing.
    fn line(&self) -> Rc<Line> {
        let mut line = self.line.borrow_mut();
        let line = line.get_or_insert_with(|| {
            let line = Rc::new(Line::default());
            tokio::task::spawn_local(keep_open(line.clone(), self.server));
            line
        });
        line.clone()
    }
}

impl Line {
    /// A client that is connected just now.
    async fn client(&self) -> Client {
        loop {
            let opened = self.opened.notified();
            let connected = self.client.borrow().clone();
            if let Some(client) = connected
                && client.state() == SessionState::SyncConnected
            {
                return client;
            }
            opened.await;
        }
    }
}

async fn keep_open(line: Rc<Line>, server: SocketAddr) {
    loop {
        let connector = Client::connector().with_session_timeout(SESSION);
        let client = match connector.connect(&server.to_string()).await {
            Ok(client) => client,
            Err(error) => {
                eprintln!("failed to get a session with {server}: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let mut states = client.state_watcher();
        *line.client.borrow_mut() = Some(client);
        let mut state = states.peek_state();
        while !state.is_terminated() {
            line.opened.notify_waiters();
            state = states.changed().await;
        }
        *line.client.borrow_mut() = None;
    }
}

/// Value and version, of a znode that is made if it is not there.
async fn read(client: &Client) -> Result<Seen, Error> {
    loop {
        match client.get_data(PATH).await {
            Ok((data, stat)) => {
                return Ok(Seen {
                    value: number(&data)?,
                    version: stat.version,
                });
            }
            Err(Error::NoNode) => {
                let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
                match client.create(PATH, b"", &options).await {
                    // An empty register is what there was before, so it is all the same who made it, and whether.
                    Ok(_) | Err(Error::NodeExists) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn number(data: &[u8]) -> Result<Option<u64>, Error> {
    if data.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(data).ok();
    text.and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| Error::UnexpectedError(format!("the register holds no number: {data:?}")))
}

/// Whether the register has this version, at one point of the order of all transactions.
async fn is_still(client: &Client, version: i32) -> Result<bool, Error> {
    let mut transaction = client.new_multi_writer();
    transaction.add_check_version(PATH, version)?;
    match transaction.commit().await {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed {
            source: Error::BadVersion,
            ..
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// No condition held, so nothing was changed, and nothing is known.
fn changed_too_often() -> Outcome {
    Outcome::Fail(format!("it changed during each of {ATTEMPTS} attempts"))
}
