//! Each kind of program, moved by an hour either way and at twice and half the rate, on either clock.
use crate::Case;
use crate::subject::{HOUR, Sample, Subject, set, skew, truth, vdso};
use nix::unistd::Pid;
use splitbrain_core::{Clocks as Which, Skew};
use splitbrain_environments::clock::Clocks;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const ALL: &[Case] = &[
    ("a_program_in_c_or_rust_is_moved", a_program_in_c_or_rust_is_moved),
    ("a_jvm_is_moved", a_jvm_is_moved),
    ("etcd_is_moved", etcd_is_moved),
];

const CLOCKS: [(Which, [bool; 2]); 3] = [
    (Which::Realtime, [true, false]),
    (Which::Monotonic, [false, true]),
    (Which::Both, [true, true]),
];

fn a_program_in_c_or_rust_is_moved() {
    moves(&mut Subject::own(&["clocks"]));
}

fn a_jvm_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    moves(&mut Subject::jvm(dir.path()));
}

fn moves(subject: &mut Subject) {
    let before = vdso(subject.pid());
    let processes = subject.processes();
    let mut clocks = Clocks::new(None);
    for (which, moved) in CLOCKS {
        for offset in [HOUR, -HOUR] {
            let proofs = set(&mut clocks, skew(which, offset, 1_000_000), &processes);
            println!("  {}", proofs[0].saw);
            let sample = subject.sample();
            for (clock, moved) in moved.into_iter().enumerate() {
                sample.off_by(clock, if moved { offset } else { 0 });
            }
        }
        let mut last: Option<Sample> = None;
        for rate in [2.0, 0.5, 10.0, 0.1] {
            let asked = skew(which, 0, (rate * 1e6) as u32);
            let proofs = set(&mut clocks, asked, &processes);
            println!("  {}", proofs[0].saw);
            let first = subject.sample();
            // Time itself is what is waited for.
            std::thread::sleep(Duration::from_millis(100));
            let second = subject.sample();
            for (clock, moved) in moved.into_iter().enumerate() {
                first.goes(&second, clock, if moved { rate } else { 1.0 });
                // A change of rate makes no jump: between the two samples around it, no more passes than at the faster one.
                if let Some(last) = last.filter(|_| moved) {
                    let passed = first.said[clock] - last.said[clock];
                    let most = (first.to[clock] - last.from[clock]) as f64 * 10.0 + subject.unit as f64;
                    assert!(
                        (0.0..=most).contains(&(passed as f64 + subject.unit as f64)),
                        "{passed}"
                    );
                }
            }
            last = Some(second);
        }
        let proofs = set(&mut clocks, Skew::default(), &processes);
        assert!(proofs[0].saw.contains("its vDSO is as it was"), "{proofs:?}");
        assert!(vdso(subject.pid()) == before, "its vDSO differs");
        let sample = subject.sample();
        sample.off_by(0, 0);
        sample.off_by(1, 0);
    }
}

/// A server of one, with its log.
pub struct Etcd {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Etcd {
    pub fn start() -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        let ports = [0, 0].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port"));
        let [client, peer] = ports.map(|port| port.local_addr().expect("bound").port());
        let url = |port| format!("http://127.0.0.1:{port}");
        let log = std::fs::File::create(dir.path().join("log")).expect("create");
        let mut command = Command::new("etcd");
        command
            .args([
                "--logger",
                "zap",
                "--log-outputs",
                "stderr",
                "--name",
                "a",
                "--data-dir",
            ])
            .arg(dir.path().join("data"));
        command.args([
            "--listen-client-urls",
            &url(client),
            "--advertise-client-urls",
            &url(client),
        ]);
        command.args([
            "--listen-peer-urls",
            &url(peer),
            "--initial-advertise-peer-urls",
            &url(peer),
        ]);
        command.args(["--initial-cluster", &format!("a={}", url(peer))]);
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start etcd (etcd-server)");
        let etcd = Etcd {
            child,
            port: client,
            dir,
        };
        while !etcd
            .post("/v3/maintenance/status", "{}")
            .is_some_and(|answer| answer.contains("leader"))
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn post(&self, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let length = body.len();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("its log")
    }

    /// The time of day as etcd's log has it: of a line that is written now.
    fn sample(&self) -> Sample {
        let known = self.log().len();
        let from = truth();
        self.post("/v3/maintenance/defragment", "{}").expect("it answers");
        let to = truth();
        let log = self.log();
        let line = log[known..]
            .lines()
            .find(|line| line.contains("defragment"))
            .expect("a line about it");
        let (_, rest) = line.split_once("\"ts\":\"").expect("a time");
        let said = [utc(&rest[..23]), 0];
        Sample {
            said,
            from,
            to,
            unit: 1_000_000,
        }
    }

    fn lease(&self, id: u32) {
        let body = format!("{{\"TTL\":100000,\"ID\":{id}}}");
        let answer = self.post("/v3/lease/grant", &body).expect("it answers");
        assert!(answer.contains("\"TTL\":\"100000\""), "{answer}");
    }

    /// How long a lease still has to live, in seconds, and the truth before and after.
    fn left(&self, id: u32) -> (i64, [i64; 2]) {
        let from = truth()[1];
        let answer = self
            .post("/v3/lease/timetolive", &format!("{{\"ID\":{id}}}"))
            .expect("it answers");
        let to = truth()[1];
        let (_, rest) = answer.split_once("\"TTL\":\"").expect("a time to live");
        let (left, _) = rest.split_once('"').expect("its end");
        (left.parse().expect("seconds"), [from, to])
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let from = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            println!("  etcd's end: {ended:?}; the end of its log:\n{}", &log[from..]);
        }
    }
}

/// `2026-11-20T23:31:09.123` in nanoseconds since 1970.
fn utc(text: &str) -> i64 {
    let numbers: Vec<i64> = text
        .split(['-', 'T', ':', '.'])
        .map(|n| n.parse().expect("a number"))
        .collect();
    let [year, month, day, hour, minute, second, milli] = numbers[..] else {
        panic!("no time: {text}");
    };
    // Months count from March, so that the odd day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + milli * 1_000_000
}

fn etcd_is_moved() {
    assert_eq!(utc("2001-09-09T01:46:40.500"), 1_000_000_000_500_000_000);
    let etcd = Etcd::start();
    let before = vdso(etcd.pid());
    let processes = [("etcd".to_string(), etcd.pid())];
    let mut clocks = Clocks::new(None);
    for offset in [HOUR, -HOUR] {
        set(&mut clocks, skew(Which::Realtime, offset, 1_000_000), &processes);
        etcd.sample().off_by(0, offset);
    }
    for rate in [2.0, 0.5] {
        set(&mut clocks, skew(Which::Realtime, 0, (rate * 1e6) as u32), &processes);
        let first = etcd.sample();
        std::thread::sleep(Duration::from_millis(500));
        first.goes(&etcd.sample(), 0, rate);
    }
    set(&mut clocks, Skew::default(), &processes);
    etcd.sample().off_by(0, 0);
    etcd.lease(7);
    for (offset, rate) in [(0, 1.0_f64), (HOUR, 1.0), (-HOUR, 1.0), (0, 2.0), (0, 0.5)] {
        let (first, [a, b]) = etcd.left(7);
        let proofs = set(
            &mut clocks,
            skew(Which::Monotonic, offset, (rate * 1e6) as u32),
            &processes,
        );
        if rate != 1.0 {
            std::thread::sleep(Duration::from_secs(4));
        }
        let (second, [c, d]) = etcd.left(7);
        println!("  a lease of {first}s has {second}s left: {}", proofs[0].saw);
        // Whole seconds, rounded down: one more or less.
        let fell = (first - second) as f64;
        let (least, most) = ((c - b) as f64 * rate.min(1.0), (d - a) as f64 * rate.max(1.0));
        let [least, most] = [least, most].map(|ns| (ns + offset as f64) / 1e9);
        assert!(
            (least - 1.0..=most + 1.0).contains(&fell),
            "{fell} not in {least}..{most}"
        );
        if rate > 1.0 {
            assert!(fell > 5.0, "{fell}s in four");
        } else if rate < 1.0 {
            assert!(fell < 4.0, "{fell}s in four");
        }
        etcd.sample().off_by(0, 0);
        set(&mut clocks, Skew::default(), &processes);
        assert!(vdso(etcd.pid()) == before, "its vDSO differs");
    }
}
