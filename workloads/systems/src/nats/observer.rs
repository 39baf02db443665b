//! The observer beside a `nats-server`.
//!
//! **Why a claim is sound.** The observer says `elected` when it reads that its server switches to leader, and `deposed`
//! when it reads that it steps down ([`super::log`]). Asked to observe, it
//!
//! 1. reads the log to its end: the log says reign R;
//! 2. asks its server's monitoring endpoint `/jsz`, over HTTP, who leads the meta group;
//! 3. reads the log to its end again ([`crate::log_pipe`]).
//!
//! It says "leader" only if the log says the same reign before and after, and `/jsz` names the server itself. The server
//! is alive, since it answered after (1); and it led without a break from (1) to its answer, for the line of a change is
//! written before the change is made, and so would be read in (3). What the two sources do not agree on is `info`.
//!
//! **Followers** name the leader that `/jsz` names, and no epoch: nothing binds their term.
//!
//! Caveat: "Switching to leader" is written just before the switch, within one critical section. An `elected` may
//! precede the leadership by what lies between, which is microseconds unless the host is paused right there. It says
//! then that the server won term T, which is what one leader per term is about.
use super::log::{Raft, parse};
use crate::log_pipe::{Heard, LogPipe};
use crate::voice::{self, Voice};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Name, Op, Outcome, Role, Status, Unasked};
use splitbrain_node::stdio::Stdio;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How long the server's answer is awaited.
const WITHIN: Duration = Duration::from_secs(1);

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its host, and the server's name.
    pub host: Name,
    /// The pipe into which the server logs.
    pub log: PathBuf,
    /// The URL of the server's monitoring port.
    pub monitor: String,
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
        http: reqwest::Client::builder()
            .no_proxy()
            .timeout(WITHIN)
            .build()
            .context("make an HTTP client")?,
        log: LogPipe::new(settings.log.clone()),
        settings,
        voice,
        raft: RefCell::default(),
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
    http: reqwest::Client,
    voice: Voice,
    log: LogPipe,
    raft: RefCell<Raft>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum MonitorError {
    #[error("ask the monitoring port: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the monitoring port does not speak of a meta group: {0}")]
    Garbled(serde_json::Error),
}

impl MonitorError {
    /// The table from an error to how the question ended.
    fn outcome(&self) -> Outcome {
        match self {
            MonitorError::Http(error) if error.is_connect() => Outcome::Fail(self.to_string()),
            MonitorError::Http(_) | MonitorError::Garbled(_) => Outcome::Info(self.to_string()),
        }
    }
}

/// The part of `/jsz` that matters.
#[derive(Debug, Deserialize)]
struct Jsz {
    meta_cluster: Meta,
}

#[derive(Debug, Deserialize)]
struct Meta {
    /// A server's name.
    leader: Option<Name>,
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
            other => Outcome::Fail(format!("a NATS server knows no {}", other.name())),
        }
    }

    async fn observe(&self) -> Outcome {
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        let before = self.raft.borrow().clone();
        let leader = match self.meta_leader().await {
            Ok(leader) => leader,
            Err(error) => return error.outcome(),
        };
        if let Err(error) = self.drain() {
            return Outcome::Info(error.to_string());
        }
        judge(self.settings.host, &before, &self.raft.borrow(), leader)
    }

    async fn meta_leader(&self) -> Result<Option<Name>, MonitorError> {
        let url = format!("{}/jsz?raft=true", self.settings.monitor);
        let answer = self.http.get(url).send().await?.error_for_status()?.bytes().await?;
        let jsz: Jsz = serde_json::from_slice(&answer).map_err(MonitorError::Garbled)?;
        Ok(jsz.meta_cluster.leader)
    }
}

/// What `host` may say of itself: its log said `before`, then it named `leader`, then its log said `now`.
fn judge(host: Name, before: &Raft, now: &Raft, leader: Option<Name>) -> Outcome {
    let Some(role) = now.role() else {
        return Outcome::Info("the server has not logged its role yet".to_string());
    };
    let leads = role == Role::Leader;
    if leads != (leader == Some(host)) || leads && before != now {
        return Outcome::Info("log and /jsz do not agree on who leads".to_string());
    }
    Outcome::Ok(Answer::Status(Status {
        role,
        epoch: now.epoch(),
        token: None,
        reign: now.reign(),
        leader,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::log::RaftLine;
    use splitbrain_core::{Epoch, Reign};
    use std::net::TcpListener;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn raft(lines: &[RaftLine]) -> Raft {
        let mut raft = Raft::default();
        lines.iter().for_each(|line| drop(raft.take(*line)));
        raft
    }

    #[test]
    fn a_leader_says_so_only_where_log_and_monitor_agree() {
        let leader = raft(&[RaftLine::Asks { term: 5 }, RaftLine::Leads]);
        let again = raft(&[RaftLine::Leads, RaftLine::Asks { term: 5 }, RaftLine::Leads]);
        let follower = raft(&[RaftLine::Follows]);
        let say = |before: &Raft, now: &Raft, leader: &str| judge(name("n1"), before, now, leader.parse().ok());
        let Outcome::Ok(Answer::Status(status)) = say(&leader, &leader, "n1") else {
            panic!("it leads")
        };
        assert_eq!(
            (status.role, status.epoch, status.reign, status.leader),
            (Role::Leader, Some(Epoch(5)), Some(Reign(1)), Some(name("n1")))
        );
        let Outcome::Ok(Answer::Status(status)) = say(&leader, &follower, "n2") else {
            panic!("it follows")
        };
        assert_eq!(
            (status.role, status.epoch, status.reign, status.leader),
            (Role::Follower, None, None, Some(name("n2")))
        );
        for (before, now, named) in [
            (&leader, &leader, "n2"),
            (&leader, &leader, ""),
            (&follower, &leader, "n1"),
            (&leader, &again, "n1"),
            (&leader, &follower, "n1"),
            (&follower, &Raft::default(), "n2"),
        ] {
            let said = say(before, now, named);
            assert!(matches!(said, Outcome::Info(_)), "{now:?} {named}: {said:?}");
        }
    }

    /// Asks a server that takes one connection and sends `answer`.
    async fn asked(answer: Option<&str>) -> Result<Option<Name>, MonitorError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = answer.map(|answer| {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            })
        });
        let observer = Observer {
            settings: Settings {
                host: name("n1"),
                log: PathBuf::new(),
                monitor: format!("http://{address}"),
            },
            http: reqwest::Client::new(),
            voice: Voice::new().0,
            log: LogPipe::new(PathBuf::new()),
            raft: RefCell::default(),
        };
        let leader = observer.meta_leader().await;
        server.into_iter().for_each(|server| server.join().unwrap());
        leader
    }

    #[tokio::test]
    async fn the_monitor_is_read_and_only_who_is_not_there_fails() {
        let meta =
            |leader: &str| format!(r#"{{"now":"x","meta_cluster":{{"name":"splitbrain",{leader}"cluster_size":3}}}}"#);
        assert_eq!(asked(Some(&meta(r#""leader":"n1","#))).await.unwrap(), Some(name("n1")));
        assert_eq!(asked(Some(&meta(""))).await.unwrap(), None);
        let outcome = |asked: Result<_, MonitorError>| asked.unwrap_err().outcome();
        // JetStream is not up yet, or the answer is cut off.
        for answer in ["{}", "{\"meta_cluster\":"] {
            assert!(
                matches!(outcome(asked(Some(answer)).await), Outcome::Info(_)),
                "{answer}"
            );
        }
        assert!(matches!(outcome(asked(None).await), Outcome::Fail(_)));
    }
}
