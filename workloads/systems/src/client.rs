//! What the systems whose candidates are clients of installed servers have in common: the hosts, and the candidates' part
//! of a plan.
//!
//! Servers are `s1` and up, candidates `c1` and up on hosts of their own, the storage is last.
use crate::contender::Common;
use crate::options::{self, count};
use crate::raft::storage_host;
use splitbrain_core::plan::Workload;
use splitbrain_core::{HostRole, HostSpec, Name, Nanos, Plan, ProcessSpec};

/// Candidates unless the plan says otherwise.
const CANDIDATES: usize = 3;

/// What a [`crate::contender::Contender`] can be asked.
pub(crate) const OPERATIONS: &[&str] = &[
    "observe", "write", "read", "next", "run", "acquire", "release", "campaign", "resign",
];

pub(crate) const WORK_OPTION: (&str, &str) = (
    "work",
    "how long a leader's work takes between its look at whether it leads and its write (20ms)",
);

/// The hosts, with `servers` servers unless the plan says otherwise.
pub(crate) fn hosts(plan: &Plan, servers: usize) -> Vec<HostSpec> {
    let mut hosts = options::hosts("s", count(plan.nodes, servers), HostRole::Server, false);
    hosts.extend(options::hosts(
        "c",
        count(plan.candidates, CANDIDATES),
        HostRole::Candidate,
        true,
    ));
    hosts.push(storage_host());
    hosts
}

/// The servers' names.
pub(crate) fn servers(plan: &Plan, servers: usize) -> Vec<Name> {
    (1..=count(plan.nodes, servers))
        .map(|n| Name::numbered("s", n))
        .collect()
}

/// Checks the options that all of them know.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    work(plan).map(drop)
}

/// A process for each candidate, by its number from 0 and what every candidate is told. Panics if [`check`] refuses the
/// plan.
pub(crate) fn candidates(plan: &Plan, process: impl Fn(usize, Common) -> ProcessSpec) -> Vec<ProcessSpec> {
    let work = work(plan).expect("a plan is checked before it is deployed");
    let candidate = |n| {
        process(
            n,
            Common {
                host: Name::numbered("c", n + 1),
                work,
                on_demand: plan.workload == Workload::Lock,
            },
        )
    };
    (0..count(plan.candidates, CANDIDATES)).map(candidate).collect()
}

fn work(plan: &Plan) -> Result<Nanos, String> {
    options::time_or_none(plan, WORK_OPTION.0, Nanos::millis(20))
}
