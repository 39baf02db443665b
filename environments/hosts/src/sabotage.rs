//! A deliberate fault of the harness itself, for tests: an action is left out, and its verification must notice.
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sabotage {
    /// Blocks are not set.
    BlockDoesNothing,
    /// No signal is sent to kill.
    KillDoesNothing,
    /// No signal is sent to pause.
    PauseDoesNothing,
    /// Shapes are noted and do nothing.
    ShapeDoesNothing,
    /// Clocks are not touched.
    ClockDoesNothing,
    /// Disks are not touched.
    DiskDoesNothing,
}

impl Sabotage {
    /// With the word for each.
    pub const ALL: [(&str, Sabotage); 6] = [
        ("block", Sabotage::BlockDoesNothing),
        ("kill", Sabotage::KillDoesNothing),
        ("pause", Sabotage::PauseDoesNothing),
        ("shape", Sabotage::ShapeDoesNothing),
        ("clock", Sabotage::ClockDoesNothing),
        ("disk", Sabotage::DiskDoesNothing),
    ];
}

impl FromStr for Sabotage {
    type Err = String;
    fn from_str(s: &str) -> Result<Sabotage, String> {
        let words: Vec<&str> = Sabotage::ALL.iter().map(|(word, _)| *word).collect();
        let found = Sabotage::ALL.iter().find(|(word, _)| *word == s);
        found
            .map(|(_, sabotage)| *sabotage)
            .ok_or_else(|| format!("no sabotage '{s}': it is one of {}", words.join(", ")))
    }
}
