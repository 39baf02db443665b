//! The verdict in a sentence, and the words for validity and severity.
use crate::text::{plural, visible};
use splitbrain_core::verdict::merge;
use splitbrain_core::{Epoch, Header, Severity, Validity, Verdict};
use std::collections::BTreeMap;

/// A word for a verdict: `valid`, `invalid`, `unknown`.
pub fn validity(v: Validity) -> &'static str {
    match v {
        Validity::Valid => "valid",
        Validity::Unknown => "unknown",
        Validity::Invalid => "invalid",
    }
}

/// A symbol for a verdict, so that nothing is said by colour alone.
pub fn symbol(v: Validity) -> &'static str {
    match v {
        Validity::Valid => "✓",
        Validity::Unknown => "?",
        Validity::Invalid => "✗",
    }
}

/// A word for a severity.
pub fn severity(s: Severity) -> &'static str {
    match s {
        Severity::Hazard => "hazard",
        Severity::Violation => "violation",
    }
}

/// The leader of an epoch, or a leader, where the system has no epochs.
pub fn leader(epoch: Epoch) -> String {
    epoch
        .known()
        .map_or("a leader".into(), |epoch| format!("epoch {epoch}"))
}

/// A symbol for a severity.
pub fn severity_symbol(s: Severity) -> &'static str {
    match s {
        Severity::Hazard => "◆",
        Severity::Violation => "▲",
    }
}

/// How many anomalies of a severity there were. A verdict keeps the gravest, so what it left out is of the kind of the
/// last one that it kept.
pub fn total(verdict: &Verdict, severity: Severity) -> u64 {
    let kept = |s| verdict.anomalies.iter().filter(|a| a.severity == s).count() as u64;
    let cut = verdict.total.saturating_sub(verdict.anomalies.len() as u64);
    let last = verdict.anomalies.last().map_or(Severity::Violation, |a| a.severity);
    kept(severity) + if last == severity { cut } else { 0 }
}

fn guarantees(verdicts: &[Verdict], severity: Severity) -> (u64, String) {
    let mut names = BTreeMap::new();
    let mut count = 0;
    for verdict in verdicts {
        count += total(verdict, severity);
        for anomaly in verdict.anomalies.iter().filter(|a| a.severity == severity) {
            names.insert(anomaly.guarantee, anomaly.guarantee.name());
        }
    }
    (count, names.into_values().collect::<Vec<_>>().join(", "))
}

/// The verdict in a sentence, for a terminal and for the head of the page. It names the seed.
pub fn sentence(header: &Header, verdicts: &[Verdict]) -> String {
    let system = visible(&header.plan.system).into_owned();
    let system = match &header.plan.mutant {
        Some(mutant) => format!("{system} with the mutant {}", visible(mutant)),
        None => system,
    };
    let seed = header.seed;
    let (hazards, of) = guarantees(verdicts, Severity::Hazard);
    let hurt = match hazards {
        0 => String::new(),
        n => format!(
            "; {} seen that no promise covers ({of})",
            plural(n, "hazard was", "hazards were")
        ),
    };
    match merge(verdicts) {
        Validity::Valid => format!("{system} kept every promise that was judged, under seed {seed}{hurt}."),
        Validity::Invalid => {
            let (n, broken) = guarantees(verdicts, Severity::Violation);
            let broken = if broken.is_empty() { "a promise".into() } else { broken };
            let times = plural(n.max(1), "violation", "violations");
            format!("{system} broke what it promises: {broken} ({times}), under seed {seed}{hurt}.")
        }
        Validity::Unknown => {
            let why: Vec<String> = verdicts
                .iter()
                .filter(|v| v.validity == Validity::Unknown)
                .map(|v| format!("{}: {}", visible(&v.checker), visible(v.summary.trim_end_matches('.'))))
                .collect();
            let why = match why.as_slice() {
                [] => "no checker judged it".to_string(),
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
            };
            format!("Too little was seen to judge {system} under seed {seed} ({why}){hurt}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::history::SCHEMA;
    use splitbrain_core::{Anomaly, Guarantee, Nanos, Plan};

    fn header() -> Header {
        Header {
            splitbrain: SCHEMA,
            seed: 7,
            plan: Plan::new("raft", "sim"),
            hosts: vec![],
            promises: vec![],
            beliefs: String::new(),
            versions: Default::default(),
        }
    }

    fn anomaly(severity: Severity, guarantee: Guarantee) -> Anomaly {
        Anomaly {
            severity,
            guarantee,
            title: "t".into(),
            story: vec![],
            evidence: vec![],
            hosts: vec![],
            from: Nanos::ZERO,
            to: Nanos::ZERO,
        }
    }

    #[test]
    fn a_sentence_for_each_outcome() {
        let valid = Verdict::new("a", "fine".into(), vec![]);
        let hazard = Verdict::new("b", "".into(), vec![anomaly(Severity::Hazard, Guarantee::Exclusion)]);
        let broken = Verdict::new(
            "c",
            "".into(),
            vec![anomaly(Severity::Violation, Guarantee::LeaderPerEpoch); 3],
        );
        let unknown = Verdict::unknown("coverage", "no election happened".into());
        let check = |verdicts: &[&Verdict], expected: &str| {
            let verdicts: Vec<Verdict> = verdicts.iter().map(|v| (*v).clone()).collect();
            assert_eq!(sentence(&header(), &verdicts), expected);
        };
        check(&[&valid], "raft kept every promise that was judged, under seed 7.");
        check(
            &[&valid, &hazard],
            "raft kept every promise that was judged, under seed 7; 1 hazard was seen that no promise covers (exclusion).",
        );
        check(
            &[&valid, &broken, &unknown],
            "raft broke what it promises: leader-per-epoch (3 violations), under seed 7.",
        );
        check(
            &[&valid, &unknown],
            "Too little was seen to judge raft under seed 7 (coverage: no election happened).",
        );
        check(
            &[],
            "Too little was seen to judge raft under seed 7 (no checker judged it).",
        );
    }

    #[test]
    fn what_a_verdict_left_out_is_counted() {
        let mut many = vec![anomaly(Severity::Violation, Guarantee::Exclusion)];
        many.extend(vec![anomaly(Severity::Hazard, Guarantee::Exclusion); 30]);
        let verdict = Verdict::new("x", "".into(), many);
        assert_eq!(total(&verdict, Severity::Violation), 1);
        assert_eq!(total(&verdict, Severity::Hazard), 30);
    }
}
