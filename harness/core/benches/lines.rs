//! How fast a history's lines are written and read: events per second over the usual kinds of event.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use splitbrain_core::op::{Role, Status};
use splitbrain_core::*;
use std::hint::black_box;

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
        b.iter(|| {
            out.clear();
            for event in black_box(&events) {
                event.write_line(&mut out);
                out.push(b'\n');
            }
            out.len()
        })
    });
    group.bench_function("derived", |b| {
        b.iter(|| {
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

criterion_group! {
    name = lines;
    config = Criterion::default().sample_size(30);
    targets = writing
}
criterion_main!(lines);
