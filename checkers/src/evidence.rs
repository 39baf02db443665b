//! What a history proves about beliefs, and how grave a broken guarantee is.
//!
//! **Beliefs.** Only two kinds of event bind an epoch to a leader: an `elected` line, and an answer to `observe` whose
//! role is leader. Both come from the believer itself and name role, epoch, token and reign of one instant. An `acquire`
//! that is `ok` names a reign and its token, and so claims what the `elected` line of that reign said; without that line it
//! is no claim. What a follower says of somebody else is no claim: status APIs pair the current leader with an old term.
//! An answer was true at some instant between its invocation and its completion; an `elected` line was true at some
//! instant before it arrived. Nothing else is known of the instant, and no clock but control's is used.
//!
//! **Order.** "Before" means a lower index: control recorded the one before it did the other, and an answer is given
//! before it is recorded, an operation recorded before it is asked. Times only measure how long.
//!
//! **Lives.** Whatever a host says belongs to its newest `started`: a world never delivers an old life's words after
//! that. An answer whose question was put to an earlier life is dropped, for nobody can say whose belief it tells.
//!
//! **Gravity.** A guarantee that is promised `Unless` some kind of fault is a promise only while no such fault was
//! *tried*: a fault that is recorded as failed, or whose outcome was never recorded, may still have acted. A process
//! that died by itself counts as killed.
use splitbrain_core::event::Phase;
use splitbrain_core::plan::FaultKind;
use splitbrain_core::promise::{self, Holds};
use splitbrain_core::{
    Action, Anomaly, Body, Epoch, Event, Guarantee, Header, Kind, Name, Nanos, Process, Promise, Reign, Role, Severity,
    Status, Token, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// An event's place: where it stands and when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub index: u64,
    pub time: Nanos,
}

impl Mark {
    pub fn of(event: &Event) -> Mark {
        Mark {
            index: event.index,
            time: event.time,
        }
    }
}

/// "I lead": by whom it is known from the [`Belief`] that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub reign: Reign,
    pub epoch: Epoch,
    pub token: Option<Token>,
}

/// What one life of a host believed at one instant between `asked` (if it was asked) and `learnt`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Belief {
    pub host: Name,
    pub incarnation: u32,
    pub asked: Option<Mark>,
    pub learnt: Mark,
    pub status: Status,
}

impl Belief {
    /// The claim to lead, if it is one that binds epoch and reign.
    pub fn claim(&self) -> Option<Claim> {
        match self.status {
            Status {
                role: Role::Leader,
                epoch,
                reign: Some(reign),
                token,
                ..
            } => Some(Claim {
                reign,
                epoch: epoch.unwrap_or(Epoch::NONE),
                token,
            }),
            _ => None,
        }
    }
}

/// Pairs questions with answers and hosts with their lives. Memory: one entry per host and per open question.
#[derive(Default)]
pub(crate) struct Beliefs {
    lives: BTreeMap<Name, u32>,
    open: BTreeMap<u32, (Mark, Name, u32)>,
    /// The newest reign of each host's present life, and its epoch.
    elected: BTreeMap<Name, (Reign, Epoch)>,
}

impl Beliefs {
    /// The belief that this event completes, if any.
    pub fn event(&mut self, event: &Event) -> Option<Belief> {
        let learnt = Mark::of(event);
        match event.body {
            Body::Started { host, incarnation } => {
                self.lives.insert(host, incarnation);
                self.elected.remove(&host);
                None
            }
            Body::Elected {
                host,
                epoch,
                token,
                reign,
            } => {
                self.elected.insert(host, (reign, epoch));
                Some(Belief {
                    host,
                    incarnation: self.life(host),
                    asked: None,
                    learnt,
                    status: leads(host, epoch, token, reign),
                })
            }
            Body::Observe { host, answer } => self.answer(event, host, answer),
            Body::Acquire { host, reign, token } => {
                let elected = self.elected.get(&host).filter(|(newest, _)| Some(*newest) == reign);
                let held = elected.map(|(reign, epoch)| leads(host, *epoch, token, *reign));
                self.answer(event, host, held)
            }
            _ => None,
        }
    }

    fn answer(&mut self, event: &Event, host: Name, answer: Option<Status>) -> Option<Belief> {
        let Process::Client(client) = event.process else {
            return None;
        };
        let learnt = Mark::of(event);
        let incarnation = self.life(host);
        if event.kind == Kind::Invoke {
            self.open.insert(client, (learnt, host, incarnation));
            return None;
        }
        let (asked, whom, life) = self.open.remove(&client)?;
        let status = answer.filter(|_| event.kind == Kind::Ok && whom == host && life == incarnation)?;
        Some(Belief {
            host,
            incarnation,
            asked: Some(asked),
            learnt,
            status,
        })
    }

    /// Where the question stands that has waited longest for its answer.
    pub fn oldest(&self) -> Option<u64> {
        self.open.values().map(|(asked, ..)| asked.index).min()
    }

    fn life(&self, host: Name) -> u32 {
        self.lives.get(&host).copied().unwrap_or(0)
    }
}

fn leads(host: Name, epoch: Epoch, token: Option<Token>, reign: Reign) -> Status {
    Status {
        role: Role::Leader,
        epoch: epoch.known(),
        token,
        reign: Some(reign),
        leader: Some(host),
    }
}

/// The promises, and which kinds of faults were tried: together they say how grave a broken guarantee is.
pub(crate) struct Law {
    promises: Vec<Promise>,
    tried: Vec<FaultKind>,
}

impl Law {
    pub fn new(header: &Header) -> Law {
        Law {
            promises: header.promises.clone(),
            tried: Vec::new(),
        }
    }

    /// Learns of faults.
    pub fn event(&mut self, event: &Event) {
        let kind = match &event.body {
            Body::Fault(step) => step.kind,
            Body::Exited { .. } => FaultKind::Kill,
            _ => return,
        };
        self.tried(kind);
    }

    /// A fault of this kind was tried.
    pub fn tried(&mut self, kind: FaultKind) {
        if !self.tried.contains(&kind) {
            self.tried.push(kind);
        }
    }

    pub fn promise(&self, guarantee: Guarantee) -> Option<&Promise> {
        self.promises
            .iter()
            .find(|p| p.guarantee == guarantee && p.holds != Holds::Never)
    }

    /// Whether it is promised whatever breaks.
    pub fn always(&self, guarantee: Guarantee) -> bool {
        self.promise(guarantee).is_some_and(|p| p.holds == Holds::Always)
    }

    fn severity(&self, guarantee: Guarantee) -> Severity {
        promise::severity(&self.promises, guarantee, &self.tried)
    }

    /// The verdict where there was nothing to judge: unknown if something was promised.
    pub fn nothing(&self, checker: &str, guarantee: Guarantee, why: &str) -> Verdict {
        match self.promise(guarantee) {
            Some(_) => Verdict::unknown(checker, why.to_string()),
            None => Verdict::new(checker, format!("{why}; nothing was promised either"), Vec::new()),
        }
    }
}

/// Anomalies as they are found. Keeps the earliest violations and hazards, counts the rest: a history may be hostile.
#[derive(Default)]
pub(crate) struct Findings {
    violations: Vec<Anomaly>,
    hazards: Vec<Anomaly>,
    total: u64,
}

impl Findings {
    /// Adds one. A violation becomes a hazard at the end, if it turns out that nothing was promised.
    pub fn push(&mut self, anomaly: Anomaly) {
        self.total += 1;
        let kept = match anomaly.severity {
            Severity::Violation => &mut self.violations,
            Severity::Hazard => &mut self.hazards,
        };
        if kept.len() < 2 * Verdict::MAX_ANOMALIES {
            kept.push(anomaly);
        }
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The verdict, each anomaly as grave as what was promised. `unconditional` anomalies break the candidate
    /// protocol itself and stay violations whatever was promised.
    pub fn verdict(self, checker: &str, law: &Law, summary: String, unconditional: Findings) -> Verdict {
        let total = self.total + unconditional.total;
        let mut all = self.violations;
        all.extend(self.hazards);
        for anomaly in &mut all {
            anomaly.severity = anomaly.severity.min(law.severity(anomaly.guarantee));
        }
        all.extend(unconditional.violations);
        let mut verdict = Verdict::new(checker, summary, all);
        verdict.total = total;
        verdict
    }
}

/// An anomaly, a violation until [`Findings::verdict`] has looked at the promises; evidence is put in order.
pub(crate) fn anomaly(
    guarantee: Guarantee,
    title: String,
    story: Vec<String>,
    proof: &[Mark],
    hosts: &[Name],
) -> Anomaly {
    let hosts: BTreeSet<Name> = hosts.iter().copied().collect();
    let proof: BTreeSet<Mark> = proof.iter().copied().collect();
    Anomaly {
        severity: Severity::Violation,
        guarantee,
        title,
        story,
        evidence: proof.iter().map(|m| m.index).collect(),
        hosts: hosts.into_iter().collect(),
        from: proof.first().map_or(Nanos::ZERO, |m| m.time),
        to: proof.last().map_or(Nanos::ZERO, |m| m.time),
    }
}

/// The run's stages, and whether it was cut off or left something broken.
#[derive(Default)]
pub(crate) struct Course {
    pub phases: BTreeMap<Phase, Mark>,
    pub aborted: Option<String>,
    /// Where the history stands now.
    pub last: Option<Mark>,
    open: BTreeSet<u32>,
}

impl Course {
    pub fn event(&mut self, event: &Event) {
        self.last = Some(Mark::of(event));
        match &event.body {
            Body::Phase { phase } => {
                self.phases.entry(*phase).or_insert(Mark::of(event));
            }
            Body::Aborted { why } => self.aborted = Some(why.clone()),
            Body::Fault(step) if event.kind == Kind::Invoke => {
                self.open.insert(step.fault);
            }
            Body::Heal(step) => {
                match event.kind {
                    Kind::Ok => self.open.remove(&step.fault),
                    _ => self.open.insert(step.fault),
                };
            }
            _ => {}
        }
    }

    /// Why nothing may be demanded of the system after healing, if something was left broken.
    pub fn unhealed(&self) -> Option<String> {
        let first = self.open.first()?;
        Some(format!("fault {first} was never seen to be healed"))
    }
}

/// The hosts that an event proves dead: a kill that was verified, or a process that ended by itself.
pub(crate) fn deaths(event: &Event) -> &[Name] {
    match &event.body {
        // The healing of a clock that is ahead restarts its processes.
        Body::Fault(step) | Body::Heal(step) if event.kind == Kind::Ok => match &step.action {
            Action::Kill { hosts, .. } => hosts,
            _ => &[],
        },
        Body::Exited { host, .. } => std::slice::from_ref(host),
        _ => &[],
    }
}

/// `1 epoch`, `2 epochs`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
