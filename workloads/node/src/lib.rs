//! The processes around the pure cores: a member, the storage, and the client of the storage.
//!
//! - [`member`]: one protocol core, driven by tokio: standard streams, peers, storage, log and clock;
//! - [`wal`]: the write-ahead log that a member restarts from;
//! - `disk`: the layer between the log and the disk, where disk faults are made;
//! - [`transport`]: messages between members over TCP;
//! - [`storage`] and [`store_client`]: the resource that leaders write to, and the way to it;
//! - [`stdio`]: the candidate protocol on standard streams, for every candidate that is written in Rust;
//! - [`frame`]: the bytes of one record or message.
//!
//! Nothing here decides anything about an election: a fault that only this crate could cause is the harness's own bug.
// The crate is the boundary to the machine: it owns the clock, the files, the threads and the sockets.

mod disk;
pub mod frame;
mod lines;
mod link;
mod log;
pub mod member;
mod outbox;
pub mod stdio;
pub mod storage;
pub mod store_client;
pub mod transport;
pub mod wal;

/// The cores that the processes drive, for whoever deploys them or speaks to the storage.
pub use splitbrain_protocols as protocols;
