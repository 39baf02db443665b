//! Short runs on a real NATS JetStream cluster, from its Debian package. Without it these tests fail; they are never
//! skipped.
mod common;
use common::{Bench, elections, faults, verdict};
use splitbrain_core::event::Body;

/// A follower campaigns 4 to 9 s after its last heartbeat, so that a leader must be away for longer than others'.
#[test]
fn the_meta_leader_is_one_per_term() {
    let bench = Bench::new();
    bench
        .run("run --system nats --time-limit 25s --every 3s --lasting 10s --targets leader --seed 7")
        .exits(0);
    let history = bench.history("nats");
    assert!(elections(&history) >= 2 && faults(&history) >= 2);
    let named = |body: &Body| matches!(body, Body::Elected { epoch, .. } if !epoch.is_none());
    assert!(
        history.events.iter().any(|event| named(&event.body)),
        "no election had a term"
    );
    let verdicts = bench.verdicts("nats");
    for checker in ["leader-per-epoch", "epochs-per-observer", "final-agreement"] {
        assert_eq!(verdict(&verdicts, checker)["validity"], "valid", "{checker}");
    }
}
