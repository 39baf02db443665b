//! Damage: what a resource suffers from two leaders.
//!
//! Judged, in the storage's own order:
//! - *stale writes*: a write with a lower token after a write with a higher one, that is an old leader's work on top of
//!   a newer leader's;
//! - *lost updates*: a write whose writer had not seen another writer's write before it, and so overwrote it blindly.
//!
//! No sound system with a fenced storage can do either. The storage refuses a lower token; and a new leader looks at it
//! under its own token before it writes, so nothing with a lower token comes in between what it read and what it writes.
//! A guarded storage takes a write only while its writer's key is there, and whoever leads next looks when it is gone.
//! The order is the storage's sequence, so no delay of lines or answers matters. The writer's own earlier writes are no
//! lost updates: it knows of them, whether they were acknowledged or not.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use crate::reigns::Reigns;
use crate::service::Pauses;
use crate::storage_order::{StorageLife, is_stale};
use splitbrain_core::plan::Storage;
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Reign, Token, Verdict};
use std::collections::BTreeMap;

#[derive(Clone, Copy)]
struct Write {
    seq: u64,
    token: Token,
    by: Name,
    value: u64,
    mark: Mark,
}

impl Write {
    fn is_of_the_same(&self, other: &Write) -> bool {
        (self.by, self.token) == (other.by, other.token)
    }
}

/// How an old leader came to write: what befell it in its reign, before the storage took its first stale write.
#[derive(Clone, Copy, Default)]
struct Cause {
    paused: Option<(Mark, Option<Mark>)>,
    /// It gave up its reign.
    deposed: Option<Mark>,
    /// It was asked for the write.
    asked: Option<Mark>,
}

/// The same harm between the same two leaderships.
struct Run {
    /// The newer leader's write that came first; or the write that was lost.
    victim: Write,
    first: Write,
    last: Write,
    writes: u64,
    acked: Option<Mark>,
    cause: Cause,
}

/// Who harmed whom: a (host, token) and the other's.
type Pair = ((Name, Token), (Name, Token));

/// See the module. Memory: one entry per reign, per pair of leaderships between which harm was done, and per write of
/// which the storage has not told.
pub(crate) struct Damage {
    law: Law,
    life: StorageLife,
    guarded: bool,
    accepted: u64,
    rejected: u64,
    highest: Option<Write>,
    /// The newest write, and the newest by another writer.
    newest: Option<Write>,
    foreign: Option<Write>,
    stale: BTreeMap<Pair, Run>,
    lost: BTreeMap<Pair, Run>,
    /// Values of the first write of each run of stale writes: their acknowledgement is evidence.
    watched: BTreeMap<u64, Pair>,
    reigns: Reigns,
    pauses: Pauses,
    /// The newest reign that each host gave up.
    deposed: BTreeMap<Name, (Reign, Mark)>,
    /// When writes were asked for, by value.
    asked: BTreeMap<u64, Mark>,
}

impl Damage {
    pub fn new(header: &Header) -> Damage {
        Damage {
            law: Law::new(header),
            life: StorageLife::new(header),
            guarded: header.plan.storage == Storage::Guarded,
            accepted: 0,
            rejected: 0,
            highest: None,
            newest: None,
            foreign: None,
            stale: BTreeMap::new(),
            lost: BTreeMap::new(),
            watched: BTreeMap::new(),
            reigns: Reigns::default(),
            pauses: Pauses::default(),
            deposed: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn stored(&mut self, write: Write, base: u64) {
        self.accepted += 1;
        if let Some(newest) = self.newest
            && !newest.is_of_the_same(&write)
        {
            self.foreign = Some(newest);
        }
        self.newest = Some(write);
        match self.highest {
            Some(high) if write.token < high.token => {
                let pair = harm(&mut self.stale, high, write);
                if self.stale[&pair].writes == 1 {
                    let cause = self.cause(&write);
                    self.stale.entry(pair).and_modify(|run| run.cause = cause);
                    self.watched.insert(write.value, pair);
                }
                return;
            }
            Some(high) if write.token == high.token => {}
            _ => self.highest = Some(write),
        }
        if let Some(foreign) = self.foreign
            && foreign.seq > base
        {
            harm(&mut self.lost, foreign, write);
        }
    }

    fn cause(&self, write: &Write) -> Cause {
        let mut known = self.reigns.spans().iter().rev();
        let Some(reign) = known.find(|s| (s.host, s.token) == (write.by, Some(write.token))) else {
            return Cause::default();
        };
        let deposed = self.deposed.get(&write.by).copied();
        Cause {
            paused: self.pauses.last(write.by).filter(|(from, _)| *from > reign.first),
            deposed: deposed
                .filter(|(count, at)| *count == reign.reign && *at > reign.first)
                .map(|(_, at)| at),
            asked: self.asked.get(&write.value).copied(),
        }
    }

    /// Learns what may become a cause.
    fn learn(&mut self, event: &Event) {
        self.reigns.event(event);
        self.pauses.event(event);
        match event.body {
            Body::Deposed { host, reign, .. } => {
                self.deposed.insert(host, (reign, Mark::of(event)));
            }
            Body::Started { host, .. } => {
                self.deposed.remove(&host);
            }
            Body::Write { value, .. } | Body::Run { job: value, .. } if event.kind == Kind::Invoke => {
                self.asked.insert(value, Mark::of(event));
            }
            Body::Write { value, .. } | Body::Run { job: value, .. } if event.kind == Kind::Fail => {
                self.asked.remove(&value);
            }
            _ => {}
        }
    }
}

impl Cause {
    /// What happened, each with its place.
    fn tell(&self, host: Name) -> Vec<(Mark, String)> {
        let mut told = Vec::new();
        if let Some((from, to)) = self.paused {
            told.push((from, format!("{host} was paused (#{}).", from.index)));
            told.extend(to.map(|to| (to, format!("{host} went on (#{}).", to.index))));
        }
        if let Some(at) = self.deposed {
            let words = match self.asked.filter(|asked| *asked < at) {
                Some(asked) => {
                    told.push((asked, format!("{host} was asked to write (#{}).", asked.index)));
                    ", but the write was already under way"
                }
                None => "",
            };
            told.push((at, format!("{host} gave up its reign (#{}){words}.", at.index)));
        }
        told
    }
}

fn harm(runs: &mut BTreeMap<Pair, Run>, victim: Write, write: Write) -> Pair {
    let pair = ((write.by, write.token), (victim.by, victim.token));
    let run = runs.entry(pair).or_insert(Run {
        victim,
        first: write,
        last: write,
        writes: 0,
        acked: None,
        cause: Cause::default(),
    });
    run.writes += 1;
    run.last = write;
    pair
}

fn stale(run: &Run) -> Anomaly {
    let (old, new) = (run.first, run.victim);
    let mut told = run.cause.tell(old.by);
    told.push((
        new.mark,
        format!(
            "The storage took number {} from {} with token {} (#{}).",
            new.seq, new.by, new.token, new.mark.index
        ),
    ));
    told.push((
        old.mark,
        format!(
            "After that the storage took number {} from {} with the older token {} (#{}).",
            old.seq, old.by, old.token, old.mark.index
        ),
    ));
    if let Some(acked) = run.acked {
        let words = format!("{} was told that its write succeeded (#{}).", old.by, acked.index);
        told.push((acked, words));
    }
    // A reader follows it as it happened.
    told.sort();
    let mut proof: Vec<Mark> = told.iter().map(|(mark, _)| *mark).collect();
    proof.push(run.last.mark);
    let mut story: Vec<String> = told.into_iter().map(|(_, words)| words).collect();
    if run.writes > 1 {
        let (n, last) = (run.writes, run.last.mark.index);
        story.push(format!("The storage took {n} such writes in all, the last in #{last}."));
    }
    let title = format!(
        "{} of old leader {} (token {}) after the first of {} (token {})",
        count(run.writes, "write", "writes"),
        old.by,
        old.token,
        new.by,
        new.token
    );
    anomaly(Guarantee::NoDamage, title, story, &proof, &[old.by, new.by])
}

fn lost(run: &Run) -> Anomaly {
    let (over, under) = (run.first, run.victim);
    let mut story = vec![
        format!(
            "The storage took number {} from {} with token {} (#{}).",
            under.seq, under.by, under.token, under.mark.index
        ),
        format!(
            "{}, with token {}, wrote number {} without having seen it (#{}).",
            over.by, over.token, over.seq, over.mark.index
        ),
    ];
    if run.writes > 1 {
        story.push(format!("It did so {} times.", run.writes));
    }
    let title = format!(
        "{} (token {}) overwrote number {} of {} (token {}) unseen",
        over.by, over.token, under.seq, under.by, under.token
    );
    let proof = [under.mark, over.mark, run.last.mark];
    anomaly(Guarantee::NoDamage, title, story, &proof, &[over.by, under.by])
}

impl Checker for Damage {
    fn name(&self) -> &'static str {
        Guarantee::NoDamage.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.life.event(event);
        self.learn(event);
        let mark = Mark::of(event);
        match event.body {
            Body::Stored {
                seq,
                token,
                value,
                base,
                by,
            } => {
                let write = Write {
                    seq,
                    token,
                    by,
                    value,
                    mark,
                };
                self.stored(write, base);
                self.asked.remove(&value);
            }
            Body::Rejected { value, .. } => {
                self.rejected += 1;
                self.asked.remove(&value);
            }
            Body::Write { .. } | Body::Run { .. } | Body::Next { .. } if self.guarded && event.kind == Kind::Fail => {
                self.rejected += u64::from(is_stale(event));
            }
            Body::Write { value, .. } | Body::Run { job: value, .. } | Body::Next { id: Some(value), .. }
                if event.kind == Kind::Ok =>
            {
                if let Some(pair) = self.watched.remove(&value)
                    && let Some(run) = self.stale.get_mut(&pair)
                {
                    run.acked = Some(mark);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        if let Some(doubt) = self.life.doubt() {
            return Verdict::unknown(self.name(), doubt);
        }
        if self.accepted == 0 {
            return self
                .law
                .nothing(self.name(), Guarantee::NoDamage, "the storage took no write");
        }
        let mut findings = Findings::default();
        let mut runs: Vec<Anomaly> = self.stale.values().map(stale).collect();
        runs.extend(self.lost.values().map(lost));
        runs.sort_by_key(|a| a.from);
        runs.into_iter().for_each(|a| findings.push(a));
        let sum = |runs: &BTreeMap<Pair, Run>| runs.values().map(|r| r.writes).sum::<u64>();
        let (stale, lost) = (sum(&self.stale), sum(&self.lost));
        let writes = count(self.accepted, "write", "writes");
        let mut summary = match (stale, lost) {
            (0, 0) => format!("none of {writes} harmed another leader's"),
            _ => format!(
                "of {writes}, {stale} came from an old leader after a newer one's, and {lost} overwrote another's unseen"
            ),
        };
        if self.rejected > 0 {
            let refused = count(self.rejected, "stale write", "stale writes");
            summary += &format!("; fencing refused {refused}");
        }
        let mut verdict = findings.verdict(self.name(), &self.law, summary, Findings::default());
        verdict.figures = vec![
            figure("stale writes accepted", stale as f64, ""),
            figure("stale writes refused", self.rejected as f64, ""),
            figure("lost updates", lost as f64, ""),
        ];
        verdict
    }
}
