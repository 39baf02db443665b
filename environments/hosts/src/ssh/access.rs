//! Who we are to a host: which keys are tried, and in which order.
//!
//! The identity that was named, then the keys of the running `ssh-agent`, then `~/.ssh/id_ed25519`, `id_ecdsa` and
//! `id_rsa`. Keys with a passphrase are left to the agent: nothing here asks anybody anything.
use super::connection::Connection;
use super::known::Known;
use super::target::Target;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ssh2::{ErrorCode, Session};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// How a host knows us, and we know it.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Tried first.
    pub identities: Vec<PathBuf>,
    /// What is tried besides.
    pub besides: Besides,
    /// What its host key is compared with.
    pub known: Known,
}

/// What is tried besides the identities that were named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Besides {
    /// The agent's keys, then the usual files.
    Usual,
    /// Nothing.
    Nothing,
}

/// The usual files, in `~/.ssh`.
pub(super) const USUAL: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

impl Access {
    /// Shows our keys until one is taken.
    pub fn log_in(&self, connection: &Connection, target: &Target) -> Result<()> {
        let session = &connection.session;
        let user = &target.user;
        let methods = match session.auth_methods(user) {
            Ok(methods) => methods.to_string(),
            Err(_) if session.authenticated() => return Ok(()),
            Err(error) => {
                connection.cut();
                bail!("it did not say how to log in ({})", error.message());
            }
        };
        if !methods.split(',').any(|method| method == "publickey") {
            connection.cut();
            bail!(
                "it takes no keys from user {user}, only {methods}: put your public key into ~{user}/.ssh/authorized_keys \
                 there and allow PubkeyAuthentication"
            );
        }
        let mut tried = Vec::new();
        for path in &self.identities {
            if file(session, user, path, &mut tried) {
                return Ok(());
            }
        }
        if self.besides == Besides::Usual {
            if agent(session, user, &mut tried) {
                return Ok(());
            }
            let usual = USUAL.iter().filter_map(|name| in_ssh_folder(name).ok());
            for path in usual.filter(|path| path.exists() && !self.identities.contains(path)) {
                if file(session, user, &path, &mut tried) {
                    return Ok(());
                }
            }
        }
        connection.cut();
        if tried.is_empty() {
            bail!("there is no key to log in with: make one by `ssh-keygen -t ed25519`, or name one by --identity");
        }
        bail!(
            "it let user {user} in with none of these keys: {}. Put the public key into ~{user}/.ssh/authorized_keys there, \
             or name another key by --identity or another user as USER@HOST",
            tried.join("; ")
        )
    }
}

/// A file in `~/.ssh`.
pub(super) fn in_ssh_folder(name: &str) -> Result<PathBuf> {
    expanded(&format!("~/.ssh/{name}"))
}

/// A path as a shell would read it: a leading `~/` is the caller's home.
pub(super) fn expanded(path: &str) -> Result<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => {
            let home = env::home_dir().filter(|home| !home.as_os_str().is_empty());
            Ok(home
                .with_context(|| format!("there is no HOME to find {path} in"))?
                .join(rest))
        }
        None => Ok(path.into()),
    }
}

fn file(session: &Session, user: &str, path: &Path, tried: &mut Vec<String>) -> bool {
    let shown = path.display();
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => {
            tried.push(format!("{shown} (cannot be read: {error})"));
            return false;
        }
    };
    if is_encrypted(&text) {
        tried.push(format!(
            "{shown} (it has a passphrase: give it to an agent by `ssh-add {shown}`, or use one without)"
        ));
        return false;
    }
    match session.userauth_pubkey_memory(user, None, &text, None) {
        Ok(()) => return session.authenticated(),
        Err(error) => tried.push(format!("{shown} ({})", in_words(&error))),
    }
    false
}

fn agent(session: &Session, user: &str, tried: &mut Vec<String>) -> bool {
    if env::var_os("SSH_AUTH_SOCK").is_none_or(|path| path.is_empty()) {
        return false;
    }
    let listed = session.agent().and_then(|mut agent| {
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok((agent, identities))
    });
    let (agent, identities) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            tried.push(format!("the agent at SSH_AUTH_SOCK ({})", error.message()));
            return false;
        }
    };
    if identities.is_empty() {
        tried.push("the agent at SSH_AUTH_SOCK (it has no keys: `ssh-add`)".to_string());
    }
    for identity in &identities {
        match agent.userauth(user, identity) {
            Ok(()) => return session.authenticated(),
            Err(error) => tried.push(format!("{} of the agent ({})", identity.comment(), in_words(&error))),
        }
    }
    false
}

/// Why a key was not taken.
fn in_words(error: &ssh2::Error) -> String {
    // Sending, receiving or the connection itself failed: a server that has seen too many keys hangs up.
    match error.code() {
        ErrorCode::Session(-7 | -13 | -43) => {
            "it hung up: too many keys (MaxAuthTries)? Name the right one by --identity".to_string()
        }
        _ => error.message().to_string(),
    }
}

/// Whether a private key, in any of the formats that OpenSSH and OpenSSL write, has a passphrase.
fn is_encrypted(text: &str) -> bool {
    const MAGIC: &[u8] = b"openssh-key-v1\0";
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return true;
    }
    let body: String = text
        .lines()
        .skip_while(|line| !line.contains("BEGIN OPENSSH PRIVATE KEY"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let Ok(key) = STANDARD.decode(body) else { return false };
    // After the magic comes the name of the cipher, with its length.
    key.strip_prefix(MAGIC)
        .is_some_and(|rest| !rest.starts_with(b"\0\0\0\x04none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn keys_with_a_passphrase_are_told_from_those_without() {
        let dir = tempfile::tempdir().unwrap();
        for (name, passphrase, format) in [
            ("a", "", "RFC4716"),
            ("b", "secret", "RFC4716"),
            ("c", "", "PEM"),
            ("d", "secret", "PEM"),
            ("e", "secret", "PKCS8"),
        ] {
            let path = dir.path().join(name);
            let mut keygen = Command::new("ssh-keygen");
            keygen
                .args(["-q", "-t", "rsa", "-b", "2048", "-N", passphrase, "-f"])
                .arg(&path);
            if format != "RFC4716" {
                keygen.args(["-m", format]);
            }
            assert!(keygen.status().unwrap().success());
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(is_encrypted(&text), !passphrase.is_empty(), "{name}: {text}");
        }
    }

    #[test]
    fn a_tilde_is_the_home() {
        assert_eq!(expanded("/a/~/b").unwrap(), Path::new("/a/~/b"));
        assert_eq!(expanded("~/x").unwrap(), env::home_dir().unwrap().join("x"));
    }
}
