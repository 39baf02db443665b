//! One leader per epoch (Raft: Election Safety, Ongaro's thesis, section 3.4).
//!
//! Judged: whether two different hosts ever claimed to lead in the same epoch. A claim is an `elected` line or an
//! answer with the role leader: both bind host and epoch at one instant.
//!
//! No sound system can trip it: the claims of one epoch are compared whenever they were made, so that neither late
//! `elected` lines, nor old leaders that still believe in their own older epoch, nor stale views of followers count.
//! Only two hosts that each said "I lead in epoch e" are evidence, and one leader per epoch excludes exactly this.
//! The same host twice in one epoch (after a restart, or in two reigns) is one leader, and is left to `token-per-reign`.
use crate::evidence::{Beliefs, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Verdict};
use std::collections::BTreeMap;

/// See the module. Memory: one entry per (epoch, leader).
pub(crate) struct LeaderPerEpoch {
    law: Law,
    beliefs: Beliefs,
    leaders: BTreeMap<Epoch, Vec<(Name, Mark)>>,
    claims: u64,
    findings: Findings,
}

impl LeaderPerEpoch {
    pub fn new(header: &Header) -> LeaderPerEpoch {
        LeaderPerEpoch {
            law: Law::new(header),
            beliefs: Beliefs::default(),
            leaders: BTreeMap::new(),
            claims: 0,
            findings: Findings::default(),
        }
    }
}

impl Checker for LeaderPerEpoch {
    fn name(&self) -> &'static str {
        Guarantee::LeaderPerEpoch.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        let Some(belief) = self.beliefs.event(event) else {
            return;
        };
        let Some(claim) = belief.claim().filter(|claim| !claim.epoch.is_none()) else {
            return;
        };
        self.claims += 1;
        let (host, epoch) = (belief.host, claim.epoch);
        let leaders = self.leaders.entry(epoch).or_default();
        if leaders.iter().any(|(leader, _)| *leader == host) {
            return;
        }
        leaders.push((host, belief.learnt));
        let (other, since) = leaders[0];
        if other != host {
            let story = vec![
                format!("{other} said that it led in epoch {epoch} (#{}).", since.index),
                format!("{host} said that it led in epoch {epoch} too (#{}).", event.index),
            ];
            let title = format!("{other} and {host} both led in epoch {epoch}");
            self.findings.push(anomaly(
                Guarantee::LeaderPerEpoch,
                title,
                story,
                &[since, belief.learnt],
                &[other, host],
            ));
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
        let shared = self.leaders.values().filter(|l| l.len() > 1).count() as u64;
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
