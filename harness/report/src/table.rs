//! The verdicts as a table for a terminal.
use crate::text::visible;
use crate::words;
use splitbrain_core::{Severity, Validity, Verdict};
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Rows};
use tabled::settings::{Alignment, Color, Style, Width};

/// One row a checker: its name, its verdict as symbol and word, what it found, and its summary, wrapped to fit a
/// terminal of 120 columns. `color` paints the verdict with ANSI escapes; nothing is said by colour alone.
pub fn verdict_table(verdicts: &[Verdict], color: bool) -> String {
    let mut builder = Builder::default();
    builder.push_record(["checker", "verdict", "violations", "hazards", "summary"]);
    for v in verdicts {
        let number = |severity| match words::total(v, severity) {
            0 => "-".to_string(),
            n => n.to_string(),
        };
        builder.push_record([
            visible(&v.checker).into_owned(),
            format!("{} {}", words::symbol(v.validity), words::validity(v.validity)),
            number(Severity::Violation),
            number(Severity::Hazard),
            visible(&v.summary).into_owned(),
        ]);
    }
    let mut table = builder.build();
    table
        .with(Style::rounded())
        .modify(Columns::last(), Width::wrap(room(verdicts)).keep_words(true))
        .modify(Columns::new(2..4), Alignment::right());
    if color {
        table.modify(Rows::first(), Color::BOLD);
        for (row, v) in verdicts.iter().enumerate() {
            let paint = match v.validity {
                Validity::Valid => Color::FG_GREEN,
                Validity::Unknown => Color::FG_YELLOW,
                Validity::Invalid => Color::FG_RED,
            };
            table.modify((row + 1, 1), paint);
        }
    }
    table.to_string()
}

/// What a terminal of 120 columns leaves for the summaries beside the other columns and the borders.
fn room(verdicts: &[Verdict]) -> usize {
    let checker = verdicts
        .iter()
        .map(|v| visible(&v.checker).chars().count())
        .max()
        .unwrap_or(0);
    let others = "| ? unknown | violations | hazards |  |".len() + 4;
    120usize.saturating_sub(checker.max("checker".len()) + others).max(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts() -> Vec<Verdict> {
        vec![
            Verdict::new("epochs-per-observer", "9 epochs, one leader each".into(), vec![]),
            Verdict::unknown("coverage", "no fault \u{1b}[2J hit its target ".repeat(4)),
        ]
    }

    #[test]
    fn plain_text_has_no_escapes_and_fits() {
        let table = verdict_table(&verdicts(), false);
        assert!(!table.contains('\u{1b}'), "{table}");
        assert!(
            table.contains("✓ valid") && table.contains("? unknown") && table.contains("␛[2J"),
            "{table}"
        );
        assert!(table.lines().all(|l| l.chars().count() <= 120), "{table}");
    }

    #[test]
    fn colour_is_only_paint() {
        let painted = verdict_table(&verdicts(), true);
        assert!(painted.contains("\u{1b}[32m"), "{painted:?}");
        let stripped = painted.split('\u{1b}').enumerate().map(|(i, part)| match i {
            0 => part,
            _ => part.split_once('m').map_or(part, |(_, rest)| rest),
        });
        assert_eq!(stripped.collect::<String>(), verdict_table(&verdicts(), false));
    }
}
