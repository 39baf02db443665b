//! What a history looks like: lanes, reigns, faults and operations on one time axis.
//!
//! A history is a list of events; a picture is made of intervals. This fold turns the one into the other once, for the
//! timeline, the zoomed anomalies and the charts alike, so that no two of them can disagree.
//!
//! **Reigns** come from what candidates said. A reign begins with `elected` (or with the first answer that names it,
//! where the announcement got lost). It is *definite* up to the last invocation that was answered within it, and
//! *possible* until something ended it: `deposed`, an answer that says otherwise, a death, a restart, or the history's end.
//!
//! Caveats: this is a picture, not a judgement. Verdicts are the checkers', and nothing here feeds back into them.
mod faults;
mod lane;
pub mod service;

pub use faults::{Aimed, FaultSpan};
pub use lane::{Ending, Lane, ReignBar, State, StateSpan};

use lane::Said;
use splitbrain_core::disk::MayEnd;
use splitbrain_core::event::Phase;
use splitbrain_core::{Action, Body, Epoch, Event, Header, HostRole, HostSpec, Kind, Name, Nanos, Process, Token};
use std::collections::BTreeMap;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It happened.
    Ok,
    /// It did not.
    Fail,
    /// Nobody knows.
    Info,
    /// The history ends before its completion.
    Open,
}

/// An operation from invocation to completion.
#[derive(Clone, Copy, Debug)]
pub struct OpRow {
    /// When it was invoked.
    pub start: Nanos,
    /// When it completed; the history's end where it never did.
    pub end: Nanos,
    /// The index of its invocation.
    pub index: u64,
    /// Which of [`Picture::lanes`] was asked.
    pub lane: usize,
    /// Which of [`OPERATIONS`].
    pub f: u8,
    /// How it ended.
    pub ended: Ended,
}

/// The names of operations, by [`OpRow::f`].
pub const OPERATIONS: [&str; 12] = [
    "observe", "write", "read", "campaign", "resign", "get", "set", "cas", "next", "run", "acquire", "release",
];

/// Whether [`OpRow::f`] is a write to the storage.
pub const WRITE: u8 = 1;

/// A write as the storage saw it.
#[derive(Clone, Copy, Debug)]
pub struct StoreRow {
    /// When control learnt of it.
    pub time: Nanos,
    /// It came with.
    pub token: Token,
    /// The storage's position of it; `None` where it was refused.
    pub seq: Option<u64>,
    /// The writer's lane.
    pub by: usize,
}

/// A stage of the run.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub from: Nanos,
    /// When the next began, or the history ended.
    pub to: Nanos,
}

/// Everything to draw.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The time of the last event.
    pub end: Nanos,
    /// Whether the last phase is there.
    pub whole: bool,
    /// Why the run ended before its plan did.
    pub aborted: Option<String>,
    /// A lane a host, in the header's order.
    pub lanes: Vec<Lane>,
    /// Every epoch in which somebody led, rising; none where the system has none.
    pub epochs: Vec<Epoch>,
    /// The rank ([`ReignBar::rank`]) of the reign that a token belongs to, where a candidate named it.
    pub tokens: BTreeMap<Token, usize>,
    /// By number.
    pub faults: Vec<FaultSpan>,
    /// In order.
    pub phases: Vec<PhaseSpan>,
    /// By invocation.
    pub ops: Vec<OpRow>,
    /// In the order of the history.
    pub stores: Vec<StoreRow>,
    /// What broke without being asked to: when, where, and how; at most [`Picture::MAX_TROUBLES`].
    pub troubles: Vec<(Nanos, Name, String)>,
    /// How many there were in all.
    pub all_troubles: u64,
}

impl Picture {
    /// How many troubles a picture keeps: a host may print garbage for ever.
    pub const MAX_TROUBLES: usize = 50;

    /// Folds a history into its picture.
    pub fn of(header: &Header, events: &[Event]) -> Picture {
        let mut fold = Fold::new(header);
        for event in events {
            fold.event(event);
        }
        fold.finish()
    }

    /// The rank of the reign in which a write was made: its token's, or that of its writer's newest reign by then where the
    /// system has no tokens. `None` where no candidate named it.
    pub fn rank_of(&self, row: &StoreRow) -> Option<usize> {
        if row.token != Token::NONE {
            return self.tokens.get(&row.token).copied();
        }
        let reigns = self.lanes.get(row.by)?.reigns.iter();
        reigns.rev().find(|bar| bar.from <= row.time).map(|bar| bar.rank)
    }

    /// Ranks all reigns: by their epochs' order, or by their own where there are none.
    fn rank(&mut self) {
        let bars = || self.lanes.iter().flat_map(|lane| &lane.reigns);
        let mut epochs: Vec<Epoch> = bars().filter_map(|bar| bar.epoch.known()).collect();
        epochs.sort_unstable();
        epochs.dedup();
        let mut nameless: Vec<Nanos> = bars().filter(|bar| bar.epoch.is_none()).map(|bar| bar.from).collect();
        nameless.sort_unstable();
        for bar in self.lanes.iter_mut().flat_map(|lane| &mut lane.reigns) {
            bar.rank = match bar.epoch.known() {
                Some(epoch) => epochs.partition_point(|e| *e < epoch),
                None => epochs.len() + nameless.partition_point(|from| *from < bar.from),
            };
            if let Some(token) = bar.token.filter(|token| *token != Token::NONE) {
                self.tokens.insert(token, bar.rank);
            }
        }
        self.epochs = epochs;
    }

    /// The lane of a host.
    pub fn lane(&self, host: Name) -> Option<usize> {
        self.lanes.iter().position(|l| l.host.name == host)
    }

    /// The storage's lane.
    pub fn storage(&self) -> Option<usize> {
        self.lanes.iter().position(|l| l.host.role == HostRole::Storage)
    }

    /// How many reigns began.
    pub fn elections(&self) -> usize {
        self.lanes.iter().map(|l| l.reigns.len()).sum()
    }
}

struct Fold {
    picture: Picture,
    by_name: BTreeMap<Name, usize>,
    pending: BTreeMap<u32, usize>,
    aims: Vec<(Nanos, u32, Aimed)>,
    /// Whose processes may end by themselves just now.
    may_end: MayEnd,
}

impl Fold {
    fn new(header: &Header) -> Fold {
        let mut fold = Fold {
            picture: Picture::default(),
            by_name: BTreeMap::new(),
            pending: BTreeMap::new(),
            aims: Vec::new(),
            may_end: MayEnd::default(),
        };
        for host in &header.hosts {
            fold.add(*host);
        }
        fold
    }

    fn add(&mut self, host: HostSpec) -> usize {
        let lane = self.picture.lanes.len();
        self.picture.lanes.push(Lane::new(host));
        self.by_name.insert(host.name, lane);
        lane
    }

    /// A host that the header does not name gets a lane too: a picture must not hide what an odd history holds.
    fn lane(&mut self, name: Name) -> usize {
        match self.by_name.get(&name) {
            Some(lane) => *lane,
            None => self.add(HostSpec {
                name,
                role: HostRole::Member,
                asked: true,
            }),
        }
    }

    fn event(&mut self, event: &Event) {
        let now = event.time;
        self.picture.end = self.picture.end.max(now);
        self.picture.whole = false;
        self.may_end.event(event);
        match (&event.body, event.process) {
            (body, Process::Client(client)) if body.is_operation() => self.operation(event, client),
            (Body::Fault(step), _) | (Body::Heal(step), _) => {
                faults::step(&mut self.picture.faults, event, step);
                if event.kind == Kind::Ok {
                    self.acted(now, &step.action);
                }
            }
            (
                Body::Aim {
                    fault,
                    target,
                    hit,
                    why,
                },
                _,
            ) => {
                let (target, hit, why) = (*target, *hit, why.clone());
                self.aims.push((now, *fault, Aimed { target, hit, why }));
            }
            (Body::Phase { phase }, _) => self.phase(now, *phase),
            (Body::Aborted { why }, _) => self.picture.aborted = Some(why.clone()),
            (&Body::Stored { seq, token, by, .. }, _) => self.stored(now, token, Some(seq), by),
            (&Body::Rejected { token, by, .. }, _) => self.stored(now, token, None, by),
            (body, _) => self.said(now, body),
        }
    }

    fn stored(&mut self, time: Nanos, token: Token, seq: Option<u64>, by: Name) {
        let by = self.lane(by);
        self.picture.stores.push(StoreRow { time, token, seq, by });
    }

    fn phase(&mut self, now: Nanos, phase: Phase) {
        if let Some(last) = self.picture.phases.last_mut() {
            last.to = now;
        }
        match phase {
            Phase::End => self.picture.whole = true,
            phase => self.picture.phases.push(PhaseSpan {
                phase,
                from: now,
                to: now,
            }),
        }
    }

    fn operation(&mut self, event: &Event, client: u32) {
        let Some(host) = event.body.host() else { return };
        let lane = self.lane(host);
        if event.kind == Kind::Invoke {
            self.pending.insert(client, self.picture.ops.len());
            self.picture.ops.push(OpRow {
                start: event.time,
                end: event.time,
                index: event.index,
                lane,
                f: operation(&event.body),
                ended: Ended::Open,
            });
            return;
        }
        let Some(row) = self.pending.remove(&client).map(|i| &mut self.picture.ops[i]) else {
            return;
        };
        row.end = event.time;
        row.ended = match event.kind {
            Kind::Ok => Ended::Ok,
            Kind::Fail => Ended::Fail,
            Kind::Info | Kind::Invoke => Ended::Info,
        };
        let invoked = row.start;
        if let (
            Kind::Ok,
            Body::Observe {
                answer: Some(status), ..
            },
        ) = (event.kind, &event.body)
        {
            let said = Said::Answer { invoked, status };
            self.tell(lane, event.time, said);
        }
    }

    fn tell(&mut self, lane: usize, now: Nanos, said: Said) {
        self.picture.lanes[lane].hear(now, said);
    }

    fn said(&mut self, now: Nanos, body: &Body) {
        let Some(host) = body.host() else { return };
        let lane = self.lane(host);
        match body {
            &Body::Elected {
                epoch, token, reign, ..
            } => self.tell(lane, now, Said::Elected { epoch, token, reign }),
            Body::Deposed { reign, why, .. } => self.tell(lane, now, Said::Deposed { reign: *reign, why }),
            &Body::Started { incarnation, .. } => self.tell(lane, now, Said::Started { incarnation }),
            Body::Exited { how, .. } => {
                // On a bad disk it is what the fault does.
                if !self.may_end.contains(host) {
                    self.trouble(now, host, how);
                }
                self.tell(lane, now, Said::Exited { how });
            }
            Body::Garbage { what, .. } => self.trouble(now, host, what),
            _ => {}
        }
    }

    fn trouble(&mut self, now: Nanos, host: Name, what: &str) {
        self.picture.all_troubles += 1;
        if self.picture.troubles.len() < Picture::MAX_TROUBLES {
            self.picture.troubles.push((now, host, what.to_string()));
        }
    }

    fn acted(&mut self, now: Nanos, action: &Action) {
        let (hosts, state) = match action {
            Action::Kill { hosts, .. } => (hosts, Said::Killed),
            Action::Pause { hosts } => (hosts, Said::Paused),
            Action::Resume { hosts } => (hosts, Said::Resumed),
            Action::Start { .. }
            | Action::Block { .. }
            | Action::Unblock { .. }
            | Action::Shape { .. }
            | Action::Clock { .. }
            | Action::Disk { .. } => return,
        };
        for host in hosts {
            let lane = self.lane(*host);
            self.tell(lane, now, state);
        }
    }

    fn finish(mut self) -> Picture {
        let p = &mut self.picture;
        for (time, number, aimed) in self.aims {
            faults::aim(&mut p.faults, time, number, aimed);
        }
        for lane in &mut p.lanes {
            lane.close(p.end);
        }
        p.rank();
        let mut asked = vec![false; p.lanes.len()];
        p.ops.iter().for_each(|op| asked[op.lane] = true);
        for (lane, asked) in p.lanes.iter_mut().zip(asked) {
            let name = lane.host.name;
            lane.low =
                !asked && lane.is_bare() && !p.faults.iter().any(|f| f.from.is_some() && f.targets.contains(&name));
        }
        for op in p.ops.iter_mut().filter(|op| op.ended == Ended::Open) {
            op.end = p.end;
        }
        if let Some(last) = p.phases.last_mut().filter(|_| !p.whole) {
            last.to = p.end;
        }
        self.picture
    }
}

fn operation(body: &Body) -> u8 {
    match body {
        Body::Write { .. } => WRITE,
        Body::Read { .. } => 2,
        Body::Campaign { .. } => 3,
        Body::Resign { .. } => 4,
        Body::Get { .. } => 5,
        Body::Set { .. } => 6,
        Body::Cas { .. } => 7,
        Body::Next { .. } => 8,
        Body::Run { .. } => 9,
        Body::Acquire { .. } => 10,
        Body::Release { .. } => 11,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
