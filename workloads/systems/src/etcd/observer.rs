//! The observer beside an etcd member.
//!
//! **Why a claim is sound.** The observer says `elected` when it reads the line "became leader at term T" and `deposed`
//! when it reads the next line of a role; each line is written after the change that it tells of. Asked to observe, it
//!
//! 1. reads the log to its end: the log says reign R of term T;
//! 2. asks its member's status API, over HTTP;
//! 3. reads the log to its end again.
//!
//! It says "leader" only if the log says the same reign of the same term before and after, and the status names the
//! member itself as leader. The member is alive, since it answered after (1); and it led term T without a break from (1)
//! to its answer, for a change before the answer would have been written before it, and so be read in (3) (see
//! [`crate::log_pipe`]). What the two sources do not agree on is `info`: the status lags behind the log while a new
//! leader's first entry is not applied.
//!
//! **Followers** name the leader of their term if a line named it in this term, else nobody.
//!
//! Caveat: between the change within etcd and the write of its line lie microseconds, more if the host is paused right
//! there; in them the observer may still speak of a reign that just ended. No promise of Raft's is touched by that: the
//! reign's term was this member's alone.
use crate::etcd::log::{Raft, parse};
use crate::etcd::register;
use crate::gateway::{Effect, Gateway, number, outcome};
use crate::log_pipe::{Heard, LogPipe};
use crate::voice::{self, Voice};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Name, Op, Outcome, Role, Status, Unasked};
use splitbrain_node::stdio::Stdio;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How long the member's status is awaited.
const STATUS: Duration = Duration::from_secs(1);

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host, and the member's name.
    pub host: Name,
    /// The pipe into which the member logs.
    pub log: PathBuf,
    /// The member's client URL.
    pub member: String,
    /// All members' peer URLs, by which etcd's member ids become names.
    pub peers: BTreeMap<Name, String>,
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
        gateway: Gateway::new(vec![settings.member.clone()])?,
        log: LogPipe::new(settings.log.clone()),
        settings,
        voice,
        raft: RefCell::default(),
        names: RefCell::default(),
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
    gateway: Gateway,
    voice: Voice,
    log: LogPipe,
    raft: RefCell<Raft>,
    /// By etcd's member id.
    names: RefCell<BTreeMap<u64, Name>>,
}

impl Observer {
    /// Reads the log to its end, and tells what it says.
    fn drain(&self) -> Result<()> {
        self.log.drain(|heard| self.hear(heard))
    }

    fn hear(&self, heard: Heard<'_>) {
        let told = match heard {
            Heard::Line(line) => match parse(line) {
                Some(line) => self.raft.borrow_mut().take(line),
                None => return,
            },
            Heard::Closed => self.raft.borrow_mut().end().into_iter().collect(),
        };
        told.into_iter().for_each(|event| self.voice.event(event));
    }

    async fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Observe => self.observe().await,
            Op::Get => register::get(&self.gateway).await,
            Op::Set { value } => register::set(&self.gateway, value).await,
            Op::Cas { from, to } => register::cas(&self.gateway, from, to).await,
            other => Outcome::Fail(format!("an etcd member knows no {}", other.name())),
        }
    }

    async fn observe(&self) -> Outcome {
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        let before = self.raft.borrow().clone();
        let answer = match self.gateway.call("/v3/maintenance/status", &json!({}), STATUS).await {
            Ok(answer) => answer,
            Err(error) => return outcome(&error, Effect::Read),
        };
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        let now = self.raft.borrow().clone();
        let leads =
            number(&answer["leader"]).is_some_and(|id| id != 0 && number(&answer["header"]["member_id"]) == Some(id));
        let Some((role, term)) = now.now() else {
            return Outcome::Info("the member has not logged its role yet".to_string());
        };
        if role == Role::Leader && !(leads && before == now) {
            return Outcome::Info("log and status do not agree on who leads".to_string());
        }
        let leader = match now.leader() {
            _ if role == Role::Leader => Some(self.settings.host),
            Some(id) => self.name_of(id).await,
            None => None,
        };
        Outcome::Ok(Answer::Status(Status {
            role,
            epoch: Some(Epoch(term)),
            token: None,
            reign: now.reign(),
            leader,
        }))
    }

    /// The member with etcd's `id`. The cluster is asked once; members never change.
    async fn name_of(&self, id: u64) -> Option<Name> {
        if self.names.borrow().is_empty()
            && let Ok(answer) = self.gateway.call("/v3/cluster/member/list", &json!({}), STATUS).await
        {
            let name_at = |url: &str| {
                self.settings
                    .peers
                    .iter()
                    .find(|(_, u)| *u == url)
                    .map(|(name, _)| *name)
            };
            let members = answer["members"].as_array().into_iter().flatten();
            let named = members.filter_map(|m| Some((number(&m["ID"])?, name_at(m["peerURLs"][0].as_str()?)?)));
            self.names.borrow_mut().extend(named);
        }
        self.names.borrow().get(&id).copied()
    }
}
