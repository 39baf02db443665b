//! The log, and the state machine that it drives.
//!
//! The state machine is one register with get, set and compare-and-set: small, and enough to tell a linearizable
//! system from another. Its whole state fits in a message, so a snapshot is simply the [`State`] after some entry, and
//! the log holds the entries that follow it. [`State::digest`] runs over everything applied so far: two members with
//! equal digests at an index applied equal prefixes (State Machine Safety, figure 3.2 of the thesis, made visible).
use serde::{Deserialize, Serialize};

/// What an entry does to the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nothing. A new leader's first entry: it lets the leader commit what earlier terms left (thesis 3.6.2).
    Noop,
    /// Set the register.
    Set(u64),
    /// Set the register to `to` if it holds `from`.
    Cas {
        /// Expected; `None` is the initial state.
        from: Option<u64>,
        /// New.
        to: u64,
    },
}

/// One entry of the log. Its index is its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of the leader that made it.
    pub term: u64,
    /// What it does.
    pub command: Command,
}

/// The state machine after the entry `index`; also a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The last entry applied; 0 for none.
    pub index: u64,
    /// That entry's term; 0 for none.
    pub term: u64,
    /// Of all entries up to `index`.
    pub digest: u64,
    /// What the register holds.
    pub value: Option<u64>,
}

impl Default for State {
    fn default() -> State {
        State {
            index: 0,
            term: 0,
            digest: 0xcbf2_9ce4_8422_2325, // FNV's offset basis
            value: None,
        }
    }
}

impl State {
    /// Applies the entry at `index + 1`; false for a compare-and-set that found another value.
    pub fn apply(&mut self, entry: &Entry) -> bool {
        self.index += 1;
        self.term = entry.term;
        let words = match entry.command {
            Command::Noop => [0, 0, 0],
            Command::Set(value) => [1, 0, value],
            Command::Cas { from: None, to } => [2, 0, to],
            Command::Cas { from: Some(from), to } => [3, from, to],
        };
        for byte in [self.index, self.term]
            .into_iter()
            .chain(words)
            .flat_map(u64::to_le_bytes)
        {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        match entry.command {
            Command::Noop => true,
            Command::Set(value) => {
                self.value = Some(value);
                true
            }
            Command::Cas { from, to } => {
                let matched = self.value == from;
                if matched {
                    self.value = Some(to);
                }
                matched
            }
        }
    }
}

/// A snapshot and the entries after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    snapshot: State,
    entries: Vec<Entry>,
}

impl Log {
    /// A log that begins after `snapshot`.
    pub fn after(snapshot: State) -> Log {
        Log {
            snapshot,
            entries: Vec::new(),
        }
    }

    /// The state before the first entry held.
    pub fn snapshot(&self) -> &State {
        &self.snapshot
    }

    /// The newest entry's index; 0 for an empty log.
    pub fn last_index(&self) -> u64 {
        self.snapshot.index + self.entries.len() as u64
    }

    /// The newest entry's term; 0 for an empty log.
    pub fn last_term(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.term, |e| e.term)
    }

    /// The term at `index`; `None` where the log knows none: behind the snapshot or past the end.
    pub fn term(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.snapshot.index)? {
            0 => Some(self.snapshot.term),
            n => self.entries.get(n as usize - 1).map(|e| e.term),
        }
    }

    /// The entry at `index`, if held.
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let n = index.checked_sub(self.snapshot.index + 1)?;
        self.entries.get(n as usize)
    }

    /// The entries after `index`, which is not behind the snapshot.
    pub fn tail(&self, index: u64) -> &[Entry] {
        let from = index
            .checked_sub(self.snapshot.index)
            .expect("a tail begins at or after the snapshot");
        self.entries.get(from as usize..).unwrap_or(&[])
    }

    /// Appends one entry; its index.
    pub fn push(&mut self, entry: Entry) -> u64 {
        self.entries.push(entry);
        self.last_index()
    }

    /// Replaces what follows `index`, which lies between the snapshot and the end.
    pub fn replace_after(&mut self, index: u64, entries: &[Entry]) {
        assert!(
            (self.snapshot.index..=self.last_index()).contains(&index),
            "a log has no gaps"
        );
        self.entries.truncate((index - self.snapshot.index) as usize);
        self.entries.extend_from_slice(entries);
    }

    /// Folds the entries up to `index` into the snapshot.
    pub fn compact(&mut self, index: u64) {
        let count = index
            .checked_sub(self.snapshot.index)
            .expect("a snapshot never goes back");
        for entry in self.entries.drain(..count as usize) {
            self.snapshot.apply(&entry);
        }
    }

    /// Takes a leader's snapshot. Entries that follow it stay if they can belong to it (thesis 5.2).
    pub fn install(&mut self, snapshot: State) {
        let kept = match self.term(snapshot.index) {
            Some(term) if term == snapshot.term => self.tail(snapshot.index).to_vec(),
            _ => Vec::new(),
        };
        self.snapshot = snapshot;
        self.entries = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::default();
        for (&term, value) in terms.iter().zip(1..) {
            log.push(Entry {
                term,
                command: Command::Set(value),
            });
        }
        log
    }

    #[test]
    fn a_compacted_log_answers_as_before_from_its_snapshot_on() {
        let mut log = log(&[1, 1, 2, 3]);
        let mut whole = State::default();
        log.tail(0)[..3].iter().for_each(|e| assert!(whole.apply(e)));
        log.compact(3);
        assert_eq!(*log.snapshot(), whole);
        assert_eq!((log.last_index(), log.last_term()), (4, 3));
        assert_eq!([2, 3, 4, 5].map(|i| log.term(i)), [None, Some(2), Some(3), None]);
        assert_eq!(log.get(3), None);
        assert_eq!(log.tail(3).len(), 1);
        log.compact(4);
        assert_eq!((log.last_index(), log.last_term()), (4, 3));
    }

    #[test]
    fn a_snapshot_keeps_only_what_can_follow_it() {
        let mut kept = log(&[1, 1, 2, 3]);
        let mut at_two = State::default();
        kept.tail(0)[..2].iter().for_each(|e| assert!(at_two.apply(e)));
        let mut lost = kept.clone();
        kept.install(at_two);
        assert_eq!(kept.last_index(), 4);
        lost.install(State { term: 9, ..at_two });
        assert_eq!((lost.last_index(), lost.last_term()), (2, 9));
    }

    #[test]
    fn the_digest_tells_commands_terms_and_places_apart() {
        let digest = |entries: &[(u64, Command)]| {
            let mut state = State::default();
            entries.iter().for_each(|&(term, command)| {
                state.apply(&Entry { term, command });
            });
            state.digest
        };
        let cas = |from| Command::Cas { from, to: 1 };
        let all = [
            digest(&[]),
            digest(&[(1, Command::Noop)]),
            digest(&[(2, Command::Noop)]),
            digest(&[(1, Command::Set(0))]),
            digest(&[(1, Command::Set(1))]),
            digest(&[(1, cas(None))]),
            digest(&[(1, cas(Some(0)))]),
            digest(&[(1, Command::Noop), (1, Command::Set(1))]),
            digest(&[(1, Command::Set(1)), (1, Command::Noop)]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn cas_sets_only_what_it_expected() {
        let mut state = State::default();
        let mut run = |command| state.apply(&Entry { term: 1, command });
        assert!(run(Command::Cas { from: None, to: 1 }));
        assert!(!run(Command::Cas { from: None, to: 2 }));
        assert!(run(Command::Cas { from: Some(1), to: 3 }));
        assert_eq!(state.value, Some(3));
    }
}
