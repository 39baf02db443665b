//! The storage's order, damage, lock-out, and what members applied.
use super::{hazard, header, history, holds, invalid, judge, unknown, valid, verdict};
use splitbrain_core::plan::Storage;
use splitbrain_core::{Guarantee, Holds, Validity};

#[test]
fn writes_are_what_their_answers_say() {
    let check = |text: &str| valid("storage-order", text);
    check("10..30 n1 writes 41 ok 5@1; 20 stored 1 t5 v41 base0 n1");
    // The two hosts' lines may come in either order.
    check("10..15 n1 writes 41 ok 5@1; 20 stored 1 t5 v41 base0 n1");
    // Nobody knows of an info, so it may land late, twice, or never.
    check("10..15 n1 writes 41 info; 90 stored 1 t5 v41 base0 n1; 91 stored 2 t5 v41 base0 n1");
    check("10..15 n1 writes 41 info; 20 stored 1 t5 v42 base0 n1");
    check("10..15 n1 writes 41 fail; 12 refused t5 h6 v41 n1; 20 stored 1 t6 v42 base0 n2");
    // The last acknowledgement may outrun the storage's last line, once the last look began.
    check("10 stored 1 t5 v1 base0 n1; 20 phase final; 21..25 n1 writes 41 ok 5@2; 30 phase end");
}

#[test]
fn lies_about_writes() {
    let check = |text: &str, title: &str| invalid("storage-order", text, title);
    let failed = "n1's write of 41 failed and is stored all the same";
    check("10..30 n1 writes 41 fail; 20 stored 1 t5 v41 base0 n1", failed);
    check("10..30 n1 writes 41 fail; 90 stored 1 t5 v41 base0 n1", failed);
    let other = "n1 acknowledged number 1 as what it is not";
    check("10..30 n1 writes 41 ok 5@1; 20 stored 1 t5 v40 base0 n1", other);
    check("10..15 n1 writes 41 ok 5@1; 20 stored 1 t6 v41 base0 n1", other);
    let twice = "10..30 n1 writes 41 ok 5@1; 20 stored 1 t5 v41 base0 n1; 40..50 n1 writes 42 ok 5@1";
    check(twice, "n1 acknowledged a write that is not in the storage");
    // A candidate's lie is no matter of promises.
    let unpromised = holds(Guarantee::StorageOrder, Holds::Never);
    let v = verdict(
        &unpromised,
        "storage-order",
        "10..30 n1 writes 41 fail; 20 stored 1 t5 v41 base0 n1",
    );
    assert_eq!(v.validity, Validity::Invalid);
}

#[test]
fn tokens_fall_in_the_fenced_storage() {
    let text = "10 stored 1 t6 v1 base0 n2; 20 stored 2 t5 v2 base1 n1; 30 stored 3 t5 v3 base2 n1";
    invalid("storage-order", text, "the fenced storage took token 5 after 6");
    let mut unfenced = header();
    unfenced.plan.storage = Storage::Unfenced;
    assert_eq!(verdict(&unfenced, "storage-order", text).total, 0);
    invalid(
        "storage-order",
        "10 refused t6 h6 v1 n1",
        "refused token 6, which was not stale",
    );
    let again = "10 stored 1 t6 v1 base0 n2; 20 stored 1 t6 v2 base1 n2";
    invalid("storage-order", again, "the number 1 again");
}

#[test]
fn a_guarded_storage_is_fenced_and_tells_late() {
    let mut guarded = header();
    guarded.plan.storage = Storage::Guarded;
    let fell = "10 stored 1 t6 v1 base0 n2; 20 stored 2 t5 v2 base1 n1";
    assert_eq!(verdict(&guarded, "storage-order", fell).validity, Validity::Invalid);
    assert_eq!(verdict(&guarded, "no-damage", fell).validity, Validity::Invalid);
    // All acknowledgements come before the storage's first word, across a change of leaders.
    let late = "10..15 n1 writes 41 ok 5@1; 20..25 n2 writes 42 ok 6@2; 30..35 n2 writes 43 ok 6@3; \
                300 stored 1 t5 v41 base0 n1; 301 stored 2 t6 v42 base1 n2; 302 stored 3 t6 v43 base2 n2; \
                310 phase final; 320 phase end";
    for checker in ["storage-order", "no-damage", "token-per-reign"] {
        let found = verdict(&guarded, checker, late);
        assert_eq!((found.validity, found.total), (Validity::Valid, 0), "{found:#?}");
    }
    // Only its writer hears of a write that was refused.
    let mut events = history("10 stored 1 t6 v1 base0 n2; 20..25 n1 writes 41 fail; 30..35 n1 writes 42 fail");
    events.last_mut().unwrap().error = Some("stale-token".to_string());
    for checker in ["storage-order", "no-damage"] {
        let verdicts = judge(&guarded, &events);
        let found = verdicts.iter().find(|v| v.checker == checker).unwrap();
        let refused = found.figures.iter().find(|f| f.name == "stale writes refused");
        assert_eq!(refused.unwrap().value, 1.0, "{found:#?}");
    }
}

#[test]
fn a_storage_that_cannot_be_believed() {
    let check = |text: &str, why: &str| unknown("storage-order", text, why);
    check("10 n1 elected 1/1", "the storage took no write");
    check(
        "10 stored 1 t6 v1 base0 n2; 20 stored 3 t6 v2 base1 n2",
        "1 line of the storage are missing",
    );
    let unheard = "10..15 n1 writes 41 ok 5@1; 20 phase final; 30 phase end";
    check(unheard, "never told of 1 acknowledged write");
    let forgot = "5 storage started 1; 10 stored 1 t6 v1 base0 n2; 20 storage started 2; 30 stored 1 t5 v2 base0 n1";
    check(forgot, "the storage died");
    unknown("no-damage", forgot, "the storage died");
    check(
        "10 stored 1 t6 v1 base0 n2; 20..30 fault 1 kill storage",
        "the storage died",
    );
}

#[test]
fn an_old_leader_writes_after_a_new_one() {
    let check = |text: &str, title: &str| invalid("no-damage", text, title);
    let text = "10 stored 1 t5 v1 base0 n1; 20 stored 2 t6 v2 base1 n2; 30 stored 3 t5 v3 base2 n1; 40 stored 4 t5 v4 base3 n1; \
                25..45 n1 writes 3 ok 5@3";
    check(
        text,
        "2 writes of old leader n1 (token 5) after the first of n2 (token 6)",
    );
    let v = verdict(&header(), "no-damage", text);
    assert_eq!(v.anomalies[0].evidence, [1, 3, 4, 5]);
    assert!(
        v.anomalies[0]
            .story
            .iter()
            .any(|s| s.contains("was told that its write succeeded"))
    );
    hazard(
        &holds(Guarantee::NoDamage, Holds::Never),
        "no-damage",
        text,
        "old leader n1",
    );
}

#[test]
fn the_story_of_a_stale_write_tells_how_it_came_about() {
    let story = |text: &str| {
        let v = verdict(&header(), "no-damage", text);
        (v.anomalies[0].story.clone(), v.anomalies[0].evidence.clone())
    };
    let newer = "40 stored 1 t6 v2 base0 n2";
    let paused = format!(
        "10 n1 elected 5/1; 15..70 n1 writes 1 ok 5@2; 20..21 fault 1 pause n1; 50..51 heal 1 resume n1; \
         55 n1 deposed 1; {newer}; 60 stored 2 t5 v1 base0 n1; 65 n1 deposed 1"
    );
    let (told, evidence) = story(&paused);
    let expected = [
        "n1 was asked to write (#1).",
        "n1 was paused (#3).",
        "The storage took number 1 from n2 with token 6 (#4).",
        "n1 went on (#6).",
        "n1 gave up its reign (#7), but the write was already under way.",
        "After that the storage took number 2 from n1 with the older token 5 (#8).",
        "n1 was told that its write succeeded (#10).",
    ];
    assert_eq!(told, expected);
    assert_eq!(evidence, [1, 3, 4, 6, 7, 8, 10]);
    // Asked for after the reign was given up, or nobody knows when.
    let after =
        format!("10 n1 elected 5/1; {newer}; 45 n1 deposed 1; 50..70 n1 writes 1 info; 60 stored 2 t5 v1 base0 n1");
    assert!(story(&after).0.contains(&"n1 gave up its reign (#2).".to_string()));
    // What befell it before its reign, after the write, in another reign, or what befell another, is no cause.
    for other in [
        "5..6 fault 1 pause n1; 7..8 heal 1 resume n1",
        "61..62 fault 1 pause n1; 63 n1 deposed 1",
        "11..12 fault 1 pause n2",
        "11 n1 deposed 7",
        "5 n1 deposed 1",
        "11..12 fault 1 pause n1 fail",
    ] {
        let text = format!("10 n1 elected 5/1; {newer}; {other}; 60 stored 2 t5 v1 base0 n1");
        assert_eq!(story(&text).0.len(), 2, "{other}");
    }
}

#[test]
fn leaders_that_take_turns_do_no_damage() {
    let check = |text: &str| valid("no-damage", text);
    check("10 stored 1 t5 v1 base0 n1; 20 stored 2 t5 v2 base0 n1; 30 stored 3 t6 v3 base2 n2; 40 refused t5 h6 v4 n1");
    // The answers come in another order than the storage's.
    check(
        "10 stored 1 t5 v1 base0 n1; 20 stored 2 t6 v2 base1 n2; 15..30 n2 writes 2 ok 6@2; 5..40 n1 writes 1 ok 5@1",
    );
    unknown("no-damage", "10 n1 elected 1/1", "the storage took no write");
    let v = verdict(
        &header(),
        "no-damage",
        "10 stored 1 t5 v1 base0 n1; 40 refused t4 h5 v4 n2",
    );
    assert!(v.summary.ends_with("fencing refused 1 stale write"), "{}", v.summary);
}

#[test]
fn a_lost_update() {
    // The new leader looked before the old one's last write, so its look did not raise the fence as it should have.
    let late = "10 stored 1 t5 v1 base0 n1; 20 stored 2 t5 v2 base1 n1; 30 stored 3 t6 v3 base1 n2; 31 stored 4 t6 v4 base1 n2";
    invalid(
        "no-damage",
        late,
        "n2 (token 6) overwrote number 2 of n1 (token 5) unseen",
    );
    let shared = "10 stored 1 t5 v1 base0 n1; 30 stored 2 t5 v2 base0 n2";
    invalid(
        "no-damage",
        shared,
        "n2 (token 5) overwrote number 1 of n1 (token 5) unseen",
    );
}

const AGREED: &str = "10 n2 elected 6/1; 50 phase recovery; 60 phase final; \
    70..71 n1 leads 7/1 t4; 70..71 n2 follows 7 n1; 70..71 n3 follows 7 n1; 80 phase end";

#[test]
fn the_agreed_leader_is_locked_out() {
    let check = |text: &str| valid("lock-out", &format!("{AGREED}; {text}"));
    check("20 refused t5 h6 v1 n1");
    check("20 refused t4 h6 v1 n2");
    // The storage's own fault, and storage-order's to tell.
    check("20 refused t4 h4 v1 n1");
    let refused = "20 stored 1 t6 v1 base0 n2; 30 refused t4 h6 v2 n1; 40 refused t4 h6 v3 n1";
    invalid(
        "lock-out",
        &format!("{AGREED}; {refused}"),
        "n1 leads and is locked out by the higher token 6",
    );
    // Who writes without a token is refused by nobody.
    valid("lock-out", &AGREED.replace("t4", "t0"));
    // Without agreement the refused one may just be an old leader.
    unknown("lock-out", refused, "no leader on whom all agree");
}

#[test]
fn members_apply_the_same() {
    let check = |text: &str| valid("applied-agreement", text);
    check("10 n1 applied 1 1 11; 20 n2 applied 1 1 11; 30 n1 applied 2 1 22; 40 n3 applied 9 4 99");
    check("10 n1 applied 1 1 11; 20 n1 started 2; 30 n1 applied 1 1 11");
    let digest = "10 n1 applied 1 1 11; 20 n2 applied 1 1 12; 30 n1 applied 2 1 22; 40 n2 applied 2 1 23";
    invalid("applied-agreement", digest, "n1 and n2 applied different entries 1");
    invalid(
        "applied-agreement",
        "10 n1 applied 1 1 11; 20 n2 applied 1 2 11",
        "different entries 1",
    );
    let v = verdict(&header(), "applied-agreement", digest);
    assert!(v.anomalies[0].story[0].contains("digest 11 (#0)"), "{v:#?}");
    let lives = "10 n1 applied 1 1 11; 20 n1 started 2; 30 n1 applied 1 1 12";
    invalid("applied-agreement", lives, "n1 applied two different entries 1");
    unknown("applied-agreement", "10 n1 elected 1/1", "no member was seen to apply");
}
