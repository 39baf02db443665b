//! Blocks, unblocks and shapes, with proof.
//!
//! A probe is a UDP packet from one host to another: sent from a socket inside the one's network namespace, awaited at a
//! socket inside the other's, and so carried by the same cable and switch as the traffic of the system under test. It
//! needs no process on either host; a paused or dead host is probed like any other.
//!
//! - A link is *blocked* when the switch's count of blocked frames on it rose after the block was set, and no probe
//!   arrived. The switch counts what was sent before it is asked, so this takes one round and no waiting.
//! - A link is *open* when a probe arrived, and where the shape delays or has a rate, no earlier than it may.
//! - A link is *shaped* when a burst of probes showed each effect of the shape in the switch's counts or at the
//!   receiver, and nothing that the shape forbids ([`super::effects`]).
//!
//! Caveat: what is neither seen nor counted in time is an error, never a guess.
use super::effects::{Effects, MAX_PAYLOAD, Seen};
use super::net::{Host, PROBE_PORT};
use super::switch::{Counters, Switch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use splitbrain_core::{Link, Name, Proof, Shape};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What a link must now be like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// It drops everything.
    Blocked,
    /// It carries, in this shape.
    Open(Shape),
}

/// Probes links.
pub(super) struct Prober<'a> {
    pub hosts: &'a BTreeMap<Name, Host>,
    pub switch: &'a Switch,
}

const MAGIC: &[u8; 8] = b"sb-probe";
/// Until an unanswered probe is sent again; twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(2);
/// Most probes from one host between two looks.
const ROUND: u32 = 64;
const LAST_RETRY: Duration = Duration::from_millis(50);

struct Check {
    link: Link,
    expect: Expect,
    /// Of an open link.
    effects: Effects,
    seen: Seen,
    began: Option<Instant>,
    due: Instant,
    retry: Duration,
    sent: u32,
    done: bool,
}

struct Arrival {
    check: usize,
    after: Duration,
}

impl Prober<'_> {
    /// Proves that each link is as expected, or says which is not. `patience` is for the whole batch, delays not
    /// counted.
    pub fn verify(&self, links: &[(Link, Expect)], patience: Duration) -> Result<Vec<Proof>, String> {
        let counters = self.counters()?;
        let start = Instant::now();
        let mut checks = Vec::new();
        for (link, expect) in links {
            let before = counters
                .get(link)
                .ok_or_else(|| format!("{link} is no link of this cluster"))?;
            checks.push(Check::new(*link, *expect, *before, start));
        }
        let slowest = checks.iter().map(|check| check.effects.slowest()).max();
        let deadline = start + patience + slowest.unwrap_or_default() * 2;
        let mut flying = BTreeMap::new();
        loop {
            self.send(&mut checks, &mut flying)?;
            let counters = self.counters()?;
            for arrival in self.arrivals(&flying)? {
                checks[arrival.check].arrived(arrival.after)?;
            }
            for check in &mut checks {
                check.counted(&counters[&check.link])?;
            }
            let open: Vec<&Check> = checks.iter().filter(|check| !check.done).collect();
            let Some(due) = open.iter().map(|check| check.due).min() else {
                break;
            };
            let now = Instant::now();
            if now >= deadline {
                let named: Vec<String> = open.iter().map(|check| check.missing()).collect();
                return Err(named.join("; "));
            }
            if due > now {
                self.wait(due.min(deadline).saturating_duration_since(now))?;
            }
        }
        Ok(checks.into_iter().map(Check::proof).collect())
    }

    fn counters(&self) -> Result<BTreeMap<Link, Counters>, String> {
        let all = self.switch.all_counters().map_err(|e| e.to_string())?;
        Ok(all.into_iter().collect())
    }

    /// One round: a share of each burst, so that no port is flooded with more than the switch takes at a time.
    fn send(&self, checks: &mut [Check], flying: &mut BTreeMap<u64, (usize, Instant)>) -> Result<(), String> {
        let mut sources: BTreeMap<Name, u32> = BTreeMap::new();
        for check in checks.iter().filter(|check| !check.done) {
            *sources.entry(check.link.src).or_default() += 1;
        }
        for (at, check) in checks.iter_mut().enumerate().filter(|(_, check)| !check.done) {
            for _ in 0..(ROUND / sources[&check.link.src]).max(1) {
                if Instant::now() < check.due {
                    break;
                }
                self.send_one(at, check, flying)?;
            }
        }
        Ok(())
    }

    fn send_one(
        &self,
        at: usize,
        check: &mut Check,
        flying: &mut BTreeMap<u64, (usize, Instant)>,
    ) -> Result<(), String> {
        let serial = serial();
        let mut bytes = [0; MAX_PAYLOAD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&serial.to_le_bytes());
        let (src, dst) = (&self.hosts[&check.link.src], &self.hosts[&check.link.dst]);
        let now = Instant::now();
        flying.insert(serial, (at, now));
        check.began.get_or_insert(now);
        match src.probe.send_to(&bytes[..check.effects.payload], (dst.ip, PROBE_PORT)) {
            Ok(_) => check.sent += 1,
            // Its own queue is full, as under a flood: a later round sends again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {
                check.due = now + FIRST_RETRY;
                return Ok(());
            }
            Err(error) => return Err(format!("send a probe on {}: {error}", check.link)),
        }
        if check.sent >= check.effects.probes {
            check.due = now + check.retry;
            check.retry = (check.retry * 2).min(LAST_RETRY.max(check.retry));
        }
        Ok(())
    }

    fn arrivals(&self, flying: &BTreeMap<u64, (usize, Instant)>) -> Result<Vec<Arrival>, String> {
        let mut arrivals = Vec::new();
        for (name, host) in self.hosts {
            let mut bytes = [0; MAX_PAYLOAD];
            loop {
                let (length, _): (usize, SocketAddr) = match host.probe.recv_from(&mut bytes) {
                    Ok(got) => got,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("receive probes on {name}: {error}")),
                };
                let serial = match bytes[..length].split_first_chunk::<8>() {
                    Some((MAGIC, rest)) => rest.first_chunk().copied().map(u64::from_le_bytes),
                    _ => None,
                };
                if let Some((check, sent)) = serial.and_then(|serial| flying.get(&serial)) {
                    let after = sent.elapsed();
                    arrivals.push(Arrival { check: *check, after });
                }
            }
        }
        Ok(arrivals)
    }

    fn wait(&self, at_most: Duration) -> Result<(), String> {
        let mut fds: Vec<PollFd> = self
            .hosts
            .values()
            .map(|host| PollFd::new(host.probe.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(at_most.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(format!("await probes: {error}")),
        }
    }
}

/// Unique in the sandbox's life, so that a late probe is never taken for a new one.
fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Check {
    fn new(link: Link, expect: Expect, before: Counters, now: Instant) -> Check {
        let effects = match expect {
            Expect::Blocked => Effects::of(Shape::default()),
            Expect::Open(shape) => Effects::of(shape),
        };
        Check {
            link,
            expect,
            retry: FIRST_RETRY + effects.slowest(),
            effects,
            seen: Seen {
                before,
                now: before,
                ..Seen::default()
            },
            began: None,
            due: now,
            sent: 0,
            done: false,
        }
    }

    /// A probe came. Fails if that may not be.
    fn arrived(&mut self, after: Duration) -> Result<(), String> {
        if matches!(self.expect, Expect::Blocked) {
            return Err(format!("{}: a probe arrived although the link is blocked", self.link));
        }
        self.seen.arrived += 1;
        self.seen.first.get_or_insert(after);
        self.seen.span = self.elapsed();
        self.allowed(Some(after))
    }

    /// The switch counted. Fails if it counted what may not be.
    fn counted(&mut self, now: &Counters) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
        self.seen.now = *now;
        self.seen.elapsed = self.elapsed();
        self.done = match self.expect {
            Expect::Blocked => self.seen.blocked() > 0,
            Expect::Open(_) => {
                self.allowed(None)?;
                self.sent >= self.effects.least && self.effects.missing(&self.seen).is_empty()
            }
        };
        Ok(())
    }

    fn allowed(&self, took: Option<Duration>) -> Result<(), String> {
        let forbidden = self.effects.forbidden(&self.seen, took);
        forbidden.map_or(Ok(()), |what| Err(format!("{}: {what}", self.link)))
    }

    fn elapsed(&self) -> Duration {
        self.began.map(|at| at.elapsed()).unwrap_or_default()
    }

    fn missing(&self) -> String {
        let what = match self.expect {
            Expect::Blocked => "none was counted as blocked".to_string(),
            Expect::Open(_) => self.effects.missing(&self.seen).join(", "),
        };
        format!("{}: of {} probes {what}", self.link, self.sent)
    }

    fn proof(self) -> Proof {
        let saw = match self.expect {
            Expect::Blocked => "probe dropped by the switch, not received".to_string(),
            Expect::Open(_) => self.effects.words(&self.seen),
        };
        Proof {
            at: self.link.to_string(),
            saw,
        }
    }
}
