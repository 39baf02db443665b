//! Each anomaly: a zoomed picture, its story, the events that prove it, and the way back to the run.
use super::scene::{Mark, Scene, Size, lanes_of};
use crate::picture::Picture;
use crate::text::{clip, count, instant, visible};
use crate::{Run, words};
use maud::{Markup, html};
use splitbrain_core::{Anomaly, Body, Event, Kind, Nanos, Process, Severity, Verdict};

/// An anomaly with the number by which the page names it.
pub struct Numbered<'a> {
    /// From 1, violations first.
    pub number: usize,
    /// Who found it.
    pub checker: &'a str,
    /// What.
    pub anomaly: &'a Anomaly,
}

/// All anomalies of all verdicts: violations first, then by time.
pub fn numbered(verdicts: &[Verdict]) -> Vec<Numbered<'_>> {
    let mut all: Vec<(&str, &Anomaly)> = verdicts
        .iter()
        .flat_map(|v| v.anomalies.iter().map(|a| (v.checker.as_str(), a)))
        .collect();
    all.sort_by_key(|(_, a)| (std::cmp::Reverse(a.severity), a.from));
    let number = |(i, (checker, anomaly))| Numbered {
        number: i + 1,
        checker,
        anomaly,
    };
    all.into_iter().enumerate().map(number).collect()
}

/// How many hazards are shown open; the others can be unfolded.
const OPEN_HAZARDS: usize = 3;

/// The section.
pub fn section(run: &Run, picture: &Picture, all: &[Numbered]) -> Markup {
    let left_out: u64 = run
        .verdicts
        .iter()
        .map(|v| v.total.saturating_sub(v.anomalies.len() as u64))
        .sum();
    let violations = all.iter().filter(|n| n.anomaly.severity == Severity::Violation).count();
    html! {
        section #anomalies aria-labelledby="anomalies-h" {
            h2 #anomalies-h { "Anomalies" }
            @if all.is_empty() {
                p.quiet { "None was found: no promise was broken, and nothing that hurts without being promised was seen." }
            } @else {
                p.quiet {
                    "A " b { "violation" } " breaks a promise. A " b { "hazard" }
                    " was never promised not to happen, but hurts all the same. The numbered events are the proof."
                }
            }
            @for n in all {
                @let folded = n.anomaly.severity == Severity::Hazard && n.number > violations + OPEN_HAZARDS;
                (article(run, picture, n, folded))
            }
            @if left_out > 0 { p.quiet { "And " (count(left_out)) " more of the same kinds, which the verdicts count but do not keep." } }
        }
    }
}

fn article(run: &Run, picture: &Picture, n: &Numbered, folded: bool) -> Markup {
    let word = words::severity(n.anomaly.severity);
    html! {
        article class=(format!("card anomaly {word}")) id=(format!("a{}", n.number)) {
            details open[!folded] {
                summary {
                    h3 {
                        span class=(format!("badge {word}")) { (words::severity_symbol(n.anomaly.severity)) " " (word) }
                        " " (n.number) ". " (visible(&n.anomaly.title))
                    }
                }
                p.quiet {
                    "Guarantee " code { (n.anomaly.guarantee.name()) } ", found by the checker " code { (visible(n.checker)) }
                    ", " (instant(n.anomaly.from)) " to " (instant(n.anomaly.to)) " s."
                }
                (body(run, picture, n))
            }
        }
    }
}

fn body(run: &Run, picture: &Picture, n: &Numbered) -> Markup {
    let evidence: Vec<&Event> = n
        .anomaly
        .evidence
        .iter()
        .filter_map(|i| run.events.get(*i as usize))
        .collect();
    let (from, to) = window(n.anomaly, picture);
    html! {
        (scene(picture, n, &evidence, from, to).svg())
        @if !n.anomaly.story.is_empty() {
            ol.story { @for line in &n.anomaly.story { li { (linked(line, n, &evidence)) } } }
        }
        @if !evidence.is_empty() { (table(n.number, &evidence)) }
        p.actions {
            a.button href="#timeline" data-from=(from.0 / 1_000) data-to=(to.0 / 1_000) { "Show on the timeline" }
            " " span.quiet { "Replay: " }
            code.replay { (visible(run.replay)) }
        }
    }
}

/// The anomaly's window with a margin, never empty and never outside the run.
fn window(anomaly: &Anomaly, picture: &Picture) -> (Nanos, Nanos) {
    let (from, to) = (anomaly.from.min(anomaly.to), anomaly.from.max(anomaly.to));
    let margin = Nanos((to.since(from).0 / 12).max(150_000_000));
    let end = picture.end.max(Nanos(1));
    let from = from.min(end) - margin;
    (from, (to + margin).min(end).max(from + Nanos(1)))
}

fn scene<'a>(picture: &'a Picture, n: &Numbered, evidence: &[&Event], from: Nanos, to: Nanos) -> Scene<'a> {
    let mut hosts = n.anomaly.hosts.clone();
    hosts.extend(evidence.iter().filter_map(|e| e.body.host()));
    let stored = |e: &&Event| matches!(e.body, Body::Stored { .. } | Body::Rejected { .. });
    let marks = evidence.iter().map(|e| Mark {
        time: e.time,
        lane: if stored(e) {
            picture.storage()
        } else {
            e.body.host().and_then(|h| picture.lane(h))
        },
    });
    Scene {
        picture,
        from,
        to,
        lanes: lanes_of(picture, &hosts, evidence.iter().any(stored)),
        marks: marks.collect(),
        label: format!("Timeline of anomaly {}: {}", n.number, visible(&n.anomaly.title)),
        size: Size::WIDE,
    }
}

/// A sentence of the story, each `#123` in it a link to the row of that event.
fn linked(line: &str, n: &Numbered, evidence: &[&Event]) -> Markup {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find('#') {
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let (before, found) = (&rest[..at], &rest[at..at + 1 + digits]);
        let index = found[1..].parse::<u64>().ok();
        let row = index.and_then(|i| evidence.iter().position(|e| e.index == i));
        parts.push((before, found, row));
        rest = &rest[at + 1 + digits..];
    }
    html! {
        @for (before, found, row) in parts {
            (visible(before))
            @match row {
                Some(row) => a.ref href=(format!("#a{}e{}", n.number, row + 1)) { span.num { (row + 1) } (found) },
                None => (found),
            }
        }
        (visible(rest))
    }
}

fn table(number: usize, evidence: &[&Event]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="The events that prove it" {
            table.evidence.stack {
                thead { tr {
                    th scope="col" { span.sr { "mark" } } th scope="col" { "index" } th scope="col" { "time" }
                    th scope="col" { "process" } th scope="col" { "type" } th scope="col" { "f" } th scope="col" { "value" }
                } }
                tbody {
                    @for (i, event) in evidence.iter().enumerate() {
                        tr id=(format!("a{number}e{}", i + 1)) {
                            td { span.num { (i + 1) } }
                            td.n data-label="#" { (event.index) }
                            td.n { (instant(event.time)) " s" }
                            td { (process(event.process)) }
                            td { (kind(event.kind)) }
                            (value(event))
                        }
                    }
                }
            }
        }
    }
}

/// The cells `f` and `value`, as the history writes them.
fn value(event: &Event) -> Markup {
    let json = serde_json::to_value(&event.body).unwrap_or_default();
    let f = json["f"].as_str().unwrap_or_default();
    html! {
        td { (f) }
        td.value.own-line { code { (clip(&json["value"].to_string(), 300)) } @if let Some(e) = &event.error { " " (clip(e, 200)) } }
    }
}

fn process(process: Process) -> String {
    match process {
        Process::Client(n) => n.to_string(),
        Process::Host(name) => name.to_string(),
        Process::Nemesis => "nemesis".into(),
        Process::Control => "control".into(),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}
