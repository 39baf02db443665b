//! One pass over a history in the compact form, in bounded memory.
//!
//! The checkers of leaders, observers, tokens, exclusion and ids judge what little a history says of leadership, and
//! nearly all of that says again what was known: the same host still leads in the same epoch, with the same token. So in
//! front of each host stands a note of what it said last, and who says it again is counted, and no more; for exclusion,
//! the end of the belief moves. Only what is new goes to the [checkers](crate) themselves, which are the same that judge
//! whole histories: so the verdicts are the same, to the word.
//!
//! **What is remembered**: each host's note; the questions that are open, each until its completion is known; and, in the
//! checkers, one entry for each epoch, token and reign (and for each life's last write with each token), for a late word
//! may contradict any of them. Those are few in any real history: elections are rare beside questions. A history that
//! has more than [`Limits`] allow is not remembered further, and what then was found stands, but that nothing was found
//! means nothing: the verdict is unknown, with the reason.
//!
//! Caveat: records are trusted as far as their form goes. A host that was never named ends the pass, and every verdict is
//! unknown.
mod questions;

use crate::evidence::{Belief, Law, Mark};
use crate::exclusion::Exclusion;
use crate::ids::{self, Ids};
use crate::leader_per_epoch::LeaderPerEpoch;
use crate::observers::EpochsPerObserver;
use crate::tokens::TokenPerReign;
use questions::{Question, Questions};
use splitbrain_core::compact::{EPOCH, LEADS, REIGN, Raw, Record, TOKEN, Tag};
use splitbrain_core::plan::{FaultKind, Workload};
use splitbrain_core::{
    Checker, Epoch, Guarantee, Header, Holds, HostRole, Name, Nanos, Reign, Role, Status, Token, Validity, Verdict,
};

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of each checker: epochs, tokens, reigns, ids.
    pub entries: usize,
    /// Open questions of clients whose numbers lie far apart.
    pub questions: usize,
}

impl Default for Limits {
    /// Less than 64 MB in all.
    fn default() -> Limits {
        Limits {
            entries: 100_000,
            questions: 50_000,
        }
    }
}

/// A checker that is fed until it has too much to remember.
struct Bounded<C> {
    checker: C,
    /// Whether it applies.
    judges: bool,
    full: bool,
}

/// What a host said last.
#[derive(Clone, Copy)]
struct Note {
    name: Option<Name>,
    life: u32,
    /// The newest election, and its epoch.
    elected: Option<(u32, u64)>,
    /// The last claim, and the place of its reign.
    claim: Option<(Claim, usize)>,
    /// The newest epoch that it told, if it is the highest.
    newest: Option<u64>,
    /// The token with which the storage last saw it.
    stored: Option<u64>,
    /// The last write that was done, by its question, with this token.
    wrote: Option<(u64, (Mark, Mark))>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Claim {
    reign: u32,
    epoch: u64,
    token: Option<u64>,
}

const NOTHING: Note = Note {
    name: None,
    life: 0,
    elected: None,
    claim: None,
    newest: None,
    stored: None,
    wrote: None,
};

/// See the module.
pub struct Stream {
    limits: Limits,
    /// Where the next record stands, and the last one's time.
    next: u64,
    time: u64,
    notes: Vec<Note>,
    questions: Questions,
    writes: Questions,
    leaders: Bounded<LeaderPerEpoch>,
    observers: Bounded<EpochsPerObserver>,
    tokens: Bounded<TokenPerReign>,
    exclusion: Bounded<Exclusion>,
    ids: [Bounded<Ids>; 2],
    /// Claims of a known epoch, and answers that told the newest, that were made again.
    claims: u64,
    answers: u64,
    broken: Option<String>,
}

impl Stream {
    /// Of a history with this header.
    pub fn new(header: &Header, limits: Limits) -> Stream {
        let asked = header.hosts.iter().any(|h| h.asked);
        let storage = header.hosts.iter().any(|h| h.role == HostRole::Storage);
        let promised =
            |p: &splitbrain_core::Promise| p.guarantee == Guarantee::TokenPerReign && p.holds != Holds::Never;
        let tokens = storage || header.promises.iter().any(promised);
        let sequence = header.plan.workload == Workload::Sequence;
        let note = |host: &splitbrain_core::HostSpec| Note {
            name: Some(host.name),
            ..NOTHING
        };
        Stream {
            limits,
            next: 0,
            time: 0,
            notes: header.hosts.iter().map(note).collect(),
            questions: Questions::new(limits.questions),
            writes: Questions::new(limits.questions),
            leaders: Bounded::new(LeaderPerEpoch::new(header), asked),
            observers: Bounded::new(EpochsPerObserver::new(header), asked),
            tokens: Bounded::new(TokenPerReign::new(header), tokens),
            exclusion: Bounded::new(Exclusion::new(header), asked),
            ids: [ids::Which::Unique, ids::Which::Rising].map(|which| Bounded::new(Ids::new(header, which), sequence)),
            claims: 0,
            answers: 0,
            broken: None,
        }
    }

    /// Takes the next records.
    pub fn block(&mut self, records: &[Raw]) {
        for raw in records {
            self.record(raw);
        }
    }

    #[inline(always)]
    fn record(&mut self, raw: &Raw) {
        let record = Record::read(raw);
        let mark = Mark {
            index: self.next + u64::from(record.skipped),
            time: Nanos(self.time + u64::from(record.wait)),
        };
        let host = record.host;
        let known = self
            .notes
            .get(usize::from(host))
            .is_some_and(|note| note.name.is_some());
        if !known || matches!(record.tag, Tag::Name | Tag::Mark | Tag::Tried) {
            return self.unusual(&record, raw);
        }
        (self.next, self.time) = (mark.index + 1, mark.time.0);
        match record.tag {
            Tag::Asked => self.questions.put(record.client, self.question(mark, host)),
            Tag::Answered => self.answered(&record, mark),
            Tag::Held => self.held(&record, mark),
            Tag::Unanswered => drop(self.questions.take(record.client)),
            Tag::WriteAsked => self.writes.put(record.client, self.question(mark, host)),
            Tag::Written => self.written(&record, mark),
            Tag::Unwritten => drop(self.writes.take(record.client)),
            Tag::Stored => {
                let by = self.name(host);
                let exclusion = &mut self.exclusion;
                if !exclusion.full && exclusion.checker.stored(Token(record.token), by) {
                    exclusion.full = exclusion.checker.size() > self.limits.entries;
                }
                self.seen_by_storage(&record, mark);
            }
            _ => self.rare(&record, mark),
        }
    }

    fn question(&self, asked: Mark, host: u16) -> Question {
        let life = self.notes[usize::from(host)].life;
        Question { asked, life, host }
    }

    fn name(&self, host: u16) -> Name {
        self.notes[usize::from(host)]
            .name
            .expect("records of unknown hosts are not taken")
    }

    #[inline(always)]
    fn answered(&mut self, record: &Record, learnt: Mark) {
        let Some(question) = self.questions.take(record.client) else {
            return;
        };
        let note = &mut self.notes[usize::from(record.host)];
        if question.host != record.host || question.life != note.life {
            return;
        }
        let claims = record.flags & (LEADS | REIGN) == LEADS | REIGN;
        let tells = record.flags & EPOCH != 0;
        let told = !tells || note.newest == Some(record.epoch);
        let again = if !claims {
            told
        } else if let Some((claim, reign)) = note.claim
            && told
            && claim == of(record)
        {
            self.exclusion.checker.reigns.heard(reign, question.asked, learnt);
            self.claims += u64::from(record.epoch != Epoch::NONE.0);
            true
        } else {
            false
        };
        match again {
            true => self.answers += u64::from(tells),
            false => self.believe(record, Some(question.asked), learnt, epoch(record)),
        }
    }

    #[cold]
    fn held(&mut self, record: &Record, learnt: Mark) {
        let Some(question) = self.questions.take(record.client) else {
            return;
        };
        let note = &self.notes[usize::from(record.host)];
        let elected = note
            .elected
            .filter(|(newest, _)| record.flags & REIGN != 0 && *newest == record.reign);
        if let Some((_, epoch)) = elected
            && question.host == record.host
            && question.life == note.life
        {
            let claim = Record {
                flags: record.flags | LEADS,
                epoch,
                ..*record
            };
            self.believe(&claim, Some(question.asked), learnt, Epoch(epoch).known());
        }
    }

    /// A belief that says something new.
    #[cold]
    fn believe(&mut self, record: &Record, asked: Option<Mark>, learnt: Mark, epoch: Option<Epoch>) {
        let host = usize::from(record.host);
        let leads = record.flags & LEADS != 0;
        let belief = Belief {
            host: self.name(record.host),
            incarnation: self.notes[host].life,
            asked,
            learnt,
            status: Status {
                role: if leads { Role::Leader } else { Role::Follower },
                epoch,
                token: token(record).map(Token),
                reign: (record.flags & REIGN != 0).then_some(Reign(u64::from(record.reign))),
                leader: None,
            },
        };
        let entries = self.limits.entries;
        self.leaders
            .feed(entries, LeaderPerEpoch::size, |leaders| leaders.believe(&belief));
        self.tokens
            .feed(entries, TokenPerReign::size, |tokens| tokens.believe(&belief));
        let newest = self
            .observers
            .feed(entries, EpochsPerObserver::size, |o| o.believe(&belief));
        let reign = self
            .exclusion
            .feed(entries, Exclusion::size, |e| e.reigns.believe(&belief));
        let note = &mut self.notes[host];
        if epoch.is_some() {
            note.newest = newest.flatten().map(|epoch| epoch.0);
        }
        if belief.claim().is_some() {
            let claim = Claim {
                epoch: epoch.unwrap_or(Epoch::NONE).0,
                ..of(record)
            };
            note.claim = reign.flatten().map(|reign| (claim, reign));
        }
        if self.observers.checker.many() {
            let oldest = self.questions.oldest().unwrap_or(learnt.index);
            self.observers.checker.forget(oldest);
        }
    }

    #[inline(always)]
    fn written(&mut self, record: &Record, mark: Mark) {
        let Some(question) = self.writes.take(record.client) else {
            return;
        };
        let note = &mut self.notes[usize::from(record.host)];
        if question.host != record.host || question.life != note.life || record.flags & TOKEN == 0 {
            return;
        }
        let marks = (question.asked, mark);
        match &mut note.wrote {
            Some((token, last)) if *token == record.token => *last = (*last).max(marks),
            _ => {
                self.flush(record.host);
                self.notes[usize::from(record.host)].wrote = Some((record.token, marks));
            }
        }
    }

    /// Tells of the host's last write, before another kind comes or its life ends.
    #[cold]
    fn flush(&mut self, host: u16) {
        let note = &mut self.notes[usize::from(host)];
        let (Some((token, marks)), Some(name), life) = (note.wrote.take(), note.name, note.life) else {
            return;
        };
        let wrote = |exclusion: &mut Exclusion| exclusion.wrote(name, life, Token(token), marks);
        self.exclusion.feed(self.limits.entries, Exclusion::size, wrote);
    }

    #[inline(always)]
    fn seen_by_storage(&mut self, record: &Record, mark: Mark) {
        let note = &mut self.notes[usize::from(record.host)];
        if note.stored == Some(record.token) {
            return;
        }
        note.stored = Some(record.token);
        let by = self.name(record.host);
        let wrote = |tokens: &mut TokenPerReign| tokens.wrote(Token(record.token), by, mark);
        self.tokens.feed(self.limits.entries, TokenPerReign::size, wrote);
    }

    #[cold]
    fn rare(&mut self, record: &Record, mark: Mark) {
        let name = self.name(record.host);
        match record.tag {
            Tag::Started => {
                self.flush(record.host);
                self.notes[usize::from(record.host)] = Note {
                    name: Some(name),
                    life: record.client,
                    stored: self.notes[usize::from(record.host)].stored,
                    ..NOTHING
                };
            }
            Tag::Elected => {
                self.notes[usize::from(record.host)].elected = Some((record.reign, record.epoch));
                let claim = Record {
                    flags: record.flags | LEADS,
                    ..*record
                };
                self.believe(&claim, None, mark, Epoch(record.epoch).known());
            }
            Tag::Refused => {
                let refused = |exclusion: &mut Exclusion| exclusion.refused(Token(record.token), name);
                self.exclusion.feed(self.limits.entries, Exclusion::size, refused);
                self.seen_by_storage(record, mark);
            }
            Tag::IdAsked => self.each_ids(|ids| ids.asked(record.client, mark)),
            Tag::IdEnded => {
                let id = (record.flags & EPOCH != 0).then_some(record.epoch);
                let unknown = record.flags & LEADS != 0;
                self.each_ids(|ids| ids.ended(record.client, name, mark, id, unknown));
            }
            _ => unreachable!("the others are taken before"),
        }
    }

    fn each_ids(&mut self, feed: impl Fn(&mut Ids)) {
        for ids in self.ids.iter_mut().filter(|ids| ids.judges) {
            ids.feed(self.limits.entries, Ids::size, &feed);
        }
    }

    fn each_law(&mut self, learn: impl Fn(&mut Law)) {
        let [unique, rising] = &mut self.ids;
        [
            &mut self.leaders.checker.law,
            &mut self.observers.checker.law,
            &mut self.tokens.checker.law,
            &mut self.exclusion.checker.law,
            &mut unique.checker.law,
            &mut rising.checker.law,
        ]
        .into_iter()
        .for_each(learn);
    }

    /// What is no event, and what is none of ours.
    #[cold]
    fn unusual(&mut self, record: &Record, raw: &Raw) {
        match (record.tag, Record::name(raw)) {
            (Tag::Mark, _) => (self.next, self.time) = (record.epoch, record.token),
            (Tag::Tried, _) => {
                self.next += u64::from(record.skipped) + 1;
                self.time += u64::from(record.wait);
                let kind = FaultKind::ALL.get(record.client as usize);
                kind.iter().for_each(|kind| self.each_law(|law| law.tried(**kind)));
            }
            (Tag::Name, Some(name)) => {
                let places = usize::from(record.host) + 1;
                self.notes.resize(self.notes.len().max(places), NOTHING);
                self.notes[places - 1].name = Some(name);
            }
            _ => {
                let (tag, host, at) = (record.tag, record.host, self.next);
                let why =
                    || format!("the record of event {at} or after ({tag:?}) names host {host}, which has no name");
                self.broken.get_or_insert_with(why);
            }
        }
    }

    /// The verdicts of the checkers that apply, as a whole history would be given them.
    pub fn finish(mut self) -> Vec<Verdict> {
        (0..self.notes.len()).for_each(|host| self.flush(host as u16));
        self.leaders.checker.again(self.claims);
        self.observers.checker.again(self.answers);
        let lost = self.questions.lost || self.writes.lost;
        if self.exclusion.full || lost {
            // A reign that was not seen may have had the token of another.
            self.exclusion.checker.forget_writes();
        }
        let [unique, rising] = self.ids;
        let verdicts = [
            self.leaders.finish("epochs"),
            self.observers.finish("epochs of one life"),
            self.exclusion.finish("reigns and tokens"),
            self.tokens.finish("tokens"),
            unique.finish("ids"),
            rising.finish("ids"),
        ];
        let questions = || "more questions were open at once than can be remembered".to_string();
        let doubt = self.broken.or_else(|| lost.then(questions));
        let doubted = |verdict: Verdict| match &doubt {
            Some(why) => in_doubt(verdict, why.clone()),
            None => verdict,
        };
        verdicts.into_iter().flatten().map(doubted).collect()
    }
}

fn token(record: &Record) -> Option<u64> {
    (record.flags & TOKEN != 0).then_some(record.token)
}

fn epoch(record: &Record) -> Option<Epoch> {
    (record.flags & EPOCH != 0).then_some(Epoch(record.epoch))
}

fn of(record: &Record) -> Claim {
    Claim {
        reign: record.reign,
        epoch: record.epoch,
        token: token(record),
    }
}

impl<C: Checker> Bounded<C> {
    fn new(checker: C, judges: bool) -> Bounded<C> {
        Bounded {
            checker,
            judges,
            full: false,
        }
    }

    /// Tells the checker something, unless it has too much to remember.
    fn feed<T>(&mut self, entries: usize, size: impl Fn(&C) -> usize, tell: impl FnOnce(&mut C) -> T) -> Option<T> {
        if self.full {
            return None;
        }
        let said = tell(&mut self.checker);
        self.full = size(&self.checker) > entries;
        Some(said)
    }

    fn finish(mut self, what: &str) -> Option<Verdict> {
        let verdict = self.judges.then(|| self.checker.finish())?;
        let why = || format!("more {what} than can be remembered: what came later was not judged");
        Some(if self.full { in_doubt(verdict, why()) } else { verdict })
    }
}

/// What was found stands; that nothing was found means nothing.
fn in_doubt(verdict: Verdict, why: String) -> Verdict {
    match verdict.validity {
        Validity::Invalid => verdict,
        _ => Verdict {
            validity: Validity::Unknown,
            summary: why,
            ..verdict
        },
    }
}
