use super::*;
use crate::synthetic::{self, REPLAY, Synthetic};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Body, Nanos, Process};

fn page(made: &Synthetic, replay: &str, torn: usize) -> String {
    html(&Run {
        header: &made.header,
        events: &made.events,
        verdicts: &made.verdicts,
        replay,
        title: "raft-unfenced",
        torn,
    })
}

fn made() -> Synthetic {
    synthetic::run(Nanos::millis(60))
}

fn check(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "the page lacks: {part}");
    }
}

#[test]
fn the_page_holds_what_a_reader_looks_for() {
    let page = page(&made(), REPLAY, 0);
    check(
        &page,
        &[
            "<span class=\"word\">Invalid</span>",
            "raft broke what it promises: no-damage (2 violations), under seed 20261120",
            "n2 wrote under token 1 after n4 had written under token 2",
            "found by the checker <code>no-damage</code>",
            "href=\"#a1e1\"",
            "id=\"a1e1\"",
            "leader-from-servers: n2 | n1 n3 n4 n5",
            "kill of pid 4512 on n5: no such process",
            "Election Safety: at most one leader can be elected",
            "unless packet was injected",
            "not in force here: packet was",
            "\u{2713} held",
            "\u{25b2} broken",
            "\u{25c6} hazard seen",
            "? not judged",
            "\u{25cb} missed",
            "Writes per second",
            "Latency of writes",
            "storage = &quot;unfenced&quot;",
            "<noscript>",
            REPLAY,
        ],
    );
    assert!(!page.contains("cut off in mid-run"));
    assert_eq!(page.matches("<script").count(), 4, "three data elements and one script");
}

#[test]
fn the_same_history_gives_the_same_bytes() {
    assert_eq!(page(&made(), REPLAY, 0), page(&made(), REPLAY, 0));
}

#[test]
fn the_policy_names_the_hashes_of_what_is_there_and_nothing_needs_more() {
    let page = page(&made(), REPLAY, 0);
    let between = |from: &str, to: &str| {
        let start = page.rfind(from).unwrap() + from.len();
        page[start..start + page[start..].find(to).unwrap()].to_string()
    };
    let policy = format!(
        "content=\"default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'\"",
        source(&between("<style>", "</style>")),
        source(&between("<script>", "</script>"))
    );
    check(&page, &[&policy]);
    for forbidden in [
        " style=",
        "http://",
        "https://",
        " onclick=",
        " src=",
        "url(http",
        "innerHTML",
        "eval(",
    ] {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
}

#[test]
fn a_cut_history_is_told_of_first() {
    let mut made = made();
    made.events.pop();
    let cut = page(&made, REPLAY, 17);
    check(&cut, &["cut off in mid-run", "17 bytes were left out"]);
    assert!(cut.find("cut off in mid-run") < cut.find("id=\"timeline\""));
    let body = Body::Aborted {
        why: "interrupted".into(),
    };
    let last = made.events.last_mut().unwrap();
    (last.process, last.body) = (Process::Control, body);
    check(&page(&made, REPLAY, 0), &["This run was broken off.", "interrupted"]);
}

#[test]
fn what_broke_by_itself_is_told_and_bounded() {
    let mut made = made();
    let garbage = |host| Body::Garbage {
        host,
        what: "no JSON: <b>\u{7}".into(),
    };
    for event in made.events.iter_mut().filter(|e| e.body.is_operation()).take(60) {
        event.body = garbage(synthetic::host(1));
        event.process = Process::Host(synthetic::host(1));
    }
    let page = page(&made, REPLAY, 0);
    check(
        &page,
        &["What broke without being asked", "no JSON: &lt;b&gt;␇", "And 10 more."],
    );
}

#[test]
fn leadership_is_told_by_the_checker_and_measured_only_where_it_is_silent() {
    let mut made = made();
    let told = page(&made, REPLAY, 0);
    check(
        &told,
        &[
            "4.2 % of the time under faults",
            "<dd>1.10 s",
            "max 1.60 s, 7 failovers",
            "not proven",
        ],
    );
    made.verdicts.retain(|v| v.checker != "recovery");
    // The one reign that died before another began did so at 18.004 s, and the next began at 19.6 s.
    let measured = page(&made, REPLAY, 0);
    check(
        &measured,
        &["max 1.60 s, 7 failovers", "<dt>longest without</dt><dd>1.60 s"],
    );
    for told in ["4.2 % of the time under faults", "<dd>1.10 s"] {
        assert!(!measured.contains(told), "{told}");
    }
}

#[test]
fn an_empty_run_still_has_a_page() {
    let mut made = made();
    made.events.clear();
    made.verdicts.clear();
    made.header.hosts.clear();
    made.header.promises.clear();
    check(
        &page(&made, "", 0),
        &[
            "<span class=\"word\">Unknown</span>",
            "no checker judged it",
            "promises nothing",
        ],
    );
}

/// Everything that a host or a plan could have written is put in the place of some text that the page shows.
#[test]
fn hostile_text_stays_text() {
    const EVIL: &str = "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)>\u{202e}\u{1b}[31m\0'&<!--";
    let mut made = made();
    made.header.plan.system = EVIL.into();
    made.header.plan.mutant = Some(EVIL.into());
    made.header.plan.options.insert(EVIL.into(), EVIL.into());
    made.header.promises.iter_mut().for_each(|p| p.source = EVIL.into());
    for event in &mut made.events {
        event.error = event.error.as_ref().map(|_| EVIL.into());
        match &mut event.body {
            Body::Deposed { why, .. } | Body::Aim { why, .. } => *why = EVIL.into(),
            Body::Fault(step) | Body::Heal(step) => {
                step.what = EVIL.into();
                step.proofs
                    .iter_mut()
                    .for_each(|p| (p.at, p.saw) = (EVIL.into(), EVIL.into()));
            }
            _ => {}
        }
    }
    for v in &mut made.verdicts {
        (v.checker, v.summary) = (EVIL.into(), EVIL.into());
        v.figures
            .iter_mut()
            .for_each(|f| (f.name, f.unit) = (EVIL.into(), EVIL.into()));
        for a in &mut v.anomalies {
            a.title = EVIL.into();
            a.story.iter_mut().for_each(|s| s.push_str(EVIL));
            // A marker's event may be any event: the last note of the run is one with text of a host.
            a.evidence.extend(
                made.events
                    .iter()
                    .rev()
                    .filter(|e| matches!(e.body, Body::Deposed { .. }))
                    .map(|e| e.index)
                    .take(1),
            );
        }
    }
    let page = page(&made, EVIL, 0);
    assert_eq!(page.matches("<script").count(), 4);
    assert_eq!(page.matches("</script>").count(), 4);
    assert!(!page.contains("<img"));
    assert!(!page.contains("<!--"));
    assert!(!page.contains(['\u{202e}', '\u{1b}', '\0']));
    check(&page, &["⟨U+202E⟩", "␛[31m", "&lt;/script&gt;"]);
}

#[test]
fn a_fault_of_links_clocks_or_disks_stands_above_its_lanes() {
    let mut made = made();
    let before = page(&made, REPLAY, 0);
    check(&before, &["band packet line", "band partition line"]);
    for absent in ["band clock line", "band disk line", "band kill line", "band pause line"] {
        assert!(!before.contains(absent), "{absent}");
    }
    for event in &mut made.events {
        if let Body::Fault(step) | Body::Heal(step) = &mut event.body {
            step.kind = match step.kind {
                FaultKind::Packet => FaultKind::Clock,
                FaultKind::Partition => FaultKind::Disk,
                other => other,
            };
        }
    }
    let after = page(&made, REPLAY, 0);
    let lines = |page: &str, kind: &str| page.matches(&format!("class=\"band {kind} line\"")).count();
    assert_eq!(lines(&after, "clock"), lines(&before, "packet"));
    assert_eq!(
        lines(&after, "disk"),
        lines(&before, "partition") - 1,
        "but for the legend's"
    );
    check(
        &after,
        &["dot clock", "dot disk", "fault clock", "clock fault", "disk fault"],
    );
}
