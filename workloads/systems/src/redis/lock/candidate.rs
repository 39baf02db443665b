//! A candidate: a client that takes the documented lock, and does the leader's work while it holds it.
//!
//! Its life is a loop: try to acquire; lead from the moment at which the lock is considered acquired, for the validity time;
//! extend it each third of the time to live; after a random delay try again. It leads until its own monotonic clock says that
//! the validity time is over, until an extension shows that the key is somebody else's, or until it has extended as often
//! as it may ("the maximum number of lock reacquisition attempts should be limited"). An extension that got no answer is
//! tried again, and changes nothing about what is held.
//!
//! Nothing else is asked before a write: who is paused between his look at the clock and his write writes all the same,
//! which is what fencing tokens are for, and the lock has none.
use crate::contender::Contender;
use crate::redis::lock::Settings;
use crate::redis::lock::recipe::{Extension, Held, Lock};
use crate::store::Store;
use crate::voice::{self, Voice};
use anyhow::Result;
use splitbrain_core::wire::Request;
use splitbrain_core::{Epoch, Nanos, Token};
use splitbrain_node::stdio::Stdio;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

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
    let lock = Lock::new(&settings.instances, settings.timeout.into(), settings.ttl);
    let store = Store::new(settings.common.host, settings.storage);
    let third = Duration::from(Nanos(settings.ttl.0 / 3));
    let contender = Contender::new(settings.common, Box::new(store), voice);
    let recipe = live(&contender, lock, third, settings.extensions);
    contender.serve(requests, recipe).await
}

async fn live(contender: &Rc<Contender>, lock: Lock, third: Duration, extensions: u64) -> Infallible {
    loop {
        contender.wanted().await;
        contender.waiting();
        if let Some(held) = lock.acquire().await {
            contender.lead(Epoch::NONE, Token::NONE);
            contender.valid_until(held.until);
            tokio::select! {
                biased;
                resignation = contender.resigned() => resignation.done(lock.unlock(&held).await),
                () = contender.lapsed() => {
                    contender.depose("the validity time is over");
                    lock.unlock(&held).await;
                }
                why = extend(contender, &lock, &held, third, extensions) => {
                    contender.depose(why);
                    lock.unlock(&held).await;
                }
            }
        }
        sleep(lock.delay()).await;
    }
}

/// Extends what is held; why no longer.
async fn extend(contender: &Contender, lock: &Lock, held: &Held, third: Duration, extensions: u64) -> &'static str {
    for _ in 0..extensions {
        sleep(third).await;
        loop {
            match lock.extend(held).await {
                Extension::Until(until) => {
                    contender.valid_until(until);
                    break;
                }
                Extension::Gone => return "the key is not ours any more",
                Extension::Unknown => sleep(lock.delay()).await,
            }
        }
    }
    sleep(third).await;
    "extended as often as allowed"
}
