//! Raft, and the member of a cluster that speaks it.
//!
//! **Problem.** Several processes are to agree on one log, and on who leads, while processes die and return and the
//! network loses, delays, repeats and reorders what they say. Nobody can tell a dead process from a slow one.
//!
//! **Mechanism**, by the sections of Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014). Time is cut
//! into terms; a term has at most one leader, because it takes the votes of more than half of the members and each has
//! one vote a term (3.4). Only a leader adds to the log; followers take its entries where the entry before fits (3.5).
//! An entry is committed once a quorum has stored it in the leader's own term (3.6.2), and a candidate gets no vote
//! from a member whose log is newer (3.6.1): so every later leader holds every committed entry. Beyond that: members
//! ask before they raise the term (pre-vote, 9.6), a leader that hears no quorum steps down and who hears a leader
//! elects no other (6.2, 4.2.3), leadership can be handed over (3.10), reads ask a quorum and need no log entry
//! (ReadIndex, 6.4), and the log is compacted into snapshots (5).
//!
//! **Layers.** [`Raft`] knows terms, votes and logs as typed values, and [`Effect`]s come out of it in an order that a
//! driver must keep: term, vote and entries stand before whatever depends on them. [`Member`] puts bytes, the candidate
//! protocol and the storage around it, and is what drivers drive.
//!
//! **Durability.** Everything that leaves a Raft goes through one function, which writes a changed term or vote first;
//! entries are written where they are appended, before the reply or the count that rests on them. The commit index is
//! not written: after a restart it is found again, and entries since the last snapshot are applied again.
//!
//! **Caveats.** No membership changes (4). A snapshot is one message: the state is a register. Reads do not rest on
//! leases (6.4.1): clocks may be wrong here on purpose. A leader counts its own disk as part of the quorum and waits for
//! it. With pre-vote and check-quorum off, a cut-off member raises its term without end and disturbs when it returns;
//! with pre-vote on and check-quorum off, a leader that is heard but hears nobody is never replaced.
mod codec;
mod config;
mod core;
mod election;
mod event;
mod follower;
mod leader;
pub mod log;
mod member;
pub mod message;

pub use config::{Config, Mutant, Tuning};
pub use core::Raft;
pub use event::{Effect, Ended, Event};
pub use member::{Member, MemberConfig};
