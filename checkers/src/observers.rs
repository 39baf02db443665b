//! Epochs never fall for one observer.
//!
//! Judged: within one life of a process, the epoch in an answer is at least the highest epoch that the same life had
//! told before the question was put. Told means: in an answer that was complete, or in an `elected` line that had
//! arrived.
//!
//! No sound system can trip it: a process answers from its own belief, and its knowledge of epochs only grows. Answers
//! that overlap in time are not compared, for they may pass each other. An `elected` line is never held against an
//! earlier answer: it may be said long after the election. A restarted process is a new observer and may look back.
use crate::evidence::{Belief, Beliefs, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Verdict};
use std::collections::BTreeMap;

/// What one life told: the highest epoch so far, each time that it changed.
struct Life {
    incarnation: u32,
    told: Vec<(Mark, Epoch)>,
    /// Whether its newest epoch may be lower than an older one.
    fell: bool,
}

/// What was told before the oldest open question is forgotten, all but the newest, when a life has told more than this.
const ENOUGH: usize = 1024;

/// See the module. Memory: one entry per host and change of its epoch since the oldest open question was put.
pub(crate) struct EpochsPerObserver {
    pub law: Law,
    beliefs: Beliefs,
    lives: BTreeMap<Name, Life>,
    /// Whether a life has told more than enough.
    many: bool,
    enough: usize,
    answers: u64,
    findings: Findings,
}

impl EpochsPerObserver {
    pub fn new(header: &Header) -> EpochsPerObserver {
        EpochsPerObserver {
            law: Law::new(header),
            beliefs: Beliefs::default(),
            lives: BTreeMap::new(),
            many: false,
            enough: ENOUGH,
            answers: 0,
            findings: Findings::default(),
        }
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.lives.values().map(|life| life.told.len()).sum()
    }

    /// Answers that told the newest epoch again.
    pub fn again(&mut self, answers: u64) {
        self.answers += answers;
    }

    /// Whether it is worth while to [`forget`](EpochsPerObserver::forget).
    pub fn many(&self) -> bool {
        self.many
    }

    /// No question will be answered that was put before this: of what was told by then, the newest is all that counts.
    pub fn forget(&mut self, oldest: u64) {
        for life in self.lives.values_mut() {
            let before = life.told.partition_point(|(mark, _)| mark.index < oldest);
            life.told.drain(..before.saturating_sub(1));
        }
        let most = self.lives.values().map(|life| life.told.len()).max();
        self.enough = ENOUGH.max(2 * most.unwrap_or(0));
        self.many = false;
    }

    /// Takes a belief. Returns the newest epoch that its life has told, if that is the highest.
    pub fn believe(&mut self, belief: &Belief) -> Option<Epoch> {
        let epoch = belief.status.epoch?;
        let (host, learnt, incarnation) = (belief.host, belief.learnt, belief.incarnation);
        let fresh = || Life {
            incarnation,
            told: Vec::new(),
            fell: false,
        };
        let life = self.lives.entry(host).or_insert_with(fresh);
        if life.incarnation != incarnation {
            *life = fresh();
        }
        let newest = life.told.last().map(|(_, epoch)| *epoch);
        if let Some(asked) = belief.asked {
            self.answers += 1;
            let before = life.told.partition_point(|(mark, _)| mark.index < asked.index);
            let floor = before.checked_sub(1).map(|i| life.told[i]);
            if let Some((told, high)) = floor
                && epoch < high
            {
                life.fell = true;
                self.findings.push(fall(host, (told, high), (asked, learnt, epoch)));
                // From here on the fallen epoch is the measure, or every later answer would be told again.
                if newest != Some(epoch) {
                    life.told.push((learnt, epoch));
                }
                return None;
            }
        }
        if newest.is_none_or(|newest| epoch > newest) {
            life.told.push((learnt, epoch));
            self.many |= life.told.len() > self.enough;
        }
        let (_, newest) = life.told.last()?;
        (!life.fell).then_some(*newest)
    }
}

impl Checker for EpochsPerObserver {
    fn name(&self) -> &'static str {
        Guarantee::EpochsPerObserver.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.believe(&belief);
            if self.many {
                let oldest = self.beliefs.oldest().unwrap_or(event.index);
                self.forget(oldest);
            }
        }
    }

    fn finish(&mut self) -> Verdict {
        if self.answers == 0 {
            let why = "no answer named an epoch";
            return self.law.nothing(self.name(), Guarantee::EpochsPerObserver, why);
        }
        let hosts = count(self.lives.len() as u64, "host", "hosts");
        let answers = count(self.answers, "answer", "answers");
        let summary = if self.findings.is_empty() {
            format!("epochs never fell in {answers} of {hosts}")
        } else {
            let falls = count(self.findings.total(), "time", "times");
            format!("epochs fell {falls} in {answers} of {hosts}")
        };
        std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default())
    }
}

fn fall(
    host: Name,
    (told, high): (Mark, Epoch),
    (asked, learnt, epoch): (Mark, Mark, Epoch),
) -> splitbrain_core::Anomaly {
    let story = vec![
        format!("{host} told of epoch {high} (#{}).", told.index),
        format!(
            "Asked after that (#{}), the same process answered epoch {epoch} (#{}).",
            asked.index, learnt.index
        ),
    ];
    let title = format!("{host} went back from epoch {high} to {epoch}");
    anomaly(
        Guarantee::EpochsPerObserver,
        title,
        story,
        &[told, asked, learnt],
        &[host],
    )
}
