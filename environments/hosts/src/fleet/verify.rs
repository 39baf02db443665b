//! Blocks, unblocks and shapes, proven by probes between agents.
//!
//! A probe is a UDP packet from one host's agent to another's, over the cluster's own network. All links of a batch are
//! probed in the same rounds: every sender gets one order with all its bursts, every receiver is asked once what came.
//!
//! - *Blocked*: the receiver's own count of what it dropped from that peer rose after the block, and no probe arrived.
//! - *Open*, in a shape: what [`super::evidence`] demands.
//!
//! Caveat: what is neither seen nor counted in time is an error, never a guess.
use super::Fleet;
use super::evidence::{Flight, Seen, Trial};
use super::raw::{Span, signed};
use crate::agent::proto::{Arrival, Burst, Order, Reply};
use splitbrain_core::{Link, Name, Nanos, Proof, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Most probes from one host in a round: a receiver's socket has room for them.
const ROUND: u32 = 64;
/// Until the receivers are asked again; twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(20);
/// Until an unanswered burst is sent again; twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// What a link must now be like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// It drops everything.
    Blocked,
    /// It carries, in this shape, and no more in the one that it had before.
    Open { shape: Shape, gone: Shape },
}

struct Check {
    link: Link,
    expect: Expect,
    trial: Trial,
    seen: Seen,
    /// By the receiver's rule, before the first probe.
    dropped_before: u64,
    dropped: u64,
    damaged_before: u64,
    /// Of the newest burst.
    sent: u32,
    last_sent: Instant,
    /// When the newest burst counts as unanswered.
    due: Instant,
    retry: Duration,
    done: bool,
}

/// Proves that each link is as expected, or says which is not. `patience` is for the whole batch, delays not counted.
pub(super) fn verify(fleet: &Fleet, links: &[(Link, Expect)], patience: Duration) -> Result<Vec<Proof>, String> {
    let mut proofs = BTreeMap::new();
    for wave in waves(links) {
        proofs.extend(verify_wave(fleet, &wave, patience)?);
    }
    Ok(links.iter().filter_map(|(link, _)| proofs.remove(link)).collect())
}

/// Links that can be looked at together. A receiver counts damaged packets for all its links at once, so those that corrupt
/// are looked at one by one there.
fn waves(links: &[(Link, Expect)]) -> Vec<Vec<(Link, Expect)>> {
    let mut waves: Vec<Vec<(Link, Expect)>> = vec![Vec::new()];
    let mut taken: BTreeMap<Name, usize> = BTreeMap::new();
    for (link, expect) in links {
        let corrupts = matches!(expect, Expect::Open { shape, .. } if shape.corrupt_ppm > 0);
        let at = if corrupts {
            taken.entry(link.dst).or_default()
        } else {
            &mut 0
        };
        if waves.len() <= *at {
            waves.push(Vec::new());
        }
        waves[*at].push((*link, *expect));
        *at += 1;
    }
    waves
}

fn verify_wave(fleet: &Fleet, links: &[(Link, Expect)], patience: Duration) -> Result<Vec<(Link, Proof)>, String> {
    let hosts: BTreeSet<Name> = links.iter().flat_map(|(link, _)| [link.src, link.dst]).collect();
    // So that the clocks are known as well as they can be by the time the probes have come.
    fleet.beat(&hosts);
    let receivers: BTreeSet<Name> = links.iter().map(|(link, _)| link.dst).collect();
    let before = looked(fleet, &receivers)?;
    let start = Instant::now();
    let mut checks: Vec<Check> = links
        .iter()
        .map(|(link, expect)| Check::new(*link, *expect, &before[&link.dst], start))
        .collect();
    let slowest = checks.iter().map(|check| check.trial.slowest()).max();
    let deadline = start + patience + slowest.unwrap_or_default() * 2;
    let mut look = FIRST_LOOK;
    loop {
        let sent = send(fleet, &mut checks)?;
        let receivers: BTreeSet<Name> = open(&checks).map(|check| check.link.dst).collect();
        let replies = looked(fleet, &receivers)?;
        for check in checks.iter_mut().filter(|check| !check.done) {
            check.take(fleet, &replies[&check.link.dst])?;
        }
        if open(&checks).next().is_none() {
            break;
        }
        let now = Instant::now();
        if now >= deadline {
            let named: Vec<String> = open(&checks).map(Check::missing).collect();
            return Err(named.join("; "));
        }
        if !sent || !open(&checks).any(|check| check.unsent() > 0) {
            look = if sent { FIRST_LOOK } else { (look * 2).min(LAST_LOOK) };
            fleet.pause(look.min(deadline - now))?;
        }
    }
    Ok(checks.into_iter().map(|check| (check.link, check.proof())).collect())
}

fn open(checks: &[Check]) -> impl Iterator<Item = &Check> {
    checks.iter().filter(|check| !check.done)
}

/// What came to these hosts, and what they dropped.
fn looked(fleet: &Fleet, hosts: &BTreeSet<Name>) -> Result<BTreeMap<Name, Reply>, String> {
    fleet.ask(hosts.iter().map(|host| (*host, Order::Probes)))
}

/// One round: a share of each burst, so that no host sends more than another can take at a time. False if nothing was due.
fn send(fleet: &Fleet, checks: &mut [Check]) -> Result<bool, String> {
    let now = Instant::now();
    let mut sources: BTreeMap<Name, u32> = BTreeMap::new();
    for check in checks.iter_mut().filter(|check| !check.done) {
        check.renew(now);
        if check.unsent() > 0 {
            *sources.entry(check.link.src).or_default() += 1;
        }
    }
    let mut bursts: BTreeMap<Name, Vec<Burst>> = BTreeMap::new();
    for check in checks.iter_mut().filter(|check| !check.done && check.unsent() > 0) {
        let count = check.unsent().min((ROUND / sources[&check.link.src]).max(1));
        let first = fleet.serials(count);
        if check.sent == 0 {
            check.seen.burst = first;
        }
        check.sent += count;
        bursts.entry(check.link.src).or_default().push(Burst {
            to: check.link.dst,
            first,
            count,
            payload: u32::try_from(check.trial.payload).expect("a packet is short"),
        });
    }
    if bursts.is_empty() {
        return Ok(false);
    }
    let orders = bursts.iter().map(|(src, bursts)| (*src, Order::Probe(bursts.clone())));
    let replies = fleet.ask(orders)?;
    let now = Instant::now();
    for check in checks.iter_mut().filter(|check| !check.done) {
        let Some((bursts, reply)) = bursts.get(&check.link.src).zip(replies.get(&check.link.src)) else {
            continue;
        };
        let dst = check.link.dst;
        for burst in bursts.iter().filter(|burst| burst.to == dst) {
            check.left(burst, reply, now);
        }
    }
    Ok(true)
}

impl Check {
    fn new(link: Link, expect: Expect, before: &Reply, now: Instant) -> Check {
        let trial = match expect {
            Expect::Blocked => Trial::of(Shape::default(), Shape::default()),
            Expect::Open { shape, gone } => Trial::of(shape, gone),
        };
        let dropped = before.dropped.get(&link.src).copied().unwrap_or(0);
        Check {
            link,
            expect,
            trial,
            seen: Seen::default(),
            dropped_before: dropped,
            dropped,
            damaged_before: before.damaged,
            sent: 0,
            last_sent: now,
            due: now,
            retry: FIRST_RETRY,
            done: false,
        }
    }

    /// Begins a new burst if the newest is whole and has not shown what it was to show.
    fn renew(&mut self, now: Instant) {
        let idle = self.trial.is_whole(&self.seen) && now >= self.last_sent + self.retry;
        if self.sent >= self.trial.probes && (idle || now >= self.due) {
            self.sent = 0;
            self.retry = (self.retry * 2).min(LAST_RETRY);
        }
    }

    fn unsent(&self) -> u32 {
        self.trial.probes.saturating_sub(self.sent)
    }

    /// The sender has sent.
    fn left(&mut self, burst: &Burst, reply: &Reply, now: Instant) {
        let serials = burst.first..burst.first + u64::from(burst.count);
        for (serial, left) in reply.sent.iter().filter(|(serial, _)| serials.contains(serial)) {
            let flight = Flight {
                left: *left,
                came: Vec::new(),
            };
            self.seen.flights.insert(*serial, flight);
        }
        self.last_sent = now;
        let wait = if matches!(self.expect, Expect::Blocked) || self.is_plain() {
            self.retry
        } else {
            self.trial.slowest() + self.retry
        };
        self.due = now + wait;
    }

    /// One probe is enough, and nothing delays it: no need to wait for one that was lost on the way.
    fn is_plain(&self) -> bool {
        self.trial.probes == 1
    }

    /// The receiver has told what came. Fails if that may not be.
    fn take(&mut self, fleet: &Fleet, reply: &Reply) -> Result<(), String> {
        self.dropped = reply.dropped.get(&self.link.src).copied().unwrap_or(0);
        self.seen.damaged = reply.damaged.saturating_sub(self.damaged_before);
        for Arrival { serial, raw } in &reply.came {
            if let Some(left) = self.seen.flights.get(serial).map(|flight| flight.left) {
                let took = fleet.took(self.link, left, *raw)?;
                let flight = self.seen.flights.get_mut(serial).expect("looked up above");
                flight.came.push((*raw, took));
            }
        }
        let arrived = self.seen.flights.values().any(|flight| !flight.came.is_empty());
        self.seen.quiet = self.sent > 0 && self.last_sent.elapsed() > self.trial.slowest();
        self.done = match self.expect {
            Expect::Blocked if arrived => {
                return Err(format!("{}: a probe arrived although the link is blocked", self.link));
            }
            Expect::Blocked => self.dropped > self.dropped_before,
            Expect::Open { .. } => {
                if let Some(what) = self.trial.forbidden(&self.seen) {
                    return Err(format!("{}: {what}", self.link));
                }
                self.trial.is_shown(&self.seen)
            }
        };
        Ok(())
    }

    fn missing(&self) -> String {
        let what = match self.expect {
            Expect::Blocked => format!("none was counted as dropped by {}", self.link.dst),
            Expect::Open { .. } => self.trial.missing(&self.seen).join(", "),
        };
        format!("{}: of {} probes {what}", self.link, self.seen.flights.len())
    }

    fn proof(&self) -> Proof {
        let saw = match self.expect {
            Expect::Blocked => format!("probe dropped by {}, not received", self.link.dst),
            Expect::Open { .. } => self.trial.words(&self.seen),
        };
        Proof {
            at: self.link.to_string(),
            saw,
        }
    }
}

impl Fleet {
    /// What a probe took that left by the sender's clock and came by the receiver's.
    fn took(&self, link: Link, left: Nanos, came: Nanos) -> Result<Span, String> {
        if self.share_a_clock(link.src, link.dst) {
            let took = signed(came) - signed(left);
            return Ok(Span {
                least: took,
                most: took,
            });
        }
        let at = |host: Name, raw: Nanos| {
            let line = self.line(host)?;
            let at = line.lock().clock.at(raw);
            at.ok_or_else(|| format!("{}: it has not told its time yet", line.label))
        };
        Ok(at(link.dst, came)?.since(at(link.src, left)?))
    }
}
