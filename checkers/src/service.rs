//! When a leader served, as opposed to when somebody believed that he led.
//!
//! A belief outlives its use: a paused leader goes on believing and does nothing, and one that was cut off goes on until
//! it hears of its successor. A leader *serves* from its first evidence (its `elected` line, or its first answer that
//! claims the lead) until the earliest of: the known end of its reign (deposed, killed, ended, restarted, or an answer
//! that no longer claims it), the first evidence of a newer reign (its successor takes over), or its pause. A reign that
//! is still unbroken when its host goes on serves again from then. A reign with a lower epoch than one that still lasts
//! is none: its winner only learnt of it late.
//!
//! A *failover* is measured from the moment the serving leader stopped, by its end or its pause, to the moment the next
//! reign begins to serve. Where the old leader was not seen to stop before its successor began, as behind a partition,
//! nobody knows how long the service was gone: that is no failover of zero, but one that was not measured.
//!
//! Everything here is an estimate between the evidence; nothing is judged by it.
use crate::evidence::{Mark, deaths};
use crate::reigns::Span;
use splitbrain_core::{Action, Body, Event, Kind, Name, Nanos};
use std::collections::BTreeMap;

/// A stretch of time in which one leader served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub from: Mark,
    pub to: Mark,
    /// Whether it was seen to stop; false where its successor took over, or the history ended.
    pub stopped: bool,
}

/// The changes of leadership.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Failovers {
    pub times: Vec<Nanos>,
    /// Those where the old leader was not seen to stop before the new one began.
    pub unmeasured: u64,
}

/// Which hosts were paused when. Memory: one entry per pause.
#[derive(Default)]
pub(crate) struct Pauses {
    /// Each host's pauses in order; only the last may still last.
    of: BTreeMap<Name, Vec<(Mark, Option<Mark>)>>,
}

impl Pauses {
    pub fn event(&mut self, event: &Event) {
        let mark = Mark::of(event);
        match &event.body {
            Body::Fault(step) if event.kind == Kind::Ok => {
                if let Action::Pause { hosts } = &step.action {
                    hosts.iter().for_each(|h| self.pause(*h, mark));
                }
            }
            Body::Heal(step) if event.kind == Kind::Ok => {
                if let Action::Resume { hosts } = &step.action {
                    hosts.iter().for_each(|h| self.resume(*h, mark));
                }
            }
            // A new life is not stopped, whatever happened to the old one.
            Body::Started { host, .. } => self.resume(*host, mark),
            _ => {}
        }
        deaths(event).iter().for_each(|h| self.resume(*h, mark));
    }

    fn pause(&mut self, host: Name, at: Mark) {
        let pauses = self.of.entry(host).or_default();
        if pauses.last().is_none_or(|(_, end)| end.is_some()) {
            pauses.push((at, None));
        }
    }

    fn resume(&mut self, host: Name, at: Mark) {
        if let Some((_, end @ None)) = self.of.get_mut(&host).and_then(|p| p.last_mut()) {
            *end = Some(at);
        }
    }

    /// The host's newest pause so far: when it began, and when it was over.
    pub fn last(&self, host: Name) -> Option<(Mark, Option<Mark>)> {
        self.of.get(&host)?.last().copied()
    }

    /// The pauses that are not over at `from`.
    fn since(&self, host: Name, from: Mark) -> &[(Mark, Option<Mark>)] {
        let all = self.of.get(&host).map_or(&[][..], |p| p);
        &all[all.partition_point(|(_, end)| end.is_some_and(|end| end <= from))..]
    }
}

/// The stretches in which each reign served, in the order of the reigns; `last` is where the history ends.
pub(crate) fn served(spans: &[Span], pauses: &Pauses, last: Mark) -> Vec<Vec<Stretch>> {
    let mut out = Vec::new();
    let mut highest: Option<&Span> = None;
    for (i, span) in spans.iter().enumerate() {
        let lasts = |h: &Span| h.epoch > span.epoch && h.end.is_none_or(|end| end > span.first);
        if highest.is_some_and(lasts) {
            out.push(Vec::new());
            continue;
        }
        highest = Some(span);
        let newer = spans[i + 1..].iter().find(|s| s.epoch >= span.epoch);
        out.push(stretches(span, newer.map(|s| s.first), pauses, last));
    }
    out
}

fn stretches(span: &Span, successor: Option<Mark>, pauses: &Pauses, last: Mark) -> Vec<Stretch> {
    let taken = successor.unwrap_or(last).min(last);
    let ended = span.end.filter(|end| *end < taken);
    let (to, mut out, mut at) = (ended.unwrap_or(taken), Vec::new(), Some(span.first));
    for (paused, resumed) in pauses.since(span.host, span.first) {
        let Some(from) = at else { break };
        if *paused >= to {
            break;
        }
        out.push(Stretch {
            from,
            to: *paused,
            stopped: true,
        });
        at = *resumed;
    }
    out.extend(at.map(|from| Stretch {
        from,
        to,
        stopped: ended.is_some(),
    }));
    out.retain(|s| s.from < s.to);
    out
}

/// How much of `from..to` somebody served.
pub(crate) fn covered(served: &[Vec<Stretch>], from: Nanos, to: Nanos) -> Nanos {
    let mut all: Vec<&Stretch> = served.iter().flatten().collect();
    all.sort_by_key(|s| s.from);
    let (mut sum, mut reached) = (Nanos::ZERO, from);
    for stretch in all {
        let (begin, end) = (stretch.from.time.max(reached), stretch.to.time.min(to));
        if end > begin {
            sum += end - begin;
            reached = end;
        }
    }
    sum
}

/// From each end of service to the beginning of the next reign's.
pub(crate) fn failovers(served: &[Vec<Stretch>]) -> Failovers {
    let mut found = Failovers::default();
    let mut before: Option<Stretch> = None;
    for reign in served {
        let (Some(first), Some(last)) = (reign.first(), reign.last()) else {
            continue;
        };
        match before {
            Some(before) if before.stopped && before.to < first.from => {
                found.times.push(first.from.time - before.to.time);
            }
            Some(_) => found.unmeasured += 1,
            None => {}
        }
        before = before.filter(|b| b.to > last.to).or(Some(*last));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reigns::Reigns;
    use crate::tests::history;

    /// Who served from when to when, in milliseconds, and the failovers.
    fn check(text: &str, expected: &[&[(u64, u64)]], times: &[u64], unmeasured: u64) {
        let events = history(text);
        let (mut reigns, mut pauses) = (Reigns::default(), Pauses::default());
        for event in &events {
            reigns.event(event);
            pauses.event(event);
        }
        let served = served(reigns.spans(), &pauses, Mark::of(events.last().unwrap()));
        let ms = |m: Mark| m.time.0 / 1_000_000;
        let got: Vec<Vec<(u64, u64)>> = served
            .iter()
            .map(|r| r.iter().map(|s| (ms(s.from), ms(s.to))).collect())
            .collect();
        assert_eq!(got, expected, "{text}");
        let found = failovers(&served);
        let times: Vec<Nanos> = times.iter().map(|t| Nanos::millis(*t)).collect();
        assert_eq!((found.times, found.unmeasured), (times, unmeasured), "{text}");
    }

    #[test]
    fn a_leader_serves_until_it_stops() {
        check("10 n1 elected 1/1; 90 phase end", &[&[(10, 90)]], &[], 0);
        let next = "60 n2 elected 2/1; 90 phase end";
        let by = |stop: &str, times: &[u64]| {
            let text = format!("10 n1 elected 1/1; {stop}; {next}");
            check(&text, &[&[(10, 40)], &[(60, 90)]], times, 0);
        };
        by("40 n1 deposed 1", &[20]);
        by("40 n1 exited 1", &[20]);
        by("30..40 fault 1 kill n1", &[20]);
        by("30..40 fault 1 pause n1", &[20]);
        // It goes on too late, or learns only then that it was deposed: it stopped when it was paused.
        by(
            "30..40 fault 1 pause n1; 70..75 heal 1 resume n1; 80 n1 deposed 1",
            &[20],
        );
        by("30..40 fault 1 pause n1; 50 n1 deposed 1", &[20]);
        by(
            "30..40 fault 1 pause n1; 42..45 fault 2 kill n1; 47 n1 started 2",
            &[20],
        );
    }

    #[test]
    fn an_unbroken_reign_serves_again_after_its_pause() {
        let paused = "10 n1 elected 1/1; 20..30 fault 1 pause n1; 40..50 heal 1 resume n1";
        check(&format!("{paused}; 90 phase end"), &[&[(10, 30), (50, 90)]], &[], 0);
        let text = format!("{paused}; 60 n1 deposed 1; 65 n2 elected 2/1; 90 phase end");
        check(&text, &[&[(10, 30), (50, 60)], &[(65, 90)]], &[5], 0);
        // What failed, or whom it did not strike, stops nobody.
        let failed = "10 n1 elected 1/1; 20..30 fault 1 pause n1 fail; 31..32 fault 2 pause n2; 90 phase end";
        check(failed, &[&[(10, 90)]], &[], 0);
        let unhealed = "10 n1 elected 1/1; 20..30 fault 1 pause n1; 40..50 heal 1 resume n1 fail; 90 phase end";
        check(unhealed, &[&[(10, 30)]], &[], 0);
        // A second pause, and one that was over before.
        let twice = "1..2 fault 1 pause n1; 3..4 heal 1 resume n1; 10 n1 elected 1/1; 20..30 fault 2 pause n1; 40..50 heal 2 resume n1; \
            60..70 fault 3 pause n1; 80..85 heal 3 resume n1; 90 phase end";
        check(twice, &[&[(10, 30), (50, 70), (85, 90)]], &[], 0);
    }

    #[test]
    fn what_was_not_seen_is_not_measured() {
        let cut = "10 n1 elected 1/1; 40 n2 elected 2/1; 60 n1 deposed 1; 90 phase end";
        check(cut, &[&[(10, 40)], &[(40, 90)]], &[], 1);
        let again = "10 n1 elected 1/1; 40 n1 elected 2/2; 90 phase end";
        check(again, &[&[(10, 40)], &[(40, 90)]], &[], 1);
    }

    #[test]
    fn who_learns_late_that_it_won_takes_nothing_over() {
        let late = "10 n2 elected 2/1; 20 n1 elected 1/1; 30 n1 deposed 1; 90 phase end";
        check(late, &[&[(10, 90)], &[]], &[], 0);
        // Where epochs do not rise, a leader may follow a dead one with a lower epoch.
        let lower = "10 n2 elected 2/1; 15 n2 exited 1; 20 n1 elected 1/1; 30 n3 elected 1/1; 90 phase end";
        check(lower, &[&[(10, 15)], &[(20, 30)], &[(30, 90)]], &[5], 1);
    }

    #[test]
    fn coverage_counts_an_overlap_once_and_clips() {
        let mark = |ms| Mark {
            index: ms,
            time: Nanos::millis(ms),
        };
        let stretch = |(from, to): (u64, u64)| Stretch {
            from: mark(from),
            to: mark(to),
            stopped: true,
        };
        let served: Vec<Vec<Stretch>> = [(0, 20), (10, 30), (50, 60), (55, 58), (90, 200)]
            .map(|s| vec![stretch(s)])
            .to_vec();
        let led = covered(&served, Nanos::millis(5), Nanos::millis(100));
        assert_eq!(led, Nanos::millis(25 + 10 + 10));
    }
}
