//! One pass over a history in the compact form, in bounded memory.
//!
//! The checkers of leaders, observers, tokens, exclusion and ids judge what little a history says of leadership, and
//! nearly all of that says again what was known: the same host still leads in the same epoch, with the same token. So in
//! front of each host stands a note of what it said last, and who says it again is counted, and no more; for exclusion,
//! the end of the belief moves. Only what is new goes to the [checkers](crate) themselves, which are the same that judge
//! whole histories: so the verdicts are the same, to the word.
//!
//! **What is remembered**: each host's note; the questions that are open, each until its completion is known; and, in the
//! checkers, one entry for each epoch, token and reign (and for each life's last write with each token), for a late word
//! may contradict any of them. Those are few in any real history: elections are rare beside questions. A history that
//! has more than [`Limits`] allow is not remembered further, and what then was found stands, but that nothing was found
//! means nothing: the verdict is unknown, with the reason.
//!
//! Caveat: records are trusted as far as their form goes. A host that was never named makes every verdict unknown.
mod bounded;
mod news;
mod notes;
mod questions;

use crate::exclusion::Exclusion;
use crate::ids::{self, Ids};
use crate::leader_per_epoch::LeaderPerEpoch;
use crate::observers::EpochsPerObserver;
use crate::tokens::TokenPerReign;
use bounded::{Bounded, in_doubt};
use notes::{ANSWER, Maybe, Note, WRITE, key};
use questions::{Question, Questions};
use splitbrain_core::compact::{Raw, Tag, words};
use splitbrain_core::plan::Workload;
use splitbrain_core::{Guarantee, Header, Holds, HostRole, HostSpec, Promise, Verdict};
use std::hint::{black_box, select_unpredictable};

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of each checker: epochs, tokens, reigns, ids.
    pub entries: usize,
    /// Open questions of clients whose numbers lie far apart.
    pub questions: usize,
}

impl Default for Limits {
    /// Less than 64 MB in all.
    fn default() -> Limits {
        Limits {
            entries: 100_000,
            questions: 50_000,
        }
    }
}

/// See the module.
pub struct Stream {
    limits: Limits,
    /// Where the next record stands, and the last one's time.
    next: u64,
    time: u64,
    notes: Vec<Note>,
    /// For beliefs, and for writes.
    open: [Questions; 2],
    /// The highest token that the storage took.
    highest: Maybe,
    leaders: Bounded<LeaderPerEpoch>,
    observers: Bounded<EpochsPerObserver>,
    tokens: Bounded<TokenPerReign>,
    exclusion: Bounded<Exclusion>,
    ids: [Bounded<Ids>; 2],
    broken: Option<String>,
}

/// The tags of operations: from here so many.
const OPERATIONS: u64 = Tag::Asked as u64;
const HOW_MANY: u64 = Tag::Unwritten as u64 - OPERATIONS + 1;

impl Stream {
    /// Of a history with this header.
    pub fn new(header: &Header, limits: Limits) -> Stream {
        let asked = header.hosts.iter().any(|h| h.asked);
        let storage = header.hosts.iter().any(|h| h.role == HostRole::Storage);
        let promised = |p: &Promise| p.guarantee == Guarantee::TokenPerReign && p.holds != Holds::Never;
        let tokens = storage || header.promises.iter().any(promised);
        let sequence = header.plan.workload == Workload::Sequence;
        let note = |(place, host): (usize, &HostSpec)| Note::new(host.name, place);
        Stream {
            limits,
            next: 0,
            time: 0,
            notes: header.hosts.iter().enumerate().map(note).collect(),
            open: [Questions::new(limits.questions), Questions::new(limits.questions)],
            highest: Maybe::default(),
            leaders: Bounded::new(LeaderPerEpoch::new(header), asked),
            observers: Bounded::new(EpochsPerObserver::new(header), asked),
            tokens: Bounded::new(TokenPerReign::new(header), tokens),
            exclusion: Bounded::new(Exclusion::new(header), asked),
            ids: [ids::Which::Unique, ids::Which::Rising].map(|which| Bounded::new(Ids::new(header, which), sequence)),
            broken: None,
        }
    }

    /// Takes the next records.
    ///
    /// Which of them comes next nobody can guess, the processor neither. So for questions and their ends nearly all is
    /// computed whichever it is, and there are branches only to what is rare.
    pub fn block(&mut self, records: &[Raw]) {
        let (mut next, mut time) = (self.next, self.time);
        for raw in records {
            let [first, second, epoch, token] = words(raw);
            let (tag, host) = (first & 15, (first >> 16 & 0xffff) as usize);
            let (operates, stored) = (tag.wrapping_sub(OPERATIONS) < HOW_MANY, tag == Tag::Stored as u64);
            let known = self.notes.get_mut(host).filter(|_| operates | stored);
            let Some(note) = known else {
                (self.next, self.time) = (next, time);
                self.other(raw);
                (next, time) = (self.next, self.time);
                continue;
            };
            let index = next + (first >> 8 & 0xff);
            time += second & 0xffff_ffff;
            next = index + 1;
            if stored {
                if !(note.stored.is(token) & self.highest.is(token)) {
                    self.stored_anew(raw, index, time);
                }
                continue;
            }
            let asks = (tag == Tag::Asked as u64) | (tag == Tag::WriteAsked as u64);
            let writes = tag >= Tag::WriteAsked as u64;
            let whom = note.whom;
            let new = Question { index, time, whom };
            let Some(question) = self.open[usize::from(writes)].exchange((first >> 32) as u32, asks, new) else {
                continue;
            };
            let valid = !asks & (question.whom == whom);
            let place = if writes { WRITE } else { ANSWER };
            let said = &mut note.said[place];
            let differs = (key(first, second) ^ said.key) | (epoch ^ said.epoch) | (token ^ said.token);
            // Kept from the compiler, which would branch on the one and then on the other.
            if black_box(valid & (differs != 0)) {
                self.news(raw, question.asked(), index, time);
                continue;
            }
            said.again += u64::from(valid);
            let number = question.index + 1;
            let counts = valid & (number > said.number);
            let pick = |new: u64, old: u64| select_unpredictable(counts, new, old);
            said.number = pick(number, said.number);
            said.asked = pick(question.time, said.asked);
            said.learnt = pick(index, said.learnt);
            said.time = pick(time, said.time);
        }
        (self.next, self.time) = (next, time);
    }

    /// The verdicts of the checkers that apply, as a whole history would be given them.
    pub fn finish(mut self) -> Vec<Verdict> {
        for host in 0..self.notes.len() {
            self.flush_answer(host);
            self.flush_write(host);
        }
        let lost = self.open.iter().any(|questions| questions.lost);
        if self.exclusion.full || lost {
            // A reign that was not seen may have had the token of another.
            self.exclusion.checker.forget_writes();
        }
        let [unique, rising] = self.ids;
        let verdicts = [
            self.leaders.finish("epochs"),
            self.observers.finish("epochs of one life"),
            self.exclusion.finish("reigns and tokens"),
            self.tokens.finish("tokens"),
            unique.finish("ids"),
            rising.finish("ids"),
        ];
        let questions = || "more questions were open at once than can be remembered".to_string();
        let doubt = self.broken.or_else(|| lost.then(questions));
        let doubted = |verdict: Verdict| match &doubt {
            Some(why) => in_doubt(verdict, why.clone()),
            None => verdict,
        };
        verdicts.into_iter().flatten().map(doubted).collect()
    }
}
