//! Members apply the same entries (Raft: State Machine Safety, Ongaro's thesis, section 3.6.3).
//!
//! Judged: whether two members, or two lives of one, applied entries with different terms or different digests at the
//! same index of their logs. A digest covers all entries up to its index.
//!
//! No sound system can trip it: only committed entries are applied, a committed entry never changes, and the digest is
//! a function of the entries alone. When and in which life an entry is applied does not matter, and a member that skips
//! entries by a snapshot leaves gaps, which are not held against it.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, Name, Verdict};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy)]
struct Entry {
    term: u64,
    digest: u64,
    host: Name,
    mark: Mark,
}

/// See the module. Memory: one entry per index of the log, for a restarted member may apply any of them again.
pub(crate) struct AppliedAgreement {
    law: Law,
    entries: BTreeMap<u64, Entry>,
    hosts: BTreeSet<Name>,
    applied: u64,
    /// Pairs of hosts whose first difference was told; the digest makes all later indices differ as well.
    told: BTreeSet<(Name, Name)>,
    differing: u64,
    findings: Findings,
}

impl AppliedAgreement {
    pub fn new(header: &Header) -> AppliedAgreement {
        AppliedAgreement {
            law: Law::new(header),
            entries: BTreeMap::new(),
            hosts: BTreeSet::new(),
            applied: 0,
            told: BTreeSet::new(),
            differing: 0,
            findings: Findings::default(),
        }
    }
}

impl Checker for AppliedAgreement {
    fn name(&self) -> &'static str {
        Guarantee::AppliedAgreement.name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        let Body::Applied {
            host,
            index,
            term,
            digest,
        } = event.body
        else {
            return;
        };
        self.applied += 1;
        self.hosts.insert(host);
        let entry = Entry {
            term,
            digest,
            host,
            mark: Mark::of(event),
        };
        let first = *self.entries.entry(index).or_insert(entry);
        if (first.term, first.digest) == (term, digest) {
            return;
        }
        self.differing += 1;
        if self.told.insert((first.host.min(host), first.host.max(host))) {
            self.findings.push(difference(index, first, entry));
        }
    }

    fn finish(&mut self) -> Verdict {
        if self.applied == 0 {
            let why = "no member was seen to apply an entry";
            return self.law.nothing(self.name(), Guarantee::AppliedAgreement, why);
        }
        let entries = count(self.entries.len() as u64, "entry", "entries");
        let hosts = count(self.hosts.len() as u64, "member", "members");
        let summary = if self.differing == 0 {
            format!("{hosts} applied the same {entries} ({} times in all)", self.applied)
        } else {
            format!(
                "{} of {} by {hosts} differ from what another applied at the same index",
                self.differing,
                count(self.applied, "application", "applications")
            )
        };
        std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default())
    }
}

fn difference(index: u64, first: Entry, second: Entry) -> splitbrain_core::Anomaly {
    let tell = |e: &Entry| {
        format!(
            "{} applied entry {index} with term {} and digest {} (#{}).",
            e.host, e.term, e.digest, e.mark.index
        )
    };
    let title = if first.host == second.host {
        format!("{} applied two different entries {index}", first.host)
    } else {
        format!("{} and {} applied different entries {index}", first.host, second.host)
    };
    anomaly(
        Guarantee::AppliedAgreement,
        title,
        vec![tell(&first), tell(&second)],
        &[first.mark, second.mark],
        &[first.host, second.host],
    )
}
