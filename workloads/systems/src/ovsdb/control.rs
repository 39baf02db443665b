//! A client of an `ovsdb-server`'s control socket: JSON-RPC 1.0 over a Unix socket, as `ovs-appctl` speaks it.
//!
//! The socket has a file, and the file outlives a kill: until the next life binds it anew, nobody answers there, and to
//! connect is refused. A connection is thus with one life of the server, and its end is the end of that life.
use serde::Deserialize;
use serde_json::json;
use splitbrain_core::Outcome;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The socket's file in the host's folder.
pub(super) const SOCKET: &str = "ctl";
/// Longest reply that is taken; a status has some thousand bytes.
const LONGEST: usize = 1 << 20;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Nothing was asked.
    #[error("connect to the control socket: {0}")]
    NotAsked(Error),
    /// The server answered that it will not.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// It did not answer yet. It may be busy or stopped; the connection stands.
    #[error("no reply within {} ms", .0.as_millis())]
    Late(Duration),
    /// The connection is gone or speaks nonsense.
    #[error("lost the control socket: {0}")]
    Lost(Error),
}

impl ControlError {
    /// The table from an error to how an operation ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            ControlError::NotAsked(_) | ControlError::Refused(_) => Outcome::Fail(self.to_string()),
            ControlError::Late(_) | ControlError::Lost(_) => Outcome::Info(self.to_string()),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Control {
    stream: UnixStream,
    /// The newest question.
    asked: u64,
    /// What came and is no whole reply yet.
    heard: Vec<u8>,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    result: Option<String>,
    error: Option<String>,
}

impl Control {
    /// Connects to the server whose files are in `dir`.
    ///
    /// # Errors
    /// [`ControlError::NotAsked`].
    pub(super) async fn connect(dir: &Path) -> Result<Control, ControlError> {
        let stream = async {
            // A socket's path must be shorter than 108 bytes, and the folder's may be longer.
            let folder = File::open(dir)?;
            UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())).await
        };
        Ok(Control {
            stream: stream.await.map_err(ControlError::NotAsked)?,
            asked: 0,
            heard: Vec::new(),
        })
    }

    /// Asks, and awaits the reply to this question: what answers an older one is dropped.
    ///
    /// # Errors
    /// All but [`ControlError::NotAsked`].
    pub(super) async fn ask(
        &mut self,
        method: &str,
        params: &[&str],
        within: Duration,
    ) -> Result<String, ControlError> {
        self.asked += 1;
        let request = json!({"id": self.asked, "method": method, "params": params}).to_string();
        let reply = async {
            self.stream.write_all(request.as_bytes()).await?;
            loop {
                let reply = self.next().await?;
                if reply.id == self.asked {
                    return Ok(reply);
                }
            }
        };
        let reply = timeout(within, reply).await.map_err(|_| ControlError::Late(within))?;
        match reply.map_err(ControlError::Lost)? {
            Reply { result: Some(text), .. } => Ok(text),
            Reply { error, .. } => Err(ControlError::Refused(error.unwrap_or_default().trim_end().to_string())),
        }
    }

    async fn next(&mut self) -> std::io::Result<Reply> {
        loop {
            // Nothing but the braces tells where a reply ends.
            let mut replies = serde_json::Deserializer::from_slice(&self.heard).into_iter::<Reply>();
            match replies.next() {
                Some(Ok(reply)) => {
                    let end = replies.byte_offset();
                    self.heard.drain(..end);
                    return Ok(reply);
                }
                Some(Err(error)) if !error.is_eof() => return Err(error.into()),
                _ if self.heard.len() > LONGEST => return Err(ErrorKind::FileTooLarge.into()),
                _ => {}
            }
            if self.stream.read_buf(&mut self.heard).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A control socket that takes one connection and sends `replies` after each request, then hangs up.
    async fn ask(questions: usize, replies: &[&str]) -> Vec<Result<String, ControlError>> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for reply in replies {
                let mut request = vec![0; 200];
                let n = stream.read(&mut request).await.unwrap();
                assert!(request[..n].starts_with(b"{"));
                // In two pieces.
                let (a, b) = reply.split_at(reply.len() / 2);
                stream.write_all(a.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
                stream.write_all(b.as_bytes()).await.unwrap();
            }
        };
        let asked = async {
            let mut control = Control::connect(dir.path()).await.unwrap();
            let mut answers = Vec::new();
            for _ in 0..questions {
                answers.push(control.ask("cluster/status", &["db"], WITHIN).await);
            }
            answers
        };
        tokio::join!(serve, asked).1
    }

    #[tokio::test]
    async fn replies_are_matched_to_questions() {
        let replies = [
            "{\"id\":1,\"result\":\"one\\n\",\"error\":null}",
            // An answer to an older question comes late, and then a refusal.
            "{\"id\":1,\"result\":\"late\",\"error\":null} {\"error\":\"no such db\\n\",\"id\":2,\"result\":null}",
        ];
        let answers = ask(2, &replies).await;
        assert_eq!(answers[0].as_deref().unwrap(), "one\n");
        assert!(
            matches!(&answers[1], Err(ControlError::Refused(why)) if why == "no such db"),
            "{answers:?}"
        );
    }

    #[tokio::test]
    async fn an_end_and_nonsense_lose_the_connection() {
        for reply in ["", "{\"id\":1,\"result\":", "{]", "{\"id\":\"one\"}"] {
            let answers = ask(1, &[reply]).await;
            assert!(matches!(answers[0], Err(ControlError::Lost(_))), "{reply}: {answers:?}");
        }
    }

    #[tokio::test]
    async fn a_file_without_a_server_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let gone = || async { Control::connect(dir.path()).await.unwrap_err() };
        assert!(matches!(gone().await, ControlError::NotAsked(e) if e.kind() == ErrorKind::NotFound));
        drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        assert!(matches!(gone().await, ControlError::NotAsked(e) if e.kind() == ErrorKind::ConnectionRefused));
    }

    #[test]
    fn only_what_was_not_asked_or_was_refused_fails() {
        let failed = |error: ControlError| matches!(error.outcome(), Outcome::Fail(_));
        assert!(failed(ControlError::NotAsked(ErrorKind::ConnectionRefused.into())));
        assert!(failed(ControlError::Refused("unknown cluster".into())));
        assert!(!failed(ControlError::Late(WITHIN)));
        assert!(!failed(ControlError::Lost(ErrorKind::UnexpectedEof.into())));
    }
}
