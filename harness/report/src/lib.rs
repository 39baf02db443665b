//! Placeholder until its crate is written.
