//! What the recipes on etcd promise, and where that is written.
use super::Recipe;
use crate::raft::{promise, recovery, storage_promises};
use splitbrain_core::{Guarantee, Holds, Nanos, Plan, Promise};

/// The promises of `recipe` with leases of `ttl`.
pub(super) fn promises(recipe: Recipe, plan: &Plan, ttl: Nanos) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    let (new_key, at_the_end) = match recipe {
        Recipe::Election => (
            "the token is the create revision of the key, and each reign has a key of its own (etcd's election recipe)",
            "of all keys of the election one is the oldest, and its owner leads",
        ),
        Recipe::Lock => (
            "the token is the create revision of the key that the lock's answer names, and each holding has a key of its own \
             (etcd documentation, lock API)",
            "the lock is held until Unlock is called on its key or the lease of its owner expires (etcd documentation, \
             lock API)",
        ),
        Recipe::Lease => (
            "the token is the create revision of the one key, which each reign creates anew",
            "there is one key, and whose lease it hangs on leads",
        ),
    };
    let mut promises = vec![
        promise(
            LeaderPerEpoch,
            Always,
            "the epoch is the create revision of the leader's key, and a revision of etcd's store creates one key (etcd \
             documentation, KV API guarantees)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "each campaign puts a new key, and revisions rise with each change of the store (etcd documentation, KV API \
             guarantees)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "a candidate may learn late that it was elected, when its lease has expired and another leads",
        ),
        promise(TokenPerReign, Always, new_key),
        promise(TokensInRealTime, Never, "as the epochs: a reign may begin late"),
        promise(
            Exclusion,
            Never,
            "the lease mechanism itself doesn't guarantee mutual exclusion (etcd documentation, etcd versus other \
             key-value stores, notes on the usage of lock and lease)",
        ),
        promise(FinalAgreement, Always, at_the_end),
        recovery(
            ttl + Nanos::secs(10),
            "the lease of a leader that is gone expires after its time to live, counted anew after an election among the \
             servers; then the next one leads",
        ),
    ];
    promises.extend(storage_promises(plan, true));
    promises
}
