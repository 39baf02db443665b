//! From beliefs to reigns: who led, for how long at least.
//!
//! A candidate counts its own unbroken leaderships. Two pieces of evidence with the same (host, incarnation, reign)
//! therefore prove belief at every instant between them. The first piece was true before it arrived, the last after it
//! was asked; so belief is *definite* from the first arrival to the last invocation that was answered within the reign.
//! Where the last question was put before the first evidence arrived, nothing in real time is proven, and there is no
//! definite interval. A pause does not end a belief: the process goes on believing what it believed.
//!
//! The *end* of a reign is where it was known to be over: deposed, killed, restarted, or an answer to a question put
//! after the reign was known that no longer names it. It bounds belief from above, and is used for figures only.
use crate::evidence::{Belief, Beliefs, Mark, deaths};
use splitbrain_core::{Body, Epoch, Event, Name, Reign, Token};
use std::collections::BTreeMap;

/// One reign, as far as the history tells.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub host: Name,
    pub incarnation: u32,
    pub reign: Reign,
    pub epoch: Epoch,
    pub token: Option<Token>,
    /// The first evidence: an `elected` line or a completed answer.
    pub first: Mark,
    /// The question that was put last and answered within the reign, and its answer.
    pub last: Option<(Mark, Mark)>,
    /// When it was known to be over.
    pub end: Option<Mark>,
}

/// Folds a history into reigns. Memory: one [`Span`] per reign.
#[derive(Default)]
pub(crate) struct Reigns {
    beliefs: Beliefs,
    spans: Vec<Span>,
    by_key: BTreeMap<(Name, u32, Reign), usize>,
    /// Reigns that are not known to be over.
    open: BTreeMap<Name, Vec<usize>>,
}

impl Reigns {
    /// Takes the next event; returns the belief that it completes, if any.
    pub fn event(&mut self, event: &Event) -> Option<Belief> {
        let mark = Mark::of(event);
        for host in deaths(event) {
            self.close(*host, mark, |_| true);
        }
        match event.body {
            Body::Started { host, .. } => self.close(host, mark, |_| true),
            Body::Deposed { host, reign, .. } => self.close(host, mark, |span| span.reign == reign),
            _ => {}
        }
        let belief = self.beliefs.event(event)?;
        self.believe(&belief);
        Some(belief)
    }

    /// Takes a belief; returns the place of the reign that it claims, if any.
    pub fn believe(&mut self, belief: &Belief) -> Option<usize> {
        let claim = belief.claim();
        self.close(belief.host, belief.learnt, |span| match (belief.asked, claim) {
            (_, Some(claim)) if claim.reign == span.reign => false,
            (Some(asked), _) => asked.index > span.first.index,
            (None, Some(claim)) => claim.reign > span.reign,
            (None, None) => false,
        });
        let claim = claim?;
        let key = (belief.host, belief.incarnation, claim.reign);
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.spans.push(Span {
                host: belief.host,
                incarnation: belief.incarnation,
                reign: claim.reign,
                epoch: claim.epoch,
                token: claim.token,
                first: belief.learnt,
                last: None,
                end: None,
            });
            self.open.entry(belief.host).or_default().push(self.spans.len() - 1);
            self.spans.len() - 1
        });
        let span = &mut self.spans[at];
        span.token = span.token.or(claim.token);
        if let Some(asked) = belief.asked {
            self.heard(at, asked, belief.learnt);
        }
        Some(at)
    }

    /// A question was answered within a reign again.
    pub fn heard(&mut self, at: usize, asked: Mark, learnt: Mark) {
        let last = &mut self.spans[at].last;
        if last.is_none_or(|(before, _)| before < asked) {
            *last = Some((asked, learnt));
        }
    }

    fn close(&mut self, host: Name, at: Mark, over: impl Fn(&Span) -> bool) {
        let Some(open) = self.open.get_mut(&host) else { return };
        open.retain(|&i| {
            let over = over(&self.spans[i]);
            if over {
                self.spans[i].end = Some(at);
            }
            !over
        });
    }

    /// Every reign, in the order in which it became known.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }
}
