//! A member: Raft with the candidate protocol around it.
//!
//! Raft decides who leads; the member does the leader's work, which is to write to a storage outside the cluster. It
//! writes **on its belief alone**, without asking its followers first: that is what real leaders do between two
//! heartbeats, and whether fencing tokens make it safe is what is under test. The token is the term.
//!
//! Mechanism: [`Protocol::step`] turns an input into an event of [`Raft`] or a word to the [`storage client`](Client),
//! and their effects into outputs, in the same order. Operations on the replicated register go through Raft's log
//! (`set`, `cas`) or its ReadIndex (`get`).
//!
//! An answer is `fail` only where it is proven that nothing happened and nothing will: a proposal that was never
//! appended, a write that was never sent or that the storage refused, and everything that only reads.
//!
//! Caveat: the ids of requests to the storage begin at a random number, drawn from the generator that the member is
//! given, so that replies to a former life are not taken for its own; give each life a stream of its own.
mod client;
#[cfg(test)]
mod tests;

use crate::raft::log::Command;
use crate::raft::message::{Durable, Message, Record};
use crate::raft::{Config, Effect, Ended, Event, Mutant, Raft, Tuning, codec};
use crate::{Input, Output, Protocol};
use client::{Client, Task, Work};
use rand::Rng as _;
use splitbrain_core::seed::Rng;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Answer, Epoch, Name, Nanos, Op, Outcome, Reign, Role, Status, Token, Unasked};
use std::collections::BTreeMap;

/// How long an operation on the replicated register may wait for its quorum.
const REGISTER_TIMEOUT: Nanos = Nanos::secs(5);

/// Who a member is, and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// This member.
    pub name: Name,
    /// All members, this one included.
    pub peers: Vec<Name>,
    /// Timers and switches.
    pub tuning: Tuning,
    /// How it is broken on purpose, if at all.
    pub mutant: Option<Mutant>,
}

/// One member of a Raft cluster: server and candidate in one.
#[derive(Debug)]
pub struct Member {
    raft: Raft,
    /// The reigns of this life so far; the newest is the current one while Raft leads.
    reigns: u64,
    client: Client,
    /// Operations that Raft works on, by request id.
    waiting: BTreeMap<u64, Waiting>,
}

/// An operation that Raft works on.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    due: Nanos,
    /// A read that ran out of time has changed nothing.
    reads_only: bool,
}

impl Member {
    /// A member that starts from what its last life left on disk; the error names the record that is wrong.
    pub fn new(config: MemberConfig, records: Vec<Vec<u8>>, mut rng: Rng) -> Result<Member, String> {
        let MemberConfig {
            name,
            peers: members,
            tuning,
            mutant,
        } = config;
        let mut decoded = Vec::with_capacity(records.len());
        for (bytes, n) in records.iter().zip(1..) {
            let record: Record = codec::decode(bytes).map_err(|why| format!("read raft record {n}: {why}"))?;
            decoded.push(record);
        }
        let durable = Durable::recover(decoded)?;
        let client = Client::new(u64::from(rng.next_u32()) << 20, tuning.store_timeout);
        let config = Config {
            name,
            members,
            tuning,
            mutant,
        };
        Ok(Member {
            raft: Raft::new(config, durable, rng),
            reigns: 0,
            client,
            waiting: BTreeMap::new(),
        })
    }

    /// The Raft inside, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    fn event(&mut self, now: Nanos, event: Event, out: &mut Vec<Output>) {
        for effect in self.raft.step(now, event) {
            self.effect(now, effect, out);
        }
    }

    fn effect(&mut self, now: Nanos, effect: Effect, out: &mut Vec<Output>) {
        match effect {
            Effect::Persist(record) => out.push(Output::Persist(codec::encode(&record))),
            Effect::Compact(records) => out.push(Output::Compact(records.iter().map(codec::encode).collect())),
            Effect::Send { to, message } => {
                let bytes = codec::encode(&message);
                out.push(Output::Send { to, bytes });
            }
            Effect::Elected { term } => {
                self.reigns += 1;
                out.push(Output::Say(Line::Event(Unasked::Elected {
                    epoch: Epoch(term),
                    token: Some(Token(term)),
                    reign: Reign(self.reigns),
                })));
                self.client.elected(now, Token(term), out);
            }
            Effect::Deposed { why, .. } => {
                out.push(Output::Say(Line::Event(Unasked::Deposed {
                    reign: Reign(self.reigns),
                    why: why.to_string(),
                })));
                self.client.deposed(out);
            }
            Effect::Applied { index, term, digest } => {
                out.push(Output::Say(Line::Event(Unasked::Applied { index, term, digest })));
            }
            Effect::Ended { id, how } => {
                // One that is not waiting any more has been answered when it ran out of time.
                if self.waiting.remove(&id).is_some() {
                    answer(out, id, outcome(how));
                }
            }
        }
    }

    fn request(&mut self, now: Nanos, Request { id, op }: Request, out: &mut Vec<Output>) {
        let done = Outcome::Ok(Answer::Done);
        match op {
            Op::Observe => answer(out, id, Outcome::Ok(Answer::Status(self.status()))),
            Op::Write { value } => self.client.work(now, id, Task::Write(value), out),
            Op::Next => self.client.work(now, id, Task::Next, out),
            Op::Run { job } => self.client.work(now, id, Task::Run(job), out),
            Op::Read => self.client.send(now, Work::Read { request: id }, out),
            Op::Campaign => {
                self.event(now, Event::Campaign, out);
                answer(out, id, done);
            }
            Op::Resign => self.ask(now, Event::Transfer { id }, id, true, out),
            Op::Get => self.ask(now, Event::Read { id }, id, true, out),
            Op::Set { value } => {
                let command = Command::Set(value);
                self.ask(now, Event::Propose { id, command }, id, false, out);
            }
            Op::Cas { from, to } => {
                let command = Command::Cas { from, to };
                self.ask(now, Event::Propose { id, command }, id, false, out);
            }
            // Members elect each other whether anybody waits or not.
            Op::Acquire | Op::Release => {
                let why = format!("a member knows no {}", op.name());
                answer(out, id, Outcome::Fail(why));
            }
        }
    }

    fn ask(&mut self, now: Nanos, event: Event, id: u64, reads_only: bool, out: &mut Vec<Output>) {
        let due = now + REGISTER_TIMEOUT;
        self.waiting.insert(id, Waiting { id, due, reads_only });
        self.event(now, event, out);
    }

    fn status(&self) -> Status {
        let role = self.raft.role();
        let leads = role == Role::Leader;
        let term = self.raft.term();
        Status {
            role,
            epoch: Some(Epoch(term)),
            token: leads.then_some(Token(term)),
            reign: leads.then_some(Reign(self.reigns)),
            leader: self.raft.leader(),
        }
    }

    /// Answers what has waited too long.
    fn expire(&mut self, now: Nanos, out: &mut Vec<Output>) {
        self.client.expire(now, out);
        for Waiting { id, reads_only, .. } in take_due(&mut self.waiting, |waiting| waiting.due <= now) {
            let why = "timed out".to_string();
            let outcome = if reads_only {
                Outcome::Fail(why)
            } else {
                Outcome::Info(why)
            };
            answer(out, id, outcome);
        }
    }
}

impl Protocol for Member {
    fn step(&mut self, now: Nanos, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Start => {
                out.push(Output::Say(Line::Event(Unasked::Ready)));
                self.event(now, Event::Start, &mut out);
            }
            Input::Tick => {
                self.event(now, Event::Tick, &mut out);
                self.expire(now, &mut out);
            }
            Input::Message { from, bytes } => {
                // What the network broke is as good as lost.
                if let Ok(message) = codec::decode::<Message>(&bytes) {
                    self.event(now, Event::Message { from, message }, &mut out);
                }
            }
            Input::Request(request) => self.request(now, request, &mut out),
            Input::Store(reply) => self.client.reply(now, reply, &mut out),
        }
        out
    }

    fn deadline(&self) -> Nanos {
        let waiting = self.waiting.values().map(|w| w.due).min().unwrap_or(Nanos::MAX);
        self.raft.deadline().min(self.client.deadline()).min(waiting)
    }
}

/// Takes out what is due, in the order of ids.
fn take_due<T>(map: &mut BTreeMap<u64, T>, is_due: impl Fn(&T) -> bool) -> Vec<T> {
    let (due, rest): (BTreeMap<_, _>, _) = std::mem::take(map).into_iter().partition(|(_, item)| is_due(item));
    *map = rest;
    due.into_values().collect()
}

/// Says the answer to request `id`.
fn answer(out: &mut Vec<Output>, id: u64, outcome: Outcome) {
    out.push(Output::Say(Line::Answer { id, outcome }));
}

fn outcome(how: Ended) -> Outcome {
    match how {
        Ended::Applied => Outcome::Ok(Answer::Done),
        Ended::Value { value, .. } => Outcome::Ok(Answer::Value(value)),
        Ended::Mismatch => Outcome::Fail("mismatch".into()),
        Ended::Refused(why) => Outcome::Fail(why.into()),
        Ended::Unknown(why) => Outcome::Info(why.into()),
    }
}
