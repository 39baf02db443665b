//! One fault from the schedule to its injection: ask, choose, strike.
use crate::aim::{Aim, Claim};
use crate::fit::{self, Breaks, Topology};
use crate::grudges::{self, Cut};
use crate::ledger::{Effect, Injection, Ledger};
use crate::menu::DiskFault;
use crate::schedule::Planned;
use rand::RngExt;
use rand::seq::IndexedRandom;
use splitbrain_core::event::{Event, Kind, Process};
use splitbrain_core::plan::{Grudge, Target};
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Body, Command, HostRole, Link, Name, Nanos, Shape, Unsynced};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A fault whose target is being looked for.
pub(crate) struct Attempt {
    planned: Planned,
    rng: Rng,
    asking: Asking,
    /// How long a leader is waited for.
    hopes_until: Nanos,
    /// Since when one is.
    hopes_since: Option<Nanos>,
}

/// Who was asked, and who has not answered.
#[derive(Default)]
struct Asking {
    left: VecDeque<Name>,
    waiting: BTreeSet<Name>,
    /// Our own questions, by the process that carries them: another client's timeout says nothing about them.
    ours: BTreeMap<Process, Name>,
    until: Nanos,
}

/// Whom to strike.
enum Choice {
    /// These; and, where somebody was aimed at, whom and for which leadership.
    Targets(Vec<Name>, Option<(Name, Option<Claim>)>),
    /// Nobody is what was aimed at.
    Missed,
    /// Nobody is left.
    Nobody,
}

impl Attempt {
    pub(crate) fn new(planned: Planned, seed: u64, drawn: u64) -> Attempt {
        Attempt {
            planned,
            hopes_until: Nanos::ZERO,
            hopes_since: None,
            rng: seed::stream(seed, &format!("fault-{drawn}")),
            asking: Asking::default(),
        }
    }

    pub(crate) fn breaks(&self) -> Breaks {
        self.planned.breaks
    }

    pub(crate) fn cuts(&self) -> bool {
        matches!(self.planned.breaks, Breaks::Partition(_))
    }

    pub(crate) fn asks_first(&self) -> bool {
        matches!(self.planned.target, Target::Leader | Target::NonLeader)
    }

    pub(crate) fn ask(&mut self, hosts: Vec<Name>, until: Nanos) {
        self.asking = Asking {
            left: hosts.into(),
            until,
            ..Asking::default()
        };
    }

    /// The next host to ask; it counts as asked from now on.
    pub(crate) fn next_to_ask(&mut self) -> Option<Name> {
        let host = self.asking.left.pop_front()?;
        self.asking.waiting.insert(host);
        Some(host)
    }

    /// Whether everybody answered, or had the time to.
    pub(crate) fn is_answered(&self, now: Nanos) -> bool {
        self.asking.left.is_empty() && (self.asking.waiting.is_empty() || now >= self.asking.until)
    }

    /// When to look again, if nothing happens.
    pub(crate) fn wakes(&self, now: Nanos) -> Nanos {
        if self.is_answered(now) {
            // It waits for another cut to begin or end, which is an event.
            Nanos::MAX
        } else {
            self.asking.until
        }
    }

    pub(crate) fn notify(&mut self, event: &Event) {
        let Body::Observe { host, .. } = event.body else {
            return;
        };
        let asking = &mut self.asking;
        if !asking.waiting.contains(&host) {
            return;
        }
        match event.kind {
            Kind::Invoke => {
                // The runner records a command at once, so the first question after it is ours.
                if !asking.ours.values().any(|&asked| asked == host) {
                    asking.ours.insert(event.process, host);
                }
            }
            // Any answer is fresh enough.
            Kind::Ok => drop(asking.waiting.remove(&host)),
            Kind::Fail | Kind::Info => {
                if asking.ours.get(&event.process) == Some(&host) {
                    asking.waiting.remove(&host);
                }
            }
        }
    }

    /// The fault's injection, or the note that it missed; `None` if nothing is left to strike.
    pub(crate) fn decide(mut self, topology: &Topology, ledger: &mut Ledger, aim: &mut Aim) -> Option<Command> {
        let target = self.planned.target;
        let (targets, aimed) = match self.choose(topology, ledger, aim) {
            Choice::Targets(targets, aimed) => (targets, aimed),
            Choice::Missed => return Some(Command::Note(aim.missed(ledger.number(), target))),
            Choice::Nobody => return None,
        };
        let injection = self.injection(topology, ledger, targets)?;
        let number = ledger.number();
        if let Some((host, claim)) = aimed {
            aim.watch(number, target, host, claim);
        }
        Some(Command::Inject(ledger.inject(number, injection)))
    }

    /// Until when to wait for a leader where nobody is known to lead: a fault that is due between two leaders strikes the
    /// second. `None` if there is nothing to wait for.
    pub(crate) fn hopes(&mut self, now: Nanos, topology: &Topology, ledger: &Ledger, aim: &Aim) -> Option<Nanos> {
        let lacks = self.planned.target == Target::Leader
            && now < self.hopes_until
            && aim.leader(&self.available(topology, ledger)).is_none();
        lacks.then(|| {
            self.hopes_since.get_or_insert(now);
            self.hopes_until
        })
    }

    pub(crate) fn hope_until(&mut self, until: Nanos) {
        self.hopes_until = until;
    }

    /// How long a leader was waited for.
    pub(crate) fn hoped(&self, now: Nanos) -> Nanos {
        self.hopes_since.map_or(Nanos::ZERO, |since| now - since)
    }

    /// Whom the fault could strike now.
    fn available(&self, topology: &Topology, ledger: &Ledger) -> Vec<Name> {
        let breaks = self.planned.breaks;
        let free = |host: &Name| !(breaks.occupies_hosts() && ledger.is_occupied(*host));
        fit::domain(topology, breaks).into_iter().filter(free).collect()
    }

    fn choose(&mut self, topology: &Topology, ledger: &Ledger, aim: &Aim) -> Choice {
        let breaks = self.planned.breaks;
        let free = |host: &Name| !(breaks.occupies_hosts() && ledger.is_occupied(*host));
        let available = self.available(topology, ledger);
        if available.is_empty() && !matches!(self.planned.target, Target::Role(_) | Target::Host(_)) {
            return Choice::Nobody;
        }
        let n = fit::domain(topology, breaks).len();
        let rng = &mut self.rng;
        let targets = match self.planned.target {
            Target::One => pick(&available, 1, rng),
            Target::Minority => pick(&available, grudges::minority(n, rng), rng),
            Target::Majority => {
                let least = n / 2 + 1;
                let size = rng.random_range(least..=least.max(n - 1));
                pick(&available, size, rng)
            }
            Target::All => available,
            Target::Leader => {
                let Some((leader, claim)) = aim.leader(&available) else {
                    return Choice::Missed;
                };
                return Choice::Targets(vec![leader], Some((leader, Some(claim))));
            }
            Target::NonLeader => {
                let others: Vec<Name> = available.into_iter().filter(|&host| !aim.leads(host)).collect();
                let Some(&one) = others.choose(rng) else {
                    return Choice::Missed;
                };
                return Choice::Targets(vec![one], Some((one, None)));
            }
            Target::Role(role) => topology.with_role(role).into_iter().filter(free).collect(),
            Target::Host(host) => [host].into_iter().filter(free).collect(),
        };
        if targets.is_empty() {
            Choice::Nobody
        } else {
            Choice::Targets(targets, None)
        }
    }

    fn injection(&mut self, topology: &Topology, ledger: &Ledger, targets: Vec<Name>) -> Option<Injection> {
        let breaks = self.planned.breaks;
        let leader = if self.planned.target == Target::Leader {
            " (leader)"
        } else {
            ""
        };
        let names = grudges::list(&targets);
        let (what, targets, effect) = match breaks {
            Breaks::Kill => (
                format!("kill {names}{leader}"),
                targets.clone(),
                Effect::Dead(targets, Unsynced::Kept),
            ),
            Breaks::Clock => (
                format!("clock of {names}{leader}: {}", self.planned.skew),
                targets.clone(),
                Effect::Skewed(targets, self.planned.skew),
            ),
            Breaks::Disk => {
                let (what, effect) = match self.planned.disk {
                    DiskFault::Bad(disk) => (
                        format!("disk of {names}{leader}: {disk}"),
                        Effect::BadDisk(targets.clone(), disk),
                    ),
                    DiskFault::Cut(unsynced) => (
                        format!("power cut of {names}{leader}: {}", lost(unsynced)),
                        Effect::Dead(targets.clone(), unsynced),
                    ),
                };
                (what, targets, effect)
            }
            Breaks::Pause => (
                format!("pause {names}{leader}"),
                targets.clone(),
                Effect::Stopped(targets),
            ),
            Breaks::Partition(grudge) => {
                let cut = cut(topology, grudge, &targets, &mut self.rng);
                if cut.links.is_empty() {
                    return None;
                }
                let what = format!("{}: {}", grudge.name(), cut.words);
                (what, cut.targets, Effect::Cut(cut.links))
            }
            Breaks::Packet => {
                let links = grudges::between(&targets, &topology.all());
                let links: Vec<Link> = links.into_iter().filter(|&link| !ledger.is_shaped(link)).collect();
                if links.is_empty() {
                    return None;
                }
                let shape = self.planned.packets;
                let what = format!("packet links of {names}{leader}: {}", describe(shape));
                (what, targets, Effect::Shaped(links, shape))
            }
        };
        Some(Injection {
            breaks,
            what,
            targets,
            effect,
            lasting: self.planned.lasting,
        })
    }
}

fn pick(from: &[Name], size: usize, rng: &mut Rng) -> Vec<Name> {
    let mut picked = grudges::order(from, &[], rng);
    picked.truncate(size);
    picked.sort_unstable();
    picked
}

/// The partition of shape `grudge` that strikes `targets`.
fn cut(topology: &Topology, grudge: Grudge, targets: &[Name], rng: &mut Rng) -> Cut {
    let peers = topology.peers();
    let rest: Vec<Name> = peers.iter().copied().filter(|name| !targets.contains(name)).collect();
    let order = grudges::order(&peers, targets, rng);
    let n = peers.len();
    match grudge {
        Grudge::IsolateOne => grudges::sides(targets, &rest),
        Grudge::Halves => grudges::split(&order, n / 2),
        Grudge::MinorityMajority => grudges::split(&order, grudges::minority(n, rng)),
        Grudge::Bridge => {
            // The target stands in the first half, or is the bridge.
            let bridge = if rng.random_bool(0.5) { order[0] } else { order[n - 1] };
            grudges::bridge(&order, bridge)
        }
        Grudge::MajoritiesRing => grudges::majorities_ring(&order),
        Grudge::OneWay => grudges::one_way(targets, &rest, rng.random_bool(0.5)),
        Grudge::SingleLink => {
            let one = *targets.choose(rng).expect("a fault strikes somebody");
            let others: Vec<Name> = peers.into_iter().filter(|&name| name != one).collect();
            let other = *others.choose(rng).expect("a link has two ends");
            grudges::single_link(one, other, rng.random_bool(0.5))
        }
        Grudge::CandidatesFromServers | Grudge::LeaderFromServers => {
            grudges::sides(targets, &topology.with_role(HostRole::Server))
        }
        Grudge::LeaderFromStorage => grudges::sides(targets, &topology.with_role(HostRole::Storage)),
    }
}

/// What a power cut leaves of unsynced writes, in words.
fn lost(unsynced: Unsynced) -> &'static str {
    match unsynced {
        Unsynced::Kept => "unsynced writes kept",
        Unsynced::Lost => "unsynced writes lost",
        Unsynced::Torn => "the last write torn",
    }
}

/// A link's shape in words: `delay 30ms loss 5%`.
fn describe(shape: Shape) -> String {
    let ms = |n: Nanos| n.0 as f64 / 1e6;
    let percent = |ppm: u32| f64::from(ppm) / 1e4;
    let mut words = Vec::new();
    for (name, span) in [("delay", shape.delay), ("jitter", shape.jitter)] {
        if span > Nanos::ZERO {
            words.push(format!("{name} {}ms", ms(span)));
        }
    }
    for (name, ppm) in [
        ("loss", shape.loss_ppm),
        ("duplicate", shape.duplicate_ppm),
        ("reorder", shape.reorder_ppm),
        ("corrupt", shape.corrupt_ppm),
    ] {
        if ppm > 0 {
            words.push(format!("{name} {}%", percent(ppm)));
        }
    }
    if shape.rate > 0 {
        words.push(format!("rate {} B/s", shape.rate));
    }
    if words.is_empty() {
        "nothing".to_string()
    } else {
        words.join(" ")
    }
}
