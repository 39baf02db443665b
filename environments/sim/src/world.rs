//! The event loop: everything that happens is an event of one queue.
use crate::disk::{self, Cut};
use crate::host::{Admission, Host, Process, Program, Stimulus, Write};
use crate::net::{Arrival, Fate, Net};
use crate::queue::Queue;
use crate::{Build, Sabotage, SimConfig};
use rand::RngExt;
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Action, Happening, HostRole, HostSpec, Link, Name, Nanos, Op, Outcome, Proof, Unasked, World};
use splitbrain_protocols::storage::{Storage, StoreReply, StoreRequest};
use splitbrain_protocols::{Input, Output};
use std::collections::BTreeMap;

/// What a storage message counts for on a throttled link, in bytes.
const STORE_BYTES: usize = 100;

/// Something that is due.
pub(crate) enum Due {
    /// A host's first life begins.
    Boot(Name),
    /// A packet reaches its destination.
    Arrive { link: Link, packet: Packet },
    /// A request of control reaches its host.
    Asked { host: Name, request: Request },
    /// A core's deadline comes.
    Timer { host: Name, life: u32 },
    /// A disk write is durable.
    Written { host: Name, life: u32 },
    /// A host whose power is to be cut in its next write wrote nothing.
    Idle { host: Name, life: u32 },
    /// An action takes effect.
    Act { id: u64, action: Action },
    /// Control learns of something.
    Tell(Happening),
}

pub(crate) enum Packet {
    Peer(Vec<u8>),
    Store { life: u32, request: StoreRequest },
    Reply { life: u32, reply: StoreReply },
}

/// The simulated world. Built from the same [`SimConfig`] and driven by the same calls, it tells the same happenings.
pub struct SimWorld {
    pub(crate) now: Nanos,
    pub(crate) hosts: BTreeMap<Name, Host>,
    pub(crate) net: Net,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) disk: Rng,
    /// Power cuts under way.
    pub(crate) cuts: Vec<Cut>,
    queue: Queue<Due>,
    control: Rng,
    storage: Option<Name>,
    fenced: bool,
    build: Build,
    /// When the newest action takes effect: actions do in the order in which they were asked for.
    act_at: Nanos,
}

impl SimWorld {
    /// A world at time zero, in which every host is about to start. Panics if two hosts have one name or two hosts are
    /// storages: what lays hosts out must not.
    pub fn new(config: SimConfig, build: Build) -> SimWorld {
        let mut hosts = BTreeMap::new();
        let mut queue = Queue::new();
        let mut boot = seed::stream(config.seed, "boot");
        let mut storage = None;
        for &HostSpec { name, role, .. } in &config.hosts {
            assert!(
                hosts.insert(name, Host::new(role)).is_none(),
                "two hosts are called {name}"
            );
            if role == HostRole::Storage {
                assert!(storage.replace(name).is_none(), "two hosts are storages");
            }
            queue.push(Nanos(boot.random_range(1_000_000..=20_000_000)), Due::Boot(name));
        }
        let mut net = Net::new(config.seed, config.latency);
        if config.sabotage == Some(Sabotage::ShapeDoesNothing) {
            net.ignore_shapes();
        }
        SimWorld {
            now: Nanos::ZERO,
            hosts,
            net,
            sabotage: config.sabotage,
            disk: seed::stream(config.seed, "disk"),
            cuts: Vec::new(),
            queue,
            control: seed::stream(config.seed, "control"),
            storage,
            fenced: config.fenced,
            build,
            act_at: Nanos::ZERO,
        }
    }

    fn handle(&mut self, due: Due) -> Option<Happening> {
        match due {
            Due::Tell(happening) => return Some(happening),
            Due::Boot(host) => {
                // Actions that came even earlier found the host dead, or started it themselves.
                if self.hosts[&host].incarnation == 0 {
                    // A failure to start was told as its exit.
                    let _ = self.start(host);
                }
            }
            Due::Arrive { link, packet } => self.arrive(link, packet),
            Due::Asked { host, request } => self.asked(host, request),
            Due::Timer { host, life } => self.timer(host, life),
            Due::Written { host, life } => self.written(host, life),
            Due::Idle { host, life } => self.idle(host, life),
            Due::Act { id, action } => self.begin_act(id, &action),
        }
        None
    }

    fn asked(&mut self, name: Name, request: Request) {
        let Some(process) = self.host(name).process.as_mut() else {
            return;
        };
        if process.no_room && !process.paused {
            let outcome = Outcome::Fail("the disk is full: nothing was done".to_string());
            let id = request.id;
            return self.say(name, Happening::Completed { id, outcome });
        }
        process.asked.insert(request.id);
        self.stimulate(name, Stimulus::Input(Input::Request(request)));
    }

    /// Begins a host's next life, from its disk. The error says why it ended at once, which is also told.
    pub(crate) fn start(&mut self, name: Name) -> Result<(), String> {
        let fenced = self.fenced;
        let host = self.host(name);
        assert!(host.process.is_none(), "{name} is started twice");
        host.incarnation += 1;
        let incarnation = host.incarnation;
        let (role, records) = (host.role, host.disk.clone());
        self.say(
            name,
            Happening::Started {
                host: name,
                incarnation,
            },
        );
        if role == HostRole::Storage {
            self.host(name).process = Some(Process::new(Program::Storage(Storage::new(fenced))));
            let what = Unasked::Ready;
            self.say(name, Happening::Said { host: name, what });
            return Ok(());
        }
        match (self.build)(name, records, incarnation) {
            Ok(core) => {
                self.host(name).process = Some(Process::new(Program::Core(core)));
                self.stimulate(name, Stimulus::Input(Input::Start));
                Ok(())
            }
            Err(why) => {
                let how = format!("{}: {why}", role.name());
                self.say(name, Happening::Exited { host: name, how });
                Err(why)
            }
        }
    }

    fn arrive(&mut self, link: Link, packet: Packet) {
        // A block also cuts what is under way, as a switch's queue does: once it is confirmed, nothing arrives.
        if !self.net.is_open(link) {
            return;
        }
        let stimulus = match packet {
            Packet::Peer(bytes) => Stimulus::Input(Input::Message { from: link.src, bytes }),
            Packet::Store { life, request } => Stimulus::Store {
                from: link.src,
                life,
                request,
            },
            // The connection died with the process that had asked: request ids of the next life are its own.
            Packet::Reply { life, .. } if life != self.hosts[&link.dst].incarnation => return,
            Packet::Reply { reply, .. } => Stimulus::Input(Input::Store(reply)),
        };
        self.stimulate(link.dst, stimulus);
    }

    fn timer(&mut self, name: Name, life: u32) {
        let now = self.now;
        let host = self.host(name);
        if host.incarnation != life {
            return;
        }
        let Some(process) = host.process.as_mut().filter(|process| process.timer_at == now) else {
            return;
        };
        process.timer_at = Nanos::MAX;
        self.stimulate(name, Stimulus::Timer);
    }

    fn written(&mut self, name: Name, life: u32) {
        let host = self.host(name);
        if host.incarnation != life {
            return;
        }
        let bad = host.bad;
        if host.process.is_none() {
            return;
        }
        if disk::sync_fails(&bad, &mut self.disk) {
            return self.fail_sync(name);
        }
        let host = self.host(name);
        let process = host.process.as_mut().expect("it was just seen");
        match process.writing.take() {
            Some(Write::Append(records)) => host.disk.extend(records),
            Some(Write::Replace(records)) => host.disk = records,
            None => unreachable!("a write of {name} ended that had not begun"),
        }
        process.stalled = false;
        // The kernel finishes a stopped process's write; the process learns of it when it goes on.
        if !process.paused {
            self.catch_up(name);
        }
    }

    /// Hands something to a host's process: now, when it goes on, or never.
    fn stimulate(&mut self, name: Name, stimulus: Stimulus) {
        let host = self.host(name);
        match (host.admits(), host.process.as_mut()) {
            (Admission::Runs, _) => self.step(name, stimulus),
            (Admission::Held | Admission::Waits, Some(process)) => process.held.push_back(stimulus),
            _ => {}
        }
    }

    /// Hands everything that a process missed while it stood still to it, in the order in which it came, until it stands
    /// still again.
    pub(crate) fn catch_up(&mut self, name: Name) {
        self.flush(name);
        while self.hosts[&name].admits() == Admission::Runs {
            let Some(stimulus) = self.running(name).and_then(|process| process.held.pop_front()) else {
                return;
            };
            self.step(name, stimulus);
        }
    }

    /// The time that a host's core is told.
    fn told(&mut self, name: Name) -> Nanos {
        let reads = self.hosts[&name].clocks.monotonic(self.now);
        let process = self.running(name).expect("only a running process is told the time");
        process.latest = process.latest.max(reads);
        process.latest
    }

    fn step(&mut self, name: Name, stimulus: Stimulus) {
        let now = self.told(name);
        let process = self.running(name).expect("only a running process steps");
        match (&mut process.program, stimulus) {
            (Program::Storage(storage), Stimulus::Store { from, life, request }) => {
                let (reply, event) = storage.apply(from, request);
                if let Some(what) = event {
                    self.say(name, Happening::Said { host: name, what });
                }
                self.send_stream(name, from, Packet::Reply { life, reply });
            }
            // Peers have no business with the storage, nor control; it ignores both.
            (Program::Storage(_), _) | (Program::Core(_), Stimulus::Store { .. }) => {}
            (Program::Core(core), Stimulus::Input(input)) => {
                let outputs = core.step(now, input);
                process.outbox.extend(outputs);
            }
            (Program::Core(core), Stimulus::Timer) => {
                if core.deadline() <= now {
                    let outputs = core.step(now, Input::Tick);
                    process.outbox.extend(outputs);
                }
            }
        }
        self.flush(name);
        self.arm(name);
    }

    /// Carries a process's outputs out, in order, up to the next disk write and no further before that is durable.
    fn flush(&mut self, name: Name) {
        loop {
            let Some(process) = self.running(name) else {
                return;
            };
            if process.writing.is_some() {
                return;
            }
            if let Some(write) = process.take_write() {
                process.writing = Some(write);
                if self.awaits_cut(name) {
                    return self.meet_cut(name);
                }
                return self.begin_write(name, Nanos::ZERO);
            }
            let Some(output) = process.outbox.pop_front() else {
                return;
            };
            match output {
                Output::Send { to, bytes } => self.send_datagram(name, to, bytes),
                Output::Store(request) => {
                    if let Some(storage) = self.storage {
                        let life = self.hosts[&name].incarnation;
                        self.send_stream(name, storage, Packet::Store { life, request });
                    }
                }
                Output::Say(line) => self.said(name, line),
                Output::Persist(_) | Output::Compact(_) => unreachable!("disk writes were taken above"),
            }
        }
    }

    fn send_datagram(&mut self, src: Name, dst: Name, bytes: Vec<u8>) {
        assert!(
            self.hosts.contains_key(&dst),
            "{src} sends to {dst}, and there is no such host"
        );
        let link = Link { src, dst };
        let Fate::Carried(first, second) = self.net.datagram(link, bytes.len(), self.now) else {
            return;
        };
        let copies = second
            .map(|arrival| (arrival, bytes.clone()))
            .into_iter()
            .chain([(first, bytes)]);
        for (Arrival { at, flipped }, mut bytes) in copies {
            if let Some(random) = flipped.filter(|_| !bytes.is_empty()) {
                let bit = (random % (bytes.len() as u64 * 8)) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let packet = Packet::Peer(bytes);
            self.queue.push(at, Due::Arrive { link, packet });
        }
    }

    fn send_stream(&mut self, src: Name, dst: Name, packet: Packet) {
        let link = Link { src, dst };
        if let Some(at) = self.net.stream(link, STORE_BYTES, self.now) {
            self.queue.push(at, Due::Arrive { link, packet });
        }
    }

    fn said(&mut self, name: Name, line: Line) {
        let happening = match line {
            Line::Event(what) => Happening::Said { host: name, what },
            Line::Answer { id, outcome } => {
                let process = self.running(name).expect("only a running process speaks");
                if process.asked.remove(&id) {
                    Happening::Completed { id, outcome }
                } else {
                    let what = format!("an answer to request {id}, which waits for none");
                    Happening::Garbage { host: name, what }
                }
            }
        };
        self.say(name, happening);
    }

    /// Tells control something that a host said, after all that the host said before.
    pub(crate) fn say(&mut self, name: Name, happening: Happening) {
        let at = self.now + self.control_latency();
        let host = self.host(name);
        host.said_at = host.said_at.max(at);
        let at = host.said_at;
        self.queue.push(at, Due::Tell(happening));
    }

    pub(crate) fn acted(&mut self, id: u64, result: Result<Vec<Proof>, String>) {
        let at = self.now + self.control_latency();
        self.queue.push(at, Due::Tell(Happening::Acted { id, result }));
    }

    /// Sees to it that a timer event comes no later than the core's deadline.
    fn arm(&mut self, name: Name) {
        if self.hosts[&name].process.is_none() {
            // Its power was cut in what it just did.
            return;
        }
        let told = self.told(name);
        // Never at once: a core whose deadline stays in the past must not stop the world's time.
        let (now, soonest) = (self.now, self.now + Nanos::micros(1));
        let life = self.hosts[&name].incarnation;
        let process = self.running(name).expect("it was just seen");
        let Program::Core(core) = &process.program else {
            return;
        };
        // What is left by its own clock is slept by the true one: timers are the kernel's.
        let at = match core.deadline() {
            Nanos::MAX => Nanos::MAX,
            deadline => (now + (deadline - told)).max(soonest),
        };
        // A later deadline waits for the event that is there already, and is armed then.
        if at < process.timer_at {
            process.timer_at = at;
            self.push(at, Due::Timer { host: name, life });
        }
    }

    fn control_latency(&mut self) -> Nanos {
        Nanos(self.control.random_range(20_000..=80_000))
    }

    pub(crate) fn push(&mut self, at: Nanos, due: Due) {
        self.queue.push(at, due);
    }

    pub(crate) fn host(&mut self, name: Name) -> &mut Host {
        self.hosts
            .get_mut(&name)
            .expect("hosts were checked where they came in")
    }

    pub(crate) fn running(&mut self, name: Name) -> Option<&mut Process> {
        self.host(name).process.as_mut()
    }
}

impl World for SimWorld {
    fn now(&self) -> Nanos {
        self.now
    }

    fn submit(&mut self, id: u64, host: Name, op: Op) {
        let at = self.now + self.control_latency();
        match self.hosts.get_mut(&host) {
            Some(to) if to.role != HostRole::Storage => {
                to.asked_at = to.asked_at.max(at);
                let request = Request { id, op };
                self.queue.push(to.asked_at, Due::Asked { host, request });
            }
            _ => {
                let outcome = Outcome::Fail(format!("{host} answers no operations"));
                self.queue.push(at, Due::Tell(Happening::Completed { id, outcome }));
            }
        }
    }

    fn act(&mut self, id: u64, action: &Action) {
        // A process takes some milliseconds to start; everything else is done at once.
        let takes = match action {
            Action::Start { .. } => self.control.random_range(5_000_000..=20_000_000),
            _ => self.control.random_range(100_000..=1_000_000),
        };
        self.act_at = self.act_at.max(self.now + Nanos(takes));
        let action = action.clone();
        self.queue.push(self.act_at, Due::Act { id, action });
    }

    fn poll(&mut self, until: Nanos) -> Option<(Nanos, Happening)> {
        while self.queue.due().is_some_and(|at| at <= until) {
            let (at, due) = self.queue.pop().expect("the next item was just seen");
            debug_assert!(at >= self.now, "time falls from {} to {at}", self.now);
            self.now = at;
            if let Some(happening) = self.handle(due) {
                return Some((at, happening));
            }
        }
        if until == Nanos::MAX {
            let why = "nothing is left to happen in the simulated world, and nobody waits for a time".to_string();
            return Some((self.now, Happening::Broken(why)));
        }
        self.now = self.now.max(until);
        None
    }
}
