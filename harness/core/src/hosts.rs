//! What a plan says of the machines it runs on: the sections `[hosts]`, `[docker]`, `[ssh]` and `[vagrant]`.
//!
//! ```toml
//! [hosts]
//! dead-man = "10s"       # hosts heal themselves when control was silent for so long
//! clock = "auto"         # or "process", or "host": whose clock a clock fault moves
//!
//! [docker]
//! base-image = "my-debian:12"
//! mounts = ["/opt/etcd"]
//!
//! [ssh]
//! hosts = ["root@10.0.0.1", "admin@10.0.0.2:2222", "admin@10.0.0.3"]
//! identity = "~/.ssh/id_ed25519"
//! network = "10.0.0.0/24"
//!
//! [vagrant]
//! dir = "environments/vagrant"
//! ```
use crate::time::{self, Nanos};
use serde::{Deserialize, Serialize};

/// What all environments with real hosts heed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hosts {
    /// A host that hears nothing from control for so long ends our processes and undoes all that we did to it.
    #[serde(with = "time::text")]
    pub dead_man: Nanos,
    /// Whose clock a clock fault moves.
    pub clock: ClockOf,
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts {
            dead_man: Nanos::secs(10),
            clock: ClockOf::Auto,
        }
    }
}

/// Whose clock a clock fault moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockOf {
    /// The host's where it is its own and can do what is asked; else each process's.
    #[default]
    Auto,
    /// Each process's, through the vDSO that it reads its clocks by.
    Process,
    /// The host's. Refused where the host shares it with control or with another host.
    Host,
}

/// Where `docker` gets its containers from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Docker {
    /// An image to use as it is; one is built from `environments/docker/Dockerfile` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the Dockerfile starts from, for machines without a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// Folders of the engine's machine that containers see, read-only: `PATH`, or `PATH:PATH_INSIDE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
}

/// Where `ssh` finds its hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ssh {
    /// `[USER@]HOST[:PORT]`, in the order of the plan's hosts. There may be more than needed.
    pub hosts: Vec<String>,
    /// A private key. Without one the agent is asked, then the usual files in `~/.ssh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Instead of `~/.ssh/known_hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// What to do with a host key that is not known.
    pub host_keys: HostKeys,
    /// `[USER@]HOST[:PORT]` of a host through which all others are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
    /// The network of the cluster's own traffic, as `10.0.0.0/24`; needed where a host has several addresses and is not
    /// reached at one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// What to do with a host key that is not known. One that is known and differs is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeys {
    /// Refuse it.
    #[default]
    Check,
    /// Take it, and write it down.
    AcceptNew,
}

/// Where `vagrant` finds its machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Vagrant {
    /// The folder of the Vagrantfile.
    pub dir: String,
}

impl Default for Vagrant {
    fn default() -> Vagrant {
        Vagrant {
            dir: "environments/vagrant".to_string(),
        }
    }
}
