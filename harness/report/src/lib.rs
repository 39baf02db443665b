//! From plan, history and verdicts to one self-contained HTML page, JUnit XML and tables.
//!
//! The report reads what the run left and asks nobody: it needs no cluster, no network and no clock, so that `report`
//! gives the same bytes for the same history on any machine.
//!
//! - [`html`]: one file that a browser shows offline, under a content security policy that lets nothing in or out;
//! - [`junit`]: one test suite a run, for continuous integration;
//! - [`verdict_table`] and [`sentence`]: for terminals;
//! - [`matrix`]: many runs in one table, one page and one JUnit file;
//! - [`picture`]: the fold from events to intervals, which everything drawn is drawn from.
//!
//! The page is safe to open whatever the hosts said: text goes through maud's escaping or, in the script, through
//! `textContent` alone, and hidden characters are spelled out ([`text::visible`]). The page works without JavaScript,
//! except for moving about in the main timeline.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs)]

mod columns;
mod junit;
pub mod matrix;
mod page;
pub mod picture;
mod table;
pub mod text;
mod words;

#[cfg(test)]
#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

pub use junit::junit;
pub use page::html;
pub use table::verdict_table;
pub use words::{sentence, total};

use splitbrain_core::{Event, Header, Verdict};

/// Everything that a report tells of.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The history's first line.
    pub header: &'a Header,
    /// The history's events; `events[i].index == i`.
    pub events: &'a [Event],
    /// What the checkers said.
    pub verdicts: &'a [Verdict],
    /// The command line that replays the run.
    pub replay: &'a str,
    /// Short, for the page's title and the suite's name.
    pub title: &'a str,
    /// Bytes after the history's last complete line: the run was cut off in mid-write.
    pub torn: usize,
}
