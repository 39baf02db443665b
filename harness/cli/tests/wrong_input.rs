//! Wrong input: a clear error, the right exit code, nothing left.
mod common;
use common::Bench;

/// Runs `line` and expects `code` and all of `words` on standard error.
#[track_caller]
fn check(line: &str, code: i32, words: &[&str]) {
    let bench = Bench::new();
    let ran = bench.run(line).exits(code);
    for word in words {
        assert!(ran.err.contains(word), "'{word}' is missing in: {}", ran.err);
    }
    assert!(!bench.store().exists(), "nothing was run, so nothing may be stored");
}

#[test]
fn an_unknown_name_is_answered_with_what_there_is() {
    check("run --system zab", 2, &["no system 'zab'", "raft", "etcd-election"]);
    check("run --env moon", 2, &["no environment 'moon'", "local", "sim"]);
    check("run --faults fire", 2, &["fire", "partition"]);
    check("run --faults none,kill", 2, &["none goes with no other"]);
    check("run --mutant nice-raft --env sim", 2, &["nice-raft", "forget-vote"]);
    check("run -o colour=red", 2, &["no option 'colour'"]);
    check("run -o colour", 2, &["KEY=VALUE"]);
    check("run --system etcd --env sim", 2, &["sim runs raft only"]);
    check("run --time-limit soon", 2, &["soon"]);
    check("run --time-limit 0s", 2, &["time limit"]);
    check("run --rate 0", 2, &["rate"]);
    check("run --targets king", 2, &["king", "leader"]);
    check("run --time-limit -5s", 2, &["-5s"]);
    check("run --seed -1", 2, &["-1"]);
    check("run --candidates 3", 2, &["raft has no candidates"]);
    check(
        "run --ttl 2s -o ttl=3s --system etcd-election",
        2,
        &["'ttl' is given twice"],
    );
    check("run --targets host:n99", 2, &["n99"]);
    check("frobnicate", 2, &["frobnicate"]);
}

#[test]
fn a_missing_etcd_is_named_with_the_remedy() {
    check("run --system etcd --etcd-bin /no/such/etcd", 2, &["/no/such/etcd"]);
    check(
        "run --system etcd-election --etcd-bin /no/such/etcd",
        2,
        &["/no/such/etcd"],
    );
}

#[test]
fn a_bad_plan_is_named_with_line_and_column() {
    let bench = Bench::new();
    std::fs::write(
        bench.dir.path().join("bad.toml"),
        "system = \"raft\"\nenvironment = \"sim\"\nnods = 3\n",
    )
    .unwrap();
    let ran = bench.run("run bad.toml").exits(2);
    assert!(
        ran.err.contains("bad.toml") && ran.err.contains("line 3, column 1"),
        "{}",
        ran.err
    );
    let ran = bench.run("run missing.toml").exits(2);
    assert!(ran.err.contains("missing.toml"), "{}", ran.err);
}

#[test]
fn what_is_no_history_is_named() {
    let bench = Bench::new();
    assert!(bench.run("check nowhere").exits(2).err.contains("nowhere"));
    std::fs::write(bench.dir.path().join("x.jsonl"), "hello\n").unwrap();
    assert!(bench.run("check x.jsonl").exits(2).err.contains("line 1"));
    std::fs::write(bench.dir.path().join("y.jsonl"), "").unwrap();
    assert!(bench.run("check y.jsonl").exits(2).err.contains("no header"));
}

#[test]
fn help_man_and_completions_teach() {
    let bench = Bench::new();
    let help = bench.run("--help").exits(0).out;
    assert!(help.contains("Exit codes") && help.contains("Examples"), "{help}");
    assert!(!help.contains("(internal)"), "{help}");
    assert!(bench.run("man").exits(0).out.contains(".TH"));
    assert!(bench.run("completions bash").exits(0).out.contains("splitbrain"));
    for what in ["systems", "faults", "checkers", "environments", "runs"] {
        assert!(!bench.run(&format!("list {what}")).exits(0).out.is_empty());
        let json = bench.run(&format!("list {what} --json")).exits(0).out;
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }
    bench.run("doctor").exits(0);
    assert!(bench.run("heal").exits(0).out.contains("nothing"));
}
