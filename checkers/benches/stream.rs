//! Epochs, observers, tokens and exclusion over a long history in the compact form, on one core.
//!
//! A cluster of five that asks everybody who leads, writes through the leader, and elects anew every 4,000 events, with a
//! kill now and then. `SPLITBRAIN_EVENTS` says how many events (10,000,000; the figure is for 100,000,000, which make a
//! file of 3.2 GB). Measured:
//! - *blocks*: the checking alone; the records are made block by block (256 KiB) and stand in the cache. Where others
//!   load the machine, a block is now and then interrupted: so there is also the rate of the median block;
//! - *file*: reading a file from the page cache and checking it, from its opening to the verdicts; and the same in time
//!   that the processor spent, the system's share included. The file is removed;
//! - *hostile*: the memory where every fourth event is an election, which is more than is remembered.
use criterion::{Criterion, Throughput};
use splitbrain_checkers::stream::{Limits, Stream};
use splitbrain_core::compact::{Reader, Writer};
use splitbrain_core::history::SCHEMA;
use splitbrain_core::{
    Body, Epoch, Event, Guarantee, Header, Holds, HostRole, HostSpec, Kind, Name, Nanos, Plan, Process, Promise, Reign,
    Role, Status, Token, Validity, Verdict,
};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BLOCK: usize = 256 << 10;
const TERM: u64 = 4000;

fn header() -> Header {
    let host = |n| HostSpec {
        name: Name::numbered("n", n),
        role: HostRole::Member,
        asked: true,
    };
    let storage = HostSpec {
        name: "storage".parse().expect("a name"),
        role: HostRole::Storage,
        asked: false,
    };
    let promise = |guarantee| Promise {
        guarantee,
        holds: Holds::Always,
        within: None,
        source: "for the measurement".into(),
    };
    Header {
        splitbrain: SCHEMA,
        seed: 7,
        plan: Plan::new("raft", "sim"),
        hosts: (1..=5).map(host).chain([storage]).collect(),
        promises: [
            Guarantee::LeaderPerEpoch,
            Guarantee::EpochsPerObserver,
            Guarantee::TokenPerReign,
            Guarantee::Exclusion,
        ]
        .map(promise)
        .to_vec(),
        beliefs: String::new(),
        versions: Default::default(),
    }
}

/// The events of the cluster, one after another.
struct Cluster {
    /// An election every so many events.
    term: u64,
    index: u64,
    dice: u64,
    epoch: u64,
    reigns: [u64; 5],
    lives: [u32; 5],
    leader: usize,
    /// What each client asked, of whom.
    asked: [Option<(bool, usize)>; 8],
    stored: bool,
}

impl Cluster {
    fn new(term: u64) -> Cluster {
        Cluster {
            term,
            index: 0,
            dice: 0x5eed_5eed_5eed_5eed,
            epoch: 0,
            reigns: [0; 5],
            lives: [1; 5],
            leader: 0,
            asked: [None; 8],
            stored: false,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 8) % n
    }

    fn status(&self, host: usize) -> Status {
        let leads = host == self.leader;
        Status {
            role: if leads { Role::Leader } else { Role::Follower },
            epoch: Some(Epoch(self.epoch)),
            token: leads.then_some(Token(self.epoch)),
            reign: leads.then_some(Reign(self.reigns[host])),
            leader: Some(Name::numbered("n", self.leader + 1)),
        }
    }

    fn next(&mut self) -> Event {
        let (process, kind, body) = self.say();
        let event = Event {
            index: self.index,
            time: Nanos(self.index * 1000),
            process,
            kind,
            body,
            error: None,
        };
        self.index += 1;
        event
    }

    fn say(&mut self) -> (Process, Kind, Body) {
        let name = |host: usize| Name::numbered("n", host + 1);
        if self.index.is_multiple_of(self.term) {
            // What was asked before is answered by nobody: a new leader, or a new life of the old one.
            self.asked = [None; 8];
            self.epoch += 1;
            self.leader = self.below(5) as usize;
            self.reigns[self.leader] += 1;
            let host = name(self.leader);
            let elected = Body::Elected {
                host,
                epoch: Epoch(self.epoch),
                token: Some(Token(self.epoch)),
                reign: Reign(self.reigns[self.leader]),
            };
            return (Process::Host(host), Kind::Info, elected);
        }
        if self.index % (self.term * 50) == self.term * 50 - 1 {
            self.lives[self.leader] += 1;
            self.reigns[self.leader] = 0;
            let (host, incarnation) = (name(self.leader), self.lives[self.leader]);
            self.leader = usize::MAX;
            return (Process::Control, Kind::Info, Body::Started { host, incarnation });
        }
        let (token, seq) = (Some(Token(self.epoch)), Some(self.index));
        if std::mem::take(&mut self.stored) {
            let body = Body::Stored {
                seq: self.index,
                token: Token(self.epoch),
                value: self.index,
                base: 0,
                by: name(self.leader),
            };
            return (Process::Host("storage".parse().expect("a name")), Kind::Info, body);
        }
        let client = self.below(8) as usize;
        let process = Process::Client(client as u32);
        let value = self.index;
        match self.asked[client].take() {
            None => {
                let writes = self.below(4) == 0 && self.leader < 5;
                let asked = if writes { self.leader } else { self.below(5) as usize };
                self.asked[client] = Some((writes, asked));
                let host = name(asked);
                let body = match writes {
                    true => Body::Write {
                        host,
                        value,
                        token: None,
                        seq: None,
                    },
                    false => Body::Observe { host, answer: None },
                };
                (process, Kind::Invoke, body)
            }
            Some((true, asked)) => {
                self.stored = true;
                let host = name(asked);
                let body = Body::Write {
                    host,
                    value,
                    token,
                    seq,
                };
                (process, Kind::Ok, body)
            }
            Some((false, asked)) => {
                let answer = Some(self.status(asked));
                let host = name(asked);
                (process, Kind::Ok, Body::Observe { host, answer })
            }
        }
    }
}

/// Makes the history's bytes, a block at a time.
fn make(events: u64, term: u64, mut each: impl FnMut(&[u8])) {
    let mut bytes = Vec::with_capacity(2 * BLOCK);
    let mut writer = Writer::new(&header(), &mut bytes).expect("it fits");
    each(&bytes);
    bytes.clear();
    let mut cluster = Cluster::new(term);
    for _ in 0..events {
        writer.event(&cluster.next(), &mut bytes).expect("it fits");
        if bytes.len() >= BLOCK {
            each(&bytes);
            bytes.clear();
        }
    }
    each(&bytes);
}

fn all_valid(verdicts: &[Verdict]) {
    assert_eq!(verdicts.len(), 4);
    assert!(
        verdicts.iter().all(|v| v.validity == Validity::Valid && v.total == 0),
        "{verdicts:#?}"
    );
}

/// The time of all blocks, and what all would have taken if each had taken as long as the median one.
fn blocks(events: u64) -> (Duration, Duration) {
    let mut stream = Stream::new(&header(), Limits::default());
    let (mut first, mut times) = (true, Vec::new());
    make(events, TERM, |bytes| {
        if std::mem::take(&mut first) {
            return;
        }
        let start = Instant::now();
        stream.block(black_box(bytes.as_chunks().0));
        times.push((start.elapsed(), bytes.len() as u64));
    });
    let start = Instant::now();
    let verdicts = stream.finish();
    let end = start.elapsed();
    all_valid(&verdicts);
    let all: Duration = times.iter().map(|(time, _)| *time).sum();
    times.sort();
    let (time, bytes) = times[times.len() / 2];
    let total: u64 = times.iter().map(|(_, bytes)| *bytes).sum();
    (all + end, time.mul_f64(total as f64 / bytes as f64) + end)
}

fn file(path: &PathBuf) -> (Duration, Duration) {
    let (start, processor) = (Instant::now(), processor());
    let mut reader = Reader::new(File::open(path).expect("it was written")).expect("a header");
    let mut stream = Stream::new(&reader.header, Limits::default());
    loop {
        let block = reader.block().expect("a file can be read");
        if block.is_empty() {
            break;
        }
        stream.block(block);
    }
    let verdicts = stream.finish();
    let spent = (start.elapsed(), self::processor() - processor);
    all_valid(&verdicts);
    spent
}

/// What the processor spent on this process so far, in steps of 10 ms, where the system tells.
fn processor() -> Duration {
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let numbers = stat.rsplit_once(')')?.1.split_whitespace();
        let ticks: Vec<u64> = numbers.skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
        Some(ticks.iter().sum::<u64>())
    });
    Duration::from_millis(10 * ticks.unwrap_or(0))
}

/// The most memory that this process ever had, in MB, where the system tells.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

fn main() {
    let set = std::env::var("SPLITBRAIN_EVENTS").ok();
    let events: u64 = set.map_or(10_000_000, |n| n.parse().expect("a number of events"));
    let rate = |spent: Duration| events as f64 / spent.as_secs_f64() / 1e6;
    let runs: Vec<_> = (0..3).map(|_| blocks(events)).collect();
    let best = |of: fn(&(Duration, Duration)) -> Duration, runs: &[(Duration, Duration)]| {
        rate(runs.iter().map(of).min().expect("there are runs"))
    };
    println!(
        "figure stream-blocks-{events}-events {:.1} M/s",
        best(|run| run.0, &runs)
    );
    println!(
        "figure stream-median-block-{events}-events {:.1} M/s",
        best(|run| run.1, &runs)
    );
    let path = std::env::temp_dir().join(format!("splitbrain-stream-{}.bin", std::process::id()));
    let mut out = File::create(&path).expect("the temporary directory can be written");
    make(events, TERM, |bytes| out.write_all(bytes).expect("there is room"));
    drop(out);
    let runs: Vec<_> = (0..5).map(|_| file(&path)).collect();
    println!("figure stream-file-{events}-events {:.1} M/s", best(|run| run.0, &runs));
    println!(
        "figure stream-file-processor-{events}-events {:.1} M/s",
        best(|run| run.1, &runs)
    );
    if let Some(peak) = peak() {
        println!("figure stream-peak-memory {peak:.1} MB");
    }
    let mut hostile = Stream::new(&header(), Limits::default());
    let mut first = true;
    make(events.min(10_000_000), 4, |bytes| {
        if !std::mem::take(&mut first) {
            hostile.block(bytes.as_chunks().0);
        }
    });
    let verdicts = hostile.finish();
    assert!(
        verdicts.iter().any(|v| v.validity == Validity::Unknown),
        "{verdicts:#?}"
    );
    if let Some(peak) = peak() {
        println!("figure stream-hostile-peak-memory {peak:.1} MB");
    }
    std::fs::remove_file(&path).expect("it was written");

    let mut criterion = Criterion::default().configure_from_args();
    let mut some = Vec::new();
    make(1_000_000, TERM, |bytes| some.extend(bytes));
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(1_000_000)).sample_size(20);
    group.bench_function("a-million-events", |b| {
        b.iter(|| {
            let mut reader = Reader::new(black_box(&some[..])).expect("a header");
            let mut stream = Stream::new(&reader.header, Limits::default());
            while let Ok(block) = reader.block()
                && !block.is_empty()
            {
                stream.block(block);
            }
            stream.finish()
        });
    });
    group.finish();
    criterion.final_summary();
}
