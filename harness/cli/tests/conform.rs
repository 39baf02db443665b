//! `splitbrain conform`: good candidates pass, and each rule catches who breaks it. And the protocol's document is true.
mod common;
use common::{Bench, PROGRAM, Ran};
use splitbrain_core::wire::{Line, Request};
use splitbrain_protocols::storage::{StoreReply, StoreRequest};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A good candidate that elects itself, in Python; `BUG` names what it does wrong.
const MODEL: &str = r#"
import json, os, socket, sys, time
bug, host = os.environ.get("BUG", ""), os.environ["SPLITBRAIN_HOST"]
ip, port = os.environ["SPLITBRAIN_STORAGE"].split(":")
store = socket.create_connection((ip, int(port))).makefile("rw")
def say(line):
    print(json.dumps(line), end="\n", flush=True)
def put(line):
    store.write(json.dumps(line) + "\n"); store.flush()
def storage(line):
    put({"id": 1, **line}); return json.loads(store.readline())
put({"hello": "stranger" if bug == "stranger" else host})
reign, leads, token, seen = 0, False, 0, 0
def elect():
    global reign, leads, token, seen
    reign, leads, token = (reign if bug == "reign-returns" and reign else reign + 1), True, 10 + reign
    seen = storage({"store": "last", "token": token})["seq"]
    if bug == "lower-token": token -= 1
    if bug != "silent-election":
        say({"event": "elected", "epoch": token, "token": token, "reign": reign})
def write(value):
    global seen
    if bug == "does-not-write": return {"ok": {"token": token, "seq": seen + 1}}
    answer = storage({"store": "write", "token": token + 5 * (bug == "other-token"),
                      "base": 0 if bug == "blind" else seen, "value": value})
    if answer["result"] == "rejected":
        return {"info": {"reason": "?"}} if bug == "rejected-is-info" else {"fail": {"reason": "stale-token"}}
    seen = answer["seq"]
    return {"ok": {"token": token, "seq": seen + (bug == "wrong-seq")}}
def handle(r):
    global leads
    op = r["op"]
    if op == "observe":
        status = {"role": "leader", "reign": reign + (bug == "other-reign"), "epoch": token, "token": token}
        return {"ok": status if leads else {"role": "follower"}} if bug != "no-role" else {"ok": {}}
    if op == "write": return write(r["value"]) if leads else {"fail": {"reason": "not-leader"}}
    if op == "read": return {"ok": {"value": None if bug == "reads-nothing" else storage({"store": "last"})["value"]}}
    if op == "campaign":
        if not leads and bug != "never-elected": elect()
        return {"ok": {}}
    if op == "resign":
        if bug != "keeps-leading": leads = False
        if bug not in ("keeps-leading", "silent-end"):
            say({"event": "deposed", "reign": reign + (bug == "deposes-another"), "why": "resigned"})
        return {"ok": {}}
    return {"ok": {}} if bug == "knows-all" else {"fail": {"reason": "unknown-op"}}
if bug == "early": say({"id": 1, "ok": {}})
if bug == "exits": sys.exit(3)
if bug != "never-ready": say({"event": "ready"})
if bug == "ready-twice": say({"event": "ready"})
if bug == "chatter": print("hello", flush=True)
if bug == "too-long": print("x" * 70000, flush=True)
count, pending = 0, b""
while True:
    data = os.read(0, 65536)
    if not data: break
    pending += data
    *lines, pending = pending.split(b"\n")
    for line in (lines[:1] if bug == "one-a-read" else lines):
        try:
            r = json.loads(line); r["id"] + 0; r["op"]
        except (ValueError, TypeError, KeyError):
            if bug == "dies-of-garbage": raise
            continue
        answer = {"id": r["id"] + 1000 * (bug == "other-id" and r["op"] == "read"), **handle(r)}
        say(answer)
        if bug == "twice" and r["op"] == "read": say(answer)
        if bug == "reign-returns" and r["op"] == "resign": elect()
if bug == "half-a-line": sys.stdout.write('{"event":'); sys.stdout.flush()
while bug == "never-ends": time.sleep(1)
"#;

fn python() -> &'static str {
    // The system's own: others may lack Debian's packages.
    "/usr/bin/python3"
}

/// `conform` with the model and its `bug`.
fn conform(bug: &str) -> Ran {
    let bench = Bench::new();
    let model = bench.dir.path().join("model.py");
    std::fs::write(&model, MODEL).unwrap();
    let mut command = bench.command("conform --json --patience 1s --election 2s --");
    command.arg(python()).arg(&model).env("BUG", bug);
    Ran::of(command.output().unwrap())
}

/// The rows that are not ok.
fn wrong(ran: &Ran) -> Vec<String> {
    let outcome: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let rows = outcome["checks"].as_array().unwrap().iter();
    let wrong = rows.filter(|row| row["outcome"] == "WRONG");
    wrong
        .map(|row| format!("{}: {}", row["check"].as_str().unwrap(), row["seen"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_good_candidate_passes() {
    let ran = conform("");
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    assert_eq!(wrong(&ran), [""; 0]);
}

/// The model with `bug` is caught by the row that begins with `expect`.
#[track_caller]
fn check(bug: &str, expect: &str) {
    let ran = conform(bug).exits(1);
    let wrong = wrong(&ran);
    assert!(
        wrong.iter().any(|row| row.starts_with(expect)),
        "{bug}: {wrong:#?}\n{}",
        ran.err
    );
}

#[test]
fn each_rule_catches_who_breaks_it() {
    check("never-ready", "ready: it did not say so within");
    check("exits", "ready: the program ended");
    check("early", "lines: before ready it said");
    check("ready-twice", "lines: it said ready twice");
    check("chatter", "lines: no word of the candidate protocol");
    check("too-long", "lines: a line over the 65536 bytes allowed");
    check("half-a-line", "lines: its last 9 bytes end without a newline");
    check("no-role", "observe: it was answered with ok: Done");
    check("knows-all", "unknown operation: dance: it was answered with ok");
    check("one-a-read", "two at once: of two requests in one write");
    check("dies-of-garbage", "garbage input: after lines that are no requests");
    check("never-elected", "election: it was not elected within");
    check("silent-election", "election: it was not elected within");
    check("other-reign", "election: once elected, observe");
    check("other-reign", "reigns: observe was answered with reign 2");
    check("does-not-write", "write: it says that 41 was written");
    check("wrong-seq", "write: it says token 10 and seq 2");
    check(
        "other-token",
        "write: it says token 10 and seq 1, but the storage has token 15",
    );
    check("stranger", "write: it wrote as stranger");
    check("blind", "write: it wrote number 2 with base 0");
    check("lower-token", "write: write: it was answered with fail");
    check("reads-nothing", "read: it was answered with ok: Value(None)");
    check(
        "rejected-is-info",
        "fence: a write that the storage refused: it was answered with info",
    );
    check("keeps-leading", "resign: no deposed of reign 1");
    check("silent-end", "resign: no deposed of reign 1");
    check("deposes-another", "reigns: deposed of reign 2 while in reign 1");
    check("reign-returns", "reigns: elected in reign 1 after reign 1");
    check("twice", "ids: it answered request");
    check("other-id", "ids: it answered request 10");
    check("never-ends", "end: it did not end within 5s");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new();
    let ran = bench.run("conform -- /no/such/program").exits(2);
    assert!(ran.err.contains("/no/such/program"), "{}", ran.err);
    bench.run("conform").exits(2);
}

#[test]
fn the_table_is_for_people() {
    let bench = Bench::new();
    let ran = bench.run("conform --patience 1s --election 1s -- cat").exits(1);
    assert!(
        ran.out.contains("not tried") && ran.out.contains("PROTOCOL.md"),
        "{}",
        ran.out
    );
}

/// A server on this machine, gone with this.
struct Server {
    child: Child,
    /// Where clients connect.
    at: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses on this machine that nobody listens on.
fn free() -> [SocketAddr; 2] {
    // Held both at once, so that they differ.
    let held = [0, 0].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|port| port.local_addr().unwrap())
}

/// Starts `command` in a directory of its own, and waits until it listens at `at`.
fn start(mut command: Command, at: SocketAddr, packages: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let quiet = command
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = quiet
        .spawn()
        .unwrap_or_else(|e| panic!("{e}: apt-get install {packages}"));
    let mut server = Server { child, at, _dir: dir };
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(at).is_err() {
        let ended = server.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: apt-get install {packages}");
        assert!(Instant::now() < deadline, "nobody listens at {at}");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

fn start_etcd() -> Server {
    let [client, peer] = free();
    let mut etcd = Command::new("etcd");
    let [url, peer] = [client, peer].map(|addr| format!("http://{addr}"));
    etcd.args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")]);
    start(etcd, client, "etcd-server")
}

/// An ensemble of one: it needs no port for others.
fn start_zookeeper() -> Server {
    let [client, _] = free();
    let mut server = Command::new("sh");
    server
        .arg(examples().join("zk_server.sh"))
        .env("SPLITBRAIN_HOST", "s1")
        .env("SPLITBRAIN_SERVERS", "s1=127.0.0.1")
        .env("CLIENT_PORT", client.port().to_string());
    start(server, client, "zookeeper default-jre-headless")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../workloads/examples")
        .canonicalize()
        .unwrap()
}

#[track_caller]
fn conforms(command: [&str; 2], endpoints: String) {
    let output = Command::new(PROGRAM)
        .args(["conform", "--"])
        .args(command)
        .env("ENDPOINTS", endpoints)
        .current_dir(examples())
        .output()
        .unwrap();
    let ran = Ran::of(output).exits(0);
    assert!(!ran.out.contains("not tried"), "{}", ran.out);
}

#[test]
fn the_examples_conform() {
    for command in [[python(), "etcd_lease.py"], ["bash", "etcd_lease.sh"]] {
        let etcd = start_etcd();
        conforms(command, format!("http://{}", etcd.at));
    }
    let zookeeper = start_zookeeper();
    conforms([python(), "zk_election.py"], zookeeper.at.to_string());
}

/// Each line that the document shows is what it is said to be.
#[test]
fn the_document_shows_what_is_spoken() {
    let text = std::fs::read_to_string(examples().join("PROTOCOL.md")).unwrap();
    let mut seen = [0; 4];
    let mut ops = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(json) = line.strip_prefix("-> ") {
            let request: Request = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
            ops.insert(request.op.name());
            seen[0] += 1;
        } else if let Some(json) = line.strip_prefix("<- ") {
            Line::parse(json.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
            seen[1] += 1;
        } else if let Some(json) = line.strip_prefix("=> ") {
            if !json.contains("hello") {
                serde_json::from_str::<StoreRequest>(json).unwrap_or_else(|e| panic!("{json}: {e}"));
            }
            seen[2] += 1;
        } else if let Some(json) = line.strip_prefix("<= ") {
            serde_json::from_str::<StoreReply>(json).unwrap_or_else(|e| panic!("{json}: {e}"));
            seen[3] += 1;
        } else {
            assert!(!line.starts_with('{'), "a line without its direction: {line}");
        }
    }
    assert!(seen.iter().all(|count| *count >= 4), "{seen:?}");
    for workload in splitbrain_core::plan::Workload::ALL {
        for op in workload.operations() {
            assert!(ops.contains(op), "{op} is not shown");
        }
    }
    assert!(text.contains(&splitbrain_core::wire::MAX_LINE.to_string()));
}
