//! Starting a process on a host of somebody else's, with the files that it needs.
//!
//! It gets a small environment and nothing of the agent's, so that a system behaves alike on all hosts; a session of its
//! own; pipes for what control wants of it; and our marks ([`super::state`]).
use super::proto::{Put, Spawn, SpawnStdio};
use super::state::{RUN, STATE, State};
use crate::fuse;
use crate::ground::HostFile;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process's streams.
pub(super) struct Pipes {
    /// Standard input, output and error.
    pub theirs: [OwnedFd; 3],
    /// Our ends of those that control gets.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: OwnedFd,
}

impl Pipes {
    pub fn new(stdio: SpawnStdio) -> io::Result<Pipes> {
        let (from_error, error) = io::pipe()?;
        let stderr = OwnedFd::from(from_error);
        match stdio {
            SpawnStdio::Protocol => {
                let ((input, to_input), (from_output, output)) = (io::pipe()?, io::pipe()?);
                Ok(Pipes {
                    theirs: [input.into(), output.into(), error.into()],
                    stdin: Some(to_input.into()),
                    stdout: Some(from_output.into()),
                    stderr,
                })
            }
            SpawnStdio::Log => {
                let null = OpenOptions::new().read(true).open("/dev/null")?;
                let output = error.try_clone()?;
                Ok(Pipes {
                    theirs: [null.into(), output.into(), error.into()],
                    stdin: None,
                    stdout: None,
                    stderr,
                })
            }
        }
    }
}

/// The whole environment of a process.
pub(super) fn environment(spawn: &Spawn, run: &str, state: &State) -> Vec<(String, String)> {
    let fixed = [
        ("PATH", PATH.to_string()),
        ("HOME", spawn.dir.to_string_lossy().into_owned()),
        ("LANG", "C.UTF-8".to_string()),
        ("TZ", "UTC".to_string()),
    ];
    // The marks last: nothing overrides them.
    let marks = [
        (RUN, run.to_string()),
        (STATE, state.dir().to_string_lossy().into_owned()),
    ];
    let named = |(key, value): (&str, String)| (key.to_string(), value);
    let own = spawn.env.iter().cloned();
    fixed
        .map(named)
        .into_iter()
        .chain(own)
        .chain(marks.map(named))
        .collect()
}

/// Writes a piece of a file into the directory of the processes to come.
pub(super) fn put(piece: &Put) -> Result<(), String> {
    let at = |error: String| format!("write {} into {}: {error}", piece.name, piece.dir.display());
    let content = BASE64_STANDARD.decode(&piece.content).map_err(|e| at(e.to_string()))?;
    let file = HostFile {
        name: piece.name.clone(),
        content,
        executable: piece.executable,
    };
    let written = file.write(&fuse::files_of(&piece.dir, piece.layered), piece.append);
    written.map_err(|e| at(e.to_string()))
}

/// Whether the program is there and may be run; the error says what to do.
pub(super) fn check_program(program: &str, env: &[(String, String)]) -> Result<(), String> {
    if program.contains('/') {
        return runnable(Path::new(program)).map_err(|why| format!("{program} {why}: {INSTALL}"));
    }
    let path = env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or(PATH, |(_, path)| path);
    let found = path.split(':').map(|dir| PathBuf::from(dir).join(program));
    match found.map(|path| runnable(&path)).find(Result::is_ok) {
        Some(_) => Ok(()),
        None => Err(format!("there is no program {program} in {path}: {INSTALL}")),
    }
}

const INSTALL: &str = "install it on this host, or put it into its image";

fn runnable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err("is no file".into()),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => Err("may not be run".into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("is missing".into()),
        Err(error) => Err(format!("cannot be looked at ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_run_is_named_with_its_remedy() {
        let check = |program: &str| check_program(program, &[]);
        for program in ["/bin/sh", "sh"] {
            check(program).unwrap();
        }
        for (program, want) in [
            (
                "no-such-program",
                "there is no program no-such-program in /usr/local/sbin",
            ),
            ("/no/such", "/no/such is missing"),
            ("/etc/passwd", "/etc/passwd may not be run"),
            ("/etc", "/etc is no file"),
        ] {
            let error = check(program).unwrap_err();
            assert!(error.starts_with(want) && error.ends_with(INSTALL), "{error}");
        }
        let elsewhere = [("PATH".to_string(), "/no/such".to_string())];
        assert!(check_program("sh", &elsewhere).is_err());
    }
}
