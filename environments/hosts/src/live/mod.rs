//! The world of real hosts, on any [`Ground`].
//!
//! [`LiveWorld`] holds the processes' pipes. One thread per process reads what it says and one writes what it is asked;
//! one carries actions out, one at a time; all of them put what happens into one mailbox, from which the runner polls. No
//! process can hold the runner up: a paused one only fills its own queue, a flooding one only its own share of the mailbox.
//!
//! **Order.** A host's next life begins only after the last word of the one before was read: kills wait for the end of its
//! pipes. Should something else hold a pipe open, what still comes from the old life is left out in [`World::poll`].
//!
//! **Answers.** A request is answered once, by the host that was asked; any other answer is garbage.
//!
//! **Time.** A happening's time is when control came to know of it, and never falls from one poll to the next: an answer
//! is stamped no earlier than it arrived, a question (by the runner, before it submits) no later than it was put.
mod machine;
mod mailbox;
mod streams;

use crate::ground::Ground;
use crate::local::helper;
use anyhow::{Context, Result};
use machine::{Inputs, Machine, Shared};
use mailbox::{Item, Mailbox};
use splitbrain_core::wire::Request;
use splitbrain_core::{Action, Happening, Name, Nanos, Op, ProcessSpec, Site, World};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use streams::Lines;

/// Hosts and candidates that really run. Dropping it ends all of them, and waits until they have ended.
pub struct LiveWorld {
    clock: Clock,
    /// The latest time that was handed out.
    latest: Cell<Nanos>,
    mailbox: Arc<Mailbox>,
    inputs: Inputs,
    /// Who was asked each request that has no answer yet.
    asked: BTreeMap<u64, Name>,
    /// The newest life of each host whose start was polled.
    lives: BTreeMap<Name, u32>,
    orders: Option<Sender<(u64, Action)>>,
    worker: Option<JoinHandle<()>>,
    exits: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// The control node's monotonic clock, from the world's start.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// Opens once.
#[derive(Default)]
pub(crate) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub fn open(&self) {
        *self.open.lock().expect("no holder panics") = true;
        self.opened.notify_all();
    }

    /// Waits for it to open, but not for ever; whether it is open.
    pub fn wait(&self, at_most: Duration) -> bool {
        let open = self.open.lock().expect("no holder panics");
        let (open, _) = self
            .opened
            .wait_timeout_while(open, at_most, |open| !*open)
            .expect("no holder panics");
        *open
    }
}

impl LiveWorld {
    /// Starts the processes of all hosts, in this order. The world's time begins now. Fails if one cannot be started.
    pub fn start(ground: Arc<dyn Ground>, processes: Vec<ProcessSpec>) -> Result<LiveWorld> {
        let clock = Clock(Instant::now());
        let mailbox = Arc::new(Mailbox::default());
        let inputs = Inputs::default();
        let shared = Arc::new(Shared::new(ground, clock, mailbox.clone()));
        let mut machine = Machine::new(shared.clone(), inputs.clone(), processes);
        // Made before any process is, so that a failed start ends them all when it is dropped.
        let mut world = LiveWorld {
            clock,
            latest: Cell::new(Nanos::ZERO),
            mailbox,
            inputs,
            asked: BTreeMap::new(),
            lives: BTreeMap::new(),
            orders: None,
            worker: None,
            exits: None,
            shared: shared.clone(),
        };
        let endings = shared.ground.endings();
        world.exits = Some(helper("exits", move || machine::report_exits(&shared, &endings))?);
        machine
            .start_all()
            .map_err(anyhow::Error::msg)
            .context("failed to start the hosts' processes")?;
        let (orders, inbox) = channel::<(u64, Action)>();
        world.orders = Some(orders);
        world.worker = Some(helper("actions", move || {
            for (id, action) in inbox {
                let result = machine.carry_out(&action);
                machine.post(Happening::Acted { id, result });
            }
        })?);
        Ok(world)
    }

    /// Where the hosts are.
    pub fn site(&self) -> &Site {
        self.shared.ground.site()
    }

    /// The run's directory, absolute.
    pub fn dir(&self) -> &Path {
        self.shared.ground.dir()
    }

    fn instant(&self, at: Nanos) -> Instant {
        // A wait of a year is one without end, and cannot overflow.
        let year = Nanos::secs(365 * 24 * 3600);
        self.clock.0 + Duration::from(at.min(self.clock.now() + year))
    }

    fn stamp(&self, at: Nanos) -> Nanos {
        self.latest.set(self.latest.get().max(at));
        self.latest.get()
    }

    /// `what`, unless it is the answer of a host that was not asked: nobody answers for another, or twice.
    fn vouched(&mut self, of: Option<(Name, u32)>, what: Happening) -> Happening {
        let (Happening::Completed { id, .. }, Some((host, _))) = (&what, of) else {
            return what;
        };
        if self.asked.get(id) == Some(&host) {
            self.asked.remove(id);
            return what;
        }
        let what = format!("it answered request {id}, which it was not asked or had answered before");
        Happening::Garbage { host, what }
    }

    /// Whether this belongs to a life that is over: its next one's start was already polled.
    fn is_stale(&mut self, item: &Item) -> bool {
        if let Happening::Started { host, incarnation } = item.what {
            self.lives.insert(host, incarnation);
        }
        item.of
            .is_some_and(|(host, life)| self.lives.get(&host).is_some_and(|now| life < *now))
    }
}

impl World for LiveWorld {
    fn now(&self) -> Nanos {
        self.stamp(self.clock.now())
    }

    fn submit(&mut self, id: u64, host: Name, op: Op) {
        // A dead host has no input; the runner times the operation out.
        if let Some(mouth) = self.inputs.of(host) {
            let mut line = serde_json::to_vec(&Request { id, op }).expect("plain data always becomes JSON");
            line.push(b'\n');
            self.asked.insert(id, host);
            mouth.tell(line);
        }
    }

    fn act(&mut self, id: u64, action: &Action) {
        let sent = self.orders.as_ref().map(|orders| orders.send((id, action.clone())));
        if !matches!(sent, Some(Ok(()))) {
            let result = Err("the thread that carries actions out has ended".into());
            self.shared.post(Happening::Acted { id, result });
        }
    }

    fn poll(&mut self, until: Nanos) -> Option<(Nanos, Happening)> {
        let until = self.instant(until);
        loop {
            let item = self.mailbox.take(until)?;
            if !self.is_stale(&item) {
                return Some((self.stamp(item.at), self.vouched(item.of, item.what)));
            }
        }
    }
}

impl Drop for LiveWorld {
    fn drop(&mut self) {
        self.shared.end();
        self.inputs.clear();
        self.mailbox.close();
        self.orders = None;
        for thread in [self.worker.take(), self.exits.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}
