//! A machine that is not ours: how control gets its program there and talks to it.
//!
//! All that a backend (docker, ssh, vagrant) has to do is [`Remote`]: bring our program there, start it as the host's
//! *agent* ([`crate::agent`]) with the rights that faults need, and hand over one stream. Everything else (processes, logs,
//! actions, proofs, healing) goes over that stream and is the same for all of them ([`crate::fleet`]).
use anyhow::Result;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What the agent is called with, after the program's own name and before its arguments.
pub const AGENT: &str = "steward";

/// A reachable machine, before anything of ours runs there.
pub trait Remote: Send + Sync {
    /// For people: `container splitbrain-7f3a-n1`, `ssh host root@10.0.0.1:22`. Errors start with it.
    fn describe(&self) -> String;

    /// Copies `program` there unless the same content is there already, and starts it as `AGENT args...` with the rights of
    /// root. The stream is the agent's standard input and output; its standard error goes to `log`. When the stream is
    /// dropped or the machine is gone, the agent reads the end of its input.
    ///
    /// Bounded in time (30 s); errors name the machine and the remedy.
    fn start_agent(&self, program: &Path, args: &[String], log: std::fs::File) -> Result<UnixStream>;

    /// Its address in the cluster's network where the backend knows it; else the agent's own addresses decide.
    fn address(&self) -> Option<IpAddr>;

    /// Lets go of the machine after the agent has ended: ends connections, removes what the backend made. Bounded in time;
    /// an error is told and changes nothing else. May be called twice.
    fn release(&self) -> Result<()>;
}
