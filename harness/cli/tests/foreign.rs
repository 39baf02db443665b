//! Histories that others recorded, through the whole program: `check --model` and `convert`.
mod common;

use common::Bench;
use serde_json::Value;

const STALE: &str = include_str!("../../../checkers/samples/stale-read.edn");
const LOCK: &str = include_str!("../../../checkers/samples/lock.jsonl");
const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:write\t3\nINFO  jepsen.util - 0\t:ok\t:write\t3\n\
                   INFO  jepsen.util - 1\t:invoke\t:read\tnil\nINFO  jepsen.util - 1\t:ok\t:read\t3\n";
const KV: &str = "{:process 0, :type :invoke, :f :append, :key \"a\", :value \"x\"}\n\
                  {:process 0, :type :ok, :f :append, :key \"a\", :value \"x\"}\n\
                  {:process 1, :type :invoke, :f :get, :key \"a\", :value nil}\n\
                  {:process 1, :type :ok, :f :get, :key \"a\", :value \"x\"}\n\
                  {:process 1, :type :invoke, :f :get, :key \"b\", :value nil}\n\
                  {:process 1, :type :ok, :f :get, :key \"b\", :value \"\"}\n";

fn with(files: &[(&str, &str)]) -> Bench {
    let bench = Bench::new();
    for (name, text) in files {
        std::fs::write(bench.dir.path().join(name), text).unwrap();
    }
    bench
}

#[test]
fn every_form_is_told_by_its_beginning_and_judged() {
    let bench = with(&[
        ("stale.edn", STALE),
        ("lock.jsonl", LOCK),
        ("a.log", LOG),
        ("kv.txt", KV),
    ]);
    let told = bench.run("check stale.edn --model cas-register").exits(1).out;
    assert!(
        told.starts_with("stale.edn: invalid: 5 operations of cas-register with and 1 without"),
        "{told}"
    );
    assert!(
        told.contains("process 2: read 2 (asked in line 11, answered in line 12)"),
        "{told}"
    );
    assert!(told.contains("after which it holds"), "{told}");
    bench.run("check lock.jsonl --model fenced-mutex").exits(0);
    bench.run("check a.log --model cas-register").exits(0);
    let told = bench.run("check kv.txt --model kv --json").exits(0).out;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["validity"], &told["files"][0]["keys"]),
        (&"valid".into(), &2.into())
    );
    // The gravest of several.
    bench.run("check a.log stale.edn --model cas-register").exits(1);
    // Nothing answered says nothing.
    let asked = LOG.lines().next().unwrap();
    std::fs::write(bench.dir.path().join("asked.log"), format!("{asked}\n")).unwrap();
    bench.run("check asked.log --model cas-register").exits(3);
}

#[test]
fn an_order_is_told_and_an_explanation_is_data() {
    let bench = with(&[("stale.edn", STALE), ("a.log", LOG)]);
    let told = bench.run("check a.log --model register --order").exits(0).out;
    let lines: Vec<&str> = told.lines().map(str::trim).skip(1).collect();
    assert_eq!(
        lines,
        [
            "process 0: write 3 (asked in line 1, answered in line 2)",
            "process 1: read 3 (asked in line 3, answered in line 4)"
        ]
    );
    let told = bench.run("check stale.edn --model cas-register --json").exits(1).out;
    let told: Value = serde_json::from_str(&told).unwrap();
    let why = &told["files"][0]["explanation"];
    assert_eq!(why["at"]["what"], "read 2");
    assert_eq!(
        (&why["next"][0]["possible"], &why["next"][0]["call"]["answered"]),
        (&false.into(), &12.into())
    );
    assert!(
        why["core"].as_array().unwrap().iter().any(|call| call["asked"] == 11),
        "{why}"
    );
    assert_eq!(
        why["prefix"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|call| call["answered"] != 0)
            .count(),
        4
    );
}

#[test]
fn comparisons_that_failed_are_read_in_both_ways() {
    let text = "[{:process 0, :type :invoke, :f :write, :value 1} {:process 0, :type :ok, :f :write, :value 1}\n\
                {:process 0, :type :invoke, :f :cas, :value [1 2]} {:process 0, :type :fail, :f :cas, :value [1 2]}]";
    let bench = with(&[("cas.edn", text)]);
    bench.run("check cas.edn --model cas-register").exits(1);
    bench
        .run("check cas.edn --model cas-register --failed-cas ignore")
        .exits(0);
}

#[test]
fn what_is_malformed_is_named_by_its_line() {
    let broken = STALE.replace(":f :write, :value 3}", ":f :write, :value }");
    let bench = with(&[("broken.edn", &broken), ("stale.edn", STALE), ("what", "who knows\n")]);
    let why = bench.run("check broken.edn --model cas-register").exits(2).err;
    assert!(why.contains("broken.edn: line 8 "), "{why}");
    let why = bench.run("check stale.edn --model fenced-mutex").exits(2).err;
    assert!(why.contains("line 2") && why.contains("acquire"), "{why}");
    let why = bench.run("check what --model kv").exits(2).err;
    assert!(why.contains("--format"), "{why}");
    let why = bench.run("check stale.edn --model registr").exits(2).err;
    assert!(why.contains("cas-register"), "{why}");
    let why = bench.run("check nowhere.edn --model kv").exits(2).err;
    assert!(why.contains("nowhere.edn"), "{why}");
}

#[test]
fn what_is_converted_reads_back_with_the_same_verdict() {
    let bench = with(&[("stale.edn", STALE)]);
    bench.run("convert stale.edn --to jsonl -o stale.jsonl").exits(0);
    bench.run("check stale.jsonl --model cas-register").exits(1);
    bench.run("convert stale.jsonl --to edn -o again.edn").exits(0);
    bench.run("check again.edn --model cas-register").exits(1);
    let trace = bench.run("convert stale.edn --to chrome-trace").exits(0).out;
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let events = trace.as_array().or(trace["traceEvents"].as_array()).unwrap();
    assert!(events.len() >= 6, "{trace}");
}

#[test]
fn our_own_runs_are_judged_and_converted_too() {
    let bench = Bench::new();
    bench
        .run("run --env sim --workload register --faults kill,partition --time-limit 20s --seed 3")
        .exits(0);
    let run = "store/raft/latest";
    bench.run(&format!("check {run} --model cas-register")).exits(0);
    bench.run(&format!("convert {run} --to edn -o run.edn")).exits(0);
    bench.run("check run.edn --model cas-register --skip-others").exits(0);
}

#[test]
fn what_cannot_be_decided_in_time_is_unknown() {
    // Which of 40 even numbers add up to an odd one?
    let mut text = String::new();
    let event = |process: i64, kind: &str, f: &str, value: i64| {
        format!("{{\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\"value\":{value}}}\n")
    };
    (0..40).for_each(|n| text += &event(n, "invoke", "add", 2 * (n * n * n + 1)));
    text += &event(40, "invoke", "read", 0);
    text += &event(40, "ok", "read", 100_001);
    (0..40).for_each(|n| text += &event(n, "ok", "add", 2 * (n * n * n + 1)));
    let bench = with(&[("sums.jsonl", &text)]);
    let told = bench
        .run("check sums.jsonl --model counter --memory 64 --timeout 20s")
        .exits(3)
        .out;
    assert!(
        told.contains("unknown") && (told.contains("MB") || told.contains("time")),
        "{told}"
    );
    let told = bench.run("check sums.jsonl --model counter --timeout 1ms").exits(3).out;
    assert!(told.contains("the time was over") || told.contains("stop"), "{told}");
}
