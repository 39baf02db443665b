//! The page: one file, no network, nothing executed but our own script.
//!
//! The content security policy names the hashes of the one style and the one script and allows nothing else: no image
//! but `data:`, no connection, no form, no frame, no base. Should a text ever escape its escaping, it could not run, and
//! could not tell anybody. Inline `style` attributes are forbidden with it, so every colour is a class.
//!
//! What must be read is in the page as text and SVG; only moving about in the main timeline takes the script.
mod anomalies;
mod charts;
mod scene;
mod tables;
mod timeline;
mod toml;

use crate::picture::Picture;
use crate::text::{count, plural, span, visible};
use crate::{Run, words};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use splitbrain_core::event::Hit;
use splitbrain_core::verdict::merge;
use splitbrain_core::{Severity, Validity};

const STYLE: &str = concat!(
    include_str!("../assets/page.css"),
    include_str!("../assets/pictures.css")
);
const SCRIPT: &str = concat!(
    "\"use strict\";(() => {\n",
    include_str!("../assets/data.js"),
    include_str!("../assets/draw.js"),
    include_str!("../assets/lanes.js"),
    include_str!("../assets/tell.js"),
    include_str!("../assets/page.js"),
    "})();\n"
);

/// The whole page.
pub fn html(run: &Run) -> String {
    let picture = Picture::of(run.header, run.events);
    let anomalies = anomalies::numbered(run.verdicts);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(run))
            body {
                (scene_patterns())
                header.top {
                    (verdict(run, &picture))
                    (navigation(anomalies.len()))
                }
                main {
                    (timeline::section(&picture, &anomalies))
                    (anomalies::section(run, &picture, &anomalies))
                    (tables::promises(run))
                    (tables::checkers(run))
                    (charts::section(&picture, run.verdicts))
                    (tables::faults(&picture))
                    (tables::troubles(&picture))
                    (tables::plan(run))
                }
                footer.quiet {
                    "Made by splitbrain from the run's history alone. All times are seconds of the control node's monotonic clock since the run began."
                }
                (timeline::data(&picture, &anomalies))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

fn head(run: &Run) -> Markup {
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        source(STYLE),
        source(SCRIPT)
    );
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="referrer" content="no-referrer";
            title { (words::symbol(merge(run.verdicts))) " " (visible(run.title)) " – splitbrain" }
            link rel="icon" href="data:,";
            style { (PreEscaped(STYLE)) }
        }
    }
}

fn verdict(run: &Run, picture: &Picture) -> Markup {
    let merged = merge(run.verdicts);
    let word = words::validity(merged);
    html! {
        div class=(format!("verdict {word}")) {
            p.kicker { "splitbrain · " (visible(run.title)) }
            h1 {
                span.symbol aria-hidden="true" { (words::symbol(merged)) }
                span.word { (match merged { Validity::Valid => "Valid", Validity::Unknown => "Unknown", Validity::Invalid => "Invalid" }) }
            }
            p.sentence { (words::sentence(run.header, run.verdicts)) }
            (cut_off(run, picture))
            (facts(run, picture))
            div.copy {
                span.quiet #replay-label { "Replay" }
                pre.scroll #replay tabindex="0" aria-labelledby="replay-label" { (visible(run.replay)) }
                button type="button" data-copy="replay" hidden { "Copy" }
            }
        }
    }
}

/// A history that does not reach its end is told of before anything else: what is missing might have changed the verdict.
fn cut_off(run: &Run, picture: &Picture) -> Markup {
    let torn = match run.torn {
        0 => String::new(),
        n => format!(
            " The last line is torn: {} were left out.",
            plural(n as u64, "byte", "bytes")
        ),
    };
    html! {
        @if let Some(why) = &picture.aborted {
            p.warning role="alert" { b { "! This run was broken off." } " " (visible(why)) "." (torn) }
        } @else if !picture.whole || run.torn > 0 {
            p.warning role="alert" {
                b { "! This history is cut off in mid-run." }
                " It has no end: the run was killed, or is still going on. What is missing might have changed the verdict." (torn)
            }
        }
    }
}

fn facts(run: &Run, picture: &Picture) -> Markup {
    let plan = &run.header.plan;
    let acted = picture.faults.iter().filter(|f| f.from.is_some()).count();
    let aimed: Vec<Hit> = picture
        .faults
        .iter()
        .filter_map(|f| f.aimed.as_ref().map(|a| a.hit))
        .collect();
    let hit = aimed.iter().filter(|h| **h == Hit::Hit).count();
    let total = |s| run.verdicts.iter().map(|v| words::total(v, s)).sum::<u64>();
    let storage = match (picture.storage(), plan.storage) {
        (None, _) => "none",
        (_, splitbrain_core::plan::Storage::Fenced) => "fenced",
        (_, splitbrain_core::plan::Storage::Unfenced) => "unfenced",
        (_, splitbrain_core::plan::Storage::Guarded) => "guarded",
    };
    let fact = |name: &str, value: String, note: String| {
        html! {
            div { dt { (name) } dd { (value) @if !note.is_empty() { " " span.quiet { (note) } } } }
        }
    };
    html! {
        dl.facts {
            (fact("system", visible(&plan.system).into_owned(), variant(run)))
            (fact("environment", visible(&plan.environment).into_owned(), plural(picture.lanes.len() as u64, "host", "hosts")))
            (fact("workload", plan.workload.name().into(), String::new()))
            (fact("storage", storage.into(), String::new()))
            (fact("seed", run.header.seed.to_string(), String::new()))
            (fact("duration", span(picture.end), String::new()))
            (fact("operations", count(picture.ops.len() as u64), String::new()))
            (fact("elections", count(picture.elections() as u64), if picture.epochs.is_empty() && picture.elections() > 0 { "no epochs".into() } else { String::new() }))
            (fact("faults that acted", format!("{acted} of {}", picture.faults.len()),
                if aimed.is_empty() { String::new() } else { format!("aimed: {hit} of {} hit", aimed.len()) }))
            (fact("violations", count(total(Severity::Violation)), String::new()))
            (fact("hazards", count(total(Severity::Hazard)), String::new()))
        }
    }
}

/// What tells this system from others of its name: the versions that were installed, and the mutant.
fn variant(run: &Run) -> String {
    let versions = run.header.versions.iter();
    let versions = versions.map(|(what, version)| format!("{} {}", visible(what), visible(version)));
    let mutant = run.header.plan.mutant.iter().map(|m| format!("mutant {}", visible(m)));
    versions.chain(mutant).collect::<Vec<_>>().join(", ")
}

fn navigation(anomalies: usize) -> Markup {
    html! {
        nav aria-label="Sections" {
            a href="#timeline" { "Timeline" }
            a href="#anomalies" { "Anomalies (" (anomalies) ")" }
            a href="#promises" { "Promises" }
            a href="#checkers" { "Checkers" }
            a href="#availability" { "Availability" }
            a href="#faults" { "Faults" }
            a href="#plan" { "Plan" }
        }
    }
}

/// The hatches that every picture in the page refers to.
fn scene_patterns() -> Markup {
    let hatch = |id: &str, size: u8| {
        html! {
            pattern id=(id) width=(size) height=(size) patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect class=(format!("{id}-ground")) width=(size) height=(size) {}
                rect class=(format!("{id}-line")) width="2" height=(size) {}
            }
        }
    };
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" focusable="false" {
            defs { (hatch("hatch-down", 6)) (hatch("hatch-paused", 7)) }
        }
    }
}

#[cfg(test)]
mod tests;
