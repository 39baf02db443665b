//! An event as a line of JSON, by hand.
//!
//! The problem: a recorder writes, and a checker reads, millions of events, nearly all of a dozen shapes. The derived
//! serializers know nothing of that: a flattened, tagged body is first built as a tree of boxed values, and only then
//! becomes an [`Event`](crate::Event). Here the same bytes are written and read without the tree.
//!
//! - [`write`]: [`Event::write_line`](crate::Event::write_line), byte for byte what the derived serializer writes.
//!
//! Caveats: the derived form stays the definition. What is rare (faults and their actions) goes through it, and tests
//! compare the two over random events of every kind.
mod write;
