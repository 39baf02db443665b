//! What is done on a host before the agent runs: a look around, our program brought there, and its start.
//!
//! A host's shell is asked twice, since each question costs the start of a login shell (110 ms): once about everything
//! that must be known, once to start the agent. Every answer stands on a line that begins with our mark, so that nothing
//! that a user's profile prints is taken for one.
use super::connection::{Connection, quoted, shell};
use super::target::Target;
use crate::remote::AGENT;
use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};
use ssh2::{Channel, OpenFlags, OpenType};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the user's home.
const CACHE: &str = ".cache/splitbrain/bin";
/// Begins each line that is ours.
const MARK: &str = "splitbrain:";
/// Bytes of one write: with less, each waits for its own answer.
const CHUNK: usize = 1 << 20;
/// What a profile may print before our first line.
const MAX_NOISE: usize = 256 * 1024;

/// Our own program, as it is at control.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    size: u64,
    /// SHA-256 of its content, in hexadecimal.
    hash: String,
}

impl Program {
    /// Reads all of it.
    pub fn read(path: &Path) -> Result<Program> {
        let failed = || format!("failed to read our own program {}", path.display());
        let mut file = File::open(path).with_context(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut size = 0;
        loop {
            match file.read(&mut buffer).with_context(failed)? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
        Ok(Program {
            path: path.to_path_buf(),
            size,
            hash: hex(&hash.finalize()),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was seen on a host.
#[derive(Debug, Default)]
struct Seen {
    /// By the word after the mark.
    facts: BTreeMap<String, String>,
}

impl Seen {
    fn read(answer: &str) -> Result<Seen> {
        let mut seen = Seen::default();
        for line in answer.lines().filter_map(|line| line.strip_prefix(MARK)) {
            let (word, fact) = line.split_once(' ').unwrap_or((line, ""));
            seen.facts.insert(word.to_string(), fact.trim().to_string());
        }
        ensure!(
            seen.facts.contains_key("end"),
            "its shell did not do what it was asked; it said: {}",
            shortened(answer)
        );
        Ok(seen)
    }

    fn get(&self, word: &str) -> Option<&str> {
        self.facts.get(word).map(String::as_str)
    }
}

fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.is_empty() {
        true => "nothing".to_string(),
        false => text.chars().take(300).collect(),
    }
}

/// Where our program is on a host, and how it gets root's rights there.
#[derive(Debug)]
pub(super) struct Installed {
    path: String,
    sudo: &'static str,
}

/// Sees that the host can run our program, and brings it there unless it is there already. `moved` is told of each piece.
pub(super) fn install(
    connection: &Connection,
    target: &Target,
    program: &Program,
    moved: &mut dyn FnMut(),
) -> Result<Installed> {
    let seen = Seen::read(&connection.ask(&questions(program))?)?;
    let machine = seen.get("machine").unwrap_or_default();
    let ours = format!("Linux {}", std::env::consts::ARCH);
    ensure!(
        machine == ours,
        "it is a {machine} machine and this program is for {ours}: use such hosts, or run a program that was built for it"
    );
    let root = seen.get("uid") == Some("0");
    if let (false, Some(why)) = (root, seen.get("sudo")) {
        let user = &target.user;
        bail!(
            "user {user} may not become root there without a password (sudo: {why}), and faults need that: let a line \
             `{user} ALL=(ALL) NOPASSWD: ALL` stand in /etc/sudoers.d/{user}, or connect as root"
        );
    }
    let home = seen.get("home").unwrap_or_default();
    ensure!(home.starts_with('/'), "its user {} has no home folder", target.user);
    let folder = format!("{home}/{CACHE}/{}", program.hash);
    let path = format!("{folder}/splitbrain");
    if seen.get("size") != Some(&program.size.to_string()) {
        if let Some(why) = seen.get("mkdir") {
            bail!("the folder {folder} could not be made there: {why}");
        }
        upload(connection, program, &folder, moved)?;
    }
    Ok(Installed {
        path,
        sudo: if root { "" } else { "sudo -n -- " },
    })
}

fn questions(program: &Program) -> String {
    let hash = &program.hash;
    format!(
        "exec 2>&1; set -f; echo; echo {MARK}machine $(uname -sm); echo {MARK}uid $(id -u); echo \"{MARK}home $HOME\"; \
         f=\"$HOME/{CACHE}/{hash}/splitbrain\"; \
         if [ -x \"$f\" ]; then echo {MARK}size $(wc -c < \"$f\"); fi; \
         e=$(mkdir -p \"${{f%/*}}\" 2>&1) || echo {MARK}mkdir $e; \
         if [ \"$(id -u)\" != 0 ]; then e=$(sudo -n true 2>&1) || echo {MARK}sudo $e; fi; \
         echo {MARK}end"
    )
}

/// Copies the program under a name of its own, and gives it its place once it is whole.
fn upload(connection: &Connection, program: &Program, folder: &str, moved: &mut dyn FnMut()) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let part = format!("{folder}/.part-{}-{}", now.as_nanos(), std::process::id());
    let copied = copy(connection, program, Path::new(&part), moved);
    let (part, path) = (quoted(&part)?, quoted(&format!("{folder}/splitbrain"))?);
    if let Err(error) = copied {
        // Best effort, and in any case a look at what most often is the reason.
        let line = format!(
            "exec 2>&1; rm -f {part}; echo; echo {MARK}free $(df -Pk {} | awk \"END {{ print \\$4 }}\"); echo {MARK}end",
            quoted(folder)?
        );
        let free = connection.ask(&line).ok().and_then(|answer| Seen::read(&answer).ok());
        let free = free.and_then(|seen| seen.get("free")?.parse::<u64>().ok());
        return Err(match free {
            Some(kib) if kib * 1024 < program.size => anyhow!(
                "its disk is full: our program needs {} MB in {folder}, and {} MB are free: make room there",
                program.size.div_ceil(1_000_000),
                kib * 1024 / 1_000_000
            ),
            _ => error.context(format!("failed to copy our program to {folder}")),
        });
    }
    let answer = connection.ask(&format!(
        "exec 2>&1; chmod 755 {part} && [ $(wc -c < {part}) = {} ] && mv -f {part} {path} && echo && echo {MARK}end",
        program.size
    ))?;
    Seen::read(&answer).with_context(|| format!("failed to put our program into {folder}"))?;
    Ok(())
}

fn copy(connection: &Connection, program: &Program, part: &Path, moved: &mut dyn FnMut()) -> Result<()> {
    // A session's error leaves nothing that could still be closed in peace.
    let lost = |error: ssh2::Error| {
        if matches!(error.code(), ssh2::ErrorCode::Session(_)) {
            connection.cut();
        }
        anyhow!("{}", error.message())
    };
    let sftp = connection.session.sftp().map_err(|error| {
        lost(error).context("its sshd has no sftp (`Subsystem sftp internal-sftp` in /etc/ssh/sshd_config allows it)")
    })?;
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let mut there = sftp.open_mode(part, flags, 0o755, OpenType::File).map_err(lost)?;
    let mut here = File::open(&program.path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = here.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        there.write_all(&buffer[..n])?;
        moved();
    }
    ensure!(
        hex(&hash.finalize()) == program.hash,
        "our own program {} changed while it was copied: run it again",
        program.path.display()
    );
    there.fsync().or_else(|error| match error.code() {
        // An extension that not every server has.
        ssh2::ErrorCode::SFTP(_) => Ok(()),
        _ => Err(lost(error)),
    })
}

impl Installed {
    /// Starts the agent. Returns its channel, once it runs, and what it has said so far.
    pub fn start(&self, connection: &Connection, args: &[String]) -> Result<(Channel, Vec<u8>)> {
        let path = quoted(&self.path)?;
        let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect::<Result<_>>()?;
        let sudo = self.sudo;
        // That it can run at all is asked apart: a missing library would else look like an agent that said nothing.
        let line = format!(
            "set -f; v=$({sudo}{path} --version 2>&1 </dev/null) || {{ echo; echo {MARK}broken $v; exit 1; }}; echo; echo \
             {MARK}agent; exec {sudo}{path} {AGENT} {}",
            args.join(" ")
        );
        let mut channel = connection.session.channel_session()?;
        let started = channel
            .exec(&shell(&line))
            .map_err(anyhow::Error::from)
            .and_then(|()| await_start(&mut channel));
        let early = started.inspect_err(|_| connection.cut())?;
        Ok((channel, early))
    }
}

/// Reads up to the line after which everything is the agent's.
fn await_start(channel: &mut Channel) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let begun = format!("\n{MARK}agent\n");
    let broken = format!("\n{MARK}broken");
    while !channel.eof() {
        let n = channel.read(&mut buffer)?;
        said.extend_from_slice(&buffer[..n]);
        if let Some(at) = position(&said, begun.as_bytes()) {
            return Ok(said.split_off(at + begun.len()));
        }
        ensure!(
            said.len() < MAX_NOISE,
            "its shell prints too much: {}",
            shortened(&String::from_utf8_lossy(&said))
        );
    }
    let text = String::from_utf8_lossy(&said).into_owned();
    match text.split_once(&broken) {
        Some((_, why)) if why.contains("GLIBC_") => bail!(
            "our program does not run there, its C library is too old ({}): use a newer system, or a program that was \
             built on one as old",
            shortened(why)
        ),
        Some((_, why)) => bail!("our program does not run there: {}", shortened(why)),
        None => bail!("its shell did not start our program; it said: {}", shortened(&text)),
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_lines_are_answers() {
        let seen = Seen::read("Welcome!\nuid 5\nsplitbrain:uid 0\nsplitbrain:sudo \nsplitbrain:end\n").unwrap();
        assert_eq!(seen.get("uid"), Some("0"));
        assert_eq!(seen.get("sudo"), Some(""));
        assert_eq!(seen.get("size"), None);
        let error = Seen::read("This account is not available.\n").unwrap_err();
        assert!(error.to_string().contains("This account is not available."), "{error}");
    }
}
