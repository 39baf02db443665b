//! Liveness: a leader emerges after healing; and how well there was one before.
//!
//! Judged: after everything was healed, a leader emerges within the promised bound. It did not if every asked host
//! answered, to a question put after the bound, that it does not lead, and nobody claimed to lead in between.
//! Measured: the recovery time (from the recovery phase's beginning to the first claim of the leader on whom all agreed
//! in the last look), the failovers (from the end of one reign to the beginning of the next), and the share of the
//! faults phase in which nobody was known to lead.
//!
//! No sound system can trip it: silence proves nothing, so a host that did not answer makes it unknown, and so does a
//! fault that was never seen to be healed, or a run that was cut off. Any claim in time is taken for a leader, be it an
//! old one. The measurements are estimates between the evidence, and nothing is judged by them.
use crate::agreement::{LastLook, Look, bound, names};
use crate::evidence::{Belief, Course, Findings, Law, Mark, anomaly};
use crate::figures::{figure, percentiles};
use crate::reigns::{Reigns, Span};
use splitbrain_core::event::Phase;
use splitbrain_core::verdict::Figure;
use splitbrain_core::{Checker, Epoch, Event, Guarantee, Header, Name, Nanos, Role, Verdict};
use std::collections::BTreeMap;

/// See the module. Memory: one entry per reign and per host.
pub(crate) struct Recovery {
    law: Law,
    course: Course,
    reigns: Reigns,
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
                let summary = format!("{host} led {time} after everything was healed, in epoch {epoch}");
                Verdict::new(self.name(), summary, Vec::new())
            }
            None if self.first_claim.is_some() => nothing("a leader was seen, but the last look shows no agreement"),
            None => nothing("no leader was seen, but not every host answered that it does not lead"),
        }
    }

    fn recovered(&self, began: Mark) -> Option<(Name, Epoch, Nanos)> {
        let Look::Agreed(leader) = self.look.judge() else {
            return None;
        };
        let first = self.claims.get(&(leader.host, leader.epoch))?;
        Some((leader.host, leader.epoch, first.time - began.time))
    }
}

impl Checker for Recovery {
    fn name(&self) -> &'static str {
        Guarantee::Recovery.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.course.event(event);
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
        verdict.figures.extend(availability(self.reigns.spans(), &self.course));
        verdict
    }
}

/// When each reign was known, as an interval; reigns that never ended last to the history's end.
fn known(spans: &[Span], course: &Course) -> Vec<(Nanos, Nanos)> {
    let last = course.last.map_or(Nanos::ZERO, |m| m.time);
    spans
        .iter()
        .map(|s| (s.first.time, s.end.map_or(last, |m| m.time)))
        .collect()
}

fn availability(spans: &[Span], course: &Course) -> Vec<Figure> {
    let known = known(spans, course);
    let mut figures = Vec::new();
    if let Some(faults) = course.phases.get(&Phase::Faults) {
        let end = course.phases.get(&Phase::Heal).or(course.last.as_ref());
        let end = end.map_or(faults.time, |m| m.time);
        let total = end - faults.time;
        if total > Nanos::ZERO {
            let led = covered(&known, faults.time, end);
            let share = 100.0 * (total - led).as_secs_f64() / total.as_secs_f64();
            figures.push(figure("leaderless", share, "%"));
        }
    }
    let mut failovers = failovers(&known);
    figures.push(figure("failovers", failovers.len() as f64, ""));
    figures.extend(percentiles("failover", &mut failovers));
    figures
}

/// How much of `from..to` the intervals cover; they are in order of their beginnings.
fn covered(known: &[(Nanos, Nanos)], from: Nanos, to: Nanos) -> Nanos {
    let (mut sum, mut reached) = (Nanos::ZERO, from);
    for (begin, end) in known {
        let (begin, end) = ((*begin).max(reached), (*end).min(to));
        if end > begin {
            sum += end - begin;
            reached = end;
        }
    }
    sum
}

/// From the end of all earlier reigns to the beginning of each next one; zero where they overlapped.
fn failovers(known: &[(Nanos, Nanos)]) -> Vec<Nanos> {
    let mut times = Vec::new();
    let mut reached: Option<Nanos> = None;
    for (begin, end) in known {
        times.extend(reached.map(|reached| *begin - reached));
        reached = Some(reached.map_or(*end, |r| r.max(*end)));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(intervals: &[(u64, u64)]) -> Vec<(Nanos, Nanos)> {
        intervals
            .iter()
            .map(|(a, b)| (Nanos::millis(*a), Nanos::millis(*b)))
            .collect()
    }

    #[test]
    fn coverage_counts_an_overlap_once_and_clips() {
        let known = ms(&[(0, 20), (10, 30), (50, 60), (55, 58), (90, 200)]);
        let led = covered(&known, Nanos::millis(5), Nanos::millis(100));
        assert_eq!(led, Nanos::millis(25 + 10 + 10));
    }

    #[test]
    fn failovers_run_from_the_end_of_all_before() {
        let known = ms(&[(0, 20), (10, 15), (50, 60)]);
        assert_eq!(failovers(&known), vec![Nanos::ZERO, Nanos::millis(30)]);
        assert!(failovers(&known[..1]).is_empty());
    }
}
