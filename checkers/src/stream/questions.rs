//! Questions that wait for their answers, by client.
//!
//! A client asks one thing at a time, and clients are numbered one after another, a new one for each that got no answer:
//! those that have a question open now have numbers that are near to each other. So a client's question stands in the
//! slot of its number's low bits, and only what finds its slot taken goes to a map.
use crate::evidence::Mark;
use splitbrain_core::Nanos;
use std::collections::BTreeMap;

const SLOTS: usize = 1024;

/// Numbers only, which a processor hands on faster than a structure within a structure.
#[derive(Clone, Copy)]
pub(super) struct Question {
    /// Where it stands, and when it was put.
    pub index: u64,
    pub time: u64,
    /// Of whom it was asked: the host and its life.
    pub whom: u64,
}

impl Question {
    pub fn asked(&self) -> Mark {
        Mark {
            index: self.index,
            time: Nanos(self.time),
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    /// Whose it is, plus 1; 0 is free.
    owner: u64,
    question: Question,
}

const FREE: Slot = Slot {
    owner: 0,
    question: Question {
        index: 0,
        time: 0,
        whom: 0,
    },
};

pub(super) struct Questions {
    slots: Box<[Slot; SLOTS]>,
    more: BTreeMap<u32, Question>,
    most: usize,
    /// Whether one was not remembered, for there were too many.
    pub lost: bool,
}

impl Questions {
    /// With room for so many that find their slots taken.
    pub fn new(most: usize) -> Questions {
        Questions {
            slots: Box::new([FREE; SLOTS]),
            more: BTreeMap::new(),
            most,
            lost: false,
        }
    }

    /// A client asks `new`, or its question ends. Returns the question that it had, or whatever stood in its slot if it
    /// asks; nothing where nothing ends.
    #[inline(always)]
    pub fn exchange(&mut self, client: u32, asks: bool, new: Question) -> Option<Question> {
        let owner = u64::from(client) + 1;
        let slot = &mut self.slots[client as usize % SLOTS];
        let mine = slot.owner == owner;
        let plain = mine | (asks & (slot.owner == 0));
        if !plain | !self.more.is_empty() {
            return self.exchange_among_more(client, asks, new.index, new.time, new.whom);
        }
        let Question { index, time, whom } = slot.question;
        slot.owner = if asks { owner } else { 0 };
        slot.question.index = new.index;
        slot.question.time = new.time;
        slot.question.whom = new.whom;
        Some(Question { index, time, whom })
    }

    #[cold]
    fn exchange_among_more(&mut self, client: u32, asks: bool, index: u64, time: u64, whom: u64) -> Option<Question> {
        let new = Question { index, time, whom };
        let owner = u64::from(client) + 1;
        let slot = &mut self.slots[client as usize % SLOTS];
        let mine = slot.owner == owner;
        let before = match mine {
            true => Some(slot.question),
            false => self.more.remove(&client),
        };
        if asks && (mine || slot.owner == 0) {
            *slot = Slot { owner, question: new };
        } else if asks && self.more.len() < self.most {
            self.more.insert(client, new);
        } else if asks {
            self.lost = true;
        } else if mine {
            slot.owner = 0;
        }
        before
    }

    /// Where the one stands that has waited longest.
    pub fn oldest(&self) -> Option<u64> {
        let slots = self
            .slots
            .iter()
            .filter(|slot| slot.owner != 0)
            .map(|slot| &slot.question);
        slots.chain(self.more.values()).map(|question| question.index).min()
    }
}
