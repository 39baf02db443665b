//! A candidate: an ordinary client of etcd's election recipe that does the leader's work while it leads.
//!
//! Its life is a loop: get a lease, keep it alive, campaign; lead from the moment in which the campaign ends until the
//! session does; then get another lease. **It leads as long as its session is not done**, which is what the recipe tells
//! its users to go by, and nothing else is asked before a write: no second look at the key, no check of a clock. What
//! users run is what is judged.
//!
//! **Work takes time.** A leader looks whether it leads, works for a while, and writes what came of it. It may be paused
//! in between, and then writes as one who leads no more. No look right before the write would close that gap, only make it
//! rarer (Kleppmann, "How to do distributed locking"); how long the work takes is an option of the plan.
//!
//! Epoch and fencing token are the create revision of the candidate's key. A session that ended never campaigns again
//! and each campaign of one session puts a new key, so a revision belongs to one reign; the one exception, a resignation
//! whose delete got no answer, ends the session too.
//!
//! **Timers after a pause** behave as in Go: a timer whose time came during the pause fires at once on resuming, in no
//! order with whatever else became ready meanwhile, a request of control's or an answer of a server's included.
use crate::election::Settings;
use crate::election::lease::{LOOK_EVERY, Lease};
use crate::election::recipe;
use crate::election::store::Store;
use crate::gateway::{CallError, Effect, Gateway, outcome};
use crate::voice::{self, Voice};
use anyhow::Result;
use splitbrain_core::wire::Request;
use splitbrain_core::{Answer, Epoch, Nanos, Op, Outcome, Reign, Role, Status, Token, Unasked};
use splitbrain_node::protocols::storage::{StoreOp, StoreResult};
use splitbrain_node::stdio::Stdio;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_local};
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

async fn serve(settings: Settings, mut requests: Receiver<Request>, voice: Voice) -> Result<()> {
    let gateway = Gateway::new(settings.servers.clone())?.starting_at(settings.first_server);
    let (resignations, resigned) = unbounded_channel();
    let candidate = Rc::new(Candidate {
        gateway: Rc::new(gateway),
        store: Store::new(settings.host, settings.storage),
        settings,
        voice,
        belief: RefCell::default(),
        reigns: Cell::new(0),
        resignations,
    });
    let asked = async {
        while let Some(request) = requests.recv().await {
            let candidate = candidate.clone();
            spawn_local(async move {
                let outcome = candidate.carry_out(request.op).await;
                candidate.voice.answer(request.id, outcome);
            });
        }
    };
    candidate.voice.event(Unasked::Ready);
    tokio::select! {
        () = asked => Ok(()),
        never = candidate.live(resigned) => match never {},
    }
}

/// What a resignation's delete is answered with.
type Resignation = oneshot::Sender<Outcome>;

struct Candidate {
    settings: Settings,
    gateway: Rc<Gateway>,
    store: Store,
    voice: Voice,
    belief: RefCell<Belief>,
    /// So far.
    reigns: Cell<u64>,
    /// Asked of the present reign.
    resignations: UnboundedSender<Resignation>,
}

#[derive(Default)]
enum Belief {
    /// It has no lease, and so takes no part.
    #[default]
    Out,
    /// Its key is in the queue, or about to be.
    Waiting,
    /// It leads, so it believes.
    Leading(Leading),
}

#[derive(Clone)]
struct Leading {
    reign: Reign,
    revision: u64,
    /// The newest write to the storage that it has seen; `None` until its first look is answered.
    base: watch::Sender<Option<u64>>,
}

impl Candidate {
    async fn live(self: &Rc<Self>, mut resigned: UnboundedReceiver<Resignation>) -> std::convert::Infallible {
        loop {
            let lease = match recipe::grant(&self.gateway, self.settings.ttl).await {
                Ok(lease) => lease,
                Err(error) => {
                    note("get a lease", &error);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            *self.belief.borrow_mut() = Belief::Waiting;
            let why = tokio::select! {
                biased;
                why = keep(self.gateway.clone(), lease) => why,
                why = self.take_part(lease, &mut resigned) => why,
            };
            self.depose(&why);
            *self.belief.borrow_mut() = Belief::Out;
        }
    }

    /// Campaigns and leads, again and again; why the session must end before its lease does.
    async fn take_part(self: &Rc<Self>, lease: u64, resigned: &mut UnboundedReceiver<Resignation>) -> String {
        loop {
            let revision = match recipe::campaign(&self.gateway, lease, self.settings.host.as_str()).await {
                Ok(revision) => revision,
                // The lease was refused by rule: it is gone, and no repetition brings it back.
                Err(error @ CallError::Refused { code: 5, .. }) => return error.to_string(),
                Err(error) => {
                    note("campaign", &error);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            // What was asked of an older reign ended with it.
            while resigned.try_recv().is_ok() {}
            self.lead(revision);
            let answer = resigned.recv().await.expect("the candidate keeps the sender");
            let deleted = recipe::resign(&self.gateway, lease, revision).await;
            let _ = answer.send(match &deleted {
                Ok(()) => Outcome::Ok(Answer::Done),
                Err(error) => outcome(error, Effect::Write),
            });
            if let Err(error) = deleted {
                // The key may still be there; another campaign of this session would find it and lead with its revision
                // a second time.
                if let Err(error) = recipe::revoke(&self.gateway, lease).await {
                    note("revoke the lease", &error);
                }
                return format!("the resignation had no answer: {error}");
            }
        }
    }

    /// A reign begins.
    fn lead(self: &Rc<Self>, revision: u64) {
        let reign = Reign(self.reigns.get() + 1);
        self.reigns.set(reign.0);
        let leading = Leading {
            reign,
            revision,
            base: watch::Sender::new(None),
        };
        *self.belief.borrow_mut() = Belief::Leading(leading.clone());
        self.voice.event(Unasked::Elected {
            epoch: Epoch(revision),
            token: Some(Token(revision)),
            reign,
        });
        let candidate = self.clone();
        spawn_local(async move { candidate.look_at_storage(&leading).await });
    }

    /// A new leader first asks what was written before it; each write names what its writer had seen.
    async fn look_at_storage(&self, leading: &Leading) {
        let look = StoreOp::Last {
            token: Some(Token(leading.revision)),
        };
        while self.leads(leading.reign) {
            if let Some(StoreResult::Last { seq, .. }) = self.store.ask(look).await {
                leading.saw(seq);
                return;
            }
        }
    }

    fn leads(&self, reign: Reign) -> bool {
        matches!(&*self.belief.borrow(), Belief::Leading(leading) if leading.reign == reign)
    }

    /// The reign, if there is one, ends.
    fn depose(&self, why: &str) {
        let mut belief = self.belief.borrow_mut();
        if let Belief::Leading(Leading { reign, .. }) = &*belief {
            self.voice.event(Unasked::Deposed {
                reign: *reign,
                why: why.to_string(),
            });
            *belief = Belief::Waiting;
        }
    }

    async fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Observe => Outcome::Ok(Answer::Status(self.status())),
            Op::Write { value } => self.write(value).await,
            Op::Read => match self.store.ask(StoreOp::Last { token: None }).await {
                Some(StoreResult::Last { value, .. }) => Outcome::Ok(Answer::Value(value)),
                Some(other) => Outcome::Info(format!("the storage answered {other:?}")),
                None => Outcome::Info("storage timed out".to_string()),
            },
            // It campaigns by itself, always.
            Op::Campaign => Outcome::Ok(Answer::Done),
            Op::Resign => self.resign().await,
            Op::Get | Op::Set { .. } | Op::Cas { .. } => {
                Outcome::Fail(format!("a candidate of etcd-election knows no {}", op.name()))
            }
        }
    }

    fn status(&self) -> Status {
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
                epoch: Some(Epoch(leading.revision)),
                token: Some(Token(leading.revision)),
                reign: Some(leading.reign),
                leader: Some(self.settings.host),
            },
        }
    }

    async fn write(&self, value: u64) -> Outcome {
        let not_leader = || Outcome::Fail("not-leader".to_string());
        let leading = match &*self.belief.borrow() {
            Belief::Leading(leading) => leading.clone(),
            _ => return not_leader(),
        };
        let Some(base) = leading.base().await else {
            return Outcome::Fail("storage timed out before the write was sent".to_string());
        };
        if !self.leads(leading.reign) {
            return not_leader();
        }
        sleep(self.settings.work.into()).await;
        let token = Token(leading.revision);
        match self.store.ask(StoreOp::Write { token, base, value }).await {
            Some(StoreResult::Accepted { seq }) => {
                leading.saw(seq);
                Outcome::Ok(Answer::Written { token, seq })
            }
            Some(StoreResult::Rejected { .. }) => Outcome::Fail("stale-token".to_string()),
            Some(other) => Outcome::Info(format!("the storage answered {other:?}")),
            None => Outcome::Info("storage timed out".to_string()),
        }
    }

    /// Belief ends before the key is deleted: who is elected next must not meet a leader that meant to be none.
    async fn resign(&self) -> Outcome {
        if !matches!(&*self.belief.borrow(), Belief::Leading(_)) {
            return Outcome::Fail("not-leader".to_string());
        }
        self.depose("resigned");
        let (sender, answer) = oneshot::channel();
        self.resignations
            .send(sender)
            .expect("the candidate lives as long as its tasks");
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Info("the session ended meanwhile".to_string()),
        }
    }
}

impl Leading {
    fn saw(&self, seq: u64) {
        self.base
            .send_modify(|base| *base = Some(base.map_or(seq, |b| b.max(seq))));
    }

    /// The newest write seen, once the first look at the storage was answered.
    async fn base(&self) -> Option<u64> {
        let mut changes = self.base.subscribe();
        let known = tokio::time::timeout(Duration::from_secs(1), changes.wait_for(Option::is_some)).await;
        *known.ok()?.ok()?
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
                    answers.spawn_local(async move { recipe::keep_alive(&gateway, lease_id).await });
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
