//! A fencing token belongs to one reign.
//!
//! Judged: whether two reigns (host, life, count) claimed the same token, or a host wrote with a token of another's.
//!
//! No sound system can trip it: a token is drawn from something that is won once (a term, a create revision), so no two
//! leaderships ever share one, whenever they were. Claims are compared by equality alone, never by time. A write is
//! held only against its host: a write that was under way when its reign ended names no reign. [`Token::NONE`] is none.
use crate::evidence::{Belief, Beliefs, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, Name, Reign, Token, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// A reign within its host: the life and the count. None where only the host is known.
type Count = Option<(u32, Reign)>;

struct Owner {
    host: Name,
    reign: Count,
    mark: Mark,
}

/// See the module. Memory: one entry per token, and one per further reign or host that had it.
pub(crate) struct TokenPerReign {
    pub law: Law,
    beliefs: Beliefs,
    owners: BTreeMap<Token, Owner>,
    told: BTreeSet<(Token, Name, Count)>,
    findings: Findings,
}

impl TokenPerReign {
    pub fn new(header: &Header) -> TokenPerReign {
        TokenPerReign {
            law: Law::new(header),
            beliefs: Beliefs::default(),
            owners: BTreeMap::new(),
            told: BTreeSet::new(),
            findings: Findings::default(),
        }
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.owners.len() + self.told.len()
    }

    pub fn believe(&mut self, belief: &Belief) {
        if let Some(claim) = belief.claim()
            && let Some(token) = claim.token
        {
            let reign = Some((belief.incarnation, claim.reign));
            self.used(token, belief.host, reign, belief.learnt);
        }
    }

    /// A host wrote, or tried to.
    pub fn wrote(&mut self, token: Token, by: Name, mark: Mark) {
        self.used(token, by, None, mark);
    }

    fn used(&mut self, token: Token, host: Name, reign: Count, mark: Mark) {
        if token == Token::NONE {
            return;
        }
        let owner = self.owners.entry(token).or_insert(Owner { host, reign, mark });
        let same = match (owner.reign, reign) {
            (Some(a), Some(b)) => owner.host == host && a == b,
            _ => owner.host == host,
        };
        if same {
            if owner.reign.is_none() && reign.is_some() {
                *owner = Owner { host, reign, mark };
            }
            return;
        }
        if !self.told.insert((token, host, reign)) {
            return;
        }
        let words = |host: Name, reign: Count| match reign {
            Some((life, reign)) => format!("{host} held token {token} in reign {reign} of its life {life}"),
            None => format!("{host} wrote with token {token}"),
        };
        let story = vec![
            format!("{} (#{}).", words(owner.host, owner.reign), owner.mark.index),
            format!("{} (#{}).", words(host, reign), mark.index),
        ];
        let title = if owner.host == host {
            format!("two reigns of {host} had token {token}")
        } else {
            format!("{} and {host} both had token {token}", owner.host)
        };
        let (proof, hosts) = ([owner.mark, mark], [owner.host, host]);
        self.findings
            .push(anomaly(Guarantee::TokenPerReign, title, story, &proof, &hosts));
    }
}

impl Checker for TokenPerReign {
    fn name(&self) -> &'static str {
        Guarantee::TokenPerReign.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.believe(&belief);
        } else if let Body::Stored { token, by, .. } | Body::Rejected { token, by, .. } = event.body {
            self.wrote(token, by, Mark::of(event));
        }
    }

    fn finish(&mut self) -> Verdict {
        let tokens = self.owners.len() as u64;
        if tokens == 0 {
            return self
                .law
                .nothing(self.name(), Guarantee::TokenPerReign, "no token was seen");
        }
        let tokens = count(tokens, "token", "tokens");
        let summary = if self.findings.is_empty() {
            format!("each of {tokens} belonged to one reign")
        } else {
            let shared = count(self.findings.total(), "time", "times");
            format!("of {tokens}, some belonged to more than one reign ({shared})")
        };
        std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default())
    }
}
