//! A program under test, and what it says of its clocks.
use crate::programs::read;
use nix::unistd::Pid;
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Clocks as Which, Nanos, Offset, Proof, Skew};
use splitbrain_environments::clock::Clocks;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub const HOUR: i64 = 3_600_000_000_000;

/// A child that tells its clocks when it gets a line.
pub struct Subject {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// How exact its time of day is, in nanoseconds.
    pub unit: i64,
}

/// What a program said, and the truth before and after.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// By the program: time of day, monotonic.
    pub said: [i64; 2],
    pub from: [i64; 2],
    pub to: [i64; 2],
    pub unit: i64,
}

pub fn truth() -> [i64; 2] {
    [read(libc::CLOCK_REALTIME), read(libc::CLOCK_MONOTONIC)]
}

impl Subject {
    pub fn start(command: &mut Command, unit: i64) -> Subject {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Subject {
            child,
            stdin,
            stdout,
            unit,
        }
    }

    pub fn own(part: &[&str]) -> Subject {
        let program = std::env::current_exe().expect("our own path");
        Subject::start(Command::new(program).args(part), 0)
    }

    pub fn jvm(dir: &std::path::Path) -> Subject {
        std::fs::write(dir.join("Clocks.java"), include_str!("Clocks.java")).expect("write");
        let compiled = Command::new("javac")
            .arg("-d")
            .arg(dir)
            .arg(dir.join("Clocks.java"))
            .status();
        assert!(compiled.expect("run javac (openjdk-17-jdk-headless)").success());
        let mut java = Command::new("java");
        java.args(["-Xmx64m", "-cp"]).arg(dir).arg("Clocks");
        let mut jvm = Subject::start(&mut java, 1_000_000);
        jvm.line("");
        jvm
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn processes(&self) -> Vec<(String, Pid)> {
        vec![("subject".to_string(), self.pid())]
    }

    pub fn line(&mut self, line: &str) -> Vec<i64> {
        writeln!(self.stdin, "{line}").expect("it reads");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("it answers");
        let numbers = answer.split_whitespace().map(|word| word.parse().expect("a number"));
        let numbers: Vec<i64> = numbers.collect();
        assert!(!numbers.is_empty(), "{:?}", self.child.wait());
        numbers
    }

    pub fn sample(&mut self) -> Sample {
        let from = truth();
        let said = self.line("");
        let to = truth();
        Sample {
            said: [said[0], said[1]],
            from,
            to,
            unit: self.unit,
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sample {
    /// Asserts that one of the clocks is off by so much.
    pub fn off_by(&self, clock: usize, offset: i64) {
        let range = self.from[clock] - self.unit..=self.to[clock];
        let truly = self.said[clock] - offset;
        assert!(
            range.contains(&truly),
            "clock {clock} is {} off, not {offset}",
            self.said[clock] - self.to[clock]
        );
    }

    /// Asserts that one of the clocks went at that rate until a later sample.
    pub fn goes(&self, later: &Sample, clock: usize, rate: f64) {
        let passed = later.said[clock] - self.said[clock];
        let least = (later.from[clock] - self.to[clock]) as f64 * rate - self.unit as f64 - 100.0;
        let most = (later.to[clock] - self.from[clock]) as f64 * rate + self.unit as f64 + 100.0;
        assert!(
            (least..=most).contains(&(passed as f64)),
            "clock {clock}: {passed} not in {least}..{most}"
        );
    }
}

pub fn skew(clocks: Which, offset: i64, rate_ppm: u32) -> Skew {
    Skew {
        clocks,
        offset: Offset(offset),
        rate_ppm,
        strobe: Nanos::ZERO,
    }
}

/// Sets it, and expects it to be proven.
pub fn set(clocks: &mut Clocks, skew: Skew, processes: &[(String, Pid)]) -> Vec<Proof> {
    clocks
        .set(skew, ClockOf::Process, processes)
        .unwrap_or_else(|why| panic!("{skew}: {why}"))
}

/// How long the process stood still, as a proof has it, in milliseconds.
pub fn stop(proofs: &[Proof]) -> f64 {
    let (_, rest) = proofs[0].saw.split_once("stopped ").expect("a stop");
    rest.trim_end_matches("ms").parse().expect("milliseconds")
}

/// The bytes of a process's vDSO.
pub fn vdso(pid: Pid) -> Vec<u8> {
    let maps = || std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let begin = std::time::Instant::now();
    let place = loop {
        let maps = maps();
        // A program that has just been started has none yet.
        if let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) {
            break line.split_whitespace().next().expect("a range").to_string();
        }
        assert!(begin.elapsed().as_secs() < 20, "it has no vDSO");
        std::thread::yield_now();
    };
    let (from, to) = place.split_once('-').expect("a range");
    let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).expect("an address"));
    let mut bytes = vec![0; (to - from) as usize];
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    memory.read_exact_at(&mut bytes, from).expect("its vDSO");
    bytes
}
