//! The JUnit form of a run: what a service that reads it must find.
#[path = "synthetic/mod.rs"]
mod synthetic;

use splitbrain_core::Nanos;
use splitbrain_report::{Run, junit};

fn xml(edit: impl Fn(&mut synthetic::Synthetic)) -> String {
    let mut made = synthetic::run(Nanos::millis(200));
    edit(&mut made);
    junit(&Run {
        header: &made.header,
        events: &made.events,
        verdicts: &made.verdicts,
        replay: synthetic::REPLAY,
        title: "raft-unfenced",
        torn: 0,
    })
    .unwrap()
}

#[test]
fn broken_is_a_failure_and_unknown_an_error() {
    let xml = xml(|_| {});
    for part in [
        r#"<testsuites name="splitbrain" tests="8" skipped="0" failures="1" errors="1">"#,
        r#"<testsuite name="raft-unfenced""#,
        r#"<property name="seed" value="20261120"/>"#,
        r#"<property name="system" value="raft"/>"#,
        r#"<property name="environment" value="local"/>"#,
        r#"<failure message="22 of 918 accepted"#,
        r#"<error message="no member told what it applied" type="unknown">"#,
        "violation of no-damage: n2 wrote under token 1",
        "hazard of exclusion: n2 (epoch 1) and n4 (epoch 2)",
        "failover p50: 1.10 s",
    ] {
        assert!(xml.contains(part), "lacks {part}:\n{xml}");
    }
}

#[test]
fn hostile_text_stays_text() {
    let xml = xml(|made| {
        for v in &mut made.verdicts {
            v.summary = "]]></failure><x a=\"\u{1b}[31m\u{202e}\0&".into();
        }
    });
    assert!(!xml.contains(['\u{1b}', '\0', '\u{202e}']));
    assert_eq!(xml.matches("</failure>").count(), 1);
    assert!(!xml.contains("<x"));
}
