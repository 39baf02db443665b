//! The house is as it is drawn: arrows, pure crates, short files, one crate that runs commands.
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CORE: &str = "splitbrain-core";

/// Crate, its folder, whether it is pure, and what it may use beside core. The binary may use everything.
const HOUSE: [(&str, &str, bool, &[&str]); 11] = [
    (CORE, "harness/core", true, &[]),
    ("splitbrain-runner", "harness/runner", false, &[]),
    ("splitbrain-report", "harness/report", true, &[]),
    ("splitbrain-nemesis", "nemesis", true, &[]),
    ("splitbrain-workloads", "workloads/ops", true, &[]),
    ("splitbrain-protocols", "workloads/protocols", true, &[]),
    ("splitbrain-node", "workloads/node", false, &["splitbrain-protocols"]),
    ("splitbrain-systems", "workloads/systems", false, &["splitbrain-node"]),
    ("splitbrain-checkers", "checkers", true, &[]),
    ("splitbrain-environments", "environments/hosts", false, &[]),
    ("splitbrain-sim", "environments/sim", true, &["splitbrain-protocols"]),
];

/// What a pure crate's `lib.rs` must say.
const PURE: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("store") {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources in {}", dir.display());
    found
}

#[test]
fn arrows_are_as_drawn() {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec().unwrap();
    let members: BTreeMap<_, _> = metadata.packages.iter().map(|p| (p.name.to_string(), p)).collect();
    let drawn: BTreeSet<_> = HOUSE
        .iter()
        .map(|(name, ..)| name.to_string())
        .chain(["splitbrain".into()])
        .collect();
    assert_eq!(
        members.keys().cloned().collect::<BTreeSet<_>>(),
        drawn,
        "the drawing and the workspace differ"
    );
    for (name, dir, _, allowed) in HOUSE {
        let package = members[name];
        assert_eq!(
            package.manifest_path.parent().unwrap(),
            root().join(dir).to_str().unwrap()
        );
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
        {
            let ours = members.contains_key(&dependency.name);
            let fine = dependency.name == CORE || allowed.contains(&dependency.name.as_str());
            assert!(!ours || fine, "{name} must not use {}", dependency.name);
        }
    }
}

#[test]
fn pure_crates_deny_what_is_impure_and_never_allow_it_back() {
    for (name, dir, pure, _) in HOUSE {
        let src = root().join(dir).join("src");
        let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
        assert_eq!(
            lib.contains(PURE),
            pure,
            "{name}: pure crates say `{PURE}`, and only they"
        );
        if pure {
            for (path, text) in sources(&src) {
                let back = ["allow(clippy::disallowed", "expect(clippy::disallowed"]
                    .iter()
                    .any(|s| text.contains(s));
                assert!(!back, "{} allows what its crate denies", path.display());
                for word in [
                    "std::fs::",
                    "std::thread::",
                    "std::net::Tcp",
                    "std::net::Udp",
                    "std::process::Command",
                    "tokio::",
                ] {
                    assert!(!text.contains(word), "{} uses {word}", path.display());
                }
            }
        }
    }
}

#[test]
fn no_source_file_is_over_500_lines() {
    let long: Vec<_> = sources(&root())
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 500)
        .collect();
    let names: Vec<_> = long
        .iter()
        .map(|(path, text)| format!("{}: {}", path.display(), text.lines().count()))
        .collect();
    assert!(names.is_empty(), "split by meaning: {names:#?}");
}

#[test]
fn nothing_but_the_hosts_crate_runs_a_command() {
    let dirs = HOUSE
        .iter()
        .map(|(_, dir, ..)| *dir)
        .filter(|dir| *dir != "environments/hosts")
        .chain(["harness/cli"]);
    for dir in dirs {
        for (path, text) in sources(&root().join(dir).join("src")) {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let runs = code.contains("process::Command");
            assert!(!runs || path.ends_with("tests.rs"), "{} runs a command", path.display());
        }
    }
}
