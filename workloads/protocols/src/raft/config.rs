//! How a Raft is set up: its timers, and the ways in which it can be broken on purpose.
use serde::{Deserialize, Serialize};
use splitbrain_core::{Name, Nanos, time};
use std::str::FromStr;

/// Who a Raft is, and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member.
    pub name: Name,
    /// All members, this one included.
    pub members: Vec<Name>,
    /// Timers and switches.
    pub tuning: Tuning,
    /// How it is broken on purpose, if at all.
    pub mutant: Option<Mutant>,
}

/// Timers and switches. The defaults suit a network with round trips of a few milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tuning {
    /// The shortest wait for a leader before campaigning; each wait is drawn from one to two times this.
    #[serde(with = "time::text")]
    pub election_timeout: Nanos,
    /// Between two heartbeats of a leader, and between two sendings of an unanswered vote request.
    #[serde(with = "time::text")]
    pub heartbeat: Nanos,
    /// Ask whether an election could be won before raising the term (thesis 9.6).
    pub pre_vote: bool,
    /// A leader without a quorum's answers for an election timeout steps down, and who hears a leader does not vote
    /// (thesis 6.2 and 4.2.3).
    pub check_quorum: bool,
    /// How long an answer of the storage is awaited.
    #[serde(with = "time::text")]
    pub store_timeout: Nanos,
    /// Applied entries between two compactions of the log.
    pub snapshot_every: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            election_timeout: Nanos::millis(300),
            heartbeat: Nanos::millis(50),
            pre_vote: true,
            check_quorum: true,
            store_timeout: Nanos::secs(1),
            snapshot_every: 64,
        }
    }
}

/// A way to break Raft on purpose, to see the checkers catch it. Off unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutant {
    /// The vote, but not the term, is lost at a restart: a second vote in the same term.
    ForgetVote,
    /// Votes, and pre-votes, are granted without comparing logs: a leader that lacks committed entries.
    IgnoreLog,
    /// A leader ignores every higher term and never steps down by itself: two leaders that both go on.
    StaleLeader,
}

impl Mutant {
    /// Every mutant there is.
    pub const ALL: [Mutant; 3] = [Mutant::ForgetVote, Mutant::IgnoreLog, Mutant::StaleLeader];

    /// As plans and command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::ForgetVote => "forget-vote",
            Mutant::IgnoreLog => "ignore-log",
            Mutant::StaleLeader => "stale-leader",
        }
    }

    /// What is broken, in one sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Mutant::ForgetVote => "a restarted member forgets whom it voted for in its term, and may vote again",
            Mutant::IgnoreLog => "votes are granted to candidates whose log lacks committed entries",
            Mutant::StaleLeader => {
                "a leader ignores higher terms and takes any response for support: it never steps down"
            }
        }
    }
}

impl FromStr for Mutant {
    type Err = String;
    fn from_str(s: &str) -> Result<Mutant, String> {
        Mutant::ALL.into_iter().find(|m| m.name() == s).ok_or_else(|| {
            let known: Vec<_> = Mutant::ALL.iter().map(|m| m.name()).collect();
            format!("'{s}' is no mutant of raft: {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_read_as_they_are_written() {
        for mutant in Mutant::ALL {
            assert_eq!(mutant.name().parse(), Ok(mutant));
            assert_eq!(
                serde_json::to_string(&mutant).unwrap(),
                format!("\"{}\"", mutant.name())
            );
        }
        assert!("forget".parse::<Mutant>().unwrap_err().contains("forget-vote"));
    }

    #[test]
    fn tuning_reads_durations_as_text_and_knows_its_defaults() {
        let tuning: Tuning = serde_json::from_str(r#"{"election-timeout":"1s"}"#).unwrap();
        assert_eq!(tuning.election_timeout, Nanos::secs(1));
        assert_eq!(tuning.heartbeat, Tuning::default().heartbeat);
        assert!(serde_json::from_str::<Tuning>(r#"{"election-timout":"1s"}"#).is_err());
    }
}
