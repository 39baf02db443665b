//! The one loop that drives a world, the recorder that writes down what it saw, and the store that keeps it.
//!
//! - [`mod@drive`]: phases, operations, faults, until the end;
//! - [`recorder`]: history lines to disk, synced at least every 100 ms, without the loop ever waiting for it;
//! - [`store`]: the folders of runs, sealing, and reading old histories back.
//!
//! The loop uses only `splitbrain-core`: it cannot tell a simulated world from a real one, nor one system from another.
// The recorder and the store live on files, threads and wall-clock time; `drive` itself uses none of them.
#![deny(missing_docs)]

mod book;
mod conduct;
pub mod drive;
pub mod recorder;
pub mod store;

pub use drive::{Drive, Ended, Limits, drive};
pub use recorder::Recorder;
