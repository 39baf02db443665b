//! The servers that a service of the user's own can have without saying how to run them.
use crate::etcd::server as etcd;
use crate::zookeeper::server as zookeeper;
use splitbrain_core::{Name, Plan, ProcessSpec, Site};

/// Built-in servers of one kind.
pub(super) struct BuiltIn {
    name: &'static str,
    /// Where clients connect.
    pub port: u16,
    /// Whether they can be had.
    pub check: fn(&Plan) -> Result<(), String>,
    /// One of the cluster's servers.
    pub process: fn(&Plan, &Site, &[Name], Name) -> ProcessSpec,
}

const ALL: &[BuiltIn] = &[
    BuiltIn {
        name: "etcd",
        port: etcd::CLIENT_PORT,
        check: etcd::check,
        process: etcd::process,
    },
    BuiltIn {
        name: "zookeeper",
        port: zookeeper::CLIENT_PORT,
        check: zookeeper::check,
        process: zookeeper::process,
    },
];

/// Those that plans call `name`.
///
/// # Errors
/// There are none; what there is.
pub(super) fn find(name: &str) -> Result<&'static BuiltIn, String> {
    ALL.iter().find(|built_in| built_in.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|built_in| built_in.name).collect();
        format!(
            "there are no built-in servers '{name}': there is {}; or run your own, see [deploy.server]",
            known.join(", ")
        )
    })
}
