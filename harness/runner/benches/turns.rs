//! How many operations a second the loop carries, with a world that does nothing: every operation is answered at once.
//!
//! Five hosts, three lanes each, all lanes always asked; looks, writes and reads of the register in turn. The world's time
//! is the machine's monotonic clock, as in a live run. Once nothing is written down (the loop alone), and once every event
//! goes to a [`Recorder`] (what a run does).
//!
//! `cargo bench -p splitbrain-runner --bench turns` prints one line a figure, `figure <name> <value> <unit>`: the best of
//! [`RUNS`] runs of [`LASTING`] each, because others use the machine too.
use nix::time::ClockId;
use splitbrain_core::event::{Event, Kind, Phase};
use splitbrain_core::history::{Header, SCHEMA};
use splitbrain_core::world::{Happening, Unasked};
use splitbrain_core::{
    Action, Answer, Command, Epoch, Generator, HostRole, HostSpec, Lane, Name, Nanos, Next, Op, Outcome, Plan, Reign,
    Role, Status, Token, View, World,
};
use splitbrain_runner::{Drive, Ended, Limits, Recorder, drive};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const HOSTS: usize = 5;
const LANES: [Lane; 3] = [Lane::Observe, Lane::Write, Lane::Register];
const RUNS: usize = 5;
const LASTING: Nanos = Nanos::secs(2);

/// Answers everything at once.
struct Nothing {
    began: Instant,
    queue: VecDeque<Happening>,
    first: Name,
}

impl Nothing {
    fn new(hosts: &[HostSpec]) -> Nothing {
        let mut queue = VecDeque::with_capacity(64);
        for HostSpec { name: host, .. } in hosts.iter().copied() {
            queue.push_back(Happening::Started { host, incarnation: 1 });
            let what = Unasked::Ready;
            queue.push_back(Happening::Said { host, what });
        }
        let what = Unasked::Elected {
            epoch: Epoch(1),
            token: Some(Token(1)),
            reign: Reign(1),
        };
        queue.push_back(Happening::Said {
            host: hosts[0].name,
            what,
        });
        Nothing {
            began: Instant::now(),
            queue,
            first: hosts[0].name,
        }
    }

    fn status(&self, host: Name) -> Status {
        let leads = host == self.first;
        Status {
            role: if leads { Role::Leader } else { Role::Follower },
            epoch: Some(Epoch(1)),
            token: leads.then_some(Token(1)),
            reign: leads.then_some(Reign(1)),
            leader: Some(self.first),
        }
    }
}

impl World for Nothing {
    fn now(&self) -> Nanos {
        Nanos(self.began.elapsed().as_nanos() as u64)
    }
    fn submit(&mut self, id: u64, host: Name, op: Op) {
        let answer = match op {
            Op::Observe => Answer::Status(self.status(host)),
            // The storage's numbers count from 1: nothing was written of which it would have to tell.
            Op::Write { .. } => Answer::Written {
                token: Token(1),
                seq: 0,
            },
            Op::Get => Answer::Value(None),
            _ => Answer::Done,
        };
        let outcome = Outcome::Ok(answer);
        self.queue.push_back(Happening::Completed { id, outcome });
    }
    fn act(&mut self, id: u64, _action: &Action) {
        let result = Ok(Vec::new());
        self.queue.push_back(Happening::Acted { id, result });
    }
    fn poll(&mut self, until: Nanos) -> Option<(Nanos, Happening)> {
        match self.queue.pop_front() {
            Some(what) => Some((self.now(), what)),
            None => {
                while self.now() < until {
                    std::hint::spin_loop();
                }
                None
            }
        }
    }
}

/// Asks lane after lane, as soon as each is free.
struct Busy {
    lanes: Vec<(Name, Lane)>,
    turn: usize,
    value: u64,
}

impl Generator for Busy {
    fn next(&mut self, _now: Nanos, view: &View) -> Next {
        if view.phase >= Some(Phase::Final) {
            return Next::Done;
        }
        let (host, lane) = self.lanes[self.turn];
        if !view.is_free(host, lane) {
            return Next::Wait(Nanos::MAX);
        }
        self.turn = (self.turn + 1) % self.lanes.len();
        let op = match lane {
            Lane::Observe => Op::Observe,
            Lane::Write => {
                self.value += 1;
                Op::Write { value: self.value }
            }
            _ => Op::Get,
        };
        Next::Do(Command::Invoke { host, lane, op })
    }
    fn notify(&mut self, _event: &Event) {}
}

/// Breaks nothing.
struct Peace;

impl Generator for Peace {
    fn next(&mut self, _now: Nanos, _view: &View) -> Next {
        Next::Done
    }
    fn notify(&mut self, _event: &Event) {}
}

/// The processor time that this thread has used.
fn cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().expect("every thread has this clock").into()
}

/// Operations per second, and nanoseconds of processor time an operation, of one run whose events go to `sink`.
fn run(hosts: &[HostSpec], mut sink: impl FnMut(&Event) -> Result<(), String>) -> [f64; 2] {
    let mut world = Nothing::new(hosts);
    let mut answered = 0u64;
    let (began, cpu) = (Instant::now(), cpu_time());
    let ended = drive(Drive {
        world: &mut world,
        hosts,
        nemesis: &mut Peace,
        workload: &mut Busy {
            lanes: LANES
                .iter()
                .flat_map(|lane| hosts.iter().map(|h| (h.name, *lane)))
                .collect(),
            turn: 0,
            value: 0,
        },
        limits: Limits::new(LASTING, Nanos::secs(5)),
        sink: &mut |event| {
            answered += u64::from(event.kind == Kind::Ok);
            sink(event)
        },
        stop: &|| false,
    });
    assert_eq!(ended, Ended::Whole);
    let cpu = cpu_time() - cpu;
    [
        answered as f64 / began.elapsed().as_secs_f64(),
        cpu.as_nanos() as f64 / answered as f64,
    ]
}

fn recorded(hosts: &[HostSpec]) -> [f64; 2] {
    let dir = tempfile::tempdir().expect("a folder for the history");
    let header = Header {
        splitbrain: SCHEMA,
        seed: 1,
        plan: Plan::new("raft", "sim"),
        hosts: hosts.to_vec(),
        promises: vec![],
        beliefs: String::new(),
        versions: Default::default(),
    };
    let mut recorder = Recorder::create(&dir.path().join("history.jsonl"), &header).expect("a new file");
    let rate = run(hosts, |event| recorder.record(event));
    recorder.close().expect("room for the history");
    rate
}

fn print(name: &str, run: impl FnMut(usize) -> [f64; 2]) {
    let runs: Vec<[f64; 2]> = (0..RUNS).map(run).collect();
    let rate = runs.iter().map(|[rate, _]| *rate).fold(0.0, f64::max);
    let cpu = runs.iter().map(|[_, cpu]| *cpu).fold(f64::MAX, f64::min);
    println!("figure {name} {rate:.0} operations/s");
    println!("figure {name}-cpu {cpu:.0} ns/operation");
}

fn main() {
    // `cargo test --all-targets` builds this and starts it without the flag.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let spec = |n| HostSpec {
        name: Name::numbered("n", n),
        role: HostRole::Member,
        asked: true,
    };
    let hosts: Vec<HostSpec> = (1..=HOSTS).map(spec).collect();
    print("loop", |_| run(&hosts, |_| Ok(())));
    print("loop-recorded", |_| recorded(&hosts));
}
