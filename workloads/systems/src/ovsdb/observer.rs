//! The observer beside an `ovsdb-server`.
//!
//! **Why a claim is sound.** The observer asks its server for `cluster/status`, again and again, and once more for each
//! question that control puts. A reply that says "leader" and "term 5" was true at an instant between question and
//! reply, and two such replies of one life span one reign (see [`super::status`]). So an `elected` comes after the reign
//! began, and an answer within the same reign shows that it had lasted until then.
//!
//! **One life.** The processes of a host live and die together, and the replies of one connection are of one life of the
//! server ([`super::control`]): where it breaks, the reign ends.
//!
//! **Followers** name the leader that their status names; `ovsdb-server` forgets it whenever its term changes.
//!
//! Caveat: a reign that began and ended between two looks is not seen. That loses evidence and invents none.
use super::DATABASE;
use super::control::{Control, ControlError};
use super::status::{ClusterStatus, Reigns, parse};
use crate::voice::{self, Voice};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Name, Op, Outcome, Status, Unasked};
use splitbrain_node::stdio::Stdio;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

/// How long a reply is awaited.
const REPLY: Duration = Duration::from_secs(1);
/// Between two looks that nobody asked for.
const POLL: Duration = Duration::from_millis(50);

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host.
    pub host: Name,
    /// The folder in which the server's control socket is.
    pub dir: PathBuf,
    /// All servers' Raft addresses, by which they become names.
    pub servers: BTreeMap<Name, String>,
}

/// Runs an observer over the standard streams until control is gone.
///
/// # Errors
/// None of its own.
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
        settings,
        voice,
        control: Mutex::new(None),
        reigns: RefCell::default(),
        ready: Cell::default(),
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
    tokio::select! {
        ended = asked => ended,
        () = observer.watch() => Ok(()),
    }
}

struct Observer {
    settings: Settings,
    voice: Voice,
    /// One look at a time, so that what they show is told in the order in which it was.
    control: Mutex<Option<Control>>,
    reigns: RefCell<Reigns>,
    ready: Cell<bool>,
}

impl Observer {
    async fn watch(&self) {
        loop {
            // What goes wrong here goes wrong for who asks, too, and he is told.
            let _ = self.look().await;
            sleep(POLL).await;
        }
    }

    /// Asks the server, and tells what changed. The reply is of an instant after the call.
    async fn look(&self) -> Result<(ClusterStatus, Reigns), Outcome> {
        let mut held = self.control.lock().await;
        let asked = async {
            let control = match &mut *held {
                Some(control) => control,
                none => none.insert(Control::connect(&self.settings.dir).await?),
            };
            control.ask("cluster/status", &[DATABASE], REPLY).await
        };
        let reply = match asked.await {
            Ok(reply) => reply,
            Err(error) => {
                if let ControlError::Lost(_) = error {
                    *held = None;
                    let ended = self.reigns.borrow_mut().end(&error.to_string());
                    ended.into_iter().for_each(|event| self.voice.event(event));
                }
                return Err(error.outcome());
            }
        };
        let status = parse(&reply).ok_or_else(|| Outcome::Info(format!("no status: {reply:?}")))?;
        if status.joined && !self.ready.replace(true) {
            self.voice.event(Unasked::Ready);
        }
        let reigns = &mut *self.reigns.borrow_mut();
        reigns
            .take(&status)
            .into_iter()
            .for_each(|event| self.voice.event(event));
        Ok((status, reigns.clone()))
    }

    async fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Observe => match self.look().await {
                Ok((status, reigns)) => Outcome::Ok(Answer::Status(self.tell(&status, &reigns))),
                Err(outcome) => outcome,
            },
            other => Outcome::Fail(format!("an OVSDB server knows no {}", other.name())),
        }
    }

    fn tell(&self, status: &ClusterStatus, reigns: &Reigns) -> Status {
        let mut servers = self.settings.servers.iter();
        let leader = status
            .leader
            .as_ref()
            .and_then(|address| servers.find(|(_, a)| *a == address));
        Status {
            role: status.role,
            epoch: Epoch(status.term).known(),
            token: None,
            reign: reigns.now(),
            leader: leader.map(|(name, _)| *name),
        }
    }
}
