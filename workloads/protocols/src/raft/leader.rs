//! What a leader does: replicate and commit (thesis 3.5, 3.6.2), read (6.4), keep its quorum (6.2), hand over (3.10).
//!
//! A follower's progress is tracked as in etcd: while its log's end is not known, the leader *probes*, sending the same
//! entries with each heartbeat until they fit or a conflict moves it back; from then on it sends each entry once, as
//! soon as it has it, and a loss shows as a conflict at the next heartbeat.
use crate::raft::core::{Leading, Progress, Raft, Reading, Role, Transfer};
use crate::raft::log::{Command, Entry};
use crate::raft::message::{Body, Stored};
use crate::raft::{Effect, Ended, Mutant};
use splitbrain_core::{Name, Nanos};
use std::collections::BTreeMap;

/// Most entries in one message.
const BATCH: usize = 64;
/// Most proposals, and most reads, that wait at one time.
const WAITING: usize = 1024;

impl Raft {
    /// Begins to lead the current term: with an entry of its own, so that it can commit and learn what is committed.
    pub(super) fn lead(&mut self, now: Nanos) {
        let last = self.log.last_index();
        let progress = Progress {
            matched: 0,
            next: last + 1,
            probing: true,
            heard: now,
            round: 0,
        };
        self.leader = Some(self.name);
        self.role = Role::Leader(Leading {
            followers: self.peers.iter().map(|peer| (*peer, progress)).collect(),
            heartbeat_due: now,
            round: 0,
            proposals: BTreeMap::new(),
            reads: Vec::new(),
            transfer: None,
        });
        let noop = Entry {
            term: self.term,
            command: Command::Noop,
        };
        self.store(last, &[noop]);
        self.emit(Effect::Elected { term: self.term });
        self.heartbeat(now);
        self.advance_commit(now);
    }

    /// Ends what was asked of a leader that leads no more.
    pub(super) fn abandon(&mut self, leading: Leading) {
        for id in leading.proposals.into_values() {
            let how = Ended::Unknown("deposed");
            self.emit(Effect::Ended { id, how });
        }
        for Reading { id, .. } in leading.reads {
            let how = Ended::Refused("deposed");
            self.emit(Effect::Ended { id, how });
        }
        if let Some(Transfer { id, .. }) = leading.transfer {
            let how = Ended::Applied;
            self.emit(Effect::Ended { id, how });
        }
    }

    fn leading(&mut self) -> Option<&mut Leading> {
        match &mut self.role {
            Role::Leader(leading) => Some(leading),
            _ => None,
        }
    }

    fn refuse(&mut self, id: u64, why: &'static str) {
        let how = Ended::Refused(why);
        self.emit(Effect::Ended { id, how });
    }

    pub(super) fn propose(&mut self, now: Nanos, id: u64, command: Command) {
        let last = self.log.last_index();
        let Some(leading) = self.leading() else {
            return self.refuse(id, "not-leader");
        };
        if leading.transfer.is_some() {
            return self.refuse(id, "handing over");
        }
        if leading.proposals.len() >= WAITING {
            return self.refuse(id, "busy");
        }
        leading.proposals.insert(last + 1, id);
        let term = self.term;
        self.store(last, &[Entry { term, command }]);
        for peer in self.peers.clone() {
            self.send_fresh(peer);
        }
        self.advance_commit(now);
    }

    pub(super) fn read(&mut self, now: Nanos, id: u64) {
        let Some(leading) = self.leading() else {
            return self.refuse(id, "not-leader");
        };
        if leading.reads.len() >= WAITING {
            return self.refuse(id, "busy");
        }
        leading.reads.push(Reading { id, confirm: None });
        self.begin_reads(now);
    }

    /// Notes the commit index for reads that have none yet, and asks a quorum whether this is still the leader.
    fn begin_reads(&mut self, now: Nanos) {
        let (commit, knows) = (self.commit, self.log.term(self.commit) == Some(self.term));
        let Some(leading) = self.leading() else { return };
        let round = leading.round + 1;
        let mut begun = false;
        if knows {
            for read in leading.reads.iter_mut().filter(|read| read.confirm.is_none()) {
                read.confirm = Some((commit, round));
                begun = true;
            }
        }
        if begun {
            self.heartbeat(now);
            self.finish_reads();
        }
    }

    /// Answers the reads whose round a quorum has answered.
    fn finish_reads(&mut self) {
        let quorum = self.quorum();
        let state = self.state;
        let Some(leading) = self.leading() else { return };
        let mut rounds: Vec<u64> = leading.followers.values().map(|p| p.round).collect();
        rounds.push(u64::MAX);
        let confirmed = nth_highest(rounds, quorum);
        let is_done = |read: &mut Reading| read.confirm.is_some_and(|(_, round)| round <= confirmed);
        let done: Vec<Reading> = leading.reads.extract_if(.., is_done).collect();
        for Reading { id, confirm } in done {
            let floor = confirm.map_or(0, |(index, _)| index);
            self.invariant(state.index >= floor, "a read waits until its index is applied");
            let (value, index) = (state.value, state.index);
            let how = Ended::Value { value, index };
            self.emit(Effect::Ended { id, how });
        }
    }

    /// Hands over to the follower with the newest log among those that answer.
    pub(super) fn transfer(&mut self, now: Nanos, id: u64) {
        let timeout = self.tuning.election_timeout;
        let Some(leading) = self.leading() else {
            return self.refuse(id, "not-leader");
        };
        if leading.transfer.is_some() {
            return self.refuse(id, "handing over");
        }
        let answering = leading.followers.iter().filter(|(_, p)| now < p.heard + timeout);
        // The first of equals: `rev` because `max_by_key` takes the last.
        let best = answering.rev().max_by_key(|(_, p)| p.matched).map(|(peer, _)| *peer);
        let Some(to) = best else {
            return self.refuse(id, "no follower answers");
        };
        let due = now + timeout;
        leading.transfer = Some(Transfer { id, to, due });
        self.urge_successor();
    }

    /// Tells the successor to campaign once it has everything.
    fn urge_successor(&mut self) {
        let last = self.log.last_index();
        let Some(leading) = self.leading() else { return };
        if let Some(Transfer { to, .. }) = leading.transfer {
            if leading.followers[&to].matched == last {
                self.send(to, Body::TimeoutNow);
            } else {
                self.send_fresh(to);
            }
        }
    }

    pub(super) fn tick_leader(&mut self, now: Nanos) {
        if self.quorum_due() <= now {
            return self.step_down(now, "lost its quorum");
        }
        let Some(leading) = self.leading() else { return };
        if let Some(Transfer { id, .. }) = leading.transfer.take_if(|t| t.due <= now) {
            self.refuse(id, "nobody took over");
        }
        let Some(leading) = self.leading() else { return };
        if leading.heartbeat_due <= now {
            self.heartbeat(now);
            self.urge_successor();
        }
    }

    /// When the last quorum's answers are an election timeout old: with check-quorum the end of this leadership.
    pub(super) fn quorum_due(&self) -> Nanos {
        let Role::Leader(leading) = &self.role else {
            return Nanos::MAX;
        };
        if !self.tuning.check_quorum || self.mutant == Some(Mutant::StaleLeader) {
            return Nanos::MAX;
        }
        let mut heard: Vec<Nanos> = leading.followers.values().map(|p| p.heard).collect();
        heard.push(Nanos::MAX);
        nth_highest(heard, self.quorum()) + self.tuning.election_timeout
    }

    /// Begins a new round: a message to every follower, with entries where it lacks some.
    fn heartbeat(&mut self, now: Nanos) {
        let due = now + self.tuning.heartbeat.max(Nanos(1));
        if let Some(leading) = self.leading() {
            leading.heartbeat_due = due;
            leading.round += 1;
        }
        for peer in self.peers.clone() {
            self.send_append(peer);
        }
    }

    /// Sends entries that were never sent. While probing, the heartbeat does it.
    fn send_fresh(&mut self, peer: Name) {
        let last = self.log.last_index();
        let Some(leading) = self.leading() else { return };
        let progress = leading.followers[&peer];
        if !progress.probing && progress.next <= last {
            self.send_append(peer);
        }
    }

    fn send_append(&mut self, peer: Name) {
        let Role::Leader(leading) = &mut self.role else { return };
        let round = leading.round;
        let progress = leading.followers.get_mut(&peer).expect("every peer has its progress");
        let prev_index = progress.next - 1;
        let Some(prev_term) = self.log.term(prev_index) else {
            // Compacted away: the whole state instead, again with each heartbeat until it is answered.
            progress.probing = true;
            let state = *self.log.snapshot();
            return self.send(peer, Body::Snapshot { state, round });
        };
        let tail = self.log.tail(prev_index);
        let entries = tail[..tail.len().min(BATCH)].to_vec();
        if !progress.probing {
            progress.next += entries.len() as u64;
        }
        let commit = self.commit;
        let body = Body::Append {
            prev_index,
            prev_term,
            entries,
            commit,
            round,
        };
        self.send(peer, body);
    }

    pub(super) fn on_append_reply(&mut self, now: Nanos, from: Name, round: u64, result: Stored) {
        let (last, mutant) = (self.log.last_index(), self.mutant.is_some());
        let Some(leading) = self.leading() else { return };
        let progress = leading.followers.get_mut(&from).expect("every peer has its progress");
        // Even a conflict says that the follower takes this for the leader of the term.
        progress.heard = now;
        progress.round = progress.round.max(round);
        match result {
            Stored::Upto(index) => {
                progress.matched = progress.matched.max(index.min(last));
                progress.next = if progress.probing {
                    progress.matched + 1
                } else {
                    progress.next.max(progress.matched + 1)
                };
                progress.probing = false;
                self.invariant(index <= last, "a follower stores only what it was sent");
                self.advance_commit(now);
                self.send_fresh(from);
                self.hand_over_to(from);
            }
            Stored::Conflict { prev, hint } => {
                if mutant {
                    // Its followers may forget what they had.
                    progress.matched = progress.matched.min(hint);
                }
                let news = if progress.probing {
                    prev + 1 == progress.next
                } else {
                    prev > progress.matched
                };
                if news {
                    progress.probing = true;
                    progress.next = (hint + 1).min(prev).max(progress.matched + 1);
                    self.send_append(from);
                }
            }
            Stored::Stale => {}
        }
        self.finish_reads();
    }

    /// Goes on with a transfer to `peer`, which has just stored something.
    fn hand_over_to(&mut self, peer: Name) {
        let last = self.log.last_index();
        if let Role::Leader(leading) = &self.role
            && leading.transfer.is_some_and(|t| t.to == peer)
            && leading.followers[&peer].matched == last
        {
            self.send(peer, Body::TimeoutNow);
        }
    }

    /// Commits what a quorum has stored, if it is of the own term: an older entry on a quorum may still be lost
    /// (thesis 3.6.2, figure 3.7; figure 8 of the paper).
    fn advance_commit(&mut self, now: Nanos) {
        let (quorum, last) = (self.quorum(), self.log.last_index());
        let Some(leading) = self.leading() else { return };
        let mut matched: Vec<u64> = leading.followers.values().map(|p| p.matched).collect();
        matched.push(last);
        let stored = nth_highest(matched, quorum);
        if stored > self.commit && self.log.term(stored) == Some(self.term) {
            self.commit = stored;
            self.apply();
            self.begin_reads(now);
        }
    }

    /// The mutant `stale-leader` takes any word of anyone for a quorum's support.
    pub(super) fn take_for_support(&mut self, now: Nanos) {
        if let Some(leading) = self.leading() {
            let round = leading.round;
            for progress in leading.followers.values_mut() {
                progress.heard = now;
                progress.round = round;
            }
            self.finish_reads();
        }
    }
}

/// The `n`-th highest value, from 1: at least `n` values are that high.
fn nth_highest<T: Ord + Copy>(mut values: Vec<T>, n: usize) -> T {
    values.sort_unstable();
    values[values.len() - n]
}
