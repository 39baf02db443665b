//! The primitive changes that a nemesis asks of an environment.
//!
//! A fault ("isolate the leader") becomes actions ("block n1>n2, n2>n1, ..."), which every environment carries out in
//! its own way: N environments + M faults, never N x M. An action is *verified where it acts*: the environment answers
//! with [`Proof`]s (the packet really was dropped, the process really stopped) or with an error. Actions are absolute
//! and idempotent per link or host: blocking a blocked link is no error, and one unblock undoes both. Whoever overlaps
//! faults counts them (the nemesis does).
use crate::name::Name;
use crate::time::{self, Nanos, Offset};
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

/// Which of the clocks that a process can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clocks {
    /// All of them.
    #[default]
    Both,
    /// The time of day, which leases and logs carry.
    Realtime,
    /// The time since boot, which timers count.
    Monotonic,
}

/// How the clocks that a host's processes read differ from the true ones. The default is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Skew {
    /// Which clocks.
    pub clocks: Clocks,
    /// Added to what they read, from the moment at which the skew acts: `1h`, `-200ms`.
    pub offset: Offset,
    /// How fast they go from then on, in millionths of the true rate.
    pub rate_ppm: u32,
    /// The offset is there and away by turns, each for so long; zero: it stays.
    #[serde(with = "time::text")]
    pub strobe: Nanos,
}

impl Skew {
    /// The rate of a true clock.
    pub const TRUE_RATE: u32 = 1_000_000;
    /// The slowest and the fastest rate that may be asked for.
    pub const RATES: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;
    /// The largest offset either way: ten years.
    pub const MOST: Offset = Offset(10 * 365 * 24 * 3600 * 1_000_000_000);

    /// Whether it leaves the clocks as they are.
    pub fn is_none(&self) -> bool {
        self.offset == Offset(0) && self.rate_ppm == Skew::TRUE_RATE
    }

    /// Whether it can be asked for; the error says what cannot.
    pub fn check(&self) -> Result<(), String> {
        if !Skew::RATES.contains(&self.rate_ppm) {
            return Err(format!(
                "a clock's rate-ppm is {} to {} (1000000 is true), not {}",
                Skew::RATES.start(),
                Skew::RATES.end(),
                self.rate_ppm
            ));
        }
        if self.offset.0.unsigned_abs() > Skew::MOST.0.unsigned_abs() {
            return Err(format!("a clock's offset is at most ten years, not {}", self.offset));
        }
        if self.strobe > Nanos::ZERO && self.offset == Offset(0) {
            return Err("a strobe needs an offset that comes and goes".to_string());
        }
        Ok(())
    }
}

impl Default for Skew {
    fn default() -> Skew {
        Skew {
            clocks: Clocks::Both,
            offset: Offset(0),
            rate_ppm: Skew::TRUE_RATE,
            strobe: Nanos::ZERO,
        }
    }
}

/// In words: `realtime +1h`, `rate x0.5`, `-200ms every 300ms`.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match self.clocks {
            Clocks::Both => {}
            Clocks::Realtime => words.push("realtime".to_string()),
            Clocks::Monotonic => words.push("monotonic".to_string()),
        }
        if self.offset != Offset(0) {
            words.push(self.offset.to_string());
        }
        if self.strobe > Nanos::ZERO {
            words.push(format!("every {}", time::words(self.strobe)));
        }
        if self.rate_ppm != Skew::TRUE_RATE {
            words.push(format!("rate x{}", f64::from(self.rate_ppm) / 1e6));
        }
        if self.is_none() {
            words = vec!["true".to_string()];
        }
        f.write_str(&words.join(" "))
    }
}

/// What a host's disk does to its processes. The default is a healthy one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Disk {
    /// Writes fail, as on a volume without room.
    pub full: bool,
    /// Each sync takes so much longer.
    #[serde(with = "time::text")]
    pub sync_delay: Nanos,
    /// Syncs that fail with an input/output error, per million.
    pub sync_fail_ppm: u32,
}

impl Disk {
    /// The longest delay of a sync that may be asked for.
    pub const LONGEST_SYNC: Nanos = Nanos::secs(10);

    /// Whether it leaves the disk as it is.
    pub fn is_healthy(&self) -> bool {
        *self == Disk::default()
    }

    /// Whether a process that runs on it may do right to end by itself: it cannot keep what it must not forget.
    pub fn may_end_processes(&self) -> bool {
        self.full || self.sync_fail_ppm > 0
    }

    /// Whether it can be asked for; the error says what cannot.
    pub fn check(&self) -> Result<(), String> {
        if self.sync_fail_ppm > 1_000_000 {
            return Err(format!(
                "a disk's sync-fail-ppm is {}, and 1000000 is every sync",
                self.sync_fail_ppm
            ));
        }
        if self.sync_delay > Disk::LONGEST_SYNC {
            return Err(format!(
                "a disk's sync-delay is at most {}, not {}",
                Disk::LONGEST_SYNC,
                self.sync_delay
            ));
        }
        Ok(())
    }
}

/// In words: `full`, `syncs take 200ms longer`, `3% of syncs fail`.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.full {
            words.push("full".to_string());
        }
        if self.sync_delay > Nanos::ZERO {
            words.push(format!("syncs take {} longer", time::words(self.sync_delay)));
        }
        if self.sync_fail_ppm > 0 {
            words.push(format!("{}% of syncs fail", f64::from(self.sync_fail_ppm) / 1e4));
        }
        if words.is_empty() {
            words.push("healthy".to_string());
        }
        f.write_str(&words.join(", "))
    }
}

/// What a kill does to what was written and not yet synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsynced {
    /// It stays, as by SIGKILL: the kernel has it.
    #[default]
    Kept,
    /// It is lost, as by a power cut.
    Lost,
    /// A part of the last write is on the disk, the rest is lost.
    Torn,
}

impl Unsynced {
    /// Whether the kill is an ordinary one.
    pub fn is_kept(&self) -> bool {
        *self == Unsynced::Kept
    }
}

/// One primitive change, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Action {
    /// End every process of ours on these hosts at once, as SIGKILL does.
    Kill {
        /// On these hosts.
        hosts: Vec<Name>,
        /// What becomes of unsynced writes; absent in a history: they stay.
        #[serde(default, skip_serializing_if = "Unsynced::is_kept")]
        unsynced: Unsynced,
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
    /// Skew the clocks that these hosts' processes read, in place of the skew they have. Processes that start later on
    /// these hosts get it too.
    Clock {
        /// On these hosts.
        hosts: Vec<Name>,
        /// The default skew makes the clocks true again.
        skew: Skew,
    },
    /// Make these hosts' disks misbehave, in place of how they do.
    Disk {
        /// On these hosts.
        hosts: Vec<Name>,
        /// The default disk is healthy.
        disk: Disk,
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
