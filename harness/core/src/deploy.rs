//! How a service of the user's own is deployed: the plan's `[deploy]` section, for the system `candidate`.
//!
//! ```toml
//! [deploy]
//! servers = "etcd"                    # built-in servers; or a [deploy.server] of one's own, or none
//! tokens = true                       # whether leaders write under fencing tokens
//!
//! [deploy.candidate]
//! command = "python3 candidate.py"    # for the shell; speaks the candidate protocol
//! files = ["candidate.py"]            # beside the plan; copied into the directory in which the command runs
//! logs = ["candidate.log"]            # followed into the run's logs
//!
//! [deploy.candidate.lists]            # one pattern, filled in for each server, joined by commas
//! ENDPOINTS = "http://{ip}:2379"
//!
//! [deploy.server]
//! command = "./server --listen $SPLITBRAIN_IP:2379"
//! files = ["server"]
//! ports = [2379]                      # candidates first start once all servers take connections here
//!
//! [deploy.promises]
//! exclusion = "unless pause,clock"
//! ```
use crate::plan::FaultKind;
use crate::promise::{Guarantee, Holds};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A service of the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Deploy {
    /// Servers that are built in, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<String>,
    /// Whether leaders write under fencing tokens.
    pub tokens: bool,
    /// What runs on each candidate's host. It speaks the candidate protocol.
    pub candidate: Part,
    /// What runs on each server's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Part>,
    /// What the service promises, where that differs from what is assumed of every service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub promises: BTreeMap<Guarantee, Vow>,
}

impl Default for Deploy {
    fn default() -> Deploy {
        Deploy {
            servers: None,
            tokens: true,
            candidate: Part::default(),
            server: None,
            promises: BTreeMap::new(),
        }
    }
}

impl Deploy {
    /// Both kinds of process, each with its name in a plan.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Part)> {
        let server = self.server.as_mut().map(|part| ("server", part));
        std::iter::once(("candidate", &mut self.candidate)).chain(server)
    }
}

/// One kind of process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Part {
    /// For the shell, which it replaces: one command, no list of them.
    pub command: String,
    /// Files that are copied into the directory in which the command runs, under their own names without folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Of a server: where it takes connections once it can be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Files in that directory that are followed into the run's logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// Added to its environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Added to its environment: each a pattern with `{ip}` and `{name}`, filled in for each server, joined by commas.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, String>,
}

/// When a guarantee holds, as plans write it: `always`, `never`, `unless pause,clock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vow(pub Holds);

impl fmt::Display for Vow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Holds::Always => f.write_str("always"),
            Holds::Never => f.write_str("never"),
            Holds::Unless(kinds) => {
                let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                write!(f, "unless {}", names.join(","))
            }
        }
    }
}

impl FromStr for Vow {
    type Err = String;
    fn from_str(s: &str) -> Result<Vow, String> {
        let bad = || {
            let kinds = FaultKind::ALL.map(FaultKind::name).join(", ");
            format!("'{s}' is no promise: always, never, or 'unless' and some of {kinds}, comma separated")
        };
        let kind = |name: &str| FaultKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        match (s, s.strip_prefix("unless ")) {
            ("always", _) => Ok(Vow(Holds::Always)),
            ("never", _) => Ok(Vow(Holds::Never)),
            (_, Some(kinds)) => {
                let kinds: Option<Vec<FaultKind>> = kinds.split(',').map(kind).collect();
                kinds.map(|kinds| Vow(Holds::Unless(kinds))).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

impl Serialize for Vow {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Vow {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Vow, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_read_as_they_are_written() {
        for text in ["always", "never", "unless pause", "unless pause,clock"] {
            assert_eq!(text.parse::<Vow>().unwrap().to_string(), text);
        }
        assert_eq!(
            "unless pause, clock".parse::<Vow>().unwrap().to_string(),
            "unless pause,clock"
        );
        for text in ["", "sometimes", "unless", "unless ", "unless fire", "unless pause,"] {
            assert!(text.parse::<Vow>().unwrap_err().contains("partition, kill"), "{text}");
        }
    }
}
