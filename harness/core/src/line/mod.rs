//! An event as a line of JSON, by hand.
//!
//! The problem: a recorder writes, and a checker reads, millions of events, nearly all of a dozen shapes. The derived
//! serializers know nothing of that: a flattened, tagged body is first built as a tree of boxed values, and only then
//! becomes an [`Event`](crate::Event). Here the same bytes are written and read without the tree.
//!
//! - `write`: [`Event::write_line`], byte for byte what the derived serializer writes;
//! - `fixed`: reads a line in the key order in which we write it, without looking for the line's end first;
//! - `free`: reads a line in any key order.
//!
//! Each reader takes what it is sure of and refuses the rest; what both refuse goes to the derived deserializer, whose
//! errors are the errors.
//!
//! Caveats: the derived form stays the definition. What is rare (faults and their actions) goes through it, and tests
//! compare all of them over random events of every kind.
mod cursor;
mod fixed;
mod free;
#[cfg(test)]
mod tests;
mod write;

use crate::event::{Body, Event, Kind, Process};
use crate::time::Nanos;
pub(crate) use fixed::fixed;
pub(crate) use write::quoted;

impl Event {
    /// An event to be read into.
    pub(crate) fn blank() -> Event {
        Event {
            index: 0,
            time: Nanos::ZERO,
            process: Process::Control,
            kind: Kind::Info,
            body: Body::Aborted { why: String::new() },
            error: None,
        }
    }

    /// Reads a line of a history, without its newline, its keys in any order. What is read, and what is refused with which
    /// words, is what its `Deserialize` says.
    pub fn read_line(line: &[u8]) -> Result<Event, serde_json::Error> {
        let mut event = Event::blank();
        if fixed(line, &mut event) != Some(line.len()) {
            event.read_any_order(line)?;
        }
        Ok(event)
    }

    /// [`Event::read_line`] of a line that may be in any order, into this event.
    pub(crate) fn read_any_order(&mut self, line: &[u8]) -> Result<(), serde_json::Error> {
        if free::free(line, self).is_none() {
            *self = serde_json::from_slice(line)?;
        }
        Ok(())
    }
}
