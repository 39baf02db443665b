//! Labels: what is ours, of which run, and whether that run's control still lives.
//!
//! A container or network is ours if it has the label [`RUN`]; what has it not is never touched. [`CONTROL`] tells whose
//! it is: control's pid, when that process began, in which boot of which machine, and in which pid namespace. A pid alone may
//! have been given again, and means nothing on another machine or in another container that uses the same engine.
use crate::local::sandbox::{began, own_pid_space};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::process;

/// On containers and networks: the run.
pub(super) const RUN: &str = "splitbrain.run";
/// On containers and networks: the run's control.
pub(super) const CONTROL: &str = "splitbrain.control";
/// On images: what they were built from.
pub(super) const IMAGE: &str = "splitbrain.image";

/// Who made something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pid: i32,
    /// In clock ticks since boot.
    began: u64,
    boot: String,
    /// The number of its pid namespace.
    space: u64,
}

/// What became of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs.
    Alive,
    /// It has ended.
    Dead,
    /// It cannot be seen from here: another machine's, another boot's, another container's, or the mark is none of ours.
    Unseen,
}

impl Control {
    /// The calling process.
    pub fn own() -> Result<Control> {
        let pid = i32::try_from(process::id()).expect("a pid fits");
        Ok(Control {
            pid,
            began: began(pid).context("failed to read when this process began")?,
            boot: boot()?,
            space: own_pid_space().context("failed to read /proc/self/ns/pid")?,
        })
    }

    /// As a label.
    pub fn text(&self) -> String {
        format!("{}:{}:{}:{}", self.pid, self.began, self.boot, self.space)
    }

    fn parse(text: &str) -> Option<Control> {
        let mut parts = text.split(':');
        let control = Control {
            pid: parts.next()?.parse().ok()?,
            began: parts.next()?.parse().ok()?,
            boot: parts.next()?.to_string(),
            space: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(control)
    }

    /// What `self`, who looks, can say of the control that a label names.
    pub fn fate_of(&self, label: Option<&String>) -> Fate {
        match label.and_then(|text| Control::parse(text)) {
            Some(other) if other.boot == self.boot && other.space == self.space => {
                if began(other.pid).ok() == Some(other.began) {
                    Fate::Alive
                } else {
                    Fate::Dead
                }
            }
            _ => Fate::Unseen,
        }
    }
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    Ok(text.trim().to_string())
}

/// The labels of a run.
pub(super) fn labels(run: &str, control: &Control) -> HashMap<String, String> {
    HashMap::from([
        (RUN.to_string(), run.to_string()),
        (CONTROL.to_string(), control.text()),
    ])
}

/// A filter that lets only pass what has this label.
pub(super) fn filter(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_string(), vec![label.to_string()])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_known_by_more_than_its_pid() {
        let own = Control::own().unwrap();
        let fate = |change: &dyn Fn(&mut Control)| {
            let mut other = own.clone();
            change(&mut other);
            own.fate_of(Some(&other.text()))
        };
        assert_eq!(fate(&|_| {}), Fate::Alive);
        assert_eq!(fate(&|other| other.began += 1), Fate::Dead);
        assert_eq!(fate(&|other| other.pid = i32::MAX), Fate::Dead);
        assert_eq!(fate(&|other| other.boot = "another".into()), Fate::Unseen);
        assert_eq!(fate(&|other| other.space += 1), Fate::Unseen);
        for nonsense in ["", "1:2:3", "1:2:3:4:5", "one:2:3:4"] {
            assert_eq!(own.fate_of(Some(&nonsense.to_string())), Fate::Unseen);
        }
        assert_eq!(own.fate_of(None), Fate::Unseen);
    }
}
