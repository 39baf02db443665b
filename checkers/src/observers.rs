//! Epochs never fall for one observer.
//!
//! Judged: within one life of a process, the epoch in an answer is at least the highest epoch that the same life had
//! told before the question was put. Told means: in an answer that was complete, or in an `elected` line that had
//! arrived.
//!
//! No sound system can trip it: a process answers from its own belief, and its knowledge of epochs only grows. Answers
//! that overlap in time are not compared, for they may pass each other. An `elected` line is never held against an
//! earlier answer: it may be said long after the election. A restarted process is a new observer and may look back.
use crate::evidence::{Beliefs, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Verdict};
use std::collections::BTreeMap;

/// What one life told: the highest epoch so far, each time that it changed.
struct Life {
    incarnation: u32,
    told: Vec<(Mark, Epoch)>,
}

/// See the module. Memory: one entry per host and change of its epoch.
pub(crate) struct EpochsPerObserver {
    law: Law,
    beliefs: Beliefs,
    lives: BTreeMap<Name, Life>,
    answers: u64,
    findings: Findings,
}

impl EpochsPerObserver {
    pub fn new(header: &Header) -> EpochsPerObserver {
        EpochsPerObserver {
            law: Law::new(header),
            beliefs: Beliefs::default(),
            lives: BTreeMap::new(),
            answers: 0,
            findings: Findings::default(),
        }
    }
}

impl Checker for EpochsPerObserver {
    fn name(&self) -> &'static str {
        Guarantee::EpochsPerObserver.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        let Some(belief) = self.beliefs.event(event) else {
            return;
        };
        let Some(epoch) = belief.status.epoch else { return };
        let (host, learnt, incarnation) = (belief.host, belief.learnt, belief.incarnation);
        let fresh = || Life {
            incarnation,
            told: Vec::new(),
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
                self.findings.push(fall(host, (told, high), (asked, learnt, epoch)));
                // From here on the fallen epoch is the measure, or every later answer would be told again.
                if newest != Some(epoch) {
                    life.told.push((learnt, epoch));
                }
                return;
            }
        }
        if newest.is_none_or(|newest| epoch > newest) {
            life.told.push((learnt, epoch));
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
