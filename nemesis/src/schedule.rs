//! When what comes: the plan's script, and random faults from the seed.
use crate::fit::{self, Breaks, Topology};
use crate::menu::{self, DiskFault, Menu};
use rand::RngExt;
use splitbrain_core::plan::{FaultKind, Grudge, Scripted, Target};
use splitbrain_core::seed::{self, Rng};
use splitbrain_core::{Nanos, Plan, Shape, Skew};
use std::collections::VecDeque;

/// A fault to come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// Since the faults phase began.
    pub(crate) at: Nanos,
    /// From its confirmation to its healing.
    pub(crate) lasting: Nanos,
    pub(crate) breaks: Breaks,
    pub(crate) target: Target,
    /// What a packet fault does; unused by others.
    pub(crate) packets: Shape,
    /// What a clock fault does; unused by others.
    pub(crate) skew: Skew,
    /// What a disk fault does; unused by others.
    pub(crate) disk: DiskFault,
}

/// The faults to come, in order.
pub(crate) struct Schedule {
    script: VecDeque<Planned>,
    random: Option<Random>,
    last: Nanos,
}

struct Random {
    rng: Rng,
    /// For what clock and disk faults do: a stream of its own, so that these kinds change no other's schedule.
    details: Rng,
    menu: Menu,
    every: Nanos,
    lasting: Nanos,
    /// Nothing is injected later: it could hardly be healed within the phase.
    until: Nanos,
    next: Option<Planned>,
}

impl Schedule {
    /// The error says what in `plan` does not fit.
    pub(crate) fn new(plan: &Plan, seed: u64, topology: &Topology) -> Result<Schedule, String> {
        let mut rng = seed::stream(seed, "nemesis");
        let mut details = seed::stream(seed, "nemesis details");
        let mut script = Vec::new();
        for (n, scripted) in plan.script.iter().enumerate() {
            let planned = self::scripted(scripted, plan.time_limit, topology, (&mut rng, &mut details));
            script.push(planned.map_err(|why| format!("script fault {}: {why}", n + 1))?);
        }
        script.sort_by_key(|planned| planned.at);
        let last = Nanos(plan.time_limit.0 / 10 * 9);
        let menu = Menu::new(&plan.faults, topology)?;
        let random = if menu.is_empty() {
            None
        } else {
            if plan.faults.every == Nanos::ZERO {
                return Err("faults.every is zero: name the mean time between injections".to_string());
            }
            let until = last;
            let mut random = Random {
                rng,
                details,
                menu,
                every: plan.faults.every,
                lasting: plan.faults.lasting,
                until,
                next: None,
            };
            random.draw(Nanos::ZERO);
            Some(random)
        };
        Ok(Schedule {
            script: script.into(),
            random,
            last,
        })
    }

    /// When the next fault comes, since the faults phase began.
    pub(crate) fn due(&self) -> Option<Nanos> {
        let scripted = self.script.front().map(|planned| planned.at);
        scripted.into_iter().chain(self.random_due()).min()
    }

    /// The next fault.
    pub(crate) fn pop(&mut self) -> Option<Planned> {
        let random = self.random_due().unwrap_or(Nanos::MAX);
        if self.script.front().is_some_and(|planned| planned.at <= random) {
            return self.script.pop_front();
        }
        let source = self.random.as_mut()?;
        let planned = source.next.take()?;
        source.draw(planned.at);
        Some(planned)
    }

    /// The random faults that are left come later by `by`. What a script says stands.
    pub(crate) fn put_off(&mut self, by: Nanos) {
        if let Some(random) = &mut self.random {
            random.next = random.next.take().and_then(|mut planned| {
                planned.at += by;
                (planned.at <= random.until).then_some(planned)
            });
        }
    }

    /// When the last fault may come, since the faults phase began.
    pub(crate) fn last(&self) -> Nanos {
        self.last
    }

    fn random_due(&self) -> Option<Nanos> {
        self.random.as_ref()?.next.as_ref().map(|planned| planned.at)
    }
}

impl Random {
    fn draw(&mut self, after: Nanos) {
        let at = after + spread(self.every, 50, 150, &mut self.rng);
        let (breaks, target) = self.menu.draw(&mut self.rng);
        let planned = Planned {
            at,
            lasting: spread(self.lasting, 20, 180, &mut self.rng),
            breaks,
            target,
            packets: menu::draw_shape(&mut self.rng),
            skew: menu::draw_skew(&mut self.details),
            disk: menu::draw_disk(&mut self.details),
        };
        self.next = (at <= self.until).then_some(planned);
    }
}

/// Uniform between `least` and `most` percent of `mean`; never zero, so that a schedule ends.
fn spread(mean: Nanos, least: u64, most: u64, rng: &mut Rng) -> Nanos {
    let percent = |p: u64| u64::try_from(u128::from(mean.0) * u128::from(p) / 100).unwrap_or(u64::MAX);
    Nanos(rng.random_range(percent(least)..=percent(most)).max(1))
}

fn scripted(
    fault: &Scripted,
    limit: Nanos,
    topology: &Topology,
    (rng, details): (&mut Rng, &mut Rng),
) -> Result<Planned, String> {
    check_fields(fault)?;
    if fault.at >= limit {
        return Err(format!("it comes at {}, and the faults end at {limit}", fault.at));
    }
    let breaks = match fault.fault {
        FaultKind::Partition => Breaks::Partition(fault.shape.unwrap_or(Grudge::IsolateOne)),
        FaultKind::Kill => Breaks::Kill,
        FaultKind::Pause => Breaks::Pause,
        FaultKind::Packet => Breaks::Packet,
        FaultKind::Clock => Breaks::Clock,
        FaultKind::Disk => Breaks::Disk,
    };
    let target = fault.target.unwrap_or_else(|| menu::default_target(breaks));
    fit::fits(topology, breaks, target)?;
    // Drawn in any case, so that giving one fault's details does not change another's.
    let (packets, skew) = (menu::draw_shape(rng), menu::draw_skew(details));
    let drawn = menu::draw_disk(details);
    let disk = match (fault.disk, fault.unsynced) {
        (Some(disk), _) => DiskFault::Bad(disk),
        (None, Some(unsynced)) => DiskFault::Cut(unsynced),
        (None, None) => drawn,
    };
    Ok(Planned {
        at: fault.at,
        lasting: fault.lasting,
        breaks,
        target,
        packets: fault.packets.unwrap_or(packets),
        skew: fault.clock.unwrap_or(skew),
        disk,
    })
}

/// Whether each field is one for this kind of fault, and says something that can be done.
fn check_fields(fault: &Scripted) -> Result<(), String> {
    let name = fault.fault.name();
    if fault.shape.is_some() && fault.fault != FaultKind::Partition {
        return Err(format!("a {name} has no shape, only a partition has"));
    }
    let fields = [
        (fault.packets.is_some(), "packets", FaultKind::Packet),
        (fault.clock.is_some(), "clock", FaultKind::Clock),
        (fault.disk.is_some(), "disk", FaultKind::Disk),
        (fault.unsynced.is_some(), "unsynced", FaultKind::Disk),
    ];
    if let Some((_, field, kind)) = fields.iter().find(|(given, _, kind)| *given && *kind != fault.fault) {
        return Err(format!("a {name} has no {field}, only a {} fault has", kind.name()));
    }
    if let Some(shape) = &fault.packets {
        check_packets(shape)?;
    }
    if let Some(skew) = &fault.clock {
        skew.check()?;
        if skew.is_none() {
            return Err("its clock is true: name an offset or a rate-ppm".to_string());
        }
    }
    if let Some(disk) = &fault.disk {
        disk.check()?;
        if disk.is_healthy() {
            return Err("its disk is healthy: name full, sync-delay or sync-fail-ppm".to_string());
        }
        if fault.unsynced.is_some() {
            return Err("it has both a disk and unsynced: a bad disk is one fault, a power cut another".to_string());
        }
    }
    if fault.unsynced.is_some_and(|unsynced| unsynced.is_kept()) {
        return Err("its unsynced writes are kept: that is a kill; name lost or torn".to_string());
    }
    Ok(())
}

/// The least rate in bytes per second that still carries heartbeats.
const LEAST_RATE: u64 = 1_000;
/// The longest that a packet may be under way.
const LONGEST: Nanos = Nanos::secs(60);

/// Whether a packet fault with this shape does something, and something that can be done.
fn check_packets(shape: &Shape) -> Result<(), String> {
    let shares = [
        ("loss_ppm", shape.loss_ppm),
        ("duplicate_ppm", shape.duplicate_ppm),
        ("reorder_ppm", shape.reorder_ppm),
        ("corrupt_ppm", shape.corrupt_ppm),
    ];
    if let Some((name, ppm)) = shares.into_iter().find(|(_, ppm)| *ppm > 1_000_000) {
        return Err(format!("packets.{name} is {ppm}, and 1000000 is every packet"));
    }
    if shape.jitter > shape.delay {
        let Shape { delay, jitter, .. } = shape;
        return Err(format!(
            "packets.jitter {jitter} is more than packets.delay {delay}, and no packet comes before it was sent"
        ));
    }
    // Not the sum: it may be beyond all numbers.
    if shape.delay > LONGEST || shape.jitter > LONGEST - shape.delay {
        return Err(format!(
            "packets.delay and packets.jitter are together more than {LONGEST}"
        ));
    }
    if (1..LEAST_RATE).contains(&shape.rate) {
        let rate = shape.rate;
        return Err(format!(
            "packets.rate is {rate} B/s, which carries no heartbeat: {LEAST_RATE} is the least; to cut a host off, use a partition"
        ));
    }
    if *shape == Shape::default() {
        let words = "name a delay, loss_ppm, duplicate_ppm, corrupt_ppm or rate";
        return Err(format!("its packets have a shape that does nothing: {words}"));
    }
    if shape.reorder_ppm > 0 && shape.delay == Nanos::ZERO {
        return Err("packets.reorder_ppm needs a packets.delay that some packets skip".to_string());
    }
    Ok(())
}
