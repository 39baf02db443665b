//! Coverage: whether enough happened to judge anything.
//!
//! A run in which nobody was elected, or in which no fault struck whom it was meant for (it had no effect, or it was aimed
//! at a leader and found none), proves nothing, whatever the other checkers say: the verdict is unknown, with the
//! reasons. A planned kind of fault of which none took effect, where others did, is named and leaves the verdict valid:
//! nothing was learnt about it. Faults that were aimed at nobody in particular strike whom they strike. It is unknown as
//! well where the harness itself is in doubt: a fault that failed or whose outcome was never recorded, a run that was
//! cut off or aborted, a process that ended although nobody had killed it and its disk was well, a line that is no word of
//! the protocol.
//!
//! No system can trip it into "invalid": it never says that.
use crate::evidence::{Course, count};
use crate::figures::figure;
use crate::reigns::Reigns;
use splitbrain_core::disk::MayEnd;
use splitbrain_core::event::{Hit, Phase};
use splitbrain_core::plan::{FaultKind, Target};
use splitbrain_core::{Body, Checker, Event, Header, Kind, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// See the module. Memory: one entry per fault and reign.
pub(crate) struct Coverage {
    planned: BTreeSet<FaultKind>,
    course: Course,
    reigns: Reigns,
    /// Faults whose outcome is not recorded.
    tried: BTreeMap<u32, String>,
    acted: BTreeMap<u32, FaultKind>,
    /// Faults that were aimed at a leader and did not hit one.
    astray: BTreeSet<u32>,
    hits: u64,
    missed: u64,
    moved: u64,
    /// Whose processes may end by themselves just now.
    may_end: MayEnd,
    /// What is wrong with the harness or its hosts: the first of each sort, with how many there were.
    troubles: BTreeMap<&'static str, (String, u64)>,
}

impl Coverage {
    pub const NAME: &'static str = "coverage";

    pub fn new(header: &Header) -> Coverage {
        let random = header.plan.faults.kinds.iter().copied();
        let scripted = header.plan.script.iter().map(|s| s.fault);
        Coverage {
            planned: random.chain(scripted).collect(),
            course: Course::default(),
            reigns: Reigns::default(),
            tried: BTreeMap::new(),
            acted: BTreeMap::new(),
            astray: BTreeSet::new(),
            hits: 0,
            missed: 0,
            moved: 0,
            may_end: MayEnd::default(),
            troubles: BTreeMap::new(),
        }
    }

    fn trouble(&mut self, sort: &'static str, words: String) {
        self.troubles.entry(sort).or_insert((words, 0)).1 += 1;
    }

    /// What happened, and which kinds of planned faults did not.
    fn seen(&self) -> String {
        let acted: BTreeSet<FaultKind> = self.acted.values().copied().collect();
        let names = |kinds: &BTreeSet<FaultKind>| kinds.iter().map(|k| k.name()).collect::<Vec<_>>();
        let elections = count(self.reigns.spans().len() as u64, "election", "elections");
        let faults = count(self.acted.len() as u64, "fault", "faults");
        let kinds = match &names(&acted)[..] {
            [] => String::new(),
            kinds => format!(" ({})", kinds.join(", ")),
        };
        let absent = (&self.planned - &acted).into_iter().map(|kind| match kind {
            FaultKind::Packet | FaultKind::Clock | FaultKind::Disk => format!("no {} fault", kind.name()),
            kind => format!("no {}", kind.name()),
        });
        let absent = match &absent.collect::<Vec<_>>()[..] {
            [] => String::new(),
            absent => format!("; {} took effect", absent.join(" and ")),
        };
        format!("{elections} and {faults}{kinds} were seen{absent}")
    }

    fn reasons(&self) -> Vec<String> {
        let mut why = Vec::new();
        if let Some(aborted) = &self.course.aborted {
            why.push(format!("the run was aborted: {aborted}"));
        }
        if !self.course.phases.contains_key(&Phase::End) {
            why.push("the history is cut off: its end is missing".to_string());
        }
        if self.reigns.spans().is_empty() {
            why.push("nobody was seen to be elected".to_string());
        }
        if !self.planned.is_empty() && self.acted.is_empty() {
            why.push("faults were planned, and none took effect".to_string());
        } else if !self.planned.is_empty() && self.acted.keys().all(|fault| self.astray.contains(fault)) {
            let aimed = count(self.astray.len() as u64, "fault was", "faults were");
            why.push(format!(
                "{aimed} aimed at a leader, and none hit one, nor did any other fault take effect"
            ));
        }
        if let Some((fault, what)) = self.tried.first_key_value() {
            why.push(format!("the outcome of fault {fault} ({what}) was never recorded"));
        }
        for (sort, (first, n)) in &self.troubles {
            why.push(match n {
                1 => format!("{sort}: {first}"),
                _ => format!("{sort} ({n} times), first: {first}"),
            });
        }
        why
    }
}

impl Checker for Coverage {
    fn name(&self) -> &'static str {
        Coverage::NAME
    }

    fn event(&mut self, event: &Event) {
        self.course.event(event);
        self.reigns.event(event);
        self.may_end.event(event);
        let error = || event.error.clone().unwrap_or_else(|| "no reason given".to_string());
        match &event.body {
            Body::Fault(step) => match event.kind {
                Kind::Invoke => {
                    self.tried.insert(step.fault, step.what.clone());
                }
                Kind::Ok => {
                    self.tried.remove(&step.fault);
                    self.acted.insert(step.fault, step.kind);
                }
                Kind::Fail | Kind::Info => {
                    self.tried.remove(&step.fault);
                    let words = format!("fault {} ({}): {}", step.fault, step.what, error());
                    self.trouble("a fault did not take effect", words);
                }
            },
            Body::Heal(step) if matches!(event.kind, Kind::Fail | Kind::Info) => {
                let words = format!("fault {} ({}): {}", step.fault, step.what, error());
                self.trouble("a fault was not healed", words);
            }
            Body::Aim {
                fault,
                hit,
                target: Target::Leader,
                ..
            } => {
                if *hit != Hit::Hit {
                    self.astray.insert(*fault);
                }
                match hit {
                    Hit::Hit => self.hits += 1,
                    Hit::Missed => self.missed += 1,
                    Hit::Moved => self.moved += 1,
                }
            }
            Body::Exited { host, .. } if self.may_end.contains(*host) => {}
            Body::Exited { host, how } => self.trouble("a process ended by itself", format!("{host}: {how}")),
            Body::Garbage { host, what } => {
                self.trouble("a host spoke no word of the protocol", format!("{host}: {what}"))
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        let elections = self.reigns.spans().len() as u64;
        let reasons = self.reasons();
        let mut verdict = if reasons.is_empty() {
            Verdict::new(self.name(), self.seen(), Vec::new())
        } else {
            Verdict::unknown(self.name(), reasons.join("; "))
        };
        verdict.figures.push(figure("elections", elections as f64, ""));
        for kind in FaultKind::ALL {
            let n = self.acted.values().filter(|k| **k == kind).count();
            if n > 0 {
                verdict
                    .figures
                    .push(figure(&format!("{} faults", kind.name()), n as f64, ""));
            }
        }
        for (name, n) in [
            ("leader hits", self.hits),
            ("leader missed", self.missed),
            ("leader moved", self.moved),
        ] {
            verdict.figures.push(figure(name, n as f64, ""));
        }
        verdict
    }
}
