//! Bytes between a channel of a session and a local stream, both ways, until one of them ends.
//!
//! One thread owns the session and never waits in libssh2, only in `poll`. Standard error is read together with standard
//! output, or a flood on the one would block the other.
//!
//! **Dead peers.** The kernel gives up a peer that does not acknowledge (`TCP_USER_TIMEOUT`), but acknowledges for a peer
//! whose sshd is stopped. So whoever is silent for [`QUIET`] is asked for a sign of life, and is dead if none comes within
//! [`PATIENCE`]. The silence counts from the question: who was stopped himself meanwhile must not take others for dead.
//!
//! **Traps of libssh2** that show here: a read of 0 bytes is no end unless [`Channel::eof`] says so; a write that would
//! block must come again with the same bytes, and blocks reading until it went out; a sign of life that does not fit
//! into the socket's buffer at once would block the session for good; what a session waits for must be asked after each
//! call, since the next one overwrites it; and all reads of a channel must be of the same length: a read first grants the
//! peer as much as it may read, and a grant that was held up is counted with the length of the read that completes
//! it. Too small a count, and bytes that come later are thrown away in silence.
use super::connection::{Connection, would_block};
use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ssh2::{BlockDirections, Channel, ErrorCode};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Silence after which a peer is asked for a sign of life; also the shortest time between two questions.
const QUIET: Duration = Duration::from_secs(2);
/// From the question until a peer is dead.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long what runs there may go on after the end of its input.
const FAREWELL: Duration = Duration::from_secs(30);
/// How often a wait looks up, in ms.
const LOOK: u16 = 500;
/// Of each direction.
const BUFFER: usize = 256 * 1024;

/// A channel and a local stream that are joined.
pub(super) struct Pump {
    connection: Connection,
    channel: Channel,
    local: UnixStream,
    /// For standard error.
    log: Option<File>,
    /// As long as the others: see above.
    errors: Vec<u8>,
    to_host: Buffer,
    to_local: Buffer,
    /// Nothing more comes from the local stream, since then.
    input_ended: Option<Instant>,
    /// The end of the input was told.
    eof_sent: bool,
    /// Nobody reads the local stream any more.
    unread: bool,
    /// Something came since the last wait.
    fresh: bool,
    /// When we were last sure that the peer lives.
    heard: Instant,
    /// Since when a question for a sign of life has had no room to be sent; then room is the sign.
    crowded: Option<Instant>,
}

/// What was read here and not yet written there.
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    fn new(early: &[u8]) -> Buffer {
        assert!(early.len() <= BUFFER, "what came early is the rest of a smaller read");
        let mut bytes = vec![0; BUFFER];
        bytes[..early.len()].copy_from_slice(early);
        Buffer {
            bytes,
            from: 0,
            to: early.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }
}

impl Pump {
    /// Joins the two. From now on the session must not be used by anybody else.
    pub fn new(connection: Connection, channel: Channel, local: UnixStream, log: Option<File>) -> Result<Pump> {
        local.set_nonblocking(true)?;
        connection.session.set_blocking(false);
        connection.session.set_keepalive(true, u32::try_from(QUIET.as_secs())?);
        Ok(Pump {
            connection,
            channel,
            local,
            log,
            errors: vec![0; BUFFER],
            to_host: Buffer::new(&[]),
            to_local: Buffer::new(&[]),
            input_ended: None,
            eof_sent: false,
            unread: false,
            fresh: false,
            heard: Instant::now(),
            crowded: None,
        })
    }

    /// For the local stream, before anything else.
    pub fn with_early(mut self, early: &[u8]) -> Pump {
        self.to_local = Buffer::new(early);
        self
    }

    /// Goes on until the channel has ended or the connection is lost, which is an error. The local stream ends with it.
    pub fn run(mut self) -> Result<()> {
        let result = self.flow();
        match (&result, &mut self.log) {
            (Ok(how), Some(log)) if !how.is_empty() => {
                let _ = writeln!(log, "splitbrain: what ran there ended: {how}");
            }
            (Err(error), Some(log)) => {
                let _ = writeln!(log, "splitbrain: the connection was lost: {error:#}");
            }
            _ => (),
        }
        drop(self.local);
        if result.is_ok() {
            drop(self.channel);
            self.connection.close();
        } else {
            // Before anything of libssh2 is dropped, or that would wait for the peer.
            self.connection.cut();
            drop(self.channel);
        }
        result.map(drop)
    }

    /// Says how what ran there ended, in words; nothing if well.
    fn flow(&mut self) -> Result<String> {
        loop {
            let (mut moved, mut outbound) = (false, false);
            for step in [
                Pump::read_log,
                Pump::read_channel,
                Pump::write_local,
                Pump::read_local,
                Pump::write_channel,
            ] {
                moved |= step(self)?;
                outbound |= matches!(
                    self.connection.session.block_directions(),
                    BlockDirections::Outbound | BlockDirections::Both
                );
            }
            if self.channel.eof() && (self.to_local.is_empty() || self.unread) {
                return Ok(self.ending());
            }
            if self.input_ended.is_some_and(|since| since.elapsed() > FAREWELL) {
                bail!("what ran there went on for {FAREWELL:?} after the end of its input");
            }
            self.wait(moved, outbound)?;
        }
    }

    fn read_log(&mut self) -> Result<bool> {
        let Some(log) = &mut self.log else { return Ok(false) };
        let result = self.channel.stderr().read(&mut self.errors);
        let n = some(&self.connection, result)?;
        // A log that cannot be written must not stop what it is about.
        let _ = log.write_all(&self.errors[..n]);
        self.fresh |= n > 0;
        Ok(n > 0)
    }

    fn read_channel(&mut self) -> Result<bool> {
        if !self.to_local.is_empty() && !self.unread {
            return Ok(false);
        }
        let result = self.channel.read(&mut self.to_local.bytes);
        let n = some(&self.connection, result)?;
        (self.to_local.from, self.to_local.to) = (0, n);
        self.fresh |= n > 0;
        Ok(n > 0)
    }

    fn write_local(&mut self) -> Result<bool> {
        if self.to_local.is_empty() || self.unread {
            return Ok(false);
        }
        match self.local.write(self.to_local.rest()) {
            Ok(n) => {
                self.to_local.from += n;
                Ok(n > 0)
            }
            Err(error) if passing(&error) => Ok(false),
            Err(_) => {
                self.unread = true;
                Ok(true)
            }
        }
    }

    fn read_local(&mut self) -> Result<bool> {
        if !self.to_host.is_empty() || self.input_ended.is_some() {
            return Ok(false);
        }
        match self.local.read(&mut self.to_host.bytes) {
            Ok(n) if n > 0 => {
                (self.to_host.from, self.to_host.to) = (0, n);
                Ok(true)
            }
            Err(error) if passing(&error) => Ok(false),
            _ => {
                self.input_ended = Some(Instant::now());
                Ok(true)
            }
        }
    }

    fn write_channel(&mut self) -> Result<bool> {
        if !self.to_host.is_empty() {
            let result = self.channel.write(self.to_host.rest());
            let n = some(&self.connection, result)?;
            self.to_host.from += n;
            return Ok(n > 0);
        }
        if self.input_ended.is_none() || self.eof_sent {
            return Ok(false);
        }
        match self.channel.send_eof() {
            Ok(()) => self.eof_sent = true,
            Err(error) if would_block(&error) => (),
            Err(error) => return Err(anyhow!("{}", error.message()).context("failed to end the input")),
        }
        Ok(self.eof_sent)
    }

    /// Waits until something can go on; not at all if something just did.
    fn wait(&mut self, moved: bool, outbound: bool) -> Result<()> {
        // What lies there unread although all was read that can be: reading waits for writing.
        let stuck = outbound && !moved && self.unread_bytes()? > 0;
        let mut net = if stuck { PollFlags::empty() } else { PollFlags::POLLIN };
        net.set(PollFlags::POLLOUT, outbound || self.crowded.is_some());
        let mut here = PollFlags::empty();
        here.set(PollFlags::POLLIN, self.to_host.is_empty() && self.input_ended.is_none());
        here.set(PollFlags::POLLOUT, !self.to_local.is_empty() && !self.unread);
        let mut fds = vec![PollFd::new(self.connection.socket.as_fd(), net)];
        // Watched for its end even if nothing is wanted of it.
        if !(here.is_empty() && self.unread) {
            fds.push(PollFd::new(self.local.as_fd(), here));
        }
        let timeout = if moved {
            PollTimeout::ZERO
        } else {
            PollTimeout::from(LOOK)
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => (),
            Err(error) => return Err(error).context("failed to wait for the connection"),
        }
        // Room to write where there was none is a sign of life as well.
        let came = fds[0].any().unwrap_or(false);
        let local = fds.get(1).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        // What it wrote before is still read and sent.
        self.unread |= local.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
        // What was written says nothing: it may lie in a buffer.
        let alive = came || std::mem::take(&mut self.fresh);
        self.look_for_life(alive, outbound)
    }

    fn look_for_life(&mut self, alive: bool, outbound: bool) -> Result<()> {
        let now = Instant::now();
        if alive {
            (self.heard, self.crowded) = (now, None);
            return Ok(());
        }
        match self.crowded {
            None if now - self.heard > QUIET && !outbound && self.writable() => {
                let sent = self.connection.session.keepalive_send();
                sent.map_err(|error| anyhow!("{}", error.message()))?;
                self.await_answer()
            }
            None if now - self.heard > QUIET => {
                self.crowded = Some(now);
                Ok(())
            }
            Some(since) if now - since > PATIENCE => self.dead(),
            _ => Ok(()),
        }
    }

    /// Nothing else is done meanwhile: any call of libssh2 might swallow the answer, and nobody would know.
    fn await_answer(&mut self) -> Result<()> {
        let asked = Instant::now();
        loop {
            let mut fds = [PollFd::new(self.connection.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(_) | Err(Errno::EINTR) => (),
                Err(error) => return Err(error).context("failed to wait for the connection"),
            }
            if fds[0].any().unwrap_or(false) {
                (self.heard, self.crowded) = (Instant::now(), None);
                return Ok(());
            }
            if asked.elapsed() > PATIENCE {
                return self.dead();
            }
        }
    }

    fn dead(&self) -> Result<()> {
        bail!("no sign of life for {} s", self.heard.elapsed().as_secs())
    }

    fn writable(&self) -> bool {
        let mut fds = [PollFd::new(self.connection.socket.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any().unwrap_or(false)
    }

    fn unread_bytes(&self) -> Result<i32> {
        nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);
        let mut n = 0;
        // SAFETY: the descriptor is open, and the kernel writes one int.
        unsafe { fionread(self.connection.socket.as_raw_fd(), &mut n) }?;
        Ok(n)
    }

    fn ending(&mut self) -> String {
        self.connection.session.set_blocking(true);
        self.connection.session.set_timeout(1000);
        // Only then have the status and the signal come.
        if self.channel.close().and_then(|()| self.channel.wait_close()).is_err() {
            return "it is not known how".to_string();
        }
        if let Some(signal) = self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal) {
            return format!("signal {signal}");
        }
        match self.channel.exit_status() {
            Ok(0) => String::new(),
            Ok(status) => format!("exit status {status}"),
            Err(error) => error.message().to_string(),
        }
    }
}

/// How many bytes went; none if nothing can go now.
fn some(connection: &Connection, result: io::Result<usize>) -> Result<usize> {
    let error = match result {
        Ok(n) => return Ok(n),
        Err(error) if passing(&error) => return Ok(0),
        Err(error) => error,
    };
    // Sending, receiving or the connection itself failed.
    match ssh2::Error::last_session_error(&connection.session).map(|error| error.code()) {
        Some(ErrorCode::Session(-7 | -13 | -43)) => bail!("the other side hung up, or is not reached any more"),
        _ => Err(error.into()),
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
