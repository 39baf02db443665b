//! The tables: what was promised, what each checker said, which faults were injected, and the plan.
use crate::picture::{FaultSpan, Picture};
use crate::text::{clip, count, figure, instant, plural, span, visible};
use crate::{Run, words};
use maud::{Markup, html};
use splitbrain_core::event::Hit;
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Body, Guarantee, Holds, Promise, Proof, Severity, Validity, Verdict};

/// What was found of a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Held,
    Unseen,
    Unpromised,
    Broken(u64),
    Hazard(u64),
    NotJudged(String),
}

/// What the verdicts say of a guarantee. Only a checker of that name may say that it held: that others found no fault
/// in passing is no proof.
fn found(verdicts: &[Verdict], guarantee: Guarantee, promised: bool) -> Found {
    let seen = |severity| {
        let of = |v: &&Verdict| {
            v.anomalies
                .iter()
                .any(|a| a.guarantee == guarantee && a.severity == severity)
        };
        let kept = verdicts.iter().flat_map(|v| &v.anomalies);
        let n = kept
            .filter(|a| a.guarantee == guarantee && a.severity == severity)
            .count() as u64;
        let own = verdicts.iter().filter(of).find(|v| v.checker == guarantee.name());
        own.map_or(n, |v| words::total(v, severity).max(n))
    };
    match (seen(Severity::Violation), seen(Severity::Hazard)) {
        (0, 0) => {}
        (0, hazards) => return Found::Hazard(hazards),
        (violations, _) => return Found::Broken(violations),
    }
    match verdicts.iter().find(|v| v.checker == guarantee.name()) {
        Some(v) if v.validity == Validity::Valid && promised => Found::Held,
        Some(v) if v.validity == Validity::Valid => Found::Unseen,
        _ if !promised => Found::Unpromised,
        Some(v) => Found::NotJudged(v.summary.clone()),
        None => Found::NotJudged("no checker judged it in this run".into()),
    }
}

/// When it is promised, and whether that was so in this run.
fn holds(promise: &Promise, tried: &[FaultKind]) -> Markup {
    let names = |kinds: &[FaultKind]| kinds.iter().map(|k| k.name()).collect::<Vec<_>>().join(" or ");
    html! {
        @match &promise.holds {
            Holds::Always => { "always" },
            Holds::Never => { "never promised" },
            Holds::Unless(kinds) => {
                "unless " (names(kinds)) " was injected"
                @let lapsed: Vec<FaultKind> = kinds.iter().copied().filter(|k| tried.contains(k)).collect();
                @if !lapsed.is_empty() { br; span.quiet { "not in force here: " (names(&lapsed)) " was" } }
            },
        }
    }
}

/// The kinds of faults that were tried. A process that ended by itself lifts a promise as a kill does.
fn tried(run: &Run) -> Vec<FaultKind> {
    let mut kinds: Vec<FaultKind> = Vec::new();
    for event in run.events {
        match &event.body {
            Body::Fault(step) => kinds.push(step.kind),
            Body::Exited { .. } => kinds.push(FaultKind::Kill),
            _ => {}
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What was promised and what was not.
pub fn promises(run: &Run) -> Markup {
    let (promised, tried) = (&run.header.promises, tried(run));
    let mut rest: Vec<Guarantee> = run
        .verdicts
        .iter()
        .flat_map(|v| &v.anomalies)
        .map(|a| a.guarantee)
        .collect();
    rest.sort_unstable();
    rest.dedup();
    rest.retain(|g| promised.iter().all(|p| p.guarantee != *g));
    html! {
        section #promises aria-labelledby="promises-h" {
            h2 #promises-h { "What was promised, and what was not" }
            @if !run.header.beliefs.is_empty() {
                p.quiet { "What each host believed is known from this source: " (visible(&run.header.beliefs)) "." }
            }
            div.scroll tabindex="0" role="group" aria-label="Promises" {
                table.stack {
                    thead { tr {
                        th scope="col" { "guarantee" } th scope="col" { "promised" } th scope="col" { "found" } th scope="col" { "why, and who says so" }
                    } }
                    tbody {
                        @for p in promised {
                            tr {
                                td { code { (p.guarantee.name()) } @if let Some(w) = p.within { br; span.quiet { "within " (span(w)) } } }
                                td.own-line data-label="promised " { (holds(p, &tried)) }
                                td { (found_cell(&found(run.verdicts, p.guarantee, p.holds != Holds::Never))) }
                                td.wide.own-line { (visible(&p.source)) }
                            }
                        }
                        @for g in rest {
                            tr {
                                td { code { (g.name()) } }
                                td.own-line data-label="promised " { "never promised" }
                                td { (found_cell(&found(run.verdicts, g, false))) }
                                td.wide.quiet.own-line { "The system says nothing of it." }
                            }
                        }
                        @if promised.is_empty() { tr { td colspan="4" { "The system promises nothing." } } }
                    }
                }
            }
        }
    }
}

fn found_cell(found: &Found) -> Markup {
    html! {
        @match found {
            Found::Unseen => { span.quiet { "– none seen" } }
            Found::Unpromised => { span.quiet { "– not promised, not judged" } }
            Found::Held => span.badge.valid { "✓ held" },
            Found::Broken(n) => { span.badge.violation { "▲ broken" } " " span.quiet { (count(*n)) "×" } },
            Found::Hazard(n) => { span.badge.hazard { "◆ hazard seen" } " " span.quiet { (count(*n)) "×" } },
            Found::NotJudged(why) => { span.badge.unknown { "? not judged" } br; span.quiet { (clip(why, 160)) } },
        }
    }
}

/// What each checker said.
pub fn checkers(run: &Run) -> Markup {
    html! {
        section #checkers aria-labelledby="checkers-h" {
            h2 #checkers-h { "What each checker said" }
            @if run.verdicts.is_empty() { p.quiet { "No checker judged this run." } }
            div.scroll tabindex="0" role="group" aria-label="Verdicts" {
                table.stack {
                    thead { tr {
                        th scope="col" { "checker" } th scope="col" { "verdict" } th scope="col" { "violations" }
                        th scope="col" { "hazards" } th scope="col" { "summary" } th scope="col" { "figures" }
                    } }
                    tbody {
                        @for v in run.verdicts {
                            tr {
                                td { code { (visible(&v.checker)) } }
                                td { span class=(format!("badge {}", words::validity(v.validity))) { (words::symbol(v.validity)) " " (words::validity(v.validity)) } }
                                td.n.zero[words::total(v, Severity::Violation) == 0] data-label="violations " { (dash(words::total(v, Severity::Violation))) }
                                td.n.zero[words::total(v, Severity::Hazard) == 0] data-label="hazards " { (dash(words::total(v, Severity::Hazard))) }
                                td.wide.own-line { (visible(&v.summary)) }
                                td.own-line { @for f in &v.figures {
                                    div.figure { span.quiet { (visible(&f.name)) } " " b { (visible(&figure(f.value, &f.unit))) } }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn dash(n: u64) -> String {
    if n == 0 { "–".into() } else { count(n) }
}

/// The faults, with what proves them.
pub fn faults(picture: &Picture) -> Markup {
    html! {
        section #faults aria-labelledby="faults-h" {
            h2 #faults-h { "Faults" }
            @if picture.faults.is_empty() { p.quiet { "None was injected." } }
            @else {
                div.scroll tabindex="0" role="group" aria-label="Faults" {
                    table.stack {
                        thead { tr {
                            th scope="col" { "fault" } th scope="col" { "began" } th scope="col" { "healed" } th scope="col" { "what" }
                            th scope="col" { "targets" } th scope="col" { "aim" } th scope="col" { "seen where it acted" }
                        } }
                        tbody { @for f in &picture.faults { (fault(picture, f)) } }
                    }
                }
            }
        }
    }
}

fn fault(picture: &Picture, f: &FaultSpan) -> Markup {
    let targets: Vec<String> = f.targets.iter().map(|t| t.to_string()).collect();
    html! {
        tr id=(format!("f{}", f.number)) {
            td.n data-label="fault " { (f.number) }
            td.n data-label="began " { @match f.from {
                Some(t) => { (instant(t)) " s" },
                None => { (instant(f.asked)) " s" br; b { "took no effect" } },
            } }
            td.n data-label="healed " { @match (f.from, f.healed) {
                (Some(from), Some(t)) => { (instant(t)) " s" br; span.quiet { "after " (span(t.since(from))) } },
                (Some(_), None) => { b { "not seen" } },
                (None, _) => { "–" },
            } }
            td.own-line { span class=(format!("dot {}", f.kind.map_or("none", FaultKind::name))) {} " " (visible(&f.what)) }
            td.own-line data-label="targets " { (targets.join(" ")) }
            td.own-line data-label="aim " { @match &f.aimed {
                Some(aim) => { (hit(aim.hit)) " " span.quiet { (aim.target) } br; span.quiet { (clip(&aim.why, 160)) } },
                None => { "–" },
            } }
            td.own-line {
                (proofs(&f.proofs))
                @if !f.heal_proofs.is_empty() { details { summary.quiet { "healed: " (plural(f.heal_proofs.len() as u64, "proof", "proofs")) } (proofs(&f.heal_proofs)) } }
                @for e in &f.errors { div { span.badge.unknown { "! failed" } " " (clip(e, 240)) } }
                @if f.from.is_some() && f.proofs.is_empty() && picture.end > f.asked { span.quiet { "no proof recorded" } }
            }
        }
    }
}

/// How many proofs stand open in a fault's row.
const OPEN_PROOFS: usize = 2;

fn proofs(all: &[Proof]) -> Markup {
    let one = |p: &Proof| html! { div.proof-line { code { (clip(&p.at, 40)) } " " (clip(&p.saw, 160)) } };
    html! {
        @for p in all.iter().take(OPEN_PROOFS) { (one(p)) }
        @if all.len() > OPEN_PROOFS {
            details { summary.quiet { (all.len() - OPEN_PROOFS) " more" } @for p in &all[OPEN_PROOFS..] { (one(p)) } }
        }
    }
}

fn hit(hit: Hit) -> Markup {
    html! { @match hit {
        Hit::Hit => span.badge.valid { "● hit" },
        Hit::Missed => span.badge.unknown { "○ missed" },
        Hit::Moved => span.badge.unknown { "→ moved" },
    } }
}

/// What hosts did that nobody asked for: processes that ended by themselves, lines that are no word of the protocol.
pub fn troubles(picture: &Picture) -> Markup {
    let more = picture.all_troubles - picture.troubles.len() as u64;
    html! {
        @if !picture.troubles.is_empty() {
            section #troubles aria-labelledby="troubles-h" {
                h2 #troubles-h { "What broke without being asked" }
                div.scroll tabindex="0" role="group" aria-label="Troubles" {
                    table.stack {
                        thead { tr { th scope="col" { "time" } th scope="col" { "host" } th scope="col" { "what" } } }
                        tbody { @for (time, host, what) in &picture.troubles {
                            tr { td.n { (instant(*time)) " s" } td { (host) } td.wide { code.long { (clip(what, 300)) } } }
                        } }
                    }
                }
                @if more > 0 { p.quiet { "And " (count(more)) " more." } }
            }
        }
    }
}

/// The plan, and how to run it again.
pub fn plan(run: &Run) -> Markup {
    let json = serde_json::to_value(&run.header.plan).unwrap_or_default();
    html! {
        section #plan aria-labelledby="plan-h" {
            h2 #plan-h { "The plan" }
            pre.scroll.plan tabindex="0" { (super::toml::write(&json)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::{Anomaly, Nanos};

    fn verdict(checker: &str, severity: Option<Severity>, guarantee: Guarantee) -> Verdict {
        let anomaly = |severity| Anomaly {
            severity,
            guarantee,
            title: String::new(),
            story: vec![],
            evidence: vec![],
            hosts: vec![],
            from: Nanos::ZERO,
            to: Nanos::ZERO,
        };
        Verdict::new(checker, "why".into(), severity.map(anomaly).into_iter().collect())
    }

    #[test]
    fn only_its_own_checker_says_that_a_guarantee_held() {
        let g = Guarantee::Exclusion;
        assert_eq!(found(&[verdict("exclusion", None, g)], g, true), Found::Held);
        assert_eq!(found(&[verdict("exclusion", None, g)], g, false), Found::Unseen);
        assert!(matches!(
            found(&[verdict("other", None, g)], g, true),
            Found::NotJudged(_)
        ));
        assert_eq!(
            found(&[verdict("other", Some(Severity::Hazard), g)], g, true),
            Found::Hazard(1)
        );
        assert_eq!(
            found(&[verdict("exclusion", Some(Severity::Violation), g)], g, true),
            Found::Broken(1)
        );
        assert_eq!(
            found(&[Verdict::unknown("exclusion", "nobody led".into())], g, true),
            Found::NotJudged("nobody led".into())
        );
        assert_eq!(
            found(&[Verdict::unknown("exclusion", "nobody led".into())], g, false),
            Found::Unpromised
        );
        assert_eq!(found(&[], g, false), Found::Unpromised);
    }
}
