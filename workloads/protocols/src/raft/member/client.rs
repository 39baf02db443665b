//! The leader's client of the storage.
//!
//! A write names its `base`, the newest write that this leader has seen. To know it, a new leader first asks for the
//! last accepted write; the writes that it is asked for meanwhile wait, unsent. Storage and network may lose anything:
//! a write without an answer is `info`, for it may have arrived or may still do so.
//!
//! **Ids and jobs** are writes whose value is the id or the job. An id is the newest that the leader knows of plus one,
//! be it in the storage or tried by itself. A job begins with a look of its own, since the last run may have had no
//! answer, and is run only if the newest job there is lower. That the newest is the highest rests on two things: the way
//! to the storage keeps the order of one member's requests, and a member never sends a lower one after a higher one.
use super::{answer, take_due};
use crate::Output;
use crate::storage::{StoreOp, StoreReply, StoreRequest, StoreResult};
use splitbrain_core::{Answer, Nanos, Outcome, Token};
use std::collections::{BTreeMap, VecDeque};

/// Most writes that wait for a leader's first look at the storage.
const QUEUE: usize = 64;

/// What a request to the storage is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// A leader's first look, under its token. Sent again until answered.
    Look {
        /// Of the reign that looks.
        token: Token,
    },
    /// [`splitbrain_core::Op::Read`].
    Read {
        /// To be answered.
        request: u64,
    },
    /// A look under the leader's token before a job is run.
    Check {
        /// To be answered.
        request: u64,
        /// Of the reign that looks.
        token: Token,
        /// To be run.
        job: u64,
    },
    /// A write, sent.
    Write {
        /// To be answered.
        request: u64,
        /// It was sent with.
        token: Token,
        /// Of the writer.
        value: u64,
        /// Of the writer.
        base: u64,
        /// Whether it hands out an id: then its value is the answer.
        hands_out: bool,
    },
}

/// What a leader is asked to write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// [`splitbrain_core::Op::Write`].
    Write(u64),
    /// [`splitbrain_core::Op::Next`].
    Next,
    /// [`splitbrain_core::Op::Run`].
    Run(u64),
}

/// A request that the storage has not answered.
#[derive(Clone, Copy, Debug)]
struct Sent {
    due: Nanos,
    work: Work,
}

/// A task that waits for the first look.
#[derive(Clone, Copy, Debug)]
struct Queued {
    due: Nanos,
    request: u64,
    task: Task,
}

/// The newest write that a leader has seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    seq: u64,
    value: u64,
}

/// What a leader knows of the storage.
#[derive(Clone, Debug)]
struct Reign {
    token: Token,
    /// `None` until the first look is answered.
    seen: Option<Seen>,
    /// The highest id or job that it tried to write.
    tried: u64,
    queue: VecDeque<Queued>,
}

/// The client: the requests under way, and the reign if there is one.
#[derive(Clone, Debug)]
pub(super) struct Client {
    next_id: u64,
    timeout: Nanos,
    sent: BTreeMap<u64, Sent>,
    reign: Option<Reign>,
}

impl Client {
    /// A client whose request ids follow `first_id`.
    pub(super) fn new(first_id: u64, timeout: Nanos) -> Client {
        Client {
            next_id: first_id,
            timeout: timeout.max(Nanos(1)),
            sent: BTreeMap::new(),
            reign: None,
        }
    }

    /// Looks at the storage before the first write.
    pub(super) fn elected(&mut self, now: Nanos, token: Token, out: &mut Vec<Output>) {
        self.reign = Some(Reign {
            token,
            seen: None,
            tried: 0,
            queue: VecDeque::new(),
        });
        self.send(now, Work::Look { token }, out);
    }

    /// Gives up what was not sent. What was sent keeps waiting: it may well be accepted.
    pub(super) fn deposed(&mut self, out: &mut Vec<Output>) {
        self.sent.retain(|_, sent| !matches!(sent.work, Work::Look { .. }));
        for Queued { request, .. } in self.reign.take().into_iter().flat_map(|reign| reign.queue) {
            answer(out, request, Outcome::Fail("not-leader".into()));
        }
    }

    /// Does `task`, as soon as it is known what was written before.
    pub(super) fn work(&mut self, now: Nanos, request: u64, task: Task, out: &mut Vec<Output>) {
        let due = now + self.timeout;
        match &mut self.reign {
            None => answer(out, request, Outcome::Fail("not-leader".into())),
            Some(Reign { seen: Some(_), .. }) => self.begin(now, request, task, out),
            Some(reign) if reign.queue.len() >= QUEUE => answer(out, request, Outcome::Fail("busy".into())),
            Some(reign) => reign.queue.push_back(Queued { due, request, task }),
        }
    }

    fn begin(&mut self, now: Nanos, request: u64, task: Task, out: &mut Vec<Output>) {
        let Some(Reign {
            token,
            seen: Some(seen),
            tried,
            ..
        }) = &mut self.reign
        else {
            return answer(out, request, Outcome::Fail("not-leader".into()));
        };
        let token = *token;
        let (value, hands_out) = match task {
            Task::Write(value) => (value, false),
            Task::Next => {
                *tried = seen.value.max(*tried) + 1;
                (*tried, true)
            }
            Task::Run(job) => return self.send(now, Work::Check { request, token, job }, out),
        };
        let work = Work::Write {
            request,
            token,
            value,
            base: seen.seq,
            hands_out,
        };
        self.send(now, work, out);
    }

    /// Runs a job, if the look before it shows that it is still this reign's to run.
    fn run(&mut self, now: Nanos, request: u64, of: Token, job: u64, out: &mut Vec<Output>) {
        let refused = match &mut self.reign {
            Some(Reign {
                token,
                seen: Some(seen),
                tried,
                ..
            }) if *token == of => {
                if seen.value >= job {
                    "already-ran"
                } else if *tried > job {
                    "overtaken by a later job"
                } else {
                    *tried = job;
                    let work = Work::Write {
                        request,
                        token: of,
                        value: job,
                        base: seen.seq,
                        hands_out: false,
                    };
                    return self.send(now, work, out);
                }
            }
            _ => "not-leader",
        };
        answer(out, request, Outcome::Fail(refused.into()));
    }

    /// Sends a request.
    pub(super) fn send(&mut self, now: Nanos, work: Work, out: &mut Vec<Output>) {
        self.next_id += 1;
        let (id, due) = (self.next_id, now + self.timeout);
        let what = match work {
            Work::Look { token } | Work::Check { token, .. } => StoreOp::Last { token: Some(token) },
            Work::Read { .. } => StoreOp::Last { token: None },
            Work::Write { token, value, base, .. } => StoreOp::Write { token, base, value },
        };
        self.sent.insert(id, Sent { due, work });
        out.push(Output::Store(StoreRequest { id, what }));
    }

    /// Takes an answer. One that nobody waits for, or that does not fit its question, is none.
    pub(super) fn reply(&mut self, now: Nanos, StoreReply { id, result }: StoreReply, out: &mut Vec<Output>) {
        let Some(Sent { work, .. }) = self.sent.get(&id).copied() else {
            return;
        };
        if let StoreResult::Last { seq, value } = result {
            self.saw(seq, value.unwrap_or(0));
        }
        match (work, result) {
            (
                Work::Write {
                    request,
                    token,
                    value,
                    hands_out,
                    ..
                },
                StoreResult::Accepted { seq },
            ) => {
                self.saw(seq, value);
                let done = match hands_out {
                    true => Answer::Value(Some(value)),
                    false => Answer::Written { token, seq },
                };
                answer(out, request, Outcome::Ok(done));
            }
            (Work::Write { request, .. }, StoreResult::Rejected { .. }) => {
                answer(out, request, Outcome::Fail("stale-token".into()));
            }
            (Work::Read { request }, StoreResult::Last { value, .. }) => {
                answer(out, request, Outcome::Ok(Answer::Value(value)));
            }
            (Work::Check { request, token, job }, StoreResult::Last { .. }) => self.run(now, request, token, job, out),
            (Work::Look { .. }, StoreResult::Last { seq, value }) => {
                self.begin_writing(now, seq, value.unwrap_or(0), out);
            }
            _ => return,
        }
        self.sent.remove(&id);
    }

    /// Notes the newest write seen, once the first look is done.
    fn saw(&mut self, seq: u64, value: u64) {
        if let Some(seen) = self.reign.as_mut().and_then(|reign| reign.seen.as_mut())
            && seq > seen.seq
        {
            *seen = Seen { seq, value };
        }
    }

    fn begin_writing(&mut self, now: Nanos, seq: u64, value: u64, out: &mut Vec<Output>) {
        let Some(reign) = &mut self.reign else { return };
        reign.seen = Some(Seen { seq, value });
        for Queued { request, task, .. } in std::mem::take(&mut reign.queue) {
            self.begin(now, request, task, out);
        }
    }

    /// Answers what has waited too long, and looks again.
    pub(super) fn expire(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let why = || "storage timed out".to_string();
        for Sent { work, .. } in take_due(&mut self.sent, |sent| sent.due <= now) {
            match work {
                Work::Look { .. } => self.send(now, work, out),
                Work::Read { request } | Work::Check { request, .. } => answer(out, request, Outcome::Fail(why())),
                Work::Write { request, .. } => answer(out, request, Outcome::Info(why())),
            }
        }
        let queue = self.reign.iter_mut().flat_map(|reign| &mut reign.queue);
        let late = queue.filter(|q| q.due <= now).count();
        // Queued in the order in which they were asked, so the late ones are in front.
        let front = self.reign.iter_mut().flat_map(|reign| reign.queue.drain(..late));
        for Queued { request, .. } in front {
            answer(out, request, Outcome::Fail(why()));
        }
    }

    /// When [`Client::expire`] is wanted.
    pub(super) fn deadline(&self) -> Nanos {
        let sent = self.sent.values().map(|sent| sent.due);
        let queued = self.reign.iter().flat_map(|reign| reign.queue.front()).map(|q| q.due);
        sent.chain(queued).min().unwrap_or(Nanos::MAX)
    }
}
