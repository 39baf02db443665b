//! Histories that others recorded, and what they read as.
use splitbrain_core::formats::{Format, OpEvent, Reader, Speaker, Value, detect};
use splitbrain_core::{Kind, Nanos};

/// All events and whether the file was cut off, or the error.
fn read(format: Format, text: &[u8]) -> Result<(Vec<OpEvent>, bool), String> {
    let mut reader = Reader::new(text, format).map_err(|e| e.to_string())?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().map_err(|e| e.to_string())? {
        events.push(event);
    }
    // However the file comes in parts, it reads the same.
    for size in [1, 2, 7] {
        let parts = std::io::BufReader::with_capacity(size, text);
        let mut again = Reader::new(parts, format).map_err(|e| e.to_string())?;
        for event in &events {
            assert_eq!(again.next_event().unwrap().as_ref(), Some(event));
        }
        assert_eq!(again.next_event().unwrap(), None);
    }
    Ok((events, reader.cut_off().is_some()))
}

/// Each event as `line process kind f key value error`.
fn check(format: Format, text: &str, expected: &[&str]) {
    let (events, cut_off) = read(format, text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert!(!cut_off, "{text}");
    assert_eq!(events.iter().map(words).collect::<Vec<_>>(), expected, "{text}");
}

fn words(event: &OpEvent) -> String {
    let process = match &event.process {
        Speaker::Client(n) => n.to_string(),
        Speaker::Other(name) => format!(":{name}"),
    };
    let kind = format!("{:?}", event.kind).to_lowercase();
    let mut all = format!("{} {process} {kind} {} {}", event.line, event.f, value(&event.value));
    if let Some(key) = &event.key {
        all += &format!(" key={}", value(key));
    }
    if let Some(error) = &event.error {
        all += &format!(" error={error}");
    }
    all
}

fn value(v: &Value) -> String {
    match v {
        Value::Nil => "nil".to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(all) => format!("({})", all.iter().map(value).collect::<Vec<_>>().join(" ")),
    }
}

fn fails(format: Format, text: &str, expected: &str) {
    let error = read(format, text.as_bytes()).expect_err(text);
    assert!(error.contains(expected), "{text}: {error}");
}

#[test]
fn edn_is_a_vector_or_a_list_or_maps_alone() {
    let (a, b) = (
        "{:process 0, :type :invoke, :f :read, :value nil}",
        "{:type :ok :process 0 :f :read :value 4}",
    );
    let expected = ["1 0 invoke read nil", "2 0 ok read 4"];
    for text in [
        format!("[{a}\n {b}]"),
        format!("({a}\n{b}\n)\n; the end\n"),
        format!("{a}\n{b}\n"),
        format!("\u{feff}[{a},,,\r\n{b}] #_ nothing"),
        format!("[#jepsen.history.Op{a}\n ^{{:line 3}} {b}]"),
        format!("[{a} ; one }} here\n #_{b} #_ #_ 1 2 {b}]"),
    ] {
        check(Format::Edn, &text, &expected);
    }
    check(Format::Edn, "", &[]);
    check(Format::Edn, " [ ] ", &[]);
}

fn edn_value(spelling: &str, expected: &str) {
    let text = format!("{{:process 0 :type :ok :f :x :value {spelling}}}");
    check(Format::Edn, &text, &[&format!("1 0 ok x {expected}")]);
}

#[test]
fn edn_values_of_every_kind() {
    for (spelling, expected) in [
        ("nil", "nil"),
        ("true", "true"),
        ("false", "false"),
        ("-7", "-7"),
        ("+7", "7"),
        ("7N", "7"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808N", "\"9223372036854775808N\""),
        ("1/2", "\"1/2\""),
        ("1.5e-3M", "\"1.5e-3M\""),
        ("0x1f", "\"0x1f\""),
        ("010", "\"010\""),
        (":a/b-c", "\"a/b-c\""),
        ("sym.bol$1", "\"sym.bol$1\""),
        ("-", "\"-\""),
        ("\\a", "\"a\""),
        ("\\newline", r#""\n""#),
        ("\\(", "\"(\""),
        ("\\u00e9", "\"é\""),
        (r#""a\"b\\c\n\u00e9\t\101""#, r#""a\"b\\c\né\tA""#),
        (r#""\ud83e\udd80""#, "\"🦀\""),
        ("\"two\nlines\"", r#""two\nlines""#),
        ("#\"a\\\"b\"", r#""a\\\"b""#),
        ("##Inf", "\"##Inf\""),
        ("[]", "()"),
        ("[1 [2 (3)] #{4}]", "(1 (2 (3)) (4))"),
        ("{:a 1, [2] nil}", "((\"a\" 1) ((2) nil))"),
        ("#inst \"2026-01-01\"", "\"2026-01-01\""),
        (
            "#object[java.lang.Thread 0x1f \"Thread[#1]\"]",
            "(\"java.lang.Thread\" \"0x1f\" \"Thread[#1]\")",
        ),
        ("[1 #_ 2 3 ; four\n]", "(1 3)"),
    ] {
        edn_value(spelling, expected);
    }
}

#[test]
fn edn_fields_beside_the_value() {
    check(
        Format::Edn,
        r#"{:index 3 :process 1 :type :info :f :append :key "7" :value "x" :error [:timeout "n1"] :time 12 :extra {:a #{1}}}
{"process" :nemesis, "type" "info", "f" nil, "error" nil, 7 8}"#,
        &[
            r#"1 1 info append "x" key="7" error=["timeout" "n1"]"#,
            "2 :nemesis info  nil",
        ],
    );
    let text = "[{:process 0 :type :ok :f :x :time 12} {:process 0 :type :ok :f :x :time -3}]";
    let times: Vec<_> = read(Format::Edn, text.as_bytes())
        .unwrap()
        .0
        .iter()
        .map(|e| e.time)
        .collect();
    assert_eq!(times, [Some(Nanos(12)), None]);
}

#[test]
fn edn_that_is_malformed_is_named_with_its_line() {
    let op = "{:process 0 :type :ok :f :x}";
    for (text, expected) in [
        (
            format!("[{op}\n{op}\n}}"),
            "line 3 is malformed: an event's '{' expected at '}'",
        ),
        (
            format!("[{op}\n)"),
            "line 2 is malformed: an event's '{' expected at ')'",
        ),
        (
            format!("[{op}]\n[{op}]"),
            "line 2 is malformed: the file's end expected",
        ),
        (
            format!("{op}\n7"),
            "line 2 is malformed: an event's '{' expected at '7'",
        ),
        (
            "{:process 0\n :type :ok :f}".into(),
            "line 2 is malformed: a value expected",
        ),
        (
            "{:process 0 :type :okay :f :x}".into(),
            "'okay', not invoke, ok, fail or info",
        ),
        ("{:type :ok :f :x}".into(), "line 1 is malformed: it has no process"),
        ("{:process 0 :f :x}".into(), "it has no type"),
        ("{:process 0 :type :ok}".into(), "it has no f"),
        ("{:process [] :type :ok :f :x}".into(), "neither a number nor a name"),
        (
            "{:process 0 :process 1 :type :ok :f :x}".into(),
            "process is there twice",
        ),
        ("{:process 0 :type :ok :f :x :value 3abc}".into(), "'3abc' is no number"),
        (r#"{:process 0 :type :ok :f :x :value "\ud800"}"#.into(), "surrogate"),
        (
            r#"{:process 0 :type :ok :f :x :value "\q"}"#.into(),
            "an escape expected at 'q",
        ),
        ("{:process 0 :type :ok :f :x :value @x}".into(), "not code"),
        ("{:process 0 :type :ok :f :x :value #<X>}".into(), "a tag expected"),
        (
            format!("{op}\n\n{{:process 0 :type"),
            "line 3 is malformed: the file ends within the event",
        ),
        (
            format!("[{op}\n{{:process 0 :value [1 2"),
            "line 2 is malformed: the file ends within",
        ),
        (format!("{{:value {}", "[".repeat(200_000)), "nested deeper than 100"),
        (format!("{{:value {}", "#_".repeat(200_000)), "nested deeper than 100"),
        (format!("{{:value {}", "^".repeat(200_000)), "nested deeper than 100"),
        ("#_".repeat(200_000), "nested deeper than 100"),
    ] {
        fails(Format::Edn, &text, expected);
    }
    let bad = b"{:process 0 :type :ok :f :x :value \"\xff\"}";
    assert!(read(Format::Edn, bad).unwrap_err().contains("UTF-8"));
}

#[test]
fn only_the_bracket_may_be_missing_in_edn() {
    let text = "[{:process 0 :type :ok :f :x}\n {:process 0 :type :ok :f :x} ; and\n";
    let (events, cut_off) = read(Format::Edn, text.as_bytes()).unwrap();
    assert_eq!((events.len(), cut_off), (2, true));
    let begin = text.find('\n').unwrap() + 3;
    let end = text.rfind('}').unwrap();
    for cut in begin..=end {
        fails(Format::Edn, &text[..cut], "line 2 is malformed: the file ends within");
    }
}

/// The text log with `|` for tabs.
fn log(text: &str) -> String {
    text.replace('|', "\t")
}

#[test]
fn the_text_log_with_what_stands_around_operations() {
    check(
        Format::JepsenLog,
        &log("INFO  jepsen.core - Worker 3 starting\n\
INFO  jepsen.util - 0|:invoke|:read|nil\n\
2026-01-31 12:00:00,123{GMT}|INFO|[jepsen worker 1] jepsen.util: 1|:invoke|:cas|[0 4]\r\n\
WARN  jepsen.core - Process 1 crashed: it said :ok to 3 :fail\n\
java.lang.Exception: :ok\n\
|at jepsen.core$run.invoke (core.clj:17)\n\
INFO  jepsen.util - 0|:ok|:read|3\n\
INFO  jepsen.util - 1|:info|:cas|:timed-out\n\
INFO  jepsen.util - 2|:info|:write|4|:timed-out\n\
INFO  jepsen.util - 2|:fail|:cas|[1 2]|indeterminate: no answer from n1\n\
INFO  jepsen.util - :nemesis|:info|:start|\"Cut off {n1 #{n2}}\"\n\
INFO  jepsen.util - :nemesis|:info|:stop|fully connected (again\n\
INFO  jepsen.util - 5|:ok|:deq|nil\n"),
        &[
            "2 0 invoke read nil",
            "3 1 invoke cas (0 4)",
            "7 0 ok read 3",
            "8 1 info cas nil error=timed-out",
            "9 2 info write 4 error=timed-out",
            "10 2 fail cas (1 2) error=indeterminate: no answer from n1",
            "11 :nemesis info start \"Cut off {n1 #{n2}}\"",
            "12 :nemesis info stop \"fully connected (again\"",
            "13 5 ok deq nil",
        ],
    );
    check(
        Format::JepsenLog,
        "INFO  jepsen.util - 0  :invoke  :cas    [0 4]\nINFO jepsen.util - 0 :fail :read :timed-out\n",
        &["1 0 invoke cas (0 4)", "2 0 fail read nil error=timed-out"],
    );
}

#[test]
fn a_malformed_operation_in_the_text_log_is_not_skipped() {
    for (line, expected) in [
        (
            "INFO  jepsen.util - 0|:invok|:read|nil",
            "line 2 is malformed: its type is 'invok'",
        ),
        ("INFO  jepsen.util - 0|:invoke", "the operation's :f expected"),
        ("INFO  jepsen.util - 0|:invoke|read|nil", "the operation's :f expected"),
        (
            "INFO  jepsen.util - 0|:invoke|:cas|[0 4",
            "the value has no end in this line",
        ),
        ("INFO  jepsen.util - 0|:invoke|:cas|[0 4)", "a value expected at ')'"),
        ("INFO  jepsen.util - 0|:ok|:read|3 4", "the line's end expected"),
    ] {
        fails(Format::JepsenLog, &log(&format!("\n{line}\n")), expected);
    }
    let cut = log("INFO  jepsen.util - 0|:ok|:read|1");
    assert!(
        read(Format::JepsenLog, cut.as_bytes()).unwrap().1,
        "no newline: the value may be cut"
    );
}

#[test]
fn json_lines_in_any_key_order() {
    check(
        Format::JsonLines,
        r#"
{"process":0,"type":"invoke","f":"cas","value":[1,null,true,"\u00e9\ud83e\udd80\/"],"key":7,"time":12}
{ "value" : {"a":[1.50,-0.0e+1,18446744073709551616]}, "f":"x", "other":[{}], "type" : "info","process":"nemesis", "error":{"why": 1}}

{"process":-1,"type":"ok","f":"read","error":"","key":null}"#,
        &[
            "2 0 invoke cas (1 nil true \"é🦀/\") key=7",
            r#"3 :nemesis info x (("a" ("1.50" "-0.0e+1" "18446744073709551616"))) error={"why": 1}"#,
            "5 -1 ok read nil error=",
        ],
    );
}

#[test]
fn json_that_is_malformed_is_named_with_its_line() {
    for (text, expected) in [
        (
            "{\"process\":0",
            "line 1 is malformed: ',' or '}' expected, but the line ends",
        ),
        ("{}\n", "line 1 is malformed: it has no process"),
        ("\n[]\n", "line 2 is malformed: '{' expected at byte 1"),
        (
            r#"{"process":01,"type":"ok","f":"x"}"#,
            "',' or '}' expected at byte 13",
        ),
        (r#"{"process":1.,"type":"ok","f":"x"}"#, "a digit expected"),
        (
            r#"{"process":0,"type":"ok","f":"x"} x"#,
            "the end of the line expected at byte 35",
        ),
        (r#"{"process":0,"type":"ok","f":"x","f":"y"}"#, "f is there twice"),
        (
            "{\"process\":0,\"type\":\"ok\",\"f\":\"x\ty\"}",
            "the string's end expected",
        ),
        (r#"{"process":0,"type":"ok","f":"\ud83e"}"#, "surrogate"),
        (r#"{"process":0,"type":"ok","f":nul}"#, "a value expected at byte 30"),
    ] {
        fails(Format::JsonLines, text, expected);
    }
    fails(
        Format::JsonLines,
        &format!("{{\"x\":{}", "[".repeat(200_000)),
        "nested deeper than 100",
    );
    fails(Format::JsonLines, &"{\"x\":".repeat(200_000), "nested deeper than 100");
}

/// A file that has no end, and breaks where nobody should read any more.
struct Endless(usize);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0 += buffer.len();
        assert!(self.0 < 17 << 20, "too much was read");
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn a_line_without_end_costs_no_more_than_the_longest_line() {
    for format in [Format::JsonLines, Format::JepsenLog, Format::Edn] {
        let start: &[u8] = if format == Format::Edn { b"{:process " } else { b"" };
        let endless = std::io::BufReader::new(Endless(0));
        let mut reader = Reader::new(std::io::Read::chain(start, endless), format).unwrap();
        let error = reader.next_event().unwrap_err().to_string();
        assert!(error.contains("longer than 16777216 bytes"), "{error}");
    }
}

#[test]
fn formats_are_told_apart_by_their_first_bytes() {
    for (start, expected) in [
        (r#"{"splitbrain":1,"seed":7"#, Some(Format::Own)),
        (r#"{"process":0,"#, Some(Format::JsonLines)),
        (" {\n\"f\":", Some(Format::JsonLines)),
        ("{:process 0", Some(Format::Edn)),
        ("[{:process 0", Some(Format::Edn)),
        ("(\n;x\n{:process", Some(Format::Edn)),
        ("; a comment", Some(Format::Edn)),
        ("#jepsen.history.Op{:process", Some(Format::Edn)),
        ("[]", Some(Format::Edn)),
        ("INFO  jepsen.util - 0\t:invoke", Some(Format::JepsenLog)),
        (
            "2026-01-31 12:00:00,123{GMT}\tINFO\t[main] jepsen.cli",
            Some(Format::JepsenLog),
        ),
        ("[jepsen worker 0] INFO", Some(Format::JepsenLog)),
        ("", None),
        ("\u{0}\u{1}\u{2}", None),
        ("process,type,f", None),
    ] {
        assert_eq!(detect(start.as_bytes()), expected, "{start}");
    }
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!(
        "toml"
            .parse::<Format>()
            .unwrap_err()
            .contains("splitbrain, edn, jepsen-log, jsonl")
    );
}

const OWN: &str = r#"{"splitbrain":1,"seed":7,"plan":PLAN,"hosts":[{"name":"n1","role":"member","asked":true}],"promises":[]}
{"index":0,"time":5,"process":2,"type":"invoke","f":"cas","value":{"host":"n1","from":null,"to":4}}
{"index":1,"time":6,"process":2,"type":"fail","f":"cas","value":{"host":"n1","from":null,"to":4},"error":"mismatch"}
{"index":2,"time":7,"process":3,"type":"ok","f":"get","value":{"host":"n1","value":9}}
{"index":3,"time":7,"process":3,"type":"ok","f":"set","value":{"host":"n1","value":18446744073709551615}}
{"index":4,"time":8,"process":"n1","type":"info","f":"ready","value":{"host":"n1"}}
{"index":5,"time":8,"process":4,"type":"ok","f":"observe","value":{"host":"n1","answer":{"role":"leader","epoch":5,"reign":2}}}
"#;

#[test]
fn our_own_history_in_the_words_of_models() {
    let plan = serde_json::to_string(&splitbrain_core::Plan::new("raft", "sim")).unwrap();
    let text = OWN.replace("PLAN", &plan);
    assert_eq!(detect(text.as_bytes()), Some(Format::Own));
    let expected = [
        "2 2 invoke cas (nil 4)",
        "3 2 fail cas (nil 4) error=mismatch",
        "4 3 ok read 9",
        "5 3 ok write \"18446744073709551615\"",
        "6 :n1 info ready \"n1\"",
        "7 4 ok observe (\"leader\" 5 nil 2 nil)",
    ];
    check(Format::Own, &text, &expected);
    let (events, cut_off) = read(Format::Own, &text.as_bytes()[..text.len() - 1]).unwrap();
    assert_eq!((events.len(), cut_off), (5, true));
    assert_eq!((events[0].time, events[0].kind), (Some(Nanos(5)), Kind::Invoke));
    fails(
        Format::Own,
        &text.replace("\"index\":2", "\"index\":3"),
        "line 4 is malformed: index 3 where 2 belongs",
    );
}
