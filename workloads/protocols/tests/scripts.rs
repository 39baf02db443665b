//! Golden scripts: what Raft does in the situations that the paper and the thesis draw.
//!
//! A file in `scripts/` is named after its scenario. It has blocks of commands (see `script/mod.rs`), a line `----` and
//! the exact output, up to an empty line; lines before the commands that start with `#` say what to look at.
//! `UPDATE=1 cargo test` writes the output anew; the diff is the review.
mod script;

use std::fmt::Write as _;
use std::path::Path;

/// Runs the script's commands: the script with the output that they really have.
fn replay(text: &str) -> String {
    let mut cluster = script::Cluster::default();
    let (mut result, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        writeln!(result, "{line}").expect("a string takes everything");
        if line == "----" {
            for out in cluster.take_output() {
                writeln!(result, "{out}").expect("a string takes everything");
            }
            if lines.by_ref().any(|line| line.is_empty()) {
                result.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            cluster.command(line);
        }
    }
    let rest = cluster.take_output();
    assert!(rest.is_empty(), "commands without a ---- after them: {rest:?}");
    result
}

/// The first lines that differ, with a little of what is before.
fn difference(want: &str, got: &str) -> String {
    let (want, got): (Vec<_>, Vec<_>) = (want.lines().collect(), got.lines().collect());
    let same = want.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut show = |mark: &str, lines: &[&str]| lines.iter().for_each(|l| text += &format!("{mark} {l}\n"));
    show(" ", &want[same.saturating_sub(4)..same]);
    show("-", &want[same..want.len().min(same + 8)]);
    show("+", &got[same..got.len().min(same + 8)]);
    text
}

#[test]
fn scripts_come_out_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("the scripts")
        .map(|e| e.expect("a file").path())
        .collect();
    paths.sort();
    let mut failures = String::new();
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy();
        println!("{name}");
        let want = std::fs::read_to_string(path).expect("a script");
        let got = replay(&want);
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(path, &got).expect("a script");
        } else if want != got {
            failures += &format!("{name}:\n{}\n", difference(&want, &got));
        }
    }
    assert!(paths.len() >= 14, "scripts are missing: {paths:?}");
    assert!(failures.is_empty(), "{failures}");
}
