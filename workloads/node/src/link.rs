//! One outgoing TCP connection, made when it is needed and made again when it is lost.
//!
//! Links are cut and healed on purpose here, and the time to recover is a result that users read. TCP itself would spoil
//! it: it retransmits with doubling pauses, so that a connection that lived through a cut of 20 s may stay silent for
//! 20 s after the healing. Therefore
//!
//! - a connection whose bytes stay unacknowledged for [`UNACKED`] is given up (`TCP_USER_TIMEOUT`), whatever the state
//!   of its retransmissions;
//! - a new attempt to connect begins every [`ATTEMPT_EVERY`], because the kernel repeats a lost SYN only after 1 s, 3 s,
//!   7 s. Earlier attempts stay alive beside it for [`PATIENCE`]: a link with a long delay is slow, not cut;
//! - a refused attempt (the peer's process is dead) is repeated after a pause of 50 ms to 250 ms, so within the half
//!   second that a message may wait, and at once when the peer gets in touch by itself.
//!
//! Measured over loopback with a message every 50 ms, three times 14 cuts of 0.2 s to 15 s: the first message arrives
//! within 0.22 s of the healing after cuts of more than a second, and within 0.49 s after shorter ones, whose
//! connections live on and wait for TCP's own retransmission.
//!
//! A message is taken out of its [`Outbox`] only for a connection that stands, and is written to that connection alone:
//! it may be lost, and never arrives twice by our doing.
//!
//! Caveat: a link that is cut in one direction carries nothing in the other for long, as acknowledgements are packets
//! too. Every system that speaks TCP shares this.
use crate::log::note;
use crate::outbox::Outbox;
use socket2::{SockRef, TcpKeepalive};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const UNACKED: Duration = Duration::from_secs(1);
const ATTEMPT_EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Where a link goes and what it carries there.
#[derive(Debug)]
pub(crate) struct Link {
    /// For the log: `n2`, `the storage`.
    pub to: String,
    pub addr: SocketAddr,
    /// Written first on every connection.
    pub hello: Vec<u8>,
    pub outbox: Outbox,
    /// Rung when the other side is known to be reachable.
    pub wake: Notify,
}

impl Link {
    pub(crate) fn new(to: String, addr: SocketAddr, hello: Vec<u8>) -> Link {
        Link {
            to,
            addr,
            hello,
            outbox: Outbox::default(),
            wake: Notify::new(),
        }
    }

    /// Carries messages for ever. `read` is given what comes back on a connection; a new one begins with no bytes. Its
    /// error ends the connection.
    pub(crate) async fn run<R: FnMut(&[u8]) -> Result<()>>(&self, mut reader: impl FnMut() -> R) {
        loop {
            self.outbox.wait().await;
            let stream = self.dial().await;
            note(format_args!("connected to {}", self.to));
            let end = self.pump(stream, reader()).await;
            note(format_args!("lost {}: {end}", self.to));
        }
    }

    async fn dial(&self) -> TcpStream {
        let mut attempts = JoinSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            attempts.spawn(timeout(PATIENCE, TcpStream::connect(self.addr)));
            let refused = tokio::select! {
                found = first_connected(&mut attempts) => match found {
                    Some(stream) => return stream,
                    None => true,
                },
                () = sleep(ATTEMPT_EVERY) => false,
                () = self.wake.notified() => false,
            };
            if refused {
                let _ = timeout(pause, self.wake.notified()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Writes and reads side by side, so that neither waits for the other, until one of the two ends.
    async fn pump(&self, mut stream: TcpStream, mut read: impl FnMut(&[u8]) -> Result<()>) -> Error {
        if let Err(e) = settle(&stream) {
            return e;
        }
        let (mut input, mut output) = stream.split();
        let writing = async {
            output.write_all(&self.hello).await?;
            loop {
                let message = self.outbox.take().await;
                output.write_all(&message).await?;
            }
        };
        let reading = async {
            let mut buffer = vec![0; 8192];
            loop {
                match input.read(&mut buffer).await? {
                    0 => return Err(Error::new(ErrorKind::UnexpectedEof, "closed by the other side")),
                    n => read(&buffer[..n])?,
                }
            }
        };
        let end: Result<()> = tokio::select! { end = writing => end, end = reading => end };
        end.expect_err("both halves go on until an error")
    }
}

/// The first attempt that succeeds; `None` when all have failed.
async fn first_connected(
    attempts: &mut JoinSet<std::result::Result<Result<TcpStream>, tokio::time::error::Elapsed>>,
) -> Option<TcpStream> {
    while let Some(ended) = attempts.join_next().await {
        if let Ok(Ok(Ok(stream))) = ended {
            return Some(stream);
        }
    }
    None
}

/// Sets what every connection of ours needs, accepted ones too: no Nagle, the bound on unacknowledged bytes, and probes
/// that find out when the other side of an idle connection is gone.
pub(crate) fn settle(stream: &TcpStream) -> Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKED))?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&probes)
}
