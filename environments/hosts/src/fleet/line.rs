//! Control's end of the connection to one host's agent.
//!
//! Two threads. One reads: it sorts what comes to whoever waits for it and never waits for anybody, nor writes. One watches:
//! it beats, grants what was read, and takes a host that says nothing for [`SILENCE`] for lost. Everybody else writes for
//! himself, behind one lock, and no longer than [`SILENCE`].
//!
//! **Lost.** A host is lost once, for the rest of the run: its orders fail, its streams end, each of its processes gets an
//! [`Ending`], and the connection is cut, which tells an agent that still lives to heal its host.
//!
//! **Last words.** An ending is held back until the process's log has come in, but not for long.
use super::raw::{self, RawClock};
use super::streams::{Came, Streams};
use crate::agent::proto::{self, Frame, FromHost, Order, Reply, ToHost};
use crate::ground::Ending;
use crate::local::helper;
use splitbrain_core::{Name, Nanos};
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(500);
/// Until a beat is tried again whose turn came while somebody else was writing.
const AGAIN: Duration = Duration::from_millis(20);
/// A host that says nothing for so long is lost.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// How long an ending waits for the end of the process's log.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The ends of processes, of all hosts.
#[derive(Default)]
pub(super) struct Endings {
    sender: Mutex<Option<Sender<Ending>>>,
    receiver: Mutex<Option<Receiver<Ending>>>,
    /// Hosts that are not lost.
    alive: Mutex<usize>,
}

impl Endings {
    pub fn of(hosts: usize) -> Endings {
        let (sender, receiver) = channel();
        Endings {
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(Some(receiver)),
            alive: Mutex::new(hosts),
        }
    }

    pub fn take(&self) -> Receiver<Ending> {
        self.receiver
            .lock()
            .expect("no holder panics")
            .take()
            .expect("taken once")
    }

    fn tell(&self, ending: Ending) {
        if let Some(sender) = &*self.sender.lock().expect("no holder panics") {
            let _ = sender.send(ending);
        }
    }

    /// No more will be told.
    pub fn close(&self) {
        *self.sender.lock().expect("no holder panics") = None;
    }

    /// A host was lost. Without any host there is nothing left to tell.
    fn lost(&self) {
        let mut alive = self.alive.lock().expect("no holder panics");
        *alive -= 1;
        if *alive == 0 {
            self.close();
        }
    }
}

/// What the watching thread is woken for.
pub(super) enum Wake {
    /// Let the host send more of this stream.
    Grant(u32, u32),
    /// Beat now.
    Beat,
    /// Nothing: look again.
    Look,
}

/// The connection.
pub(super) struct Line {
    pub host: Name,
    /// `host n3 (container x)`.
    pub label: String,
    /// What the agent printed.
    log: PathBuf,
    socket: UnixStream,
    writer: Mutex<UnixStream>,
    wakes: Sender<Wake>,
    state: Mutex<State>,
    /// Streams, credits or `lost` changed.
    pub changed: Condvar,
    endings: Arc<Endings>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What changes.
pub(super) struct State {
    /// Why, once the host is lost: `no word from it for 5s`.
    pub lost: Option<String>,
    /// Control has ended the connection itself.
    cut: bool,
    pub streams: Streams,
    pub clock: RawClock,
    heard: Instant,
    next: u64,
    /// Beats under way, with control's raw clock when each left.
    beats: BTreeMap<u64, Nanos>,
    orders: BTreeMap<u64, Sender<Result<Reply, String>>>,
    next_stream: u32,
    /// Processes that were started and of whose end nothing is known: life, and first stream.
    running: BTreeMap<String, (u32, u32)>,
    /// Endings that await the end of a log.
    held: Vec<(u32, Instant, Ending)>,
}

/// An order under way; its answer comes with the host's name if it is an error.
pub(super) struct Pending {
    label: String,
    answer: Receiver<Result<Reply, String>>,
}

impl Pending {
    /// Awaits the answer.
    pub fn wait(self, at_most: Duration) -> Result<Reply, String> {
        match self.answer.recv_timeout(at_most) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(format!("{}: no answer within {at_most:?}", self.label)),
            Err(RecvTimeoutError::Disconnected) => Err(format!("{}: the connection has ended", self.label)),
        }
    }
}

impl Line {
    /// Over a stream on which the greetings were exchanged. The threads end when [`Line::cut`] is called or the host is lost.
    pub fn start(
        (host, label): (Name, String),
        stream: UnixStream,
        log: PathBuf,
        endings: Arc<Endings>,
    ) -> io::Result<Arc<Line>> {
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_read_timeout(None)?;
        let input = stream.try_clone()?;
        let (wakes, woken) = channel();
        let line = Arc::new(Line {
            host,
            label,
            log,
            socket: stream.try_clone()?,
            writer: Mutex::new(stream),
            wakes,
            state: Mutex::new(State {
                lost: None,
                cut: false,
                streams: Streams::default(),
                clock: RawClock::default(),
                heard: Instant::now(),
                next: 1,
                beats: BTreeMap::new(),
                orders: BTreeMap::new(),
                next_stream: 1,
                running: BTreeMap::new(),
                held: Vec::new(),
            }),
            changed: Condvar::new(),
            endings,
            threads: Mutex::default(),
        });
        let (reader, watcher) = (line.clone(), line.clone());
        let threads = [
            helper(&format!("from {host}"), move || reader.read(input)),
            helper(&format!("watch {host}"), move || watcher.watch(&woken)),
        ];
        for thread in threads {
            line.threads.lock().expect("no holder panics").push(thread?);
        }
        Ok(line)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub fn wake(&self, wake: Wake) {
        let _ = self.wakes.send(wake);
    }

    /// Sends a message; a host that does not take it is lost.
    pub fn send(&self, message: &ToHost) -> io::Result<()> {
        let sent = proto::send(&mut *self.writer(), message);
        sent.inspect_err(|error| self.unsent(error))
    }

    pub fn send_data(&self, number: u32, bytes: &[u8]) -> io::Result<()> {
        let sent = proto::send_data(&mut *self.writer(), number, bytes);
        sent.inspect_err(|error| self.unsent(error))
    }

    fn writer(&self) -> MutexGuard<'_, UnixStream> {
        self.writer.lock().expect("no holder panics")
    }

    /// Part of a frame may have been sent: nothing after it would be understood.
    fn unsent(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                self.lose(&format!("it took nothing for {}s", SILENCE.as_secs()));
            }
            // The reader knows better why.
            _ => {}
        }
    }

    /// Gives an order; its answer is to be awaited.
    pub fn ask(&self, order: Order) -> Pending {
        let (sender, answer) = channel();
        let id = {
            let mut state = self.lock();
            if let Some(why) = &state.lost {
                let _ = sender.send(Err(self.was_lost(why)));
                None
            } else {
                let id = state.next;
                state.next += 1;
                state.orders.insert(id, sender);
                Some(id)
            }
        };
        if let Some(id) = id
            && let Err(error) = self.send(&ToHost::Do { id, order })
            && let Some(sender) = self.lock().orders.remove(&id)
        {
            let _ = sender.send(Err(format!("{}: it takes no orders: {error}", self.label)));
        }
        Pending {
            label: self.label.clone(),
            answer,
        }
    }

    /// Makes room for a process's streams; the first one's number.
    pub fn expect(&self, process: &str, life: u32, protocol: bool, log: std::fs::File) -> u32 {
        let mut state = self.lock();
        let first = state.next_stream;
        state.next_stream += 3;
        state.streams.open(first, protocol, log);
        state.running.insert(process.to_string(), (life, first));
        first
    }

    /// It was not started after all.
    pub fn forget(&self, process: &str, first: u32) {
        let mut state = self.lock();
        state.streams.forget(first);
        if state.running.get(process).is_some_and(|(_, known)| *known == first) {
            state.running.remove(process);
        }
    }

    /// All processes were ended on purpose.
    pub fn killed(&self) {
        let mut state = self.lock();
        for (_, first) in std::mem::take(&mut state.running).into_values() {
            state.streams.closed(first);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the connection, without an ending for anything, and waits until nothing is read any more.
    pub fn cut(&self) {
        {
            let mut state = self.lock();
            state.running.clear();
            state.cut = state.lost.is_none();
        }
        self.lose("the run has ended");
        let threads = std::mem::take(&mut *self.threads.lock().expect("no holder panics"));
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// From now on the host counts as lost.
    fn lose(&self, why: &str) {
        let (orders, running, held) = {
            let mut state = self.lock();
            if state.lost.is_some() {
                return;
            }
            state.lost = Some(why.to_string());
            state.streams.logs.clear();
            (
                std::mem::take(&mut state.orders),
                std::mem::take(&mut state.running),
                std::mem::take(&mut state.held),
            )
        };
        let _ = self.socket.shutdown(Shutdown::Both);
        self.changed.notify_all();
        self.wake(Wake::Look);
        for order in orders.into_values() {
            let _ = order.send(Err(self.was_lost(why)));
        }
        for (_, _, ending) in held {
            self.endings.tell(ending);
        }
        for (process, (life, _)) in running {
            self.endings.tell(Ending {
                host: self.host,
                process,
                life,
                how: format!("the host was lost: {why}"),
            });
        }
        self.endings.lost();
    }

    /// The host and why it was lost, if that is not what control wanted.
    pub fn loss(&self) -> Option<String> {
        let state = self.lock();
        let lost = state.lost.as_ref().filter(|_| !state.cut);
        lost.map(|why| self.was_lost(why))
    }

    fn was_lost(&self, why: &str) -> String {
        format!("{} was lost: {why}", self.label)
    }

    fn read(&self, stream: UnixStream) {
        let mut stream = BufReader::with_capacity(128 * 1024, stream);
        let why = loop {
            match proto::receive::<FromHost>(&mut stream) {
                Ok(Some(frame)) => {
                    if let Err(why) = self.take(frame) {
                        break why;
                    }
                }
                Ok(None) => break self.agent_ended(),
                Err(error) => break format!("what it says is not understood: {error}"),
            }
        };
        self.lose(&why);
    }

    fn agent_ended(&self) -> String {
        match crate::logs::tail(&self.log, 0) {
            Some(last) => format!("its agent ended: {last}"),
            None => "its agent ended without a word".into(),
        }
    }

    fn take(&self, frame: Frame<FromHost>) -> Result<(), String> {
        let now = raw::now();
        let mut state = self.lock();
        state.heard = Instant::now();
        match frame {
            Frame::Data(number, bytes) => match state.streams.came(number, &bytes) {
                Came::Grant(more) => self.wake(Wake::Grant(number, more)),
                Came::Nothing => {}
                Came::TooMuch => return Err(format!("it sent more of stream {number} than it was granted")),
            },
            Frame::Message(FromHost::Beat { n, raw }) => {
                if let Some(asked) = state.beats.remove(&n) {
                    state.clock.learn(raw, asked, now);
                }
            }
            Frame::Message(FromHost::Done { id, result }) => {
                if let Some(order) = state.orders.remove(&id) {
                    let _ = order.send(result.map_err(|why| format!("{}: {why}", self.label)));
                }
            }
            Frame::Message(FromHost::Credit { stream, bytes }) => state.streams.granted(stream, bytes),
            Frame::Message(FromHost::Closed { stream }) => {
                state.streams.closed(stream);
                self.release(&mut state, |log, _| log == stream);
            }
            Frame::Message(FromHost::Exited { process, life, how }) => self.exited(&mut state, process, life, how),
            Frame::Message(FromHost::Hello(_) | FromHost::Refused(_)) => {
                return Err("it greeted a second time".into());
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn exited(&self, state: &mut State, process: String, life: u32, how: String) {
        let same = state.running.get(&process).is_some_and(|(known, _)| *known == life);
        let first = same
            .then(|| state.running.remove(&process))
            .flatten()
            .map(|(_, first)| first);
        let ending = Ending {
            host: self.host,
            process,
            life,
            how,
        };
        let Some(first) = first else {
            return self.endings.tell(ending);
        };
        if let Some(inlet) = state.streams.inputs.get_mut(&first) {
            inlet.closed = true;
        }
        if state.streams.logs.contains_key(&(first + 2)) {
            state.held.push((first + 2, Instant::now(), ending));
        } else {
            self.endings.tell(ending);
        }
    }

    /// Tells the endings that need not wait any longer.
    fn release(&self, state: &mut State, due: impl Fn(u32, Instant) -> bool) {
        for (_, _, ending) in state.held.extract_if(.., |(log, since, _)| due(*log, *since)) {
            self.endings.tell(ending);
        }
    }

    fn watch(&self, woken: &Receiver<Wake>) {
        let mut due = Instant::now();
        while self.lock().lost.is_none() {
            let mut beat = false;
            match woken.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Wake::Grant(stream, bytes)) => drop(self.send(&ToHost::Credit { stream, bytes })),
                Ok(Wake::Beat) => beat = true,
                Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let mut state = self.lock();
            self.release(&mut state, |_, since| now > since + LAST_WORDS);
            // Control may have been stopped itself: then nobody could be heard.
            if now > due + SILENCE / 2 {
                state.heard = now;
            }
            let silent = now > state.heard + SILENCE;
            drop(state);
            if silent {
                return self.lose(&format!("no word from it for {}s", SILENCE.as_secs()));
            }
            if beat || now >= due {
                due = now + if self.beat() { BEAT } else { AGAIN };
            }
        }
    }

    /// False if somebody else is writing.
    fn beat(&self) -> bool {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::WouldBlock) => return false,
            Err(TryLockError::Poisoned(_)) => unreachable!("no holder panics"),
        };
        let n = {
            let mut state = self.lock();
            let n = state.next;
            state.next += 1;
            state.beats.insert(n, raw::now());
            n
        };
        let sent = proto::send(&mut *writer, &ToHost::Beat { n });
        drop(writer);
        if let Err(error) = &sent {
            self.unsent(error);
        }
        true
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
