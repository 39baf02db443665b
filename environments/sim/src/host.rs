//! A host: a disk that survives, and a process that may not.
use crate::clock::HostClocks;
use splitbrain_core::{Disk, HostRole, Name, Nanos};
use splitbrain_protocols::storage::{Storage, StoreRequest};
use splitbrain_protocols::{Input, Output, Protocol};
use std::collections::{BTreeSet, VecDeque};

/// A machine and what is on it.
pub(crate) struct Host {
    pub(crate) role: HostRole,
    /// Durable records, in order.
    pub(crate) disk: Vec<Vec<u8>>,
    /// How the disk is.
    pub(crate) bad: Disk,
    /// How its clocks go.
    pub(crate) clocks: HostClocks,
    /// Lives begun so far.
    pub(crate) incarnation: u32,
    /// `None` while the host is down.
    pub(crate) process: Option<Process>,
    /// When control hears the newest of what this host said: its pipe is in order.
    pub(crate) said_at: Nanos,
    /// When the host hears the newest of what control asked: this pipe is in order too.
    pub(crate) asked_at: Nanos,
}

impl Host {
    pub(crate) fn new(role: HostRole) -> Host {
        Host {
            role,
            disk: Vec::new(),
            bad: Disk::default(),
            clocks: HostClocks::default(),
            incarnation: 0,
            process: None,
            said_at: Nanos::ZERO,
            asked_at: Nanos::ZERO,
        }
    }

    /// What becomes of an input that reaches the host now. Every input asks this, and so does every verification of a
    /// kill, a start, a pause or a resume.
    pub(crate) fn admits(&self) -> Admission {
        match &self.process {
            None => Admission::Lost,
            Some(process) if process.paused => Admission::Held,
            Some(process) if process.stalled => Admission::Waits,
            Some(_) => Admission::Runs,
        }
    }
}

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is no process.
    Lost,
    /// It waits until the process goes on.
    Held,
    /// It waits, as the process does, for a disk that is full or slow.
    Waits,
    /// The process handles it now.
    Runs,
}

/// What runs in a process.
pub(crate) enum Program {
    /// A protocol's core.
    Core(Box<dyn Protocol>),
    /// The storage server.
    Storage(Storage),
}

/// Something that reaches a process.
#[derive(Clone, Debug)]
pub(crate) enum Stimulus {
    /// For a core.
    Input(Input),
    /// A core's deadline came; it may have moved before this is handled.
    Timer,
    /// For the storage.
    Store {
        /// Who asks.
        from: Name,
        /// In which of its lives.
        life: u32,
        /// What.
        request: StoreRequest,
    },
}

/// One life of a host's process.
pub(crate) struct Process {
    pub(crate) program: Program,
    pub(crate) paused: bool,
    /// Whether it stands still until the disk write under way is durable.
    pub(crate) stalled: bool,
    /// Whether that write waits for room.
    pub(crate) no_room: bool,
    /// The latest time that its core was told: by its own clock, which is not let fall.
    pub(crate) latest: Nanos,
    /// What came while it was paused or stood still, in order.
    pub(crate) held: VecDeque<Stimulus>,
    /// What the core wants done, in order, and could not be done yet: a disk write comes first.
    pub(crate) outbox: VecDeque<Output>,
    /// The disk write under way.
    pub(crate) writing: Option<Write>,
    /// When the timer event that counts is due; [`Nanos::MAX`] for none.
    pub(crate) timer_at: Nanos,
    /// Requests of control without an answer yet.
    pub(crate) asked: BTreeSet<u64>,
}

/// A disk write under way.
pub(crate) enum Write {
    /// Records to append; several if they were wanted back to back (group commit).
    Append(Vec<Vec<u8>>),
    /// All records, in place of those there are.
    Replace(Vec<Vec<u8>>),
}

impl Process {
    pub(crate) fn new(program: Program) -> Process {
        Process {
            program,
            paused: false,
            stalled: false,
            no_room: false,
            latest: Nanos::ZERO,
            held: VecDeque::new(),
            outbox: VecDeque::new(),
            writing: None,
            timer_at: Nanos::MAX,
            asked: BTreeSet::new(),
        }
    }

    /// Takes the next disk write from the front of the outbox, if one stands there.
    pub(crate) fn take_write(&mut self) -> Option<Write> {
        if let Some(Output::Compact(_)) = self.outbox.front() {
            let Some(Output::Compact(records)) = self.outbox.pop_front() else {
                unreachable!("the front was just seen");
            };
            return Some(Write::Replace(records));
        }
        let mut records = Vec::new();
        while let Some(Output::Persist(_)) = self.outbox.front() {
            if let Some(Output::Persist(record)) = self.outbox.pop_front() {
                records.push(record);
            }
        }
        (!records.is_empty()).then_some(Write::Append(records))
    }
}
