//! How fast a history's lines are written and read: events per second over the usual kinds of event.
//!
//! What is measured is the thread's own processor time: a machine that others load too tells nothing by the clock.
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use nix::time::ClockId;
use splitbrain_core::op::{Role, Status};
use splitbrain_core::*;
use std::hint::black_box;
use std::time::Duration;

/// Runs `work` as often as asked, and says how long the processor took.
fn time<T>(bencher: &mut Bencher<'_>, mut work: impl FnMut() -> T) {
    let now = || {
        Duration::from(
            ClockId::CLOCK_THREAD_CPUTIME_ID
                .now()
                .expect("every Linux has this clock"),
        )
    };
    bencher.iter_custom(|times| {
        let begin = now();
        for _ in 0..times {
            black_box(work());
        }
        now() - begin
    });
}

const EVENTS: u64 = 20_000;

fn name(prefix: &str, n: u64) -> Name {
    Name::numbered(prefix, n as usize)
}

/// What a client asks, and what it is answered, by turns; some words from hosts between them.
fn body(n: u64, ok: bool) -> Body {
    let (host, term) = (name("n", n % 5 + 1), n / 500 + 1);
    let said = |value: u64| ok.then_some(value);
    match n % 10 {
        0 | 1 => Body::Observe {
            host,
            answer: ok.then_some(Status {
                role: if n.is_multiple_of(3) {
                    Role::Leader
                } else {
                    Role::Follower
                },
                epoch: Some(Epoch(term)),
                token: Some(Token(term)),
                reign: Some(Reign(n / 700 + 1)),
                leader: Some(name("n", term % 5 + 1)),
            }),
        },
        2 | 3 => Body::Write {
            host,
            value: n,
            token: said(term).map(Token),
            seq: said(n / 3),
        },
        4 => Body::Read { host, value: said(n) },
        5 => Body::Get { host, value: said(n) },
        6 => Body::Set { host, value: n },
        7 => Body::Cas {
            host,
            from: Some(n),
            to: n + 1,
        },
        8 if ok => Body::Elected {
            host,
            epoch: Epoch(term),
            token: Some(Token(term)),
            reign: Reign(n / 700 + 1),
        },
        8 => Body::Deposed {
            host,
            reign: Reign(n / 700 + 1),
            why: "lease lost".to_string(),
        },
        _ if ok => Body::Stored {
            seq: n / 3,
            token: Token(term),
            value: n,
            base: n / 3,
            by: host,
        },
        _ => Body::Applied {
            host,
            index: n,
            term,
            digest: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        },
    }
}

fn events() -> Vec<Event> {
    (0..EVENTS)
        .map(|n| {
            let (ok, body) = (n % 2 == 1, body(n / 2, n % 2 == 1));
            let client = body.is_operation();
            Event {
                index: n,
                time: Nanos(n * 41_327),
                process: if client {
                    Process::Client((n / 2 % 20) as u32)
                } else {
                    Process::Host(name("n", n % 5 + 1))
                },
                kind: if !client {
                    Kind::Info
                } else if ok {
                    Kind::Ok
                } else {
                    Kind::Invoke
                },
                body,
                error: None,
            }
        })
        .collect()
}

fn writing(c: &mut Criterion) {
    let events = events();
    let mut out = Vec::with_capacity(4 << 20);
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("by hand", |b| {
        time(b, || {
            out.clear();
            for event in black_box(&events) {
                event.write_line(&mut out);
                out.push(b'\n');
            }
            out.len()
        })
    });
    group.bench_function("derived", |b| {
        time(b, || {
            out.clear();
            for event in black_box(&events) {
                serde_json::to_writer(&mut out, event).expect("plain data always becomes JSON");
                out.push(b'\n');
            }
            out.len()
        })
    });
    group.finish();
}

/// A header and the events, each made a line by `line`.
fn history(line: impl Fn(&Event) -> String) -> Vec<u8> {
    let host = |n| system::HostSpec {
        name: name("n", n),
        role: HostRole::Member,
        asked: true,
    };
    let header = Header {
        splitbrain: history::SCHEMA,
        seed: 7,
        plan: Plan::new("raft", "sim"),
        hosts: (1..=5).map(host).collect(),
        promises: vec![],
        beliefs: String::new(),
        versions: Default::default(),
    };
    let mut text = serde_json::to_string(&header).expect("plain data always becomes JSON") + "\n";
    for event in events() {
        text += &(line(&event) + "\n");
    }
    text.into_bytes()
}

fn fixed(event: &Event) -> String {
    serde_json::to_string(event).expect("plain data always becomes JSON")
}

/// The keys in the order of the alphabet.
fn sorted(event: &Event) -> String {
    let tree = serde_json::to_value(event).expect("plain data always becomes JSON");
    tree.to_string()
}

/// How many events, by reading into one event again and again.
fn count(text: &[u8]) -> u64 {
    let input = std::io::BufReader::with_capacity(64 << 10, text);
    let mut reader = history::Reader::new(input).expect("a good header");
    let mut event = reader.next_event().expect("good lines").expect("at least one");
    let mut count = 1;
    while reader.next_event_into(&mut event).expect("good lines") {
        black_box(&event);
        count += 1;
    }
    count
}

fn reading(c: &mut Criterion) {
    let (in_order, other_order) = (history(fixed), history(sorted));
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("our key order", |b| {
        time(b, || assert_eq!(count(black_box(&in_order)), EVENTS))
    });
    group.bench_function("our key order, whole", |b| {
        time(b, || {
            History::read(black_box(in_order.as_slice()))
                .expect("good lines")
                .events
                .len()
        })
    });
    group.bench_function("another key order", |b| {
        time(b, || assert_eq!(count(black_box(&other_order)), EVENTS))
    });
    group.bench_function("derived", |b| {
        time(b, || {
            let lines = in_order.split(|&byte| byte == b'\n').skip(1);
            lines
                .filter(|line| serde_json::from_slice::<Event>(line).is_ok())
                .count()
        })
    });
    group.finish();
}

criterion_group! {
    name = lines;
    config = Criterion::default().sample_size(30);
    targets = writing, reading
}
criterion_main!(lines);
