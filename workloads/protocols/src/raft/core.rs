//! The Raft state machine: its state, its step, its timers, and the changes of role.
//!
//! The rest of its methods stand in [`super::election`] (votes), [`super::follower`] (storing what a leader sends) and
//! [`super::leader`] (sending it, committing, reading, handing over).
use crate::raft::log::{Entry, Log, State};
use crate::raft::message::{Body, Durable, Message, Record, Stored};
use crate::raft::{Config, Effect, Ended, Event, Mutant, Tuning};
use rand::RngExt as _;
use splitbrain_core::seed::Rng;
use splitbrain_core::{Name, Nanos};
use std::collections::{BTreeMap, BTreeSet};

/// What a member does in its term.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Follower,
    /// Asks whether it could win.
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leading),
}

/// The answers to a candidate.
#[derive(Clone, Debug)]
pub(super) struct Ballot {
    pub granted: BTreeSet<Name>,
    pub refused: BTreeSet<Name>,
    /// The old leader asked for this election.
    pub transfer: bool,
    pub resend_due: Nanos,
}

/// What only a leader knows.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub followers: BTreeMap<Name, Progress>,
    pub heartbeat_due: Nanos,
    /// Counts rounds of messages to all followers.
    pub round: u64,
    /// Proposals by the index of their entry.
    pub proposals: BTreeMap<u64, u64>,
    pub reads: Vec<Reading>,
    pub transfer: Option<Transfer>,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The follower's log equals the leader's up to here.
    pub matched: u64,
    /// The first entry to send next.
    pub next: u64,
    /// The follower's end is not known: entries are sent again and again from `next` until one fits.
    pub probing: bool,
    /// When it last answered in this term; the election itself counts.
    pub heard: Nanos,
    /// The newest round that it answered.
    pub round: u64,
}

/// A read that waits for a quorum (thesis 6.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub id: u64,
    /// The commit index when the read began and the first round sent since; `None` until the leader committed an
    /// entry of its own term, for only then it knows what is committed.
    pub confirm: Option<(u64, u64)>,
}

/// A handing over that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub id: u64,
    pub to: Name,
    /// When it is given up.
    pub due: Nanos,
}

/// One member's Raft. See the module's essay.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) name: Name,
    /// The other members.
    pub(super) peers: Vec<Name>,
    pub(super) tuning: Tuning,
    pub(super) mutant: Option<Mutant>,
    rng: Rng,
    pub(super) term: u64,
    pub(super) vote: Option<Name>,
    /// Whether the disk does not have `term` and `vote` yet; see [`Raft::emit`].
    ballot_dirty: bool,
    pub(super) log: Log,
    pub(super) commit: u64,
    /// The state machine; it has applied everything up to `commit` between steps.
    pub(super) state: State,
    pub(super) role: Role,
    /// The leader of `term`, if known.
    pub(super) leader: Option<Name>,
    /// When `leader` was last heard.
    heard: Nanos,
    election_due: Nanos,
    effects: Vec<Effect>,
}

impl Raft {
    /// A Raft that goes on from what its last life left on disk.
    pub fn new(config: Config, durable: Durable, rng: Rng) -> Raft {
        let Durable { term, vote, log } = durable;
        let forgets = config.mutant == Some(Mutant::ForgetVote);
        let mut peers = config.members;
        peers.retain(|peer| *peer != config.name);
        peers.sort_unstable();
        peers.dedup();
        Raft {
            name: config.name,
            peers,
            tuning: config.tuning,
            mutant: config.mutant,
            rng,
            term,
            vote: if forgets { None } else { vote },
            ballot_dirty: false,
            commit: log.snapshot().index,
            state: *log.snapshot(),
            log,
            role: Role::Follower,
            leader: None,
            heard: Nanos::ZERO,
            election_due: Nanos::MAX,
            effects: Vec::new(),
        }
    }

    /// Takes one event at `now` and returns what to do, in order.
    pub fn step(&mut self, now: Nanos, event: Event) -> Vec<Effect> {
        match event {
            Event::Start => self.await_leader(now),
            Event::Tick => self.tick(now),
            Event::Message { from, message } => self.receive(now, from, message),
            Event::Campaign => {
                if matches!(self.role, Role::Follower) {
                    self.campaign(now);
                }
            }
            Event::Transfer { id } => self.transfer(now, id),
            Event::Propose { id, command } => self.propose(now, id, command),
            Event::Read { id } => self.read(now, id),
        }
        self.write_ballot();
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is wanted next.
    pub fn deadline(&self) -> Nanos {
        match &self.role {
            Role::Follower => self.election_due,
            Role::PreCandidate(ballot) | Role::Candidate(ballot) => self.election_due.min(ballot.resend_due),
            Role::Leader(leading) => {
                let transfer = leading.transfer.map_or(Nanos::MAX, |t| t.due);
                leading.heartbeat_due.min(self.quorum_due()).min(transfer)
            }
        }
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.term
    }
    /// Who has this member's vote in the current term.
    pub fn vote(&self) -> Option<Name> {
        self.vote
    }
    /// What it believes itself to be.
    pub fn role(&self) -> splitbrain_core::Role {
        match self.role {
            Role::Follower => splitbrain_core::Role::Follower,
            Role::PreCandidate(_) | Role::Candidate(_) => splitbrain_core::Role::Candidate,
            Role::Leader(_) => splitbrain_core::Role::Leader,
        }
    }
    /// Whether it asks, without binding anyone, if it could win an election.
    pub fn is_pre_candidate(&self) -> bool {
        matches!(self.role, Role::PreCandidate(_))
    }
    /// Whom it takes for the leader of the current term, itself included.
    pub fn leader(&self) -> Option<Name> {
        self.leader
    }
    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }
    /// The last entry known to be committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }
    /// The state machine.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn tick(&mut self, now: Nanos) {
        match &self.role {
            Role::Leader(_) => self.tick_leader(now),
            _ if self.election_due <= now => self.campaign(now),
            Role::PreCandidate(ballot) | Role::Candidate(ballot) if ballot.resend_due <= now => self.ask_again(now),
            _ => {}
        }
    }

    fn receive(&mut self, now: Nanos, from: Name, message: Message) {
        if !self.peers.contains(&from) {
            return;
        }
        let Message { term, body } = message;
        if self.mutant == Some(Mutant::StaleLeader) && self.is_leader() {
            self.take_for_support(now);
            if term > self.term {
                return;
            }
        }
        if term > self.term {
            match body {
                // These speak of a term that does not exist yet.
                Body::PreVote { .. } | Body::PreVoteReply { granted: true } => {}
                // Who hears a leader ignores those who do not (thesis 4.2.3).
                Body::Vote { transfer: false, .. } if self.tuning.check_quorum && self.hears_leader(now) => return,
                _ => self.follow_term(now, term),
            }
        }
        if term < self.term {
            return self.answer_stale(from, &body);
        }
        match body {
            Body::PreVote { last_index, last_term } => self.on_pre_vote(now, from, term, (last_term, last_index)),
            Body::PreVoteReply { granted } => self.on_pre_vote_reply(now, from, term, granted),
            Body::Vote {
                last_index, last_term, ..
            } => self.on_vote(now, from, (last_term, last_index)),
            Body::VoteReply { granted } => self.on_vote_reply(now, from, granted),
            Body::Append { .. } | Body::Snapshot { .. } => self.on_leader(now, from, body),
            Body::AppendReply { round, result } => self.on_append_reply(now, from, round, result),
            Body::TimeoutNow => self.on_timeout_now(now, from),
        }
    }

    /// Tells a sender of the past what term it is; replies of the past are dropped.
    fn answer_stale(&mut self, to: Name, body: &Body) {
        let answer = match body {
            Body::PreVote { .. } => Body::PreVoteReply { granted: false },
            Body::Vote { .. } => Body::VoteReply { granted: false },
            Body::Append { .. } | Body::Snapshot { .. } => Body::AppendReply {
                round: 0,
                result: Stored::Stale,
            },
            Body::PreVoteReply { .. } | Body::VoteReply { .. } | Body::AppendReply { .. } | Body::TimeoutNow => return,
        };
        self.send(to, answer);
    }

    /// Joins a higher term, as a follower of nobody yet.
    fn follow_term(&mut self, now: Nanos, term: u64) {
        assert!(term > self.term, "a term never falls");
        self.step_down(now, "saw a higher term");
        self.term = term;
        self.vote = None;
        self.ballot_dirty = true;
    }

    /// Becomes a follower that knows no leader. A follower's timer goes on: only a leader's voice or a vote given
    /// restarts it, so that candidates who cannot win do not hold up those who can.
    pub(super) fn step_down(&mut self, now: Nanos, why: &'static str) {
        self.leader = None;
        match std::mem::replace(&mut self.role, Role::Follower) {
            Role::Follower => {}
            Role::PreCandidate(_) | Role::Candidate(_) => self.await_leader(now),
            Role::Leader(leading) => {
                self.await_leader(now);
                self.emit(Effect::Deposed { term: self.term, why });
                self.abandon(leading);
            }
        }
    }

    /// Hears the current term's leader.
    pub(super) fn follow_leader(&mut self, now: Nanos, leader: Name) {
        if !matches!(self.role, Role::Follower) {
            self.step_down(now, "another leads");
        }
        self.leader = Some(leader);
        self.heard = now;
        self.await_leader(now);
    }

    /// Whether a leader of the current term was heard within an election timeout, so that no other is wanted.
    pub(super) fn hears_leader(&self, now: Nanos) -> bool {
        self.is_leader() || (self.leader.is_some() && now < self.heard + self.tuning.election_timeout)
    }

    /// Draws a new patience: one to two election timeouts (thesis 3.4).
    pub(super) fn await_leader(&mut self, now: Nanos) {
        let shortest = self.tuning.election_timeout.0.max(1);
        self.election_due = now + Nanos(self.rng.random_range(shortest..shortest * 2));
    }

    /// Enters a new term with the own vote.
    pub(super) fn vote_for_self(&mut self) {
        self.term += 1;
        self.vote = Some(self.name);
        self.ballot_dirty = true;
    }

    /// Gives the current term's vote, or gives it once more to the same candidate.
    pub(super) fn set_vote(&mut self, candidate: Name) {
        assert!(self.vote.is_none_or(|vote| vote == candidate), "a term has one vote");
        self.ballot_dirty |= self.vote.is_none();
        self.vote = Some(candidate);
    }

    pub(super) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// More than half of all members.
    pub(super) fn quorum(&self) -> usize {
        let members = self.peers.len() + 1;
        members / 2 + 1
    }

    /// Appends own entries to the log, on disk first.
    pub(super) fn store(&mut self, prev: u64, entries: &[Entry]) {
        self.log.replace_after(prev, entries);
        let entries = entries.to_vec();
        self.emit(Effect::Persist(Record::Append { prev, entries }));
    }

    /// Applies what is committed and not applied yet, and compacts the log when it is time.
    pub(super) fn apply(&mut self) {
        while self.state.index < self.commit {
            let index = self.state.index + 1;
            let entry = *self.log.get(index).expect("a committed entry is in the log");
            let matched = self.state.apply(&entry);
            let (term, digest) = (entry.term, self.state.digest);
            self.emit(Effect::Applied { index, term, digest });
            if let Role::Leader(leading) = &mut self.role
                && let Some(id) = leading.proposals.remove(&index)
            {
                let how = if matched { Ended::Applied } else { Ended::Mismatch };
                self.emit(Effect::Ended { id, how });
            }
        }
        // Followers a little behind should still find entries here rather than need the whole state.
        let every = self.tuning.snapshot_every.max(1);
        if self.state.index - self.log.snapshot().index >= every + every / 4 {
            self.log.compact(self.state.index - every / 4);
            self.write_all();
        }
    }

    /// Replaces everything on disk.
    pub(super) fn write_all(&mut self) {
        let snapshot = *self.log.snapshot();
        let (term, vote) = (self.term, self.vote);
        let mut records = vec![Record::Snapshot(snapshot), Record::Ballot { term, vote }];
        let entries = self.log.tail(snapshot.index).to_vec();
        if !entries.is_empty() {
            records.push(Record::Append {
                prev: snapshot.index,
                entries,
            });
        }
        self.ballot_dirty = false;
        self.effects.push(Effect::Compact(records));
    }

    pub(super) fn send(&mut self, to: Name, body: Body) {
        let term = self.term;
        self.send_in(to, term, body);
    }

    pub(super) fn send_in(&mut self, to: Name, term: u64, body: Body) {
        let message = Message { term, body };
        self.emit(Effect::Send { to, message });
    }

    /// The only way out, [`Raft::write_all`] aside. Whatever leaves may depend on the term and the vote, so these go to
    /// disk first; no caller can forget it.
    pub(super) fn emit(&mut self, effect: Effect) {
        self.write_ballot();
        self.effects.push(effect);
    }

    fn write_ballot(&mut self) {
        if std::mem::take(&mut self.ballot_dirty) {
            let (term, vote) = (self.term, self.vote);
            self.effects.push(Effect::Persist(Record::Ballot { term, vote }));
        }
    }

    /// An invariant of the sound Raft: where it does not hold, the process must not go on. A mutant breaks them on
    /// purpose and goes on, to do the harm that a checker is to see.
    #[track_caller]
    pub(super) fn invariant(&self, holds: bool, what: &str) {
        assert!(holds || self.mutant.is_some(), "{}: {what}", self.name);
    }
}
