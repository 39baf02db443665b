//! What the cases share: an agent, and control's end of its stream.
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use splitbrain_core::Nanos;
use splitbrain_environments::Sabotage;
use splitbrain_environments::agent::proto::{
    Frame, FromHost, Greeting, Hello, Order, Reply, Spawn, SpawnStdio, ToHost, VERSION, WINDOW, receive, send,
    send_data,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(30);

/// A folder for an agent's state and log.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn command(&self, word: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"));
        command.args(["steward", word]).env("SPLITBRAIN_STATE", self.state());
        command.stderr(log.expect("a log"));
        command
    }

    /// `heal` or `check`: whether it was content, and what it said.
    pub fn ask(&self, word: &str) -> (bool, serde_json::Value) {
        let output = self.command(word).output().expect("run it");
        let value = serde_json::from_slice(&output.stdout);
        (
            output.status.success(),
            value.unwrap_or_else(|e| panic!("{word} says {output:?}: {e}")),
        )
    }

    pub fn left(&self) -> Vec<String> {
        let (_, said) = self.ask("check");
        serde_json::from_value(said["left"].clone()).expect("a list")
    }
}

pub struct Agent {
    pub guard: Child,
    pub pids: Pids,
    stream: Option<UnixStream>,
    frames: Receiver<Frame<FromHost>>,
    /// What came and was not awaited, but for data.
    pub seen: Vec<FromHost>,
    /// Output so far, by stream.
    pub data: BTreeMap<u32, Vec<u8>>,
    next: u64,
    streams: u32,
}

/// Of the agent's two processes.
#[derive(Clone, Copy, Debug)]
pub struct Pids {
    pub guard: i32,
    pub agent: i32,
}

pub fn hello() -> Hello {
    Hello {
        version: VERSION,
        run: "test".into(),
        host: "n1".parse().unwrap(),
        dead_man: Nanos::secs(60),
        seed: 7,
        sabotage: None,
    }
}

impl Agent {
    /// One that has greeted.
    pub fn new(place: &Place) -> Agent {
        Agent::greeted(place, &hello()).0
    }

    pub fn sabotaged(place: &Place, sabotage: Sabotage) -> Agent {
        let sabotage = Some(sabotage);
        Agent::greeted(place, &Hello { sabotage, ..hello() }).0
    }

    pub fn greeted(place: &Place, hello: &Hello) -> (Agent, Greeting) {
        Agent::bare(place).greeted_as(hello)
    }

    pub fn greeted_as(mut self, hello: &Hello) -> (Agent, Greeting) {
        match self.greet(hello) {
            FromHost::Hello(greeting) => {
                self.pids.agent = *children(self.pids.guard).first().expect("the guard has a child");
                (self, greeting)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Why it refuses.
    pub fn refused(place: &Place, hello: &Hello) -> String {
        let mut agent = Agent::bare(place);
        match agent.greet(hello) {
            FromHost::Refused(why) => {
                assert!(!agent.guard.wait().unwrap().success());
                why
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn bare(place: &Place) -> Agent {
        Agent::by(place.command("serve"))
    }

    pub fn by(mut command: Command) -> Agent {
        let (own, other) = UnixStream::pair().unwrap();
        let fds = [other.try_clone().unwrap(), other].map(OwnedFd::from);
        let [stdin, stdout] = fds.map(Stdio::from);
        let guard = command.stdin(stdin).stdout(stdout).spawn().expect("start the agent");
        drop(command);
        let (to, frames) = channel();
        let mut reader = own.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(frame)) = receive::<FromHost>(&mut reader) {
                if to.send(frame).is_err() {
                    break;
                }
            }
        });
        Agent {
            pids: Pids {
                guard: guard.id().cast_signed(),
                agent: 0,
            },
            guard,
            stream: Some(own),
            frames,
            seen: Vec::new(),
            data: BTreeMap::new(),
            next: 0,
            streams: 0,
        }
    }

    pub fn greet(&mut self, hello: &Hello) -> FromHost {
        self.say(&ToHost::Hello(hello.clone()));
        self.until("a greeting", |message| {
            matches!(message, FromHost::Hello(_) | FromHost::Refused(_)).then(|| message.clone())
        })
    }

    pub fn say(&mut self, message: &ToHost) {
        send(self.stream.as_mut().expect("not hung up"), message).expect("the agent listens");
    }

    pub fn write(&mut self, stream: u32, bytes: &[u8]) {
        self.try_write(stream, bytes).expect("the agent listens");
    }

    /// To an agent that may have ended.
    pub fn try_write(&mut self, stream: u32, bytes: &[u8]) -> std::io::Result<()> {
        let mut parts = bytes.chunks(64 * 1024);
        parts.try_for_each(|part| send_data(self.stream.as_mut().expect("not hung up"), stream, part))
    }

    /// The next frame, data as a beat that nobody has asked for; `None` at the end of the agent's stream.
    fn next(&mut self, what: &str) -> Option<FromHost> {
        match self.frames.recv_timeout(LONG) {
            Ok(Frame::Data(stream, bytes)) => {
                self.data.entry(stream).or_default().extend(bytes);
                Some(FromHost::Beat { n: 0, raw: Nanos::ZERO })
            }
            Ok(Frame::Message(message)) => Some(message),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(_) => panic!("never came: {what}; seen: {:?}", self.seen),
        }
    }

    /// Waits for a message; the others are kept.
    pub fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromHost) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|message| wanted(message).is_some()) {
            return wanted(&self.seen.remove(at)).expect("wanted a moment ago");
        }
        loop {
            let Some(message) = self.next(what) else {
                panic!("the agent ended before {what}; seen: {:?}", self.seen)
            };
            match wanted(&message) {
                Some(found) => return found,
                None if matches!(message, FromHost::Beat { n: 0, .. }) => {}
                None => self.seen.push(message),
            }
        }
    }

    /// Waits until a stream has said so much.
    pub fn until_said(&mut self, stream: u32, bytes: usize) -> Vec<u8> {
        while self.data.get(&stream).map_or(0, Vec::len) < bytes {
            match self.next(&format!("{bytes} bytes of stream {stream}")) {
                Some(FromHost::Beat { n: 0, .. }) => {}
                Some(message) => self.seen.push(message),
                None => panic!("the agent ended before {bytes} bytes of {stream}"),
            }
        }
        self.data[&stream].clone()
    }

    /// The first line of a stream.
    pub fn line(&mut self, stream: u32) -> String {
        for length in 1.. {
            let said = self.until_said(stream, length);
            if let Some(end) = said.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(said[..end].to_vec()).unwrap();
                self.data.insert(stream, said[end + 1..].to_vec());
                return line;
            }
        }
        unreachable!("the range has no end")
    }

    pub fn order(&mut self, order: Order) -> Result<Reply, String> {
        self.next += 1;
        let wanted = self.next;
        let what = format!("{order:?}");
        self.say(&ToHost::Do { id: wanted, order });
        self.until(&what, |message| match message {
            FromHost::Done { id, result } => (*id == wanted).then(|| result.clone()),
            _ => None,
        })
    }

    /// What was seen of an order that must work.
    pub fn done(&mut self, order: Order) -> String {
        let what = format!("{order:?}");
        let reply = self.order(order).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(reply.proofs.iter().all(|proof| proof.at == "n1"), "{reply:?}");
        reply
            .proofs
            .into_iter()
            .map(|proof| proof.saw)
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub fn spawn_order(&mut self, argv: &[&str], stdio: SpawnStdio, dir: PathBuf) -> Spawn {
        self.streams += 3;
        Spawn {
            process: "toy".into(),
            life: 1,
            argv: argv.iter().map(|arg| (*arg).to_string()).collect(),
            env: Vec::new(),
            dir,
            layered: false,
            stdio,
            stream: self.streams,
        }
    }

    /// Starts a process that speaks the protocol; its pid and its first stream.
    pub fn start(&mut self, place: &Place, argv: &[&str]) -> (i32, u32) {
        let spawn = self.spawn_order(argv, SpawnStdio::Protocol, place.state().join("hosts/n1"));
        let stream = spawn.stream;
        let saw = self.done(Order::Spawn(spawn));
        let pid = saw
            .strip_prefix("toy (pid ")
            .and_then(|rest| rest.strip_suffix(") started"));
        (
            pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{saw}")),
            stream,
        )
    }

    /// A shell script that first prints pids, one a line.
    pub fn script(&mut self, place: &Place, script: &str, pids: usize) -> Vec<i32> {
        let (_, stream) = self.start(place, &["sh", "-c", script]);
        (0..pids)
            .map(|_| self.line(stream + 1).parse().expect("a pid"))
            .collect()
    }

    /// Returns after the agent has answered a beat, and the order thread an order.
    pub fn rounds(&mut self, rounds: u64) {
        for n in 1..=rounds {
            self.say(&ToHost::Beat { n });
            self.until("a beat", |message| {
                matches!(message, FromHost::Beat { n: came, .. } if *came == n).then_some(())
            });
        }
    }

    pub fn credit(&mut self, stream: u32, bytes: u32) {
        self.say(&ToHost::Credit { stream, bytes });
    }

    /// Ends control's side.
    pub fn hang_up(&mut self) {
        let stream = self.stream.take().expect("not hung up");
        stream.shutdown(std::net::Shutdown::Both).ok();
    }

    /// Waits until guard and agent have ended; whether orderly.
    pub fn ended(&mut self) -> bool {
        let agent = pidfd(self.pids.agent);
        let guard = pidfd(self.pids.guard);
        for fd in [agent, guard].into_iter().flatten() {
            wait_end(&fd);
        }
        self.guard.wait().unwrap().success()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A case that failed must not leave anything to the others.
        if let Some(stream) = self.stream.take() {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
        for pid in [self.pids.guard, self.pids.agent].into_iter().filter(|pid| *pid > 0) {
            if state(pid) == Some('T') {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGCONT);
            }
        }
        let _ = self.guard.wait();
    }
}

/// A descriptor that stands for a process, if there is one.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a system call without memory; what it returns is a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    // SAFETY: see above.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

pub fn wait_end(fd: &OwnedFd) {
    let timeout = PollTimeout::try_from(LONG).unwrap();
    let ready = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
    assert!(ready > 0, "a process lives that should have ended");
}

/// Waits until none of these processes runs.
pub fn gone(pids: &[i32]) {
    for pid in pids {
        if let Some(fd) = pidfd(*pid) {
            wait_end(&fd);
        }
    }
}

pub fn runs(pid: i32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

pub fn children(pid: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(&pid.to_string())
    })
    .collect()
}

pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it lives");
}

/// As many bytes as control and agent let be under way.
pub const FULL: usize = WINDOW as usize;
