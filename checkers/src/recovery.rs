//! Liveness: a leader emerges after healing; and how well there was one before.
//!
//! Judged: after everything was healed, a leader emerges within the promised bound. It did not if every asked host
//! answered, to a question put after the bound, that it does not lead, and nobody claimed to lead in between.
//! Measured: the recovery time (from the recovery phase's beginning to the first claim of the leader on whom all agreed
//! in the last look; zero if it served already, and did throughout), the failovers (from the end of one leader's service
//! to the beginning of the next one's), and the share of the faults phase in which nobody served: see
//! [`crate::service`].
//!
//! No sound system can trip it: silence proves nothing, so a host that did not answer makes it unknown, and so does a
//! fault that was never seen to be healed, or a run that was cut off. Any claim in time is taken for a leader, be it an
//! old one. The measurements are estimates between the evidence, and nothing is judged by them.
use crate::agreement::{LastLook, Look, bound, in_epoch, names};
use crate::evidence::{Belief, Course, Findings, Law, Mark, anomaly};
use crate::figures::{figure, percentiles};
use crate::reigns::Reigns;
use crate::service::{Failovers, Pauses, Stretch, covered, failovers, served};
use splitbrain_core::event::Phase;
use splitbrain_core::verdict::Figure;
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Nanos, Role, Verdict};
use std::collections::BTreeMap;

/// See the module. Memory: one entry per reign and per host.
pub(crate) struct Recovery {
    law: Law,
    course: Course,
    reigns: Reigns,
    pauses: Pauses,
    look: LastLook,
    asked: Vec<Name>,
    /// The first claim of each leadership since recovery began.
    claims: BTreeMap<(Name, Epoch), Mark>,
    first_claim: Option<Mark>,
    /// Each host's first "I do not lead" to a question put after the bound.
    idle: BTreeMap<Name, Mark>,
}

impl Recovery {
    pub fn new(header: &Header) -> Recovery {
        Recovery {
            law: Law::new(header),
            course: Course::default(),
            reigns: Reigns::default(),
            pauses: Pauses::default(),
            look: LastLook::new(header),
            asked: header.hosts.iter().filter(|h| h.asked).map(|h| h.name).collect(),
            claims: BTreeMap::new(),
            first_claim: None,
            idle: BTreeMap::new(),
        }
    }

    fn believe(&mut self, belief: &Belief) {
        let ending = self.course.phases.get(&Phase::Final).copied();
        self.look.believe(belief, ending);
        let Some(began) = self.course.phases.get(&Phase::Recovery) else {
            return;
        };
        if let Some(claim) = belief.claim() {
            self.first_claim.get_or_insert(belief.learnt);
            self.claims.entry((belief.host, claim.epoch)).or_insert(belief.learnt);
        } else if let Some(asked) = belief.asked
            && belief.status.role != Role::Leader
        {
            let late = match bound(&self.law) {
                Some(bound) => asked.time >= began.time + bound,
                None => ending.is_some(),
            };
            if late {
                self.idle.entry(belief.host).or_insert(belief.learnt);
            }
        }
    }

    /// The proof that no leader emerged in time: an answer of each host.
    fn leaderless(&self) -> Option<Vec<Mark>> {
        let idle: Vec<Mark> = self
            .asked
            .iter()
            .map(|h| self.idle.get(h).copied())
            .collect::<Option<_>>()?;
        let in_time = self.first_claim.is_some_and(|claim| idle.iter().any(|i| claim < *i));
        (!idle.is_empty() && !in_time).then_some(idle)
    }

    fn broken(&self, began: Mark, mut proof: Vec<Mark>) -> Verdict {
        let bound = bound(&self.law).map_or("the end".to_string(), |b| b.to_string());
        let mut story = vec![
            format!("Everything was healed, and recovery began (#{}).", began.index),
            format!(
                "Asked after {bound}, {} all answered that they do not lead.",
                names(self.asked.iter().copied())
            ),
        ];
        if let Some(claim) = self.first_claim {
            story.push(format!(
                "The first leader was seen only {} after recovery began (#{}).",
                claim.time - began.time,
                claim.index
            ));
            proof.push(claim);
        }
        proof.push(began);
        let title = format!("no leader by {bound} after healing");
        let mut findings = Findings::default();
        findings.push(anomaly(Guarantee::Recovery, title, story, &proof, &self.asked));
        let summary = format!("no leader emerged by {bound} after everything was healed");
        findings.verdict(self.name(), &self.law, summary, Findings::default())
    }

    fn judge(&self) -> Verdict {
        let nothing = |why: &str| self.law.nothing(self.name(), Guarantee::Recovery, why);
        let Some(began) = self.course.phases.get(&Phase::Recovery).copied() else {
            return nothing("the run ended before recovery");
        };
        if let Some(proof) = self.leaderless() {
            return match (&self.course.aborted, self.course.unhealed()) {
                (Some(why), _) => nothing(&format!("no leader emerged, but the run was aborted: {why}")),
                (None, Some(unhealed)) => nothing(&format!("no leader emerged, but {unhealed}")),
                (None, None) => self.broken(began, proof),
            };
        }
        if !self.course.phases.contains_key(&Phase::Final) {
            return nothing("the run was cut off during recovery");
        }
        match self.recovered(began) {
            Some((host, epoch, time)) => {
                let epoch = in_epoch(epoch);
                let summary = match time {
                    Nanos::ZERO => format!("{host} led throughout{epoch}"),
                    _ => format!("{host} led {time} after everything was healed{epoch}"),
                };
                Verdict::new(self.name(), summary, Vec::new())
            }
            None if self.first_claim.is_some() => nothing("a leader was seen, but the last look shows no agreement"),
            None => nothing("no leader was seen, but not every host answered that it does not lead"),
        }
    }

    /// Whether the reign that answered in the last look was known when recovery began, and was never broken.
    fn led_before(&self, host: Name, epoch: Epoch, began: Mark) -> bool {
        let mut known = self.reigns.spans().iter().rev().filter(|s| s.host == host);
        known.any(|s| s.epoch == epoch && s.first <= began && s.last.is_some_and(|(asked, _)| asked > began))
    }

    fn recovered(&self, began: Mark) -> Option<(Name, Epoch, Nanos)> {
        let Look::Agreed(leader) = self.look.judge() else {
            return None;
        };
        let (host, epoch) = (leader.host, leader.epoch);
        if self.led_before(host, epoch, began) {
            return Some((host, epoch, Nanos::ZERO));
        }
        let first = self.claims.get(&(host, epoch))?;
        Some((host, epoch, first.time - began.time))
    }
}

impl Checker for Recovery {
    fn name(&self) -> &'static str {
        Guarantee::Recovery.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.course.event(event);
        self.pauses.event(event);
        if let Some(belief) = self.reigns.event(event) {
            self.believe(&belief);
        }
    }

    fn finish(&mut self) -> Verdict {
        let mut verdict = self.judge();
        if let Some(began) = self.course.phases.get(&Phase::Recovery)
            && let Some((_, _, time)) = self.recovered(*began)
        {
            verdict.figures.push(figure("recovery", time.as_secs_f64(), "s"));
        }
        let served = self
            .course
            .last
            .map(|last| served(self.reigns.spans(), &self.pauses, last));
        let served = served.unwrap_or_default();
        verdict.figures.extend(availability(&served, &self.course));
        verdict
    }
}

/// How well there was a leader; nothing is told of what nobody saw.
fn availability(served: &[Vec<Stretch>], course: &Course) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(faults) = course.phases.get(&Phase::Faults) {
        let end = course.phases.get(&Phase::Heal).or(course.last.as_ref());
        let end = end.map_or(faults.time, |m| m.time);
        let total = end - faults.time;
        if total > Nanos::ZERO && !served.is_empty() {
            let led = covered(served, faults.time, end);
            let share = 100.0 * (total - led).as_secs_f64() / total.as_secs_f64();
            figures.push(figure("leaderless", share, "%"));
        }
    }
    let Failovers { mut times, unmeasured } = failovers(served);
    figures.push(figure("failovers", times.len() as f64 + unmeasured as f64, ""));
    figures.push(figure("failovers unmeasured", unmeasured as f64, ""));
    figures.extend(percentiles("failover", &mut times));
    figures
}
