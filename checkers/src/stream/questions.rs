//! Questions that wait for their answers, by client.
//!
//! A client asks one thing at a time, and clients are numbered one after another, a new one for each that got no answer:
//! those that have a question open now have numbers that are near to each other. So a client's question stands in the
//! slot of its number's low bits, and only what finds its slot taken goes to a map.
use crate::evidence::Mark;
use splitbrain_core::Nanos;
use std::collections::BTreeMap;

const SLOTS: usize = 1024;
/// Stands for nobody in a slot.
const FREE: u64 = 1 << 32;

#[derive(Clone, Copy)]
pub(super) struct Question {
    pub asked: Mark,
    pub life: u32,
    pub host: u16,
}

pub(super) struct Questions {
    slots: Box<[(u64, Question)]>,
    more: BTreeMap<u32, Question>,
    most: usize,
    /// Whether one was not remembered, for there were too many.
    pub lost: bool,
}

impl Questions {
    /// With room for so many that find their slots taken.
    pub fn new(most: usize) -> Questions {
        let nothing = Question {
            asked: Mark {
                index: 0,
                time: Nanos::ZERO,
            },
            life: 0,
            host: 0,
        };
        Questions {
            slots: vec![(FREE, nothing); SLOTS].into_boxed_slice(),
            more: BTreeMap::new(),
            most,
            lost: false,
        }
    }

    /// A client asks. What it asked before will not be answered.
    #[inline]
    pub fn put(&mut self, client: u32, question: Question) {
        let slot = &mut self.slots[client as usize % SLOTS];
        if slot.0 == u64::from(client) || slot.0 == FREE {
            *slot = (u64::from(client), question);
            if !self.more.is_empty() {
                self.more.remove(&client);
            }
        } else if self.more.len() < self.most {
            self.more.insert(client, question);
        } else {
            self.more.remove(&client);
            self.lost = true;
        }
    }

    /// The client's question ends.
    #[inline]
    pub fn take(&mut self, client: u32) -> Option<Question> {
        let slot = &mut self.slots[client as usize % SLOTS];
        if slot.0 == u64::from(client) {
            slot.0 = FREE;
            return Some(slot.1);
        }
        match self.more.is_empty() {
            true => None,
            false => self.more.remove(&client),
        }
    }

    /// Where the one stands that has waited longest.
    pub fn oldest(&self) -> Option<u64> {
        let slots = self.slots.iter().filter(|slot| slot.0 != FREE).map(|slot| &slot.1);
        slots
            .chain(self.more.values())
            .map(|question| question.asked.index)
            .min()
    }
}
