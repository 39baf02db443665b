//! Small histories as others write them, and what is wrong with malformed ones.
use crate::models::{Budget, FailedCas, Judgement, Kind, Options, judge, prepare};
use splitbrain_core::Validity::{self, Invalid, Unknown, Valid};
use splitbrain_core::formats::{OpEvent, Reader, detect};

fn events(text: &str) -> Vec<OpEvent> {
    let format = detect(text.as_bytes()).expect("a known format");
    let mut reader = Reader::new(text.as_bytes(), format).expect("a history");
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().expect("a well-formed line") {
        events.push(event);
    }
    events
}

fn judged(model: &str, text: &str, options: &Options) -> Result<Judgement, String> {
    let kind = Kind::named(model)?;
    judge(kind, events(text), options, Budget::default(), &|| false)
}

fn check(model: &str, validity: Validity, text: &str) {
    let judgement = judged(model, text, &Options::default()).expect("a well-formed history");
    assert_eq!(judgement.validity, validity, "{model}: {}\n{text}", judgement.summary);
}

fn refused(model: &str, text: &str, why: &str) {
    let told = judged(model, text, &Options::default()).expect_err("a malformed history");
    assert!(told.contains(why), "{told} lacks {why}");
}

const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:write\t1
INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 1\t:info\t:cas\t:timed-out
INFO  jepsen.util - 0\t:ok\t:write\t1
INFO  jepsen.util - 2\t:invoke\t:read\tnil
";

#[test]
fn what_timed_out_may_happen_late_or_never() {
    for (read, validity) in [("1", Valid), ("2", Valid), ("nil", Invalid), ("3", Invalid)] {
        check(
            "cas-register",
            validity,
            &format!("{LOG}INFO  jepsen.util - 2\t:ok\t:read\t{read}\n"),
        );
    }
}

#[test]
fn a_failed_comparison_is_believed_or_not() {
    let text = "[{:process 0, :type :invoke, :f :write, :value 3}
 {:process 0, :type :ok, :f :write, :value 3}
 {:process 1, :type :invoke, :f :cas, :value [3 4]}
 {:process 1, :type :fail, :f :cas, :value [3 4]}]";
    check("cas-register", Invalid, text);
    let failed_cas = FailedCas::Ignore;
    let options = Options {
        failed_cas,
        ..Options::default()
    };
    let judgement = judged("cas-register", text, &options).expect("a well-formed history");
    assert_eq!(judgement.validity, Valid);
}

#[test]
fn keys_are_judged_apart() {
    let text = "{:process 0, :type :invoke, :f :append, :key \"a\", :value \"x\"}
{:process 1, :type :invoke, :f :get, :key \"b\", :value nil}
{:process 1, :type :ok, :f :get, :key \"b\", :value \"\"}
{:process 0, :type :ok, :f :append, :key \"a\", :value \"x\"}
{:process 1, :type :invoke, :f :get, :key \"a\", :value nil}
";
    check(
        "kv",
        Valid,
        &format!("{text}{{:process 1, :type :ok, :f :get, :key \"a\", :value \"x\"}}"),
    );
    let stale = format!("{text}{{:process 1, :type :ok, :f :get, :key \"a\", :value \"\"}}");
    check("kv", Invalid, &stale);
    let judgement = judged("kv", &stale, &Options::default()).expect("a well-formed history");
    assert!(judgement.summary.contains("key \"a\""), "{}", judgement.summary);
}

#[test]
fn a_queue_may_be_empty_in_two_ways() {
    let put = "{:process 0, :type :invoke, :f :enqueue, :value 1}
{:process 0, :type :ok, :f :enqueue, :value 1}
{:process 1, :type :invoke, :f :dequeue}
";
    check(
        "fifo-queue",
        Valid,
        &format!("{put}{{:process 1, :type :ok, :f :dequeue, :value 1}}"),
    );
    check(
        "fifo-queue",
        Invalid,
        &format!("{put}{{:process 1, :type :ok, :f :dequeue, :value nil}}"),
    );
    let empty = "{:process 1, :type :fail, :f :dequeue, :value nil, :error :empty}";
    check("fifo-queue", Invalid, &format!("{put}{empty}"));
    let other = "{:process 1, :type :fail, :f :dequeue, :value nil, :error :unreachable}";
    check("fifo-queue", Valid, &format!("{put}{other}"));
}

#[test]
fn a_history_without_answers_says_nothing() {
    check("register", Unknown, "{:process 0, :type :invoke, :f :write, :value 1}");
    check(
        "register",
        Unknown,
        "[{:process :nemesis, :type :info, :f :start, :value nil}]",
    );
}

#[test]
fn malformed_use_is_named_with_its_line() {
    let write = "{:process 0, :type :invoke, :f :write, :value 1}\n";
    refused(
        "register",
        &format!("{write}{{:process 0, :type :ok, :f :read, :value 1}}"),
        "line 2: process 0 asked write in line 1",
    );
    refused(
        "register",
        &format!("{write}{{:process 1, :type :ok, :f :write, :value 1}}"),
        "line 2: process 1 has asked nothing",
    );
    refused(
        "register",
        "{:process 0, :type :invoke, :f :push, :value 1}",
        "line 1: push is no operation of register",
    );
    let cas = "{:process 0, :type :invoke, :f :cas, :value 1}\n{:process 0, :type :ok, :f :cas, :value 1}";
    refused("cas-register", cas, "line 2: cas of 1: it takes a pair");
    refused(
        "kv",
        "{:process 0, :type :invoke, :f :get, :value 1}",
        "line 1: get takes a key",
    );
    let keyed =
        "{:process 0, :type :invoke, :f :read, :value [1 nil]}\n{:process 0, :type :ok, :f :read, :value [2 7]}";
    refused(
        "register-map",
        keyed,
        "line 2: read was asked in line 1 of another key than 2",
    );
}

#[test]
fn operations_of_others_can_be_left_out() {
    let text = "{:process 0, :type :invoke, :f :push, :value 1}
{:process 0, :type :ok, :f :push, :value 1}
{:process 0, :type :invoke, :f :read, :value nil}
{:process 0, :type :ok, :f :read, :value nil}";
    let options = Options {
        skip_others: true,
        ..Options::default()
    };
    let judgement = judged("register", text, &options).expect("a well-formed history");
    assert_eq!((judgement.validity, judgement.operations), (Valid, 1));
}

#[test]
fn a_call_knows_its_lines() {
    let prepared = prepare(Kind::CasRegister, events(LOG), &Options::default()).expect("a well-formed history");
    let told: Vec<_> = (0..prepared.calls(0)).map(|call| prepared.told(0, call)).collect();
    let told: Vec<_> = told
        .iter()
        .map(|(s, words)| (s.process, s.asked, s.answered, words.as_str()))
        .collect();
    assert_eq!(told, [(0, 1, 4, "write 1"), (1, 2, 0, "cas 1 to 2")]);
}

#[test]
fn a_string_that_grows_for_ever_is_judged() {
    let mut text = String::new();
    for n in 0..20_000 {
        let append = format!(":f :append, :key 1, :value \"{n} \"}}\n");
        text += &format!("{{:process 0, :type :invoke, {append}{{:process 0, :type :ok, {append}");
    }
    let whole: String = (0..20_000).map(|n| format!("{n} ")).collect();
    text += "{:process 0, :type :invoke, :f :get, :key 1, :value nil}\n";
    check(
        "kv",
        Valid,
        &format!("{text}{{:process 0, :type :ok, :f :get, :key 1, :value \"{whole}\"}}"),
    );
    check(
        "kv",
        Invalid,
        &format!("{text}{{:process 0, :type :ok, :f :get, :key 1, :value \"{whole} \"}}"),
    );
}

#[test]
fn parts_can_be_judged_on_several_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let prepared = prepare(Kind::Kv, Vec::new(), &Options::default()).expect("an empty history");
    shared(&prepared);
    assert_eq!(prepared.merge(&[]).validity, Unknown);
}
