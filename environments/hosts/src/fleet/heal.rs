//! Healing a machine without a run: from its ledger, or from our marks alone.
use crate::remote::Remote;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a machine may take to clean itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of its answer.
const LONGEST: usize = 1 << 20;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// What was ours and is gone, in words.
    pub removed: Vec<String>,
    /// What is ours and is still there, in words with the reason.
    pub left: Vec<String>,
}

/// Removes all that any run has left on a machine that no run uses. Bounded in time. What the machine prints besides goes to
/// `log`. An error says that nobody knows what is left there.
pub fn heal(remote: &dyn Remote, program: &Path, log: File) -> Result<Healed> {
    let mut stream = remote.start_agent(program, &["heal".to_string()], log)?;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let seconds = PATIENCE.as_secs();
                bail!("failed to heal {}: it did not end within {seconds}s", remote.describe());
            }
            Err(error) => bail!("failed to heal {}: {error}", remote.describe()),
        }
        if answer.len() > LONGEST || Instant::now() >= deadline {
            bail!("failed to heal {}: it does not come to an end", remote.describe());
        }
    }
    let text = String::from_utf8_lossy(&answer);
    serde_json::from_str(text.trim())
        .with_context(|| format!("failed to heal {}: it answered {:?}", remote.describe(), text.trim()))
}
