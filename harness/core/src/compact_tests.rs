use super::*;
use crate::history::SCHEMA;
use crate::{Epoch, HostRole, HostSpec, Plan, Token};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn header() -> Header {
    Header {
        splitbrain: SCHEMA,
        seed: 7,
        plan: Plan::new("raft", "sim"),
        hosts: vec![HostSpec {
            name: name("n1"),
            role: HostRole::Member,
            asked: true,
        }],
        promises: Vec::new(),
        beliefs: String::new(),
        versions: Default::default(),
    }
}

fn event(index: u64, time: u64, process: Process, kind: Kind, body: Body) -> Event {
    Event {
        index,
        time: Nanos(time),
        process,
        kind,
        body,
        error: None,
    }
}

fn elected(index: u64, time: u64, host: &str, reign: u64) -> Event {
    let body = Body::Elected {
        host: name(host),
        epoch: Epoch(1 << 60),
        token: Some(Token(u64::MAX)),
        reign: Reign(reign),
    };
    event(index, time, Process::Host(name(host)), Kind::Info, body)
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&header(), &mut out).unwrap();
    events.iter().for_each(|event| writer.event(event, &mut out).unwrap());
    out
}

/// Gives at most so many bytes at once.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(to.len()).min(self.0.len());
        to[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn read(bytes: &[u8], at_once: usize) -> (Vec<Raw>, usize) {
    let mut reader = Reader::new(Slow(bytes, at_once)).unwrap();
    let mut all = Vec::new();
    loop {
        let block = reader.block().unwrap();
        if block.is_empty() {
            break;
        }
        all.extend(block);
    }
    (all, reader.torn())
}

#[test]
fn a_record_tells_its_numbers_and_a_mark_its_place() {
    let bytes = written(&[
        elected(3, 5, "n1", 2),
        elected(900, 6, "n2", 3),
        elected(901, 1 << 40, "n2", 4),
    ]);
    let (raws, torn) = read(&bytes, usize::MAX);
    assert_eq!(torn, 0);
    let all: Vec<Record> = raws.iter().map(Record::read).collect();
    let tags: Vec<Tag> = all.iter().map(|r| r.tag).collect();
    assert_eq!(
        tags,
        [
            Tag::Elected,
            Tag::Name,
            Tag::Mark,
            Tag::Elected,
            Tag::Mark,
            Tag::Elected
        ]
    );
    assert_eq!((all[0].skipped, all[0].wait, all[0].reign, all[0].host), (3, 5, 2, 0));
    assert_eq!((all[0].epoch, all[0].token), (1 << 60, u64::MAX));
    assert_eq!(all[0].flags, EPOCH | TOKEN | REIGN);
    assert_eq!(Record::name(&raws[1]), Some(name("n2")));
    assert_eq!((all[2].epoch, all[2].token), (900, 6));
    assert_eq!((all[3].skipped, all[3].wait, all[3].host), (0, 0, 1));
    raws.iter()
        .zip(&all)
        .filter(|(_, r)| r.tag != Tag::Name)
        .for_each(|(raw, record)| assert_eq!(record.raw(), *raw));
}

#[test]
fn a_file_is_read_however_it_comes_and_wherever_it_was_cut() {
    let events: Vec<Event> = (0..50).map(|n| elected(n, n, "n1", n)).collect();
    let bytes = written(&events);
    let (all, _) = read(&bytes, usize::MAX);
    assert_eq!(all.len(), 50);
    for at_once in [1, 7, 31, 32, 33, 100] {
        assert_eq!(read(&bytes, at_once), (all.clone(), 0));
    }
    for cut in 0..100 {
        let (some, torn) = read(&bytes[..bytes.len() - cut], 17);
        assert_eq!(some, all[..50 - cut.div_ceil(RECORD)]);
        assert_eq!((some.len() * RECORD + torn + cut) % RECORD, 0);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&header(), &mut out).unwrap();
    let why = writer.event(&elected(4, 0, "n1", 1 << 32), &mut out).unwrap_err();
    assert!(why.starts_with("event 4: reign 4294967296"), "{why}");
    let fails = |bytes: &[u8]| Reader::new(bytes).unwrap_err();
    assert!(fails(b"{\"splitbrain\":1,\"seed\":7}").contains("SBLEADER"));
    let bytes = written(&[]);
    (0..bytes.len()).for_each(|n| assert!(fails(&bytes[..n]).contains("header"), "{n}"));
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert!(fails(&newer).contains("version 2"));
}
