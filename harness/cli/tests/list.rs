//! `list systems`: one table to choose by, everything about one on demand, and the versions that are really here.
mod common;
use common::Bench;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn listed(bench: &Bench, line: &str) -> Value {
    serde_json::from_str(&bench.run(line).exits(0).out).unwrap()
}

#[test]
fn the_table_names_every_system_and_fits() {
    let bench = Bench::new();
    let table = bench.run("list systems").exits(0).out;
    for system in splitbrain_systems::all() {
        assert!(
            table.contains(system.name()),
            "{} is missing in\n{table}",
            system.name()
        );
    }
    let wide: Vec<_> = table.lines().filter(|line| line.chars().count() > 110).collect();
    assert!(wide.is_empty(), "wider than 110 columns: {wide:#?}");
    let sources = bench.run("list systems --verbose").exits(0).out;
    let promise = splitbrain_systems::find("raft").unwrap();
    let promises = promise.promises(&splitbrain_core::Plan::new("raft", "local"));
    let word = promises[0].source.split_whitespace().next().unwrap();
    assert!(sources.contains(word) && sources.contains("option"), "{sources}");
}

#[test]
fn one_system_is_told_in_full_and_an_unknown_one_is_refused() {
    let bench = Bench::new();
    for line in ["list system raft", "list systems raft"] {
        let text = bench.run(line).exits(0).out;
        for part in [
            "raft:",
            "layer: member",
            "token: ",
            "beliefs: ",
            "workloads: ",
            "leader-per-epoch",
            "option",
        ] {
            assert!(text.contains(part), "{line} does not say {part}:\n{text}");
        }
        assert!(!text.contains("etcd-election"), "{text}");
    }
    let error = bench.run("list system zab").exits(2).err;
    assert!(error.contains("no system 'zab'") && error.contains("raft"), "{error}");
    let error = bench.run("list faults --verbose").exits(2).err;
    assert!(error.contains("list systems --verbose"), "{error}");
}

#[test]
fn programs_get_everything_and_a_version_is_the_programs_own_word() {
    let bench = Bench::new();
    let systems = listed(&bench, "list systems --json")["systems"].clone();
    for system in systems.as_array().unwrap() {
        for field in [
            "layer",
            "token",
            "beliefs",
            "needs",
            "storages",
            "operations",
            "workloads",
            "promises",
        ] {
            assert!(!system[field].is_null(), "{field} is missing in {system:#}");
        }
        for need in system["needs"].as_array().unwrap() {
            assert_eq!(need["installed"], need["path"].is_string(), "{need:#}");
        }
    }
    // Another program of that name goes before the installed one, and says another version.
    let fake = bench.dir.path().join("etcd");
    std::fs::write(&fake, "#!/bin/sh\necho \"etcd Version: 9.8.7\"\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = |dirs: &str| {
        let mut command = bench.command("list system etcd --json");
        let ran = common::Ran::of(command.env("PATH", dirs).output().unwrap()).exits(0);
        let all: Value = serde_json::from_str(&ran.out).unwrap();
        all["systems"][0]["needs"][0].clone()
    };
    let need = path(&format!("{}:/bin", bench.dir.path().display()));
    assert_eq!(
        (&need["version"], &need["path"]),
        (&"9.8.7".into(), &fake.to_str().into()),
        "{need:#}"
    );
}
