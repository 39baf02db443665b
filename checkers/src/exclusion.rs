//! Split brain: two reigns of different hosts that definitely overlap.
//!
//! Judged: whether the definite intervals of two hosts' reigns share an instant of positive length on control's clock.
//! See [`crate::reigns`]: each end of such an interval is an event that proves belief at that instant. A write that was
//! asked of a host and was done with a reign's token proves belief as an answer does, for whoever leads decides to write
//! after it was asked to; that is evidence only where a token is promised to belong to one reign, whatever breaks.
//!
//! That no overlap is proven does not prove that there was none: after its last answer nobody knows what a host believed.
//!
//! No sound system that promises exclusion can trip it: at every instant of the overlap both processes believed that
//! they led, by their own words before and after it. Whether that breaks a promise is the promise's to say: Raft
//! promises one leader per epoch, not one believer per instant, and a lease promises exclusion only while nothing is
//! paused. Where it was not promised it is a hazard, and the story tells what the storage did about the old leader.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use crate::reigns::{Reigns, Span};
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Nanos, Process, Token, Verdict};
use std::collections::BTreeMap;

/// What became of the writes that came with a token after the storage had seen a higher one.
#[derive(Clone, Copy, Default)]
struct Late {
    accepted: u64,
    rejected: u64,
}

/// The last write that each life of a host did under a token: when it was asked, and when it answered. Memory: one entry
/// per reign and per open write.
#[derive(Default)]
struct Writes {
    lives: BTreeMap<Name, u32>,
    open: BTreeMap<u32, (Mark, Name, u32)>,
    last: BTreeMap<(Name, u32, Token), (Mark, Mark)>,
}

impl Writes {
    fn event(&mut self, event: &Event) {
        let mark = Mark::of(event);
        match (event.process, &event.body) {
            (_, Body::Started { host, incarnation }) => {
                self.lives.insert(*host, *incarnation);
            }
            (Process::Client(client), Body::Write { host, token, .. } | Body::Run { host, token, .. }) => {
                let life = self.lives.get(host).copied().unwrap_or(0);
                if event.kind == Kind::Invoke {
                    self.open.insert(client, (mark, *host, life));
                } else if let Some((asked, whom, before)) = self.open.remove(&client)
                    && event.kind == Kind::Ok
                    && (whom, before) == (*host, life)
                    && let Some(token) = *token
                {
                    self.wrote(*host, life, token, (asked, mark));
                }
            }
            _ => {}
        }
    }

    fn wrote(&mut self, host: Name, life: u32, token: Token, marks: (Mark, Mark)) {
        let last = self.last.entry((host, life, token)).or_insert(marks);
        *last = (*last).max(marks);
    }
}

/// See the module. Memory: one entry per reign and per late token.
pub(crate) struct Exclusion {
    pub law: Law,
    pub reigns: Reigns,
    writes: Writes,
    highest: Token,
    late: BTreeMap<(Name, Token), Late>,
}

/// A reign with its definite interval.
struct Proven<'a> {
    span: &'a Span,
    from: Mark,
    /// The question that was put last and answered within the reign, or the write.
    to: Mark,
    answered: Mark,
    wrote: bool,
}

impl Exclusion {
    pub fn new(header: &Header) -> Exclusion {
        Exclusion {
            law: Law::new(header),
            reigns: Reigns::default(),
            writes: Writes::default(),
            highest: Token(0),
            late: BTreeMap::new(),
        }
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.reigns.spans().len() + self.writes.last.len() + self.late.len()
    }

    /// A write was asked of a host's life and done with this token, then and then.
    pub fn wrote(&mut self, host: Name, life: u32, token: Token, marks: (Mark, Mark)) {
        self.writes.wrote(host, life, token, marks);
    }

    /// Forgets what proves belief only if no other reign has its token.
    pub fn forget_writes(&mut self) {
        self.writes.last.clear();
    }

    /// The storage took a write. Says whether it came too late.
    pub fn stored(&mut self, token: Token, by: Name) -> bool {
        let late = token < self.highest;
        match late {
            true => self.late.entry((by, token)).or_default().accepted += 1,
            false => self.highest = token,
        }
        late
    }

    /// The storage refused a write.
    pub fn refused(&mut self, token: Token, by: Name) {
        self.late.entry((by, token)).or_default().rejected += 1;
    }

    /// The reigns with a definite interval, in the order of their beginnings.
    fn proven(&self) -> Vec<Proven<'_>> {
        let spans = self.reigns.spans();
        let mut holders: BTreeMap<(Name, u32, Token), u64> = BTreeMap::new();
        let key = |span: &Span| Some((span.host, span.incarnation, span.token?));
        if self.law.always(Guarantee::TokenPerReign) {
            spans
                .iter()
                .filter_map(key)
                .for_each(|key| *holders.entry(key).or_default() += 1);
        }
        let proof = |span| {
            let write = key(span).filter(|key| holders.get(key) == Some(&1));
            let write = write.and_then(|key| self.writes.last.get(&key));
            let proofs = [span.last.map(|l| (l, false)), write.map(|w| (*w, true))];
            let ((to, answered), wrote) = proofs.into_iter().flatten().max_by_key(|((to, _), _)| *to)?;
            let from = span.first;
            (to.index > from.index).then_some(Proven {
                span,
                from,
                to,
                answered,
                wrote,
            })
        };
        let mut proven: Vec<Proven> = spans.iter().filter_map(proof).collect();
        proven.sort_by_key(|p| p.from);
        proven
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
            proof.extend([p.from, p.to, p.answered]);
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
    let (asked, done) = match p.wrote {
        true => ("asked to write in", "done with that reign's token by"),
        false => ("asked in", "answered in"),
    };
    format!(
        "{host} led in epoch {epoch} from {} at the latest (#{}) until {} at the earliest ({asked} #{}, {done} #{}).",
        p.from.time, p.from.index, p.to.time, p.to.index, p.answered.index
    )
}

impl Checker for Exclusion {
    fn name(&self) -> &'static str {
        Guarantee::Exclusion.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.reigns.event(event);
        self.writes.event(event);
        match event.body {
            Body::Stored { token, by, .. } => drop(self.stored(token, by)),
            Body::Rejected { token, by, .. } => self.refused(token, by),
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        let proven = self.proven();
        if proven.is_empty() {
            let why = "no reign was proven to last for any time";
            return self.law.nothing(self.name(), Guarantee::Exclusion, why);
        }
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
            0 => format!("no two of {reigns} provably overlapped"),
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
