//! Blocks, unblocks and shapes, with proof.
//!
//! A probe is a UDP packet from one host to another: sent from a socket inside the one's network namespace, awaited at a
//! socket inside the other's, and so carried by the same cable and switch as the traffic of the system under test. It
//! needs no process on either host; a paused or dead host is probed like any other.
//!
//! - A link is *blocked* when the switch's count of blocked frames on it rose after the block was set, and no probe
//!   arrived. The switch counts what was sent before it is asked, so this takes one round and no waiting.
//! - A link is *open* when a probe arrived, and where the shape delays, no earlier than it may.
//! - Where the shape may lose or corrupt the probe, the switch's count of that is as good.
//!
//! Caveat: what is neither seen nor counted in time is an error, never a guess.
use super::net::{Host, PROBE_PORT};
use super::switch::{Counters, Switch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use splitbrain_core::{Link, Name, Nanos, Proof, Shape};
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
const LAST_RETRY: Duration = Duration::from_millis(50);

struct Check {
    link: Link,
    expect: Expect,
    before: Counters,
    due: Instant,
    retry: Duration,
    sent: u32,
    /// What was seen, once that is enough.
    saw: Option<String>,
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
            let slow = expect.slowest();
            checks.push(Check {
                link: *link,
                expect: *expect,
                before: *counters
                    .get(link)
                    .ok_or_else(|| format!("{link} is no link of this cluster"))?,
                due: start,
                retry: FIRST_RETRY + slow,
                sent: 0,
                saw: None,
            });
        }
        let slowest = checks
            .iter()
            .map(|check| check.expect.slowest())
            .max()
            .unwrap_or_default();
        let deadline = start + patience + slowest * 2;
        let mut flying = BTreeMap::new();
        loop {
            self.send(&mut checks, &mut flying)?;
            let counters = self.counters()?;
            for arrival in self.arrivals(&flying)? {
                checks[arrival.check].arrived(arrival.after)?;
            }
            for check in &mut checks {
                check.counted(&counters[&check.link]);
            }
            let open: Vec<&Check> = checks.iter().filter(|check| check.saw.is_none()).collect();
            let Some(due) = open.iter().map(|check| check.due).min() else {
                break;
            };
            let now = Instant::now();
            if now >= deadline {
                let named: Vec<String> = open.iter().map(|check| check.missing()).collect();
                return Err(named.join("; "));
            }
            self.wait(due.min(deadline).saturating_duration_since(now))?;
        }
        Ok(checks.into_iter().map(Check::proof).collect())
    }

    fn counters(&self) -> Result<BTreeMap<Link, Counters>, String> {
        let all = self.switch.all_counters().map_err(|e| e.to_string())?;
        Ok(all.into_iter().collect())
    }

    fn send(&self, checks: &mut [Check], flying: &mut BTreeMap<u64, (usize, Instant)>) -> Result<(), String> {
        for (at, check) in checks.iter_mut().enumerate().filter(|(_, check)| check.saw.is_none()) {
            if Instant::now() < check.due {
                continue;
            }
            let serial = serial();
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8..].copy_from_slice(&serial.to_le_bytes());
            let (src, dst) = (&self.hosts[&check.link.src], &self.hosts[&check.link.dst]);
            let now = Instant::now();
            flying.insert(serial, (at, now));
            match src.probe.send_to(&bytes, (dst.ip, PROBE_PORT)) {
                Ok(_) => {}
                // Its own queue is full, as under a flood: the next round sends again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {}
                Err(error) => return Err(format!("send a probe on {}: {error}", check.link)),
            }
            check.sent += 1;
            check.due = now + check.retry;
            check.retry = (check.retry * 2).min(LAST_RETRY.max(check.retry));
        }
        Ok(())
    }

    fn arrivals(&self, flying: &BTreeMap<u64, (usize, Instant)>) -> Result<Vec<Arrival>, String> {
        let mut arrivals = Vec::new();
        for (name, host) in self.hosts {
            let mut bytes = [0; 64];
            loop {
                let (length, _): (usize, SocketAddr) = match host.probe.recv_from(&mut bytes) {
                    Ok(got) => got,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("receive probes on {name}: {error}")),
                };
                let serial = match bytes[..length].split_first_chunk::<8>() {
                    Some((MAGIC, rest)) => rest.try_into().map(u64::from_le_bytes).ok(),
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

impl Expect {
    /// The longest that a probe may take on purpose.
    fn slowest(&self) -> Duration {
        match self {
            Expect::Blocked => Duration::ZERO,
            Expect::Open(shape) => (shape.delay + shape.jitter).into(),
        }
    }
}

impl Check {
    /// A probe came. Fails if that may not be.
    fn arrived(&mut self, after: Duration) -> Result<(), String> {
        let Expect::Open(shape) = self.expect else {
            return Err(format!("{}: a probe arrived although the link is blocked", self.link));
        };
        if shape.loss_ppm >= 1_000_000 {
            return Err(format!(
                "{}: a probe arrived although every packet is to be lost",
                self.link
            ));
        }
        let least = shape.delay - shape.jitter;
        if shape.reorder_ppm == 0 && Nanos::from(after) < least {
            let after = Nanos::from(after);
            return Err(format!(
                "{}: a probe arrived after {after}, not delayed by {least}",
                self.link
            ));
        }
        let delayed = shape.delay > Nanos::ZERO;
        let saw = || {
            if delayed {
                format!("probe arrived after {}", Nanos::from(after))
            } else {
                "probe arrived".into()
            }
        };
        self.saw.get_or_insert_with(saw);
        Ok(())
    }

    /// What the switch counted may be enough.
    fn counted(&mut self, now: &Counters) {
        let rose = |count: fn(&Counters) -> u64| count(now) > count(&self.before);
        let saw = match self.expect {
            Expect::Blocked if rose(|c| c.blocked) => "probe dropped by the switch, not received",
            Expect::Open(shape) if shape.loss_ppm > 0 && rose(|c| c.lost) => "probe lost by the switch",
            Expect::Open(shape) if shape.corrupt_ppm > 0 && rose(|c| c.corrupted) => "probe corrupted by the switch",
            Expect::Open(shape) if shape.rate > 0 && rose(|c| c.overflowed) => {
                "probe dropped by the switch's full queue"
            }
            _ => return,
        };
        self.saw.get_or_insert_with(|| saw.into());
    }

    fn missing(&self) -> String {
        match self.expect {
            Expect::Blocked => format!("{}: none of {} probes was counted as blocked", self.link, self.sent),
            Expect::Open(_) => format!("{}: none of {} probes arrived", self.link, self.sent),
        }
    }

    fn proof(self) -> Proof {
        Proof {
            at: self.link.to_string(),
            saw: self.saw.expect("only what was seen is proven"),
        }
    }
}
