use super::*;
use quick_junit::Report;

fn cell(system: &str, faults: &str, seed: u64, ending: Ending) -> Cell {
    Cell {
        id: format!("{system}-{faults}-s{seed}"),
        system: system.into(),
        faults: faults.into(),
        workload: "leadership".into(),
        seed,
        ending,
        sentence: format!("{system} under seed {seed} ended so."),
        exit: Some(0),
        seconds: 1.5,
        elections: 3,
        injected: 4,
        hazards: 0,
        violations: u64::from(ending == Ending::Judged(Validity::Invalid)),
        replay: format!("splitbrain run --system {system} --seed {seed}"),
        run: Some(format!("cells/{system}/s{seed}")),
    }
}

fn matrix() -> Matrix {
    let judged = Ending::Judged;
    Matrix {
        title: "20261121T010203.000Z".into(),
        command: "splitbrain matrix --systems raft,etcd,redis".into(),
        cells: vec![
            cell("raft", "partition,kill,pause", 7, judged(Validity::Valid)),
            cell("raft", "partition,kill,pause", 8, judged(Validity::Valid)),
            cell("raft", "clock", 7, judged(Validity::Invalid)),
            cell("etcd", "partition,kill,pause", 7, judged(Validity::Unknown)),
            cell("etcd", "clock", 7, Ending::Failed),
            cell("redis", "clock", 7, Ending::LeftOut),
            cell("redis", "clock", 8, Ending::Open),
        ],
    }
}

#[test]
fn the_table_adds_up_the_seeds_and_tells_what_is_not_valid() {
    let table = table(&matrix(), 110);
    let row = |start: &str| {
        let found = table.lines().find(|line| line.contains(start));
        found.unwrap_or_else(|| panic!("no {start} in\n{table}")).to_string()
    };
    let words = |line: String| {
        line.replace('│', " ")
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let sums = words(row("✓ 2 valid"));
    assert_eq!(sums[..2], ["raft", "partition,kill,pause"]);
    assert_eq!(sums[sums.len() - 6..], ["6", "8", "0", "0", "3.0", "s"], "{table}");
    assert!(row("✗ raft-clock-s7").contains("raft under seed 7"));
    // The gravest first, and no command for what was never run.
    let at = |word: &str| table.find(word).unwrap_or_else(|| panic!("no {word} in\n{table}"));
    assert!(
        at("✗ raft-clock") < at("! etcd-clock") && at("! etcd-clock") < at("? etcd-partition"),
        "{table}"
    );
    assert!(
        table.contains("--system etcd --seed 7") && !table.contains("--system redis"),
        "{table}"
    );
    assert!(!table.contains("workload"), "one workload need not be told:\n{table}");
    let skipped = words(row("– 1 left out"));
    assert_eq!(
        skipped[skipped.len() - 5..],
        ["-"; 5],
        "what did not run has no numbers:\n{table}"
    );
    assert_eq!(
        matrix().sentence(),
        "7 cells: 1 invalid, 1 failed, 1 unknown, 1 not run, 1 left out, 2 valid"
    );
}

#[test]
fn junit_tells_failures_errors_and_skips_apart() {
    let xml = junit(&matrix()).unwrap();
    let report = Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (7, 1, 2), "{xml}");
    assert_eq!(xml.matches("<skipped").count(), 2, "{xml}");
    assert_eq!(report.test_suites.len(), 5, "a suite for each row: {xml}");
}

#[test]
fn the_page_links_every_report_by_a_relative_path() {
    let page = html(&matrix());
    for seed in [7, 8] {
        assert!(
            page.contains(&format!("href=\"cells/raft/s{seed}/report.html\"")),
            "{page}"
        );
    }
    assert!(
        page.contains("<h1><span class=\"symbol\" aria-hidden=\"true\">✗</span>"),
        "{page}"
    );
    assert!(!page.contains("<script"), "the page has no script");
}

#[test]
fn hostile_words_stay_words() {
    let mut matrix = matrix();
    let evil = "<script>alert(1)</script>\u{202e}\"'&";
    for cell in &mut matrix.cells {
        cell.system = evil.into();
        cell.faults = evil.into();
        cell.workload = evil.into();
        cell.sentence = evil.into();
        cell.replay = evil.into();
    }
    matrix.cells[0].run = Some("javascript:alert(1)//x y\"".into());
    matrix.cells[1].run = Some("../../etc".into());
    matrix.cells[2].run = Some("/etc".into());
    matrix.command = evil.into();
    matrix.title = evil.into();
    let page = html(&matrix);
    assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
    assert!(
        !page.contains("javascript:") && !page.contains("href=\"..") && !page.contains("href=\"/"),
        "{page}"
    );
    let xml = junit(&matrix).unwrap();
    assert!(
        Report::deserialize_from_str(&xml).is_ok() && !xml.contains("<script"),
        "{xml}"
    );
    assert!(!table(&matrix, 110).contains('\u{202e}'));
}
