//! How fast the recorder takes events, and how long one call lasts at that speed, with syncs every 10 ms.
//!
//! Two loads, both of the events that a run is made of (looks, writes, the register, the storage's word), [`ROUNDS`] rounds
//! of [`LASTING`] each, every round with a file of its own that is removed afterwards, so that no more than 4 GB are on the disk
//! at a time. The file lies in the temporary folder (`TMPDIR`): to be worth anything that must be a disk.
//!
//! - *full speed*: as fast as the calls return. Where the disk is slower than that, the calls are held to its speed, which
//!   `recorder-full-waits` tells;
//! - *paced*: [`PACE`] events a second, each call timed. The time of a call includes one reading of the clock.
//!
//! `cargo bench -p splitbrain-runner --bench recorder` prints one line a figure, `figure <name> <value> <unit>`.
use nix::time::ClockId;
use splitbrain_core::event::{Body, Event, Kind, Process};
use splitbrain_core::history::{Header, SCHEMA};
use splitbrain_core::{Epoch, Name, Nanos, Plan, Reign, Role, Status, Token};
use splitbrain_runner::Recorder;
use splitbrain_runner::recorder::Kept;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const LASTING: Duration = Duration::from_secs(4);
/// Events of a round at full speed, about 3 GB of them.
const MANY: u64 = 25_000_000;
/// Events per second of the paced load.
const PACE: u64 = 5_500_000;

/// Call times, in classes of 1/16 of a power of two nanoseconds.
struct Times {
    classes: Vec<u64>,
    longest: u64,
}

impl Times {
    fn new() -> Times {
        Times {
            classes: vec![0; 64 * 16],
            longest: 0,
        }
    }

    fn add(&mut self, nanos: u64) {
        let n = nanos.max(16);
        let power = n.ilog2();
        self.classes[(power * 16 + ((n >> (power - 4)) & 15) as u32) as usize] += 1;
        self.longest = self.longest.max(nanos);
    }

    /// The upper end of the class below which `share` of all calls lie, in nanoseconds.
    fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.classes.iter().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (i, count) in self.classes.iter().enumerate() {
            if *count >= left {
                let (power, part) = (i as u64 / 16, i as u64 % 16);
                return ((17 + part) << power >> 4).min(self.longest);
            }
            left -= count;
        }
        self.longest
    }
}

/// What a run records most.
fn usual() -> Vec<Event> {
    let name = |n| Name::numbered("n", n);
    let status = Status {
        role: Role::Leader,
        epoch: Some(Epoch(12)),
        token: Some(Token(12)),
        reign: Some(Reign(3)),
        leader: Some(name(2)),
    };
    let write = |token, seq| Body::Write {
        host: name(2),
        value: 1_048_583,
        token,
        seq,
    };
    let stored = Body::Stored {
        seq: 1_047_211,
        token: Token(12),
        value: 1_048_583,
        base: 1_047_210,
        by: name(2),
    };
    let get = |value| Body::Get { host: name(3), value };
    let observe = |answer| Body::Observe { host: name(2), answer };
    let client = Process::Client;
    let events = [
        (client(4), Kind::Invoke, observe(None)),
        (client(4), Kind::Ok, observe(Some(status))),
        (client(9), Kind::Invoke, write(None, None)),
        (Process::Host("storage".parse().expect("a name")), Kind::Info, stored),
        (client(9), Kind::Ok, write(Some(Token(12)), Some(1_047_211))),
        (client(12), Kind::Invoke, get(None)),
        (client(12), Kind::Ok, get(Some(1_048_583))),
        (client(12), Kind::Invoke, get(None)),
    ];
    let event = |(process, kind, body)| Event {
        index: 0,
        time: Nanos::ZERO,
        process,
        kind,
        body,
        error: None,
    };
    events.map(event).to_vec()
}

fn header() -> Header {
    Header {
        splitbrain: SCHEMA,
        seed: 1,
        plan: Plan::new("raft", "sim"),
        hosts: vec![],
        promises: vec![],
        beliefs: String::new(),
        versions: Default::default(),
    }
}

/// What one round saw.
struct Round {
    events: u64,
    /// Until the last byte was synced.
    took: Duration,
    /// Processor time of the recording thread, and of the whole process.
    cpu: [Duration; 2],
    bytes: u64,
    kept: Kept,
}

/// The processor time used so far by this thread, and by the whole process.
fn cpu() -> [Duration; 2] {
    [ClockId::CLOCK_THREAD_CPUTIME_ID, ClockId::CLOCK_PROCESS_CPUTIME_ID]
        .map(|clock| clock.now().expect("every process has these clocks").into())
}

/// Records as `record` does until it says that it is enough, and closes the file.
fn round(record: impl FnOnce(&mut Recorder) -> u64) -> Round {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("history.jsonl");
    let mut recorder = Recorder::create(&path, &header()).expect("a new file");
    let (began, before) = (Instant::now(), cpu());
    let events = record(&mut recorder);
    recorder.barrier().expect("room for the history");
    let (took, after) = (began.elapsed(), cpu());
    let cpu = [0, 1].map(|i| after[i] - before[i]);
    let kept = recorder.kept();
    recorder.close().expect("room for the history");
    let bytes = std::fs::metadata(&path).expect("the history is there").len();
    Round {
        events,
        took,
        cpu,
        bytes,
        kept,
    }
}

fn full_speed(recorder: &mut Recorder) -> u64 {
    let mut events = usual();
    for index in 0..MANY {
        let event = &mut events[index as usize % 8];
        event.index = index;
        event.time = Nanos(index * 200);
        recorder.record(event).expect("room for the history");
    }
    MANY
}

fn paced(recorder: &mut Recorder, times: &mut Times) -> u64 {
    let mut events = usual();
    let began = Instant::now();
    let now = || began.elapsed().as_nanos() as u64;
    let mut index = 0;
    let mut time = now();
    while time < LASTING.as_nanos() as u64 {
        let due = index * 1_000_000_000 / PACE;
        while time < due {
            time = now();
        }
        let event = &mut events[index as usize % 8];
        event.index = index;
        event.time = Nanos(time);
        recorder.record(event).expect("room for the history");
        index += 1;
        let after = now();
        times.add(after - time);
        time = after;
    }
    index
}

fn print(load: &str, rounds: &[Round]) {
    let events: u64 = rounds.iter().map(|r| r.events).sum();
    let bytes: u64 = rounds.iter().map(|r| r.bytes).sum();
    let waits: u64 = rounds.iter().map(|r| r.kept.waits).sum();
    let rate = |r: &Round| r.events as f64 / r.took.as_secs_f64();
    let mut rates: Vec<f64> = rounds.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let gap = |r: &Round| r.took.as_secs_f64() * 1e3 / r.kept.syncs as f64;
    let gaps = rounds.iter().map(gap).fold(0.0, f64::max);
    let slowest = rounds.iter().map(|r| r.kept.slowest).max().unwrap_or_default();
    println!("figure recorder-{load}-worst {:.0} events/s", rates[0]);
    println!("figure recorder-{load}-median {:.0} events/s", rates[rates.len() / 2]);
    println!("figure recorder-{load}-best {:.0} events/s", rates[rates.len() - 1]);
    let cpu = |i: usize| rounds.iter().map(|r| r.cpu[i].as_nanos()).sum::<u128>() as f64 / events as f64;
    println!("figure recorder-{load}-cpu-caller {:.1} ns/event", cpu(0));
    println!("figure recorder-{load}-cpu-thread {:.1} ns/event", cpu(1) - cpu(0));
    println!("figure recorder-{load}-line {:.1} bytes", bytes as f64 / events as f64);
    println!("figure recorder-{load}-waits {waits} calls");
    println!("figure recorder-{load}-sync-gap {gaps:.2} ms");
    println!(
        "figure recorder-{load}-unsynced-max {:.2} ms",
        slowest.as_secs_f64() * 1e3
    );
}

fn main() {
    // `cargo test --all-targets` builds this and starts it without the flag.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(full_speed)).collect();
    print("full", &rounds);
    let mut times = Times::new();
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(|r| paced(r, &mut times))).collect();
    print("paced", &rounds);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)] {
        println!("figure recorder-call-{name} {} ns", times.quantile(share));
    }
    println!("figure recorder-call-max {} ns", times.longest);
}
