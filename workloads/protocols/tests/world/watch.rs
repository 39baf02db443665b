//! The properties of figure 3.2 of the thesis, and what else must hold, checked on every effect.
use super::Host;
use splitbrain_core::Name;
use splitbrain_protocols::raft::log::Command;
use splitbrain_protocols::raft::message::{Body, Durable, Message, Record, Stored};
use splitbrain_protocols::raft::{Effect, Ended, Event, Raft};
use std::collections::{BTreeMap, BTreeSet};

/// An entry that some member applied.
#[derive(Clone, Copy)]
struct Applied {
    term: u64,
    digest: u64,
    /// A term in which it was committed.
    committed_in: u64,
}

/// Everything that was seen.
#[derive(Default)]
pub struct Watch {
    /// Whether to look inside, too: at votes, disks and logs. What a mutant does must show from outside.
    inside: bool,
    leaders: BTreeMap<u64, Name>,
    applied: BTreeMap<u64, Applied>,
    last_applied: BTreeMap<Name, u64>,
    votes: BTreeMap<(Name, u64), Name>,
    /// Reads under way: what had been applied anywhere when they began.
    reads: BTreeMap<u64, u64>,
    values: BTreeMap<u64, Option<u64>>,
    stored: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    pub elections: usize,
    pub done: usize,
    pub reads_done: usize,
    pub snapshots: usize,
    pub transfers: usize,
}

impl Watch {
    pub fn new(inside: bool) -> Watch {
        Watch {
            inside,
            ..Watch::default()
        }
    }

    /// Something is about to be asked.
    pub fn asked(&mut self, event: &Event) {
        if let Event::Read { id } = event {
            self.reads.insert(*id, self.newest());
        }
    }

    /// A process began a new life: it may apply again what its last one had applied.
    pub fn started(&mut self, host: Name) {
        self.last_applied.remove(&host);
    }

    fn newest(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub fn effect(&mut self, host: Name, raft: &Raft, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Elected { term } => self.elected(host, raft, *term),
            Effect::Applied { index, term, digest } => self.applied_at(host, *index, *term, *digest, raft.term()),
            Effect::Send { to, message } => self.sent(host, *to, message),
            Effect::Persist(Record::Append { entries, .. }) => {
                let ids = entries.iter().filter_map(|e| match e.command {
                    Command::Set(id) | Command::Cas { to: id, .. } => Some(id),
                    Command::Noop => None,
                });
                self.stored.extend(ids);
                match self.stored.intersection(&self.refused).next() {
                    Some(id) => Err(format!("proposal {id} was refused and stored")),
                    None => Ok(()),
                }
            }
            Effect::Ended { id, how } => self.ended(*id, *how),
            Effect::Persist(_) | Effect::Compact(_) | Effect::Deposed { .. } => Ok(()),
        }
    }

    /// Election Safety and Leader Completeness.
    fn elected(&mut self, host: Name, raft: &Raft, term: u64) -> Result<(), String> {
        self.elections += 1;
        if let Some(other) = self.leaders.insert(term, host) {
            return Err(format!("election safety: {other} and {host} both lead term {term}"));
        }
        if !self.inside {
            return Ok(());
        }
        let log = raft.log();
        for (index, entry) in self.applied.iter().filter(|(_, entry)| entry.committed_in < term) {
            let held = match index.cmp(&log.snapshot().index) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => log.snapshot().digest == entry.digest,
                std::cmp::Ordering::Greater => log.term(*index) == Some(entry.term),
            };
            if !held {
                return Err(format!(
                    "leader completeness: {host} leads term {term} without entry {index}"
                ));
            }
        }
        Ok(())
    }

    /// State Machine Safety.
    fn applied_at(&mut self, host: Name, index: u64, term: u64, digest: u64, current: u64) -> Result<(), String> {
        let entry = self.applied.entry(index).or_insert(Applied {
            term,
            digest,
            committed_in: current,
        });
        entry.committed_in = entry.committed_in.min(current);
        if (entry.term, entry.digest) != (term, digest) {
            return Err(format!("state machine safety: {host} applied another entry {index}"));
        }
        let last = self.last_applied.insert(host, index);
        if self.inside && last.is_some_and(|last| index <= last) {
            return Err(format!("{host} applied {index} again within one life"));
        }
        Ok(())
    }

    /// One vote a term, whatever was forgotten in between.
    fn sent(&mut self, host: Name, to: Name, message: &Message) -> Result<(), String> {
        let candidate = match message.body {
            Body::Vote { .. } => host,
            Body::VoteReply { granted: true } => to,
            Body::Snapshot { .. } => {
                self.snapshots += 1;
                return Ok(());
            }
            Body::TimeoutNow => {
                self.transfers += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let term = message.term;
        let first = *self.votes.entry((host, term)).or_insert(candidate);
        if self.inside && first != candidate {
            return Err(format!("{host} voted for {first} and for {candidate} in term {term}"));
        }
        Ok(())
    }

    fn ended(&mut self, id: u64, how: Ended) -> Result<(), String> {
        let read = self.reads.remove(&id);
        match how {
            Ended::Value { value, index } => {
                self.reads_done += 1;
                if read.is_none_or(|floor| index < floor) {
                    return Err(format!(
                        "read {id} saw entry {index}, but {read:?} had been applied before it"
                    ));
                }
                if *self.values.entry(index).or_insert(value) != value {
                    return Err(format!("two reads at entry {index} saw different values"));
                }
            }
            Ended::Applied => self.done += 1,
            Ended::Refused(_) => {
                self.refused.insert(id);
                if self.stored.contains(&id) {
                    return Err(format!("proposal {id} was stored and refused"));
                }
            }
            Ended::Mismatch | Ended::Unknown(_) => {}
        }
        Ok(())
    }

    /// What a message says is on its sender's disk when it leaves. Looked at now and then: it is slow.
    pub fn durable(&self, host: &Host, to: Name, message: &Message, tick: u64) -> Result<(), String> {
        if !self.inside || !tick.is_multiple_of(4) {
            return Ok(());
        }
        let disk = Durable::recover(host.disk.clone())?;
        let term = (disk.term, disk.vote);
        let holds = match &message.body {
            // These speak of a term that does not exist yet.
            Body::PreVote { .. } | Body::PreVoteReply { .. } => true,
            Body::Vote { .. } => term == (message.term, Some(host.name)),
            Body::VoteReply { granted: true } => term == (message.term, Some(to)),
            Body::AppendReply {
                result: Stored::Upto(index),
                ..
            } => disk.term == message.term && disk.log.last_index() >= *index,
            Body::Append {
                prev_index, entries, ..
            } => disk.term == message.term && disk.log.last_index() >= prev_index + entries.len() as u64,
            _ => disk.term == message.term,
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{} sends {message:?} while its disk has {disk:?}", host.name))
        }
    }

    /// After a whole step the disk holds what memory does. Looked at now and then: it is slow.
    pub fn disk(&self, host: &Host, tick: u64) -> Result<(), String> {
        if !self.inside || !tick.is_multiple_of(8) {
            return Ok(());
        }
        let Some(raft) = &host.raft else { return Ok(()) };
        let durable = Durable::recover(host.disk.clone())?;
        let memory = Durable {
            term: raft.term(),
            vote: raft.vote(),
            log: raft.log().clone(),
        };
        if durable == memory {
            Ok(())
        } else {
            Err(format!("{}'s disk has {durable:?}, its memory {memory:?}", host.name))
        }
    }

    /// Log Matching: where two logs have an entry of the same index and term, they are the same up to there.
    pub fn logs(&self, hosts: &[Host], tick: u64) -> Result<(), String> {
        if !self.inside || !tick.is_multiple_of(64) {
            return Ok(());
        }
        for (i, a) in hosts.iter().enumerate() {
            for b in &hosts[i + 1..] {
                let (Some(x), Some(y)) = (&a.raft, &b.raft) else {
                    continue;
                };
                let (x, y) = (x.log(), y.log());
                let first = x.snapshot().index.max(y.snapshot().index) + 1;
                let last = x.last_index().min(y.last_index());
                let same = |index: &u64| x.term(*index) == y.term(*index);
                let Some(agreed) = (first..=last).rev().find(same) else {
                    continue;
                };
                if (first..agreed).any(|index| x.get(index) != y.get(index)) {
                    return Err(format!(
                        "log matching: {} and {} differ before {agreed}",
                        a.name, b.name
                    ));
                }
            }
        }
        Ok(())
    }
}
