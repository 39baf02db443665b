//! The `ssh` and `vagrant` environments: machines that are reached by SSH.
//!
//! Nothing is needed on a host but sshd, `sh`, and the rights of root (directly or by `sudo -n`). For each agent a
//! connection is made: TCP, keys exchanged, the host's key checked ([`known`]), one of ours shown ([`access`]), perhaps
//! through a jump host. Our program is brought there once per content ([`install`]), below `~/.cache/splitbrain/bin`, and
//! started as the host's agent; from then on the connection only carries its stream ([`pump`]).
//!
//! **Threads.** libssh2 waits where it likes, also when something is dropped. So each connection is owned by one thread
//! of its own; callers wait for it with a limit, and can cut it ([`leash`]). No caller ever waits for a dead peer.
//!
//! **Time.** A host has [`START`] to get from the first packet to a running agent; copying our program may take
//! longer as long as it goes on. Afterwards a peer that is silent for six seconds is dead, and its stream ends.
//!
//! **What is left on a host** after [`Remote::release`]: the copy of our program, for the next run, and nothing else.
//!
//! Caveats: `~/.ssh/config` is not read: give user, port, key and jump host here. Keys need an agent if they have a
//! passphrase. Passwords are never asked for.
mod access;
mod connection;
mod install;
mod known;
mod leash;
mod pump;
mod target;
mod vagrant;

pub use vagrant::{doctor as vagrant_doctor, vagrant};

use crate::local::Check;
use crate::remote::Remote;
use access::{Access, Besides, USUAL, expanded, in_ssh_folder};
use anyhow::{Context, Result, anyhow, bail, ensure};
use connection::{Connection, Route};
use install::{Program, install};
use known::{Known, Unknown};
use leash::Leash;
use pump::Pump;
use splitbrain_core::plan::{HostKeys, Ssh};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use target::Target;

/// From the first packet to a running agent.
const START: Duration = Duration::from_secs(30);
/// For an agent's connection to end by itself once it is let go of.
const RELEASE: Duration = Duration::from_secs(5);
/// For its thread to end once it is cut: nothing waits for the peer any more.
const CUT: Duration = Duration::from_secs(1);

/// All hosts of the list, in its order. Nothing is connected yet; what can be seen to be wrong without, is.
pub fn remotes(settings: &Ssh) -> Result<Vec<Arc<dyn Remote>>> {
    ensure!(
        !settings.hosts.is_empty(),
        "there are no hosts: name them by --hosts USER@HOST:PORT,... or as `hosts` in the plan's section [ssh]"
    );
    let mut identities = Vec::new();
    if let Some(identity) = &settings.identity {
        let path = expanded(identity)?;
        File::open(&path).with_context(|| format!("failed to read the identity {}", path.display()))?;
        identities.push(path);
    }
    let access = Arc::new(Access {
        identities,
        besides: Besides::Usual,
        known: known_hosts(settings)?,
    });
    let route = |text: &String| -> Result<Route> {
        Ok(Route {
            target: Target::parse(text)?,
            access: access.clone(),
        })
    };
    let jump = settings.jump.as_ref().map(route).transpose()?.map(Arc::new);
    let shared = Arc::new(Shared::default());
    let mut hosts: Vec<Arc<dyn Remote>> = Vec::new();
    let mut seen = BTreeMap::new();
    for text in &settings.hosts {
        let route = route(text)?;
        let place = (route.target.host.clone(), route.target.port);
        if let Some(other) = seen.insert(place, text) {
            bail!("{text} and {other} are the same host: each can be used once");
        }
        hosts.push(Arc::new(SshHost {
            name: format!("ssh host {}", route.target),
            route,
            jump: jump.clone(),
            other_network: settings.network.is_some(),
            shared: shared.clone(),
            state: Mutex::default(),
        }));
    }
    Ok(hosts)
}

fn known_hosts(settings: &Ssh) -> Result<Known> {
    let unknown = match settings.host_keys {
        HostKeys::Check => Unknown::Refuse,
        HostKeys::AcceptNew => Unknown::Write,
    };
    let files = match &settings.known_hosts {
        Some(file) => vec![expanded(file)?],
        None => vec![in_ssh_folder("known_hosts")?, PathBuf::from("/etc/ssh/ssh_known_hosts")],
    };
    if let (Some(_), Unknown::Refuse) = (&settings.known_hosts, unknown) {
        let file = files[0].display();
        File::open(&files[0]).with_context(|| format!("failed to read the known hosts in {file}"))?;
    }
    Ok(Known { files, unknown })
}

/// What a list of hosts shares.
#[derive(Debug, Default)]
struct Shared {
    /// Our program is read once for all of them.
    programs: Mutex<BTreeMap<PathBuf, Program>>,
    /// Jump hosts are entered one after the other: an sshd turns away many that knock at once (MaxStartups).
    knocking: Mutex<()>,
}

impl Shared {
    fn program(&self, path: &Path) -> Result<Program> {
        let mut programs = self.programs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(program) = programs.get(path) {
            return Ok(program.clone());
        }
        let program = Program::read(path)?;
        programs.insert(path.to_path_buf(), program.clone());
        Ok(program)
    }
}

/// A machine that is reached by SSH.
struct SshHost {
    name: String,
    route: Route,
    jump: Option<Arc<Route>>,
    /// The cluster's traffic is not on the network by which it is reached.
    other_network: bool,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leashes: Vec<Arc<Leash>>,
    peer: Option<IpAddr>,
}

/// What a connection's thread says.
enum Word {
    /// What it does now; said again while copying, as a sign that it goes on.
    Doing(&'static str),
    /// The agent runs, or does not.
    Done(Result<(UnixStream, Option<IpAddr>)>),
}

impl Remote for SshHost {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn start_agent(&self, program: &Path, args: &[String], log: File) -> Result<UnixStream> {
        let program = self.shared.program(program)?;
        let leash = Arc::new(Leash::default());
        self.state().leashes.push(leash.clone());
        let (words, heard) = channel();
        let work = Work {
            route: self.route.clone(),
            jump: self.jump.clone(),
            shared: self.shared.clone(),
            program,
            args: args.to_vec(),
            leash: leash.clone(),
        };
        thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || work.run(&words, log))?;
        let (mut doing, mut until) = ("connecting", Instant::now() + START);
        loop {
            match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Word::Doing(what)) => {
                    if what == COPYING {
                        until = Instant::now() + START;
                    }
                    doing = what;
                }
                Ok(Word::Done(Ok((stream, peer)))) => {
                    self.state().peer = peer;
                    return Ok(stream);
                }
                Ok(Word::Done(Err(error))) => return Err(anyhow!("{}: {error:#}", self.name)),
                Err(RecvTimeoutError::Timeout) => {
                    leash.cut();
                    bail!(
                        "{}: still {doing} after {START:?}: is it overloaded or its disk stuck?",
                        self.name
                    );
                }
                Err(RecvTimeoutError::Disconnected) => bail!("{}: its thread died while {doing}", self.name),
            }
        }
    }

    fn address(&self) -> Option<IpAddr> {
        if self.other_network {
            return None;
        }
        // What is reached at a loopback address is forwarded: the address is ours, not the host's.
        let known = self.route.target.ip().or(self.state().peer);
        known.filter(|ip| !ip.is_loopback())
    }

    fn release(&self) -> Result<()> {
        let leashes: Vec<Arc<Leash>> = self.state().leashes.drain(..).collect();
        let until = Instant::now() + RELEASE;
        for leash in leashes {
            if !leash.ended_within(until.saturating_duration_since(Instant::now())) {
                leash.cut();
                // What happened stands in the log by then.
                leash.ended_within(CUT);
            }
        }
        Ok(())
    }
}

impl SshHost {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

/// Who drops a host without a good-bye ends its agent's streams at once.
impl Drop for SshHost {
    fn drop(&mut self) {
        for leash in self.state().leashes.drain(..) {
            leash.cut();
        }
    }
}

const COPYING: &str = "copying our program";

/// Everything that a connection's thread needs.
struct Work {
    route: Route,
    jump: Option<Arc<Route>>,
    shared: Arc<Shared>,
    program: Program,
    args: Vec<String>,
    leash: Arc<Leash>,
}

impl Work {
    fn run(self, words: &Sender<Word>, log: File) {
        let leash = self.leash.clone();
        match self.start(words, log) {
            Ok((stream, peer, pump)) => {
                // Who waits no more has dropped its end, and ours follows.
                let _ = words.send(Word::Done(Ok((stream, peer))));
                // What was lost stands in the log; the stream has ended for whoever reads it.
                let _ = pump.run();
            }
            Err(error) => {
                leash.cut();
                let _ = words.send(Word::Done(Err(error)));
            }
        }
        leash.end();
    }

    fn start(self, words: &Sender<Word>, log: File) -> Result<(UnixStream, Option<IpAddr>, Pump)> {
        let doing = |what| {
            let _ = words.send(Word::Doing(what));
        };
        let knocking = self.jump.as_ref().map(|_| self.shared.knocking.lock());
        let connection = Connection::open(&self.route, self.jump.as_deref(), &self.leash)?;
        drop(knocking);
        doing("looking around");
        let installed = install(&connection, &self.route.target, &self.program, &mut || doing(COPYING))?;
        doing("starting our program");
        let (channel, early) = installed.start(&connection, &self.args)?;
        let (ours, theirs) = UnixStream::pair()?;
        let peer = connection.peer;
        let pump = Pump::new(connection, channel, ours, Some(log))?.with_early(&early);
        Ok((theirs, peer, pump))
    }
}

/// Whether this machine has what it takes to reach others: keys, and hosts that it knows.
pub fn doctor() -> Vec<Check> {
    let mut keys: Vec<String> = USUAL
        .iter()
        .filter_map(|name| in_ssh_folder(name).ok().filter(|path| path.exists()))
        .map(|path| path.display().to_string())
        .collect();
    if let Some(agent) = env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
        match UnixStream::connect(&agent) {
            Ok(_) => keys.insert(0, "an agent".to_string()),
            Err(error) => keys.push(format!("an agent that does not answer ({error})")),
        }
    }
    let known = in_ssh_folder("known_hosts").and_then(|path| {
        let lines = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(format!("{} has {} lines", path.display(), lines.lines().count()))
    });
    vec![
        Check {
            name: "keys for ssh hosts".into(),
            ok: !keys.is_empty(),
            detail: if keys.is_empty() {
                "none was found".into()
            } else {
                keys.join(", ")
            },
            remedy: match keys.is_empty() {
                true => "make one by `ssh-keygen -t ed25519`, or name one by --identity".into(),
                false => String::new(),
            },
        },
        Check {
            name: "known ssh hosts".into(),
            ok: known.is_ok(),
            remedy: match &known {
                Ok(_) => String::new(),
                Err(_) => {
                    "connect to each host once by `ssh`, or take their keys unseen by --accept-new-host-keys".into()
                }
            },
            detail: known.unwrap_or_else(|error| format!("{error:#}")),
        },
    ]
}
