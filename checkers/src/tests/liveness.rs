//! Recovery, agreement and coverage.
use super::{hazard, header, holds, invalid, unknown, valid, verdict};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Guarantee, Header, Holds, Validity};

fn figure(text: &str, checker: &str, name: &str) -> Option<f64> {
    let v = verdict(&header(), checker, text);
    v.figures.iter().find(|f| f.name == name).map(|f| f.value)
}

const AGREED: &str = "60..70 n1 leads 7/1; 60..70 n2 follows 7 n1; 60..70 n3 follows 7 n1; 80 phase end";

#[test]
fn a_leader_emerges_and_all_agree() {
    let text = format!("5 n1 elected 7/1; 10 phase recovery; 20..30 n1 leads 7/1; 50 phase final; {AGREED}");
    valid("recovery", &text);
    valid("final-agreement", &text);
    assert_eq!(figure(&text, "recovery", "recovery"), Some(0.0));
    assert_eq!(
        verdict(&header(), "recovery", &text).summary,
        "n1 led throughout, in epoch 7"
    );
    // Its reign began only then; or another reign of the same host did.
    for begun in ["15 n1 elected 7/1", "5 n1 elected 6/1; 15 n1 elected 7/2"] {
        let text =
            format!("{begun}; 10 phase recovery; 20..30 n1 leads 7/1; 50 phase final; {AGREED}").replace("7/1", "7/2");
        assert_eq!(figure(&text, "recovery", "recovery"), Some(0.005), "{text}");
    }
    // Of two answers of one host, the one that was asked last counts.
    let answers = "60..61 n1 leads 7/1; 60..61 n2 follows 7 n1; 62..70 n3 follows 6 n2; 65..66 n3 follows 7 n1; 64..69 n3 follows 6 n2";
    valid(
        "final-agreement",
        &format!("10 phase recovery; 50 phase final; {answers}; 80 phase end"),
    );
    let overtaken = "60..61 n1 leads 7/1; 60..61 n2 follows 7 n1; 60..61 n3 follows 6 n2; 62..63 n3 follows 7 n1";
    valid(
        "final-agreement",
        &format!("10 phase recovery; 50 phase final; {overtaken}; 80 phase end"),
    );
    // Followers that name nobody and no epoch.
    let quiet = "10 phase recovery; 50 phase final; 60..70 n1 leads 7/1; 60..70 n2 follows; 60..70 n3 follows 6";
    valid("final-agreement", quiet);
}

const NOBODY: &str = "10 phase recovery; 1100 phase final; 1110..1120 n1 follows 7; 1110..1120 n2 follows 7";

#[test]
fn no_leader_emerges() {
    let text = format!("{NOBODY}; 1110..1120 n3 follows 7; 1200 phase end");
    invalid("recovery", &text, "no leader by 1.000s after healing");
    invalid("final-agreement", &text, "nobody leads");
    // Too late, and proven to be so.
    let late = "10 phase recovery; 1020..1030 n1 follows 7; 1020..1030 n2 follows 7; 1020..1030 n3 follows 7; 1500 n1 elected 8/1; \
        1510 phase final; 1520..1530 n1 leads 8/1; 1520..1530 n2 follows 8 n1; 1520..1530 n3 follows 8 n1";
    invalid("recovery", late, "no leader by 1.000s");
    hazard(
        &holds(Guarantee::Recovery, Holds::Never),
        "recovery",
        &text,
        "no leader by",
    );
}

#[test]
fn what_does_not_prove_that_there_was_no_leader() {
    let check = |text: &str, why: &str| unknown("recovery", text, why);
    check(NOBODY, "not every host answered");
    check(&format!("{NOBODY}; 900..1120 n3 follows 7"), "not every host answered");
    let all = format!("{NOBODY}; 1110..1120 n3 follows 7");
    check(
        &format!("{all}; 2..3 fault 1 pause n1"),
        "fault 1 was never seen to be healed",
    );
    check(
        &format!("{all}; 2..3 fault 1 pause n1; 5..6 heal 1 fail"),
        "fault 1 was never seen to be healed",
    );
    check(&format!("{all}; 1150 aborted broken"), "aborted");
    check(
        &format!("{all}; 900 n2 elected 7/1"),
        "the last look shows no agreement",
    );
    check("10 n1 elected 7/1", "ended before recovery");
    check("10 n1 elected 7/1; 20 phase recovery", "cut off during recovery");
    let healed = verdict(
        &header(),
        "recovery",
        &format!("{all}; 2..3 fault 1 pause n1; 5..6 heal 1"),
    );
    assert_eq!(healed.validity, Validity::Invalid);
}

#[test]
fn no_agreement_within_the_bound() {
    let check = |answers: &str, why: &str| {
        let late = format!("10 phase recovery; 1100 phase final; {answers}; 1300 phase end");
        invalid("final-agreement", &late, why);
        // If the runner had seen agreement before, the leadership may have moved during the look.
        let early = format!("10 phase recovery; 900 phase final; {answers}; 1300 phase end");
        unknown("final-agreement", &early, "may have just moved");
    };
    let at = "1110..1120";
    check(
        &format!("{at} n1 leads 7/1; {at} n2 leads 8/1; {at} n3 follows 8 n2"),
        "n1 and n2 both lead",
    );
    check(
        &format!("{at} n1 leads 7/1; {at} n2 follows 7 n3; {at} n3 follows 7 n1"),
        "n2 names n3",
    );
    check(
        &format!("{at} n1 leads 7/1; {at} n2 follows 6 n1; {at} n3 follows 7 n1"),
        "n2 places it in 6",
    );
    check(
        &format!("{at} n1 leads 7/1; {at} n2 follows 8; {at} n3 follows"),
        "n2 knows epoch 8",
    );
    check(
        &format!("{at} n1 leads 7/1; {at} n2 leads 8/1; {at} n3 leads 9/1"),
        "n1, n2 and n3 all lead",
    );
    let late = format!("10 phase recovery; 1100 phase final; {at} n1 leads 7/1; {at} n2 follows 7 n3; {at} n3 follows");
    let v = verdict(&header(), "final-agreement", &late);
    assert_eq!(
        v.anomalies[0].story[2],
        "By their own answers n1 leads in epoch 7 (#5), n2 follows n3 in epoch 7 (#6), n3 knows no leader (#7)."
    );
    assert_eq!(v.anomalies[0].evidence, [5, 6, 7]);
    // A contradiction among some is one, whoever is silent.
    check(
        &format!("{at} n1 leads 7/1; {at} n2 leads 8/1; {at} n3 silent"),
        "n1 and n2 both lead",
    );
}

#[test]
fn a_last_look_that_shows_too_little() {
    let check = |text: &str, why: &str| unknown("final-agreement", text, why);
    check(
        "10 phase recovery; 1100 phase final; 1110..1120 n1 leads 7/1; 1110..1120 n2 follows 7 n1",
        "n3 did not answer",
    );
    check(
        "10 phase recovery; 1110..1120 n1 leads 7/1",
        "ended before its last look",
    );
    // Only questions put in the final phase count.
    let early = "10 phase recovery; 1000..1150 n3 follows 7 n1; 1100 phase final; 1110..1120 n1 leads 7/1; 1110..1120 n2 follows 7 n1";
    check(early, "n3 did not answer");
}

#[test]
fn availability_is_measured() {
    let text = "0 phase faults; 10 n1 elected 1/1; 40 n1 deposed 1; 60 n2 elected 2/1; 100 phase heal";
    assert_eq!(figure(text, "recovery", "leaderless"), Some(30.0));
    assert_eq!(figure(text, "recovery", "failovers"), Some(1.0));
    assert_eq!(figure(text, "recovery", "failover p50"), Some(0.02));
    // The leader was stopped long before it heard of its successor.
    let paused = "0 phase faults; 0 n1 elected 1/1; 29..30 fault 1 pause n1; 60 n2 elected 2/1; 70..71 heal 1 resume n1; \
        72 n1 deposed 1; 100 phase heal";
    assert_eq!(figure(paused, "recovery", "leaderless"), Some(30.0));
    assert_eq!(figure(paused, "recovery", "failover max"), Some(0.03));
    // Nobody saw how long the service was gone, or anybody lead.
    let unseen = "0 phase faults; 0 n1 elected 1/1; 60 n2 elected 2/1; 72 n1 deposed 1; 100 phase heal";
    assert_eq!(figure(unseen, "recovery", "failovers"), Some(1.0));
    assert_eq!(figure(unseen, "recovery", "failovers unmeasured"), Some(1.0));
    assert_eq!(figure(unseen, "recovery", "failover p50"), None);
    assert_eq!(figure("0 phase faults; 100 phase heal", "recovery", "leaderless"), None);
}

fn faulty() -> Header {
    let mut header = header();
    header.plan.faults.kinds = vec![FaultKind::Kill];
    header
}

#[test]
fn enough_was_seen() {
    let text = "10 n1 elected 1/1; 20..30 fault 1 kill n1; 25 aim 1 hit; 26 aim 2 missed; 40..41 heal 1; 50 phase end";
    let v = verdict(&faulty(), "coverage", text);
    assert_eq!(v.validity, Validity::Valid, "{v:?}");
    assert_eq!(v.summary, "1 election and 1 fault (kill) were seen");
    valid("coverage", "10 n1 elected 1/1; 50 phase end");
    // No leader was hit, but a fault that was aimed at nobody in particular took effect.
    let other = "10 n1 elected 1/1; 20..30 fault 1 kill n1; 25..26 fault 2 pause n2; 27 aim 2 moved; 50 phase end";
    assert_eq!(verdict(&faulty(), "coverage", other).validity, Validity::Valid);
}

#[test]
fn a_process_may_end_while_its_disk_is_full() {
    let run = |exits: u64| {
        format!(
            "10 n1 elected 1/1; 20..30 fault 1 disk n1; {exits} n1 exited no room; 40..41 heal 1 start n1; 42 n1 started 2; \
             60 phase end"
        )
    };
    let mut header = faulty();
    header.plan.faults.kinds = vec![FaultKind::Disk];
    for (exits, valid) in [(19, false), (25, true), (35, true), (50, false)] {
        let v = verdict(&header, "coverage", &run(exits));
        assert_eq!(v.validity == Validity::Valid, valid, "{exits}: {v:?}");
        assert_eq!(
            v.summary.contains("a process ended by itself"),
            !valid,
            "{exits}: {v:?}"
        );
    }
}

#[test]
fn planned_kinds_that_took_no_effect_are_named() {
    let mut header = faulty();
    header.plan.faults.kinds = vec![FaultKind::Pause, FaultKind::Kill, FaultKind::Partition];
    let text = "10 n1 elected 1/1; 20..30 fault 1 pause n1; 40..41 heal 1; 50 phase end";
    let v = verdict(&header, "coverage", text);
    assert_eq!(v.validity, Validity::Valid);
    assert_eq!(
        v.summary,
        "1 election and 1 fault (pause) were seen; no partition and no kill took effect"
    );
    let script = r#"{"at":"1s","lasting":"1s","fault":"packet"}"#;
    header.plan.faults.kinds.clear();
    header.plan.script = vec![serde_json::from_str(script).unwrap()];
    let v = verdict(&header, "coverage", text);
    assert_eq!(
        v.summary,
        "1 election and 1 fault (pause) were seen; no packet fault took effect"
    );
}

#[test]
fn too_little_was_seen() {
    let check = |text: &str, why: &str| {
        let v = verdict(&faulty(), "coverage", text);
        assert_eq!(v.validity, Validity::Unknown, "{v:?}");
        // Exactly this reason: the others hold.
        assert!(v.summary.contains(why) && !v.summary.contains(';'), "{}", v.summary);
    };
    let kill = "20..30 fault 1 kill n1";
    check(&format!("{kill}; 50 phase end"), "nobody was seen to be elected");
    check("10 n1 elected 1/1; 50 phase end", "none took effect");
    check(&format!("10 n1 elected 1/1; {kill}"), "cut off");
    let base = format!("10 n1 elected 1/1; {kill}; 50 phase end");
    let astray = format!(
        "{base}; 21..22 fault 2 pause n2; 23 aim 1 moved; 24 aim 2 moved; 25 aim 3 missed; 26 aim 4 hit non-leader"
    );
    check(&astray, "3 faults were aimed at a leader, and none hit one");
    check(&format!("{base}; 31..32 fault 2 pause n1 fail"), "did not take effect");
    check(
        &format!("{base}; 31..32 fault 2 pause n1 lost"),
        "outcome of fault 2 (pause) was never recorded",
    );
    check(&format!("{base}; 31..32 heal 1 fail"), "was not healed");
    check(&format!("{base}; 31 aborted interrupted"), "aborted: interrupted");
    check(&format!("{base}; 31 n2 exited status 1"), "n2: status 1");
    check(
        &format!("{base}; 31 n2 garbage x; 32 n3 garbage y"),
        "(2 times), first: n2: x",
    );
}
