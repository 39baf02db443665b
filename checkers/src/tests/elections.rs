//! Epochs, tokens and reigns.
use super::{hazard, header, history, holds, invalid, unknown, valid, verdict};
use crate::reigns::Reigns;
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Guarantee, Holds, Nanos, Validity, Verdict};

#[test]
fn one_leader_per_epoch() {
    let check = |text: &str| valid("leader-per-epoch", text);
    check("10 n1 elected 1/1; 20..25 n1 leads 1/1; 30 n2 elected 2/1");
    // A late "elected": term 1 is learnt of after term 2 was won elsewhere.
    check("10 n2 elected 2/1; 20 n1 elected 1/1; 30..31 n1 leads 1/1; 30..31 n2 leads 2/1");
    // A stale status pairs a leader with another's epoch; a follower's word is no claim.
    check("10 n1 elected 1/1; 20..25 n2 follows 1 n3; 20..25 n3 follows 1 n2");
    // Nobody can say whose belief an answer tells that was asked of an earlier life.
    check("10 n1 elected 3/1; 15..40 n2 leads 3/1; 25 n2 started 2; 50..60 n2 leads 4/1");
    // The same host again, after a restart and in a second reign.
    check("10 n1 elected 1/1; 15 n1 elected 1/2; 20 n1 started 2; 30 n1 elected 1/1");
}

#[test]
fn two_leaders_in_one_epoch() {
    let check = |text: &str| invalid("leader-per-epoch", text, "n1 and n2 both led in epoch 4");
    check("10 n1 elected 4/1; 20 n2 elected 4/1");
    check("10 n1 elected 4/1; 20..30 n2 leads 4/1; 40..50 n2 leads 4/1; 60..70 n1 leads 4/1");
    check("10..11 n1 leads 4/1; 12 n1 deposed 1; 13 n1 started 2; 900..910 n2 leads 4/3");
    unknown("leader-per-epoch", "10..20 n1 follows 4 n2", "nobody was seen to lead");
}

#[test]
fn what_was_not_promised_is_a_hazard() {
    let text = "10 n1 elected 4/1; 20 n2 elected 4/1";
    let title = "both led in epoch 4";
    hazard(
        &holds(Guarantee::LeaderPerEpoch, Holds::Never),
        "leader-per-epoch",
        text,
        title,
    );
    let unless = holds(Guarantee::LeaderPerEpoch, Holds::Unless(vec![FaultKind::Pause]));
    assert_eq!(verdict(&unless, "leader-per-epoch", text).validity, Validity::Invalid);
    // Faults that failed, or whose outcome was never recorded, may have acted all the same.
    for end in ["", "fail", "lost"] {
        let paused = format!("{text}; 30..40 fault 1 pause n1 {end}");
        hazard(&unless, "leader-per-epoch", &paused, title);
    }
}

#[test]
fn epochs_of_one_observer() {
    let check = |text: &str| valid("epochs-per-observer", text);
    check("10..20 n1 follows 4; 30..40 n1 follows 4; 50..60 n1 follows 5; 30..40 n2 follows 1");
    // Answers that overlap in time may pass each other.
    check("10..30 n1 follows 4; 25..60 n1 follows 3");
    // A restarted process looks back.
    check("10..20 n1 follows 4; 25 n1 started 2; 30..40 n1 follows 3");
    // A question put to the old life says nothing of the new one.
    check("10..20 n1 follows 4; 22..40 n1 follows 3; 25 n1 started 2");
    // "Elected" is said late: the epoch of an election is older than what the process knew by then.
    check("10..20 n1 follows 5; 30 n1 elected 4/1; 40..50 n1 follows 5");
    unknown(
        "epochs-per-observer",
        "10..20 n1 follows; 30 n1 elected 4/1",
        "no answer named an epoch",
    );
}

#[test]
fn an_observer_goes_back() {
    let check = |text: &str| invalid("epochs-per-observer", text, "n1 went back from epoch 4 to 3");
    check("10..20 n1 follows 4; 30..40 n1 follows 3");
    check("10..20 n1 follows 4; 30..40 n1 follows 3; 50..60 n1 follows 3; 70..80 n1 follows 5");
    check("10 n1 elected 4/1; 30..40 n1 follows 3");
    check("9 n1 started 2; 10..20 n1 follows 4; 30..40 n1 leads 3/1");
}

#[test]
fn epochs_in_real_time() {
    let check = |text: &str| valid("epochs-in-real-time", text);
    check("10 n1 elected 1/1; 20..30 n2 follows 1; 40..50 n2 leads 2/1");
    // n2 may have begun to lead in epoch 2 before n1 was known to lead in epoch 3.
    check(
        "10 n3 elected 1/1; 11..12 n2 follows 1; 20 n1 elected 3/1; 30..40 n2 leads 2/1; 50..60 n1 follows 3; 70..80 n1 leads 4/2",
    );
    // The answer overlapped the question that follows: it may be the younger one.
    check("10 n1 elected 2/1; 30..50 n2 follows 1; 40..60 n2 leads 1/1; 70..75 n3 follows; 80..90 n3 leads 3/1");
    // The same leadership, taken up again by the same host.
    check("10 n1 elected 2/1; 20..30 n1 follows 2; 40..50 n1 leads 2/2");
    unknown(
        "epochs-in-real-time",
        "10 n1 elected 2/1; 20 n2 elected 1/1",
        "no reign was seen to begin",
    );
}

#[test]
fn an_epoch_that_is_too_low_in_real_time() {
    let check = |text: &str| invalid("epochs-in-real-time", text, "n2 began to lead with epoch 2 after epoch");
    check("10 n1 elected 3/1; 20..30 n2 follows 3; 40..50 n2 leads 2/1; 60..70 n2 leads 2/1");
    check("10 n1 elected 2/1; 20..30 n2 follows 1; 40..50 n2 leads 2/1");
    check("5..6 n2 leads 1/1; 10 n1 elected 3/1; 20..30 n2 leads 1/1; 40 n2 elected 2/2");
    // The first reign of a second life is judged anew.
    check("5..6 n2 leads 1/1; 10 n1 elected 3/1; 15 n2 started 2; 20..30 n2 follows 1; 40..50 n2 leads 2/1");
}

#[test]
fn tokens_in_real_time() {
    let check = |text: &str| valid("tokens-in-real-time", text);
    check("10 n1 elected 1/1 t9; 20..30 n2 follows 1; 40..50 n2 leads 2/1 t10");
    check("10 n1 elected 1/1 t9; 20..30 n2 follows 1; 25 stored 1 t11 v1 base0 n1; 40..50 n2 leads 2/1 t10");
    let low = |text: &str| invalid("tokens-in-real-time", text, "began to lead with token 8 after token");
    low("10 n1 elected 1/1 t9; 20..30 n2 follows 1; 40..50 n2 leads 2/1 t8");
    low("10 stored 1 t9 v1 base0 n1; 20..30 n2 follows 1; 40..50 n2 leads 2/1 t8");
    low("5..10 n1 writes 1 ok 9@1; 20..30 n2 follows 1; 40..50 n2 leads 2/1 t8");
}

#[test]
fn a_token_belongs_to_one_reign() {
    let check = |text: &str| valid("token-per-reign", text);
    check("10 n1 elected 1/1 t5; 20..30 n1 leads 1/1 t5; 25 stored 1 t5 v1 base0 n1; 40 n2 elected 2/1 t6");
    check("10 stored 1 t5 v1 base0 n1; 20 n1 elected 1/1 t5; 30..40 n1 leads 1/1 t5");
    invalid(
        "token-per-reign",
        "10 n1 elected 1/1 t5; 40 n2 elected 2/1 t5",
        "n1 and n2 both had token 5",
    );
    invalid(
        "token-per-reign",
        "10 n1 elected 1/1 t5; 40 n1 elected 2/2 t5",
        "two reigns of n1 had token 5",
    );
    let restarted = "10 n1 elected 1/1 t5; 20 n1 started 2; 40 n1 elected 1/1 t5; 50..60 n1 leads 1/1 t5";
    invalid("token-per-reign", restarted, "two reigns of n1 had token 5");
    let stolen = "10 n1 elected 1/1 t5; 40 stored 1 t5 v1 base0 n2; 50 refused t5 h6 v2 n2";
    invalid("token-per-reign", stolen, "n1 and n2 both had token 5");
    unknown("token-per-reign", "10..20 n1 follows 5", "no token was seen");
    // Who writes without a token shares none.
    let without = "10 stored 1 t0 v1 base0 n1; 20 stored 2 t0 v2 base1 n2; 30 stored 3 t7 v3 base2 n3";
    check(without);
    unknown(
        "token-per-reign",
        "10 stored 1 t0 v1 base0 n1; 20 stored 2 t0 v2 base1 n2",
        "no token was seen",
    );
}

#[test]
fn reigns_that_follow_each_other() {
    let check = |text: &str| valid("exclusion", text);
    check("10 n1 elected 1/1; 20..30 n1 leads 1/1; 40 n2 elected 2/1; 50..60 n2 leads 2/1");
    // The old leader's answer came after the new one's election, but the question was put before.
    check("10 n1 elected 1/1; 20..50 n1 leads 1/1; 40 n2 elected 2/1; 60..70 n2 leads 2/1");
    // A single answer is true at one unknown instant.
    check("10 n1 elected 1/1; 20..30 n1 leads 1/1; 15..90 n2 leads 2/1");
    // Touching is no overlap.
    check("10 n1 elected 1/1; 40..50 n1 leads 1/1; 40 n2 elected 2/1; 60..70 n2 leads 2/1");
    // One count in two lives is two reigns: nothing is proven in between.
    check(
        "10 n1 elected 1/1; 11..12 n1 leads 1/1; 20 n2 elected 2/1; 30..40 n2 leads 2/1; 50 n1 started 2; 60 n1 elected 3/1; 70..75 n1 leads 3/1",
    );
    check("10 n1 elected 1/1; 40 n2 elected 2/1; 40..50 n1 leads 1/1; 60..70 n2 leads 2/1");
    // One host that confuses its counts is no two leaders.
    check("10 n1 elected 1/1; 20 n1 elected 2/2; 30..40 n1 leads 1/1; 50..60 n1 leads 2/2");
    let v = verdict(
        &header(),
        "exclusion",
        "10 n1 elected 1/1; 20..30 n1 leads 1/1; 40 n2 elected 2/1; 50..60 n2 leads 2/1",
    );
    assert_eq!(v.summary, "no two of 2 reigns provably overlapped");
    unknown("exclusion", "10 n1 elected 1/1", "no reign was proven to last");
    unknown(
        "exclusion",
        "5..20 n1 leads 1/1; 4..15 n2 leads 1/1",
        "no reign was proven to last",
    );
}

#[test]
fn two_reigns_definitely_overlap() {
    let text = "10 n1 elected 1/1; 40 n2 elected 2/1; 50..60 n1 leads 1/1; 70..80 n2 leads 2/1";
    invalid(
        "exclusion",
        text,
        "n1 (epoch 1) and n2 (epoch 2) both led for at least 10.000ms",
    );
    let v = verdict(&header(), "exclusion", text);
    let a = &v.anomalies[0];
    assert_eq!((a.from, a.to), (Nanos::millis(40), Nanos::millis(50)));
    assert_eq!(a.evidence, [0, 1, 2, 3, 4, 5]);
    // Two answers within one reign prove belief in between, without any "elected".
    let answers = "10..20 n1 leads 1/1; 30..40 n2 leads 2/1; 90..95 n1 leads 1/1; 70..75 n2 leads 2/1";
    invalid("exclusion", answers, "at least 30.000ms");
    // The last question counts, in whatever order the answers come.
    let overtaken =
        "10 n1 elected 1/1; 20..90 n1 leads 1/1; 60..70 n1 leads 1/1; 40 n2 elected 2/1; 80..85 n2 leads 2/1";
    invalid("exclusion", overtaken, "at least 20.000ms");
    let overtaking =
        "10 n1 elected 1/1; 60..70 n1 leads 1/1; 20..90 n1 leads 1/1; 40 n2 elected 2/1; 80..85 n2 leads 2/1";
    invalid("exclusion", overtaking, "at least 20.000ms");
    // A pause ends no belief, and exclusion was promised only without pauses.
    let lease = holds(Guarantee::Exclusion, Holds::Unless(vec![FaultKind::Pause]));
    let paused = format!("{text}; 20..21 fault 1 pause n1; 45..46 heal 1");
    hazard(&lease, "exclusion", &paused, "both led");
}

#[test]
fn a_write_proves_belief_as_an_answer_does() {
    let with = |write: &str| format!("10 n1 elected 1/1 t5; 40 n2 elected 2/1 t6; {write}; 70..80 n2 leads 2/1 t6");
    let write = with("50..60 n1 writes 1 ok 5@1");
    invalid("exclusion", &write, "both led for at least 10.000ms");
    let v = verdict(&header(), "exclusion", &write);
    assert_eq!(v.anomalies[0].evidence, [0, 1, 2, 3, 4, 5]);
    assert!(v.anomalies[0].story[0].contains("asked to write in #2"), "{v:#?}");
    // The last of several counts, in whatever order they are done.
    invalid(
        "exclusion",
        &with("50..60 n1 writes 1 ok 5@1; 45..62 n1 writes 2 ok 5@2"),
        "at least 10.000ms",
    );
    let check = |write: &str| valid("exclusion", &with(write));
    // Asked before the other was elected; not known to be done; under another reign's token; in another life.
    check("30..60 n1 writes 1 ok 5@1");
    check("50..60 n1 writes 1 info");
    check("50..60 n1 writes 1 fail");
    check("50..60 n1 writes 1 ok 4@1");
    check("50..60 n1 writes 1 ok 5@1; 55 n1 started 2");
    check("45 n1 started 2; 50..60 n1 writes 1 ok 5@1");
    // Two reigns with one token: whose write it was is unknown.
    check("50..60 n1 writes 1 ok 5@1; 65 n1 elected 3/2 t5");
    // Where tokens may be shared, a write names no reign.
    for holds_when in [Holds::Never, Holds::Unless(vec![FaultKind::Pause])] {
        let header = holds(Guarantee::TokenPerReign, holds_when);
        assert_eq!(verdict(&header, "exclusion", &write).total, 0);
    }
}

#[test]
fn what_is_too_much_to_keep_is_counted() {
    let claims: Vec<String> = (1..=100)
        .map(|e| format!("{e} n1 elected {e}/{e}; {e} n2 elected {e}/{e}"))
        .collect();
    let v = verdict(&header(), "leader-per-epoch", &claims.join("; "));
    assert_eq!((v.total, v.anomalies.len()), (100, Verdict::MAX_ANOMALIES));
    assert!(v.anomalies[0].title.ends_with("epoch 1"), "{}", v.anomalies[0].title);
    assert!(v.anomalies[19].title.ends_with("epoch 20"), "{}", v.anomalies[19].title);
}

#[test]
fn the_story_of_a_split_brain_tells_what_fencing_did() {
    let believers = "10 n1 elected 1/1; 40 n2 elected 2/1; 50..60 n1 leads 1/1; 70..80 n2 leads 2/1";
    let check = |writes: &str, expected: &str| {
        let v = verdict(&header(), "exclusion", &format!("{believers}; {writes}"));
        let story = &v.anomalies[0].story;
        assert_eq!(story.len(), 3, "{story:#?}");
        assert!(story[2].ends_with(expected), "{story:#?}");
    };
    check(
        "45 refused t1 h2 v1 n1; 46 refused t1 h2 v2 n1",
        "the storage refused all 2.",
    );
    check(
        "44 stored 1 t2 v9 base0 n2; 45 stored 2 t1 v1 base0 n1",
        "the storage took all 1: nothing was fenced.",
    );
}

#[test]
fn a_reign_ends_where_it_is_known_to_be_over() {
    let check = |text: &str, ends: &[Option<u64>]| {
        let mut reigns = Reigns::default();
        history(text).iter().for_each(|e| {
            reigns.event(e);
        });
        let got: Vec<Option<u64>> = reigns
            .spans()
            .iter()
            .map(|s| s.end.map(|m| m.time.0 / 1_000_000))
            .collect();
        assert_eq!(got, ends, "{text}");
    };
    check("10 n1 elected 1/1; 20..30 n1 leads 1/1", &[None]);
    check("10 n1 elected 1/1; 25 n1 deposed 1", &[Some(25)]);
    check("10 n1 elected 1/1; 25 n1 deposed 7", &[None]);
    check("10 n1 elected 1/1; 20..30 fault 1 kill n1", &[Some(30)]);
    check("10 n1 elected 1/1; 20..30 fault 1 kill n1 fail", &[None]);
    check("10 n1 elected 1/1; 20..30 fault 1 pause n1", &[None]);
    check("10 n1 elected 1/1; 25 n1 started 2", &[Some(25)]);
    check("10 n1 elected 1/1; 20..30 n1 follows 1", &[Some(30)]);
    // This answer may be older than the reign.
    check("5..30 n1 follows 1; 10 n1 elected 1/1", &[None]);
    check("10 n1 elected 1/1; 20 n1 elected 2/2", &[Some(20), None]);
}
