//! What a system promises, under which assumptions, and who says so.
//!
//! Checkers judge promises. A broken promise is a *violation*; the same harm where nothing was promised is a *hazard*.
//! Raft promises one leader per epoch, not one self-believed leader per instant; a lease promises exclusion while pauses
//! and drift stay below its bounds; Bully promises nothing across a partition.
use crate::plan::FaultKind;
use crate::time::Nanos;
use crate::verdict::Severity;
use serde::{Deserialize, Serialize};

/// What can be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Two candidates never lead in the same epoch.
    LeaderPerEpoch,
    /// What one incarnation of an observer says of the epoch never falls.
    EpochsPerObserver,
    /// A leadership that definitely began after another was known has a higher epoch. Not Raft: see DESIGN, false alarms.
    EpochsInRealTime,
    /// A token belongs to one reign.
    TokenPerReign,
    /// A reign that definitely began after a token was in use has a higher token.
    TokensInRealTime,
    /// The tokens that the fenced storage accepts never fall, in the storage's order.
    StorageOrder,
    /// No two reigns definitely overlap.
    Exclusion,
    /// Two members that applied the same index applied the same entries (State Machine Safety).
    AppliedAgreement,
    /// No accepted write of an old leader after a newer leader's, and no blind overwrite.
    NoDamage,
    /// No id is handed out twice.
    UniqueIds,
    /// An id that is asked for after another was handed out is higher.
    RisingIds,
    /// No job runs twice, and one whose run was acknowledged did run.
    ExactlyOnce,
    /// The system's own register behaves as one copy, each operation at one instant between its call and its answer.
    Linearizable,
    /// After healing, a leader emerges within the promise's bound.
    Recovery,
    /// After recovery, all agree on leader and epoch.
    FinalAgreement,
}

impl Guarantee {
    /// Every guarantee there is.
    pub const ALL: [Guarantee; 15] = [
        Guarantee::LeaderPerEpoch,
        Guarantee::EpochsPerObserver,
        Guarantee::EpochsInRealTime,
        Guarantee::TokenPerReign,
        Guarantee::TokensInRealTime,
        Guarantee::StorageOrder,
        Guarantee::Exclusion,
        Guarantee::AppliedAgreement,
        Guarantee::NoDamage,
        Guarantee::UniqueIds,
        Guarantee::RisingIds,
        Guarantee::ExactlyOnce,
        Guarantee::Linearizable,
        Guarantee::Recovery,
        Guarantee::FinalAgreement,
    ];

    /// As histories and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Guarantee::LeaderPerEpoch => "leader-per-epoch",
            Guarantee::EpochsPerObserver => "epochs-per-observer",
            Guarantee::EpochsInRealTime => "epochs-in-real-time",
            Guarantee::TokenPerReign => "token-per-reign",
            Guarantee::TokensInRealTime => "tokens-in-real-time",
            Guarantee::StorageOrder => "storage-order",
            Guarantee::Exclusion => "exclusion",
            Guarantee::AppliedAgreement => "applied-agreement",
            Guarantee::NoDamage => "no-damage",
            Guarantee::UniqueIds => "unique-ids",
            Guarantee::RisingIds => "rising-ids",
            Guarantee::ExactlyOnce => "exactly-once",
            Guarantee::Linearizable => "linearizable",
            Guarantee::Recovery => "recovery",
            Guarantee::FinalAgreement => "final-agreement",
        }
    }
}

/// When a guarantee holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Whatever breaks.
    Always,
    /// Unless one of these kinds of fault was injected in the run.
    Unless(Vec<FaultKind>),
    /// Not promised.
    Never,
}

/// One guarantee of a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// What.
    pub guarantee: Guarantee,
    /// When.
    pub holds: Holds,
    /// The bound, for [`Guarantee::Recovery`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Nanos>,
    /// Why, in a sentence, with where the system's documentation says so.
    pub source: String,
}

impl Promise {
    /// How grave it is when this guarantee fails in a run with these kinds of faults.
    pub fn severity(&self, injected: &[FaultKind]) -> Severity {
        match &self.holds {
            Holds::Always => Severity::Violation,
            Holds::Unless(kinds) if kinds.iter().any(|k| injected.contains(k)) => Severity::Hazard,
            Holds::Unless(_) => Severity::Violation,
            Holds::Never => Severity::Hazard,
        }
    }
}

/// How grave it is when `guarantee` fails: a hazard unless one of `promises` covers it.
pub fn severity(promises: &[Promise], guarantee: Guarantee, injected: &[FaultKind]) -> Severity {
    promises
        .iter()
        .find(|p| p.guarantee == guarantee)
        .map_or(Severity::Hazard, |p| p.severity(injected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_promised_is_a_hazard() {
        let lease = Promise {
            guarantee: Guarantee::Exclusion,
            holds: Holds::Unless(vec![FaultKind::Pause]),
            within: None,
            source: "a lease".into(),
        };
        let promises = [lease];
        assert_eq!(
            severity(&promises, Guarantee::Exclusion, &[FaultKind::Kill]),
            Severity::Violation
        );
        assert_eq!(
            severity(&promises, Guarantee::Exclusion, &[FaultKind::Pause]),
            Severity::Hazard
        );
        assert_eq!(severity(&promises, Guarantee::NoDamage, &[]), Severity::Hazard);
    }
}
