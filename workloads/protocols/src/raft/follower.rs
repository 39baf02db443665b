//! Storing what the leader sends: thesis 3.5 and 5.2.
//!
//! Two rules of the sound Raft are asserted here, because every other guarantee hangs on them: a term has one leader,
//! and no leader contradicts a committed entry. A [`Mutant`](crate::raft::Mutant) breaks them; its followers then do as they are told, forget
//! what they had committed, and apply the other entries: the damage that a real system would do.
use crate::raft::core::Raft;
use crate::raft::log::{Entry, Log, State};
use crate::raft::message::{Body, Stored};
use splitbrain_core::{Name, Nanos};

impl Raft {
    /// Takes an `Append` or a `Snapshot` of the current term.
    pub(super) fn on_leader(&mut self, now: Nanos, from: Name, body: Body) {
        let rival = self.leader.is_some_and(|leader| leader != from);
        self.invariant(!rival, "a term has one leader");
        if self.is_leader() {
            return;
        }
        self.follow_leader(now, from);
        let (round, result) = match body {
            Body::Append {
                prev_index,
                prev_term,
                entries,
                commit,
                round,
            } => (round, self.take_entries(prev_index, prev_term, &entries, commit)),
            Body::Snapshot { state, round } => (round, self.take_snapshot(state)),
            _ => return,
        };
        self.send(from, Body::AppendReply { round, result });
    }

    fn take_entries(&mut self, prev_index: u64, prev_term: u64, entries: &[Entry], commit: u64) -> Stored {
        let end = prev_index + entries.len() as u64;
        let snapshot = *self.log.snapshot();
        let (mut prev, mut term, mut entries) = (prev_index, prev_term, entries);
        if let Some(behind) = snapshot.index.checked_sub(prev_index).filter(|n| *n > 0) {
            // The snapshot's entries are committed, so the leader has the same ones.
            let Some(at_snapshot) = entries.get(behind as usize - 1) else {
                return Stored::Upto(end);
            };
            (prev, term) = (snapshot.index, at_snapshot.term);
            entries = &entries[behind as usize..];
        }
        match self.log.term(prev) {
            Some(own) if own == term => {}
            Some(_) => {
                let hint = self.contradicted_at(prev);
                return Stored::Conflict { prev: prev_index, hint };
            }
            None => {
                let hint = self.log.last_index();
                return Stored::Conflict { prev: prev_index, hint };
            }
        }
        self.merge(prev, entries);
        self.commit_upto(commit.min(end));
        Stored::Upto(end)
    }

    /// The leader has another entry at `index`. The hint skips the whole own term there (thesis 3.5, the end).
    fn contradicted_at(&mut self, index: u64) -> u64 {
        self.invariant(index > self.commit, "no leader contradicts a committed entry");
        let first = self.log.snapshot().index;
        if index == first {
            self.forget_everything();
            return 0;
        }
        let term = self.log.term(index);
        let floor = first.max(self.commit.min(index - 1));
        let mut hint = index - 1;
        while hint > floor && self.log.term(hint) == term {
            hint -= 1;
        }
        hint
    }

    /// Stores what of `entries` is new, and drops what contradicts them.
    fn merge(&mut self, prev: u64, entries: &[Entry]) {
        let known = (prev + 1..)
            .zip(entries)
            .take_while(|(index, entry)| self.log.term(*index) == Some(entry.term))
            .count();
        let fresh = &entries[known..];
        if fresh.is_empty() {
            return;
        }
        let prev = prev + known as u64;
        if prev < self.commit {
            self.invariant(false, "no leader contradicts a committed entry");
            self.roll_back(prev);
        }
        self.store(prev, fresh);
    }

    fn commit_upto(&mut self, commit: u64) {
        if commit > self.commit {
            self.commit = commit;
            self.apply();
        }
    }

    fn take_snapshot(&mut self, snapshot: State) -> Stored {
        let index = snapshot.index;
        if index <= self.commit {
            let same = index < self.log.snapshot().index || self.log.term(index) == Some(snapshot.term);
            self.invariant(same, "no leader contradicts a committed entry");
            if same {
                return Stored::Upto(index);
            }
        }
        self.log.install(snapshot);
        self.state = snapshot;
        self.commit = index;
        self.write_all();
        Stored::Upto(index)
    }

    /// Undoes what was applied after `index`. Only a mutant does this.
    fn roll_back(&mut self, index: u64) {
        let mut state = *self.log.snapshot();
        while state.index < index {
            let entry = self.log.get(state.index + 1).expect("an applied entry is in the log");
            state.apply(entry);
        }
        self.state = state;
        self.commit = index;
    }

    /// Begins anew, because even the snapshot is contradicted. Only a mutant does this.
    fn forget_everything(&mut self) {
        self.log = Log::default();
        self.state = State::default();
        self.commit = 0;
        self.write_all();
    }
}
