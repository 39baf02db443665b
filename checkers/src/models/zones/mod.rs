//! Registers whose values are written once each, in linear time.
//!
//! Problem: whether a history of reads, writes and comparisons (`cas`) fits one register. In general that is NP-complete;
//! where no value is given twice, every read tells which write it saw (Gibbons and Korach, "Testing shared memories",
//! 1997, section 4).
//!
//! **Clusters.** A `cas` directly follows what gave the value that it expected. So a write, the `cas` that took its
//! value, the one that took that one's, and so on, are a chain, and it and all reads of its values stand together in
//! every order: one *cluster*, whose inner order is known but for the reads of one value. It can be kept if no operation
//! ends before one begins that must come before it. Nil is given by a write before everything.
//!
//! **Zones.** Cluster A must come before B if an operation of A ends before one of B begins: if A's first end is before
//! B's last beginning. That relation has a cycle only if it has one of two: of a cycle's clusters the one with the
//! earliest first end comes before all others of the cycle, its own predecessor among them. With the *zone* of a cluster
//! between its first end and its last beginning, forward if they come in this order and backward if not, two clusters
//! conflict if both zones are forward and overlap, or one is backward and lies within the other, which is forward.
//! Where none do, they can stand in the order of their zones' later bounds.
//!
//! **Crashed** writes and comparisons happened if their value was read or taken, by one that happened; their ends are open.
//! The others are left out: what nobody saw helps nobody.
//!
//! **Comparisons that failed** saw that the register held something else. The others are decided without them; then each
//! must find an instant in the order above. Where one does not, another order might do: the algorithm says nothing.
//!
//! Caveat: it says nothing where a value is given twice, or nil is given.
mod blame;
mod differs;

use super::Quick;
use super::register::RegisterOp::{self, Cas, Differs, Read, Set};
use crate::linear::model::{Call, NEVER};

/// All operations on one value. Places are counted from 1 here: 0 is before everything.
#[derive(Clone, Copy)]
struct Level {
    first_end: u32,
    last_begin: u32,
    /// Where what gives it begins, with [`BY_CAS`]; 0: nothing gives it.
    given: u32,
    /// The value that is put in its place by a comparison; 0: none is.
    next: u32,
}

const BY_CAS: u32 = 1 << 31;
const EMPTY: Level = Level {
    first_end: NEVER,
    last_begin: 0,
    given: 0,
    next: 0,
};

impl Level {
    fn begin(&self) -> u32 {
        self.given & !BY_CAS
    }

    /// Whether anything that happened tells of it.
    fn is_seen(&self) -> bool {
        self.first_end != NEVER || self.next != 0
    }
}

/// What no order can have.
enum Conflict {
    /// A value that nothing gives.
    Nowhere(u32),
    /// A value that two comparisons took.
    Twice(u32),
    /// Within a cluster: the one value follows the other, and something that saw it ended too early.
    Within(u32, u32),
    /// Comparisons that wait for each other: one of their values.
    Circle(u32),
    /// Two clusters, by their first values.
    Zones(u32, u32),
}

struct Zones<'a> {
    calls: &'a [Call<RegisterOp>],
    levels: Vec<Level>,
    /// What gives a value, perhaps: the value, and what it takes for it ([`NEVER`]: nothing).
    crashed: Vec<(u32, u32)>,
    differs: Vec<u32>,
    last: u32,
    taken_twice: Option<u32>,
    has_cas: bool,
}

/// Decides, if no value is given twice: see the module.
pub(super) fn decide(calls: &[Call<RegisterOp>]) -> Option<Quick> {
    let mut zones = Zones::read(calls)?;
    let by = if zones.has_cas { "chains" } else { "zones" };
    let found = zones.settle_crashed().and_then(|()| zones.conflict());
    let culprits = match found {
        Err(conflict) => zones.culprits(&conflict),
        Ok(()) if zones.differs.is_empty() || zones.holds_differing() => Vec::new(),
        Ok(()) => return None,
    };
    Some(Quick { by, culprits })
}

/// A cluster: the two bounds of its zone, and its first value.
#[derive(Clone, Copy)]
struct Cluster {
    first_end: u32,
    last_begin: u32,
    head: u32,
}

impl Cluster {
    fn is_forward(&self) -> bool {
        self.first_end < self.last_begin
    }

    fn earlier(&self) -> u32 {
        self.first_end.min(self.last_begin)
    }

    fn later(&self) -> u32 {
        self.first_end.max(self.last_begin)
    }
}

impl<'a> Zones<'a> {
    /// Reads all calls; `None` if the conditions do not hold.
    fn read(calls: &'a [Call<RegisterOp>]) -> Option<Zones<'a>> {
        let mut zones = Zones {
            calls,
            levels: Vec::new(),
            crashed: Vec::new(),
            differs: Vec::new(),
            last: 0,
            taken_twice: None,
            has_cas: false,
        };
        zones.levels.push(EMPTY);
        // A reading numbers values as it meets them; whoever does not has no use for tables.
        let most = u32::try_from(2 * calls.len() + 2).ok()?;
        let mut is_given_twice = false;
        for (n, call) in calls.iter().enumerate() {
            let begin = call.begin + 1;
            let end = if call.ended() { call.end + 1 } else { NEVER };
            let end_if_any = if call.ended() { end } else { begin };
            zones.last = zones.last.max(end_if_any);
            match call.op {
                // Which of the two comes next cannot be foreseen: no branch depends on it.
                Read(value) | Set(value) if call.ended() => {
                    let sets = matches!(call.op, Set(_));
                    let level = zones.level(value, most)?;
                    level.first_end = level.first_end.min(end);
                    level.last_begin = level.last_begin.max(begin);
                    is_given_twice |= sets & ((level.given != 0) | (value == 0));
                    level.given |= if sets { begin } else { 0 };
                }
                Set(value) => {
                    zones.give(value, begin, end, 0, most)?;
                    zones.crashed.push((value, NEVER));
                }
                Cas { from, to } => {
                    zones.has_cas = true;
                    zones.give(to, begin, end, BY_CAS, most)?;
                    if !call.ended() {
                        zones.crashed.push((to, from));
                        zones.level(from, most)?;
                    } else if zones.take(from, to, most)?.is_err() {
                        zones.taken_twice = Some(from);
                    }
                }
                Read(_) | Differs(_) if !call.ended() => {}
                Read(value) | Differs(value) => {
                    zones.level(value, most)?;
                    zones.differs.push(n as u32);
                }
            }
        }
        (zones.last < BY_CAS - 1 && !is_given_twice).then_some(zones)
    }

    #[inline]
    fn level(&mut self, value: u32, most: u32) -> Option<&mut Level> {
        let at = value as usize;
        if at >= self.levels.len() {
            self.grow(at, most)?;
        }
        Some(&mut self.levels[at])
    }

    #[cold]
    fn grow(&mut self, at: usize, most: u32) -> Option<()> {
        let most = most as usize + 1;
        // Room for as many as there can be costs nothing until it is used.
        self.levels.reserve_exact(most - self.levels.len());
        (at < most).then(|| self.levels.resize((2 * at + 1024).min(most), EMPTY))
    }

    #[inline]
    fn give(&mut self, value: u32, begin: u32, end: u32, by: u32, most: u32) -> Option<()> {
        let level = self.level(value, most)?;
        if value == 0 || level.given != 0 || begin >= BY_CAS {
            return None;
        }
        level.given = begin | by;
        if end != NEVER {
            level.first_end = level.first_end.min(end);
            level.last_begin = level.last_begin.max(begin);
        }
        Some(())
    }

    /// Puts `to` in the place of `from`; an error if something else is there already.
    fn take(&mut self, from: u32, to: u32, most: u32) -> Option<Result<(), Conflict>> {
        let level = self.level(from, most)?;
        if level.next != 0 && level.next != to {
            return Some(Err(Conflict::Twice(from)));
        }
        level.next = to;
        Some(Ok(()))
    }

    /// Finds which crashed calls happened, and leaves the others out.
    fn settle_crashed(&mut self) -> Result<(), Conflict> {
        if let Some(value) = self.taken_twice {
            return Err(Conflict::Twice(value));
        }
        let mut crashed = std::mem::take(&mut self.crashed);
        crashed.sort_unstable();
        let seen = crashed
            .iter()
            .filter(|(value, _)| self.levels[*value as usize].is_seen());
        let mut happened: Vec<(u32, u32)> = seen.copied().collect();
        while let Some((value, from)) = happened.pop() {
            if from == NEVER {
                continue;
            }
            let level = &mut self.levels[from as usize];
            let was_seen = level.is_seen();
            if level.next != 0 && level.next != value {
                return Err(Conflict::Twice(from));
            }
            level.next = value;
            if !was_seen && let Ok(n) = crashed.binary_search_by_key(&from, |(value, _)| *value) {
                happened.push(crashed[n]);
            }
        }
        for (value, _) in &crashed {
            let level = &mut self.levels[*value as usize];
            if !level.is_seen() {
                *level = EMPTY;
            }
        }
        self.crashed = crashed;
        Ok(())
    }

    /// Looks for a conflict: first in one pass over a table, then, if there is one, for who they are.
    fn conflict(&self) -> Result<(), Conflict> {
        let is_dense = self.last as usize / 16 <= self.levels.len();
        if is_dense && !self.overlap_somewhere()? {
            return Ok(());
        }
        self.overlap(&self.clusters()?)
    }

    fn clusters(&self) -> Result<Vec<Cluster>, Conflict> {
        let mut clusters = Vec::new();
        self.each_cluster(|cluster| clusters.push(cluster))?;
        Ok(clusters)
    }

    fn each_cluster(&self, mut take: impl FnMut(Cluster)) -> Result<(), Conflict> {
        let mut given = 0;
        let mut reached = 0;
        for (value, level) in (0..).zip(&self.levels) {
            let is_given = level.given != 0;
            if !is_given && level.is_seen() && value != 0 {
                return Err(Conflict::Nowhere(value));
            }
            given += usize::from(is_given);
            let is_head = match value {
                0 => level.is_seen(),
                _ => is_given && level.given & BY_CAS == 0,
            };
            if is_head {
                let (cluster, values) = self.cluster(value)?;
                reached += values;
                take(cluster);
            }
        }
        let nil = usize::from(self.levels[0].is_seen());
        match reached < given + nil {
            true => Err(self.circle()),
            false => Ok(()),
        }
    }

    /// The cluster that begins with a value, and how many values it has.
    fn cluster(&self, head: u32) -> Result<(Cluster, usize), Conflict> {
        let mut value = head;
        let mut first_end = if head == 0 { 0 } else { NEVER };
        let mut last_begin = 0;
        let mut latest = head;
        let mut values = 0;
        loop {
            let level = &self.levels[value as usize];
            if level.begin() > last_begin {
                (last_begin, latest) = (level.begin(), value);
            }
            if level.first_end < last_begin {
                return Err(Conflict::Within(latest, value));
            }
            first_end = first_end.min(level.first_end);
            if level.last_begin > last_begin {
                (last_begin, latest) = (level.last_begin, value);
            }
            values += 1;
            value = level.next;
            if value == 0 {
                let cluster = Cluster {
                    first_end,
                    last_begin,
                    head,
                };
                return Ok((cluster, values));
            }
        }
    }

    /// Looks for two zones that conflict: one pass over those in the order of their earlier bounds. Of the forward ones
    /// that came before, which do not overlap, only the last can reach so far; and it conflicts with what has ended
    /// before its end, forward or backward.
    fn overlap(&self, clusters: &[Cluster]) -> Result<(), Conflict> {
        let mut end = 0;
        let mut of = 0;
        for n in sorted(clusters, self.last, Cluster::earlier) {
            let zone = &clusters[n as usize];
            if zone.first_end < end {
                return Err(Conflict::Zones(clusters[of as usize].head, zone.head));
            }
            if zone.is_forward() {
                (end, of) = (zone.last_begin, n);
            }
        }
        Ok(())
    }

    /// The same pass, over a table of the places, without a branch; which two they are is not told.
    fn overlap_somewhere(&self) -> Result<bool, Conflict> {
        // At a zone's earlier bound the later one, twice, and one more if it is forward.
        let mut at = vec![0_u32; self.last as usize + 1];
        self.each_cluster(|zone| at[zone.earlier() as usize] = zone.later() << 1 | u32::from(zone.is_forward()))?;
        let mut end = 0;
        let mut found = false;
        for (place, zone) in (0..).zip(at) {
            let (later, is_forward) = (zone >> 1, zone & 1 != 0);
            let first_end = if is_forward { place } else { later };
            found |= (zone != 0) & (first_end < end);
            end = if is_forward { later } else { end };
        }
        Ok(found)
    }
}

/// The clusters, by their numbers, in the order of a key that is at most `last`, and of which no two are the same.
fn sorted(clusters: &[Cluster], last: u32, key: impl Fn(&Cluster) -> u32) -> Vec<u32> {
    if last as usize / 16 > clusters.len() {
        let mut order: Vec<u64> = (0..).zip(clusters).map(|(n, c)| u64::from(key(c)) << 32 | n).collect();
        order.sort_unstable();
        return order.into_iter().map(|c| c as u32).collect();
    }
    let mut at = vec![0_u32; last as usize + 1];
    for (n, cluster) in (1..).zip(clusters) {
        at[key(cluster) as usize] = n;
    }
    at.retain(|n| *n != 0);
    at.iter_mut().for_each(|n| *n -= 1);
    at
}
