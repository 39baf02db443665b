//! What has happened and was not yet polled.
//!
//! Candidates are not to be trusted with control's memory: each host may have a bounded number of happenings waiting;
//! then its reader waits, then its pipe fills, then the host itself waits. What control itself posts is never held up.
use splitbrain_core::{Happening, Name, Nanos};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// Most happenings of one host that wait.
const PER_HOST: usize = 512;

/// Something that happened.
#[derive(Debug)]
pub(super) struct Item {
    /// When control came to know of it.
    pub at: Nanos,
    /// Of which host, in which of its lives; `None` for what is no single host's.
    pub of: Option<(Name, u32)>,
    /// What.
    pub what: Happening,
}

#[derive(Default)]
struct State {
    /// With the host that offered it; `None` for control's own.
    items: VecDeque<(Option<Name>, Item)>,
    offered: BTreeMap<Name, usize>,
    closed: bool,
}

/// A queue with room for everybody.
#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// From control: never waits.
    pub fn post(&self, item: Item) {
        self.lock().items.push_back((None, item));
        self.filled.notify_one();
    }

    /// From a host: waits while too much of it waits. False once the mailbox is closed.
    pub fn offer(&self, host: Name, item: Item) -> bool {
        let mut state = self.lock();
        while !state.closed && state.offered.get(&host).is_some_and(|waiting| *waiting >= PER_HOST) {
            state = self.emptied.wait(state).expect("no holder panics");
        }
        if state.closed {
            return false;
        }
        *state.offered.entry(host).or_default() += 1;
        state.items.push_back((Some(host), item));
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The oldest item, waiting for one until `until`.
    pub fn take(&self, until: Instant) -> Option<Item> {
        let mut state = self.lock();
        loop {
            if let Some((host, item)) = state.items.pop_front() {
                if let Some(waiting) = host.and_then(|host| state.offered.get_mut(&host)) {
                    *waiting -= 1;
                    if *waiting + 1 == PER_HOST {
                        self.emptied.notify_all();
                    }
                }
                return Some(item);
            }
            let left = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())?;
            state = self.filled.wait_timeout(state, left).expect("no holder panics").0;
        }
    }

    /// Lets go everybody who waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    fn item(n: u64) -> Item {
        Item {
            at: Nanos(n),
            of: None,
            what: Happening::Broken(n.to_string()),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_flood_waits_and_nobody_else_does() {
        let mailbox = Arc::new(Mailbox::default());
        let [loud, calm]: [Name; 2] = ["n1", "n2"].map(|name| name.parse().unwrap());
        let total = PER_HOST as u64 * 3;
        let flood = thread::spawn({
            let mailbox = mailbox.clone();
            move || (0..total).all(|n| mailbox.offer(loud, item(n)))
        });
        while mailbox.lock().offered.get(&loud) != Some(&PER_HOST) {
            thread::yield_now();
        }
        assert!(mailbox.offer(calm, item(total)));
        mailbox.post(item(total));
        assert!(mailbox.lock().items.len() <= PER_HOST + 2);
        let got: Vec<u64> = (0..total + 2).map(|_| mailbox.take(soon()).unwrap().at.0).collect();
        assert!(flood.join().unwrap());
        assert!(got.iter().filter(|n| **n < total).is_sorted());
        assert!(mailbox.take(Instant::now()).is_none());
    }

    #[test]
    fn closing_lets_go_of_a_flood() {
        let mailbox = Arc::new(Mailbox::default());
        let host: Name = "n1".parse().unwrap();
        let flood = thread::spawn({
            let mailbox = mailbox.clone();
            move || while mailbox.offer(host, item(0)) {}
        });
        mailbox.take(soon()).unwrap();
        mailbox.close();
        flood.join().unwrap();
    }
}
