//! The matrix as one page without a script: a field of seeds, each linked to its run's report, and what is not well in words.
//!
//! Like a run's report it is one file, lets nothing in or out (a content security policy that names the hash of its one
//! style), and is safe to open whatever a cell said. A link leads only downwards: see [`link`].
use super::{Cell, Ending, Matrix, Row, rows};
use crate::text::{clip, count, visible};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use splitbrain_core::Validity;

const STYLE: &str = concat!(
    include_str!("../../assets/page.css"),
    include_str!("../../assets/matrix.css")
);

/// The whole page.
pub fn html(matrix: &Matrix) -> String {
    let worst = Ending::ALL.into_iter().find(|e| matrix.count(*e) > 0);
    let worst = worst.unwrap_or(Ending::Open);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(matrix, worst))
            body {
                header.top { (summary(matrix, worst)) }
                main {
                    (field(matrix))
                    (totals(matrix))
                    (unwell(matrix))
                }
                footer.quiet { "Made by splitbrain. Every seed links the report of its run, in this folder." }
            }
        }
    };
    page.into_string()
}

fn head(matrix: &Matrix, worst: Ending) -> Markup {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'");
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="referrer" content="no-referrer";
            title { (worst.symbol()) " matrix " (visible(&matrix.title)) " – splitbrain" }
            link rel="icon" href="data:,";
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// The class that colours an ending.
fn class(ending: Ending) -> &'static str {
    match ending {
        Ending::Judged(validity) => crate::words::validity(validity),
        Ending::Failed => "failed",
        Ending::LeftOut | Ending::Open => "absent",
    }
}

fn summary(matrix: &Matrix, worst: Ending) -> Markup {
    let sum = |of: fn(&Cell) -> u64| count(matrix.cells.iter().map(of).sum());
    let facts = [
        ("cells", count(matrix.cells.len() as u64)),
        ("elections", sum(|c| c.elections)),
        ("faults that acted", sum(|c| c.injected)),
        ("violations", sum(|c| c.violations)),
        ("hazards", sum(|c| c.hazards)),
        (
            "time of all",
            format!("{:.0} s", matrix.cells.iter().map(|c| c.seconds).sum::<f64>()),
        ),
    ];
    let word = match worst {
        Ending::Judged(Validity::Valid) => "All valid",
        Ending::Judged(Validity::Invalid) => "Invalid",
        Ending::Judged(Validity::Unknown) => "Unknown",
        Ending::Failed => "Failed",
        Ending::Open => "Not finished",
        Ending::LeftOut => "Incomplete",
    };
    html! {
        div class=(format!("verdict {}", class(worst))) {
            p.kicker { "splitbrain · matrix " (visible(&matrix.title)) }
            h1 { span.symbol aria-hidden="true" { (worst.symbol()) } span.word { (word) } }
            p.sentence { (matrix.sentence()) "." }
            dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
            div.copy {
                span.quiet #command-label { "Command" }
                pre.scroll #command tabindex="0" aria-labelledby="command-label" { (visible(&matrix.command)) }
            }
        }
    }
}

/// The columns of the field: a set of faults, and the workload where there are several.
fn columns(matrix: &Matrix) -> Vec<(&str, &str)> {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for cell in &matrix.cells {
        let column = (&cell.faults[..], &cell.workload[..]);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

/// Systems downwards, faults across, a mark for each seed.
fn field(matrix: &Matrix) -> Markup {
    let columns = columns(matrix);
    let mut systems: Vec<&str> = matrix.cells.iter().map(|cell| &cell.system[..]).collect();
    let mut seen = std::collections::BTreeSet::new();
    systems.retain(|system| seen.insert(*system));
    let cells = |system: &str, (faults, workload): (&str, &str)| -> Vec<&Cell> {
        let here = |c: &&Cell| c.system == system && c.faults == faults && c.workload == workload;
        matrix.cells.iter().filter(here).collect()
    };
    html! {
        section aria-labelledby="field-h" {
            h2 #field-h { "Systems by faults" }
            p.quiet { "A mark is a run under one seed, and leads to its report." }
            div.scroll tabindex="0" role="group" aria-label="Systems by faults" {
                table.field {
                    thead { tr {
                        th scope="col" { "system" }
                        @for (faults, workload) in &columns {
                            th scope="col" { (visible(faults)) @if matrix.tells_workload() { br; (visible(workload)) } }
                        }
                    } }
                    tbody { @for system in systems { tr {
                        th scope="row" { (visible(system)) }
                        @for column in &columns { td { div.seeds { @for cell in cells(system, *column) { (mark(cell)) } } } }
                    } } }
                }
            }
        }
    }
}

/// A cell as a badge, linked where it has a report.
fn mark(cell: &Cell) -> Markup {
    let class = format!("badge {}", class(cell.ending));
    let label = format!("{} seed {}: {}", cell.system, cell.seed, cell.ending.name());
    html! {
        @match cell.run.as_deref().and_then(link) {
            Some(href) => a class=(class) href=(href) title=(visible(&label)) { (cell.ending.symbol()) " " (cell.seed) },
            None => span class=(class) title=(visible(&label)) { (cell.ending.symbol()) " " (cell.seed) },
        }
    }
}

/// The address of a run's report: every byte that is not plainly part of a name is escaped, and a path that would lead
/// anywhere but downwards is none.
fn link(run: &str) -> Option<String> {
    let mut address = String::new();
    for part in run.split('/') {
        if part.is_empty() || part.bytes().all(|b| b == b'.') {
            return None;
        }
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => address.push(byte.into()),
                _ => address += &format!("%{byte:02X}"),
            }
        }
        address.push('/');
    }
    Some(address + "report.html")
}

/// The sums over the seeds.
fn totals(matrix: &Matrix) -> Markup {
    let verdicts = |row: &Row| -> Vec<(Ending, usize)> {
        let of = |ending: Ending| row.cells.iter().filter(|c| c.ending == ending).count();
        let all = Ending::ALL.into_iter().rev().map(|ending| (ending, of(ending)));
        all.filter(|(_, n)| *n > 0).collect()
    };
    html! {
        section aria-labelledby="totals-h" {
            h2 #totals-h { "Sums over the seeds" }
            div.scroll tabindex="0" role="group" aria-label="Sums over the seeds" {
                table.stack {
                    thead { tr {
                        th scope="col" { "system" } th scope="col" { "faults" }
                        @if matrix.tells_workload() { th scope="col" { "workload" } }
                        th scope="col" { "verdicts" } th scope="col" { "elections" } th scope="col" { "faults that acted" }
                        th scope="col" { "violations" } th scope="col" { "hazards" } th scope="col" { "time" }
                    } }
                    tbody { @for row in rows(matrix) { tr {
                        td { b { (visible(row.system)) } }
                        td.own-line { (visible(row.faults)) }
                        @if matrix.tells_workload() { td { (visible(row.workload)) } }
                        td.own-line { div.seeds { @for (ending, n) in verdicts(&row) {
                            span class=(format!("badge {}", class(ending))) { (ending.symbol()) " " (n) " " (ending.name()) }
                        } } }
                        td.n data-label="elections " { (count(row.sum(|c| c.elections))) }
                        td.n data-label="faults that acted " { (count(row.sum(|c| c.injected))) }
                        td.n data-label="violations " { (count(row.sum(|c| c.violations))) }
                        td.n data-label="hazards " { (count(row.sum(|c| c.hazards))) }
                        td.n data-label="time " { (format!("{:.1} s", row.seconds())) }
                    } } }
                }
            }
        }
    }
}

/// What is not valid, and what is but shows hazards: in words, the gravest first.
fn unwell(matrix: &Matrix) -> Markup {
    let valid = Ending::Judged(Validity::Valid);
    let told = |cell: &&Cell| cell.ending != valid || cell.hazards > 0;
    let mut cells: Vec<&Cell> = matrix.cells.iter().filter(told).collect();
    let rank = |ending| Ending::ALL.iter().position(|e| *e == ending);
    cells.sort_by_key(|cell| rank(cell.ending));
    html! {
        section aria-labelledby="unwell-h" {
            h2 #unwell-h { "What to look at" }
            @if cells.is_empty() { p.quiet { "Nothing: every cell is valid, and no hazard was seen." } }
            @for cell in cells {
                article.card.cell {
                    p {
                        (mark(cell)) " " b { (visible(&cell.system)) } " " (visible(&cell.faults))
                        " " span.quiet { (visible(&cell.workload)) }
                    }
                    p { (clip(&cell.sentence, 600)) }
                    @if !matches!(cell.ending, Ending::LeftOut | Ending::Open) {
                        p.actions { span.quiet { "Replay: " } code.replay { (visible(&cell.replay)) } }
                    }
                }
            }
        }
    }
}
