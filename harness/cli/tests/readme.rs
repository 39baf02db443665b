//! The README is true: every command in it runs, with the exit code that it says.
mod common;
use common::Bench;

const README: &str = include_str!("../../../README.md");

/// The lines of all fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in README.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(tag)) if tag == language => block = Some(String::new()),
            (None, Some(_)) => block = Some(String::from("\0")),
            (Some(_), Some(_)) => found.extend(block.take().filter(|b| !b.starts_with('\0'))),
            (Some(text), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_command_runs_as_it_says() {
    let bench = Bench::new();
    let plans = blocks("toml");
    assert_eq!(plans.len(), 1);
    std::fs::write(bench.dir.path().join("plan.toml"), &plans[0]).unwrap();
    let mut ran = 0;
    for line in blocks("sh").iter().flat_map(|b| b.lines()) {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let code = comment.trim().strip_prefix("exit ").map_or(0, |c| c.parse().unwrap());
        let command = command.trim().replace("cargo run --release -- run", "splitbrain run");
        if let Some(rest) = command.strip_prefix("splitbrain ") {
            println!("{command}");
            // The README's paths are the project's.
            let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nemesis/plans/");
            bench.run(&rest.replace("nemesis/plans/", plans)).exits(code);
            ran += 1;
        } else {
            assert_eq!(
                command, "cargo test --workspace --release",
                "a command that this test does not know"
            );
        }
    }
    assert!(ran >= 12, "{ran} commands");
}

#[test]
fn ci_calls_the_test_command_of_the_readme() {
    let ci = include_str!("../../../.ci/run");
    assert!(ci.lines().any(|l| l.trim() == "cargo test --workspace --release"));
    assert!(README.contains("\ncargo test --workspace --release\n"));
}

#[test]
fn what_the_readme_points_at_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    assert!(root.join("harness/report/docs/anomaly.png").is_file());
    for system in splitbrain_systems::all() {
        assert!(README.contains(system.name()), "{} is not in the README", system.name());
    }
}
