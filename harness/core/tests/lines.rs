//! The hand-written form of an event's line is the derived one, in both directions.
mod common;

use common::{Dice, seed};
use splitbrain_core::Event;

#[test]
fn the_writer_writes_what_the_derived_one_writes() {
    let mut dice = Dice::new(seed("writer"));
    let mut line = Vec::new();
    for _ in 0..100_000 {
        let event = dice.event();
        line.clear();
        event.write_line(&mut line);
        let derived = serde_json::to_string(&event).unwrap();
        assert_eq!(String::from_utf8(line.clone()).unwrap(), derived);
    }
}

/// What is read of `line`, and in which words it is refused, is the same by hand and derived.
fn check(line: &[u8]) {
    let [by_hand, derived] = [Event::read_line(line), serde_json::from_slice::<Event>(line)];
    let words = |read: Result<Event, serde_json::Error>| read.map_err(|e| e.to_string());
    assert_eq!(words(by_hand), words(derived), "{}", String::from_utf8_lossy(line));
}

#[test]
fn the_reader_reads_and_refuses_as_the_derived_one() {
    let mut dice = Dice::new(seed("reader"));
    for _ in 0..100_000 {
        let event = dice.event();
        let mut line = serde_json::to_vec(&event).unwrap();
        check(&line);
        for _ in 0..3 {
            dice.damage(&mut line);
            check(&line);
        }
    }
}

#[test]
fn odd_lines_are_read_as_the_derived_reader_reads_them() {
    for line in [
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"cas","value":{"host":"n1","to":1}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"cas","value":{"host":"n1","from":null,"to":null}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"read","value":{"host":"n1","value":null},"error":null}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"observe","value":{"host":"n1","answer":null}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"observe","value":{"host":"n1","answer":{"role":"leader","leader":null}}}"#,
        r#"{"index":0,"time":0,"process":"n1","type":"info","f":"elected","value":{"host":"n1","epoch":null,"reign":1}}"#,
        r#"{"index":0,"time":0,"process":"n1","type":"info","f":"elected","value":{"host":"n1","epoch":0,"reign":1}}"#,
        r#"{"index":0,"time":0,"process":"n1","type":"info","f":"elected","value":{"host":"n1","epoch":0}}"#,
        r#"{"index":0,"time":0,"process":4294967296,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":null,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":"N1","type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"started","value":{"host":"n1","incarnation":4294967296}}"#,
        r#"{"index":00,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0.0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":1e1,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":-0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":18446744073709551616,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":99999999999999999999,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":{"ok":null},"f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1","host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1","new":1}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1","seq":1}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"},"token":1}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"},"value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":["n1"]}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready"}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"unheard-of","value":{"host":"n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"re\u0061dy","value":{"h\u006fst":"n\u0031"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":""}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"-n1"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"a-name-of-sixtee"}}"#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}} "#,
        r#"{"index":0,"time":0,"process":0,"type":"ok","f":"ready","value":{"host":"n1"}}{"#,
        "{\"index\":0,\"time\":0,\"process\":0,\"type\":\"ok\",\"f\0\":\"ready\",\"value\":{\"host\":\"n1\"}}",
        "{\"index\":0,\"time\":0,\"process\":0,\"type\":\"ok\",\"f\":\"ready\",\"\":0,\"value\":{\"host\":\"n1\"}}",
        r#"{"value":{"id":1,"host":"n1"},"f":"next","type":"ok","process":0,"time":0,"index":0}"#,
        r#"{"f":"next","type":"ok","process":0,"time":0,"index":0,"value":{"host":"n1","id":1}}"#,
        r#"{"f":"next","type":"ok","process":0,"time":0,"index":0,"value":{"host":"n1","id":1}"#,
        r#"{"f":"next","type":"ok","process":0,"time":0,"index":0,"value":7}"#,
        r#"{"f":"next","type":"ok","process":0,"time":0,"index":0,"value":null}"#,
        r#"{"f":"observe","type":"ok","process":0,"time":0,"index":0,"value":{"host":"n1","answer":7}}"#,
        r#"{"f":"next","type":"ok","process":0,"time":0,"index":0,"value":{"host":"n1","answer":null}}"#,
        r#"{"f":"next","type":"ok","process":"","time":0,"index":0,"value":{"host":"n1"}}"#,
        "",
        "[]",
        "{}",
        "null",
    ] {
        check(line.as_bytes());
    }
    for line in [
        &b"{\"index\":0,\"time\":0,\"process\":0,\"type\":\"ok\",\"f\":\"ready\",\"value\":{\"host\":\"n1\",\"why\":\"\xff\"}}"[..],
        b"{\"index\":0,\"why\":\"\xff\",\"time\":0,\"process\":0,\"type\":\"ok\",\"f\":\"ready\",\"value\":{\"host\":\"n1\"}}",
    ] {
        check(line);
    }
}
