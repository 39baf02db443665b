//! Campaigns and votes: thesis 3.4 and 3.6.1, with pre-vote (9.6) and leader stickiness (4.2.3).
//!
//! Requests are sent again every heartbeat until they are answered: with a lossy network one lost request would
//! otherwise cost an election timeout. A second grant to the same candidate is the same vote, so this is safe.
use crate::raft::Mutant;
use crate::raft::core::{Ballot, Raft, Role};
use crate::raft::message::Body;
use splitbrain_core::{Name, Nanos};
use std::collections::BTreeSet;

impl Raft {
    /// Begins an election, or first asks whether it could be won.
    pub(super) fn campaign(&mut self, now: Nanos) {
        self.leader = None;
        if self.tuning.pre_vote {
            self.role = Role::PreCandidate(self.ballot(now, false));
            self.await_leader(now);
            self.ask_again(now);
            self.count_votes(now);
        } else {
            self.candidate(now, false);
        }
    }

    /// Raises the term and asks for votes in it.
    fn candidate(&mut self, now: Nanos, transfer: bool) {
        self.leader = None;
        self.vote_for_self();
        self.role = Role::Candidate(self.ballot(now, transfer));
        self.await_leader(now);
        self.ask_again(now);
        self.count_votes(now);
    }

    fn ballot(&self, now: Nanos, transfer: bool) -> Ballot {
        Ballot {
            granted: BTreeSet::from([self.name]),
            refused: BTreeSet::new(),
            transfer,
            resend_due: now,
        }
    }

    /// Asks those who have not answered.
    pub(super) fn ask_again(&mut self, now: Nanos) {
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let (term, ballot, body) = match &mut self.role {
            Role::PreCandidate(ballot) => (self.term + 1, ballot, Body::PreVote { last_index, last_term }),
            Role::Candidate(ballot) => {
                let transfer = ballot.transfer;
                let body = Body::Vote {
                    last_index,
                    last_term,
                    transfer,
                };
                (self.term, ballot, body)
            }
            Role::Follower | Role::Leader(_) => return,
        };
        ballot.resend_due = now + self.tuning.heartbeat.max(Nanos(1));
        let mut silent = self.peers.clone();
        silent.retain(|peer| !ballot.granted.contains(peer) && !ballot.refused.contains(peer));
        for peer in silent {
            self.send_in(peer, term, body.clone());
        }
    }

    /// Takes the next step of a campaign once a quorum agrees.
    fn count_votes(&mut self, now: Nanos) {
        let quorum = self.quorum();
        match &self.role {
            Role::PreCandidate(ballot) if ballot.granted.len() >= quorum => self.candidate(now, false),
            Role::Candidate(ballot) if ballot.granted.len() >= quorum => self.lead(now),
            _ => {}
        }
    }

    /// Whether a candidate's log, told as (last term, last index), is at least as new as the own one (thesis 3.6.1):
    /// a quorum's votes then prove that it holds every committed entry.
    fn up_to_date(&self, last: (u64, u64)) -> bool {
        last >= (self.log.last_term(), self.log.last_index()) || self.mutant == Some(Mutant::IgnoreLog)
    }

    /// Whether `candidate` could have this member's vote in the current term.
    fn vote_is_free_for(&self, candidate: Name) -> bool {
        self.vote.is_none_or(|vote| vote == candidate)
    }

    pub(super) fn on_pre_vote(&mut self, now: Nanos, from: Name, term: u64, last: (u64, u64)) {
        let open = term > self.term || self.vote_is_free_for(from);
        let granted = open && !self.hears_leader(now) && self.up_to_date(last);
        // A consent names the term asked for, so that it cannot be taken for one to another question; a refusal names
        // the own term, so that a candidate of the past learns it.
        let reply_term = if granted { term } else { self.term };
        self.send_in(from, reply_term, Body::PreVoteReply { granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, now: Nanos, from: Name, term: u64, granted: bool) {
        let asked = self.term + 1;
        if let Role::PreCandidate(ballot) = &mut self.role {
            match granted {
                true if term == asked => ballot.granted.insert(from),
                true => return,
                false => ballot.refused.insert(from),
            };
            self.count_votes(now);
        }
    }

    pub(super) fn on_vote(&mut self, now: Nanos, from: Name, last: (u64, u64)) {
        let granted = self.vote_is_free_for(from) && self.up_to_date(last);
        if granted {
            self.set_vote(from);
            self.await_leader(now);
        }
        self.send(from, Body::VoteReply { granted });
    }

    pub(super) fn on_vote_reply(&mut self, now: Nanos, from: Name, granted: bool) {
        if let Role::Candidate(ballot) = &mut self.role {
            if granted {
                ballot.granted.insert(from);
            } else {
                ballot.refused.insert(from);
            }
            self.count_votes(now);
        }
    }

    /// The leader hands over: no pre-vote, for the leader is known to be alive.
    pub(super) fn on_timeout_now(&mut self, now: Nanos, from: Name) {
        if matches!(self.role, Role::Follower) && self.leader == Some(from) {
            self.candidate(now, true);
        }
    }
}
