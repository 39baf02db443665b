//! One host's lane: when it led, as far as anybody could know, and when it was dead or stopped.
use splitbrain_core::{Epoch, HostRole, HostSpec, Nanos, Reign, Role, Status, Token};

/// How a reign ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It said so, and why.
    Deposed(String),
    /// It answered that it does not lead, or leads anew.
    Answered,
    /// Its process was killed, ended, or was started anew.
    Died,
    /// It had not ended when the history did.
    Open,
}

/// One unbroken belief of leading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReignBar {
    /// When control learnt of it.
    pub from: Nanos,
    /// Up to here belief is proven.
    pub definite: Nanos,
    /// Up to here it is possible.
    pub to: Nanos,
    /// Of this leadership; [`Epoch::NONE`] where the system has none.
    pub epoch: Epoch,
    /// Its place among all reigns' epochs: what its colour is chosen by, so that reigns that follow each other never look alike,
    /// whatever their numbers.
    pub rank: usize,
    /// What it writes with.
    pub token: Option<Token>,
    /// The candidate's own count.
    pub reign: Reign,
    /// How it ended.
    pub ending: Ending,
}

impl ReignBar {
    /// What it is called: by its epoch, or by the candidate's own count where the system has no epochs.
    pub fn name(&self) -> String {
        match self.epoch.known() {
            Some(epoch) => format!("epoch {epoch}"),
            None => format!("reign {}", self.reign),
        }
    }
}

/// What a host can be beside alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its processes were killed.
    Killed,
    /// A process of it ended by itself.
    Exited,
    /// Its processes were stopped.
    Paused,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            State::Killed => "killed",
            State::Exited => "exited",
            State::Paused => "paused",
        }
    }
}

/// A stretch in which a host was not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpan {
    /// What it was.
    pub state: State,
    /// When that was seen.
    pub from: Nanos,
    /// When it was over.
    pub to: Nanos,
}

/// A host's lane.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Whose.
    pub host: HostSpec,
    /// In order; they never overlap.
    pub reigns: Vec<ReignBar>,
    /// In order of their ends.
    pub states: Vec<StateSpan>,
    /// Processes that ended by themselves: when and how.
    pub exits: Vec<(Nanos, String)>,
    /// Whether it is the lane of a server that is never asked and to which nothing ever happened: it needs little room.
    pub low: bool,
    reigning: bool,
    down: Option<(Nanos, State)>,
    paused: Option<Nanos>,
}

/// What a lane hears.
#[derive(Clone, Copy)]
pub(super) enum Said<'a> {
    Elected {
        epoch: Epoch,
        token: Option<Token>,
        reign: Reign,
    },
    Deposed {
        reign: Reign,
        why: &'a str,
    },
    Answer {
        invoked: Nanos,
        status: &'a Status,
    },
    Started {
        incarnation: u32,
    },
    Exited {
        how: &'a str,
    },
    Killed,
    Paused,
    Resumed,
}

impl Lane {
    pub(super) fn new(host: HostSpec) -> Lane {
        Lane {
            host,
            reigns: Vec::new(),
            states: Vec::new(),
            exits: Vec::new(),
            low: false,
            reigning: false,
            down: None,
            paused: None,
        }
    }

    pub(super) fn hear(&mut self, now: Nanos, said: Said) {
        match said {
            Said::Elected { epoch, token, reign } => self.lead(now, now, epoch, token, reign),
            Said::Deposed { reign, why } => {
                if self.current().is_some_and(|bar| bar.reign == reign) {
                    self.end_reign(now, Ending::Deposed(why.to_string()));
                }
            }
            Said::Answer { invoked, status } => match *status {
                Status {
                    role: Role::Leader,
                    epoch,
                    reign: Some(reign),
                    token,
                    ..
                } => self.lead(now, invoked, epoch.unwrap_or_default(), token, reign),
                _ => self.end_reign(now, Ending::Answered),
            },
            Said::Started { incarnation } => {
                self.end_reign(now, Ending::Died);
                // The first start ends no death: nothing lived before it.
                if incarnation > 1 || self.down.is_some() {
                    self.rise(now);
                }
                self.resume(now);
            }
            Said::Exited { how } => {
                self.exits.push((now, how.to_string()));
                self.fall(now, State::Exited);
            }
            Said::Killed => self.fall(now, State::Killed),
            Said::Paused => {
                self.paused.get_or_insert(now);
            }
            Said::Resumed => self.resume(now),
        }
    }

    /// Whether it is never asked, and nothing of its own is on it.
    pub(super) fn is_bare(&self) -> bool {
        let server = self.host.role == HostRole::Server && !self.host.asked;
        server && self.reigns.is_empty() && self.states.is_empty() && self.exits.is_empty()
    }

    fn current(&mut self) -> Option<&mut ReignBar> {
        self.reigns.last_mut().filter(|_| self.reigning)
    }

    /// It led from `invoked` at the latest and said so at `now`. What was asked before the reign was known proves
    /// nothing about the time before: the answer may be younger than the question.
    fn lead(&mut self, now: Nanos, invoked: Nanos, epoch: Epoch, token: Option<Token>, reign: Reign) {
        if let Some(bar) = self.current() {
            if bar.reign == reign && bar.epoch == epoch {
                bar.definite = bar.definite.max(invoked);
                bar.token = bar.token.or(token);
                return;
            }
            self.end_reign(now, Ending::Answered);
        }
        self.reigning = true;
        self.reigns.push(ReignBar {
            from: now,
            definite: now,
            to: now,
            epoch,
            rank: 0,
            token,
            reign,
            ending: Ending::Open,
        });
    }

    fn end_reign(&mut self, now: Nanos, ending: Ending) {
        if let Some(bar) = self.current() {
            bar.to = now;
            bar.ending = ending;
        }
        self.reigning = false;
    }

    fn fall(&mut self, now: Nanos, state: State) {
        self.end_reign(now, Ending::Died);
        self.resume(now);
        self.down.get_or_insert((now, state));
    }

    fn rise(&mut self, now: Nanos) {
        if let Some((from, state)) = self.down.take() {
            self.states.push(StateSpan { state, from, to: now });
        }
    }

    fn resume(&mut self, now: Nanos) {
        if let Some(from) = self.paused.take() {
            let state = State::Paused;
            self.states.push(StateSpan { state, from, to: now });
        }
    }

    pub(super) fn close(&mut self, end: Nanos) {
        self.end_reign(end, Ending::Open);
        self.resume(end);
        self.rise(end);
    }
}
