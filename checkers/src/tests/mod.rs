//! Histories in few words, and one helper per expected verdict.
//!
//! A line is `TIME words` or, for what begins and ends, `BEGIN..END words`, in milliseconds; lines are put in order of
//! time, events of one instant in the order of their lines. A token is the epoch unless given.
//!
//! ```text
//! 10 n1 elected 5/1 t9          12 n1 deposed 1              10 n1 started 2
//! 20..30 n1 leads 5/1 t9        20..30 n1 follows 5 n2       20..30 n1 silent
//! 20..30 n1 writes 41 ok 5@3    20..30 n1 writes 41 fail     20..30 n1 writes 41 info
//! 20..30 n1 gives 7             20..30 n1 gives info          20..30 n1 runs 3 ok 5@2     (fail, info)
//! 20..30 n1 holds 1 t9          20..30 n1 busy               20..30 n1 releases
//! 20..30 n1 reads 5 (or -)      20..30 n1 sets 5 ok           20..30 n1 swaps 5 6 ok      (fail: mismatch, info)
//! 20 stored 3 t5 v41 base2 n1   20 refused t5 h6 v41 n1      20 n1 applied 7 3 99
//! 20..30 fault 1 kill n1        20..30 heal 1 fail           20..30 heal 1 resume n1
//! 20 aim 1 hit                  20 aim 1 hit non-leader
//! 20 n1 exited text             20 n1 garbage text           20 phase recovery     20 aborted text
//! ```
mod elections;
mod liveness;
pub(crate) mod model;
mod sound;
mod stream;

mod storage;
mod workloads;

use super::judge;
use splitbrain_core::event::{FaultStep, Hit, Phase};
use splitbrain_core::history::SCHEMA;
use splitbrain_core::plan::{FaultKind, Storage, Target, Workload};
use splitbrain_core::{
    Action, Body, Disk, Epoch, Event, Guarantee, Header, Holds, HostRole, HostSpec, Kind, Name, Nanos, Plan, Process,
    Promise, Reign, Role, Severity, Status, Token, Validity, Verdict,
};

pub(super) const GUARANTEES: [Guarantee; 15] = [
    Guarantee::LeaderPerEpoch,
    Guarantee::EpochsPerObserver,
    Guarantee::EpochsInRealTime,
    Guarantee::TokenPerReign,
    Guarantee::TokensInRealTime,
    Guarantee::StorageOrder,
    Guarantee::Exclusion,
    Guarantee::AppliedAgreement,
    Guarantee::NoDamage,
    Guarantee::UniqueIds,
    Guarantee::RisingIds,
    Guarantee::ExactlyOnce,
    Guarantee::Linearizable,
    Guarantee::Recovery,
    Guarantee::FinalAgreement,
];

pub(super) fn name(s: &str) -> Name {
    s.parse().unwrap()
}

/// Three members and a fenced storage; everything is promised, recovery within a second.
pub(super) fn header() -> Header {
    let host = |n: &str, role, asked| HostSpec {
        name: name(n),
        role,
        asked,
    };
    Header {
        splitbrain: SCHEMA,
        seed: 7,
        plan: Plan::new("raft", "sim"),
        hosts: vec![
            host("n1", HostRole::Member, true),
            host("n2", HostRole::Member, true),
            host("n3", HostRole::Member, true),
            host("storage", HostRole::Storage, false),
        ],
        promises: GUARANTEES.map(promise).to_vec(),
        beliefs: String::new(),
        versions: Default::default(),
    }
}

fn promise(guarantee: Guarantee) -> Promise {
    Promise {
        guarantee,
        holds: Holds::Always,
        within: (guarantee == Guarantee::Recovery).then_some(Nanos::secs(1)),
        source: "for the test".into(),
    }
}

/// The same header with one promise changed.
pub(super) fn holds(guarantee: Guarantee, holds: Holds) -> Header {
    let mut header = header();
    let promise = header.promises.iter_mut().find(|p| p.guarantee == guarantee);
    promise.unwrap().holds = holds;
    header
}

/// The same header with another workload.
pub(super) fn asked(workload: Workload) -> Header {
    let mut header = header();
    header.plan.workload = workload;
    header
}

struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        self.0.next().expect("a word is missing")
    }
    fn number(&mut self) -> u64 {
        self.next().parse().unwrap()
    }
    fn prefixed(&mut self, prefix: &str) -> u64 {
        self.next().strip_prefix(prefix).unwrap().parse().unwrap()
    }
    fn rest(&mut self) -> String {
        self.0.by_ref().collect::<Vec<_>>().join(" ")
    }
    /// `5/1`, perhaps `t9`.
    fn claim(&mut self) -> (Epoch, Reign, Option<Token>) {
        let (epoch, reign) = self.next().split_once('/').unwrap();
        let epoch: u64 = epoch.parse().unwrap();
        let token = self.0.next().map_or(epoch, |t| t[1..].parse().unwrap());
        (Epoch(epoch), Reign(reign.parse().unwrap()), Some(Token(token)))
    }
}

/// What a line becomes: the body of its beginning, and the kind, body and error of its end.
type Parsed = (Process, Body, Option<(Kind, Body)>);

fn parse_line(client: u32, words: &str) -> Parsed {
    let mut w = Words(words.split_whitespace());
    let first = w.next();
    let note = |process, body| (process, body, None);
    match first {
        "stored" => note(
            Process::Host(name("storage")),
            Body::Stored {
                seq: w.number(),
                token: Token(w.prefixed("t")),
                value: w.prefixed("v"),
                base: w.prefixed("base"),
                by: name(w.next()),
            },
        ),
        "refused" => note(
            Process::Host(name("storage")),
            Body::Rejected {
                token: Token(w.prefixed("t")),
                highest: Token(w.prefixed("h")),
                value: w.prefixed("v"),
                by: name(w.next()),
            },
        ),
        "phase" => {
            let phase: Phase = serde_json::from_str(&format!("{:?}", w.next())).unwrap();
            note(Process::Control, Body::Phase { phase })
        }
        "aborted" => note(Process::Control, Body::Aborted { why: w.rest() }),
        "aim" => {
            let (fault, hit) = (w.number() as u32, w.next());
            let hit: Hit = serde_json::from_str(&format!("{hit:?}")).unwrap();
            let target = w.0.next().map_or(Target::Leader, |t| t.parse().unwrap());
            let why = String::new();
            let body = Body::Aim {
                fault,
                target,
                hit,
                why,
            };
            note(Process::Nemesis, body)
        }
        "fault" => {
            let (fault, kind) = (w.number() as u32, w.next());
            let kind: FaultKind = serde_json::from_str(&format!("{kind:?}")).unwrap();
            let hosts = vec![name(w.next())];
            let action = match kind {
                FaultKind::Kill => Action::Kill {
                    hosts: hosts.clone(),
                    unsynced: Default::default(),
                },
                FaultKind::Disk => Action::Disk {
                    hosts: hosts.clone(),
                    disk: Disk {
                        full: true,
                        ..Disk::default()
                    },
                },
                _ => Action::Pause { hosts: hosts.clone() },
            };
            fault_step(fault, kind, hosts, action, Body::Fault, w.rest())
        }
        "heal" => {
            let (fault, mut hosts, mut end) = (w.number() as u32, vec![], w.rest());
            if let Some(resumed) = end.strip_prefix("resume ") {
                let (host, rest) = resumed.split_once(' ').unwrap_or((resumed, ""));
                (hosts, end) = (vec![name(host)], rest.to_string());
            }
            let mut action = Action::Resume { hosts: hosts.clone() };
            if let Some(started) = end.strip_prefix("start ") {
                (hosts, end) = (vec![name(started)], String::new());
                action = Action::Start { hosts: hosts.clone() };
            }
            fault_step(fault, FaultKind::Pause, hosts, action, Body::Heal, end)
        }
        host => parse_host(client, name(host), &mut w),
    }
}

fn fault_step(
    fault: u32,
    kind: FaultKind,
    targets: Vec<Name>,
    action: Action,
    body: fn(FaultStep) -> Body,
    end: String,
) -> Parsed {
    let step = FaultStep {
        fault,
        kind,
        what: kind.name().to_string(),
        targets,
        action,
        proofs: vec![],
    };
    let end = match &end[..] {
        "" => Some((Kind::Ok, body(step.clone()))),
        "fail" => Some((Kind::Fail, body(step.clone()))),
        "lost" => None,
        other => panic!("{other}"),
    };
    (Process::Nemesis, body(step), end)
}

fn parse_host(client: u32, host: Name, w: &mut Words) -> Parsed {
    let asked = Process::Client(client);
    let note = |body| (Process::Host(host), body, None);
    let observe = |answer| Body::Observe { host, answer };
    let answered = |status| (asked, observe(None), Some((Kind::Ok, observe(Some(status)))));
    match w.next() {
        "elected" => {
            let (epoch, reign, token) = w.claim();
            note(Body::Elected {
                host,
                epoch,
                token,
                reign,
            })
        }
        "deposed" => note(Body::Deposed {
            host,
            reign: Reign(w.number()),
            why: "test".into(),
        }),
        "started" => note(Body::Started {
            host,
            incarnation: w.number() as u32,
        }),
        "exited" => note(Body::Exited { host, how: w.rest() }),
        "garbage" => note(Body::Garbage { host, what: w.rest() }),
        "applied" => note(Body::Applied {
            host,
            index: w.number(),
            term: w.number(),
            digest: w.number(),
        }),
        "leads" => {
            let (epoch, reign, token) = w.claim();
            answered(Status {
                role: Role::Leader,
                epoch: Some(epoch),
                token,
                reign: Some(reign),
                leader: Some(host),
            })
        }
        "follows" => answered(Status {
            role: Role::Follower,
            epoch: w.0.next().map(|e| Epoch(e.parse().unwrap())),
            token: None,
            reign: None,
            leader: w.0.next().map(name),
        }),
        "silent" => (asked, observe(None), Some((Kind::Info, observe(None)))),
        "writes" => parse_write(asked, host, w),
        word => workloads::parse(asked, host, word, w),
    }
}

fn parse_write(asked: Process, host: Name, w: &mut Words) -> Parsed {
    let value = w.number();
    let write = |token, seq| Body::Write {
        host,
        value,
        token,
        seq,
    };
    let end = match w.next() {
        "ok" => {
            let (token, seq) = w.next().split_once('@').unwrap();
            let token = Some(Token(token.parse().unwrap()));
            (Kind::Ok, write(token, Some(seq.parse().unwrap())))
        }
        "fail" => (Kind::Fail, write(None, None)),
        "info" => (Kind::Info, write(None, None)),
        other => panic!("{other}"),
    };
    (asked, write(None, None), Some(end))
}

/// Reads a history. Lines may be separated by `;` as well.
pub(super) fn history(text: &str) -> Vec<Event> {
    let lines = text.split(['\n', ';']).map(str::trim).filter(|l| !l.is_empty());
    let mut raw: Vec<(u64, Process, Kind, Body)> = Vec::new();
    for (client, line) in lines.enumerate() {
        let (times, words) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let (begin, end) = times.split_once("..").unwrap_or((times, times));
        let (begin, end): (u64, u64) = (begin.parse().unwrap(), end.parse().unwrap());
        let (process, body, ended) = parse_line(client as u32, words);
        let operation = matches!(process, Process::Client(_)) || matches!(body, Body::Fault(_) | Body::Heal(_));
        raw.push((begin, process, if operation { Kind::Invoke } else { Kind::Info }, body));
        raw.extend(ended.map(|(kind, body)| (end, process, kind, body)));
    }
    raw.sort_by_key(|(time, ..)| *time);
    let event = |(index, (time, process, kind, body))| Event {
        index: index as u64,
        time: Nanos::millis(time),
        process,
        kind,
        error: match (kind, &body) {
            (Kind::Fail, Body::Cas { .. }) => Some("mismatch".to_string()),
            _ => None,
        },
        body,
    };
    raw.into_iter().enumerate().map(|(i, r)| event((i, r))).collect()
}

/// What `checker` says of the history; what every verdict must obey is asserted on the way.
pub(super) fn verdict(header: &Header, checker: &str, text: &str) -> Verdict {
    let events = history(text);
    let verdicts = judge(header, &events);
    verdicts.iter().for_each(|v| well_formed(v, &events));
    let found = verdicts.into_iter().find(|v| v.checker == checker);
    found.unwrap_or_else(|| panic!("{checker} does not apply"))
}

/// Evidence rises and exists, and each story tells of nothing but its evidence.
pub(super) fn well_formed(verdict: &Verdict, events: &[Event]) {
    assert!(!verdict.summary.is_empty());
    for a in &verdict.anomalies {
        assert!(!a.evidence.is_empty() && a.evidence.is_sorted(), "{a:?}");
        assert!(a.evidence.iter().all(|i| (*i as usize) < events.len()), "{a:?}");
        assert!(a.from <= a.to, "{a:?}");
        assert!(a.hosts.is_sorted() && !a.hosts.is_empty(), "{a:?}");
        let told = a.story.iter().flat_map(|s| s.split('#').skip(1));
        for number in told.map(|s| s.split(|c: char| !c.is_ascii_digit()).next().unwrap()) {
            assert!(
                a.evidence.contains(&number.parse().unwrap()),
                "#{number} is no evidence: {a:?}"
            );
        }
    }
}

#[track_caller]
pub(super) fn valid(checker: &str, text: &str) {
    let v = verdict(&header(), checker, text);
    assert_eq!((v.validity, v.total), (Validity::Valid, 0), "{v:#?}");
}

/// Invalid, with exactly one anomaly, whose title contains `title`.
#[track_caller]
pub(super) fn invalid(checker: &str, text: &str, title: &str) {
    let v = verdict(&header(), checker, text);
    assert_eq!((v.validity, v.total), (Validity::Invalid, 1), "{v:#?}");
    assert!(v.anomalies[0].title.contains(title), "{v:#?}");
}

/// Valid with exactly one hazard, whose title contains `title`.
#[track_caller]
pub(super) fn hazard(header: &Header, checker: &str, text: &str, title: &str) {
    let v = verdict(header, checker, text);
    assert_eq!((v.validity, v.total), (Validity::Valid, 1), "{v:#?}");
    assert_eq!(v.anomalies[0].severity, Severity::Hazard);
    assert!(v.anomalies[0].title.contains(title), "{v:#?}");
}

#[track_caller]
pub(super) fn unknown(checker: &str, text: &str, why: &str) {
    let v = verdict(&header(), checker, text);
    assert_eq!(v.validity, Validity::Unknown, "{v:#?}");
    assert!(v.summary.contains(why), "{v:#?}");
}

#[test]
fn every_checker_is_listed_once_and_under_its_name() {
    let mut listed: Vec<&str> = crate::names().iter().map(|(name, _)| *name).collect();
    let mut there: Vec<&str> = Vec::new();
    for workload in Workload::ALL {
        there.extend(crate::all(&asked(workload)).iter().map(|c| c.name()));
    }
    listed.sort();
    there.sort();
    there.dedup();
    assert_eq!(listed, there);
    listed.dedup();
    assert_eq!(listed.len(), there.len());
}

#[test]
fn checkers_apply_to_what_is_there() {
    let applies = |header: &Header, checker| crate::all(header).iter().any(|c| c.name() == checker);
    let mut other = header();
    other.plan.storage = Storage::Unfenced;
    assert!(applies(&header(), "lock-out") && !applies(&other, "lock-out"));
    other.plan.rate = 0.0;
    assert!(applies(&header(), "no-damage") && !applies(&other, "no-damage"));
    for guarantee in [
        Guarantee::EpochsInRealTime,
        Guarantee::TokensInRealTime,
        Guarantee::AppliedAgreement,
    ] {
        assert!(!applies(&holds(guarantee, Holds::Never), guarantee.name()));
    }
    let mut header = header();
    header.hosts.retain(|h| h.role != HostRole::Storage);
    header.promises.clear();
    let there: Vec<&str> = crate::all(&header).iter().map(|c| c.name()).collect();
    let expected = [
        "coverage",
        "leader-per-epoch",
        "epochs-per-observer",
        "exclusion",
        "recovery",
        "final-agreement",
    ];
    assert_eq!(there, expected);
    // Without promises and events only coverage is undecided.
    let verdicts = judge(&header, &[]);
    let undecided: Vec<&str> = verdicts
        .iter()
        .filter(|v| v.validity == Validity::Unknown)
        .map(|v| &v.checker[..])
        .collect();
    assert_eq!(undecided, ["coverage"]);
}

/// A number that whoever starts the tests has set.
pub fn setting(name: &str) -> Option<u64> {
    let set = std::env::vars().find(|(set, _)| set == name);
    set.map(|(_, value)| value.parse().expect("a number"))
}
