//! Ids that leaders hand out: none twice, and rising in real time.
//!
//! Judged, of the ids that were handed out (`next` answered with `ok`): whether one was handed out twice; and whether one
//! that was asked for after another had been handed out is lower than that.
//!
//! No sound system can trip it: an id counts only once it was handed out, so what may have been written without an answer
//! is no duplicate, and an id that nobody got may be skipped. Order is real time by control's own record: the question
//! stands in the history after the other's answer. Ids that were asked for side by side may come in any order.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::figure;
use splitbrain_core::{Anomaly, Body, Checker, Event, Guarantee, Header, Kind, Name, Process, Verdict};
use std::collections::{BTreeMap, VecDeque};

/// Which of the two is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Unique,
    Rising,
}

/// An id that was handed out.
#[derive(Clone, Copy)]
struct Given {
    id: u64,
    host: Name,
    asked: Mark,
    answered: Mark,
}

impl Given {
    fn tell(&self) -> String {
        let Given {
            id,
            host,
            asked,
            answered,
        } = self;
        format!(
            "{host} handed out {id} (asked #{}, answered #{}).",
            asked.index, answered.index
        )
    }
}

/// How many ids are remembered with the words that prove them.
const RECENT: usize = 50_000;

/// The ids that are out. Of the newest it is known who handed them out and when; of the older ones only that they are
/// out, as runs of neighbours: ids are mostly handed out in order.
#[derive(Default)]
struct Out {
    recent: BTreeMap<u64, Given>,
    order: VecDeque<u64>,
    /// First and last id of each run.
    runs: BTreeMap<u64, u64>,
}

/// That an id is out already.
enum Before {
    By(Given),
    Long,
}

impl Out {
    fn insert(&mut self, given: Given) -> Option<Before> {
        if let Some(first) = self.recent.get(&given.id) {
            return Some(Before::By(*first));
        }
        let run = self.runs.range(..=given.id).next_back();
        if run.is_some_and(|(_, last)| *last >= given.id) {
            return Some(Before::Long);
        }
        self.recent.insert(given.id, given);
        self.order.push_back(given.id);
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
            self.join(oldest);
        }
        None
    }

    /// Adds one to the runs, and makes one of those that touch.
    fn join(&mut self, id: u64) {
        let (mut first, mut last) = (id, id);
        if let Some((before, end)) = self.runs.range(..id).next_back()
            && end.checked_add(1) == Some(id)
        {
            first = *before;
        }
        if let Some(next) = id.checked_add(1)
            && let Some(end) = self.runs.remove(&next)
        {
            last = end;
        }
        self.runs.insert(first, last);
    }
}

/// See the module. Memory: one entry per open question; where ids must be unique also one for each of the newest, and
/// one for each run of neighbours among the others.
pub(crate) struct Ids {
    which: Which,
    pub law: Law,
    /// Questions under way, with the highest id that had been handed out before.
    open: BTreeMap<u32, (Mark, Option<Given>)>,
    highest: Option<Given>,
    out: Out,
    given: u64,
    unanswered: u64,
    findings: Findings,
}

impl Ids {
    pub fn new(header: &Header, which: Which) -> Ids {
        Ids {
            which,
            law: Law::new(header),
            open: BTreeMap::new(),
            highest: None,
            out: Out::default(),
            given: 0,
            unanswered: 0,
            findings: Findings::default(),
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.which {
            Which::Unique => Guarantee::UniqueIds,
            Which::Rising => Guarantee::RisingIds,
        }
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.open.len() + self.out.recent.len() + self.out.runs.len()
    }

    /// A client asks.
    pub fn asked(&mut self, client: u32, mark: Mark) {
        self.open.insert(client, (mark, self.highest));
    }

    /// It got an id, or none, or nobody knows.
    pub fn ended(&mut self, client: u32, host: Name, answered: Mark, id: Option<u64>, unknown: bool) {
        let Some((asked, before)) = self.open.remove(&client) else {
            return;
        };
        self.unanswered += u64::from(unknown);
        if let Some(id) = id {
            let given = Given {
                id,
                host,
                asked,
                answered,
            };
            self.handed_out(given, before);
        }
    }

    fn handed_out(&mut self, given: Given, before: Option<Given>) {
        self.given += 1;
        if self.highest.is_none_or(|high| given.id > high.id) {
            self.highest = Some(given);
        }
        match self.which {
            Which::Unique => {
                let before = self.out.insert(given);
                if let Some(before) = before {
                    self.findings.push(twice(&before, &given));
                }
            }
            Which::Rising => {
                if let Some(before) = before.filter(|before| given.id < before.id) {
                    self.findings.push(fell(&before, &given));
                }
            }
        }
    }
}

fn twice(first: &Before, second: &Given) -> Anomaly {
    let Before::By(first) = first else {
        let title = format!("{} handed out {}, which was out long before", second.host, second.id);
        let proof = [second.asked, second.answered];
        return anomaly(Guarantee::UniqueIds, title, vec![second.tell()], &proof, &[second.host]);
    };
    let title = match first.host == second.host {
        true => format!("{} handed out {} twice", first.host, first.id),
        false => format!("{} and {} both handed out {}", first.host, second.host, first.id),
    };
    told(Guarantee::UniqueIds, title, first, second)
}

fn fell(before: &Given, after: &Given) -> Anomaly {
    let title = format!("{} handed out {} after {} was out", after.host, after.id, before.id);
    told(Guarantee::RisingIds, title, before, after)
}

fn told(guarantee: Guarantee, title: String, a: &Given, b: &Given) -> Anomaly {
    let proof = [a.asked, a.answered, b.asked, b.answered];
    anomaly(guarantee, title, vec![a.tell(), b.tell()], &proof, &[a.host, b.host])
}

impl Checker for Ids {
    fn name(&self) -> &'static str {
        self.guarantee().name()
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        let (Body::Next { host, id }, Process::Client(client)) = (&event.body, event.process) else {
            return;
        };
        let mark = Mark::of(event);
        match event.kind {
            Kind::Invoke => self.asked(client, mark),
            kind => {
                let id = id.filter(|_| kind == Kind::Ok);
                self.ended(client, *host, mark, id, kind == Kind::Info);
            }
        }
    }

    fn finish(&mut self) -> Verdict {
        if self.given == 0 {
            return self.law.nothing(self.name(), self.guarantee(), "no id was handed out");
        }
        let ids = count(self.given, "id", "ids");
        let wrong = self.findings.total();
        let summary = match (self.which, wrong) {
            (Which::Unique, 0) => format!("{ids} were handed out, none twice"),
            (Which::Unique, n) => format!("of {ids} that were handed out, {n} had been handed out before"),
            (Which::Rising, 0) => format!("{ids} rose in real time"),
            (Which::Rising, n) => format!("of {ids}, {n} came out lower than one that was out before"),
        };
        let mut verdict =
            std::mem::take(&mut self.findings).verdict(self.name(), &self.law, summary, Findings::default());
        if self.which == Which::Unique {
            verdict.figures = vec![
                figure("ids handed out", self.given as f64, ""),
                figure("ids without an answer", self.unanswered as f64, ""),
                figure("ids handed out again", wrong as f64, ""),
            ];
        }
        verdict
    }
}
