//! How well the system served: writes and their latency by the second, who led, how long failovers took.
use super::{Ended, OpRow, Picture, WRITE};
use splitbrain_core::{Epoch, Nanos};

/// A stretch of time with the number of candidates that possibly believed that they led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Believers {
    /// When it began.
    pub from: Nanos,
    /// When it ended.
    pub to: Nanos,
    /// How many.
    pub count: usize,
}

/// A fault that struck the leader, and the next leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Which fault.
    pub fault: u32,
    /// When it was seen to act.
    pub struck: Nanos,
    /// When a higher epoch's leader was known.
    pub recovered: Nanos,
    /// The epoch that was struck.
    pub old: Epoch,
    /// The epoch that followed.
    pub new: Epoch,
}

/// Operations by the second, or by a few seconds in a long run.
#[derive(Clone, Debug, Default)]
pub struct Bins {
    /// The length of a bin.
    pub length: Nanos,
    /// Completed `ok`, `fail`, and unknown, by the bin of their completion.
    pub counts: [Vec<u32>; 3],
    /// Median and 99th percentile of the latency of those that went well.
    pub latency: Vec<Option<(Nanos, Nanos)>>,
}

/// At most this many bins, so that a bar is at least three pixels wide.
const MAX_BINS: u64 = 240;

/// The writes if there are any, else every operation that is no look at who leads, with how to call them.
pub fn served(picture: &Picture) -> (Vec<&OpRow>, &'static str) {
    let writes: Vec<&OpRow> = picture.ops.iter().filter(|op| op.f == WRITE).collect();
    if writes.is_empty() {
        return (picture.ops.iter().filter(|op| op.f != 0).collect(), "operations");
    }
    (writes, "writes")
}

impl Bins {
    /// Bins of operations over the whole run.
    pub fn of(picture: &Picture, ops: &[&OpRow]) -> Bins {
        let seconds = picture.end.0.div_ceil(1_000_000_000).max(1);
        let length = Nanos::secs(seconds.div_ceil(MAX_BINS));
        let n = (picture.end.0 / length.0 + 1) as usize;
        let mut counts = [vec![0; n], vec![0; n], vec![0; n]];
        let mut taken: Vec<Vec<u64>> = vec![Vec::new(); n];
        for op in ops {
            let bin = (op.end.0 / length.0) as usize;
            match op.ended {
                Ended::Ok => {
                    counts[0][bin] += 1;
                    taken[bin].push(op.end.since(op.start).0);
                }
                Ended::Fail => counts[1][bin] += 1,
                Ended::Info | Ended::Open => counts[2][bin] += 1,
            }
        }
        let percentiles = |mut all: Vec<u64>| {
            all.sort_unstable();
            Some((Nanos(percentile(&all, 50)?), Nanos(percentile(&all, 99)?)))
        };
        Bins {
            length,
            counts,
            latency: taken.into_iter().map(percentiles).collect(),
        }
    }
}

/// The nearest-rank percentile of sorted values; `None` of none.
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// How many candidates possibly believed that they led, over `from..to`. A candidate counts until the end of what is
/// possible, so a stretch without any is one in which nobody can have led.
pub fn believers(picture: &Picture, from: Nanos, to: Nanos) -> Vec<Believers> {
    let mut edges: Vec<(Nanos, i64)> = Vec::new();
    for bar in picture.lanes.iter().flat_map(|l| &l.reigns) {
        let (start, end) = (bar.from.max(from), bar.to.min(to));
        if start < end {
            edges.push((start, 1));
            edges.push((end, -1));
        }
    }
    // At one instant ends come before beginnings: a handover is no overlap.
    edges.sort_unstable();
    let mut out: Vec<Believers> = Vec::new();
    let (mut at, mut count) = (from, 0i64);
    for (time, step) in edges.into_iter().chain([(to, 0)]) {
        if time > at {
            let count = usize::try_from(count).expect("every end follows its beginning");
            match out.last_mut().filter(|last| last.count == count) {
                Some(last) => last.to = time,
                None => out.push(Believers {
                    from: at,
                    to: time,
                    count,
                }),
            }
            at = time;
        }
        count += step;
    }
    out
}

/// For each fault that struck the newest leader and ended its reign: how long until a higher epoch had one.
pub fn failovers(picture: &Picture) -> Vec<Failover> {
    let mut starts: Vec<(Nanos, Epoch)> = picture
        .lanes
        .iter()
        .flat_map(|l| &l.reigns)
        .map(|r| (r.from, r.epoch))
        .collect();
    starts.sort_unstable();
    let mut out: Vec<Failover> = Vec::new();
    for fault in &picture.faults {
        let Some(struck) = fault.from else { continue };
        let newest = starts.iter().take_while(|s| s.0 <= struck).map(|s| s.1).max();
        let lanes = fault.targets.iter().filter_map(|t| picture.lane(*t));
        let mut reigns = lanes.flat_map(|l| &picture.lanes[l].reigns);
        let Some(old) = reigns.find(|r| r.from <= struck && struck <= r.to && Some(r.epoch) == newest) else {
            continue;
        };
        let next = starts.iter().find(|s| s.0 > struck && s.1 > old.epoch);
        let Some(&(recovered, new)) = next else { continue };
        // A leader that outlived its fault was deposed by something else, later.
        let outlived = fault.healed.is_some_and(|healed| old.to > healed && recovered > healed);
        if !outlived && out.iter().all(|f| f.new != new) {
            let (fault, old) = (fault.number, old.epoch);
            out.push(Failover {
                fault,
                struck,
                recovered,
                old,
                new,
            });
        }
    }
    out
}
