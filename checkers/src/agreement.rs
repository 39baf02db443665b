//! At the end all agree: one leader, known to all, in one epoch.
//!
//! Judged from the last look: the newest answer of each asked host to a question put in the final phase. Exactly one
//! host leads; whoever names a leader names that one, and, if with an epoch, its epoch; and nobody knows a higher epoch.
//! Who names nobody contradicts nobody: in many systems followers do not know.
//!
//! No sound system can trip it: answers of one look are not of one instant, and a leadership may move between two of
//! them on a slow machine. Disagreement is therefore a broken promise only if the runner had waited for agreement for
//! the whole promised bound and not seen it; if it had seen agreement and the last look differs, the verdict is unknown.
//! It is unknown as well where a host did not answer, or where a fault was never seen to be healed.
use crate::evidence::{Belief, Beliefs, Course, Findings, Law, Mark, anomaly, count};
use splitbrain_core::event::Phase;
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Nanos, Role, Token, Verdict};
use std::collections::BTreeMap;

/// Who led in the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub host: Name,
    pub epoch: Epoch,
    pub token: Option<Token>,
    pub mark: Mark,
}

/// What the last look showed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Everyone answered, and all agree.
    Agreed(Leader),
    /// What was answered is no contradiction, but these hosts did not answer.
    Silent(Vec<Name>),
    /// In words.
    Disagreed(String),
}

/// Collects the last look. Memory: one answer per asked host.
pub(crate) struct LastLook {
    asked: Vec<Name>,
    answers: BTreeMap<Name, Belief>,
}

impl LastLook {
    pub fn new(header: &Header) -> LastLook {
        LastLook {
            asked: header.hosts.iter().filter(|h| h.asked).map(|h| h.name).collect(),
            answers: BTreeMap::new(),
        }
    }

    /// Takes a belief, with the place where the final phase began, if it did.
    pub fn believe(&mut self, belief: &Belief, began: Option<Mark>) {
        if let (Some(asked), Some(began)) = (belief.asked, began)
            && asked.index > began.index
            && self
                .answers
                .get(&belief.host)
                .is_none_or(|before| before.asked < belief.asked)
        {
            self.answers.insert(belief.host, *belief);
        }
    }

    fn leaders(&self) -> Vec<Leader> {
        let leader = |b: &Belief| {
            b.claim().map(|claim| Leader {
                host: b.host,
                epoch: claim.epoch,
                token: claim.token,
                mark: b.learnt,
            })
        };
        self.answers.values().filter_map(leader).collect()
    }

    pub fn judge(&self) -> Look {
        let leaders = self.leaders();
        let silent: Vec<Name> = self
            .asked
            .iter()
            .filter(|h| !self.answers.contains_key(h))
            .copied()
            .collect();
        let [leader] = leaders[..] else {
            return match leaders.len() {
                0 if silent.is_empty() => Look::Disagreed("nobody leads".to_string()),
                0 => Look::Silent(silent),
                n => {
                    let all = if n == 2 { "both" } else { "all" };
                    Look::Disagreed(format!("{} {all} lead", names(leaders.iter().map(|l| l.host))))
                }
            };
        };
        match self.dissent(leader) {
            Some(why) => Look::Disagreed(why),
            None if silent.is_empty() => Look::Agreed(leader),
            None => Look::Silent(silent),
        }
    }

    fn dissent(&self, leader: Leader) -> Option<String> {
        let Leader { host, epoch, .. } = leader;
        let others = self.answers.values().filter(|b| b.status.role != Role::Leader);
        for b in others {
            let who = b.host;
            match (b.status.leader, b.status.epoch) {
                (Some(other), _) if other != host => return Some(format!("{host} leads, and {who} names {other}")),
                (Some(_), Some(e)) if e != epoch => {
                    return Some(format!("{host} leads in epoch {epoch}, and {who} places it in {e}"));
                }
                (_, Some(e)) if e > epoch => {
                    return Some(format!("{host} leads in epoch {epoch}, and {who} knows epoch {e}"));
                }
                _ => {}
            }
        }
        None
    }

    /// What each answered, with its place.
    fn tell(&self) -> String {
        let one = |b: &Belief| {
            let epoch = b.status.epoch.map_or(String::new(), |e| format!(" in epoch {e}"));
            let believed = match (b.status.role, b.status.leader) {
                (Role::Leader, _) => "leads".to_string(),
                (_, Some(leader)) => format!("follows {leader}"),
                (_, None) => "knows no leader".to_string(),
            };
            format!("{} {believed}{epoch} (#{})", b.host, b.learnt.index)
        };
        let told: Vec<String> = self.answers.values().map(one).collect();
        format!("By their own answers {}.", told.join(", "))
    }

    fn marks(&self) -> Vec<Mark> {
        self.answers.values().map(|b| b.learnt).collect()
    }
}

/// `n1, n2 and n3`.
pub(crate) fn names(hosts: impl IntoIterator<Item = Name>) -> String {
    let all: Vec<String> = hosts.into_iter().map(|h| h.to_string()).collect();
    match &all[..] {
        [] => "nobody".to_string(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `, in epoch 5`; nothing where the system has no epochs.
pub(crate) fn in_epoch(epoch: Epoch) -> String {
    epoch
        .known()
        .map_or(String::new(), |epoch| format!(", in epoch {epoch}"))
}

/// The bound within which a leader and agreement must come about, if one was promised.
pub(crate) fn bound(law: &Law) -> Option<Nanos> {
    [Guarantee::Recovery, Guarantee::FinalAgreement]
        .into_iter()
        .filter_map(|g| law.promise(g)?.within)
        .max()
}

/// See the module.
pub(crate) struct FinalAgreement {
    law: Law,
    course: Course,
    beliefs: Beliefs,
    look: LastLook,
}

impl FinalAgreement {
    pub fn new(header: &Header) -> FinalAgreement {
        FinalAgreement {
            law: Law::new(header),
            course: Course::default(),
            beliefs: Beliefs::default(),
            look: LastLook::new(header),
        }
    }

    fn unknown(&self, why: &str) -> Verdict {
        self.law.nothing(self.name(), Guarantee::FinalAgreement, why)
    }

    fn disagreed(&self, why: &str, began: Mark) -> Verdict {
        let waited = self.course.phases.get(&Phase::Recovery).map(|r| began.time - r.time);
        let (Some(waited), Some(bound)) = (waited, bound(&self.law)) else {
            return self.unknown(&format!(
                "in the last look {why}, and no bound was promised for agreement"
            ));
        };
        if let Some(unhealed) = self.course.unhealed() {
            return self.unknown(&format!("in the last look {why}, but {unhealed}"));
        }
        if let Some(aborted) = &self.course.aborted {
            return self.unknown(&format!("in the last look {why}, but the run was aborted: {aborted}"));
        }
        if waited < bound {
            let why = format!("all had agreed before, but in the last look {why}: the leadership may have just moved");
            return self.unknown(&why);
        }
        let story = vec![
            format!("All faults were healed, and agreement was awaited for {waited}, where {bound} was promised."),
            format!("In the last look {why}."),
            self.look.tell(),
        ];
        let title = format!("no agreement {bound} after healing: {why}");
        let marks = self.look.marks();
        let hosts: Vec<Name> = self.look.answers.keys().copied().collect();
        let mut findings = Findings::default();
        findings.push(anomaly(Guarantee::FinalAgreement, title, story, &marks, &hosts));
        findings.verdict(
            self.name(),
            &self.law,
            format!("in the last look {why}"),
            Findings::default(),
        )
    }
}

impl Checker for FinalAgreement {
    fn name(&self) -> &'static str {
        Guarantee::FinalAgreement.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.course.event(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.look
                .believe(&belief, self.course.phases.get(&Phase::Final).copied());
        }
    }

    fn finish(&mut self) -> Verdict {
        let Some(began) = self.course.phases.get(&Phase::Final).copied() else {
            return self.unknown("the run ended before its last look");
        };
        match self.look.judge() {
            Look::Agreed(Leader { host, epoch, .. }) => {
                let hosts = count(self.look.answers.len() as u64, "host", "hosts");
                let summary = format!("in the last look all {hosts} agreed on {host}{}", in_epoch(epoch));
                Verdict::new(self.name(), summary, Vec::new())
            }
            Look::Silent(silent) => self.unknown(&format!("{} did not answer in the last look", names(silent))),
            Look::Disagreed(why) => self.disagreed(&why, began),
        }
    }
}
