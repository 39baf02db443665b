//! A server's log, heard as it is written, of one life and no other.
//!
//! **One life, one log.** A log file that survives a kill would hold lines of an older life, and an observer that takes
//! those for the present one's raises false alarms. So an observed server does not log to a file but into a named pipe,
//! whose content dies with the processes that hold it open. A shell makes the pipe, if it is not there from an earlier
//! life, and becomes the server ([`before`]); opening the pipe blocks until the observer opens the other end, so neither
//! has to start first. What comes out of the pipe was therefore written by a server that lived while the observer did.
//!
//! **Two ends for reading.** [`LogPipe::listen`] waits, by way of the runtime's notion of readiness, which may lag behind
//! the pipe. [`LogPipe::drain`] reads by system calls until the pipe is empty: what a server wrote before it answered a
//! question is heard by a drain after the answer.
//!
//! The pipe is the only copy of the log, so the observer repeats it on its own standard error.
//!
//! Caveat: "empty" is what one read found. A server that is stopped between a change of its state and the line that tells
//! of it has changed and not said so; each observer's essay says what its claims are worth then.
use anyhow::{Context, Result};
use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::time::sleep;

/// Between two looks at what nothing else announces.
const POLL: Duration = Duration::from_millis(10);
/// Bytes that one read takes at most.
const CHUNK: usize = 16 * 1024;
/// Longest line of a log that is kept; lines about elections have some hundred bytes.
const LONGEST: usize = 1 << 20;

/// The command that makes the pipe at `path` and becomes `argv`, which is to open it for its log.
pub(crate) fn before(path: &str, argv: Vec<String>) -> Vec<String> {
    // The pipe is there already in every life but the first.
    let script = r#"[ -p "$0" ] || mkfifo "$0"; exec "$@""#;
    let shell = ["/bin/sh", "-c", script, path].map(str::to_string);
    shell.into_iter().chain(argv).collect()
}

/// What comes out of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A whole line, without its end.
    Line(&'a str),
    /// Nobody holds the other end: the server has not begun, or is gone.
    Closed,
}

/// The observer's end of the pipe.
#[derive(Debug)]
pub(crate) struct LogPipe {
    path: PathBuf,
    ends: OnceCell<Ends>,
    /// The start of a line whose end is not there yet.
    begun: RefCell<Vec<u8>>,
}

/// The reading end, twice: one that wakes us, and one whose reads are system calls and nothing else.
#[derive(Debug)]
struct Ends {
    bell: pipe::Receiver,
    file: File,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Bytes; there may be more.
    More,
    /// Nothing for now.
    Empty,
    Closed,
}

impl LogPipe {
    /// The pipe at `path`, which need not be there yet.
    pub(crate) fn new(path: PathBuf) -> LogPipe {
        LogPipe {
            path,
            ends: OnceCell::new(),
            begun: RefCell::default(),
        }
    }

    /// Hears the log for ever. While nobody writes, `take` hears [`Heard::Closed`] again and again.
    ///
    /// # Errors
    /// The pipe cannot be opened or read.
    pub(crate) async fn listen(&self, mut take: impl FnMut(Heard<'_>)) -> Result<()> {
        let ends = open(&self.path).await?;
        let ends = self.ends.get_or_init(|| ends);
        let mut buffer = [0; CHUNK];
        loop {
            ends.bell.readable().await?;
            if self.take(ends.bell.try_read(&mut buffer), &buffer, &mut take)? == Read::Closed {
                // A closed pipe rings for ever.
                sleep(POLL).await;
            }
        }
    }

    /// Hears the log to its present end.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub(crate) fn drain(&self, mut take: impl FnMut(Heard<'_>)) -> Result<()> {
        let Some(ends) = self.ends.get() else {
            return Ok(());
        };
        let mut buffer = [0; CHUNK];
        while self.take((&ends.file).read(&mut buffer), &buffer, &mut take)? == Read::More {}
        Ok(())
    }

    /// Takes what one read of the pipe gave.
    fn take(&self, read: std::io::Result<usize>, buffer: &[u8], take: &mut impl FnMut(Heard<'_>)) -> Result<Read> {
        match read {
            Ok(0) => {
                self.begun.borrow_mut().clear();
                take(Heard::Closed);
                Ok(Read::Closed)
            }
            Ok(n) => {
                self.lines(&buffer[..n], take);
                Ok(Read::More)
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(Read::More),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Read::Empty),
            Err(e) => Err(e).with_context(|| format!("read the log pipe {}", self.path.display())),
        }
    }

    fn lines(&self, bytes: &[u8], take: &mut impl FnMut(Heard<'_>)) {
        let mut begun = self.begun.borrow_mut();
        begun.extend_from_slice(bytes);
        while let Some(end) = begun.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            eprintln!("{line}");
            take(Heard::Line(&line));
        }
        if begun.len() > LONGEST {
            begun.clear();
        }
    }
}

/// Opens the reading end, once the server's shell has made the pipe.
async fn open(path: &Path) -> Result<Ends> {
    let failed = || format!("open the log pipe {}", path.display());
    loop {
        match pipe::OpenOptions::new().open_receiver(path) {
            Ok(bell) => {
                let file = File::from(bell.as_fd().try_clone_to_owned().with_context(failed)?);
                return Ok(Ends { bell, file });
            }
            Err(e) if e.kind() == ErrorKind::NotFound => sleep(POLL).await,
            Err(e) => return Err(e).with_context(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    fn heard(pipe: &LogPipe) -> Vec<String> {
        let mut all = Vec::new();
        pipe.drain(|heard| {
            all.push(match heard {
                Heard::Line(line) => line.to_string(),
                Heard::Closed => "(closed)".to_string(),
            });
        })
        .unwrap();
        all
    }

    /// An open pipe has a path, too.
    #[tokio::test]
    async fn lines_come_out_whole_and_a_broken_one_dies_with_its_writer() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let pipe = LogPipe::new(format!("/proc/self/fd/{}", reader.as_raw_fd()).into());
        assert_eq!(heard(&pipe), [""; 0], "it is not open yet");
        pipe.ends.set(open(&pipe.path).await.unwrap()).unwrap();

        assert_eq!(heard(&pipe), [""; 0]);
        writer.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(heard(&pipe), ["one", "two"]);
        writer.write_all(b"ee\n\xff\n").unwrap();
        assert_eq!(heard(&pipe), ["three", "\u{fffd}"]);
        writer.write_all(&[b'x'; 3 * CHUNK]).unwrap();
        writer.write_all(b"\nhalf").unwrap();
        assert_eq!(heard(&pipe), ["x".repeat(3 * CHUNK)]);
        drop(writer);
        assert_eq!(heard(&pipe), ["(closed)"]);
        assert!(pipe.begun.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_listener_waits_for_the_pipe_and_hears_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let pipe = LogPipe::new(path.clone());
        let (said, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let listen = pipe.listen(|heard| {
            if let Heard::Line(line) = heard {
                said.send(line.to_string()).unwrap();
            }
        });
        let (reader, mut writer) = std::io::pipe().unwrap();
        let write = async {
            tokio::task::yield_now().await;
            std::os::unix::fs::symlink(format!("/proc/self/fd/{}", reader.as_raw_fd()), &path).unwrap();
            writer.write_all(b"hello\n").unwrap();
            lines.recv().await
        };
        tokio::select! {
            ended = listen => panic!("{ended:?}"),
            line = write => assert_eq!(line.as_deref(), Some("hello")),
        }
    }
}
