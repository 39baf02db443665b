//! The hosts' processes: starting them, and carrying actions out on them.
use super::mailbox::{Item, Mailbox};
use super::streams::{Mouth, Voice, listen};
use super::{Clock, Latch};
use crate::local::{Exit, Order, Sandbox, Spawn, helper, log_file, log_path};
use splitbrain_core::system::Stdio;
use splitbrain_core::{Action, Happening, Name, ProcessSpec, Proof, Site};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the last words of an ended process are awaited. Its pipe is at its end at once, unless something that is not
/// known to be on the host holds it open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What several threads need.
pub(super) struct Shared {
    pub sandbox: Sandbox,
    pub dir: PathBuf,
    clock: Clock,
    mailbox: Arc<Mailbox>,
    ending: AtomicBool,
    running: Mutex<BTreeMap<(Name, String), Running>>,
    /// Threads that wait to report an exit.
    reporting: Mutex<Vec<JoinHandle<()>>>,
}

struct Running {
    life: u32,
    /// Where this life's log begins.
    log_from: u64,
    /// Open once all that the process said was read.
    heard: Arc<Latch>,
}

impl Shared {
    pub fn new(sandbox: Sandbox, dir: PathBuf, clock: Clock, mailbox: Arc<Mailbox>) -> Shared {
        Shared {
            sandbox,
            dir,
            clock,
            mailbox,
            ending: AtomicBool::new(false),
            running: Mutex::default(),
            reporting: Mutex::default(),
        }
    }

    /// Control's own happenings, of no host's life.
    pub fn post(&self, what: Happening) {
        self.post_of(None, what);
    }

    fn post_of(&self, of: Option<(Name, u32)>, what: Happening) {
        let at = self.clock.now();
        self.mailbox.post(Item { at, of, what });
    }

    /// Ends everything.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.sandbox.end();
    }
}

/// The standard inputs of the processes that speak the protocol, by host.
#[derive(Clone, Default)]
pub(super) struct Inputs(Arc<Mutex<BTreeMap<Name, Mouth>>>);

impl Inputs {
    /// The host's, if it is alive.
    pub fn of(&self, host: Name) -> Option<Mouth> {
        self.0.lock().expect("no holder panics").get(&host).cloned()
    }

    fn set(&self, host: Name, mouth: Option<Mouth>) {
        let mut all = self.0.lock().expect("no holder panics");
        match mouth {
            Some(mouth) => drop(all.insert(host, mouth)),
            None => drop(all.remove(&host)),
        }
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().expect("no holder panics").clear();
    }
}

/// Carries actions out.
pub(super) struct Machine {
    shared: Arc<Shared>,
    inputs: Inputs,
    /// In the order in which hosts start.
    order: Vec<Name>,
    hosts: BTreeMap<Name, Host>,
}

struct Host {
    dir: PathBuf,
    processes: Vec<ProcessSpec>,
    life: u32,
    garbage: Arc<AtomicU32>,
}

impl Machine {
    pub fn new(shared: Arc<Shared>, inputs: Inputs, site: &Site, processes: Vec<ProcessSpec>) -> Machine {
        let mut order = Vec::new();
        let mut hosts: BTreeMap<Name, Host> = BTreeMap::new();
        for process in processes {
            if !order.contains(&process.host) {
                order.push(process.host);
            }
            let host = hosts.entry(process.host).or_insert_with(|| Host {
                dir: site
                    .places
                    .get(&process.host)
                    .map(|place| place.dir.clone())
                    .unwrap_or_default(),
                processes: Vec::new(),
                life: 0,
                garbage: Arc::default(),
            });
            host.processes.push(process);
        }
        Machine {
            shared,
            inputs,
            order,
            hosts,
        }
    }

    pub fn post(&self, what: Happening) {
        self.shared.post(what);
    }

    /// The first life of every host.
    pub fn start_all(&mut self) -> Result<(), String> {
        for host in self.order.clone() {
            self.start(host)?;
        }
        Ok(())
    }

    /// Does it and proves it, or says why not.
    pub fn carry_out(&mut self, action: &Action) -> Result<Vec<Proof>, String> {
        if let Action::Kill { hosts, .. } | Action::Start { hosts } | Action::Pause { hosts } | Action::Resume { hosts } =
            action
            && let Some(unknown) = hosts.iter().find(|host| !self.hosts.contains_key(host))
        {
            return Err(format!("no process belongs to host {unknown}"));
        }
        let call = |order: Order| self.shared.sandbox.call(&order, &[]);
        match action {
            Action::Kill { hosts, .. } => {
                let proofs = call(Order::Kill(hosts.clone()))?;
                for host in hosts {
                    self.bury(*host);
                }
                Ok(proofs)
            }
            Action::Start { hosts } => {
                let mut proofs = Vec::new();
                for host in hosts {
                    proofs.extend(self.start(*host)?);
                }
                Ok(proofs)
            }
            Action::Pause { hosts } => call(Order::Pause(hosts.clone())),
            Action::Resume { hosts } => call(Order::Resume(hosts.clone())),
            Action::Block { links } => call(Order::Block(links.clone())),
            Action::Unblock { links } => call(Order::Unblock(links.clone())),
            Action::Shape { links, shape } => call(Order::Shape(links.clone(), *shape)),
            Action::Clock { .. } | Action::Disk { .. } => Err("local has no such fault".to_string()),
        }
    }

    /// Forgets a host's life, once all that it said was read.
    fn bury(&self, name: Name) {
        self.inputs.set(name, None);
        let dead: Vec<Running> = {
            let mut running = self.shared.running.lock().expect("no holder panics");
            let keys: Vec<_> = running.keys().filter(|(host, _)| *host == name).cloned().collect();
            keys.iter().filter_map(|key| running.remove(key)).collect()
        };
        for process in dead {
            process.heard.wait(LAST_WORDS);
        }
        let reporting = std::mem::take(&mut *self.shared.reporting.lock().expect("no holder panics"));
        for thread in reporting {
            let _ = thread.join();
        }
    }

    fn alive(&self, name: Name) -> usize {
        let running = self.shared.running.lock().expect("no holder panics");
        running.keys().filter(|(host, _)| *host == name).count()
    }

    fn start(&mut self, name: Name) -> Result<Vec<Proof>, String> {
        let host = self
            .hosts
            .get(&name)
            .ok_or_else(|| format!("there is nothing to start on {name}"))?;
        match self.alive(name) {
            0 => {}
            some if some == host.processes.len() => {
                return Ok(vec![Proof {
                    at: name.to_string(),
                    saw: "already running".into(),
                }]);
            }
            // Processes of a host live and die together: what is left of the old life ends first.
            _ => drop(self.shared.sandbox.call(&Order::Kill(vec![name]), &[])?),
        }
        self.bury(name);
        let host = self.hosts.get_mut(&name).expect("looked up above");
        host.life += 1;
        let launch = Launch {
            shared: &self.shared,
            host,
        };
        let mut started = Vec::new();
        for process in &host.processes {
            match launch.process(process) {
                Ok(process) => started.push(process),
                Err(why) => {
                    // No half of a host stays behind. The first failure is the one to tell.
                    let _ = self.shared.sandbox.call(&Order::Kill(vec![name]), &[]);
                    self.bury(name);
                    return Err(why);
                }
            }
        }
        let incarnation = host.life;
        self.shared.post_of(
            Some((name, incarnation)),
            Happening::Started {
                host: name,
                incarnation,
            },
        );
        let mut proofs = Vec::new();
        for Started { proof, heard, pipes } in started {
            proofs.extend(proof);
            let Some((stdin, stdout)) = pipes else {
                heard.open();
                continue;
            };
            let voice = Voice {
                host: name,
                life: incarnation,
                garbage: host.garbage.clone(),
            };
            let (clock, mailbox) = (self.shared.clock, self.shared.mailbox.clone());
            let listening = listen(stdout, voice, clock, mailbox, heard);
            let mouth = Mouth::open(stdin, name);
            let mouth = listening
                .and(mouth)
                .map_err(|e| format!("start a thread for {name}: {e}"))?;
            self.inputs.set(name, Some(mouth));
        }
        Ok(proofs)
    }
}

struct Launch<'a> {
    shared: &'a Shared,
    host: &'a Host,
}

struct Started {
    proof: Vec<Proof>,
    heard: Arc<Latch>,
    /// Our ends of its standard input and output, if it speaks the protocol.
    pipes: Option<(File, File)>,
}

impl Launch<'_> {
    fn process(&self, spec: &ProcessSpec) -> Result<Started, String> {
        let what = format!("{} on {}", spec.name, spec.host);
        let at = |error: std::io::Error| format!("start {what}: {error}");
        let log = log_file(&self.shared.dir, &log_name(spec.host, &spec.name)).map_err(|e| format!("{e:#}"))?;
        let mut pipes = None;
        let [stdin, stdout]: [OwnedFd; 2] = match spec.stdio {
            Stdio::Log => [
                File::open("/dev/null").map_err(at)?.into(),
                log.try_clone().map_err(at)?.into(),
            ],
            Stdio::Protocol => {
                let (their_in, our_in) = std::io::pipe().map_err(at)?;
                let (our_out, their_out) = std::io::pipe().map_err(at)?;
                pipes = Some((File::from(OwnedFd::from(our_in)), File::from(OwnedFd::from(our_out))));
                [their_in.into(), their_out.into()]
            }
        };
        let heard = Arc::new(Latch::default());
        let key = (spec.host, spec.name.clone());
        let running = Running {
            life: self.host.life,
            log_from: log.metadata().map_err(at)?.len(),
            heard: heard.clone(),
        };
        // Before it starts, so that its exit finds it here however soon that is.
        self.shared
            .running
            .lock()
            .expect("no holder panics")
            .insert(key.clone(), running);
        let order = Order::Spawn(Spawn {
            host: spec.host,
            process: spec.name.clone(),
            life: self.host.life,
            argv: spec.argv.clone(),
            env: environment(&self.host.dir, spec),
            dir: self.host.dir.clone(),
        });
        let fds = [stdin.as_raw_fd(), stdout.as_raw_fd(), log.as_raw_fd()];
        let proof = self.shared.sandbox.call(&order, &fds).inspect_err(|_| {
            self.shared.running.lock().expect("no holder panics").remove(&key);
        })?;
        Ok(Started { proof, heard, pipes })
    }
}

/// The small fixed environment, and the process's own.
fn environment(dir: &Path, spec: &ProcessSpec) -> Vec<(String, String)> {
    let path =
        std::env::var("PATH").unwrap_or_else(|_| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let fixed = [
        ("PATH", path),
        ("HOME", dir.to_string_lossy().into_owned()),
        ("LANG", "C.UTF-8".into()),
        ("TZ", "UTC".into()),
    ];
    let fixed = fixed.map(|(key, value)| (key.to_string(), value));
    fixed.into_iter().chain(spec.env.iter().cloned()).collect()
}

fn log_name(host: Name, process: &str) -> String {
    format!("{host}-{process}")
}

/// Reports the ends of processes that nobody had killed, each after its last words, until the sandbox ends.
pub(super) fn report_exits(shared: &Arc<Shared>, exits: &Receiver<Exit>) {
    for exit in exits {
        let known = {
            let mut running = shared.running.lock().expect("no holder panics");
            let key = (exit.host, exit.process.clone());
            let same = running.get(&key).is_some_and(|known| known.life == exit.life);
            same.then(|| running.remove(&key)).flatten()
        };
        let owner = shared.clone();
        let thread = helper(&format!("exit {}", exit.host), move || {
            let mut log_from = 0;
            if let Some(known) = known {
                known.heard.wait(LAST_WORDS);
                log_from = known.log_from;
            }
            let path = log_path(&owner.dir, &log_name(exit.host, &exit.process));
            let mut how = format!("{}: {}", exit.process, exit.how);
            if let Some(tail) = tail(&path, log_from) {
                how = format!("{how}: {tail}");
            }
            owner.post_of(Some((exit.host, exit.life)), Happening::Exited { host: exit.host, how });
        });
        if let Ok(thread) = thread {
            let mut reporting = shared.reporting.lock().expect("no holder panics");
            reporting.retain(|thread| !thread.is_finished());
            reporting.push(thread);
        }
    }
    if !shared.ending.load(Ordering::SeqCst) {
        let why = tail(&log_path(&shared.dir, "sandbox"), 0).unwrap_or_else(|| "it left no word".into());
        shared.post(Happening::Broken(format!("the sandbox ended by itself: {why}")));
    }
}

/// The last words of a log after its first `from` bytes: at most three lines and 600 characters; `None` if there are none
/// or they cannot be read.
fn tail(path: &Path, from: u64) -> Option<String> {
    const LONGEST: u64 = 2048;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST).max(from)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    let skip = last.chars().count().saturating_sub(600);
    (!last.is_empty()).then(|| last.chars().skip(skip).collect())
}
