//! A generator: a pure source of what happens next.
//!
//! Workloads and the nemesis are both generators: the one decides what is asked, the other what breaks. The runner asks
//! each, after everything that happens, what it wants to do now; a generator that wants nothing yet says until when.
//! Every event of the history is shown to every generator, its own included: this is how a nemesis learns who leads.
use crate::event::{Body, Event, FaultStep, Phase};
use crate::name::Name;
use crate::op::{Op, Status};
use crate::system::HostSpec;
use crate::time::Nanos;
use std::collections::{BTreeMap, BTreeSet};

/// One of a candidate's independent clients. Each lane of each host carries one operation at a time, so that a slow
/// write never holds up a look at who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Looks at who leads.
    Observe,
    /// Writes to the storage.
    Write,
    /// The system's own register.
    Register,
    /// The nemesis asking for its target.
    Nemesis,
}

impl Lane {
    /// Every lane there is.
    pub const ALL: [Lane; 4] = [Lane::Observe, Lane::Write, Lane::Register, Lane::Nemesis];
}

/// What a generator wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ask `op` of the candidate on `host`. The lane must be free ([`View::is_free`]).
    Invoke {
        /// Whom.
        host: Name,
        /// As which of its clients.
        lane: Lane,
        /// What.
        op: Op,
    },
    /// Carry out a fault's action.
    Inject(FaultStep),
    /// Carry out a fault's healing.
    Heal(FaultStep),
    /// Record something, as `info` by the nemesis.
    Note(Body),
}

/// A generator's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Do this, then ask again at once.
    Do(Command),
    /// Nothing before this instant, unless something happens first. [`Nanos::MAX`]: only when something happens.
    Wait(Nanos),
    /// Nothing any more.
    Done,
}

/// What a generator may know beside the events: kept by the runner, from the history alone.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The run's stage.
    pub phase: Option<Phase>,
    /// When the stage began.
    pub phase_began: Nanos,
    /// Who takes part.
    pub hosts: Vec<HostSpec>,
    /// Lanes with an operation under way.
    pub busy: BTreeSet<(Name, Lane)>,
    /// Hosts whose present incarnation said that it is ready and was not killed since.
    pub ready: BTreeSet<Name>,
    /// Each host's last known belief; none after its death or restart.
    pub beliefs: BTreeMap<Name, Status>,
}

impl View {
    /// Whether `host` may be asked in `lane` now: it was ready once in this life and the lane carries nothing.
    pub fn is_free(&self, host: Name, lane: Lane) -> bool {
        self.ready.contains(&host) && !self.busy.contains(&(host, lane))
    }
}

/// A pure source of what happens next.
pub trait Generator {
    /// What to do at `now`. Asked again after each [`Next::Do`], each event and each due [`Next::Wait`].
    fn next(&mut self, now: Nanos, view: &View) -> Next;
    /// Something was recorded.
    fn notify(&mut self, event: &Event);
}
