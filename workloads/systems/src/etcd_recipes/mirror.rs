//! The mirror: tells control of every write to the guarded storage, in the storage's order.
//!
//! Our own storage tells what it took before it answers. etcd tells nobody, so an agent on the storage's host watches the
//! data key from the first revision on and says `stored` for each put. It takes part in nothing: a mirror that is cut
//! off or paused is late, and nothing else.
//!
//! **Nothing twice, nothing left out.** A watch that is lost goes on at the revision after the last one told, at another
//! endpoint if need be; etcd gives the events of one key in the order of its revisions, and none is left out unless the
//! store was compacted, which ends the mirror and so the run.
//!
//! **A watch can be silent for two reasons**: nothing was written, or its server is cut off. So where it was silent for a
//! while the key is looked up, linearizably, in the same place: a server that cannot answer that is left, and so is one
//! that twice knew of a newer write than its watch had told.
use super::calls::{self, PAUSE, WITHIN};
use super::guarded::{DATA, written};
use crate::gateway::{Answers, CallError, Gateway, encode, number};
use crate::voice::{self, Voice};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use splitbrain_core::wire::Request;
use splitbrain_core::{Outcome, Unasked};
use splitbrain_node::stdio::Stdio;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

/// How long a watch may be silent before its server is asked whether there is news.
const SILENCE: Duration = Duration::from_millis(250);
/// How long it is given to answer.
const SOON: Duration = Duration::from_millis(750);

/// What a mirror is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The servers' client URLs.
    pub servers: Vec<String>,
}

/// Runs a mirror over the standard streams until control is gone.
///
/// # Errors
/// The settings cannot be used, or the store can no longer tell all that was written.
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
    let gateway = Gateway::new(settings.servers)?;
    voice.event(Unasked::Ready);
    let asked = async {
        while let Some(request) = requests.recv().await {
            let outcome = Outcome::Fail("the storage takes no requests".to_string());
            voice.answer(request.id, outcome);
        }
    };
    let mut mirror = Mirror {
        gateway,
        voice: voice.clone(),
        next: 1,
    };
    tokio::select! {
        () = asked => Ok(()),
        ended = mirror.follow() => ended,
    }
}

struct Mirror {
    gateway: Gateway,
    voice: Voice,
    /// The first revision of which it has not told.
    next: u64,
}

impl Mirror {
    async fn follow(&mut self) -> Result<()> {
        loop {
            let body = json!({"create_request": {"key": encode(DATA), "start_revision": self.next}});
            match self.gateway.open("/v3/watch", &body, WITHIN).await {
                Ok(mut answers) => {
                    self.watch(&mut answers).await?;
                    self.gateway.leave(answers.endpoint);
                }
                Err(error) => eprintln!("failed to watch the data: {error}"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells what the watch tells, until its server is to be left.
    async fn watch(&mut self, answers: &mut Answers) -> Result<()> {
        let mut behind = false;
        loop {
            match timeout(SILENCE, answers.next()).await {
                Ok(Ok(Some(answer))) => {
                    behind = false;
                    if !self.tell(&answer["result"])? {
                        return Ok(());
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    eprintln!("failed to watch the data: {error}");
                    return Ok(());
                }
                Err(_) => match self.newest().await {
                    Ok(newest) if newest < self.next => behind = false,
                    Ok(_) if !behind => behind = true,
                    Ok(_) => return Ok(()),
                    Err(error) => {
                        eprintln!("failed to look up the data: {error}");
                        return Ok(());
                    }
                },
            }
        }
    }

    /// The revision of the newest write; 0 if there is none.
    async fn newest(&self) -> Result<u64, CallError> {
        let body = json!({"key": encode(DATA)});
        let answer = self.gateway.call("/v3/kv/range", &body, SOON).await?;
        let kv = answer["kvs"].get(0);
        kv.map_or(Some(0), |kv| number(&kv["mod_revision"]))
            .ok_or_else(|| calls::lacks("a revision", &answer))
    }

    /// Says what one answer of a watch holds; whether the watch goes on.
    fn tell(&mut self, result: &Value) -> Result<bool> {
        if number(&result["compact_revision"]).unwrap_or(0) > 0 {
            bail!(
                "failed to mirror the data: the store was compacted after revision {}",
                self.next
            );
        }
        if result["canceled"] == true {
            eprintln!("the watch was cancelled: {}", result["cancel_reason"]);
            return Ok(false);
        }
        for event in result["events"].as_array().map_or(&[][..], Vec::as_slice) {
            let kv = &event["kv"];
            let (Some((seq, write)), Some(revision)) = (written(kv), number(&kv["mod_revision"])) else {
                bail!("failed to mirror the data: no write of ours: {event}");
            };
            if revision < self.next {
                continue;
            }
            self.next = revision + 1;
            self.voice.event(Unasked::Stored {
                seq,
                token: write.token,
                value: write.value,
                base: write.base,
                by: write.by,
            });
        }
        Ok(true)
    }
}
