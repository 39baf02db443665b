//! Split brain: two reigns of different hosts that definitely overlap.
//!
//! Judged: whether the definite intervals of two hosts' reigns share an instant of positive length on control's clock.
//! See [`crate::reigns`]: each end of such an interval is an event that proves belief at that instant.
//!
//! No sound system that promises exclusion can trip it: at every instant of the overlap both processes believed that
//! they led, by their own words before and after it. Whether that breaks a promise is the promise's to say: Raft
//! promises one leader per epoch, not one believer per instant, and a lease promises exclusion only while nothing is
//! paused. Where it was not promised it is a hazard, and the story tells what the storage did about the old leader.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use crate::reigns::{Reigns, Span};
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Name, Nanos, Token, Verdict};
use std::collections::BTreeMap;

/// What became of the writes that came with a token after the storage had seen a higher one.
#[derive(Clone, Copy, Default)]
struct Late {
    accepted: u64,
    rejected: u64,
}

/// See the module. Memory: one entry per reign and per late token.
pub(crate) struct Exclusion {
    law: Law,
    reigns: Reigns,
    highest: Token,
    late: BTreeMap<(Name, Token), Late>,
}

/// A reign with its definite interval.
struct Proven<'a> {
    span: &'a Span,
    from: Mark,
    to: Mark,
}

impl Exclusion {
    pub fn new(header: &Header) -> Exclusion {
        Exclusion {
            law: Law::new(header),
            reigns: Reigns::default(),
            highest: Token(0),
            late: BTreeMap::new(),
        }
    }

    fn split_brain(&self, a: &Proven, b: &Proven) -> Option<Anomaly> {
        let (from, to) = (a.from.max(b.from), a.to.min(b.to));
        if to.time <= from.time || to.index <= from.index {
            return None;
        }
        let (old, new) = if (b.span.epoch, b.from) < (a.span.epoch, a.from) {
            (b, a)
        } else {
            (a, b)
        };
        let mut story: Vec<String> = if old.from < new.from { [old, new] } else { [new, old] }
            .iter()
            .map(|p| tell(p))
            .collect();
        story.extend(self.fencing(old.span));
        let title = format!(
            "{} (epoch {}) and {} (epoch {}) both led for at least {}",
            old.span.host,
            old.span.epoch,
            new.span.host,
            new.span.epoch,
            to.time - from.time
        );
        let mut proof = Vec::new();
        for p in [a, b] {
            proof.extend([p.from, p.to]);
            proof.extend(p.span.last.map(|(_, answered)| answered));
        }
        let hosts = [a.span.host, b.span.host];
        let mut found = anomaly(Guarantee::Exclusion, title, story, &proof, &hosts);
        (found.from, found.to) = (from.time, to.time);
        Some(found)
    }

    fn fencing(&self, old: &Span) -> Option<String> {
        let late = self.late.get(&(old.host, old.token?))?;
        let writes = format!("Of {}'s writes that came after a higher token", old.host);
        Some(match (late.accepted, late.rejected) {
            (0, n) => format!("{writes}, the storage refused all {n}."),
            (n, 0) => format!("{writes}, the storage took all {n}: nothing was fenced."),
            (n, m) => format!("{writes}, the storage took {n} and refused {m}."),
        })
    }
}

fn tell(p: &Proven) -> String {
    let (host, epoch) = (p.span.host, p.span.epoch);
    let answer = p.span.last.map_or(0, |(_, answered)| answered.index);
    format!(
        "{host} led in epoch {epoch} from {} at the latest (#{}) until {} at the earliest (asked in #{}, answered in #{answer}).",
        p.from.time, p.from.index, p.to.time, p.to.index
    )
}

impl Checker for Exclusion {
    fn name(&self) -> &'static str {
        Guarantee::Exclusion.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.reigns.event(event);
        match event.body {
            Body::Stored { token, by, .. } if token < self.highest => {
                self.late.entry((by, token)).or_default().accepted += 1;
            }
            Body::Stored { token, .. } => self.highest = token,
            Body::Rejected { token, by, .. } => self.late.entry((by, token)).or_default().rejected += 1,
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        let mut proven: Vec<Proven> = self
            .reigns
            .spans()
            .iter()
            .filter_map(|span| span.definite().map(|(from, to)| Proven { span, from, to }))
            .collect();
        if proven.is_empty() {
            let why = "no reign was proven to last for any time";
            return self.law.nothing(self.name(), Guarantee::Exclusion, why);
        }
        proven.sort_by_key(|p| p.from);
        let mut findings = Findings::default();
        let mut longest = Nanos::ZERO;
        // A host's own reigns follow each other, so one per host is enough to meet every overlap.
        let mut active: BTreeMap<Name, &Proven> = BTreeMap::new();
        for p in &proven {
            for other in active.values().filter(|other| other.span.host != p.span.host) {
                if let Some(found) = self.split_brain(other, p) {
                    longest = longest.max(found.to - found.from);
                    findings.push(found);
                }
            }
            let kept = active.entry(p.span.host).or_insert(p);
            if p.to > kept.to {
                *kept = p;
            }
        }
        let reigns = count(proven.len() as u64, "reign", "reigns");
        let total = findings.total();
        let summary = match total {
            0 => format!("no two of {reigns} overlapped"),
            _ => format!(
                "{} of different hosts definitely overlapped, of {reigns}; the longest overlap lasted at least {longest}",
                count(total, "pair of reigns", "pairs of reigns")
            ),
        };
        let mut verdict = findings.verdict(self.name(), &self.law, summary, Findings::default());
        verdict.figures = vec![
            figure("split brains", total as f64, ""),
            figure("longest split brain", longest.as_secs_f64(), "s"),
        ];
        verdict
    }
}
