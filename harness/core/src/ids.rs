//! The numbers of an election.
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

    };
}

macro_rules! plain {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

plain! { Reign }

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

impl Epoch {
    /// Of a system whose leaderships have no number: it orders nothing and equals nobody's.
    pub const NONE: Epoch = Epoch(0);

    /// Itself, unless it is [`Epoch::NONE`].
    pub fn known(self) -> Option<Epoch> {
        (!self.is_none()).then_some(self)
    }

    /// Whether this is [`Epoch::NONE`].
    pub fn is_none(&self) -> bool {
        *self == Epoch::NONE
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Epoch::NONE => f.pad("none"),
            Epoch(number) => number.fmt(f),
        }
    }
}

impl Token {
    /// What a system without fencing tokens writes with: it fences nobody.
    pub const NONE: Token = Token(0);
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Token::NONE => f.pad("none"),
            Token(number) => number.fmt(f),
        }
    }
}
