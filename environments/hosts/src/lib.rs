//! The environments that touch machines.
//!
//! Everything that starts a process, opens a socket or enters a namespace is in this crate, so that the rest of the
//! harness can be simulated. It depends on nothing of ours but the shared vocabulary.
//!
//! - [`local`]: hosts are network namespaces inside one sandbox of our own, joined by a user-space switch. No root, no
//!   docker and no tool is needed;
//! - [`linux`]: what a host of any other kind does to its own links, with iptables and tc;
//! - [`docker`]: hosts are containers;
//! - [`fleet`]: hosts of any such kind as control holds them, by the [`agent`] on each;
//! - [`ssh`]: hosts are reached by SSH, those of vagrant among them;
//! - [`live`]: the [`splitbrain_core::World`] over such hosts: the processes' pipes, and actions with their proofs.
//! - [`clock`]: clock faults, per process or per host;
//! - [`own`]: our own program as a child, for many experiments;
//! - [`versions`]: which version of a program is installed here.
//!
//! Caveat: Linux only.
#![deny(missing_docs)]

#[macro_use]
mod note;

pub mod agent;
mod chances;
pub mod clock;
pub mod conform;
pub mod docker;
pub mod fleet;
pub mod fuse;
pub mod ground;
pub mod linux;
pub mod live;
pub mod local;
mod logs;
pub mod own;
mod processes;
pub mod remote;
mod sabotage;
mod shape;
pub mod ssh;
pub mod versions;

pub use sabotage::Sabotage;
