//! One candidate as a child process, without hosts: for playing the protocol against it.
//!
//! It runs in a process group of its own, in the caller's working directory and environment, and is ended with its group
//! when it is dropped. What it says waits in a short queue; then it waits itself, so that a flood costs nobody memory.
use crate::live::Lines;
use crate::local::helper;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Lines that wait to be heard.
const WAITING: usize = 1024;
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// What a candidate let hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its newline; the error is one that is too long.
    Line(Result<Vec<u8>, String>),
    /// Its output ended, so many bytes after the last newline.
    End(usize),
    /// Nothing in time.
    Nothing,
}

/// A running candidate.
#[derive(Debug)]
pub struct Candidate {
    child: Child,
    input: Option<ChildStdin>,
    heard: Receiver<Heard>,
}

impl Candidate {
    /// Starts `command` with `env` added to our own environment. Its standard error is ours.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(command: &[String], env: &[(String, String)]) -> io::Result<Candidate> {
        let (program, args) = command
            .split_first()
            .ok_or_else(|| io::Error::other("there is no program"))?;
        let mut child = Command::new(program)
            .args(args)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it was asked for");
        let (sender, heard) = sync_channel(WAITING);
        helper("hear the candidate", move || {
            let mut lines = Lines::new(output);
            while let Some(line) = lines.next_line() {
                if sender.send(Heard::Line(line.map(<[u8]>::to_vec))).is_err() {
                    return;
                }
            }
            let _ = sender.send(Heard::End(lines.unfinished()));
        })?;
        Ok(Candidate { child, input, heard })
    }

    /// Writes `text`. Whether it could be: a candidate that has ended reads nothing.
    pub fn tell(&mut self, text: &str) -> bool {
        self.input
            .as_mut()
            .is_some_and(|input| input.write_all(text.as_bytes()).and_then(|()| input.flush()).is_ok())
    }

    /// The next thing that it lets hear, by `until` at the latest.
    pub fn hear(&self, until: Instant) -> Heard {
        match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            // After its end there is nothing more, and no use in waiting for it.
            Err(RecvTimeoutError::Disconnected) => Heard::End(0),
        }
    }

    /// Ends its standard input, as control's death does.
    pub fn hang_up(&mut self) {
        self.input = None;
    }

    /// How it ended, if it has by `until`.
    pub fn ended(&mut self, until: Instant) -> Option<ExitStatus> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(LOOK);
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
