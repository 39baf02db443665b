//! A candidate: an ordinary client of ZooKeeper that takes part in an election by one of two recipes.
//!
//! Its life is a loop: get a session, take part by the recipe ([`super::sequential`], [`super::ephemeral`]) until the session
//! is over; then get another one. **When does a leader stop believing?** The recipes of ZooKeeper's documentation do not say,
//! and a client hears of two things: `Disconnected`, when its connection is lost or silent, and `Expired`, when the
//! servers (or, later, its own clock) ended its session and with it its node. So it is an option:
//!
//! - `step-down`: at `Disconnected` it leads no more. This is what Curator tells its users to do at `SUSPENDED`, and what its
//!   `LeaderLatch` does (Curator, "Error Handling"): once it is connected again it deletes its node, if the session outlived
//!   the loss, and takes part anew.
//! - `stay`: it leads until `Expired`. Whoever hears the end of his session only from the servers hears it last: they gave
//!   the lead away when the session's time was over.
//!
//! **The clock of a session** is the client's (zookeeper-client 0.11, `session/mod.rs`): it pings after 3/20 of the session's
//! timeout without a request, takes a connection for lost after 8/20 without an answer, looks every 1/20, and gives the
//! session up by itself 28/20 after the last answer (the Java client never does). The servers end a session a full timeout
//! after they last heard of it, at the earliest. Between 9/20 and 20/20 lies what makes `step-down` exclusive; see
//! [`super`] for what it assumes.
//!
//! Nothing else is asked before a write: no second look at the node, no check of a clock. Timers after a pause behave as
//! in any client: one whose time came during the pause fires at once on resuming, in no order with what else is ready.
use crate::contender::{Common, Contender};
use crate::store::Store;
use crate::voice::{self, Voice};
use crate::zookeeper::errors::{ends_session, outcome};
use crate::zookeeper::{ephemeral, sequential};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Nanos, Outcome, Token};
use splitbrain_node::stdio::Stdio;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;
use zookeeper_client::{Acls, Client, CreateMode, Error, SessionState};

/// Before a call that failed is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a candidate is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every candidate is told.
    pub common: Common,
    /// Where the servers hear their clients.
    pub servers: Vec<SocketAddr>,
    /// The storage.
    pub storage: SocketAddr,
    /// The session's timeout.
    pub session_timeout: Nanos,
    /// How it takes part.
    pub recipe: Recipe,
    /// What it does when its connection is lost.
    pub on_disconnect: OnDisconnect,
}

/// How leaders are elected among clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The oldest of sequential nodes leads.
    Sequential,
    /// Who made the one node leads.
    Ephemeral,
}

/// What a leader does when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// It leads no more.
    StepDown,
    /// It leads until its session is over.
    Stay,
}

/// A candidate's own node, and the number that makes it a leadership's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub path: String,
    pub number: u64,
}

/// Runs a candidate over the standard streams until control is gone.
///
/// # Errors
/// The settings cannot be used.
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

async fn serve(settings: Settings, requests: Receiver<Request>, voice: Voice) -> Result<()> {
    let store = Store::new(settings.common.host, settings.storage);
    let contender = Contender::new(settings.common.clone(), Box::new(store), voice);
    contender.serve(requests, live(&contender, &settings)).await
}

async fn live(contender: &Rc<Contender>, settings: &Settings) -> Infallible {
    let servers: Vec<_> = settings.servers.iter().map(SocketAddr::to_string).collect();
    loop {
        contender.wanted().await;
        let connector = Client::connector().with_session_timeout(settings.session_timeout.into());
        let client = match connector.connect(&servers.join(",")).await {
            Ok(client) => client,
            Err(error) => {
                note("get a session", &error);
                sleep(PAUSE).await;
                continue;
            }
        };
        contender.waiting();
        let why = tokio::select! {
            biased;
            why = ended(&client) => why,
            why = take_part(contender, settings, &client) => why,
        };
        // A client that is dropped closes its session, if it lives: its node goes with it.
        contender.out(&why);
    }
}

/// Returns when the session is over, with why.
async fn ended(client: &Client) -> String {
    let mut states = client.state_watcher();
    let mut state = states.peek_state();
    while !state.is_terminated() {
        state = states.changed().await;
    }
    format!("the session is over: {state}")
}

/// Returns when the connection is lost, or was.
async fn disconnected(client: &Client) {
    let mut states = client.state_watcher();
    let mut state = states.peek_state();
    while state == SessionState::SyncConnected {
        state = states.changed().await;
    }
}

/// Returns when there is a connection.
async fn connected(client: &Client) {
    let mut states = client.state_watcher();
    let mut state = states.peek_state();
    while state != SessionState::SyncConnected {
        state = states.changed().await;
    }
}

/// Takes part and leads, again and again; why the session is to be given up.
async fn take_part(contender: &Rc<Contender>, settings: &Settings, client: &Client) -> String {
    let steps_down = settings.on_disconnect == OnDisconnect::StepDown;
    let mut attempt = 0;
    loop {
        contender.wanted().await;
        attempt += 1;
        let host = contender.host();
        let elected = match settings.recipe {
            Recipe::Sequential => sequential::campaign(client, attempt, host.as_str()).await,
            Recipe::Ephemeral => ephemeral::campaign(client, host.as_str()).await,
        };
        let node = match elected {
            Ok(node) => node,
            Err(error) => return format!("the campaign failed: {error}"),
        };
        // Elected by an answer that a lost connection has outrun is disconnected all the same.
        if steps_down && client.state() != SessionState::SyncConnected {
            eprintln!("was elected while disconnected");
        } else {
            contender.lead(Epoch(node.number), Token(node.number));
        }
        let deleted = tokio::select! {
            resignation = contender.resigned() => {
                let deleted = client.delete(&node.path, None).await;
                resignation.done(match &deleted {
                    Ok(()) => Outcome::Ok(Answer::Done),
                    Err(error) => outcome(error),
                });
                deleted
            }
            () = disconnected(client), if steps_down => {
                contender.depose("disconnected");
                connected(client).await;
                client.delete(&node.path, None).await
            }
        };
        if let Err(error) = deleted {
            // It may be there still, or go at any time: no place to begin anew from.
            return format!("the deletion of its node had no good answer: {error}");
        }
    }
}

/// Makes the folder `path`, whoever else does.
pub(super) async fn make_folder(client: &Client, path: &str) -> Result<(), Error> {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match client.create(path, b"", &options).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits before a call is made again that ended in `error`, which is no end of the session.
///
/// # Errors
/// It is one.
pub(super) async fn recover(what: &str, error: Error) -> Result<(), Error> {
    if ends_session(&error) {
        return Err(error);
    }
    note(what, &error);
    sleep(PAUSE).await;
    Ok(())
}

/// For the process's own log.
fn note(what: &str, error: &Error) {
    eprintln!("failed to {what}: {error}");
}
