//! A service of the user's own, through the whole program: honest ones, and those that lie, hang, flood, print garbage and
//! exit.
mod common;
use common::{Bench, Ran, elections, faults, verdict};
use splitbrain_core::event::Body;
use std::time::{Duration, Instant};

/// A candidate without any election: c1 leads from the start, unless `ELECTED` says otherwise, and nothing is written.
/// What a test's own lines do not change is honest.
const HONEST: &str = r#"
say() { printf '%s\n' "$1"; }
elected() { leads=$1; epoch=$2; say "{\"event\":\"elected\",\"epoch\":$epoch,\"reign\":$leads}"; }
deposed() { leads=''; say "{\"event\":\"deposed\",\"reign\":$1,\"why\":\"told so\"}"; }
begin() { if [ "$SPLITBRAIN_HOST" = c1 ]; then elected 1 1; fi; }
observed() { :; }
status() { if [ -n "$leads" ]; then say "{\"id\":$1,\"ok\":{\"role\":\"leader\",\"reign\":$leads,\"epoch\":$epoch}}"
           else say "{\"id\":$1,\"ok\":{\"role\":\"follower\"}}"; fi; }
live() {
    leads='' count=0
    say '{"event":"ready"}'
    begin
    while IFS= read -r line; do
        id=${line#*:}; id=${id%%,*}
        case $line in
            *observe*) count=$((count + 1)); observed "$id"; status "$id" ;;
            *) say "{\"id\":$id,\"fail\":{\"reason\":\"unknown-op\"}}" ;;
        esac
    done
}
"#;

/// Runs a candidate that is [`HONEST`] but for `change`, in a plan with `deploy` at its end.
fn run(bench: &Bench, change: &str, line: &str, deploy: &str) -> Ran {
    let dir = bench.dir.path();
    std::fs::write(dir.join("mine.sh"), format!("{HONEST}\n{change}\nlive\n")).unwrap();
    let plan = format!(
        "system = \"candidate\"\nenvironment = \"local\"\ncandidates = 2\ntime-limit = \"4s\"\n{deploy}\n\
         [deploy.candidate]\ncommand = \"bash mine.sh\"\nfiles = [\"mine.sh\"]\n"
    );
    std::fs::write(dir.join("plan.toml"), plan).unwrap();
    bench.run(&format!("run plan.toml --seed 7 {line}"))
}

/// What a run that failed must leave: the words, a history that ends, a report.
#[track_caller]
fn check_failed(change: &str, words: &[&str]) -> Bench {
    let bench = Bench::new();
    let began = Instant::now();
    let ran = run(&bench, change, "-o recovery=8s", "").exits(4);
    for word in words {
        assert!(ran.err.contains(word), "'{word}' is missing in: {}", ran.err);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(bench.history("candidate").is_whole());
    assert!(bench.latest("candidate").join("report.html").is_file());
    bench
}

#[test]
fn an_honest_candidate_is_judged_and_not_blamed() {
    let bench = Bench::new();
    // Nothing was written, so nothing is said of writes.
    run(&bench, "", "--faults none", "").exits(3);
    let outcome = bench.verdicts("candidate");
    assert_eq!(verdict(&outcome, "leader-per-epoch")["validity"], "valid");
    assert_eq!(verdict(&outcome, "final-agreement")["validity"], "valid");
}

/// From its twentieth look on, c2 has been elected, and c1 does not know.
const LOST: &str =
    r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then elected 1 "$C2_EPOCH"; fi; }"#;

#[test]
fn who_claims_a_lead_that_he_lost_is_named() {
    let lost = format!("C2_EPOCH=2\n{LOST}");
    let bench = Bench::new();
    let ran = run(&bench, &lost, "--faults none -o recovery=2s", "");
    let outcome = bench.verdicts("candidate");
    let exclusion = verdict(&outcome, "exclusion");
    let text = exclusion.to_string();
    assert!(
        text.contains("hazard") && text.contains("c1") && text.contains("c2"),
        "{text}"
    );
    // Both go on leading, so they never agree.
    assert_ne!(ran.code, Some(0), "{}", ran.out);

    let bench = Bench::new();
    let promised = "[deploy.promises]\nexclusion = \"always\"\n";
    run(&bench, &lost, "--faults none -o recovery=2s", promised).exits(1);
    assert_eq!(
        verdict(&bench.verdicts("candidate"), "exclusion")["validity"],
        "invalid"
    );
}

#[test]
fn who_claims_anothers_epoch_breaks_a_promise_and_is_named() {
    let bench = Bench::new();
    run(
        &bench,
        &format!("C2_EPOCH=1\n{LOST}"),
        "--faults none -o recovery=2s",
        "",
    )
    .exits(1);
    let outcome = bench.verdicts("candidate");
    let broken = verdict(&outcome, "leader-per-epoch");
    assert_eq!(broken["validity"], "invalid");
    let text = broken["anomalies"].to_string();
    assert!(text.contains("c1") && text.contains("c2"), "{text}");
}

#[test]
fn who_contradicts_himself_is_named() {
    check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c1 ] && [ "$count" = 20 ]; then deposed 1; leads=1; fi; }"#,
        &[
            "c1 does not speak the candidate protocol",
            "reign 1, which it said was over",
        ],
    );
}

#[test]
fn who_answers_what_he_was_not_asked_is_named() {
    check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then status "$1"; fi; }"#,
        &["c2 does not speak the candidate protocol", "had answered before"],
    );
    check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then status 999999; fi; }"#,
        &["c2 does not speak the candidate protocol", "999999"],
    );
}

#[test]
fn who_is_never_ready_is_named() {
    check_failed(
        r#"begin() { :; }; say() { [ "$SPLITBRAIN_HOST" = c2 ] || printf '%s\n' "$1"; }"#,
        &["not ready within 30", "{c2}"],
    );
}

#[test]
fn who_stops_answering_is_named() {
    check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then exec cat >/dev/null; fi; }"#,
        &["c2 stopped answering"],
    );
}

#[test]
fn who_prints_garbage_is_named() {
    let bench = check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then say 'hello <b>world</b>'; fi; }"#,
        &["c2 does not speak the candidate protocol", "hello <b>world</b>"],
    );
    let report = std::fs::read_to_string(bench.latest("candidate").join("report.html")).unwrap();
    assert!(!report.contains("hello <b>"), "what a host said is escaped");
}

#[test]
fn who_exits_is_named_with_his_last_words() {
    check_failed(
        r#"observed() { if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then echo "out of luck" >&2; exit 7; fi; }"#,
        &["c2 ended by itself", "exit status 7", "out of luck"],
    );
}

/// A flood of `what` from c2, once it has been asked a while: the run ends soon, with a small history, in little memory.
#[track_caller]
fn check_flood(what: &str, words: &[&str]) {
    let change =
        format!(r#"observed() {{ if [ "$SPLITBRAIN_HOST" = c2 ] && [ "$count" = 20 ]; then exec {what}; fi; }}"#);
    let bench = check_failed(&change, words);
    let events = bench.history("candidate").events.len();
    assert!(events < 50_000, "{events} events");
}

#[test]
fn who_floods_is_named_and_costs_little() {
    let before = children_peak();
    // Nothing is wrong with any of these lines, but their number.
    check_flood(
        r#"awk 'BEGIN { for (n = 1; ; n++) print "{\"event\":\"elected\",\"epoch\":" 1000 + n ",\"reign\":" n "}" }'"#,
        &["c2 does not speak the candidate protocol", "it floods"],
    );
    check_flood("yes garbage", &["c2 does not speak the candidate protocol"]);
    check_flood("tr '\\0' x </dev/zero", &["c2 does not speak", "65536 bytes allowed"]);
    let peak = children_peak();
    println!("control's peak: {before} KiB before, {peak} KiB with floods");
    assert!(peak < 150 * 1024, "{peak} KiB");
}

/// The highest resident memory of any child of ours that has ended, in KiB.
fn children_peak() -> i64 {
    // SAFETY: plain data, for which zeros are a value; filled in by the call.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage.ru_maxrss
    }
}

#[test]
fn a_plan_says_how_to_deploy_and_the_replay_repeats_it() {
    let bench = Bench::new();
    let dir = bench.dir.path();
    std::fs::create_dir(dir.join("plans")).unwrap();
    let mine = format!(
        "{HONEST}\necho \"all: $ALL colour: $COLOUR\" >&2\necho \"life of $SPLITBRAIN_HOST\" >>own.log\n./tool >&2\nlive\n"
    );
    std::fs::write(dir.join("plans/mine.sh"), mine).unwrap();
    let tool = dir.join("plans/tool");
    std::fs::write(&tool, "#!/bin/sh\necho the tool runs\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(
        dir.join("plans/server.py"),
        "import os, socket, time\ntime.sleep(1)\ns = socket.create_server((os.environ['SPLITBRAIN_IP'], 9000))\n\
         print('serving', flush=True)\nwhile True: s.accept()\n",
    )
    .unwrap();
    let plan = r#"
system = "candidate"
environment = "local"
nodes = 2
candidates = 2
time-limit = "4s"

[[script]]
at = "1s"
lasting = "1s"
fault = "kill"
target = "host:c2"

[deploy.candidate]
command = "bash mine.sh"
files = ["mine.sh", "tool"]
logs = ["own.log"]
env = { COLOUR = "red" }
lists = { ALL = "{name}:{ip}" }

[deploy.server]
command = "python3 server.py"
files = ["server.py"]
ports = [9000]
"#;
    std::fs::write(dir.join("plans/plan.toml"), plan).unwrap();
    let ran = bench.run("run plans/plan.toml --seed 7").exits(3);
    let first = bench.latest("candidate");
    let log = |name: &str| std::fs::read_to_string(first.join("logs").join(name)).unwrap();
    assert!(
        log("c1-candidate.log").contains("all: s1:10."),
        "{}",
        log("c1-candidate.log")
    );
    assert!(log("c1-candidate.log").contains("colour: red\nthe tool runs\n"));
    assert!(log("c2-log-own-log.log").contains("life of c2"));
    assert!(log("s2-server.log").contains("serving"));
    // What was changed since does not matter: the run's folder has it all.
    std::fs::write(dir.join("plans/mine.sh"), "exit 1\n").unwrap();
    let replay = ran
        .out
        .lines()
        .find_map(|line| line.strip_prefix("run it again: splitbrain "));
    bench.run(replay.unwrap()).exits(3);
    assert_ne!(bench.latest("candidate"), first);
    let again = bench.history("candidate").header;
    let before = splitbrain_runner::store::read_history(&first).unwrap().header;
    assert_eq!(again.plan, before.plan);
}

#[test]
fn a_bad_deploy_is_refused_before_anything_starts() {
    let bench = Bench::new();
    let check = |deploy: &str, words: &[&str]| {
        let plan = format!("system = \"candidate\"\nenvironment = \"local\"\n{deploy}\n");
        std::fs::write(bench.dir.path().join("plan.toml"), plan).unwrap();
        let ran = bench.run("run plan.toml").exits(2);
        for word in words {
            assert!(ran.err.contains(word), "'{word}' is missing in: {}", ran.err);
        }
        assert!(!bench.store().exists());
    };
    check("[deploy.candidate]\ncomand = \"x\"", &["line 4, column 1", "comand"]);
    check(
        "[deploy.promises]\nexclusion = \"mostly\"",
        &["line 4", "'mostly'", "always"],
    );
    check("[deploy.promises]\nluck = \"always\"", &["line 4", "luck"]);
    check(
        "[deploy.candidate]\ncommand = \"x\"\nfiles = [\"gone\"]",
        &["gone", "No such file"],
    );
    check(
        "[deploy.candidate]\ncommand = \"x\"\nfiles = [\"plan.toml\", \"./plan.toml\"]",
        &["two files", "plan.toml"],
    );
    check(
        "[deploy]\nservers = \"zab\"\n[deploy.candidate]\ncommand = \"x\"",
        &["'zab'", "zookeeper"],
    );
    let ran = bench.run("run --system raft --candidate ./x").exits(2);
    assert!(ran.err.contains("the system candidate"), "{}", ran.err);
    let ran = bench.run("run --candidate plan.toml").exits(2);
    assert!(ran.err.contains("--file plan.toml"), "{}", ran.err);
}

#[test]
fn a_breach_stands_in_the_history() {
    let bench = check_failed(
        r#"begin() { if [ "$SPLITBRAIN_HOST" = c1 ]; then elected 1 1; elected 1 1; fi; }"#,
        &["c1 does not speak the candidate protocol", "elected in reign 1"],
    );
    let history = bench.history("candidate");
    let garbage = |body: &Body| matches!(body, Body::Garbage { host, .. } if host.as_str() == "c1");
    assert!(history.events.iter().any(|event| garbage(&event.body)));
}

/// An example in Python, in the shell, and on a client library: each through faults to a verdict.
#[test]
fn the_examples_run_through_faults_to_a_verdict() {
    for plan in ["etcd_lease", "etcd_lease_sh", "zk_election"] {
        let bench = Bench::new();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/examples");
        let ran = bench.run(&format!("run {path}/{plan}.toml --name example --seed 7"));
        assert!(
            matches!(ran.code, Some(0 | 3)),
            "{plan}: {:?}\n{}\n{}",
            ran.code,
            ran.out,
            ran.err
        );
        let history = bench.history("example");
        assert!(
            history.is_whole() && elections(&history) >= 1 && faults(&history) >= 2,
            "{plan}"
        );
        let outcome = bench.verdicts("example");
        for promised in ["leader-per-epoch", "token-per-reign", "storage-order", "no-damage"] {
            assert_ne!(verdict(&outcome, promised)["validity"], "invalid", "{plan}: {promised}");
        }
    }
}
