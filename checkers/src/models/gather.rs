//! From events to the calls of each object, in one pass.
//!
//! An operation is known once it has ended, and its call stands where it began: a slot is taken at the invocation and
//! filled at the completion. What is left empty (a failure that says nothing, a crashed read) goes at the end. Places are
//! counted for each part on its own, so that they are dense whatever the number of objects.
//!
//! Memory: one call and one [`Source`] for each operation, and the open operations.
use super::prepared::{Part, Parts, Prepared, shown};
use super::{Ending, Kind, Options, Reading};
use crate::linear::model::{Call, Model, NEVER};
use splitbrain_core::formats::{OpEvent, Speaker, Value};
use std::collections::BTreeMap;

type Op<R> = <<R as Reading>::Model as Model>::Op;

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whose it was.
    pub process: i64,
    /// The line of its invocation; the event's number, from 1, where there are no lines.
    pub asked: u32,
    /// The line of its completion; 0 if there was none, or nobody knows how it ended.
    pub answered: u32,
}

/// A history that is being read.
pub trait Gathering {
    /// Takes the next event. An error is a fragment that names the line.
    fn event(&mut self, event: OpEvent) -> Result<(), String>;

    /// The history's parts. What is open now has crashed.
    fn finish(self: Box<Self>) -> Prepared;
}

/// An operation without a completion.
struct Open {
    part: usize,
    slot: usize,
    begin: u32,
    line: u32,
    f: Box<str>,
    asked: Value,
}

/// What is known of one object so far.
struct Growing<R: Reading> {
    reading: R,
    places: u32,
    slots: Vec<Option<Call<Op<R>>>>,
    sources: Vec<Source>,
}

pub(super) struct Gather<R: Reading, F> {
    kind: Kind,
    keyed: bool,
    skip_others: bool,
    new: F,
    numbers: BTreeMap<Option<Value>, usize>,
    parts: Vec<Growing<R>>,
    open: BTreeMap<i64, Open>,
    events: u64,
}

impl<R: Reading + 'static, F: Fn() -> R + 'static> Gather<R, F> {
    pub fn boxed(kind: Kind, options: &Options, new: F) -> Box<dyn Gathering> {
        Box::new(Gather {
            kind,
            keyed: options.keyed || kind.is_keyed(),
            skip_others: options.skip_others,
            new,
            numbers: BTreeMap::new(),
            parts: Vec::new(),
            open: BTreeMap::new(),
            events: 0,
        })
    }

    fn part(&mut self, key: Option<Value>) -> usize {
        let parts = &mut self.parts;
        *self.numbers.entry(key).or_insert_with(|| {
            parts.push(Growing {
                reading: (self.new)(),
                places: 0,
                slots: Vec::new(),
                sources: Vec::new(),
            });
            parts.len() - 1
        })
    }

    fn begins(&mut self, process: i64, mut event: OpEvent, line: u32) -> Result<(), String> {
        self.crash(process)?;
        if event.key.is_none() && self.keyed {
            let (key, value) = pair(std::mem::take(&mut event.value))
                .ok_or_else(|| format!("{} takes a key: give it one, or a pair [key value]", event.f))?;
            event.key = Some(key);
            event.value = value;
        }
        let part = self.part(event.key);
        let growing = &mut self.parts[part];
        let slot = growing.slots.len();
        growing.slots.push(None);
        growing.sources.push(Source {
            process,
            asked: line,
            answered: 0,
        });
        let begin = growing.place()?;
        let open = Open {
            part,
            slot,
            begin,
            line,
            f: event.f,
            asked: event.value,
        };
        self.open.insert(process, open);
        Ok(())
    }

    fn ends(&mut self, process: i64, event: &OpEvent, line: u32) -> Result<(), String> {
        let Some(open) = self.open.remove(&process) else {
            return Err(format!(
                "process {process} has asked nothing that {} could end",
                event.f
            ));
        };
        if open.f != event.f {
            return Err(format!(
                "process {process} asked {} in line {}, and this ends {}",
                open.f, open.line, event.f
            ));
        }
        let ending = match event.kind {
            splitbrain_core::Kind::Ok => Ending::Ok(self.answer(&open, event)?),
            splitbrain_core::Kind::Fail => Ending::Fail(event.error.as_deref()),
            _ => Ending::Unknown,
        };
        self.fill(process, &open, ending, line)
    }

    /// What an operation answers, without its key.
    fn answer<'a>(&self, open: &Open, event: &'a OpEvent) -> Result<&'a Value, String> {
        let (key, value) = match (&event.key, &event.value) {
            (Some(key), value) => (key, value),
            (None, Value::List(pair)) if self.keyed && pair.len() == 2 => (&pair[0], &pair[1]),
            // No key: the one that was asked for.
            (None, value) => return Ok(value),
        };
        match self.numbers.get(&Some(key.clone())) {
            Some(part) if *part == open.part => Ok(value),
            _ => Err(format!(
                "{} was asked in line {} of another key than {}",
                open.f,
                open.line,
                shown(key)
            )),
        }
    }

    fn fill(&mut self, process: i64, open: &Open, ending: Ending, line: u32) -> Result<(), String> {
        let growing = &mut self.parts[open.part];
        let (end, answered) = match ending {
            Ending::Unknown => (NEVER, 0),
            _ => (growing.place()?, line),
        };
        if let Some(op) = growing.reading.call(process, &open.f, &open.asked, ending)? {
            let begin = open.begin;
            growing.slots[open.slot] = Some(Call { op, begin, end });
            growing.sources[open.slot].answered = answered;
        }
        Ok(())
    }

    /// What a process has not ended when it asks again, nobody will end.
    fn crash(&mut self, process: i64) -> Result<(), String> {
        match self.open.remove(&process) {
            Some(open) => self.fill(process, &open, Ending::Unknown, 0),
            None => Ok(()),
        }
    }

    fn take(&mut self, event: OpEvent, line: u32) -> Result<(), String> {
        let Speaker::Client(process) = event.process else {
            return Ok(());
        };
        if !R::ops().contains(&&*event.f) {
            return match self.skip_others {
                true => Ok(()),
                false => Err(format!(
                    "{} is no operation of {}: there are {}",
                    event.f,
                    self.kind.name(),
                    R::ops().join(", ")
                )),
            };
        }
        match event.kind {
            splitbrain_core::Kind::Invoke => self.begins(process, event, line),
            _ => self.ends(process, &event, line),
        }
    }
}

impl<R: Reading> Growing<R> {
    fn place(&mut self) -> Result<u32, String> {
        let place = self.places;
        self.places = place + 1;
        match place < NEVER - 1 {
            true => Ok(place),
            false => Err("more than four billion events on one object: split the history".to_string()),
        }
    }

    fn finish(self) -> Part<R> {
        let filled = self.slots.into_iter().zip(self.sources);
        let told = filled.filter_map(|(slot, source)| Some((slot?, source)));
        let (calls, sources): (Vec<_>, Vec<_>) = told.unzip();
        Part {
            reading: self.reading,
            calls,
            sources,
        }
    }
}

impl<R: Reading + 'static, F: Fn() -> R + 'static> Gathering for Gather<R, F> {
    fn event(&mut self, event: OpEvent) -> Result<(), String> {
        self.events += 1;
        let line = if event.line == 0 { self.events } else { event.line };
        let short = u32::try_from(line).map_err(|_| format!("line {line}: too many lines: split the history"))?;
        self.take(event, short).map_err(|why| format!("line {line}: {why}"))
    }

    fn finish(mut self: Box<Self>) -> Prepared {
        for (process, open) in std::mem::take(&mut self.open) {
            // A completion that would say nothing cannot be malformed either, once its invocation was not.
            let _ = self.fill(process, &open, Ending::Unknown, 0);
        }
        let mut keys: Vec<Option<Value>> = vec![None; self.parts.len()];
        for (key, n) in self.numbers {
            keys[n] = key;
        }
        let parts = self.parts.into_iter().map(Growing::finish).collect();
        Prepared::new(self.kind, Box::new(Parts { keys, parts }))
    }
}

fn pair(value: Value) -> Option<(Value, Value)> {
    match value {
        Value::List(mut list) if list.len() == 2 => {
            let second = list.pop()?;
            Some((list.pop()?, second))
        }
        _ => None,
    }
}
