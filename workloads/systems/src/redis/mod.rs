//! Redis: its documented locks, and Sentinel's choice of a master.
//!
//! - [`lock`]: `redis-lock` and `redlock`, clients that take the lock which redis's documentation describes;
//! - [`sentinel`]: `redis-sentinel`, observed at every host;
//! - `server`: a server as it is installed; `connection`: the way to one.
mod connection;
pub mod lock;
pub mod sentinel;
mod server;
