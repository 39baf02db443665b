//! A candidate: an ordinary client of a recipe that does the leader's work while it leads.
//!
//! Its life is a loop: get a lease, keep it alive, campaign; lead from the moment in which the campaign ends until the
//! session does; then get another lease. **It leads as long as its session is not done**, which is what the recipes tell
//! their users to go by, and nothing else is asked before a write: no second look at the key, no check of a clock. What
//! users run is what is judged.
//!
//! Epoch and fencing token are the create revision of the candidate's key. A session that ended never campaigns again
//! and each campaign of one session puts a new key, so a revision belongs to one reign; the one exception, a resignation
//! whose delete got no answer, ends the session too.
//!
//! **Timers after a pause** behave as in Go: a timer whose time came during the pause fires at once on resuming, in no
//! order with whatever else became ready meanwhile, a request of control's or an answer of a server's included.
use super::calls::{self, Held};
use super::guarded::{Guarded, Keys};
use super::lease::{LOOK_EVERY, Lease};
use super::{LostCall, Recipe, Settings, election, lease_key, lock};
use crate::contender::{Contender, Resource};
use crate::gateway::{CallError, Effect, Gateway, outcome};
use crate::store::Store;
use crate::voice::{self, Voice};
use anyhow::Result;
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Nanos, Outcome, Token};
use splitbrain_node::stdio::Stdio;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Before a call that failed is made again.
const PAUSE: Duration = Duration::from_millis(100);

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
    let gateway = Rc::new(Gateway::new(settings.servers.clone())?.starting_at(settings.first_server));
    let keys = Keys::default();
    let host = settings.common.host;
    let resource: Box<dyn Resource> = match settings.storage {
        Some(addr) => Box::new(Store::new(host, addr)),
        None => Box::new(Guarded::new(host, gateway.clone(), keys.clone())),
    };
    let candidate = Candidate {
        contender: Contender::new(settings.common, resource, voice),
        gateway,
        recipe: settings.recipe,
        ttl: settings.ttl,
        lost_call: settings.lost_call,
        keys,
    };
    candidate.contender.serve(requests, candidate.live()).await
}

struct Candidate {
    contender: Rc<Contender>,
    gateway: Rc<Gateway>,
    recipe: Recipe,
    /// In seconds.
    ttl: u64,
    lost_call: LostCall,
    /// By which it led so far.
    keys: Keys,
}

impl Candidate {
    async fn live(&self) -> Infallible {
        loop {
            self.contender.wanted().await;
            let lease = match calls::grant(&self.gateway, self.ttl).await {
                Ok(lease) => lease,
                Err(error) => {
                    note("get a lease", &error);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            self.contender.waiting();
            let why = tokio::select! {
                biased;
                why = keep(self.gateway.clone(), lease) => why,
                why = self.take_part(lease) => why,
            };
            self.contender.out(&why);
        }
    }

    /// Campaigns and leads, again and again; why the session must end before its lease does.
    async fn take_part(&self, lease: u64) -> String {
        loop {
            self.contender.wanted().await;
            let held = match self.campaign(lease).await {
                Ok(Some(held)) => held,
                Ok(None) => {
                    eprintln!("the lock was granted by a key that is gone");
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) if error.is_lease_gone() => return error.to_string(),
                Err(error) if self.recipe == Recipe::Lock && self.lost_call.ends_session(&error) => {
                    self.revoke(lease).await;
                    return format!("the call for the lock was lost: {error}");
                }
                Err(error) => {
                    note("campaign", &error);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let token = Token(held.revision);
            self.keys.borrow_mut().insert(token, held.key.clone());
            self.contender.lead(Epoch(held.revision), token);
            let resignation = self.contender.resigned().await;
            let deleted = self.resign(&held).await;
            resignation.done(match &deleted {
                Ok(()) => Outcome::Ok(Answer::Done),
                Err(error) => outcome(error, Effect::Write),
            });
            if let Err(error) = deleted {
                // The key may still be there; another campaign of this session would find it and lead with its revision
                // a second time.
                self.revoke(lease).await;
                return format!("the resignation had no answer: {error}");
            }
        }
    }

    /// Returns once it leads; `None` where it was told so by mistake.
    async fn campaign(&self, lease: u64) -> Result<Option<Held>, CallError> {
        let host = self.contender.host();
        match self.recipe {
            Recipe::Election => election::campaign(&self.gateway, lease, host.as_str()).await.map(Some),
            Recipe::Lease => lease_key::campaign(&self.gateway, lease, host.as_str()).await.map(Some),
            Recipe::Lock => lock::lock(&self.gateway, lease).await,
        }
    }

    async fn revoke(&self, lease: u64) {
        if let Err(error) = calls::revoke(&self.gateway, lease).await {
            note("revoke the lease", &error);
        }
    }

    async fn resign(&self, held: &Held) -> Result<(), CallError> {
        match self.recipe {
            Recipe::Election | Recipe::Lease => calls::delete(&self.gateway, held).await,
            Recipe::Lock => lock::unlock(&self.gateway, held).await,
        }
    }
}

/// Keeps `lease` alive for as long as that goes; why the session is done.
async fn keep(gateway: Rc<Gateway>, lease_id: u64) -> String {
    let began = Instant::now();
    let now = move || Nanos::from(began.elapsed());
    let look = Duration::from(LOOK_EVERY);
    let mut lease = Lease::new(now());
    let mut answers = JoinSet::new();
    let (mut send, mut check) = (Instant::now(), Instant::now() + look);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(send) => {
                // One may be under way already: the next is sent all the same, as on a stream.
                if lease.is_due(now()) {
                    let gateway = gateway.clone();
                    answers.spawn_local(async move { calls::keep_alive(&gateway, lease_id).await });
                }
                send = Instant::now() + look;
            }
            () = tokio::time::sleep_until(check) => {
                if lease.is_late(now()) {
                    return "no keepalive was answered before the deadline".to_string();
                }
                check = Instant::now() + look;
            }
            Some(answer) = answers.join_next() => match answer.expect("a keepalive never panics") {
                Ok(ttl) => {
                    lease.answered(now(), ttl);
                    if lease.is_gone() {
                        return "the lease is gone".to_string();
                    }
                }
                Err(error) => note("keep the lease alive", &error),
            },
        }
    }
}

/// For the process's own log.
fn note(what: &str, error: &CallError) {
    eprintln!("failed to {what}: {error}");
}
