//! What every recipe's candidate does beside the recipe: it believes, answers, and does the leader's work.
//!
//! A recipe is a future that never ends: it gets a session, campaigns, calls [`Contender::lead`] at the moment from which
//! the recipe tells its users to act as leader, and [`Contender::depose`] at the moment from which it tells them not to.
//! Everything else is here and the same for all, so that only the recipes differ in what is judged. Nothing here makes a
//! recipe safer: no second look before a write, no check of a clock.
//!
//! **Validity times.** Where the recipe itself tells its users until when they hold what they hold, it calls
//! [`Contender::valid_until`]: the reign is over when the candidate's own monotonic clock says so, whatever else the
//! candidate was busy with at that time.
//!
//! **Work takes time.** A leader looks whether it leads, works for a while, and writes what came of it. It may be paused
//! in between, and then writes as one who leads no more. No look right before the write would close that gap, only make it
//! rarer (Kleppmann, "How to do distributed locking"); how long the work takes is an option of the plan.
//!
//! **Ids and jobs.** A leader's first look at the storage tells the newest id or job there, under its own token, so that a
//! fenced storage refuses its predecessor's from then on. An id is the newest known one plus one, written before it is
//! handed out. A job is run only if the storage's newest one is lower: jobs are offered in order, one at a time. That the
//! newest is the highest rests on two things: the way to the storage keeps the order of one candidate's requests, and a
//! candidate never sends a lower one after a higher one.
//!
//! **Locks.** Where the workload is `lock`, a contender campaigns only while somebody waits for the lock, and lets go at
//! once of one that comes when nobody does any more.
use crate::voice::Voice;
use serde::{Deserialize, Serialize};
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Name, Nanos, Op, Outcome, Reign, Role, Status, Token, Unasked};
use splitbrain_node::protocols::storage::{StoreOp, StoreResult};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a write waits for the first look at the storage.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long a lock is waited for; control waits for 2 s.
const ACQUIRE: Duration = Duration::from_millis(1500);
/// Before a first look at the storage that failed is repeated: one that fails at once must not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What every candidate is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// Its host, its name in the election, and the writer's name at the storage.
    pub host: Name,
    /// How long a leader's work takes between its look at whether it leads and its write, in nanoseconds.
    pub work: Nanos,
    /// Whether it campaigns only while it is asked for the lock.
    pub on_demand: bool,
}

/// What is written to.
pub(crate) trait Resource {
    /// Asks once. `None`: no answer in time; request or answer may be lost, or still under way.
    fn ask(&self, what: StoreOp) -> Pin<Box<dyn Future<Output = Option<StoreResult>> + '_>>;
}

/// A candidate without its recipe. For one thread, in a `LocalSet`.
pub(crate) struct Contender {
    common: Common,
    resource: Box<dyn Resource>,
    voice: Voice,
    belief: RefCell<Belief>,
    /// So far.
    reigns: Cell<u64>,
    /// Whether it is to campaign.
    wanted: Cell<bool>,
    /// Asked of the present reign.
    resignation: RefCell<Option<Resignation>>,
    /// Rings when any of the above changed.
    bell: Notify,
}

#[derive(Default)]
enum Belief {
    /// It has no session, and so takes no part.
    #[default]
    Out,
    /// It takes part, or is about to.
    Waiting,
    /// It leads, so it believes.
    Leading(Leading),
}

#[derive(Clone)]
struct Leading {
    reign: Reign,
    epoch: Epoch,
    token: Token,
    /// The newest write to the storage that it has seen; `None` until its first look is answered.
    seen: watch::Sender<Option<Seen>>,
    /// The highest id or job that it tried to write.
    tried: Rc<Cell<u64>>,
    /// When it is over by itself, if ever.
    until: Rc<Cell<Option<Instant>>>,
}

#[derive(Clone, Copy)]
struct Seen {
    seq: u64,
    value: u64,
}

/// That the present reign is to end, by the recipe's own way of giving up.
pub(crate) struct Resignation(Option<oneshot::Sender<Outcome>>);

impl Resignation {
    /// How it ended.
    pub(crate) fn done(self, outcome: Outcome) {
        // Nobody waits where a lock came too late.
        if let Some(answer) = self.0 {
            let _ = answer.send(outcome);
        }
    }
}

impl Contender {
    pub(crate) fn new(common: Common, resource: Box<dyn Resource>, voice: Voice) -> Rc<Contender> {
        Rc::new(Contender {
            wanted: Cell::new(!common.on_demand),
            common,
            resource,
            voice,
            belief: RefCell::default(),
            reigns: Cell::new(0),
            resignation: RefCell::default(),
            bell: Notify::new(),
        })
    }

    /// Says `ready`, and answers `requests` while `recipe` lives, until control is gone.
    pub(crate) async fn serve(
        self: &Rc<Self>,
        mut requests: Receiver<Request>,
        recipe: impl Future<Output = Infallible>,
    ) -> anyhow::Result<()> {
        let asked = async {
            while let Some(request) = requests.recv().await {
                let contender = self.clone();
                spawn_local(async move {
                    let outcome = contender.carry_out(request.op).await;
                    contender.voice.answer(request.id, outcome);
                });
            }
        };
        self.voice.event(Unasked::Ready);
        tokio::select! {
            () = asked => Ok(()),
            never = recipe => match never {},
        }
    }

    pub(crate) fn host(&self) -> Name {
        self.common.host
    }

    /// Returns once it is to campaign: at once, but for a lock that nobody asked for.
    pub(crate) async fn wanted(&self) {
        while !self.wanted.get() {
            self.bell.notified().await;
        }
    }

    /// It takes part from here on.
    pub(crate) fn waiting(&self) {
        *self.belief.borrow_mut() = Belief::Waiting;
    }

    /// It takes no part from here on; a reign that lasts ends.
    pub(crate) fn out(&self, why: &str) {
        self.depose(why);
        *self.belief.borrow_mut() = Belief::Out;
    }

    /// A reign begins. [`Epoch::NONE`] and [`Token::NONE`] where the system has none.
    pub(crate) fn lead(self: &Rc<Self>, epoch: Epoch, token: Token) -> Reign {
        // What was asked of an older reign ended with it.
        self.resignation.take();
        let reign = Reign(self.reigns.get() + 1);
        self.reigns.set(reign.0);
        let leading = Leading {
            reign,
            epoch,
            token,
            seen: watch::Sender::new(None),
            tried: Rc::default(),
            until: Rc::default(),
        };
        *self.belief.borrow_mut() = Belief::Leading(leading.clone());
        self.voice.event(Unasked::Elected {
            epoch,
            token: (token != Token::NONE).then_some(token),
            reign,
        });
        if !self.wanted.get() {
            self.depose("nobody waited for the lock any more");
            *self.resignation.borrow_mut() = Some(Resignation(None));
        }
        self.bell.notify_waiters();
        let contender = self.clone();
        spawn_local(async move { contender.look_at_storage(&leading).await });
        reign
    }

    /// The present reign lasts until then and no longer, unless this is said again.
    pub(crate) fn valid_until(&self, until: Instant) {
        if let Belief::Leading(leading) = &*self.belief.borrow() {
            leading.until.set(Some(until));
        }
    }

    /// Returns once the present reign's validity time is over. Never, if it has none.
    pub(crate) async fn lapsed(&self) {
        while let Some(until) = self.leading().and_then(|leading| leading.until.get()) {
            sleep_until(until).await;
        }
        if self.leads_now() {
            std::future::pending().await
        }
    }

    /// A reign whose validity time is over ends.
    fn look_at_clock(&self) {
        let over = match &*self.belief.borrow() {
            Belief::Leading(leading) => leading.until.get().is_some_and(|until| until <= Instant::now()),
            _ => false,
        };
        if over {
            self.depose("the validity time is over");
        }
    }

    /// The reign, if there is one, ends.
    pub(crate) fn depose(&self, why: &str) {
        let mut belief = self.belief.borrow_mut();
        if let Belief::Leading(Leading { reign, .. }) = &*belief {
            self.voice.event(Unasked::Deposed {
                reign: *reign,
                why: why.to_string(),
            });
            *belief = Belief::Waiting;
            // Who lost a lock must be asked to take it again.
            self.wanted.set(!self.common.on_demand);
        }
    }

    /// Whether it leads.
    pub(crate) fn leads_now(&self) -> bool {
        self.look_at_clock();
        matches!(&*self.belief.borrow(), Belief::Leading(_))
    }

    /// Returns once the reign is to be given up. Belief has ended by then: who is elected next must not meet a leader that
    /// meant to be none.
    pub(crate) async fn resigned(&self) -> Resignation {
        loop {
            if let Some(resignation) = self.resignation.take() {
                return resignation;
            }
            self.bell.notified().await;
        }
    }

    fn leading(&self) -> Option<Leading> {
        self.look_at_clock();
        match &*self.belief.borrow() {
            Belief::Leading(leading) => Some(leading.clone()),
            _ => None,
        }
    }

    fn leads(&self, reign: Reign) -> bool {
        self.look_at_clock();
        matches!(&*self.belief.borrow(), Belief::Leading(leading) if leading.reign == reign)
    }

    /// A new leader first asks what was written before it; each write names what its writer had seen.
    async fn look_at_storage(&self, leading: &Leading) {
        while self.leads(leading.reign) {
            if self.look(leading).await {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// One look under the leader's token; whether it was answered.
    async fn look(&self, leading: &Leading) -> bool {
        let token = (leading.token != Token::NONE).then_some(leading.token);
        match self.resource.ask(StoreOp::Last { token }).await {
            Some(StoreResult::Last { seq, value }) => {
                leading.saw(seq, value.unwrap_or(0));
                true
            }
            _ => false,
        }
    }

    async fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Observe => Outcome::Ok(Answer::Status(self.status())),
            Op::Write { value } => self.write(value).await,
            Op::Read => match self.resource.ask(StoreOp::Last { token: None }).await {
                Some(StoreResult::Last { value, .. }) => Outcome::Ok(Answer::Value(value)),
                other => unknown(other),
            },
            Op::Next => self.hand_out().await,
            Op::Run { job } => self.run(job).await,
            Op::Acquire => self.acquire().await,
            Op::Release => self.resign("released").await,
            Op::Resign => self.resign("resigned").await,
            // It campaigns by itself, always.
            Op::Campaign => Outcome::Ok(Answer::Done),
            Op::Get | Op::Set { .. } | Op::Cas { .. } => Outcome::Fail(format!("a candidate knows no {}", op.name())),
        }
    }

    fn status(&self) -> Status {
        self.look_at_clock();
        let quiet = |role| Status {
            role,
            epoch: None,
            token: None,
            reign: None,
            leader: None,
        };
        match &*self.belief.borrow() {
            Belief::Out => quiet(Role::Follower),
            Belief::Waiting => quiet(Role::Candidate),
            Belief::Leading(leading) => Status {
                role: Role::Leader,
                epoch: leading.epoch.known(),
                token: (leading.token != Token::NONE).then_some(leading.token),
                reign: Some(leading.reign),
                leader: Some(self.common.host),
            },
        }
    }

    /// A leader that has had its first look at the storage, and what it saw.
    async fn at_work(&self) -> Result<(Leading, Seen), Outcome> {
        let not_leader = || Outcome::Fail("not-leader".to_string());
        let leading = self.leading().ok_or_else(not_leader)?;
        let Some(seen) = leading.seen().await else {
            return Err(Outcome::Fail("storage timed out before the write was sent".to_string()));
        };
        if !self.leads(leading.reign) {
            return Err(not_leader());
        }
        Ok((leading, seen))
    }

    /// Does the work of which something is to be written.
    async fn work(&self) {
        sleep(self.common.work.into()).await;
    }

    async fn store(&self, leading: &Leading, base: u64, value: u64) -> Outcome {
        let token = leading.token;
        match self.resource.ask(StoreOp::Write { token, base, value }).await {
            Some(StoreResult::Accepted { seq }) => {
                leading.saw(seq, value);
                Outcome::Ok(Answer::Written { token, seq })
            }
            Some(StoreResult::Rejected { .. }) => Outcome::Fail("stale-token".to_string()),
            other => unknown(other),
        }
    }

    async fn write(&self, value: u64) -> Outcome {
        match self.at_work().await {
            Ok((leading, seen)) => {
                self.work().await;
                self.store(&leading, seen.seq, value).await
            }
            Err(outcome) => outcome,
        }
    }

    async fn hand_out(&self) -> Outcome {
        let (leading, seen) = match self.at_work().await {
            Ok(at_work) => at_work,
            Err(outcome) => return outcome,
        };
        let id = seen.value.max(leading.tried.get()) + 1;
        leading.tried.set(id);
        self.work().await;
        if leading.tried.get() > id {
            return Outcome::Fail("overtaken by a later id".to_string());
        }
        match self.store(&leading, seen.seq, id).await {
            Outcome::Ok(_) => Outcome::Ok(Answer::Value(Some(id))),
            other => other,
        }
    }

    async fn run(&self, job: u64) -> Outcome {
        let leading = match self.at_work().await {
            Ok((leading, _)) => leading,
            Err(outcome) => return outcome,
        };
        // Its own last run may have had no answer, so each job begins with a look.
        if !self.look(&leading).await {
            return Outcome::Fail("storage timed out before the job was run".to_string());
        }
        let Some(seen) = *leading.seen.borrow() else {
            return Outcome::Fail("storage timed out before the job was run".to_string());
        };
        if seen.value >= job {
            return Outcome::Fail("already-ran".to_string());
        }
        leading.tried.set(job.max(leading.tried.get()));
        self.work().await;
        if leading.tried.get() > job {
            return Outcome::Fail("overtaken by a later job".to_string());
        }
        self.store(&leading, seen.seq, job).await
    }

    async fn acquire(&self) -> Outcome {
        self.wanted.set(true);
        self.bell.notify_waiters();
        let held = async {
            loop {
                if let Some(leading) = self.leading() {
                    return leading;
                }
                self.bell.notified().await;
            }
        };
        match timeout(ACQUIRE, held).await {
            Ok(Leading { reign, token, .. }) => Outcome::Ok(Answer::Held {
                reign,
                token: (token != Token::NONE).then_some(token),
            }),
            Err(_) => {
                self.wanted.set(false);
                Outcome::Fail("busy".to_string())
            }
        }
    }

    async fn resign(&self, why: &str) -> Outcome {
        if !self.leads_now() {
            return Outcome::Fail("not-leader".to_string());
        }
        self.depose(why);
        let (sender, answer) = oneshot::channel();
        *self.resignation.borrow_mut() = Some(Resignation(Some(sender)));
        self.bell.notify_waiters();
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Info("the session ended meanwhile".to_string()),
        }
    }
}

impl Leading {
    fn saw(&self, seq: u64, value: u64) {
        self.seen.send_if_modified(|seen| {
            let newer = seen.is_none_or(|seen| seq > seen.seq);
            if newer {
                *seen = Some(Seen { seq, value });
            }
            newer
        });
    }

    /// The newest write seen, once the first look at the storage was answered.
    async fn seen(&self) -> Option<Seen> {
        let mut changes = self.seen.subscribe();
        let known = timeout(FIRST_LOOK, changes.wait_for(Option::is_some)).await;
        *known.ok()?.ok()?
    }
}

fn unknown(answer: Option<StoreResult>) -> Outcome {
    match answer {
        Some(other) => Outcome::Info(format!("the storage answered {other:?}")),
        None => Outcome::Info("storage timed out".to_string()),
    }
}

#[cfg(test)]
#[path = "contender_tests.rs"]
mod tests;
