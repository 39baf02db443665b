//! The numbers of an election.
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a leadership: Raft's term, Paxos's ballot, the create revision of an etcd election's key.
    Epoch
}
number! {
    /// What the storage compares to refuse an old leader.
    Token
}
number! {
    /// A candidate process's own unbroken belief that it leads, counted from 1 within one life of that process. A
    /// restarted process counts anew: reigns are told apart by (host, incarnation, reign).
    Reign
}
