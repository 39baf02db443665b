//! Lock-out: the storage refuses the leader on whom all agree.
//!
//! Fencing compares numbers, so it protects the wrong leader when a newer one gets a lower number: the storage refuses
//! it for as long as it leads. Judged: whether the leader of the last look, on whom all hosts agreed after recovery,
//! had a write refused under the very token that it still holds, because a higher one had been seen.
//!
//! No sound system can trip it: the highest token never falls, so one refusal condemns every later write under that
//! token. An old leader is refused rightly, but then it is not the one on whom all agree at the end: whoever held the
//! higher token led later, and its election is what the last leader's token must outrank. Where the last look shows no
//! agreement, nothing is judged.
use crate::agreement::{LastLook, Leader, Look};
use crate::evidence::{Beliefs, Course, Findings, Law, Mark, anomaly, count};
use splitbrain_core::event::Phase;
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, Name, Token, Verdict};
use std::collections::BTreeMap;

struct Refused {
    highest: Token,
    first: Mark,
    last: Mark,
    writes: u64,
}

/// See the module. Memory: one entry per refused token, and the last look.
pub(crate) struct LockOut {
    law: Law,
    course: Course,
    beliefs: Beliefs,
    look: LastLook,
    refused: BTreeMap<(Name, Token), Refused>,
}

impl LockOut {
    pub const NAME: &'static str = "lock-out";

    pub fn new(header: &Header) -> LockOut {
        LockOut {
            law: Law::new(header),
            course: Course::default(),
            beliefs: Beliefs::default(),
            look: LastLook::new(header),
            refused: BTreeMap::new(),
        }
    }

    fn locked_out(&self, leader: Leader, refused: &Refused) -> Verdict {
        let Leader { host, epoch, .. } = leader;
        let writes = count(refused.writes, "write", "writes");
        let story = vec![
            format!(
                "The storage refused a write of {host}, because it had seen token {} (#{}).",
                refused.highest, refused.first.index
            ),
            format!(
                "It refused {writes} of that token in all, the last in #{}.",
                refused.last.index
            ),
            format!(
                "At the end all agreed that {host} leads, in epoch {epoch}, with the same token (#{}).",
                leader.mark.index
            ),
        ];
        let title = format!("{host} leads and is locked out by the higher token {}", refused.highest);
        let proof = [refused.first, refused.last, leader.mark];
        let mut findings = Findings::default();
        findings.push(anomaly(Guarantee::FinalAgreement, title, story, &proof, &[host]));
        let summary = format!("the storage refuses {host}, on whom all agree");
        findings.verdict(LockOut::NAME, &self.law, summary, Findings::default())
    }
}

impl Checker for LockOut {
    fn name(&self) -> &'static str {
        LockOut::NAME
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.course.event(event);
        let mark = Mark::of(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.look
                .believe(&belief, self.course.phases.get(&Phase::Final).copied());
        } else if let Body::Rejected { token, highest, by, .. } = event.body
            && highest > token
        {
            let refused = self.refused.entry((by, token)).or_insert(Refused {
                highest,
                first: mark,
                last: mark,
                writes: 0,
            });
            refused.writes += 1;
            refused.last = mark;
        }
    }

    fn finish(&mut self) -> Verdict {
        let nothing = |why: &str| self.law.nothing(LockOut::NAME, Guarantee::FinalAgreement, why);
        let Look::Agreed(leader) = self.look.judge() else {
            return nothing("the last look shows no leader on whom all agree");
        };
        let Some(token) = leader.token.filter(|token| *token != Token::NONE) else {
            let summary = format!(
                "{}, on whom all agree, writes without a token: nothing locks it out",
                leader.host
            );
            return Verdict::new(LockOut::NAME, summary, Vec::new());
        };
        match self.refused.get(&(leader.host, token)) {
            Some(refused) => self.locked_out(leader, refused),
            None => {
                let summary = format!(
                    "the storage never refused {}, on whom all agree, under its token {token}",
                    leader.host
                );
                Verdict::new(LockOut::NAME, summary, Vec::new())
            }
        }
    }
}
