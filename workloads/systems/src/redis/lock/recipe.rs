//! The lock of redis's documentation ("Distributed Locks with Redis", redis.io), call by call.
//!
//! **To acquire**, the key is set if it is not there, with a time to live, to a value that no other request has: 20 bytes of
//! `/dev/urandom`. On N independent instances all are asked at the same time ("multiplexing", as the document advises),
//! each for a time that is small compared with the time to live. The lock is held if a majority set the key and time is left:
//! *validity time = time to live - time elapsed since before the first was asked - clock drift*. The drift is taken as 1 %
//! of the time to live and 2 ms, as the document's first implementation does (redlock-rb). Else all are unlocked, also
//! those that were not seen to set the key.
//!
//! **To extend** it, a script sets the time to live anew if the key still has the value; it is extended if a majority did so
//! with time left. **To release** it, a script deletes the key if it still has the value.
//!
//! The single instance is the case N = 1 ("the foundation we'll use for the distributed algorithm"), but for one thing: what
//! is not held there is not unlocked, for the document says so only of Redlock.
use crate::redis::connection::{CallError, Connection};
use redis::{Cmd, Value};
use splitbrain_core::{Answer, Nanos, Outcome};
use std::fmt::Write;
use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const KEY: &str = "splitbrain/lock";
const EXTEND: &str =
    r#"if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("pexpire",KEYS[1],ARGV[2]) else return 0 end"#;
const RELEASE: &str =
    r#"if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end"#;
/// Between two attempts at least, and how much more at most.
const RETRY: (u64, u64) = (50, 150);

/// One lock, on one instance or more.
pub(super) struct Lock {
    instances: Vec<Rc<Connection>>,
    ttl: Nanos,
}

/// That a lock is held.
pub(super) struct Held {
    value: String,
    /// By the own monotonic clock.
    pub until: Instant,
}

/// What came of an extension.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// It is held until then.
    Until(Instant),
    /// So many instances answered that the key has another value, or none, that it is not held any more.
    Gone,
    /// Not known; what was held before still is, until it lapses.
    Unknown,
}

/// What one instance did.
#[derive(Debug)]
enum Did {
    Yes,
    No,
    Not(CallError),
}

impl Lock {
    pub(super) fn new(instances: &[SocketAddr], within: Duration, ttl: Nanos) -> Lock {
        let connection = |address: &SocketAddr| Rc::new(Connection::new(*address, within));
        Lock {
            instances: instances.iter().map(connection).collect(),
            ttl,
        }
    }

    /// Tries once.
    pub(super) async fn acquire(&self) -> Option<Held> {
        let value = random_value();
        let began = Instant::now();
        let mut set = redis::cmd("SET");
        set.arg(KEY).arg(&value).arg("NX").arg("PX").arg(self.milliseconds());
        let did = self.ask_all(&set).await;
        match self.valid_until(began, &did) {
            Some(until) => Some(Held { value, until }),
            None => {
                note("acquire the lock", &did);
                if self.instances.len() > 1 {
                    self.release(&value).await;
                }
                None
            }
        }
    }

    /// Tries once.
    pub(super) async fn extend(&self, held: &Held) -> Extension {
        let began = Instant::now();
        let did = self.ask_all(script(EXTEND, &held.value).arg(self.milliseconds())).await;
        note("extend the lock", &did);
        let refused = did.iter().filter(|did| matches!(did, Did::No)).count();
        match self.valid_until(began, &did) {
            Some(until) => Extension::Until(until),
            None if self.instances.len() - refused < self.majority() => Extension::Gone,
            None => Extension::Unknown,
        }
    }

    /// Lets go of what is held.
    pub(super) async fn unlock(&self, held: &Held) -> Outcome {
        self.release(&held.value).await
    }

    async fn release(&self, value: &str) -> Outcome {
        let did = self.ask_all(&script(RELEASE, value)).await;
        note("release the lock", &did);
        released(did)
    }

    /// How long to wait before the next attempt.
    pub(super) fn delay(&self) -> Duration {
        let [a, b] = random::<2>();
        Duration::from_millis(RETRY.0 + u64::from(u16::from_le_bytes([a, b])) * RETRY.1 / u64::from(u16::MAX))
    }

    fn majority(&self) -> usize {
        self.instances.len() / 2 + 1
    }

    fn milliseconds(&self) -> u64 {
        self.ttl.0 / Nanos::millis(1).0
    }

    /// Until when it is held, if it is, after what was asked at `began`.
    fn valid_until(&self, began: Instant, did: &[Did]) -> Option<Instant> {
        let set = did.iter().filter(|did| matches!(did, Did::Yes)).count();
        let until = began + Duration::from(validity(self.ttl));
        (set >= self.majority() && until > Instant::now()).then_some(until)
    }

    async fn ask_all(&self, command: &Cmd) -> Vec<Did> {
        let mut asked = JoinSet::new();
        for instance in &self.instances {
            let (instance, command) = (instance.clone(), command.clone());
            asked.spawn_local(async move { did(instance.ask(&command).await) });
        }
        asked.join_all().await
    }
}

/// For how long after it was asked for a lock is held.
fn validity(ttl: Nanos) -> Nanos {
    let drift = Nanos(ttl.0 / 100) + Nanos::millis(2);
    Nanos(ttl.0.saturating_sub(drift.0))
}

fn script(text: &str, value: &str) -> Cmd {
    let mut script = redis::cmd("EVAL");
    script.arg(text).arg(1).arg(KEY).arg(value);
    script
}

fn did(answer: Result<Value, CallError>) -> Did {
    match answer {
        Ok(Value::Okay | Value::Int(1)) => Did::Yes,
        Ok(Value::Nil | Value::Int(0)) => Did::No,
        Ok(other) => Did::Not(CallError::Lost(format!("an answer that is none: {other:?}"))),
        Err(error) => Did::Not(error),
    }
}

/// Where the key was not there any more it is released as well.
fn released(did: Vec<Did>) -> Outcome {
    let mut outcomes = did.into_iter().map(|did| match did {
        Did::Yes | Did::No => Outcome::Ok(Answer::Done),
        Did::Not(error) => error.outcome(),
    });
    let first = outcomes.next().expect("there is an instance");
    outcomes.fold(first, |all, one| match (all, one) {
        (Outcome::Ok(answer), Outcome::Ok(_)) => Outcome::Ok(answer),
        (Outcome::Fail(why), Outcome::Fail(_)) => Outcome::Fail(why),
        (Outcome::Info(why) | Outcome::Fail(why), _) | (_, Outcome::Info(why) | Outcome::Fail(why)) => {
            Outcome::Info(why)
        }
    })
}

/// For the process's own log.
fn note(what: &str, did: &[Did]) {
    for error in did {
        if let Did::Not(error) = error {
            eprintln!("failed to {what}: {error}");
        }
    }
}

/// Unique across all clients and all requests.
fn random_value() -> String {
    random::<20>().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.expect("every Linux has /dev/urandom");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(instances: u16) -> Lock {
        let address = |n| SocketAddr::from(([127, 0, 0, 1], n + 1));
        let addresses: Vec<_> = (0..instances).map(address).collect();
        Lock::new(&addresses, Duration::from_millis(50), Nanos::secs(3))
    }

    fn answers(text: &str) -> Vec<Did> {
        let answer = |c| match c {
            'y' => Did::Yes,
            'n' => Did::No,
            'u' => Did::Not(CallError::Unsent("refused".into())),
            '?' => Did::Not(CallError::Lost("timed out".into())),
            other => panic!("{other}"),
        };
        text.chars().map(answer).collect()
    }

    #[test]
    fn a_lock_is_held_by_a_majority_while_time_is_left() {
        let held = |text: &str, ago: u64| {
            let began = Instant::now() - Duration::from_millis(ago);
            let until = lock(text.len() as u16).valid_until(began, &answers(text));
            until.map(|until| (until - began).as_millis())
        };
        // 3 s less 1 % and 2 ms, counted from before anyone was asked.
        assert_eq!(held("y", 0), Some(2968));
        assert_eq!(held("yyynn", 0), Some(2968));
        assert_eq!(held("yyy?u", 1000), Some(2968));
        assert_eq!(held("yyyyy", 2969), None);
        for lost in ["n", "?", "u", "yynn?", "yy???", "yn"] {
            assert_eq!(held(lost, 0), None, "{lost}");
        }
    }

    #[test]
    fn what_may_still_be_locked_is_not_known_to_be_released() {
        let outcome = |text| released(answers(text));
        assert_eq!(outcome("y"), Outcome::Ok(Answer::Done));
        assert_eq!(outcome("ynyny"), Outcome::Ok(Answer::Done));
        assert!(matches!(outcome("u"), Outcome::Fail(_)));
        assert!(matches!(outcome("?"), Outcome::Info(_)));
        assert!(matches!(outcome("uuu"), Outcome::Fail(_)));
        for mixed in ["yyu", "uyy", "yy?", "uu?", "?uu"] {
            assert!(matches!(outcome(mixed), Outcome::Info(_)), "{mixed}");
        }
    }

    #[test]
    fn values_are_unique_and_delays_differ() {
        let (a, b) = (random_value(), random_value());
        assert_eq!((a.len(), b.len()), (40, 40));
        assert_ne!(a, b);
        let delays: Vec<_> = (0..50).map(|_| lock(1).delay().as_millis()).collect();
        assert!(delays.iter().all(|ms| (50..=200).contains(ms)), "{delays:?}");
        assert!(delays.iter().any(|ms| *ms != delays[0]), "{delays:?}");
    }
}
