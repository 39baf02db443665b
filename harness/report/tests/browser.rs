//! The page in a real browser: its script runs under its own policy, draws, fits every window, and does what it is asked.
//!
//! Needs Debian's chromium; fails where it is missing. `REPORT_SHOTS=/some/folder` keeps pictures to look at.

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "synthetic/mod.rs"]
mod synthetic;

use chromium::Chromium;
use serde_json::{Value, json};
use splitbrain_core::{Body, Nanos};
use splitbrain_report::{Run, html};
use std::time::Instant;
use synthetic::Synthetic;

fn page(made: &Synthetic, torn: usize) -> String {
    html(&Run {
        header: &made.header,
        events: &made.events,
        verdicts: &made.verdicts,
        replay: synthetic::REPLAY,
        title: "raft-unfenced",
        torn,
    })
}

fn made() -> Synthetic {
    synthetic::run(Nanos::millis(60))
}

fn operations(made: &Synthetic) -> u64 {
    made.events
        .iter()
        .filter(|e| e.body.is_operation() && e.kind == splitbrain_core::Kind::Invoke)
        .count() as u64
}

/// Number of the `which`-th figure in a data attribute.
fn number(data: &Value, key: &str, which: usize) -> f64 {
    data[key]
        .as_str()
        .unwrap()
        .split(' ')
        .nth(which)
        .unwrap()
        .parse()
        .unwrap()
}

/// Opens a page at a width and checks what must hold of every page.
fn check(browser: &mut Chromium, html: &str, ops: u64, width: u32) -> Value {
    browser.window(width, 900, width < 600);
    browser.open(html);
    let data = browser.ready();
    assert_eq!(data["errors"], "[]");
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert_eq!(number(&data, "ops", 0), ops as f64);
    assert!(
        number(&data, "overflow", 0) <= 0.0,
        "{width}: {} px wider than the window",
        data["overflow"]
    );
    assert!(
        number(&data, "painted", 0) > 10_000.0,
        "the timeline is blank: {}",
        data["painted"]
    );
    assert!(
        number(&data, "painted", 1) > 1_000.0,
        "the overview is blank: {}",
        data["painted"]
    );
    data
}

#[test]
fn draws_and_fits_at_every_width() {
    let mut browser = Chromium::start("widths");
    let made = made();
    let html = page(&made, 0);
    for width in [1280, 800, 390, 320] {
        check(&mut browser, &html, operations(&made), width);
        browser.shot(&format!("light-{width}"));
    }
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", dark);
    for width in [1280, 390] {
        check(&mut browser, &html, operations(&made), width);
        let ground = browser.eval("getComputedStyle(document.body).backgroundColor");
        assert_eq!(ground, "rgb(15, 19, 24)");
        browser.shot(&format!("dark-{width}"));
    }
}

#[test]
fn moves_zooms_and_tells() {
    let mut browser = Chromium::start("moves");
    let made = made();
    check(&mut browser, &page(&made, 0), operations(&made), 1280);
    let window = |b: &mut Chromium| {
        b.frame();
        b.eval("document.getElementById('window').textContent")
            .as_str()
            .unwrap()
            .to_string()
    };
    assert_eq!(window(&mut browser), "whole run");
    browser.eval("document.getElementById('lanes').focus()");
    let press = |b: &mut Chromium, key: &str| {
        for kind in ["keyDown", "keyUp"] {
            b.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
        window(b)
    };
    assert_eq!(press(&mut browser, "+"), "11.8 s – 35.3 s");
    assert_eq!(press(&mut browser, "ArrowRight"), "18.8 s – 42.3 s");
    assert_eq!(press(&mut browser, "0"), "whole run");
    browser.eval("document.querySelector('[data-do=next]').click()");
    assert_ne!(window(&mut browser), "whole run");
    browser.eval("document.querySelector('#a2 a[data-from]').click()");
    // The second violation lies from 13.3 s to 15.5 s; its link shows it with a margin.
    assert_eq!(window(&mut browser), "13.12 s – 15.69 s");
    browser.eval("document.querySelector('[data-do=all]').click(); document.getElementById('lanes').scrollIntoView({behavior: 'instant'})");
    browser.frame();
    // The first lane is n1; it led in epoch 3 from 13.3 s to 18 s of 47 s.
    let at = browser.eval(
        "(() => { const r = document.getElementById('lanes').getBoundingClientRect();
           return [r.left + 88 + (r.width - 88) * 15 / 47, r.top + 34 + 18 + 2 * 18 + 8 + 18]; })()",
    );
    browser.call(
        "Input.dispatchMouseEvent",
        json!({"type": "mouseMoved", "x": at[0], "y": at[1]}),
    );
    browser.frame();
    let tip = browser.eval("document.getElementById('tip').innerText");
    assert!(tip.as_str().unwrap().starts_with("n1 led in epoch 3"), "{tip}");
    browser.eval("document.getElementById('lanes').focus()");
    let wheel = json!({"type": "mouseWheel", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": -100});
    browser.call("Input.dispatchMouseEvent", wheel);
    assert_ne!(
        window(&mut browser),
        "whole run",
        "the wheel zooms a timeline that has the focus"
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn two_fingers_zoom_on_a_phone() {
    let mut browser = Chromium::start("fingers");
    let made = made();
    check(&mut browser, &page(&made, 0), operations(&made), 390);
    browser.eval("document.getElementById('lanes').scrollIntoView({behavior: 'instant', block: 'center'})");
    browser.frame();
    let r = browser.eval("(() => { const r = document.getElementById('lanes').getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()");
    let (x, y) = (r[0].as_f64().unwrap(), r[1].as_f64().unwrap());
    let touch = |b: &mut Chromium, kind: &str, d: f64| {
        let points = if kind == "touchEnd" {
            json!([])
        } else {
            json!([{"x": x - d, "y": y, "id": 1}, {"x": x + d, "y": y, "id": 2}])
        };
        b.call("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}));
    };
    touch(&mut browser, "touchStart", 20.0);
    touch(&mut browser, "touchMove", 40.0);
    touch(&mut browser, "touchMove", 80.0);
    touch(&mut browser, "touchEnd", 0.0);
    browser.frame();
    assert_ne!(
        browser.eval("document.getElementById('window').textContent"),
        "whole run"
    );
    browser.shot("zoomed-390");
}

#[test]
fn the_proof_is_whole_on_a_phone() {
    let mut browser = Chromium::start("proof");
    let made = made();
    // Right edges of everything that proves an anomaly, and whether a shadow tells of what else goes on beyond an edge.
    let edges = "(() => {
        const shown = [...document.querySelectorAll('.anomaly .mark, .anomaly .outside, .evidence td, #checkers td, #promises td')]
            .map((e) => e.getBoundingClientRect()).filter((r) => r.width > 0);
        const scrolls = [...document.querySelectorAll('div.scroll')].filter((e) => e.scrollWidth > e.clientWidth);
        return {n: shown.length, right: Math.max(...shown.map((r) => r.right)), left: Math.min(...shown.map((r) => r.left)),
                bare: scrolls.filter((e) => !getComputedStyle(e).backgroundImage.includes('gradient')).length,
                proofs: scrolls.filter((e) => e.closest('.anomaly, #checkers, #promises, #faults')).length,
                drawings: [...document.querySelectorAll('#a1 svg.scene')].filter((e) => e.getBoundingClientRect().width > 0).length};
    })()";
    for width in [1280, 390, 320] {
        check(&mut browser, &page(&made, 0), operations(&made), width);
        let found = browser.eval(edges);
        assert!(found["n"].as_u64().unwrap() > 20, "{width}: {found}");
        assert!(
            found["left"].as_f64().unwrap() >= 0.0 && found["right"].as_f64().unwrap() <= f64::from(width),
            "{width}: {found}"
        );
        assert_eq!(
            (&found["bare"], &found["proofs"], &found["drawings"]),
            (&json!(0), &json!(0), &json!(1)),
            "{width}"
        );
    }
}

#[test]
fn reads_without_a_script() {
    let mut browser = Chromium::start("noscript");
    browser.window(390, 900, true);
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.open(&page(&made(), 17));
    let text = browser.call("DOM.getDocument", json!({"depth": 0}));
    let html = browser.call("DOM.getOuterHTML", json!({"nodeId": text["root"]["nodeId"]}));
    let html = html["outerHTML"].as_str().unwrap();
    // A browser with scripts turned off reads what stands in <noscript> as elements: the timeline as a still picture.
    let still = html
        .find("Without JavaScript the timeline stands still")
        .expect("the note");
    let note = &html[still..still + html[still..].find("</noscript>").expect("its end")];
    assert!(note.contains("<svg class=\"scene\"") && note.contains("epoch 9"));
    assert!(html.contains("cut off in mid-run"));
    browser.shot("noscript-390");
}

#[test]
fn hostile_text_runs_nowhere() {
    const EVIL: &str =
        "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">\u{202e}";
    let mut made = made();
    for event in &mut made.events {
        match &mut event.body {
            Body::Deposed { why, .. } | Body::Aim { why, .. } => *why = EVIL.into(),
            Body::Fault(step) | Body::Heal(step) => step.what = EVIL.into(),
            _ => {}
        }
    }
    for a in made.verdicts.iter_mut().flat_map(|v| &mut v.anomalies) {
        (a.title, a.story[0]) = (EVIL.into(), EVIL.into());
    }
    let mut browser = Chromium::start("hostile");
    for width in [1280, 390] {
        check(&mut browser, &page(&made, 0), operations(&made), width);
        assert_eq!(browser.eval("document.querySelectorAll('img').length"), 0);
        assert!(browser.eval("document.title").as_str().unwrap().contains("splitbrain"));
    }
    // Had something slipped through, the policy would not have run it, and would have said so.
    browser.eval("(() => { const s = document.createElement('script'); s.textContent = 'document.title = \"pwned\"'; document.body.append(s); })()");
    browser.frame();
    assert_ne!(browser.eval("document.title"), "pwned");
    assert!(
        browser
            .eval("document.body.dataset.errors")
            .as_str()
            .unwrap()
            .contains("policy: script-src")
    );
}

#[test]
fn prints_on_white_with_nothing_to_press() {
    let mut browser = Chromium::start("print");
    let made = made();
    let dark = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    browser.call(
        "Emulation.setEmulatedMedia",
        json!({"media": "print", "features": dark}),
    );
    check(&mut browser, &page(&made, 0), operations(&made), 1000);
    let look = "(() => { const css = (q) => getComputedStyle(document.querySelector(q)); return [css('body').backgroundColor, css('.controls').display]; })()";
    assert_eq!(browser.eval(look), json!(["rgb(255, 255, 255)", "none"]));
    browser.shot("print");
}

/// Generous bounds: they are there to catch what grows out of all proportion, on any machine. The figures are printed.
#[test]
fn a_million_operations_stay_fast() {
    let made = synthetic::run(Nanos::micros(224));
    let ops = operations(&made);
    assert!(ops >= 1_000_000, "{ops}");
    let began = Instant::now();
    let html = page(&made, 0);
    let built = began.elapsed();
    let mut browser = Chromium::start("million");
    let data = check(&mut browser, &html, ops, 1280);
    let megabytes = html.len() as f64 / 1e6;
    println!(
        "{ops} operations: built in {built:.2?} ({megabytes:.1} MB), decoded in {} ms, drawn in {} ms",
        data["load"], data["draw"]
    );
    assert!(built.as_secs() < 120, "{built:?}");
    assert!(megabytes < 14.0, "{megabytes}");
    assert!(number(&data, "load", 0) < 30_000.0 && number(&data, "draw", 0) < 3_000.0);
}
