//! How well the system served: writes and their latency by the second, who led, how long failovers took.
//!
//! A leader *serves* from its election (or its first claim) until the earliest of: it is deposed, killed, restarted or
//! exits; its successor's reign begins; it is paused. A reign that is unbroken after its resume serves again from there.
//! A reign of a lower epoch than one that still lasts never serves: its winner learnt of it late. So at most one leader
//! serves at any instant. These are the words of the checker of recovery, which measures by them too. That is not belief: an old leader, cut off or just woken up, may still
//! believe that it leads, and [`believers`] counts those, as what is possible and not as what is proven.
use super::{Ended, Lane, OpRow, Picture, ReignBar, State, WRITE};
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

/// A stretch in which a leader served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// When it began, or was resumed.
    pub from: Nanos,
    /// When it stopped.
    pub to: Nanos,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it was seen to stop, by its end or its pause; not where a successor took over or the history ended.
    pub stopped: bool,
}

/// From the moment in which a leader stopped serving to the next election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When it stopped.
    pub stopped: Nanos,
    /// When the next reign began to serve.
    pub next: Nanos,
    /// The epoch of the leader that stopped.
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

/// When a leader served, in order; no two stretches overlap.
pub fn serving(picture: &Picture) -> Vec<Serving> {
    by_reign(picture).into_iter().flatten().collect()
}

/// The stretches in which each reign served, the reigns in the order in which they began.
fn by_reign(picture: &Picture) -> Vec<Vec<Serving>> {
    let mut reigns: Vec<(&ReignBar, &Lane)> = Vec::new();
    for lane in &picture.lanes {
        reigns.extend(lane.reigns.iter().map(|r| (r, lane)));
    }
    reigns.sort_by_key(|(r, _)| (r.from, r.epoch));
    let mut highest: Option<&ReignBar> = None;
    let mut out = Vec::new();
    for (i, &(reign, lane)) in reigns.iter().enumerate() {
        if highest.is_some_and(|h| h.epoch > reign.epoch && h.to > reign.from) {
            out.push(Vec::new());
            continue;
        }
        highest = Some(reign);
        let successor = reigns[i + 1..].iter().find(|(r, _)| r.epoch >= reign.epoch);
        out.push(stretches(reign, lane, successor.map_or(picture.end, |(r, _)| r.from)));
    }
    out
}

/// When a reign served that was taken over at `taken` at the latest.
fn stretches(reign: &ReignBar, lane: &Lane, taken: Nanos) -> Vec<Serving> {
    let (to, mut at, mut out) = (reign.to.min(taken), reign.from, Vec::new());
    let mut add = |from: Nanos, to: Nanos, stopped| {
        let epoch = reign.epoch;
        out.extend((from < to).then_some(Serving {
            from,
            to,
            epoch,
            stopped,
        }));
    };
    let paused = lane
        .states
        .iter()
        .filter(|s| s.state == State::Paused && s.to > reign.from);
    for pause in paused.filter(|s| s.from < to) {
        add(at, pause.from, true);
        at = pause.to;
    }
    add(at, to, reign.to < taken);
    out
}

/// The stretches of `from..to` in which nobody served.
pub fn leaderless(picture: &Picture, from: Nanos, to: Nanos) -> Vec<(Nanos, Nanos)> {
    let mut at = from;
    let mut out = Vec::new();
    for s in serving(picture) {
        if s.to > at && s.from < to {
            out.push((at, s.from));
            at = s.to;
        }
    }
    out.push((at, to));
    out.retain(|(from, to)| from < to);
    out
}

/// The changes of leadership: those that were measured, and how many were not because nobody saw the old leader stop
/// before its successor began, as behind a partition. That is no failover of zero: nobody knows how long it took.
pub fn failovers(picture: &Picture) -> (Vec<Failover>, u64) {
    let (mut measured, mut unmeasured) = (Vec::new(), 0);
    let mut before: Option<Serving> = None;
    for served in by_reign(picture) {
        let (Some(first), Some(last)) = (served.first(), served.last()) else {
            continue;
        };
        match before {
            Some(before) if before.stopped && before.to < first.from => measured.push(Failover {
                stopped: before.to,
                next: first.from,
                old: before.epoch,
                new: first.epoch,
            }),
            Some(_) => unmeasured += 1,
            None => {}
        }
        before = Some(*last);
    }
    (measured, unmeasured)
}
