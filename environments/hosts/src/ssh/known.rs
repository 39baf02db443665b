//! Which host keys are known, and whether a host's key is one of them.
//!
//! The files are read here, line by line, rather than by libssh2, which takes a plain `HOST` line for a statement on
//! every port of that host (so a forwarded port on 127.0.0.1 looks like a changed key), knows no `@revoked`, no pattern, and
//! stops at the first line that it does not understand. Names that are hashed are compared by libssh2.
//!
//! As in OpenSSH, a host on a port other than 22 is `[HOST]:PORT`; a line for `HOST` alone may confirm its key, but
//! never contradicts it. Stricter than OpenSSH: a host that is known by another type of key only has *changed*.
//!
//! Caveats: certificates of hosts (`@cert-authority`) are not read.
use super::target::Target;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use ssh2::{CheckResult, KnownHostFileKind, Session};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What a host key is compared with.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Read in this order; those that do not exist are empty. New keys go to the first.
    pub files: Vec<PathBuf>,
    /// What becomes of a key that is not known.
    pub unknown: Unknown,
}

/// What becomes of a host key that is not known. One that is known and differs is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Refused.
    Refuse,
    /// Taken and written down.
    Write,
    /// Taken. For machines whose keys are made anew each time, and whose own description says so.
    Take,
}

/// What the files say of a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is this host's.
    Known,
    /// Nothing is known of this host.
    Unknown,
    /// The host has another key, as stands there (`FILE:LINE`).
    Changed(String),
    /// It was revoked, as stands there.
    Revoked(String),
}

/// A host's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostKey(pub Vec<u8>);

impl HostKey {
    /// `ssh-ed25519`.
    pub fn kind(&self) -> String {
        let name = self.0.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = u32::from_be_bytes(*length) as usize;
            rest.get(..length)
        });
        String::from_utf8_lossy(name.unwrap_or(b"unknown")).into_owned()
    }

    /// As OpenSSH prints it: `SHA256:...`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.0)))
    }
}

/// A line that names a key.
#[derive(Clone, Debug)]
struct Line {
    at: String,
    revoked: bool,
    names: String,
    kind: String,
    key: String,
}

impl Known {
    /// What the files say of `key` as the key of `target`.
    pub fn standing(&self, target: &Target, key: &HostKey) -> Result<Standing> {
        let lines = self.lines()?;
        let name = name_of(target);
        let key = STANDARD.encode(&key.0);
        let exact: Vec<&Line> = lines.iter().filter(|line| line.names(&name)).collect();
        let loose: Vec<&Line> = lines.iter().filter(|line| line.names(&target.host)).collect();
        if let Some(line) = exact.iter().chain(&loose).find(|line| line.revoked && line.key == key) {
            return Ok(Standing::Revoked(line.at.clone()));
        }
        let mut exact = exact.into_iter().filter(|line| !line.revoked).peekable();
        let first = exact.peek().map(|line| line.at.clone());
        if exact.any(|line| line.key == key) || loose.iter().any(|line| !line.revoked && line.key == key) {
            return Ok(Standing::Known);
        }
        Ok(first.map_or(Standing::Unknown, Standing::Changed))
    }

    /// `supported` algorithms for host keys, those first by which `target` is known: a host that is known by its RSA
    /// key and has a newer one must not be taken for another host.
    pub fn preference(&self, target: &Target, supported: &[&str]) -> Result<String> {
        let name = name_of(target);
        let lines = self.lines()?;
        let mut known: Vec<&Line> = lines.iter().filter(|line| !line.revoked && line.names(&name)).collect();
        if known.is_empty() {
            known = lines
                .iter()
                .filter(|line| !line.revoked && line.names(&target.host))
                .collect();
        }
        let usable = |algorithm: &&&str| !algorithm.contains("-cert-") && **algorithm != "ssh-dss";
        let (first, rest): (Vec<&str>, Vec<&str>) = supported
            .iter()
            .filter(usable)
            .partition(|algorithm| known.iter().any(|line| line.kind == kind_of(algorithm)));
        Ok([first, rest].concat().join(","))
    }

    /// Writes down that `target` has `key`, unless that was done meanwhile.
    pub fn write(&self, target: &Target, key: &HostKey) -> Result<()> {
        // Several hosts are met at once, by threads of their own.
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock().expect("no writer panics");
        if self.standing(target, key)? == Standing::Known {
            return Ok(());
        }
        let path = self.files.first().context("there is no file for host keys")?;
        let line = format!("{} {} {}\n", name_of(target), key.kind(), STANDARD.encode(&key.0));
        append(path, &line).with_context(|| format!("failed to write the host key to {}", path.display()))
    }

    fn lines(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for path in &self.files {
            let text = match fs::read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
            };
            let text = String::from_utf8_lossy(&text);
            lines.extend(text.lines().enumerate().filter_map(|(i, line)| read(path, i + 1, line)));
        }
        Ok(lines)
    }
}

fn read(path: &Path, number: usize, line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let mut names = words.next().filter(|word| !word.starts_with('#'))?;
    let revoked = names == "@revoked";
    if names.starts_with('@') {
        if !revoked {
            return None;
        }
        names = words.next()?;
    }
    Some(Line {
        at: format!("{}:{number}", path.display()),
        revoked,
        names: names.to_string(),
        kind: words.next()?.to_string(),
        key: words.next()?.to_string(),
    })
}

impl Line {
    fn names(&self, name: &str) -> bool {
        if self.names.starts_with("|1|") {
            return hashed_names(&self.names, name);
        }
        let mut named = false;
        for pattern in self.names.split(',') {
            match pattern.strip_prefix('!') {
                Some(pattern) if matches(&pattern.to_ascii_lowercase(), name) => return false,
                Some(_) => (),
                None => named |= matches(&pattern.to_ascii_lowercase(), name),
            }
        }
        named
    }
}

/// Whether a shell-like pattern of `*` and `?` is all of `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // Where to go on should the last `*` have to take one byte more.
    let mut again = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match again {
                Some((star, taken)) => {
                    again = Some((star, taken + 1));
                    (p, n) = (star, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether `|1|SALT|HASH` is `name`: libssh2 is asked whether it knows the name by any key.
fn hashed_names(hashed: &str, name: &str) -> bool {
    const SOME_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let known = Session::new().and_then(|session| session.known_hosts()).ok();
    known.is_some_and(|mut known| {
        known
            .read_str(&format!("{hashed} {SOME_KEY}"), KnownHostFileKind::OpenSSH)
            .is_ok()
            && matches!(known.check(name, b"x"), CheckResult::Match | CheckResult::Mismatch)
    })
}

fn name_of(target: &Target) -> String {
    match target.port {
        22 => target.host.clone(),
        port => format!("[{}]:{port}", target.host),
    }
}

/// The type of the key that an algorithm uses.
fn kind_of(algorithm: &str) -> &str {
    match algorithm {
        "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa",
        other => other,
    }
}

fn append(path: &Path, line: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    // A last line without an end would swallow ours.
    let line = if last == [b'\n'] {
        line.to_string()
    } else {
        format!("\n{line}")
    };
    file.write_all(line.as_bytes())?;
    Ok(())
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
