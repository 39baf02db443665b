//! What a checker says, with the events that prove it.
use crate::name::Name;
use crate::promise::Guarantee;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};

/// A verdict's three values; merged, the gravest wins: invalid, then unknown, then valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validity {
    /// Everything promised held, and enough was seen to say so.
    #[default]
    Valid,
    /// Too little was seen, or the checker ran out of something.
    Unknown,
    /// A promise was broken.
    Invalid,
}

/// How grave an anomaly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Never promised, but it hurts.
    Hazard,
    /// A promise was broken.
    Violation,
}

/// Harm, with its evidence and its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Violation or hazard.
    pub severity: Severity,
    /// What guarantee it touches.
    pub guarantee: Guarantee,
    /// One line: `n1 and n3 both led in epoch 7`.
    pub title: String,
    /// What happened, a sentence each, in order of time; each names the event it tells of as `#123`.
    pub story: Vec<String>,
    /// The few events that prove it, by index, rising.
    pub evidence: Vec<u64>,
    /// The hosts concerned.
    pub hosts: Vec<Name>,
    /// First instant to show.
    pub from: Nanos,
    /// Last instant to show.
    pub to: Nanos,
}

/// A number that a checker measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `failover p50`.
    pub name: String,
    /// In `unit`.
    pub value: f64,
    /// `s`, `1/s`, `%`, or empty for a count.
    pub unit: String,
}

/// What one checker says of one history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its name: `leader-per-epoch`.
    pub checker: String,
    /// Valid, invalid or unknown. Hazards alone leave it valid.
    pub validity: Validity,
    /// One sentence: what was judged, from how much, and what came out; for unknown, why.
    pub summary: String,
    /// At most [`Verdict::MAX_ANOMALIES`], the gravest and earliest first.
    pub anomalies: Vec<Anomaly>,
    /// How many there were in all.
    pub total: u64,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Verdict {
    /// How many anomalies a verdict keeps.
    pub const MAX_ANOMALIES: usize = 20;

    /// A verdict from everything that was found: orders, counts and cuts the anomalies; any violation makes it invalid.
    pub fn new(checker: &str, summary: String, mut anomalies: Vec<Anomaly>) -> Verdict {
        anomalies.sort_by_key(|a| (std::cmp::Reverse(a.severity), a.from));
        let total = anomalies.len() as u64;
        let broken = anomalies.iter().any(|a| a.severity == Severity::Violation);
        anomalies.truncate(Verdict::MAX_ANOMALIES);
        let validity = if broken { Validity::Invalid } else { Validity::Valid };
        Verdict {
            checker: checker.to_string(),
            validity,
            summary,
            anomalies,
            total,
            figures: Vec::new(),
        }
    }

    /// "Too little was seen", with why.
    pub fn unknown(checker: &str, why: String) -> Verdict {
        Verdict {
            validity: Validity::Unknown,
            ..Verdict::new(checker, why, Vec::new())
        }
    }
}

/// The verdict of a whole run: the gravest of its checkers', unknown if there was none.
pub fn merge(verdicts: &[Verdict]) -> Validity {
    verdicts.iter().map(|v| v.validity).max().unwrap_or(Validity::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_verdict_wins_and_nothing_judged_is_unknown() {
        let v = |validity| Verdict {
            validity,
            ..Verdict::new("x", String::new(), vec![])
        };
        assert_eq!(merge(&[]), Validity::Unknown);
        assert_eq!(merge(&[v(Validity::Valid)]), Validity::Valid);
        assert_eq!(merge(&[v(Validity::Valid), v(Validity::Unknown)]), Validity::Unknown);
        assert_eq!(merge(&[v(Validity::Unknown), v(Validity::Invalid)]), Validity::Invalid);
    }
}
