//! Checkers: streaming folds over a history that end in a verdict with evidence.
//!
//! A checker sees every event once, in order, and keeps only what its verdict needs. It knows the header (the hosts,
//! the plan and what the system promises) and nothing else: no clock, no cluster, so that any history can be judged
//! again, anywhere, at any time.
//!
//! **Only proof counts.** A verdict says invalid only where the events it names exclude every sound system; each module
//! says why. What was never promised is a hazard and leaves the verdict valid; what cannot be proven is unknown. The
//! rules of proof are in `evidence` (what an event proves and when) and `reigns` (how answers become intervals).
//!
//! Caveat: a checker trusts the history. What candidates say of themselves is taken for their belief; that the
//! storage's numbers are its order, and that control's words are in order, is taken for granted.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

mod agreement;
mod applied;
mod coverage;
mod damage;
mod evidence;
mod exactly_once;
mod exclusion;
mod figures;
mod ids;
mod leader_per_epoch;
pub mod linear;
mod lock;
mod lock_out;
pub mod models;
mod observers;
mod real_time;
mod recovery;
mod reigns;
mod service;
mod storage_order;
pub mod stream;
mod tokens;

#[cfg(test)]
mod tests;

use ids::Ids;
use real_time::{RealTime, Which};
use splitbrain_core::plan::{Storage, Workload};
use splitbrain_core::{Checker, Event, Guarantee, Header, Holds, HostRole, Verdict};

/// The checkers that apply to a history with this header: its promises, its hosts, its plan.
pub fn all(header: &Header) -> Vec<Box<dyn Checker>> {
    let promised = |guarantee| {
        header
            .promises
            .iter()
            .any(|p| p.guarantee == guarantee && p.holds != Holds::Never)
    };
    let storage = header.hosts.iter().any(|h| h.role == HostRole::Storage);
    let mut checkers: Vec<Box<dyn Checker>> = vec![Box::new(coverage::Coverage::new(header))];
    if header.hosts.iter().any(|h| h.asked) {
        checkers.push(Box::new(leader_per_epoch::LeaderPerEpoch::new(header)));
        checkers.push(Box::new(observers::EpochsPerObserver::new(header)));
        checkers.push(Box::new(exclusion::Exclusion::new(header)));
    }
    if promised(Guarantee::EpochsInRealTime) {
        checkers.push(Box::new(RealTime::new(header, Which::Epochs)));
    }
    if promised(Guarantee::TokenPerReign) || storage {
        checkers.push(Box::new(tokens::TokenPerReign::new(header)));
    }
    // Tokens that fall from one holder of a lock to the next make it no lock, promised or not.
    if promised(Guarantee::TokensInRealTime) || header.plan.workload == Workload::Lock {
        checkers.push(Box::new(RealTime::new(header, Which::Tokens)));
    }
    // The register's clients write nothing to the storage.
    if storage && header.plan.rate > 0.0 && header.plan.workload != Workload::Register {
        checkers.push(Box::new(storage_order::StorageOrder::new(header)));
        checkers.push(Box::new(damage::Damage::new(header)));
        if header.plan.storage == Storage::Fenced {
            checkers.push(Box::new(lock_out::LockOut::new(header)));
        }
    }
    match header.plan.workload {
        Workload::Leadership => {}
        Workload::Sequence => {
            checkers.push(Box::new(Ids::new(header, ids::Which::Unique)));
            checkers.push(Box::new(Ids::new(header, ids::Which::Rising)));
        }
        Workload::Jobs => checkers.push(Box::new(exactly_once::ExactlyOnce::new(header))),
        Workload::Lock => checkers.push(Box::new(lock::Lock::new(header))),
        Workload::Register => checkers.push(Box::new(linear::checker::Linearizable::new(header))),
    }
    if promised(Guarantee::AppliedAgreement) {
        checkers.push(Box::new(applied::AppliedAgreement::new(header)));
    }
    if header.hosts.iter().any(|h| h.asked) {
        checkers.push(Box::new(recovery::Recovery::new(header)));
        checkers.push(Box::new(agreement::FinalAgreement::new(header)));
    }
    checkers
}

/// Every checker's name with one sentence, for `list checkers`.
pub fn names() -> &'static [(&'static str, &'static str)] {
    &[
        (
            "coverage",
            "enough happened to judge: elections, faults that took effect, a whole history",
        ),
        ("leader-per-epoch", "two hosts never lead in the same epoch"),
        (
            "epochs-per-observer",
            "the epochs that one life of a process tells of never fall",
        ),
        (
            "exclusion",
            "no two hosts definitely believe at the same time that they lead",
        ),
        (
            "epochs-in-real-time",
            "a leadership that begins after another was known has a higher epoch",
        ),
        ("token-per-reign", "a fencing token belongs to one reign"),
        (
            "tokens-in-real-time",
            "a reign that begins after a token was in use has a higher token",
        ),
        (
            "storage-order",
            "the tokens that the fenced storage takes never fall, and writes are what their answers say",
        ),
        (
            "no-damage",
            "no old leader's write after a newer leader's, and nothing overwritten unseen",
        ),
        ("lock-out", "the storage does not refuse the leader on whom all agree"),
        ("unique-ids", "no id is handed out twice"),
        (
            "rising-ids",
            "an id that is asked for after another was handed out is higher",
        ),
        (
            "exactly-once",
            "no job runs twice, and one whose run was acknowledged did run; those that never ran are counted",
        ),
        (
            "lock",
            "how the lock served; it is never said to be held in a reign that was over",
        ),
        (
            "linearizable",
            "the system's register behaves as one copy, each operation at one instant between its call and its answer",
        ),
        (
            "applied-agreement",
            "members apply the same entries at the same places of their logs",
        ),
        (
            "recovery",
            "after healing a leader emerges in time; failovers and leaderless time are measured",
        ),
        (
            "final-agreement",
            "at the end all hosts agree on one leader and its epoch",
        ),
    ]
}

/// Judges a whole history: the verdict of each checker that applies, in the order of [`all`].
pub fn judge<'a>(header: &Header, events: impl IntoIterator<Item = &'a Event>) -> Vec<Verdict> {
    let mut checkers = all(header);
    for event in events {
        for checker in &mut checkers {
            checker.event(event);
        }
    }
    checkers.iter_mut().map(|c| c.finish()).collect()
}
