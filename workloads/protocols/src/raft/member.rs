//! A member: Raft with the candidate protocol around it.
use crate::raft::{Mutant, Tuning};
use crate::{Input, Output, Protocol};
use splitbrain_core::seed::Rng;
use splitbrain_core::{Name, Nanos};

/// Who a member is, and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// This member.
    pub name: Name,
    /// All members, this one included.
    pub peers: Vec<Name>,
    /// Timers and switches.
    pub tuning: Tuning,
    /// How it is broken on purpose, if at all.
    pub mutant: Option<Mutant>,
}

/// One member of a Raft cluster: server and candidate in one.
pub struct Member {}

impl Member {
    /// A member that starts from what its last life left on disk; the error names the record that is wrong.
    pub fn new(config: MemberConfig, records: Vec<Vec<u8>>, rng: Rng) -> Result<Member, String> {
        let _ = (config, records, rng);
        Ok(Member {})
    }
}

impl Protocol for Member {
    fn step(&mut self, _now: Nanos, _input: Input) -> Vec<Output> {
        Vec::new()
    }
    fn deadline(&self) -> Nanos {
        Nanos::MAX
    }
}
