//! Ids, jobs, the lock, and the register.
use super::{Parsed, Words, asked, hazard, verdict};
use splitbrain_core::plan::Workload;
use splitbrain_core::{Body, Guarantee, Header, Holds, Kind, Name, Process, Reign, Token, Validity};

/// What the workloads beside leadership ask.
pub(super) fn parse(asked: Process, host: Name, word: &str, w: &mut Words) -> Parsed {
    let end = |w: &mut Words| match w.next() {
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        other => panic!("{other}"),
    };
    match word {
        "gives" => {
            let body = |id| Body::Next { host, id };
            let end = match w.next() {
                "info" => (Kind::Info, body(None)),
                id => (Kind::Ok, body(Some(id.parse().unwrap()))),
            };
            (asked, body(None), Some(end))
        }
        "runs" => {
            let job = w.number();
            let body = |token, seq| Body::Run { host, job, token, seq };
            let kind = end(w);
            let place = w.0.next().map(|place| place.split_once('@').unwrap());
            let token = place.map(|(token, _)| Token(token.parse().unwrap()));
            let seq = place.map(|(_, seq)| seq.parse().unwrap());
            (asked, body(None, None), Some((kind, body(token, seq))))
        }
        "holds" => {
            let body = |reign, token| Body::Acquire { host, reign, token };
            let (reign, token) = (Reign(w.number()), Token(w.prefixed("t")));
            (
                asked,
                body(None, None),
                Some((Kind::Ok, body(Some(reign), Some(token)))),
            )
        }
        "busy" => {
            let body = Body::Acquire {
                host,
                reign: None,
                token: None,
            };
            (asked, body.clone(), Some((Kind::Fail, body)))
        }
        "releases" => (asked, Body::Release { host }, Some((Kind::Ok, Body::Release { host }))),
        "reads" => {
            let body = |value| Body::Get { host, value };
            (asked, body(None), Some((Kind::Ok, body(w.next().parse().ok()))))
        }
        "sets" => {
            let value = w.number();
            let body = Body::Set { host, value };
            (asked, body.clone(), Some((end(w), body)))
        }
        "swaps" => {
            let (from, to) = (w.next().parse().ok(), w.number());
            let body = Body::Cas { host, from, to };
            (asked, body.clone(), Some((end(w), body)))
        }
        other => panic!("{other}"),
    }
}

fn judge(workload: Workload, checker: &str, text: &str) -> (Validity, u64, String) {
    let v = verdict(&asked(workload), checker, text);
    let title = v.anomalies.first().map_or(v.summary, |a| a.title.clone());
    (v.validity, v.total, title)
}

#[track_caller]
fn valid(workload: Workload, checker: &str, text: &str) {
    let (validity, total, title) = judge(workload, checker, text);
    assert_eq!((validity, total), (Validity::Valid, 0), "{title}");
}

#[track_caller]
fn invalid(workload: Workload, checker: &str, text: &str, expected: &str) {
    let (validity, total, title) = judge(workload, checker, text);
    assert_eq!((validity, total), (Validity::Invalid, 1), "{title}");
    assert!(title.contains(expected), "{title}");
}

#[track_caller]
fn unknown(workload: Workload, checker: &str, text: &str, expected: &str) {
    let (validity, _, summary) = judge(workload, checker, text);
    assert_eq!(validity, Validity::Unknown, "{summary}");
    assert!(summary.contains(expected), "{summary}");
}

fn unpromised(workload: Workload, guarantee: Guarantee) -> Header {
    let mut header = asked(workload);
    let promise = header.promises.iter_mut().find(|p| p.guarantee == guarantee);
    promise.unwrap().holds = Holds::Never;
    header
}

#[test]
fn no_id_is_handed_out_twice() {
    let sequence = Workload::Sequence;
    let check = |text: &str| valid(sequence, "unique-ids", text);
    check("10..20 n1 gives 1; 15..18 n2 gives 3; 30..40 n1 gives 2");
    // Nobody got the id of an info.
    check("10..20 n1 gives 1; 30..40 n1 gives info; 50..60 n2 gives 2; 70..80 n1 gives info");
    let twice = "10..20 n1 gives 1; 15..40 n2 gives 1";
    invalid(sequence, "unique-ids", twice, "n1 and n2 both handed out 1");
    hazard(
        &unpromised(sequence, Guarantee::UniqueIds),
        "unique-ids",
        twice,
        "both handed out 1",
    );
    invalid(
        sequence,
        "unique-ids",
        "10..20 n1 gives 1; 30..40 n1 gives 1",
        "n1 handed out 1 twice",
    );
    unknown(sequence, "unique-ids", "10..20 n1 gives info", "no id was handed out");
}

#[test]
fn ids_rise_in_real_time() {
    let sequence = Workload::Sequence;
    let check = |text: &str| valid(sequence, "rising-ids", text);
    check("10..20 n1 gives 1; 30..40 n2 gives 2; 50..60 n1 gives 9");
    // Asked for side by side.
    check("10..40 n1 gives 1; 20..30 n2 gives 2; 50..60 n1 gives 3");
    // The same once more is the other checker's.
    check("10..20 n1 gives 1; 30..40 n2 gives 1");
    let fell = "10..20 n1 gives 5; 30..40 n2 gives 4";
    invalid(sequence, "rising-ids", fell, "n2 handed out 4 after 5 was out");
    hazard(
        &unpromised(sequence, Guarantee::RisingIds),
        "rising-ids",
        fell,
        "after 5 was out",
    );
    // The answer came before the question, if by no more than its place.
    invalid(
        sequence,
        "rising-ids",
        "10..20 n1 gives 5; 20..40 n2 gives 4",
        "after 5",
    );
}

#[test]
fn a_job_runs_once() {
    let jobs = Workload::Jobs;
    let check = |text: &str| valid(jobs, "exactly-once", text);
    check("10..20 n1 runs 1 ok 5@1; 15 stored 1 t5 v1 base0 n1");
    // Unknown, and it ran, late; unknown, and it never ran.
    check("10..20 n1 runs 1 info; 30..40 n1 runs 2 info; 90 stored 1 t5 v2 base0 n1");
    // Refused by one, run by the other.
    check("10..20 n1 runs 1 fail; 30..40 n2 runs 1 ok 5@1; 35 stored 1 t5 v1 base0 n2");
    // Refused, and run when it was offered again.
    check("10..20 n1 runs 1 fail; 30..40 n1 runs 1 info; 50 stored 1 t5 v1 base0 n1");
    let twice =
        "10..20 n1 runs 1 info; 15 stored 1 t5 v1 base0 n1; 30..40 n2 runs 1 ok 6@2; 35 stored 2 t6 v1 base1 n2";
    invalid(jobs, "exactly-once", twice, "job 1 ran twice, by n1 and n2");
    hazard(
        &unpromised(jobs, Guarantee::ExactlyOnce),
        "exactly-once",
        twice,
        "ran twice",
    );
    let lost = "10..20 n1 runs 1 ok 5@1; 15 stored 1 t5 v2 base0 n1";
    invalid(jobs, "exactly-once", lost, "n1 acknowledged job 1, which never ran");
    let denied = "10..20 n1 runs 1 fail; 30..40 n1 runs 1 fail; 50 stored 1 t5 v1 base0 n1";
    invalid(jobs, "exactly-once", denied, "said that job 1 failed, and ran it");
    // A lie is one whatever was promised.
    let v = verdict(&unpromised(jobs, Guarantee::ExactlyOnce), "exactly-once", denied);
    assert_eq!(v.validity, Validity::Invalid);
}

#[test]
fn what_the_storage_did_not_tell_is_unknown() {
    let check = |text: &str, why: &str| unknown(Workload::Jobs, "exactly-once", text, why);
    check("10..20 n1 runs 1 fail", "no job was run");
    check(
        "10..20 n1 runs 1 ok 5@1; 30 phase final; 40 phase end",
        "never told of 1 acknowledged run",
    );
    check(
        "10..20 n1 runs 1 ok 5@1; 15 stored 2 t5 v2 base0 n1",
        "1 line of the storage are missing",
    );
    check(
        "10..20 n1 runs 1 ok 5@1; 30..40 fault 1 kill storage",
        "the storage died",
    );
}

#[test]
fn a_lock_is_counted_and_held_in_living_reigns() {
    let lock = Workload::Lock;
    let text = "10..30 n1 holds 1 t5; 20 n1 elected 5/1; 40..45 n2 busy; 50..60 n1 releases; 55 n1 deposed 1; \
                70..90 n2 holds 1 t6; 80 n2 elected 6/1; 95 n2 deposed 1";
    valid(lock, "lock", text);
    let v = verdict(&asked(lock), "lock", text);
    assert_eq!(
        v.summary,
        "the lock was got 2 times, refused 1 time and left unknown 0 times; 1 hold was lost while held"
    );
    unknown(lock, "lock", "10..20 n1 busy", "nobody was seen to get the lock");
    let over = "5 n1 elected 5/1; 8 n1 deposed 1; 10..20 n1 holds 1 t5";
    invalid(
        lock,
        "lock",
        over,
        "n1 said that it holds the lock in a reign that was over",
    );
    valid(
        lock,
        "lock",
        "5 n1 elected 5/1; 8 n1 deposed 1; 9 n1 started 2; 10..20 n1 holds 1 t5",
    );
    valid(lock, "lock", "5 n1 elected 5/1; 10..20 n1 holds 1 t5; 15 n1 deposed 1");
}

#[test]
fn a_held_lock_is_evidence_of_belief() {
    let lock = Workload::Lock;
    let both = "10 n1 elected 5/1; 20 n2 elected 6/1; 30..40 n1 holds 1 t5; 50..60 n2 holds 1 t6";
    invalid(lock, "exclusion", both, "both led for at least 10");
    // Without the line of its reign it claims nothing.
    valid(lock, "leader-per-epoch", "10 n1 elected 5/1; 30..40 n2 holds 2 t5");
    // Tokens that fall from one holder to the next, promised or not.
    let fell = "5..8 n2 follows 4; 10 n1 elected 5/1 t9; 20..30 n1 holds 1 t9; 32 n1 deposed 1; 35..38 n2 follows 5; \
                40 n2 elected 6/1 t8; 50..60 n2 holds 1 t8";
    invalid(
        lock,
        "tokens-in-real-time",
        fell,
        "began to lead with token 8 after token 9",
    );
    let header = unpromised(lock, Guarantee::TokensInRealTime);
    hazard(&header, "tokens-in-real-time", fell, "with token 8");
}

#[test]
fn the_register_is_one_copy() {
    let check = |text: &str| valid(Workload::Register, "linearizable", text);
    check("10..20 n1 reads -; 30..40 n1 sets 1 ok; 50..60 n2 reads 1; 70..80 n2 swaps 1 2 ok; 90..95 n3 reads 2");
    // Side by side either value may come first.
    check("10..40 n1 sets 1 ok; 20..30 n2 reads -; 20..50 n3 reads 1");
    // Without an answer: late, or never. A failure that is no mismatch says nothing.
    check("10..20 n1 sets 1 info; 30..40 n2 reads -; 50..60 n2 reads 1; 70..80 n1 sets 2 info; 90..95 n2 reads 1");
    check("10..20 n1 sets 1 fail; 30..40 n2 reads -");
    check("10..20 n1 sets 1 ok; 30..40 n2 swaps 5 6 fail; 50..60 n3 reads 1");
    unknown(
        Workload::Register,
        "linearizable",
        "10..20 n1 sets 1 info",
        "no operation on the register was answered",
    );
}

#[test]
fn a_register_that_is_not_one_copy_is_explained() {
    let check = |text: &str, title: &str| invalid(Workload::Register, "linearizable", text, title);
    let stale = "10..20 n1 sets 1 ok; 30..40 n1 sets 2 ok; 50..60 n2 reads 1";
    check(stale, "no order explains that n2 read 1");
    let v = verdict(&asked(Workload::Register), "linearizable", stale);
    assert_eq!(v.anomalies[0].evidence, [0, 1, 2, 3, 4, 5], "{v:#?}");
    check("10..20 n1 reads 7", "n1 read 7");
    check(
        "10..20 n1 sets 1 ok; 30..40 n2 swaps 1 2 fail",
        "n2 found something else than 1",
    );
    check("10..20 n1 sets 1 fail; 30..40 n2 reads 1", "n2 read 1");
    // An update that was acknowledged and lost.
    check(
        "10..20 n1 sets 1 ok; 30..40 n1 swaps 1 2 ok; 50..60 n2 reads 2; 70..80 n3 reads 1",
        "n3 read 1",
    );
    let header = unpromised(Workload::Register, Guarantee::Linearizable);
    hazard(&header, "linearizable", stale, "n2 read 1");
}
