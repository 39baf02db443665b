//! Raft, and the member of a cluster that speaks it.
mod config;
mod member;

pub use config::{Mutant, Tuning};
pub use member::{Member, MemberConfig};
