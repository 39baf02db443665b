//! What the random schedule draws from: what the plan names, or all that fits.
use crate::fit::{self, Breaks, Topology};
use rand::RngExt;
use rand::seq::IndexedRandom;
use splitbrain_core::plan::{FaultKind, Faults, Grudge, Target};
use splitbrain_core::seed::Rng;
use splitbrain_core::{Clocks, Disk, HostRole, Nanos, Offset, Shape, Skew, Unsynced};

/// Faults to draw from: kinds evenly, then shapes evenly, then targets.
pub(crate) struct Menu {
    kinds: Vec<Vec<Dish>>,
    /// Whether the plan names the targets; if not, half the faults go for the leader.
    named_targets: bool,
}

/// A fault with the targets that fit it, of which there is at least one.
struct Dish {
    breaks: Breaks,
    targets: Vec<Target>,
}

impl Menu {
    /// The error says what does not fit.
    pub(crate) fn new(faults: &Faults, topology: &Topology) -> Result<Menu, String> {
        check_kinds(faults)?;
        let mut kinds = Vec::new();
        for &kind in &faults.kinds {
            let mut dishes = Vec::new();
            let mut why = None;
            for breaks in breaks_of(kind, faults) {
                let named = kind == FaultKind::Partition && !faults.shapes.is_empty();
                match targets_of(breaks, faults, topology) {
                    Ok(targets) => dishes.push(Dish { breaks, targets }),
                    Err(error) if named => return Err(error),
                    Err(error) => drop(why.get_or_insert(error)),
                }
            }
            if dishes.is_empty() {
                return Err(why.expect("each kind has a fault, and none fits"));
            }
            kinds.push(dishes);
        }
        for &target in &faults.targets {
            let used = kinds.iter().flatten().any(|dish| dish.targets.contains(&target));
            if !used && !kinds.is_empty() {
                return Err(unused(target, faults, topology));
            }
        }
        Ok(Menu {
            kinds,
            named_targets: !faults.targets.is_empty(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> (Breaks, Target) {
        let dishes = self.kinds.choose(rng).expect("nobody draws from an empty menu");
        let dish = dishes.choose(rng).expect("each kind has a fault that fits");
        let leader = dish.targets.contains(&Target::Leader);
        let others: Vec<Target> = dish.targets.iter().copied().filter(|t| *t != Target::Leader).collect();
        let target = match others.choose(rng) {
            _ if self.named_targets => *dish.targets.choose(rng).expect("a dish has targets"),
            // The faults that break elections are those that strike the leader.
            Some(other) if !leader || rng.random_bool(0.5) => *other,
            _ => Target::Leader,
        };
        (dish.breaks, target)
    }
}

fn check_kinds(faults: &Faults) -> Result<(), String> {
    for (n, kind) in faults.kinds.iter().enumerate() {
        if faults.kinds[..n].contains(kind) {
            return Err(format!("the kinds of faults name {} twice", kind.name()));
        }
    }
    if !faults.shapes.is_empty() && !faults.kinds.contains(&FaultKind::Partition) {
        return Err("shapes are for partitions, and no partition is among the kinds of faults".to_string());
    }
    Ok(())
}

fn breaks_of(kind: FaultKind, faults: &Faults) -> Vec<Breaks> {
    match kind {
        FaultKind::Kill => vec![Breaks::Kill],
        FaultKind::Pause => vec![Breaks::Pause],
        FaultKind::Packet => vec![Breaks::Packet],
        FaultKind::Clock => vec![Breaks::Clock],
        FaultKind::Disk => vec![Breaks::Disk],
        FaultKind::Partition if faults.shapes.is_empty() => Grudge::ALL.map(Breaks::Partition).to_vec(),
        FaultKind::Partition => faults.shapes.iter().copied().map(Breaks::Partition).collect(),
    }
}

fn targets_of(breaks: Breaks, faults: &Faults, topology: &Topology) -> Result<Vec<Target>, String> {
    fit::fits_topology(topology, breaks)?;
    let wanted = if faults.targets.is_empty() {
        usual_targets(breaks)
    } else {
        faults.targets.clone()
    };
    let mut why = String::new();
    let mut fitting = Vec::new();
    for target in wanted {
        match fit::fits(topology, breaks, target) {
            Ok(()) => fitting.push(target),
            Err(error) => why = error,
        }
    }
    if fitting.is_empty() { Err(why) } else { Ok(fitting) }
}

/// The targets that make sense for a fault whose plan names none.
fn usual_targets(breaks: Breaks) -> Vec<Target> {
    use Target::{All, Leader, Majority, Minority, NonLeader, One};
    match breaks {
        Breaks::Kill | Breaks::Pause => vec![Leader, One, Minority, Majority, All, NonLeader],
        Breaks::Packet => vec![Leader, One, All],
        Breaks::Clock => {
            let roles = [HostRole::Candidate, HostRole::Server].map(Target::Role);
            [&[Leader, One, Minority, Majority, All, NonLeader], &roles[..]].concat()
        }
        Breaks::Disk => vec![Leader, One, Minority, Majority, All, NonLeader],
        Breaks::Partition(grudge) => match grudge {
            Grudge::IsolateOne => vec![Leader, One, Minority, NonLeader],
            Grudge::OneWay => vec![Leader, One, Minority],
            Grudge::CandidatesFromServers => vec![Leader, One, Target::Role(HostRole::Candidate)],
            Grudge::LeaderFromStorage | Grudge::LeaderFromServers => vec![Leader],
            // Everybody is on some side; who was aimed at only decides which.
            Grudge::Halves | Grudge::MinorityMajority | Grudge::Bridge | Grudge::SingleLink => vec![Leader, One],
            Grudge::MajoritiesRing => vec![All],
        },
    }
}

/// The target of a script's fault that names none: whom the shape's name says, else one.
pub(crate) fn default_target(breaks: Breaks) -> Target {
    match breaks {
        Breaks::Partition(Grudge::LeaderFromStorage | Grudge::LeaderFromServers) => Target::Leader,
        Breaks::Partition(Grudge::CandidatesFromServers) => Target::Role(HostRole::Candidate),
        _ => Target::One,
    }
}

fn unused(target: Target, faults: &Faults, topology: &Topology) -> String {
    let all = faults.kinds.iter().flat_map(|&kind| breaks_of(kind, faults));
    let errors = all.filter_map(|breaks| fit::fits(topology, breaks, target).err());
    let mut errors: Vec<String> = errors.collect();
    errors.dedup();
    format!("target {target} fits none of the faults: {}", errors.join("; "))
}

/// A random shape that a link may take without being as good as cut.
pub(crate) fn draw_shape(rng: &mut Rng) -> Shape {
    let mut shape = Shape::default();
    match rng.random_range(0..5) {
        0 => {
            shape.delay = Nanos::millis(rng.random_range(10..=300));
            shape.jitter = Nanos(shape.delay.0 / rng.random_range(1..=4));
        }
        1 => shape.loss_ppm = percent(rng, 2, 40),
        2 => {
            shape.delay = Nanos::millis(rng.random_range(5..=50));
            shape.duplicate_ppm = percent(rng, 1, 30);
            shape.reorder_ppm = percent(rng, 5, 50);
        }
        3 => shape.corrupt_ppm = percent(rng, 1, 20),
        _ => shape.rate = rng.random_range(4..=64) * 1000,
    }
    shape
}

fn percent(rng: &mut Rng, least: u32, most: u32) -> u32 {
    rng.random_range(least..=most) * 10_000
}

/// What a disk fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// The disk is bad for a while.
    Bad(Disk),
    /// The power is cut, and comes back later.
    Cut(Unsynced),
}

/// Random clocks: jumps of a tenth of a second to an hour, strobes, gross and fine drifts.
pub(crate) fn draw_skew(rng: &mut Rng) -> Skew {
    let all = [Clocks::Both, Clocks::Realtime, Clocks::Monotonic];
    let mut skew = Skew {
        clocks: *all.choose(rng).expect("there are three"),
        ..Skew::default()
    };
    match rng.random_range(0..5) {
        // Evenly over the orders of magnitude: leases and timeouts lie on all of them.
        0 | 1 => skew.offset = either_way(rng, 100, 3_600_000),
        2 => {
            skew.offset = either_way(rng, 100, 10_000);
            skew.strobe = Nanos::millis(rng.random_range(50..=1000));
        }
        3 => skew.rate_ppm = rng.random_range(500_000..=2_000_000),
        _ => skew.rate_ppm = rng.random_range(950_000..=1_050_000),
    }
    if skew.is_none() {
        skew.rate_ppm += 1_000;
    }
    skew
}

/// Between `least` and `most` milliseconds, forwards or back, each doubling as likely as the next.
fn either_way(rng: &mut Rng, least: u64, most: u64) -> Offset {
    let doublings = rng.random_range(0..=(most / least).ilog2());
    let from = least << doublings;
    let ms = i64::try_from(rng.random_range(from..=(2 * from).min(most))).expect("an hour is short");
    let sign = if rng.random_bool(0.5) { 1 } else { -1 };
    Offset(sign * ms * 1_000_000)
}

/// A random disk fault: full, slow, failing, or a power cut.
pub(crate) fn draw_disk(rng: &mut Rng) -> DiskFault {
    let healthy = Disk::default();
    match rng.random_range(0..5) {
        0 => DiskFault::Bad(Disk { full: true, ..healthy }),
        1 => DiskFault::Bad(Disk {
            sync_delay: Nanos::millis(rng.random_range(50..=500)),
            ..healthy
        }),
        2 => DiskFault::Bad(Disk {
            sync_fail_ppm: percent(rng, 5, 100),
            ..healthy
        }),
        3 => DiskFault::Cut(Unsynced::Lost),
        _ => DiskFault::Cut(Unsynced::Torn),
    }
}
