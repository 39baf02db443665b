//! What is written reads back, and is what others read.
mod common;

use common::{Dice, seed};
use splitbrain_core::formats::{Format, OpEvent, Output, Reader, Speaker, Value, Writer, detect};
use splitbrain_core::{Kind, Nanos};

fn write(output: Output, events: &[OpEvent]) -> String {
    let mut writer = Writer::new(Vec::new(), output);
    for event in events {
        writer.event(event).unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn read(format: Format, text: &str) -> Vec<OpEvent> {
    let mut reader = Reader::new(text.as_bytes(), format).unwrap();
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap_or_else(|e| panic!("{e}\n{text}")) {
        events.push(event);
    }
    assert_eq!(reader.cut_off(), None);
    events
}

#[test]
fn what_is_written_reads_back() {
    let mut dice = Dice::new(seed("written"));
    for _ in 0..2_000 {
        let events: Vec<_> = (1..=dice.below(12)).map(|line| dice.op_event(line)).collect();
        for (output, format) in [(Output::Edn, Format::Edn), (Output::JsonLines, Format::JsonLines)] {
            let text = write(output, &events);
            assert_eq!(read(format, &text), events, "{text}");
            if !events.is_empty() {
                assert_eq!(detect(text.as_bytes()), Some(format), "{text}");
            }
        }
    }
}

fn event(process: Speaker, kind: Kind, f: &str, value: Value, time: u64) -> OpEvent {
    OpEvent {
        line: 0,
        time: Some(Nanos(time)),
        process,
        kind,
        f: f.into(),
        key: None,
        value,
        error: None,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn edn_has_the_words_that_its_readers_look_for() {
    let steps = |last| {
        let append = vec![text("append"), text("x"), Value::Int(1)];
        Value::List(vec![
            Value::List(append),
            Value::List(vec![text("r"), Value::Int(2), last]),
        ])
    };
    let mut last = event(Speaker::Other("nemesis".into()), Kind::Info, "start", text(":a"), 12);
    last.error = Some("say \"no\"".into());
    last.key = Some(Value::Int(7));
    let events = [
        event(Speaker::Client(0), Kind::Invoke, "txn", steps(Value::Nil), 5),
        event(Speaker::Client(0), Kind::Ok, "txn", steps(Value::List(vec![])), 9),
        last,
    ];
    let expected = r#"[{:index 0, :time 5, :process 0, :type :invoke, :f :txn, :value [[:append "x" 1] [:r 2 nil]]}
 {:index 1, :time 9, :process 0, :type :ok, :f :txn, :value [[:append "x" 1] [:r 2 []]]}
 {:index 2, :time 12, :process :nemesis, :type :info, :f :start, :key 7, :value ":a", :error "say \"no\""}]
"#;
    assert_eq!(write(Output::Edn, &events), expected);
    assert_eq!(write(Output::Edn, &[]), "[]\n");
}

/// The events of a trace but for the first, which names the process: `ph ts dur pid tid cat name`.
fn trace(events: &[OpEvent]) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(&write(Output::Trace, events)).unwrap();
    let all = json["traceEvents"].as_array().unwrap();
    assert_eq!(all[0]["ph"], "M");
    let words = |e: &serde_json::Value| {
        let [ph, cat, name] = ["ph", "cat", "name"].map(|key| e[key].as_str().unwrap().to_string());
        format!("{ph} {} {} {} {} {cat} {name}", e["ts"], e["dur"], e["pid"], e["tid"])
    };
    all[1..].iter().map(words).collect()
}

#[test]
fn a_trace_has_a_bar_for_every_operation() {
    let (a, b, c) = (Speaker::Client(1), Speaker::Client(2), Speaker::Client(3));
    let events = [
        event(a.clone(), Kind::Invoke, "write", Value::Int(3), 1_500),
        event(b.clone(), Kind::Invoke, "read", Value::Nil, 2_000),
        event(
            Speaker::Other("nemesis".into()),
            Kind::Info,
            "start",
            text("cut"),
            2_001,
        ),
        event(a.clone(), Kind::Ok, "write", Value::Int(3), 4_000),
        event(b, Kind::Info, "read", Value::Nil, 5_000),
        event(a, Kind::Fail, "odd", Value::Nil, 6_000),
        event(
            c,
            Kind::Invoke,
            "cas",
            Value::List(vec![Value::Int(1), Value::Int(2)]),
            7_000,
        ),
    ];
    assert_eq!(
        trace(&events),
        [
            "i 2.001 null 0 0 nemesis start \"cut\"",
            "X 1.5 2.5 1 1 ok write 3",
            "B 2.0 null 1 2 info read",
            "i 6.0 null 1 1 client odd",
            "B 7.0 null 1 3 open cas [1 2]",
        ]
    );
}

#[test]
fn a_trace_is_json_whatever_is_in_it() {
    let mut dice = Dice::new(seed("trace"));
    for _ in 0..500 {
        let events: Vec<_> = (1..=dice.below(40)).map(|line| dice.op_event(line)).collect();
        let clients = events.iter().filter(|e| matches!(e.process, Speaker::Client(_)));
        let (asked, ended): (Vec<_>, Vec<_>) = clients.partition(|e| e.kind == Kind::Invoke);
        let shown = trace(&events).len();
        let others = events.len() - asked.len() - ended.len();
        assert!(shown >= others + asked.len() && shown <= events.len());
    }
}

#[test]
fn forms_have_names() {
    for output in Output::ALL {
        assert_eq!(output.name().parse(), Ok(output));
    }
    assert!(
        "toml"
            .parse::<Output>()
            .unwrap_err()
            .contains("edn, jsonl, chrome-trace")
    );
}

#[test]
fn json_is_what_the_usual_reader_takes_for_json() {
    let mut dice = Dice::new(seed("json"));
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut line = write(Output::JsonLines, &[dice.op_event(1)]).into_bytes();
        for _ in 0..=dice.below(3) {
            dice.damage(&mut line);
        }
        line.retain(|&byte| byte != b'\n');
        let ours = Reader::new(&line[..], Format::JsonLines).unwrap().next_event();
        let usual = serde_json::from_slice::<serde_json::Value>(&line);
        let shown = String::from_utf8_lossy(&line);
        match (ours, usual) {
            (Ok(None), _) => assert!(line.trim_ascii().is_empty() || line == b"\xef\xbb\xbf", "{shown}"),
            (Ok(Some(_)), Ok(_)) => taken += 1,
            // Numbers beyond a float are kept as they are spelled; a mark at a file's start is no error.
            (Ok(Some(_)), Err(e)) => {
                assert!(
                    e.to_string().contains("out of range") || line.starts_with(b"\xef\xbb\xbf"),
                    "{e}: {shown}"
                )
            }
            (Err(e), Ok(_)) => {
                let e = e.to_string();
                assert!(!e.contains("expected") || e.contains("'{' expected"), "{e}: {shown}");
            }
            (Err(_), Err(_)) => {}
        }
    }
    assert!(taken > 100, "the damage is too great: {taken}");
}
