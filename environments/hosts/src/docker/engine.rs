//! The connection to the docker engine: one thread with a small runtime, and errors that say what to do.
//!
//! Only the engine's unix socket is spoken to: `DOCKER_HOST` if it is set (`unix:///run/user/1000/docker.sock` of a rootless
//! engine, or a forwarded socket of another machine's), else `/var/run/docker.sock`. Docker's contexts are not read.
//!
//! The rest of this crate waits for what it asked: [`Engine::run`] does that, never longer than it is told. What pumps a
//! container's streams stays on the runtime ([`super::pump`]), and keeps it alive.
use anyhow::{Context, Result, anyhow, bail};
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

const SOCKET: &str = "/var/run/docker.sock";
/// For the first word of an answer.
const ANSWER: Duration = Duration::from_secs(120);
const HELLO: Duration = Duration::from_secs(5);

/// An engine that answers.
pub(super) struct Engine {
    docker: Docker,
    socket: String,
    handle: Handle,
    /// Ends the runtime's thread when it is dropped.
    _end: oneshot::Sender<()>,
}

impl Engine {
    /// Finds the engine and agrees on a version of its interface with it.
    pub fn connect() -> Result<Arc<Engine>> {
        let socket = socket(std::env::var("DOCKER_HOST").ok().as_deref())?;
        reach(&socket)?;
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to make a runtime for the docker engine")?;
        let handle = runtime.handle().clone();
        let docker = {
            let _inside = handle.enter();
            Docker::connect_with_unix(&socket, ANSWER.as_secs(), API_DEFAULT_VERSION)
                .with_context(|| format!("failed to use the docker engine at {socket}"))?
        };
        std::thread::Builder::new()
            .name("docker".into())
            .spawn(move || runtime.block_on(async { drop(ended.await) }))
            .context("failed to start a thread for the docker engine")?;
        let mut engine = Engine {
            docker,
            socket,
            handle,
            _end: end,
        };
        let fresh = engine.docker.clone();
        let asked = engine.run(HELLO, async move { fresh.negotiate_version().await.map_err(explain) });
        engine.docker =
            asked.with_context(|| format!("failed to agree with the docker engine at {}", engine.socket))?;
        Ok(Arc::new(engine))
    }

    /// Its socket and the version of its interface.
    pub fn words(&self) -> String {
        format!("{} speaks version {}", self.socket, self.docker.client_version())
    }

    /// To ask with.
    pub fn docker(&self) -> Docker {
        self.docker.clone()
    }

    /// Lets it go on by itself, as long as the engine's connection is kept.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// Waits for it, at most so long. Not to be called on the runtime's own thread.
    pub fn run<T: Send + 'static>(
        &self,
        at_most: Duration,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = channel();
        self.handle.spawn(async move {
            let result = tokio::time::timeout(at_most, work).await;
            // Whoever asked may have given up.
            let _ = tell.send(result);
        });
        match told.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => bail!(
                "the docker engine did not do it within {} s: is it overloaded? (`docker info`, its log)",
                at_most.as_secs()
            ),
            Err(_) => bail!("the thread that talks to the docker engine has ended"),
        }
    }
}

/// The path of the socket that `DOCKER_HOST` means.
fn socket(host: Option<&str>) -> Result<String> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(SOCKET.to_string()),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(path.to_string()),
            _ => bail!(
                "DOCKER_HOST is {host}, and only unix:// sockets are spoken to: unset it, or forward the socket of that machine \
                 (`ssh -L /tmp/docker.sock:/var/run/docker.sock MACHINE`) and give DOCKER_HOST=unix:///tmp/docker.sock"
            ),
        },
    }
}

/// Whether somebody listens there who lets us in.
fn reach(socket: &str) -> Result<()> {
    UnixStream::connect(socket).map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "there is no docker engine at {socket}: install it (`apt-get install docker.io`), or set DOCKER_HOST=unix://PATH"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "this user may not use the docker engine at {socket}: join the group docker (`usermod -aG docker USER`, then log \
             in again), or run as root"
        ),
        ErrorKind::ConnectionRefused => anyhow!(
            "the docker engine at {socket} does not run: start it (`systemctl start docker` or `service docker start`)"
        ),
        _ => anyhow!("failed to reach the docker engine at {socket}: {error}"),
    })
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine says that it stands in the way of something that is there, or is being done.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

/// The engine's words, and what to do about them.
pub(super) fn explain(error: Error) -> anyhow::Error {
    let words = match &error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_string(),
        Error::DockerStreamError { error } => error.trim().to_string(),
        Error::RequestTimeoutError => "the engine does not answer".to_string(),
        _ => chain(&error),
    };
    match remedy(&words) {
        Some(remedy) => anyhow!("{words}: {remedy}"),
        None => anyhow!("{words}"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        next = error.source();
    }
    words
}

/// What to do about the engine's known complaints.
fn remedy(words: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 6] = [
        (
            "no space left on device",
            "the engine's disk is full: free some of it (`docker system df` tells what takes it)",
        ),
        (
            "non-overlapping IPv4 address pool",
            "the engine has no address range left: remove unused networks (`docker network ls`; `splitbrain heal` for ours)",
        ),
        (
            "bind source path does not exist",
            "a mount must be a folder of the engine's machine: correct --mount, or `mounts` in the plan",
        ),
        (
            "operation not permitted",
            "the engine lacks a right that containers need: does it run as root?",
        ),
        (
            "exec format error",
            "the image is for another machine type: use one of this machine's",
        ),
        (
            "the engine does not answer",
            "is it overloaded? (`docker info`, its log)",
        ),
    ];
    let lower = words.to_lowercase();
    let found = KNOWN.iter().find(|(part, _)| lower.contains(&part.to_lowercase()));
    found.map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_spoken_to() {
        assert_eq!(socket(None).unwrap(), SOCKET);
        assert_eq!(socket(Some("")).unwrap(), SOCKET);
        assert_eq!(socket(Some("unix:///tmp/d.sock")).unwrap(), "/tmp/d.sock");
        for bad in ["tcp://10.0.0.1:2375", "ssh://root@host", "unix://relative"] {
            let why = socket(Some(bad)).unwrap_err().to_string();
            assert!(why.contains(bad) && why.contains("DOCKER_HOST=unix://"), "{why}");
        }
    }

    #[test]
    fn an_engine_that_cannot_be_reached_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let why = |path: &std::path::Path| reach(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(why(&path).contains("there is no docker engine"), "{}", why(&path));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(why(&path).contains("does not run: start it"), "{}", why(&path));
    }

    #[test]
    fn known_complaints_get_a_remedy() {
        let told = |message: &str| {
            explain(Error::DockerResponseServerError {
                status_code: 500,
                message: message.into(),
            })
            .to_string()
        };
        assert!(told("write /x: no space left on device").contains("docker system df"));
        assert!(
            told("could not find an available, non-overlapping IPv4 address pool among the defaults").contains("heal")
        );
        assert_eq!(told("something new"), "something new");
    }
}
