//! What is noted of each host.
use crate::evidence::Mark;
use splitbrain_core::compact::{Record, Tag};
use splitbrain_core::{Name, Nanos};

/// What a host said last to one kind of question, and how often. What it says again in the same numbers is no news.
#[derive(Clone, Copy)]
pub(super) struct Said {
    /// See [`key`].
    pub key: u64,
    pub epoch: u64,
    pub token: u64,
    /// How often it was said again.
    pub again: u64,
    /// The last question that was answered so: its index plus 1 (0: none) and its time, and where the answer stands.
    pub number: u64,
    pub asked: u64,
    pub learnt: u64,
    pub time: u64,
}

/// A record's tag, flags and reign as one number, from its first two words.
#[inline(always)]
pub(super) fn key(first: u64, second: u64) -> u64 {
    (first & 0xff) | (second & 0xffff_ffff_0000_0000)
}

/// No record's key: no answer is a name.
const NOTHING: u64 = Tag::Name as u64;

impl Said {
    pub const NEVER: Said = Said {
        key: NOTHING,
        epoch: 0,
        token: 0,
        again: 0,
        number: 0,
        asked: 0,
        learnt: 0,
        time: 0,
    };

    /// What this record says, for the first time.
    pub fn first(record: &Record) -> Said {
        let flags = u64::from(record.flags) << 4;
        Said {
            key: record.tag as u64 | flags | u64::from(record.reign) << 32,
            epoch: record.epoch,
            token: record.token,
            ..Said::NEVER
        }
    }

    /// The last question that was answered so, and its answer.
    pub fn last(&self) -> Option<(Mark, Mark)> {
        let mark = |index, time| Mark {
            index,
            time: Nanos(time),
        };
        let index = self.number.checked_sub(1)?;
        Some((mark(index, self.asked), mark(self.learnt, self.time)))
    }
}

/// What an answer that was noted means when it comes again.
#[derive(Clone, Copy, Default)]
pub(super) struct Meaning {
    /// It names an epoch.
    pub tells: bool,
    /// It claims to lead in an epoch.
    pub claims: bool,
    /// It claims the reign at this place.
    pub reign: Option<usize>,
}

/// A number, or none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Maybe {
    some: bool,
    pub number: u64,
}

impl Maybe {
    pub fn some(number: u64) -> Maybe {
        Maybe { some: true, number }
    }

    #[inline(always)]
    pub fn is(self, number: u64) -> bool {
        self.some & (self.number == number)
    }

    /// Whether there is one, higher than this.
    pub fn above(self, number: u64) -> bool {
        self.some && self.number > number
    }
}

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub name: Name,
    /// Its number and its life.
    pub whom: u64,
    /// The last answer, and a place for what does not count; the last write that was done, and such a place.
    pub said: [Said; 4],
    /// Of the answer.
    pub meaning: Meaning,
    /// The token with which the storage last saw it.
    pub stored: Maybe,
    /// The newest election's reign, and its epoch.
    pub elected: Option<(u32, u64)>,
}

/// Where the last answer stands, and the last write.
pub(super) const ANSWER: usize = 0;
pub(super) const WRITE: usize = 2;

impl Note {
    pub fn new(name: Name, host: usize) -> Note {
        Note {
            name,
            whom: host as u64,
            said: [Said::NEVER; 4],
            meaning: Meaning::default(),
            stored: Maybe::default(),
            elected: None,
        }
    }

    pub fn life(&self) -> u32 {
        (self.whom >> 16) as u32
    }

    pub fn begin(&mut self, life: u32) {
        self.whom = (self.whom & 0xffff) | u64::from(life) << 16;
        self.elected = None;
    }
}
