//! One leader per epoch (Raft: Election Safety, Ongaro's thesis, section 3.4).
//!
//! Judged: whether two different hosts ever claimed to lead in the same epoch. A claim is an `elected` line or an
//! answer with the role leader: both bind host and epoch at one instant.
//!
//! No sound system can trip it: the claims of one epoch are compared whenever they were made, so that neither late
//! `elected` lines, nor old leaders that still believe in their own older epoch, nor stale views of followers count.
//! Only two hosts that each said "I lead in epoch e" are evidence, and one leader per epoch excludes exactly this.
//! The same host twice in one epoch (after a restart, or in two reigns) is one leader, and is left to `token-per-reign`.
use crate::evidence::{Belief, Beliefs, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// See the module. Memory: one entry per epoch, and one per further leader of an epoch.
pub(crate) struct LeaderPerEpoch {
    pub law: Law,
    beliefs: Beliefs,
    /// Who was the first to say that he led.
    leaders: BTreeMap<Epoch, (Name, Mark)>,
    rivals: BTreeSet<(Epoch, Name)>,
    claims: u64,
    findings: Findings,
}

impl LeaderPerEpoch {
    pub fn new(header: &Header) -> LeaderPerEpoch {
        LeaderPerEpoch {
            law: Law::new(header),
            beliefs: Beliefs::default(),
            leaders: BTreeMap::new(),
            rivals: BTreeSet::new(),
            claims: 0,
            findings: Findings::default(),
        }
    }
}

impl LeaderPerEpoch {
    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.leaders.len() + self.rivals.len()
    }

    /// Claims that were made again, by the same host for the same epoch.
    pub fn again(&mut self, claims: u64) {
        self.claims += claims;
    }

    pub fn believe(&mut self, belief: &Belief) {
        let Some(claim) = belief.claim().filter(|claim| !claim.epoch.is_none()) else {
            return;
        };
        self.claims += 1;
        let (host, epoch, learnt) = (belief.host, claim.epoch, belief.learnt);
        let (other, since) = *self.leaders.entry(epoch).or_insert((host, learnt));
        if other != host && self.rivals.insert((epoch, host)) {
            let story = vec![
                format!("{other} said that it led in epoch {epoch} (#{}).", since.index),
                format!("{host} said that it led in epoch {epoch} too (#{}).", learnt.index),
            ];
            let title = format!("{other} and {host} both led in epoch {epoch}");
            let (proof, hosts) = ([since, learnt], [other, host]);
            self.findings
                .push(anomaly(Guarantee::LeaderPerEpoch, title, story, &proof, &hosts));
        }
    }
}

impl Checker for LeaderPerEpoch {
    fn name(&self) -> &'static str {
        Guarantee::LeaderPerEpoch.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.believe(&belief);
        }
    }

    fn finish(&mut self) -> Verdict {
        let epochs = self.leaders.len() as u64;
        if epochs == 0 {
            return self.law.nothing(
                self.name(),
                Guarantee::LeaderPerEpoch,
                "nobody was seen to lead in an epoch",
            );
        }
        let shared: BTreeSet<Epoch> = self.rivals.iter().map(|(epoch, _)| *epoch).collect();
        let shared = shared.len();
        let summary = if shared == 0 {
            format!(
                "each of {} had one leader, by {}",
                count(epochs, "epoch", "epochs"),
                count(self.claims, "claim", "claims")
            )
        } else {
            format!(
                "{shared} of {} had more than one leader",
                count(epochs, "epoch", "epochs")
            )
        };
        std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default())
    }
}
