//! How the lock served those who asked for it.
//!
//! Whether two held it at once is [`crate::exclusion`]'s to say, and whether their tokens rose is `tokens-in-real-time`'s:
//! an `acquire` that is `ok` names a reign and its token and is one more piece of evidence to both. Here it is counted how
//! often the lock was got, refused, left unknown, and lost while it was held; and how long getting it took. Judged, against
//! the candidate protocol: a lock is never said to be held in a reign that was over before it was asked for.
//!
//! No sound system can trip it: the host itself had said that the reign ended, and control had recorded that, before it
//! asked; a reign that ended never goes on.
use crate::evidence::{Findings, Law, Mark, anomaly, count};
use crate::figures::{figure, percentiles};
use splitbrain_core::{Body, Checker, Event, Guarantee, Header, Kind, Name, Nanos, Process, Reign, Verdict};
use std::collections::BTreeMap;

/// See the module. Memory: one entry per host, per open question, and per acquisition for its time.
pub(crate) struct Lock {
    law: Law,
    /// Questions under way, with the newest reign of the host that was known to be over.
    open: BTreeMap<u32, (Mark, Option<(Reign, Mark)>)>,
    over: BTreeMap<Name, (Reign, Mark)>,
    /// Hosts that hold it by their own word, and whether they were asked to let go.
    holders: BTreeMap<Name, bool>,
    times: Vec<Nanos>,
    busy: u64,
    unknown: u64,
    lost: u64,
    lies: Findings,
}

impl Lock {
    pub const NAME: &'static str = "lock";

    pub fn new(header: &Header) -> Lock {
        Lock {
            law: Law::new(header),
            open: BTreeMap::new(),
            over: BTreeMap::new(),
            holders: BTreeMap::new(),
            times: Vec::new(),
            busy: 0,
            unknown: 0,
            lost: 0,
            lies: Findings::default(),
        }
    }

    fn acquired(&mut self, host: Name, reign: Reign, asked: Mark, over: Option<(Reign, Mark)>, answered: Mark) {
        self.times.push(answered.time - asked.time);
        self.holders.insert(host, false);
        let Some((_, ended)) = over.filter(|(last, _)| reign <= *last) else {
            return;
        };
        let story = vec![
            format!("{host} said that a reign of its was over (#{}).", ended.index),
            format!("After that it was asked for the lock (#{}).", asked.index),
            format!(
                "It answered that it holds it in reign {reign}, which was over (#{}).",
                answered.index
            ),
        ];
        let title = format!("{host} said that it holds the lock in a reign that was over");
        let proof = [ended, asked, answered];
        self.lies
            .push(anomaly(Guarantee::Exclusion, title, story, &proof, &[host]));
    }

    fn asked(&mut self, host: Name, reign: Option<Reign>, client: u32, event: &Event) {
        if event.kind == Kind::Invoke {
            self.open
                .insert(client, (Mark::of(event), self.over.get(&host).copied()));
            return;
        }
        let Some((asked, over)) = self.open.remove(&client) else {
            return;
        };
        match (event.kind, reign) {
            (Kind::Ok, Some(reign)) => self.acquired(host, reign, asked, over, Mark::of(event)),
            (Kind::Fail, _) => self.busy += 1,
            _ => self.unknown += 1,
        }
    }
}

impl Checker for Lock {
    fn name(&self) -> &'static str {
        Lock::NAME
    }

    fn event(&mut self, event: &Event) {
        self.law.event(event);
        match (event.process, &event.body) {
            (Process::Client(client), Body::Acquire { host, reign, .. }) => self.asked(*host, *reign, client, event),
            (_, Body::Release { host }) if event.kind == Kind::Invoke => {
                self.holders.entry(*host).and_modify(|lets_go| *lets_go = true);
            }
            (_, Body::Deposed { host, reign, .. }) => {
                self.over.insert(*host, (*reign, Mark::of(event)));
                self.lost += u64::from(self.holders.remove(host) == Some(false));
            }
            (_, Body::Started { host, .. }) => {
                self.over.remove(host);
                self.lost += u64::from(self.holders.remove(host) == Some(false));
                // What was asked of the last life says nothing of the next one's reigns.
                self.open.values_mut().for_each(|(_, over)| *over = None);
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Verdict {
        let got = self.times.len() as u64;
        if got == 0 {
            return Verdict::unknown(self.name(), "nobody was seen to get the lock".to_string());
        }
        let summary = format!(
            "the lock was got {}, refused {} and left unknown {}; {} lost while held",
            count(got, "time", "times"),
            count(self.busy, "time", "times"),
            count(self.unknown, "time", "times"),
            count(self.lost, "hold was", "holds were")
        );
        let lies = std::mem::take(&mut self.lies);
        let mut verdict = Findings::default().verdict(self.name(), &self.law, summary, lies);
        verdict.figures = vec![
            figure("locks got", got as f64, ""),
            figure("locks refused", self.busy as f64, ""),
            figure("locks lost while held", self.lost as f64, ""),
        ];
        verdict.figures.extend(percentiles("acquire", &mut self.times));
        verdict
    }
}
