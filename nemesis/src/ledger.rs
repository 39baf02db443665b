//! Open faults: what each holds, until its healing is confirmed.
//!
//! Nothing is counted up and down: who holds a link or a host is looked up among the open faults, of which there are
//! few, so that no count can go wrong. Most faults are healed by one action. A disk that may have ended a process is first
//! made healthy, and then the host is started, which does nothing where the process lives. A skew that leaves a monotonic
//! clock ahead cannot be taken back from a running process: such a clock never goes back, and timers would stand still for
//! as long as it was ahead. So the clock is made true and the host's processes are restarted, as after a reboot.
//!
//! A fault whose injection or healing failed keeps what it holds (it may have acted in
//! part) and is healed again in the heal phase.
use crate::fit::Breaks;
use splitbrain_core::event::{Body, Event, FaultStep, Kind};
use splitbrain_core::{Action, Clocks, Disk, Link, Name, Nanos, Offset, Shape, Skew, Unsynced};
use std::collections::BTreeSet;

/// What a fault changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// These links are blocked.
    Cut(BTreeSet<Link>),
    /// These hosts' processes are dead, and what they had not synced is as said.
    Dead(Vec<Name>, Unsynced),
    /// These hosts' processes are stopped.
    Stopped(Vec<Name>),
    /// These links have a shape.
    Shaped(Vec<Link>, Shape),
    /// These hosts' clocks are wrong.
    Skewed(Vec<Name>, Skew),
    /// These hosts' disks are bad.
    BadDisk(Vec<Name>, Disk),
}

impl Effect {
    /// The host that suffers itself, not by its links.
    fn holds(&self, host: Name) -> bool {
        match self {
            Effect::Dead(hosts, _) | Effect::Stopped(hosts) | Effect::Skewed(hosts, _) | Effect::BadDisk(hosts, _) => {
                hosts.contains(&host)
            }
            Effect::Cut(_) | Effect::Shaped(..) => false,
        }
    }

    /// Whether who suffers it answers nothing.
    fn is_mute(&self) -> bool {
        match self {
            Effect::Dead(..) | Effect::Stopped(_) => true,
            Effect::BadDisk(_, disk) => disk.may_end_processes(),
            Effect::Cut(_) | Effect::Shaped(..) | Effect::Skewed(..) => false,
        }
    }

    /// How many actions its healing takes, one after the other.
    fn remedies(&self) -> usize {
        match self {
            Effect::Skewed(_, skew) if leaves_ahead(skew) => 3,
            Effect::BadDisk(_, disk) if disk.may_end_processes() => 2,
            _ => 1,
        }
    }
}

/// Whether the end of this skew takes a monotonic clock back.
fn leaves_ahead(skew: &Skew) -> bool {
    skew.clocks != Clocks::Realtime && (skew.offset > Offset(0) || skew.rate_ppm > Skew::TRUE_RATE)
}

/// A fault about to be injected.
pub(crate) struct Injection {
    pub(crate) breaks: Breaks,
    pub(crate) what: String,
    pub(crate) targets: Vec<Name>,
    pub(crate) effect: Effect,
    pub(crate) lasting: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for, not confirmed.
    Injecting,
    /// Confirmed; to be healed then.
    Until(Nanos),
    /// Its healing was asked for.
    Healing,
    /// An action of it failed.
    Broken,
}

struct Open {
    number: u32,
    injection: Injection,
    state: State,
    /// Of its remedies, how many were applied.
    healed: usize,
    /// Its healing in the heal phase was asked for: there is no later one.
    last_try: bool,
}

impl Open {
    fn is_cut(&self) -> bool {
        matches!(self.injection.effect, Effect::Cut(_))
    }

    fn cuts(&self, link: Link) -> bool {
        matches!(&self.injection.effect, Effect::Cut(links) if links.contains(&link))
    }

    fn step(&self, action: Action) -> FaultStep {
        FaultStep {
            fault: self.number,
            kind: self.injection.breaks.kind(),
            what: self.injection.what.clone(),
            targets: self.injection.targets.clone(),
            action,
            proofs: Vec::new(),
        }
    }
}

/// All open faults, by number.
#[derive(Default)]
pub(crate) struct Ledger {
    open: Vec<Open>,
    numbered: u32,
}

impl Ledger {
    /// The next fault's number, used up.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbered += 1;
        self.numbered
    }

    /// Enters a fault, and returns its injection.
    pub(crate) fn inject(&mut self, number: u32, injection: Injection) -> FaultStep {
        let action = match &injection.effect {
            Effect::Cut(links) => Action::Block {
                links: links.iter().copied().collect(),
            },
            Effect::Dead(hosts, unsynced) => Action::Kill {
                hosts: hosts.clone(),
                unsynced: *unsynced,
            },
            Effect::Stopped(hosts) => Action::Pause { hosts: hosts.clone() },
            Effect::Shaped(links, shape) => Action::Shape {
                links: links.clone(),
                shape: *shape,
            },
            Effect::Skewed(hosts, skew) => Action::Clock {
                hosts: hosts.clone(),
                skew: *skew,
            },
            Effect::BadDisk(hosts, disk) => Action::Disk {
                hosts: hosts.clone(),
                disk: *disk,
            },
        };
        let open = Open {
            number,
            injection,
            state: State::Injecting,
            healed: 0,
            last_try: false,
        };
        let step = open.step(action);
        self.open.push(open);
        step
    }

    /// Whether a fault of its own holds `host`.
    pub(crate) fn is_occupied(&self, host: Name) -> bool {
        self.open.iter().any(|open| open.injection.effect.holds(host))
    }

    /// Whether a fault keeps `host` from answering.
    pub(crate) fn is_mute(&self, host: Name) -> bool {
        let effects = self.open.iter().map(|open| &open.injection.effect);
        effects.into_iter().any(|effect| effect.is_mute() && effect.holds(host))
    }

    /// Whether a packet fault holds `link`.
    pub(crate) fn is_shaped(&self, link: Link) -> bool {
        let shapes = |open: &Open| matches!(&open.injection.effect, Effect::Shaped(links, _) if links.contains(&link));
        self.open.iter().any(shapes)
    }

    /// Whether a blocking or an unblocking is under way: one that is sent now might overtake it.
    pub(crate) fn is_cutting(&self) -> bool {
        let moves = |open: &Open| matches!(open.state, State::Injecting | State::Healing);
        self.open.iter().any(|open| moves(open) && open.is_cut())
    }

    /// When the next healing is due. One that waits for another cut waits for an event, and is not counted.
    pub(crate) fn next_due(&self) -> Nanos {
        let cutting = self.is_cutting();
        let due = |open: &Open| match open.state {
            State::Until(at) => Some(at).filter(|_| !(cutting && open.is_cut())),
            State::Injecting | State::Healing | State::Broken => None,
        };
        self.open.iter().filter_map(due).min().unwrap_or(Nanos::MAX)
    }

    /// The healing of a fault whose time has come.
    pub(crate) fn heal_due(&mut self, now: Nanos) -> Option<FaultStep> {
        let cutting = self.is_cutting();
        let due = |open: &Open| matches!(open.state, State::Until(at) if at <= now) && !(cutting && open.is_cut());
        let at = self.open.iter().position(due)?;
        Some(self.heal(at))
    }

    /// The healing of any fault, for the heal phase: of those confirmed and those broken. When `impatient`, also of those
    /// whose injection was never confirmed, and without waiting for each other.
    pub(crate) fn heal_any(&mut self, impatient: bool) -> Option<FaultStep> {
        let cutting = self.is_cutting() && !impatient;
        let ripe = |open: &Open| match open.state {
            _ if cutting && open.is_cut() => false,
            State::Until(_) => true,
            State::Broken => !open.last_try,
            State::Injecting => impatient,
            State::Healing => false,
        };
        let at = self.open.iter().position(ripe)?;
        self.open[at].last_try = true;
        Some(self.heal(at))
    }

    /// Whether nothing is open, or nothing can be done about what is.
    pub(crate) fn is_settled(&self) -> bool {
        self.open
            .iter()
            .all(|open| open.state == State::Broken && open.last_try)
    }

    fn heal(&mut self, at: usize) -> FaultStep {
        self.open[at].state = State::Healing;
        let open = &self.open[at];
        let action = match &open.injection.effect {
            Effect::Cut(links) => {
                let held = |link: &Link| {
                    let holds = |other: &Open| other.state != State::Healing && other.cuts(*link);
                    self.open.iter().any(holds)
                };
                // Perhaps none: then another fault's healing opens them, and this one's only closes the fault.
                let links = links.iter().copied().filter(|link| !held(link)).collect();
                Action::Unblock { links }
            }
            Effect::Stopped(hosts) => Action::Resume { hosts: hosts.clone() },
            Effect::Shaped(links, _) => Action::Shape {
                links: links.clone(),
                shape: Shape::default(),
            },
            Effect::Skewed(hosts, _) if open.healed == 0 => Action::Clock {
                hosts: hosts.clone(),
                skew: Skew::default(),
            },
            Effect::Skewed(hosts, _) if open.healed == 1 => Action::Kill {
                hosts: hosts.clone(),
                unsynced: Unsynced::Kept,
            },
            Effect::BadDisk(hosts, _) if open.healed == 0 => Action::Disk {
                hosts: hosts.clone(),
                disk: Disk::default(),
            },
            Effect::Dead(hosts, _) | Effect::Skewed(hosts, _) | Effect::BadDisk(hosts, _) => {
                Action::Start { hosts: hosts.clone() }
            }
        };
        open.step(action)
    }

    pub(crate) fn notify(&mut self, event: &Event) {
        let (step, healed) = match &event.body {
            Body::Fault(step) => (step, false),
            Body::Heal(step) => (step, true),
            _ => return,
        };
        let Some(at) = self.open.iter().position(|open| open.number == step.fault) else {
            return;
        };
        let open = &mut self.open[at];
        match (event.kind, healed, open.state) {
            (Kind::Invoke, ..) => {}
            (Kind::Ok, false, State::Injecting) => open.state = State::Until(event.time + open.injection.lasting),
            (Kind::Ok, true, State::Healing) => {
                open.healed += 1;
                if open.healed < open.injection.effect.remedies() {
                    // The next remedy is due at once.
                    open.state = State::Until(event.time);
                } else {
                    self.open.remove(at);
                }
            }
            (Kind::Fail | Kind::Info, false, State::Injecting) | (Kind::Fail | Kind::Info, true, State::Healing) => {
                open.state = State::Broken;
            }
            // An injection that is confirmed after its healing was asked for changes nothing about that.
            (Kind::Ok | Kind::Fail | Kind::Info, ..) => {}
        }
    }
}
