//! The words of a leader-election test.
//!
//! Everything that two parts of Splitbrain must agree on stands here, and nothing that only one of them needs:
//!
//! - [`time`], [`name`], [`ids`]: when, who, and the numbers of an election (epoch, token, reign);
//! - [`op`]: what is asked of a candidate, and the three things that an answer may be (`ok`, `fail`, `info`);
//! - [`wire`]: the JSON lines that a candidate speaks on its standard streams;
//! - [`action`]: the primitive changes that a nemesis asks of an environment, and the proof that comes back;
//! - [`disk`]: how a disk fault is ordered of whatever stands between a process and its disk;
//! - [`event`] and [`history`]: what was recorded, as JSON Lines;
//! - [`compact`]: what of it tells of leadership, in records of one size;
//! - [`formats`]: histories of operations, whoever recorded them, in the forms of others;
//! - [`plan`], [`hosts`], [`system`], [`promise`]: the experiment, on which machines, what is deployed in it, and what
//!   that promises;
//! - [`verdict`]: what a checker says, with its evidence;
//! - [`world`], [`generator`], [`checker`]: the traits at the boundaries;
//! - [`seed`]: how one seed becomes many independent random streams.
//!
//! The crate is pure: it reads no clock, opens no file and starts no thread. All times are nanoseconds of the control
//! node's monotonic clock since the run's start ([`time::Nanos`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

#[cfg(test)]
extern crate self as splitbrain_core;

pub mod action;
pub mod checker;
pub mod compact;
pub mod deploy;
pub mod disk;
pub mod event;
pub mod formats;
pub mod generator;
pub mod history;
pub mod hosts;
pub mod ids;
mod json;
mod line;
pub mod name;
pub mod op;
pub mod plan;
pub mod promise;
pub mod seed;
pub mod system;
pub mod time;
pub mod verdict;
pub mod wire;
pub mod world;

pub use action::{Action, Clocks, Disk, Link, Proof, Shape, Skew, Unsynced};
pub use checker::Checker;
pub use disk::{DiskOrder, DiskProof};
pub use event::{Body, Event, Kind, Process};
pub use generator::{Command, Generator, Lane, Next, View};
pub use history::{Header, History};
pub use ids::{Epoch, Reign, Token};
pub use name::Name;
pub use op::{Answer, Op, Outcome, Role, Status};
pub use plan::Plan;
pub use promise::{Guarantee, Holds, Promise};
pub use system::{HostRole, HostSpec, Layer, Need, ProcessSpec, Site, System};
pub use time::{Nanos, Offset};
pub use verdict::{Anomaly, Severity, Validity, Verdict};
pub use world::{Happening, Unasked, World};
