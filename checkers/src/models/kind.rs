//! The names of the models, and what each stands for.
use super::Options;
use super::counter::CounterReading;
use super::gather::{Gather, Gathering};
use super::ids::{MonotoneReading, UniqueReading};
use super::jobs::JobReading;
use super::kv::KvReading;
use super::leadership::LeaderReading;
use super::locks::LockReading;
use super::permits::PermitReading;
use super::queue::QueueReading;
use super::register::RegisterReading;
use super::set::SetReading;

/// A model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// See [`Kind::sentence`], here and below.
    Register,
    #[allow(missing_docs)]
    CasRegister,
    #[allow(missing_docs)]
    RegisterMap,
    #[allow(missing_docs)]
    Kv,
    #[allow(missing_docs)]
    Mutex,
    #[allow(missing_docs)]
    OwnerMutex,
    #[allow(missing_docs)]
    ReentrantMutex,
    #[allow(missing_docs)]
    FencedMutex,
    #[allow(missing_docs)]
    ReentrantFencedMutex,
    #[allow(missing_docs)]
    Semaphore,
    #[allow(missing_docs)]
    Set,
    #[allow(missing_docs)]
    GrowOnlySet,
    #[allow(missing_docs)]
    UniqueIds,
    #[allow(missing_docs)]
    MonotoneIds,
    #[allow(missing_docs)]
    Counter,
    #[allow(missing_docs)]
    FifoQueue,
    #[allow(missing_docs)]
    LeaderPerEpoch,
    #[allow(missing_docs)]
    ExactlyOnce,
}

use Kind::*;

/// Each with its name and one sentence.
const ALL: [(Kind, &str, &str); 18] = [
    (Register, "register", "a value that is read and written"),
    (
        CasRegister,
        "cas-register",
        "a value that is read, written, and set if it is what was expected",
    ),
    (
        RegisterMap,
        "register-map",
        "a cas-register for each key; values are pairs [key value]",
    ),
    (Kv, "kv", "a string for each key, empty at first: get, put and append"),
    (
        Mutex,
        "mutex",
        "a lock that one at a time may hold, whoever releases it",
    ),
    (OwnerMutex, "owner-mutex", "a lock that only its holder may release"),
    (
        ReentrantMutex,
        "reentrant-mutex",
        "a lock that its holder may acquire again, up to a depth",
    ),
    (
        FencedMutex,
        "fenced-mutex",
        "a lock with a token for each acquisition; tokens strictly rise",
    ),
    (
        ReentrantFencedMutex,
        "reentrant-fenced-mutex",
        "a reentrant lock with one token for as long as it is held",
    ),
    (Semaphore, "semaphore", "permits of which only so many are out at once"),
    (Set, "set", "elements that are added, removed and asked for"),
    (
        GrowOnlySet,
        "grow-only-set",
        "elements that are added, and read as a whole",
    ),
    (UniqueIds, "unique-ids", "no id is handed out twice"),
    (
        MonotoneIds,
        "monotone-ids",
        "an id that is asked for after another was handed out is higher",
    ),
    (Counter, "counter", "a sum to which is added, and which is read"),
    (FifoQueue, "fifo-queue", "what was put in first comes out first"),
    (LeaderPerEpoch, "leader-per-epoch", "no two lead in the same epoch"),
    (
        ExactlyOnce,
        "exactly-once",
        "no job runs twice, and each that was acknowledged ran",
    ),
];

impl Kind {
    /// Every model, in the order of their listing.
    pub fn all() -> impl Iterator<Item = Kind> {
        ALL.iter().map(|(kind, ..)| *kind)
    }

    /// `cas-register`.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// What it stands for, as a fragment.
    pub fn sentence(self) -> &'static str {
        ALL[self as usize].2
    }

    /// The model of this name; an error is a fragment that lists the names.
    pub fn named(name: &str) -> Result<Kind, String> {
        let found = ALL.iter().find(|(_, n, _)| *n == name);
        found.map(|(kind, ..)| *kind).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|(_, name, _)| *name).collect();
            format!("no model is named {name}: there are {}", names.join(", "))
        })
    }

    /// Whether its objects are always told apart by a key.
    pub(super) fn is_keyed(self) -> bool {
        matches!(self, RegisterMap | Kv)
    }

    /// Reads a history of operations event by event.
    pub fn gathering(self, options: &Options) -> Box<dyn Gathering> {
        let failed = options.failed_cas;
        let (permits, depth) = (options.permits, options.depth);
        match self {
            Register | CasRegister | RegisterMap => Gather::boxed(self, options, move || RegisterReading::new(failed)),
            Kv => Gather::boxed(self, options, KvReading::default),
            Set => Gather::boxed(self, options, SetReading::<false>::new),
            GrowOnlySet => Gather::boxed(self, options, SetReading::<true>::new),
            Counter => Gather::boxed(self, options, CounterReading::default),
            FifoQueue => Gather::boxed(self, options, QueueReading::new),
            Mutex => Gather::boxed(self, options, PermitReading::mutex),
            Semaphore => Gather::boxed(self, options, move || PermitReading::semaphore(permits)),
            OwnerMutex => Gather::boxed(self, options, || LockReading::new(1, false)),
            ReentrantMutex => Gather::boxed(self, options, move || LockReading::new(depth, false)),
            FencedMutex => Gather::boxed(self, options, || LockReading::new(1, true)),
            ReentrantFencedMutex => Gather::boxed(self, options, move || LockReading::new(depth, true)),
            UniqueIds => Gather::boxed(self, options, UniqueReading::new),
            MonotoneIds => Gather::boxed(self, options, MonotoneReading::new),
            LeaderPerEpoch => Gather::boxed(self, options, LeaderReading::new),
            ExactlyOnce => Gather::boxed(self, options, JobReading::new),
        }
    }
}

#[test]
fn names_stand_in_the_order_of_the_kinds() {
    for (n, (kind, name, _)) in ALL.iter().enumerate() {
        assert_eq!(*kind as usize, n);
        assert_eq!(Kind::named(name), Ok(*kind));
    }
    assert!(Kind::named("stack").unwrap_err().contains("fifo-queue"));
}
