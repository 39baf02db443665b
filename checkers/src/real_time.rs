//! Numbers that rise in real time, for systems that promise it: epochs, or tokens.
//!
//! Judged: a reign that definitely began after a number was known to be in use has no lower number, and no equal one
//! where the number is another host's. A number is in use once a claim that names it has arrived; a token also once the
//! storage or a write's answer has named it.
//!
//! Why no sound system can trip it: the beginning of a reign is bounded from below by answers alone. An answer that
//! was true in *another* reign of the same life, earlier in its count, was true at some instant after it was asked,
//! and the reign began after that. An answer that it did not lead, complete before a question that was then answered
//! within the reign, says the same, since a reign is unbroken. The arrival of `elected` bounds nothing from below: a
//! Raft candidate may learn late that it won, which is why Raft does not promise this and is not asked. The first reign
//! of a life that was never asked before is not judged either.
use crate::evidence::{Belief, Beliefs, Claim, Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, Kind, Name, Reign, Verdict};
use std::collections::{BTreeMap, VecDeque};

/// How many "I do not lead" answers are remembered per host: more than its clients can have under way at once.
/// Forgetting one only makes the bound weaker.
const IDLE: usize = 8;

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Epochs,
    Tokens,
}

impl Which {
    fn guarantee(self) -> Guarantee {
        match self {
            Which::Epochs => Guarantee::EpochsInRealTime,
            Which::Tokens => Guarantee::TokensInRealTime,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Which::Epochs => "epoch",
            Which::Tokens => "token",
        }
    }

    fn of(self, claim: &Claim) -> Option<u64> {
        match self {
            Which::Epochs => Some(claim.epoch.0),
            Which::Tokens => claim.token.map(|t| t.0),
        }
    }
}

/// What bounds the beginning of a life's next reign.
struct Life {
    incarnation: u32,
    /// Questions that were answered "I do not lead", with their answers.
    idle: VecDeque<(Mark, Mark)>,
    /// The last question answered within each of the two newest reigns.
    led: Vec<(Reign, Mark)>,
    judged: Option<Reign>,
}

/// See the module. Memory: one entry per rise of the number, and a few per host.
pub(crate) struct RealTime {
    which: Which,
    law: Law,
    beliefs: Beliefs,
    /// The highest number known so far, at each of its rises.
    known: Vec<(Mark, u64, Name)>,
    lives: BTreeMap<Name, Life>,
    judged: u64,
    findings: Findings,
}

impl RealTime {
    pub fn new(header: &Header, which: Which) -> RealTime {
        RealTime {
            which,
            law: Law::new(header),
            beliefs: Beliefs::default(),
            known: Vec::new(),
            lives: BTreeMap::new(),
            judged: 0,
            findings: Findings::default(),
        }
    }

    fn learn(&mut self, mark: Mark, number: u64, host: Name) {
        if self.known.last().is_none_or(|(_, high, _)| number > *high) {
            self.known.push((mark, number, host));
        }
    }

    fn believe(&mut self, belief: &Belief) {
        let fresh = || Life {
            incarnation: belief.incarnation,
            idle: VecDeque::new(),
            led: Vec::new(),
            judged: None,
        };
        let life = self.lives.entry(belief.host).or_insert_with(fresh);
        if life.incarnation != belief.incarnation {
            *life = fresh();
        }
        let Some(claim) = belief.claim() else {
            if let Some(asked) = belief.asked {
                life.idle.truncate(IDLE - 1);
                life.idle.push_front((asked, belief.learnt));
            }
            return;
        };
        if life.judged != Some(claim.reign) {
            let began = began_after(life, belief, &claim);
            // An `elected` line knows less than the first answer will: the reign stays open for that.
            if belief.asked.is_some() {
                life.judged = Some(claim.reign);
            }
            self.judge(belief, &claim, began);
        }
        let life = self.lives.get_mut(&belief.host).expect("it was entered above");
        if let Some(asked) = belief.asked {
            match life.led.iter_mut().find(|(reign, _)| *reign == claim.reign) {
                Some((_, last)) => *last = asked.max(*last),
                None => {
                    life.led.push((claim.reign, asked));
                    if life.led.len() > 2 {
                        life.led.remove(0);
                    }
                }
            }
        }
        if let Some(number) = self.which.of(&claim) {
            self.learn(belief.learnt, number, belief.host);
        }
    }

    fn judge(&mut self, belief: &Belief, claim: &Claim, began: Option<Mark>) {
        let (Some(number), Some(began)) = (self.which.of(claim), began) else {
            return;
        };
        self.judged += u64::from(belief.asked.is_some());
        let before = self.known.partition_point(|(mark, ..)| mark.index < began.index);
        let Some((known, high, holder)) = before.checked_sub(1).map(|i| self.known[i]) else {
            return;
        };
        if number > high || (number == high && holder == belief.host) {
            return;
        }
        let (host, word) = (belief.host, self.which.word());
        let story = vec![
            format!("{word} {high} was in use by {holder} (#{}).", known.index),
            format!(
                "After that, {host} was asked and did not lead yet in the reign that followed (#{}).",
                began.index
            ),
            format!("Then it led with {word} {number} (#{}).", belief.learnt.index),
        ];
        let title = format!("{host} began to lead with {word} {number} after {word} {high} was in use");
        self.findings.push(anomaly(
            self.which.guarantee(),
            title,
            story,
            &[known, began, belief.learnt],
            &[host, holder],
        ));
    }
}

/// The latest instant known to lie before the reign's beginning.
fn began_after(life: &Life, belief: &Belief, claim: &Claim) -> Option<Mark> {
    let led = life
        .led
        .iter()
        .filter(|(reign, _)| *reign < claim.reign)
        .map(|(_, asked)| *asked);
    let idle = life
        .idle
        .iter()
        .filter(|(_, learnt)| belief.asked.is_some_and(|asked| learnt.index < asked.index))
        .map(|(asked, _)| *asked);
    led.chain(idle).max()
}

impl Checker for RealTime {
    fn name(&self) -> &'static str {
        self.which.guarantee().name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        if let Some(belief) = self.beliefs.event(event) {
            self.believe(&belief);
        } else if self.which == Which::Tokens {
            match event.body {
                Body::Stored { token, by, .. } | Body::Rejected { token, by, .. } => {
                    self.learn(Mark::of(event), token.0, by);
                }
                Body::Write {
                    host,
                    token: Some(token),
                    ..
                }
                | Body::Run {
                    host,
                    token: Some(token),
                    ..
                } if event.kind == Kind::Ok => self.learn(Mark::of(event), token.0, host),
                _ => {}
            }
        }
    }

    fn finish(&mut self) -> Verdict {
        let word = self.which.word();
        if self.judged == 0 && self.findings.is_empty() {
            let why = format!("no reign was seen to begin after another {word} was known");
            return self.law.nothing(self.name(), self.which.guarantee(), &why);
        }
        let reigns = count(self.judged, "reign", "reigns");
        let summary = if self.findings.is_empty() {
            format!("the {word}s of {reigns} rose in real time")
        } else {
            format!(
                "{} of {reigns} began with too low a number: {word}s fell in real time",
                self.findings.total()
            )
        };
        std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default())
    }
}
