//! Real etcd servers on loopback addresses of their own, and agents in threads of this process.
//!
//! A test takes its addresses from its process id and a number of its own, so that tests of one machine never meet.
#![allow(dead_code)]

use splitbrain_core::system::Place;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Name, Op, Outcome, Plan, ProcessSpec, Site, System, Unasked};
use splitbrain_node::stdio::Stdio;
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The processes that a test started; they are killed, by handle, when it ends.
pub struct Processes(Vec<(Name, Child)>);

impl Processes {
    /// Starts those of `specs` that `wanted` takes.
    pub fn start(specs: &[ProcessSpec], wanted: impl Fn(&ProcessSpec) -> bool) -> Processes {
        let spawn = |spec: &ProcessSpec| {
            let child = Command::new(&spec.argv[0]).args(&spec.argv[1..]).spawn();
            (
                spec.host,
                child.unwrap_or_else(|e| panic!("failed to start {:?}: {e}", spec.argv)),
            )
        };
        Processes(specs.iter().filter(|spec| wanted(spec)).map(spawn).collect())
    }

    /// Kills those of one host and waits for their ends.
    pub fn kill_host(&mut self, host: &str) {
        let (killed, others): (Vec<_>, Vec<_>) = self.0.drain(..).partition(|(name, _)| name.as_str() == host);
        self.0 = killed;
        self.kill();
        self.0 = others;
    }

    /// Kills all of them and waits for their ends.
    pub fn kill(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.clear();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A site on loopback addresses. The folder must outlive it.
pub fn site(system: &dyn System, plan: &Plan, number: u8, dir: &std::path::Path) -> Site {
    if let Err(error) = system.check(plan) {
        panic!("this test needs a real etcd: {error}");
    }
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let place = |n: usize, name: Name| {
        let dir = dir.join(name.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        // 127.0.x.y is where everyone else listens.
        let ip = [127, 64 + high % 128, low, number * 16 + n as u8 + 1].into();
        (name, Place { ip, dir })
    };
    let hosts = system.hosts(plan);
    Site {
        places: hosts.iter().enumerate().map(|(n, host)| place(n, host.name)).collect(),
        program: "/nonexistent/splitbrain".into(),
    }
}

/// An agent in a thread of its own, and what it said.
pub struct Agent {
    requests: PipeWriter,
    lines: Receiver<Line>,
    events: Vec<Unasked>,
    id: u64,
}

impl Agent {
    /// Runs `agent` over pipes. It ends when this is dropped.
    pub fn spawn<F: Future<Output = anyhow::Result<()>>>(agent: impl FnOnce(Stdio) -> F + Send + 'static) -> Agent {
        let (input, requests) = std::io::pipe().unwrap();
        let (said, output) = std::io::pipe().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .unwrap()
                .block_on(async { agent(Stdio::over(input, output)).await })
                .unwrap();
        });
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines() {
                let line = line.unwrap();
                eprintln!("<- {line}");
                let _ = sender.send(Line::parse(line.as_bytes()).unwrap());
            }
        });
        let mut agent = Agent {
            requests,
            lines,
            events: Vec::new(),
            id: 0,
        };
        agent.event(|event| *event == Unasked::Ready);
        agent
    }

    /// Asks, and waits for the answer. Events that come meanwhile are kept.
    pub fn ask(&mut self, op: Op) -> Outcome {
        self.id += 1;
        let id = self.id;
        let request = serde_json::to_string(&Request { id, op }).unwrap() + "\n";
        self.requests.write_all(request.as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.next(until).unwrap_or_else(|| panic!("no answer to {request}")) {
                Line::Answer { id: of, outcome } => {
                    assert_eq!(of, id);
                    return outcome;
                }
                Line::Event(event) => self.events.push(event),
            }
        }
    }

    /// Waits for the first event that `wanted` takes, and forgets those before it.
    pub fn event(&mut self, wanted: impl Fn(&Unasked) -> bool) -> Unasked {
        self.try_event(PATIENCE, wanted).expect("the awaited event never came")
    }

    /// As [`Agent::event`], for at most `within`.
    pub fn try_event(&mut self, within: Duration, wanted: impl Fn(&Unasked) -> bool) -> Option<Unasked> {
        let until = Instant::now() + within;
        loop {
            while !self.events.is_empty() {
                let event = self.events.remove(0);
                if wanted(&event) {
                    return Some(event);
                }
            }
            match self.next(until)? {
                Line::Event(event) => self.events.push(event),
                answer => panic!("nobody asked for {answer:?}"),
            }
        }
    }

    fn next(&mut self, until: Instant) -> Option<Line> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the agent ended"),
        }
    }
}
