//! The hosts' processes: starting them, and carrying actions out on them.
use super::mailbox::{Item, Mailbox};
use super::streams::{Mouth, Voice, listen};
use super::{Clock, Latch};
use crate::ground::{Ending, Ground, Launch, Launched};
use crate::local::helper;
use crate::logs;
use splitbrain_core::{Action, Happening, Name, ProcessSpec, Proof, Unsynced};
use std::collections::BTreeMap;
use std::path::PathBuf;
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
    pub ground: Arc<dyn Ground>,
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
    pub fn new(ground: Arc<dyn Ground>, clock: Clock, mailbox: Arc<Mailbox>) -> Shared {
        Shared {
            ground,
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
        self.ground.end();
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
    /// A kill of it failed: nobody knows what still runs there.
    doubtful: bool,
    garbage: Arc<AtomicU32>,
}

impl Machine {
    pub fn new(shared: Arc<Shared>, inputs: Inputs, processes: Vec<ProcessSpec>) -> Machine {
        let mut order = Vec::new();
        let mut hosts: BTreeMap<Name, Host> = BTreeMap::new();
        for process in processes {
            if !order.contains(&process.host) {
                order.push(process.host);
            }
            let host = hosts.entry(process.host).or_insert_with(|| Host {
                dir: shared
                    .ground
                    .site()
                    .places
                    .get(&process.host)
                    .map(|place| place.dir.clone())
                    .unwrap_or_default(),
                processes: Vec::new(),
                life: 0,
                doubtful: false,
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
        match action {
            Action::Kill { hosts, .. } => self.kill(hosts, action),
            Action::Start { hosts } => self.start_each(hosts),
            other => self.shared.ground.act(other),
        }
    }

    fn kill(&mut self, names: &[Name], action: &Action) -> Result<Vec<Proof>, String> {
        let result = self.shared.ground.act(action);
        for name in names {
            match (&result, self.hosts.get_mut(name)) {
                (Ok(_), _) => self.bury(*name),
                (Err(_), Some(host)) => host.doubtful = true,
                (Err(_), None) => {}
            }
        }
        result
    }

    /// One host that cannot be started holds up no other.
    fn start_each(&mut self, names: &[Name]) -> Result<Vec<Proof>, String> {
        let (mut proofs, mut failed) = (Vec::new(), Vec::new());
        for name in names {
            match self.start(*name) {
                Ok(more) => proofs.extend(more),
                Err(why) => failed.push(why),
            }
        }
        if failed.is_empty() {
            Ok(proofs)
        } else {
            Err(failed.join("; "))
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
            0 if !host.doubtful => {}
            some if some == host.processes.len() && !host.doubtful => {
                return Ok(vec![Proof {
                    at: name.to_string(),
                    saw: "already running".into(),
                }]);
            }
            // Processes of a host live and die together: what is left of the old life ends first.
            _ => drop(self.end_life(name)?),
        }
        self.bury(name);
        let host = self.hosts.get_mut(&name).expect("looked up above");
        host.doubtful = false;
        host.life += 1;
        let host = self.hosts.get(&name).expect("looked up above");
        let mut started = Vec::new();
        for process in &host.processes {
            match self.launch(host, process) {
                Ok(process) => started.push(process),
                Err(why) => {
                    // No half of a host stays behind. The first failure is the one to tell.
                    let ended = self.end_life(name);
                    self.bury(name);
                    self.hosts.get_mut(&name).expect("looked up above").doubtful = ended.is_err();
                    return Err(why);
                }
            }
        }
        self.attend(name, started)
    }

    /// Tells of a host's new life, and joins its processes' pipes.
    fn attend(&self, name: Name, started: Vec<Started>) -> Result<Vec<Proof>, String> {
        let host = &self.hosts[&name];
        let incarnation = host.life;
        self.shared.post_of(
            Some((name, incarnation)),
            Happening::Started {
                host: name,
                incarnation,
            },
        );
        let mut proofs = Vec::new();
        for Started { launched, heard } in started {
            proofs.extend(launched.proof);
            let Some((stdin, stdout)) = launched.pipes else {
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

    fn end_life(&self, name: Name) -> Result<Vec<Proof>, String> {
        self.shared.ground.act(&Action::Kill {
            hosts: vec![name],
            unsynced: Unsynced::Kept,
        })
    }

    fn launch(&self, host: &Host, spec: &ProcessSpec) -> Result<Started, String> {
        let heard = Arc::new(Latch::default());
        let key = (spec.host, spec.name.clone());
        let running = Running {
            life: host.life,
            log_from: logs::length(self.shared.ground.dir(), &logs::name(spec.host, &spec.name)),
            heard: heard.clone(),
        };
        // Before it starts, so that its exit finds it here however soon that is.
        self.shared
            .running
            .lock()
            .expect("no holder panics")
            .insert(key.clone(), running);
        let launch = Launch {
            host: spec.host,
            process: spec.name.clone(),
            life: host.life,
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            dir: host.dir.clone(),
            stdio: spec.stdio,
        };
        let launched = self.shared.ground.launch(&launch).inspect_err(|_| {
            self.shared.running.lock().expect("no holder panics").remove(&key);
        })?;
        Ok(Started { launched, heard })
    }
}

struct Started {
    launched: Launched,
    heard: Arc<Latch>,
}

/// Reports the ends of processes that nobody had killed, each after its last words, until the ground ends.
pub(super) fn report_exits(shared: &Arc<Shared>, endings: &Receiver<Ending>) {
    for exit in endings {
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
            let path = logs::path(owner.ground.dir(), &logs::name(exit.host, &exit.process));
            let mut how = format!("{}: {}", exit.process, exit.how);
            if let Some(tail) = logs::tail(&path, log_from) {
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
        shared.post(Happening::Broken(shared.ground.epitaph()));
    }
}
