//! What members say to each other, and what they write to disk.
use crate::raft::log::{Entry, Log, State};
use serde::{Deserialize, Serialize};
use splitbrain_core::Name;

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term; for a pre-vote and its consent the term that the election would have.
    pub term: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says. Thesis figures 3.1 and 5.3, sections 9.6 (pre-vote) and 3.10 (transfer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// "Would you vote for me in this term?" Binds nobody.
    PreVote {
        /// Of the asker's log.
        last_index: u64,
        /// Of the asker's log.
        last_term: u64,
    },
    /// The answer; a refusal carries the refuser's own term.
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// RequestVote.
    Vote {
        /// Of the candidate's log.
        last_index: u64,
        /// Of the candidate's log.
        last_term: u64,
        /// The old leader asked for this election: whoever still hears it may vote all the same.
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// AppendEntries; without entries a heartbeat.
    Append {
        /// The entry before the first one sent.
        prev_index: u64,
        /// Its term.
        prev_term: u64,
        /// To be stored.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: u64,
        /// Counts the leader's rounds; the reply repeats it (ReadIndex, thesis 6.4).
        round: u64,
    },
    /// InstallSnapshot, in one piece.
    Snapshot {
        /// The state machine at the snapshot.
        state: State,
        /// As in `Append`.
        round: u64,
    },
    /// The answer to `Append` and `Snapshot`.
    AppendReply {
        /// Of the message answered; 0 from a member with a higher term.
        round: u64,
        /// What became of it.
        result: Stored,
    },
    /// The leader hands over: campaign at once.
    TimeoutNow,
}

/// What became of entries sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// The follower's log equals the leader's up to here.
    Upto(u64),
    /// It has no entry at `prev` with the leader's term there; nothing beyond `hint` can match.
    Conflict {
        /// As the leader sent it.
        prev: u64,
        /// At or after the last index that can match.
        hint: u64,
    },
    /// The sender of the entries is no longer leader: the term of this message is higher.
    Stale,
}

/// A record of the log on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The current term and the vote in it.
    Ballot {
        /// Never falls.
        term: u64,
        /// Who has this member's vote in `term`.
        vote: Option<Name>,
    },
    /// The log continues after `prev` with these entries; whatever else followed `prev` is gone.
    Append {
        /// The entry before the first.
        prev: u64,
        /// To follow it.
        entries: Vec<Entry>,
    },
    /// The log begins after this state; whatever was before is gone.
    Snapshot(State),
}

/// What a member finds on its disk when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// The current term.
    pub term: u64,
    /// The vote in it.
    pub vote: Option<Name>,
    /// The log with its snapshot.
    pub log: Log,
}

impl Durable {
    /// Reads the records of a last life, in order; the error names the first record that contradicts those before it.
    pub fn recover(records: impl IntoIterator<Item = Record>) -> Result<Durable, String> {
        let mut durable = Durable::default();
        for (record, n) in records.into_iter().zip(1..) {
            durable
                .take(record)
                .map_err(|why| format!("read raft record {n}: {why}; a member with a broken log must not vote"))?;
        }
        if durable.log.last_term() > durable.term {
            let (entry, term) = (durable.log.last_term(), durable.term);
            return Err(format!(
                "read raft records: an entry of term {entry}, but the term is {term}"
            ));
        }
        Ok(durable)
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Ballot { term, vote } => {
                if term < self.term {
                    return Err(format!("term {term} after term {}", self.term));
                }
                self.term = term;
                self.vote = vote;
            }
            Record::Append { prev, entries } => {
                let (first, last) = (self.log.snapshot().index, self.log.last_index());
                let Some(mut term) = self.log.term(prev) else {
                    return Err(format!(
                        "entries after {prev}, but the log reaches from {first} to {last}"
                    ));
                };
                for entry in &entries {
                    if entry.term < term {
                        return Err(format!("an entry of term {} after one of term {term}", entry.term));
                    }
                    term = entry.term;
                }
                self.log.replace_after(prev, &entries);
            }
            Record::Snapshot(state) => self.log = Log::after(state),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log::Command;

    fn append(prev: u64, terms: &[u64]) -> Record {
        let entry = |&term| Entry {
            term,
            command: Command::Noop,
        };
        Record::Append {
            prev,
            entries: terms.iter().map(entry).collect(),
        }
    }

    fn ballot(term: u64) -> Record {
        Record::Ballot { term, vote: None }
    }

    #[test]
    fn later_records_overrule_earlier_ones() {
        let vote = Some("n2".parse().unwrap());
        let records = [
            ballot(1),
            append(0, &[1, 1, 1]),
            Record::Ballot { term: 3, vote },
            append(1, &[3]),
        ];
        let durable = Durable::recover(records).unwrap();
        assert_eq!((durable.term, durable.vote), (3, vote));
        assert_eq!((durable.log.last_index(), durable.log.last_term()), (2, 3));
    }

    #[test]
    fn contradictions_are_refused_and_named() {
        let check = |records: &[Record], want: &str| {
            let error = Durable::recover(records.to_vec()).unwrap_err();
            assert!(error.contains(want), "{error}");
        };
        check(&[ballot(2), ballot(1)], "record 2: term 1 after term 2");
        check(&[ballot(1), append(1, &[1])], "entries after 1");
        check(&[ballot(2), append(0, &[2, 1])], "term 1 after one of term 2");
        check(&[append(0, &[1])], "an entry of term 1");
    }
}
