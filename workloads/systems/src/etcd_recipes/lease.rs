//! The clock of a session: when a lease is to be kept alive, and when its owner must take it for lost.
//!
//! These are the rules of etcd's Go client (`clientv3/lease.go`, the same in 3.4 and 3.5), without its goroutines:
//!
//! - a keepalive is sent when a third of the time to live has passed since the last *answer*, and then at every look
//!   until there is an answer; a look comes every 500 ms (`sendKeepAliveLoop`, `retryConnWait`);
//! - an answer moves the deadline to a full time to live after the answer *arrived* (`recvKeepAlive`), which is later
//!   than the server thinks by as long as the answer travelled;
//! - an answer without time to live means that the lease is gone: the session ends at once;
//! - every 500 ms the deadline is looked at, and the session ends if it has passed (`deadlineLoop`). Between deadline
//!   and look the owner still believes. This, and pauses, is what fencing tokens are for: nothing here makes it safer.
//!
//! Before the first answer the client assumes five seconds (`defaultTTL`).
use splitbrain_core::Nanos;

/// Between two looks at whether to send, and between two looks at the deadline.
pub const LOOK_EVERY: Nanos = Nanos::millis(500);
/// Assumed before the first answer.
const ASSUMED: Nanos = Nanos::secs(5);

/// One lease as its owner sees it. Times are the owner's own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    deadline: Nanos,
    send_after: Nanos,
    gone: bool,
}

impl Lease {
    /// A lease that was granted and is to be kept alive from `now` on.
    pub fn new(now: Nanos) -> Lease {
        Lease {
            deadline: now + ASSUMED,
            send_after: now,
            gone: false,
        }
    }

    /// Whether a keepalive is to be sent at the look at `now`.
    pub fn is_due(&self, now: Nanos) -> bool {
        self.send_after < now
    }

    /// A keepalive's answer arrived. Once the session ended none counts any more.
    pub fn answered(&mut self, now: Nanos, ttl_seconds: u64) {
        if ttl_seconds == 0 {
            self.gone = true;
            return;
        }
        let ttl = Nanos(ttl_seconds.saturating_mul(1_000_000_000));
        self.deadline = now + ttl;
        self.send_after = now + Nanos(ttl.0 / 3);
    }

    /// The server said that there is no such lease.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the look at `now` finds the deadline passed.
    pub fn is_late(&self, now: Nanos) -> bool {
        self.deadline < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the looks at these milliseconds find: `s`end, `l`ate, or `.`.
    fn looks(lease: &Lease, at: &[u64]) -> String {
        let look = |ms: &u64| match Nanos::millis(*ms) {
            now if lease.is_late(now) => 'l',
            now if lease.is_due(now) => 's',
            _ => '.',
        };
        at.iter().map(look).collect()
    }

    #[test]
    fn before_the_first_answer_five_seconds_are_assumed() {
        let lease = Lease::new(Nanos::millis(100));
        assert_eq!(looks(&lease, &[100, 101, 5100, 5101]), ".ssl");
    }

    #[test]
    fn a_third_of_the_time_to_live_after_the_answer_it_is_due_and_after_all_of_it_late() {
        let mut lease = Lease::new(Nanos::ZERO);
        lease.answered(Nanos::millis(1000), 3);
        assert_eq!(looks(&lease, &[1001, 2000, 2001, 4000, 4001]), "..ssl");
        // The answer counts from when it arrived, however long ago the server sent it.
        lease.answered(Nanos::millis(3900), 3);
        assert_eq!(looks(&lease, &[4001, 4900, 4901, 6900, 6901]), "..ssl");
        assert!(!lease.is_gone());
    }

    #[test]
    fn an_answer_after_a_long_pause_gives_a_full_time_to_live_again() {
        let mut lease = Lease::new(Nanos::ZERO);
        lease.answered(Nanos::ZERO, 3);
        assert!(lease.is_late(Nanos::secs(60)));
        lease.answered(Nanos::secs(60), 3);
        assert!(!lease.is_late(Nanos::secs(62)));
    }

    #[test]
    fn an_answer_without_time_to_live_ends_it_at_once() {
        let mut lease = Lease::new(Nanos::ZERO);
        lease.answered(Nanos::millis(10), 0);
        assert!(lease.is_gone());
        assert!(!lease.is_late(Nanos::millis(10)));
    }
}
