//! Histories of operations, whoever recorded them.
//!
//! A model (register, lock, queue, ...) judges operations and nothing else: who asked, what was asked of which object,
//! how it ended. That is what [`OpEvent`] holds, in the words of Jepsen's histories, and every format is read into it
//! and written from it. What it says is taken as it stands; what it means is a model's business.
//!
//! Readers go event by event in memory bounded by the longest line (in EDN: the longest event), and name the first
//! line that is malformed.
//!
//! A file that was cut off is read up to its last complete event only where the format can tell: our own history (a line
//! counts once its newline is there), and EDN that ends between two events. An event of another format that ends in the
//! middle is an error, because it cannot be told from one that is wrong. [`Reader::cut_off`] says what was missing.
mod edn;
mod edn_out;
mod fields;
mod json_lines;
mod json_out;
mod lines;
mod log;
mod own;
mod reader;
mod source;
mod trace_out;
mod writer;

use crate::event::Kind;
pub use crate::history::ReadError;
use crate::time::Nanos;
pub use reader::{Format, Reader, detect};
pub use writer::{Output, Writer};

/// What is asked or answered, as histories write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `nil`, `null`.
    #[default]
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string, or a keyword or symbol by its name.
    Text(Box<str>),
    /// A vector, list or set, in order of writing.
    List(Vec<Value>),
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// A logically single-threaded client.
    Client(i64),
    /// A nemesis, a host, control: no client, and no operation.
    Other(Box<str>),
}

/// One event of a history of operations: an invocation, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpEvent {
    /// Where it stands in its source, from 1; 0 where there is none.
    pub line: u64,
    /// Since the recording began, if it says.
    pub time: Option<Nanos>,
    /// Who.
    pub process: Speaker,
    /// Begin, or how it ended.
    pub kind: Kind,
    /// What is done: `read`, `write`, `cas`, `acquire`, ...
    pub f: Box<str>,
    /// On which of many objects, if the format tells it apart from the value.
    pub key: Option<Value>,
    /// What is written or compared; in a completion what was read.
    pub value: Value,
    /// Why it failed or is unknown.
    pub error: Option<Box<str>>,
}
