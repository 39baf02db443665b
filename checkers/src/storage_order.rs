//! The storage's order: what it took, in its own sequence, and whether candidates told the truth about it.
//!
//! Judged against the promise: a fenced storage (a guarded one too) never takes a token lower than one that it took
//! before, never refuses one that is not lower, and never gives a sequence number twice.
//! Judged against the candidate protocol, whatever was promised: a write that `fail`ed is not in the storage, and a
//! write that is `ok` is there, at that place, with that value and token.
//!
//! No sound system can trip it: the storage's sequence numbers are the order in which it decided, no clock is
//! involved, and a write may be late by any time. An `info` write may or may not be there. A `fail` says that it did not
//! happen and never will, so finding it, before or after, is a lie. An acknowledged write is missing only where the
//! storage is known to have spoken of later ones; where its last words were lost, or where a line is missing, or where
//! it died and forgot, the verdict is unknown.
use crate::evidence::{Findings, Law, Mark, anomaly, count, deaths};
use crate::figures::figure;
use splitbrain_core::event::Phase;
use splitbrain_core::plan::Storage;
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, HostRole, Kind, Name, Token, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the storage still is the one that it was: its state is in memory, so a second life knows nothing.
pub(crate) struct StorageLife {
    host: Option<Name>,
    starts: u32,
    died: bool,
}

impl StorageLife {
    pub fn new(header: &Header) -> StorageLife {
        let host = header
            .hosts
            .iter()
            .find(|h| h.role == HostRole::Storage)
            .map(|h| h.name);
        StorageLife {
            host,
            starts: 0,
            died: false,
        }
    }

    pub fn event(&mut self, event: &Event) {
        self.died |= deaths(event).iter().any(|dead| Some(*dead) == self.host);
        if let Body::Started { host, .. } = event.body
            && Some(host) == self.host
        {
            self.starts += 1;
        }
    }

    /// Why the storage's order proves nothing, if it does not.
    pub fn doubt(&self) -> Option<String> {
        (self.died || self.starts > 1)
            .then(|| "the storage died during the run and forgot its order: nothing can be said of it".to_string())
    }
}

/// Whether a write failed because its writer's token was stale: a guarded storage tells nobody but the writer.
pub(crate) fn is_stale(event: &Event) -> bool {
    event.error.as_deref() == Some("stale-token")
}

/// One write: as the storage told it, or as its writer's answer did.
#[derive(Clone, Copy)]
struct Write {
    value: u64,
    token: Token,
    by: Name,
    mark: Mark,
}

/// See the module. Memory: writes whose other half is still missing, failed writes, pairs of tokens that fell.
pub(crate) struct StorageOrder {
    law: Law,
    life: StorageLife,
    fenced: bool,
    guarded: bool,
    settled: bool,
    last_seq: u64,
    highest: Option<Write>,
    gaps: u64,
    /// Stored, and not acknowledged so far.
    stored: BTreeMap<u64, Write>,
    /// Acknowledged, and not stored so far; with whether that was before the last look began.
    acked: BTreeMap<u64, (Write, bool)>,
    /// Stored values whose operation is not complete.
    in_storage: BTreeMap<u64, (u64, Mark)>,
    failed: BTreeMap<u64, (Name, Mark)>,
    fell: BTreeSet<(Token, Token)>,
    accepted: u64,
    rejected: u64,
    findings: Findings,
    lies: Findings,
}

impl StorageOrder {
    pub fn new(header: &Header) -> StorageOrder {
        StorageOrder {
            law: Law::new(header),
            life: StorageLife::new(header),
            fenced: header.plan.storage != Storage::Unfenced,
            guarded: header.plan.storage == Storage::Guarded,
            settled: false,
            last_seq: 0,
            highest: None,
            gaps: 0,
            stored: BTreeMap::new(),
            acked: BTreeMap::new(),
            in_storage: BTreeMap::new(),
            failed: BTreeMap::new(),
            fell: BTreeSet::new(),
            accepted: 0,
            rejected: 0,
            findings: Findings::default(),
            lies: Findings::default(),
        }
    }

    fn stored(&mut self, seq: u64, write: Write) {
        self.accepted += 1;
        if seq <= self.last_seq {
            let story = vec![format!(
                "The storage gave the number {seq} to a write of {} (#{}) after it had given {}.",
                write.by, write.mark.index, self.last_seq
            )];
            let title = format!("the storage gave the number {seq} again");
            self.findings.push(anomaly(
                Guarantee::StorageOrder,
                title,
                story,
                &[write.mark],
                &[write.by],
            ));
            return;
        }
        self.gaps += seq - self.last_seq - 1;
        self.last_seq = seq;
        self.token(write);
        let acked = self.acked.remove(&seq);
        if let Some((host, mark)) = self.failed.remove(&write.value) {
            self.failed_yet_stored(write.value, host, seq, mark, write.mark);
        } else if acked.is_none() {
            self.in_storage.insert(write.value, (seq, write.mark));
        }
        match acked {
            Some((ack, _)) => self.compare(seq, ack, write),
            None => {
                self.stored.insert(seq, write);
            }
        }
    }

    fn token(&mut self, write: Write) {
        match self.highest {
            Some(high) if write.token < high.token => {
                if self.fenced && self.fell.insert((write.token, high.token)) {
                    let story = vec![
                        format!(
                            "The storage took token {} from {} (#{}).",
                            high.token, high.by, high.mark.index
                        ),
                        format!(
                            "Later in its order it took the lower token {} from {} (#{}).",
                            write.token, write.by, write.mark.index
                        ),
                    ];
                    let title = format!("the fenced storage took token {} after {}", write.token, high.token);
                    let proof = [high.mark, write.mark];
                    let hosts = [high.by, write.by];
                    self.findings
                        .push(anomaly(Guarantee::StorageOrder, title, story, &proof, &hosts));
                }
            }
            Some(high) if write.token == high.token => {}
            _ => self.highest = Some(write),
        }
    }

    fn rejected(&mut self, token: Token, highest: Token, by: Name, mark: Mark) {
        self.rejected += 1;
        if token >= highest {
            let story = vec![format!(
                "The storage refused token {token} of {by}, although the highest it had seen was {highest} (#{}).",
                mark.index
            )];
            let title = format!("the storage refused token {token}, which was not stale");
            self.findings
                .push(anomaly(Guarantee::StorageOrder, title, story, &[mark], &[by]));
        }
    }

    fn acknowledged(&mut self, seq: u64, ack: Write) {
        self.in_storage.remove(&ack.value);
        if let Some(write) = self.stored.remove(&seq) {
            self.compare(seq, ack, write);
        } else if seq > self.last_seq {
            self.acked.insert(seq, (ack, !self.settled));
        } else if self.gaps == 0 {
            let story = vec![format!(
                "{} answered that its write of {} is the storage's number {seq} (#{}), which is another's.",
                ack.by, ack.value, ack.mark.index
            )];
            let title = format!("{} acknowledged a write that is not in the storage", ack.by);
            self.lies
                .push(anomaly(Guarantee::StorageOrder, title, story, &[ack.mark], &[ack.by]));
        }
    }

    fn compare(&mut self, seq: u64, ack: Write, write: Write) {
        if (ack.value, ack.token) == (write.value, write.token) {
            return;
        }
        let tell = |w: &Write| format!("value {} with token {}", w.value, w.token);
        let story = vec![
            format!(
                "{} answered that number {seq} is {} (#{}).",
                ack.by,
                tell(&ack),
                ack.mark.index
            ),
            format!("The storage holds {} there (#{}).", tell(&write), write.mark.index),
        ];
        let title = format!("{} acknowledged number {seq} as what it is not", ack.by);
        let proof = [ack.mark, write.mark];
        self.lies.push(anomaly(
            Guarantee::StorageOrder,
            title,
            story,
            &proof,
            &[ack.by, write.by],
        ));
    }

    fn failed(&mut self, value: u64, host: Name, mark: Mark) {
        match self.in_storage.remove(&value) {
            Some((seq, stored)) => self.failed_yet_stored(value, host, seq, mark, stored),
            None => {
                self.failed.insert(value, (host, mark));
            }
        }
    }

    fn failed_yet_stored(&mut self, value: u64, host: Name, seq: u64, failed: Mark, stored: Mark) {
        let story = vec![
            format!(
                "{host} answered that its write of {value} failed, and so never happens (#{}).",
                failed.index
            ),
            format!("The storage took it as number {seq} (#{}).", stored.index),
        ];
        let title = format!("{host}'s write of {value} failed and is stored all the same");
        self.lies.push(anomaly(
            Guarantee::StorageOrder,
            title,
            story,
            &[failed, stored],
            &[host],
        ));
    }

    fn doubt(&self) -> Option<String> {
        let unheard = self.acked.values().filter(|(_, early)| *early).count();
        if self.gaps > 0 {
            let lines = count(self.gaps, "line", "lines");
            return Some(format!("{lines} of the storage are missing from the history"));
        }
        (unheard > 0 && self.settled).then(|| {
            let writes = count(unheard as u64, "acknowledged write", "acknowledged writes");
            format!("the storage never told of {writes}, nor of any later one")
        })
    }
}

impl Checker for StorageOrder {
    fn name(&self) -> &'static str {
        Guarantee::StorageOrder.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        self.life.event(event);
        let mark = Mark::of(event);
        match event.body {
            Body::Stored {
                seq, token, value, by, ..
            } => self.stored(seq, Write { value, token, by, mark }),
            Body::Rejected { token, highest, by, .. } => self.rejected(token, highest, by, mark),
            Body::Write {
                host,
                value,
                token: Some(token),
                seq: Some(seq),
            } if event.kind == Kind::Ok => {
                let by = host;
                self.acknowledged(seq, Write { value, token, by, mark });
            }
            Body::Write { host, value, .. } if event.kind == Kind::Fail => {
                self.rejected += u64::from(self.guarded && is_stale(event));
                self.failed(value, host, mark);
            }
            Body::Write { value, .. } if event.kind == Kind::Info => {
                self.in_storage.remove(&value);
            }
            Body::Phase { phase: Phase::Final } => self.settled = true,
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        if let Some(doubt) = self.life.doubt() {
            return Verdict::unknown(self.name(), doubt);
        }
        let broken = self.findings.total() + self.lies.total();
        let doubt = self.doubt().filter(|_| broken == 0);
        let mut verdict = if let Some(doubt) = doubt {
            Verdict::unknown(self.name(), doubt)
        } else if self.accepted == 0 && broken == 0 {
            self.law
                .nothing(self.name(), Guarantee::StorageOrder, "the storage took no write")
        } else {
            let writes = count(self.accepted, "write", "writes");
            let refused = count(self.rejected, "stale one", "stale ones");
            let summary = match (broken, self.fenced) {
                (0, true) => format!("the storage took {writes} with tokens that never fell, and refused {refused}"),
                (0, false) => format!("the storage took {writes}, each as its writer was told; it compares no tokens"),
                (n, _) => format!("the order of {writes} is wrong in {}", count(n, "place", "places")),
            };
            let lies = std::mem::take(&mut self.lies);
            std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, lies)
        };
        verdict.figures = vec![
            figure("writes accepted", self.accepted as f64, ""),
            figure("stale writes refused", self.rejected as f64, ""),
        ];
        verdict
    }
}
