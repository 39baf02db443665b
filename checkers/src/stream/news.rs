//! What is new in a history goes to the checkers; what was said again is told to them when something new comes.
use super::Stream;
use super::notes::{ANSWER, Maybe, Meaning, Note, Said, WRITE};
use crate::evidence::{Belief, Law, Mark};
use crate::exclusion::Exclusion;
use crate::ids::Ids;
use crate::leader_per_epoch::LeaderPerEpoch;
use crate::observers::EpochsPerObserver;
use crate::tokens::TokenPerReign;
use splitbrain_core::compact::{EPOCH, LEADS, REIGN, Raw, Record, TOKEN, Tag};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Epoch, Nanos, Reign, Role, Status, Token};

fn token(record: &Record) -> Option<u64> {
    (record.flags & TOKEN != 0).then_some(record.token)
}

fn epoch(record: &Record) -> Option<Epoch> {
    (record.flags & EPOCH != 0).then_some(Epoch(record.epoch))
}

fn mark(index: u64, time: u64) -> Mark {
    Mark {
        index,
        time: Nanos(time),
    }
}

impl Stream {
    /// The end of a question that is not what the host said last.
    #[cold]
    #[inline(never)]
    pub(super) fn news(&mut self, raw: &Raw, asked: Mark, index: u64, time: u64) {
        let record = Record::read(raw);
        let learnt = mark(index, time);
        let host = usize::from(record.host);
        match record.tag {
            Tag::Answered => self.answered(&record, asked, learnt),
            Tag::Held => self.held(&record, asked, learnt),
            Tag::Written if record.flags & TOKEN != 0 => {
                self.flush_write(host);
                self.notes[host].said[WRITE] = Said {
                    number: asked.index + 1,
                    asked: asked.time.0,
                    learnt: index,
                    time,
                    ..Said::first(&record)
                };
            }
            _ => {}
        }
    }

    /// An answer; from now on it is noted, if saying it again would change nothing but the end of a reign.
    fn answered(&mut self, record: &Record, asked: Mark, learnt: Mark) {
        let epoch = epoch(record);
        let (newest, reign) = self.believe(record, Some(asked), learnt, epoch);
        let claims = record.flags & (LEADS | REIGN) == LEADS | REIGN;
        let newest = epoch.is_none() || newest == epoch;
        if newest && (!claims || reign.is_some()) {
            let note = &mut self.notes[usize::from(record.host)];
            note.said[ANSWER] = Said::first(record);
            note.meaning = Meaning {
                tells: epoch.is_some(),
                claims: claims && epoch.is_some_and(|epoch| !epoch.is_none()),
                reign,
            };
        }
    }

    /// The lock is held in the newest reign: that claims what the election said.
    fn held(&mut self, record: &Record, asked: Mark, learnt: Mark) {
        let elected = self.notes[usize::from(record.host)].elected;
        if let Some((_, epoch)) = elected.filter(|(newest, _)| record.flags & REIGN != 0 && *newest == record.reign) {
            let claim = Record {
                flags: record.flags | LEADS,
                epoch,
                ..*record
            };
            self.believe(&claim, Some(asked), learnt, Epoch(epoch).known());
        }
    }

    /// Tells the checkers of a belief. Returns the newest epoch that its life has told, if that is the highest, and the
    /// place of the reign that it claims. What was noted of the host holds no longer.
    fn believe(
        &mut self,
        record: &Record,
        asked: Option<Mark>,
        learnt: Mark,
        epoch: Option<Epoch>,
    ) -> (Option<Epoch>, Option<usize>) {
        let host = usize::from(record.host);
        self.flush_answer(host);
        let leads = record.flags & LEADS != 0;
        let belief = Belief {
            host: self.notes[host].name,
            incarnation: self.notes[host].life(),
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
        if self.observers.checker.many() {
            let oldest = self.open[0].oldest().unwrap_or(learnt.index);
            self.observers.checker.forget(oldest);
        }
        (newest.flatten(), reign.flatten())
    }

    /// Tells how often the host said its last answer again, and when at last; then it is forgotten.
    pub(super) fn flush_answer(&mut self, host: usize) {
        let note = &mut self.notes[host];
        let said = std::mem::replace(&mut note.said[ANSWER], Said::NEVER);
        let meaning = std::mem::take(&mut note.meaning);
        if meaning.tells {
            self.observers.checker.again(said.again);
        }
        if meaning.claims {
            self.leaders.checker.again(said.again);
        }
        if let (Some(reign), Some((asked, learnt))) = (meaning.reign, said.last()) {
            self.exclusion.checker.reigns.heard(reign, asked, learnt);
        }
    }

    /// Tells of the host's last write, before one with another token comes or its life ends.
    pub(super) fn flush_write(&mut self, host: usize) {
        let note = &mut self.notes[host];
        let said = std::mem::replace(&mut note.said[WRITE], Said::NEVER);
        if let Some(marks) = said.last() {
            let (name, life, token) = (note.name, note.life(), Token(said.token));
            let wrote = |exclusion: &mut Exclusion| exclusion.wrote(name, life, token, marks);
            self.exclusion.feed(self.limits.entries, Exclusion::size, wrote);
        }
    }

    /// The storage took a write with another token than the host's last, or than the highest.
    #[cold]
    #[inline(never)]
    pub(super) fn stored_anew(&mut self, raw: &Raw, index: u64, time: u64) {
        let record = Record::read(raw);
        let by = self.notes[usize::from(record.host)].name;
        if !self.highest.above(record.token) {
            self.highest = Maybe::some(record.token);
        }
        let exclusion = &mut self.exclusion;
        if !exclusion.full && exclusion.checker.stored(Token(record.token), by) {
            exclusion.full = exclusion.checker.size() > self.limits.entries;
        }
        self.seen_by_storage(&record, mark(index, time));
    }

    fn seen_by_storage(&mut self, record: &Record, mark: Mark) {
        let note = &mut self.notes[usize::from(record.host)];
        note.stored = Maybe::some(record.token);
        let by = note.name;
        let wrote = |tokens: &mut TokenPerReign| tokens.wrote(Token(record.token), by, mark);
        self.tokens.feed(self.limits.entries, TokenPerReign::size, wrote);
    }

    /// What is neither an operation nor the storage's word on a write that it took, or is of a host without a name.
    #[cold]
    #[inline(never)]
    pub(super) fn other(&mut self, raw: &Raw) {
        let record = Record::read(raw);
        match record.tag {
            Tag::Mark => (self.next, self.time) = (record.epoch, record.token),
            Tag::Name => match Record::name(raw) {
                Some(name) if usize::from(record.host) == self.notes.len() => {
                    self.notes.push(Note::new(name, self.notes.len()));
                }
                _ => self.breaks(&record),
            },
            _ => {
                let mark = mark(
                    self.next + u64::from(record.skipped),
                    self.time + u64::from(record.wait),
                );
                (self.next, self.time) = (mark.index + 1, mark.time.0);
                match record.tag {
                    Tag::Tried => {
                        let kind = FaultKind::ALL.get(record.client as usize);
                        kind.iter().for_each(|kind| self.each_law(|law| law.tried(**kind)));
                    }
                    _ if usize::from(record.host) >= self.notes.len() => self.breaks(&record),
                    _ => self.rare(&record, mark),
                }
            }
        }
    }

    fn rare(&mut self, record: &Record, mark: Mark) {
        let host = usize::from(record.host);
        let name = self.notes[host].name;
        match record.tag {
            Tag::Started => {
                self.flush_answer(host);
                self.flush_write(host);
                self.notes[host].begin(record.client);
            }
            Tag::Elected => {
                self.notes[host].elected = Some((record.reign, record.epoch));
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
            _ => unreachable!("operations of known hosts are taken before"),
        }
    }

    fn breaks(&mut self, record: &Record) {
        let (tag, host, at) = (record.tag, record.host, self.next);
        let why = || format!("the record of event {at} or before ({tag:?}) names host {host}, which has no name");
        self.broken.get_or_insert_with(why);
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
}
