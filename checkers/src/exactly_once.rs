//! Jobs run exactly once.
//!
//! A job's run is one write to the storage, so the storage's own words say how often it ran. Judged:
//! - *twice*: the storage took a job's run a second time (what a scheduler promises that retries: at least once);
//! - *lost*: a run that was acknowledged is not in the storage.
//!
//! And against the candidate protocol, whatever was promised: a host whose offers of a job all `fail`ed did not run it.
//!
//! No sound system can trip it: a run that has no answer may or may not be there, once, and a job of which nobody says
//! that it ran may never run (at most once): that is counted, and no harm. A run is lost only where the storage has told
//! of later ones and no line of its is missing; where its last words may be lost the verdict is unknown.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use crate::storage_order::StorageLife;
use splitbrain_core::event::Phase;
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// A run, as the storage or an answer told it.
#[derive(Clone, Copy)]
struct Run {
    seq: u64,
    by: Name,
    mark: Mark,
}

/// One host's offers of one job.
#[derive(Clone, Copy, Default)]
struct Offers {
    /// The last that failed.
    failed: Option<Mark>,
    /// Whether one did not, or has not ended.
    others: u64,
}

#[derive(Default)]
struct Job {
    runs: Vec<Run>,
    /// The first acknowledgement, and whether it came before the last look began.
    acked: Option<(Run, bool)>,
    offers: BTreeMap<Name, Offers>,
}

/// See the module. Memory: one entry per job and host that it was offered to.
pub(crate) struct ExactlyOnce {
    law: Law,
    life: StorageLife,
    jobs: BTreeMap<u64, Job>,
    last_seq: u64,
    gaps: u64,
    settled: bool,
}

impl ExactlyOnce {
    pub fn new(header: &Header) -> ExactlyOnce {
        ExactlyOnce {
            law: Law::new(header),
            life: StorageLife::new(header),
            jobs: BTreeMap::new(),
            last_seq: 0,
            gaps: 0,
            settled: false,
        }
    }

    fn offer(&mut self, host: Name, job: u64, seq: Option<u64>, event: &Event) {
        let (mark, early) = (Mark::of(event), !self.settled);
        let job = self.jobs.entry(job).or_default();
        let offers = job.offers.entry(host).or_default();
        match event.kind {
            Kind::Invoke => offers.others += 1,
            Kind::Fail => {
                offers.others -= 1;
                offers.failed = Some(mark);
            }
            Kind::Ok | Kind::Info => {}
        }
        if let (Kind::Ok, Some(seq)) = (event.kind, seq) {
            job.acked.get_or_insert((Run { seq, by: host, mark }, early));
        }
    }

    /// Acknowledged jobs of which the storage never told, although it told of later ones; and those of which it may
    /// have, later.
    fn unstored(&self) -> (Vec<(u64, Run)>, u64) {
        let acked = self.jobs.iter().filter(|(_, job)| job.runs.is_empty());
        let acked = acked.filter_map(|(number, job)| Some((*number, job.acked?)));
        let (mut lost, mut unheard) = (Vec::new(), 0);
        for (number, (run, early)) in acked {
            match run.seq <= self.last_seq && self.gaps == 0 {
                true => lost.push((number, run)),
                false => unheard += u64::from(early),
            }
        }
        (lost, unheard)
    }

    fn doubt(&self, unheard: u64) -> Option<String> {
        if self.gaps > 0 {
            let lines = count(self.gaps, "line", "lines");
            return Some(format!("{lines} of the storage are missing from the history"));
        }
        let runs = count(unheard, "acknowledged run", "acknowledged runs");
        (unheard > 0 && self.settled).then(|| format!("the storage never told of {runs}, nor of any later one"))
    }
}

fn twice(job: u64, runs: &[Run]) -> Anomaly {
    let told = runs
        .iter()
        .map(|run| format!("{} ran job {job} as number {} (#{}).", run.by, run.seq, run.mark.index));
    let marks: Vec<Mark> = runs.iter().map(|run| run.mark).collect();
    let hosts: BTreeSet<Name> = runs.iter().map(|run| run.by).collect();
    let who = crate::agreement::names(hosts.iter().copied());
    let title = match runs.len() {
        2 => format!("job {job} ran twice, by {who}"),
        n => format!("job {job} ran {n} times, by {who}"),
    };
    let hosts: Vec<Name> = hosts.into_iter().collect();
    anomaly(Guarantee::ExactlyOnce, title, told.collect(), &marks, &hosts)
}

fn lost(job: u64, run: &Run, last_seq: u64) -> Anomaly {
    let story = vec![
        format!(
            "{} answered that job {job} ran, as number {} (#{}).",
            run.by, run.seq, run.mark.index
        ),
        format!("The storage told of {last_seq} writes, and job {job} is none of them."),
    ];
    let title = format!("{} acknowledged job {job}, which never ran", run.by);
    anomaly(Guarantee::ExactlyOnce, title, story, &[run.mark], &[run.by])
}

/// The runs of hosts that said of every offer that it failed.
fn denied(number: u64, job: &Job) -> Option<Anomaly> {
    let denied = |run: &&Run| job.offers.get(&run.by).filter(|o| o.others == 0).and_then(|o| o.failed);
    let run = job.runs.iter().find(|run| denied(run).is_some())?;
    let failed = denied(&run)?;
    let host = run.by;
    let story = vec![
        format!(
            "{host} answered to each offer of job {number} that it failed, the last time in #{}.",
            failed.index
        ),
        format!("The storage took its run as number {} (#{}).", run.seq, run.mark.index),
    ];
    let title = format!("{host} said that job {number} failed, and ran it all the same");
    Some(anomaly(
        Guarantee::ExactlyOnce,
        title,
        story,
        &[failed, run.mark],
        &[host],
    ))
}

impl Checker for ExactlyOnce {
    fn name(&self) -> &'static str {
        Guarantee::ExactlyOnce.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.life.event(event);
        match event.body {
            Body::Run { host, job, seq, .. } => self.offer(host, job, seq, event),
            Body::Stored { seq, value, by, .. } => {
                self.gaps += seq.saturating_sub(self.last_seq + 1);
                self.last_seq = self.last_seq.max(seq);
                let mark = Mark::of(event);
                self.jobs.entry(value).or_default().runs.push(Run { seq, by, mark });
            }
            Body::Phase { phase: Phase::Final } => self.settled = true,
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        if let Some(doubt) = self.life.doubt() {
            return Verdict::unknown(self.name(), doubt);
        }
        let of = |pick: &dyn Fn(&Job) -> bool| self.jobs.values().filter(|job| pick(job)).count() as u64;
        let ran = of(&|job| !job.runs.is_empty());
        let acked = of(&|job| job.acked.is_some());
        let idle = of(&|job| job.runs.is_empty() && job.acked.is_none());
        let again = of(&|job| job.runs.len() > 1);
        let (unstored, unheard) = self.unstored();
        let (mut findings, mut lies) = (Findings::default(), Findings::default());
        for (number, job) in &self.jobs {
            if job.runs.len() > 1 {
                findings.push(twice(*number, &job.runs));
            }
            denied(*number, job).into_iter().for_each(|lie| lies.push(lie));
        }
        unstored
            .iter()
            .for_each(|(job, run)| findings.push(lost(*job, run, self.last_seq)));
        let doubt = self.doubt(unheard).filter(|_| findings.is_empty() && lies.is_empty());
        let mut verdict = if let Some(doubt) = doubt {
            Verdict::unknown(self.name(), doubt)
        } else if ran + acked == 0 {
            self.law.nothing(self.name(), Guarantee::ExactlyOnce, "no job was run")
        } else {
            let offered = count(self.jobs.len() as u64, "job", "jobs");
            let mut summary = format!(
                "of {offered}, {} ran once, {again} more than once, {idle} never",
                ran - again
            );
            if !unstored.is_empty() {
                summary += &format!("; {} were acknowledged and never ran", unstored.len());
            }
            findings.verdict(self.name(), &self.law, summary, lies)
        };
        verdict.figures = vec![
            figure("jobs run once", (ran - again) as f64, ""),
            figure("jobs run again", again as f64, ""),
            figure("jobs acknowledged and lost", unstored.len() as f64, ""),
            figure("jobs never run", idle as f64, ""),
        ];
        verdict
    }
}
