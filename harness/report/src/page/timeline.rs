//! The main timeline: a canvas, its controls, and the data that the script draws from.
use super::anomalies::Numbered;
use super::scene::{Scene, Size, ticks};
use crate::columns::{Columns, density};
use crate::picture::{Ending, Lane, OPERATIONS, Picture};
use crate::text::{clip, script_json, visible};
use crate::words;
use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};
use splitbrain_core::plan::FaultKind;

/// Bins of the overview, as many as a narrow screen has pixels.
const BINS: usize = 600;

/// The section; all that moves is hidden until the script runs.
pub fn section(picture: &Picture, anomalies: &[Numbered]) -> Markup {
    let label = format!(
        "Timeline of {} hosts over {} seconds: reigns, faults, operations. Arrow keys move, plus and minus zoom, 0 shows the whole run.",
        picture.lanes.len(),
        picture.end.as_secs_f64().round()
    );
    html! {
        section #timeline aria-labelledby="timeline-h" {
            h2 #timeline-h { "Timeline" }
            div.card.timeline {
                div.controls hidden {
                    div.buttons role="group" aria-label="Move and zoom" {
                        button type="button" data-do="left" aria-label="Move left" { "←" }
                        button type="button" data-do="right" aria-label="Move right" { "→" }
                        button type="button" data-do="in" aria-label="Zoom in" { "+" }
                        button type="button" data-do="out" aria-label="Zoom out" { "−" }
                        button type="button" data-do="all" { "Whole run" }
                        @if !anomalies.is_empty() {
                            button type="button" data-do="previous" { "◂ anomaly" }
                            button type="button" data-do="next" { "anomaly ▸" }
                        }
                    }
                    output #window.quiet {}
                }
                div.stage hidden {
                    canvas #lanes tabindex="0" role="img" aria-label=(label) {}
                    canvas #overview aria-hidden="true" {}
                    div #tip role="tooltip" hidden {}
                }
                (legend(picture))
                p.quiet.hint hidden {
                    "Drag or swipe to move; pinch, or Ctrl and the wheel, to zoom (the wheel alone once the timeline was clicked). Arrow keys, +, − and 0 work too. Point at anything, or tap it, to read it."
                }
                noscript {
                    p.quiet { "Without JavaScript the timeline stands still. Everything else in this page is complete." }
                    (whole(picture).svg())
                }
            }
        }
    }
}

fn whole(picture: &Picture) -> Scene<'_> {
    Scene {
        picture,
        from: splitbrain_core::Nanos::ZERO,
        to: picture.end,
        lanes: (0..picture.lanes.len()).collect(),
        marks: Vec::new(),
        label: "Timeline of the whole run".into(),
        size: Size::WIDE,
    }
}

fn legend(picture: &Picture) -> Markup {
    let epochs = picture.epochs.len().max(picture.elections()).clamp(2, 4);
    let swatch = |class: &str, text: &str| {
        html! {
            li { svg viewBox="0 0 22 12" width="22" height="12" aria-hidden="true" { rect class=(class) width="22" height="12" rx="2" {} } (text) }
        }
    };
    html! {
        ul.legend aria-label="Legend" {
            li {
                svg viewBox=(format!("0 0 {} 12", epochs * 14)) width=(epochs * 14) height="12" aria-hidden="true" {
                    @for i in 0..epochs { rect class=(format!("e{i}")) x=(i * 14) width="14" height="12" {} }
                }
                @if picture.epochs.is_empty() { "reign, a colour each" } @else { "reign, a colour an epoch" }
            }
            (swatch("possible e0", "belief possible, not proven"))
            (swatch("killed", "killed or exited"))
            (swatch("paused", "paused"))
            li {
                svg viewBox="0 0 22 12" width="22" height="12" aria-hidden="true" { rect.band.partition.line y="4" width="22" height="3" {} }
                "above a lane: its links, clocks or disk are bad"
            }
            (swatch("fault partition", "partition"))
            (swatch("fault kill", "kill"))
            (swatch("fault pause", "pause"))
            (swatch("fault packet", "packet fault"))
            (swatch("fault clock", "clock fault"))
            (swatch("fault disk", "disk fault"))
            (swatch("op-ok", "ok"))
            (swatch("op-fail", "failed, or refused by the storage"))
            (swatch("op-info", "unknown outcome"))
            li { span.violation-text { "▲" } " violation " span.hazard-text { "◆" } " hazard" }
        }
    }
}

/// The elements that carry the data; no browser executes them.
pub fn data(picture: &Picture, anomalies: &[Numbered]) -> Markup {
    let columns = Columns::of(picture);
    let json = json!({
        "end": picture.end.0 / 1_000,
        "unit": columns.unit as f64 / 1_000.0,
        "ops": picture.ops.len(),
        "stores": picture.stores.len(),
        "operations": OPERATIONS,
        "storage": picture.storage(),
        "lanes": picture.lanes.iter().map(lane).collect::<Vec<_>>(),
        "faults": picture.faults.iter().filter_map(|f| {
            let (from, to) = f.interval(picture.end)?;
            Some(json!({
                "n": f.number, "kind": f.kind.map_or("none", FaultKind::name), "what": visible(&f.what),
                "from": from.0 / 1_000, "to": to.0 / 1_000, "healed": f.healed.is_some(),
                "lanes": f.targets.iter().filter_map(|t| picture.lane(*t)).collect::<Vec<_>>(),
                "aim": f.aimed.as_ref().map(|a| format!("{:?} {}", a.hit, a.target).to_lowercase()),
            }))
        }).collect::<Vec<_>>(),
        "phases": picture.phases.iter().map(|p| json!([p.phase, p.from.0 / 1_000, p.to.0 / 1_000])).collect::<Vec<_>>(),
        "anomalies": anomalies.iter().map(|n| json!({
            "n": n.number, "severity": words::severity(n.anomaly.severity), "title": clip(&n.anomaly.title, 200),
            "from": n.anomaly.from.0 / 1_000, "to": n.anomaly.to.0 / 1_000,
        })).collect::<Vec<_>>(),
        "density": density(picture, BINS),
        "ticks": ticks(splitbrain_core::Nanos::ZERO, picture.end, 8).iter().map(|t| t.0 / 1_000).collect::<Vec<_>>(),
    });
    html! {
        script #data type="application/json" { (PreEscaped(script_json(&json))) }
        script #ops type="application/octet-stream" { (PreEscaped(columns.ops)) }
        script #stores type="application/octet-stream" { (PreEscaped(columns.stores)) }
    }
}

fn lane(lane: &Lane) -> Value {
    let ending = |e: &Ending| match e {
        Ending::Deposed(why) => format!("deposed: {}", clip(why, 160)),
        Ending::Answered => "then answered that it does not lead".into(),
        Ending::Died => "then died".into(),
        Ending::Open => "not ended when the history did".into(),
    };
    let reigns = lane.reigns.iter().map(|r| {
        json!([
            r.from.0 / 1_000,
            r.definite.0 / 1_000,
            r.to.0 / 1_000,
            r.rank,
            r.epoch.known().map(|epoch| epoch.to_string()),
            r.reign.to_string(),
            r.token.map(|t| t.to_string()),
            ending(&r.ending)
        ])
    });
    let states = lane
        .states
        .iter()
        .map(|s| json!([s.from.0 / 1_000, s.to.0 / 1_000, s.state.name()]));
    let exits = lane.exits.iter().map(|(t, how)| json!([t.0 / 1_000, clip(how, 200)]));
    json!({
        "name": lane.host.name, "role": lane.host.role.name(), "low": lane.low,
        "reigns": reigns.collect::<Vec<_>>(), "states": states.collect::<Vec<_>>(), "exits": exits.collect::<Vec<_>>(),
    })
}
