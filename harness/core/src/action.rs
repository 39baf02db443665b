//! The primitive changes that a nemesis asks of an environment.
//!
//! A fault ("isolate the leader") becomes actions ("block n1>n2, n2>n1, ..."), which every environment carries out in
//! its own way: N environments + M faults, never N x M. An action is *verified where it acts*: the environment answers
//! with [`Proof`]s (the packet really was dropped, the process really stopped) or with an error. Actions are absolute
//! and idempotent per link or host: blocking a blocked link is no error, and one unblock undoes both. Whoever overlaps
//! faults counts them (the nemesis does).
use crate::name::Name;
use crate::time::{self, Nanos};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who sends.
    pub src: Name,
    /// Who receives.
    pub dst: Name,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.src, self.dst)
    }
}

impl Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Link, D::Error> {
        use serde::de::Error;
        let s = String::deserialize(d)?;
        let (src, dst) = s
            .split_once('>')
            .ok_or_else(|| D::Error::custom(format!("'{s}' is no link (src>dst)")))?;
        Ok(Link {
            src: src.parse().map_err(D::Error::custom)?,
            dst: dst.parse().map_err(D::Error::custom)?,
        })
    }
}

/// What a link does to the packets it carries. All zero is a clean link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Shape {
    /// Added to each packet's way.
    #[serde(with = "time::text")]
    pub delay: Nanos,
    /// Up to this much more or less than `delay`, uniform.
    #[serde(with = "time::text")]
    pub jitter: Nanos,
    /// Lost packets per million.
    pub loss_ppm: u32,
    /// Packets sent twice, per million.
    pub duplicate_ppm: u32,
    /// Packets sent without the delay, and so before others, per million.
    pub reorder_ppm: u32,
    /// Packets with one flipped bit, per million.
    pub corrupt_ppm: u32,
    /// Bytes per second; 0 is unlimited.
    pub rate: u64,
}

/// One primitive change, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Action {
    /// End every process of ours on these hosts at once, as SIGKILL does; nothing unsynced is lost.
    Kill {
        /// On these hosts.
        hosts: Vec<Name>,
    },
    /// Start the hosts' processes again, from their disks.
    Start {
        /// On these hosts.
        hosts: Vec<Name>,
    },
    /// Stop every process on these hosts, as SIGSTOP does: alive, with open connections, and doing nothing.
    Pause {
        /// On these hosts.
        hosts: Vec<Name>,
    },
    /// Let them go on.
    Resume {
        /// On these hosts.
        hosts: Vec<Name>,
    },
    /// Drop every packet on these links.
    Block {
        /// Directions.
        links: Vec<Link>,
    },
    /// Carry packets on these links again.
    Unblock {
        /// Directions.
        links: Vec<Link>,
    },
    /// Give these links a shape, in place of the one they have.
    Shape {
        /// Directions.
        links: Vec<Link>,
        /// What they do to packets; the default shape is a clean link.
        shape: Shape,
    },
}

/// What was seen where an action acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The host or link: `n1`, `n1>n2`.
    pub at: String,
    /// What was seen there, in a few words: `probe dropped`, `stopped by signal 19`.
    pub saw: String,
}
