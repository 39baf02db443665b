//! What happens on a candidate's host before the user's program first starts: the wait for the servers.
//!
//! A server is there once it takes connections on its ports. That is awaited by connecting again and again, and only in
//! the first life: a file in the host's directory says that it was done. A server that never comes ends the wait, and with
//! it the run, which is then told whom it was waited for.
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Says that the servers were there once.
const DONE: &str = ".splitbrain-awaited";
/// Shorter than control waits for a candidate to become ready.
const PATIENCE: Duration = Duration::from_secs(25);
/// Of one attempt to connect, and between two of them.
const ATTEMPT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// For whom to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where connections must be taken.
    pub ports: Vec<SocketAddr>,
}

/// Waits in the working directory's first life.
///
/// # Errors
/// Somebody takes no connections after a while, or the directory cannot be written to.
pub fn run(settings: &Settings) -> Result<()> {
    await_once(settings, Path::new(DONE), PATIENCE)
}

fn await_once(settings: &Settings, done: &Path, patience: Duration) -> Result<()> {
    if done.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + patience;
    for port in &settings.ports {
        while let Err(error) = TcpStream::connect_timeout(port, ATTEMPT) {
            if Instant::now() >= deadline {
                bail!("failed to reach the server at {port} within {patience:?}: {error}: see the servers' logs");
            }
            sleep(PAUSE);
        }
    }
    let file = File::create(done).with_context(|| format!("failed to create {}", done.display()))?;
    file.sync_all()
        .with_context(|| format!("failed to sync {}", done.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_first_life_waits_for_all_and_later_ones_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        let up = TcpListener::bind("127.0.0.1:0").unwrap();
        let late = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = Settings {
            ports: vec![up.local_addr().unwrap(), late],
        };
        let error = await_once(&settings, &done, Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains(&late.to_string()), "{error}");
        assert!(!done.exists());
        let opening = std::thread::spawn(move || {
            sleep(Duration::from_millis(100));
            TcpListener::bind(late).unwrap()
        });
        await_once(&settings, &done, PATIENCE).unwrap();
        drop((opening.join().unwrap(), up));
        await_once(&settings, &done, Duration::ZERO).unwrap();
    }
}
