//! A candidate that elects nobody: it says hello to its peers by UDP all the time, and counts what it hears.
//!
//! Operations are borrowed for what the tests need to ask; see [`answer`].
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Answer, Op, Outcome, Role, Status, Token, Unasked};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORT: u16 = 7000;

/// Hellos heard, by who said them.
type Heard = Arc<Mutex<BTreeMap<IpAddr, u64>>>;

/// Arguments: own address, then all addresses in the order of the hosts.
pub fn main(args: &[String]) -> ExitCode {
    let ips: Vec<IpAddr> = args.iter().map(|arg| arg.parse().expect("an address")).collect();
    let (own, all) = ips.split_first().expect("an own address");
    let socket = Arc::new(UdpSocket::bind((*own, PORT)).expect("the port is free on a host of one's own"));
    let heard = Heard::default();
    let (ear, mouth, count) = (socket.clone(), socket, heard.clone());
    std::thread::spawn(move || {
        let mut bytes = [0; 8];
        while let Ok((_, from)) = ear.recv_from(&mut bytes) {
            *count.lock().unwrap().entry(from.ip()).or_default() += 1;
        }
    });
    let peers: Vec<SocketAddr> = all
        .iter()
        .filter(|ip| *ip != own)
        .map(|ip| (*ip, PORT).into())
        .collect();
    std::thread::spawn(move || {
        loop {
            for peer in &peers {
                let _ = mouth.send_to(b"hello", peer);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    say(&Line::Event(Unasked::Ready));
    eprintln!("toy is ready");
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line.expect("a line")).expect("a request");
        if let Some(outcome) = answer(request.op, all, &heard) {
            say(&Line::Answer {
                id: request.id,
                outcome,
            });
        }
    }
    ExitCode::SUCCESS
}

fn say(line: &Line) {
    // Nobody listens any more: the end is near.
    let _ = writeln!(std::io::stdout(), "{}", line.to_json());
}

fn answer(op: Op, all: &[IpAddr], heard: &Heard) -> Option<Outcome> {
    let answer = match op {
        Op::Observe => Answer::Status(Status {
            role: Role::Follower,
            epoch: None,
            token: None,
            reign: None,
            leader: None,
        }),
        // How much was heard from host `value`, as `seq`.
        Op::Write { value } => Answer::Written {
            token: Token(value),
            seq: heard.lock().unwrap().get(&all[value as usize]).copied().unwrap_or(0),
        },
        // Print nonsense.
        Op::Campaign => {
            println!("all hail \u{1b}[31m me");
            return None;
        }
        // End by oneself.
        Op::Resign => {
            eprintln!("cannot go on");
            std::process::exit(3);
        }
        // Say something `value` times.
        Op::Set { value } => {
            for index in 1..=value {
                say(&Line::Event(Unasked::Applied {
                    index,
                    term: 1,
                    digest: 0,
                }));
            }
            Answer::Done
        }
        // Leave a process behind that hides: in a session of its own, its parent dead.
        Op::Read => {
            let script = "setsid sleep 1000 & echo";
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", script]).stdout(Stdio::null()).stdin(Stdio::null());
            shell.status().expect("run a shell");
            Answer::Done
        }
        // Print a line without an end, of `to` bytes.
        Op::Next | Op::Run { .. } | Op::Acquire | Op::Release => panic!("no test asks this of a toy"),
        Op::Cas { to, .. } => {
            let bytes = vec![b'x'; 4096];
            for _ in 0..to / 4096 {
                std::io::stdout().write_all(&bytes).expect("write");
            }
            println!();
            Answer::Done
        }
        // The time of day, in milliseconds.
        Op::Get => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            Answer::Value(Some(now.as_millis() as u64))
        }
    };
    Some(Outcome::Ok(answer))
}
