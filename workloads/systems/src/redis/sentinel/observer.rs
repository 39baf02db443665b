//! The observer beside a redis and its sentinel.
//!
//! **Why a claim is sound.** A look at the host is three questions, one after the other: the redis's `INFO`, the sentinel's
//! `SENTINEL MASTER`, the redis's `INFO` again. "This host leads in epoch E" is said only if the redis was the same
//! unbroken master before and after (see [`super::statement`]), and the sentinel named this very redis with E in one
//! statement in between. So at that moment redis and sentinel of one host held the same of themselves. Looks are made one
//! after the other, and a question of control's is answered by a look that began after it was put.
//!
//! Between two looks that show the same mastership in the same epoch the reign was unbroken: a redis that was demoted
//! meanwhile has another replication id, and the epoch of a sentinel's configuration only rises.
//!
//! **Followers** name whom their own sentinel names, in its epoch. A redis that is a master while its sentinel names another
//! is neither leader nor follower: that is `info`. The same goes for what cannot be asked, and for a sentinel in the middle
//! of a failover.
//!
//! Caveat: changes are found by looking every 50 ms, so `elected` and `deposed` come late by that. The master
//! of the first epoch was not elected but configured.
use crate::redis::connection::Connection;
use crate::redis::sentinel::MASTER;
use crate::redis::sentinel::statement::{Look, Mastership, Reigns, Statement, mastership, statement};
use crate::voice::{self, Voice};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Name, Op, Outcome, Role, Status, Unasked};
use splitbrain_node::stdio::Stdio;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

/// How long an answer is awaited; both are on this host.
const WITHIN: Duration = Duration::from_millis(500);
/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host.
    pub host: Name,
    /// The host's sentinel.
    pub sentinel: SocketAddr,
    /// All hosts' redis servers, its own included.
    pub servers: BTreeMap<Name, SocketAddr>,
}

/// Runs an observer over the standard streams until control is gone.
///
/// # Errors
/// Control reads no more.
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
    let own = settings.servers[&settings.host];
    let observer = Rc::new(Observer {
        redis: Connection::new(own, WITHIN),
        sentinel: Connection::new(settings.sentinel, WITHIN),
        own,
        settings,
        voice,
        reigns: Mutex::default(),
    });
    let asked = async {
        while let Some(request) = requests.recv().await {
            let observer = observer.clone();
            tokio::task::spawn_local(async move {
                let outcome = match request.op {
                    Op::Observe => observer.observe().await,
                    other => Outcome::Fail(format!("a sentinel's observer knows no {}", other.name())),
                };
                observer.voice.answer(request.id, outcome);
            });
        }
    };
    let watch = async {
        loop {
            // Whoever wants to know why it failed asks.
            let _ = observer.look().await;
            sleep(EVERY).await;
        }
    };
    observer.voice.event(Unasked::Ready);
    tokio::select! {
        () = asked => Ok(()),
        never = watch => never,
    }
}

struct Observer {
    settings: Settings,
    own: SocketAddr,
    redis: Connection,
    sentinel: Connection,
    voice: Voice,
    /// Held during a look, so that what is told is told in the order in which it was seen.
    reigns: Mutex<Reigns>,
}

impl Observer {
    async fn observe(&self) -> Outcome {
        match self.look().await {
            Ok(status) => Outcome::Ok(Answer::Status(status)),
            Err(why) => Outcome::Info(why),
        }
    }

    /// Looks, tells what changed, and says what the host believes.
    async fn look(&self) -> Result<Status, String> {
        let mut reigns = self.reigns.lock().await;
        let before = self.redis().await?;
        let statement = self.statement().await?;
        let after = self.redis().await?;
        let look = Look::at(self.own, before, statement, after)
            .ok_or_else(|| "the redis changed its role meanwhile".to_string())?;
        for event in reigns.take(&look) {
            self.voice.event(event);
        }
        let status = |role, statement: Statement, reign| Status {
            role,
            epoch: statement.epoch.known(),
            token: None,
            reign,
            leader: self.name_of(statement.master),
        };
        match look {
            Look::Leads(..) => Ok(status(Role::Leader, statement, reigns.reign())),
            // A sentinel that names a redis which is a replica has not noticed yet.
            Look::Follows(statement) if statement.master == self.own => Err("redis and sentinel disagree".to_string()),
            Look::Follows(statement) => Ok(status(Role::Follower, statement, None)),
            Look::Overruled(Statement { master, .. }) => {
                Err(format!("the redis is a master, and its sentinel names {master}"))
            }
        }
    }

    async fn redis(&self) -> Result<Option<Mastership>, String> {
        let info = self.redis.ask(&redis::cmd("INFO")).await.map_err(|e| e.to_string())?;
        mastership(&info).ok_or_else(|| "the redis did not say whether it is a master".to_string())
    }

    async fn statement(&self) -> Result<Statement, String> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("MASTER").arg(MASTER);
        let reply = self.sentinel.ask(&ask).await.map_err(|e| e.to_string())?;
        statement(&reply).ok_or_else(|| "the sentinel names no master, or is failing over".to_string())
    }

    fn name_of(&self, address: SocketAddr) -> Option<Name> {
        let mut servers = self.settings.servers.iter();
        servers.find(|(_, server)| **server == address).map(|(name, _)| *name)
    }
}
