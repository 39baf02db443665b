//! The README is true: every command in it runs, with the exit code that it says.
mod common;
#[path = "common/machines.rs"]
mod machines;

use common::Bench;
use machines::{SshHosts, base_image};

const README: &str = include_str!("../../../README.md");

/// The machines that the README calls its own.
const README_HOSTS: &str = "root@10.0.0.1,root@10.0.0.2,root@10.0.0.3,root@10.0.0.4";

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
    let mut hosts = None;
    for line in blocks("sh").iter().flat_map(|b| b.lines()) {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let code = comment.trim().strip_prefix("exit ").map_or(0, |c| c.parse().unwrap());
        let command = command.trim().replace("cargo run --release -- run", "splitbrain run");
        // The README's names for what every reader has his own of.
        if command == "environments/docker/base-image my-debian" {
            base_image();
            continue;
        }
        let command = command.replace("my-debian", machines::BASE);
        let command = if command.contains(README_HOSTS) {
            let flags = hosts.get_or_insert_with(|| SshHosts::start(4)).flags(4);
            let command = command.replace("--env ssh --hosts", "--hosts");
            command.replace(&format!("--hosts {README_HOSTS}"), &flags)
        } else {
            command
        };
        if let Some(rest) = command.strip_prefix("splitbrain ") {
            println!("{command}");
            // The README's paths are the project's.
            let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nemesis/plans/");
            let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/examples/");
            let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkers/samples/");
            let rest = rest
                .replace("nemesis/plans/", plans)
                .replace("checkers/samples/", samples)
                .replace("workloads/examples/", examples);
            bench.run(&rest).exits(code);
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
fn the_table_of_faults_is_the_programs_own() {
    let bench = Bench::new();
    let listed = bench.run("list faults").exits(0).out;
    let words = |text: &str| {
        text.replace(['│', '|'], " ")
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let listed = words(&listed);
    for place in ["sim", "local", "docker", "ssh", "vagrant"] {
        let row = README
            .lines()
            .find(|line| line.starts_with(&format!("| {place} | ")))
            .unwrap();
        for cell in row.split('|').map(str::trim).filter(|cell| !cell.is_empty()) {
            let short = cell.split(" (").next().unwrap();
            assert!(
                words(short).iter().all(|word| listed.contains(word)),
                "{place}: {short}"
            );
        }
    }
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
