//! One leader per epoch.
//!
//! Operations: `elected` (`leader`, `claim`), whose `ok` has a pair [epoch node]: that node led in that epoch. Where the
//! answer has none, the question's pair is meant. Epochs and nodes may be anything; a nil epoch or a nil node claims
//! nothing. What failed or crashed claims nothing either.
//!
//! Claims are compared whenever they were made: a leader may learn late that it won, and an old one may say long
//! afterwards in which epoch it led. So only this counts: that no other node was named for the epoch before.
use super::prepared::shown;
use super::values::Values;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model};
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

/// A node led in an epoch; both are numbered as they are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// When.
    pub epoch: u32,
    /// Who.
    pub node: u32,
    /// Whether another was met first.
    pub other: bool,
}

/// The first claim of an epoch says who led in it. It has one state, for claims know whether theirs is another's.
#[derive(Clone, Copy, Debug)]
pub struct Leaders;

impl Model for Leaders {
    type Op = Claim;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, op: &Claim) -> Option<u32> {
        (!op.other).then_some(state)
    }

    fn looks(&self, _op: &Claim) -> bool {
        true
    }
}

/// See the module.
pub(super) struct LeaderReading {
    epochs: Values,
    nodes: Values,
    first: BTreeMap<u32, u32>,
}

impl LeaderReading {
    pub fn new() -> LeaderReading {
        LeaderReading {
            epochs: Values::new(),
            nodes: Values::new(),
            first: BTreeMap::new(),
        }
    }
}

impl Reading for LeaderReading {
    type Model = Leaders;

    fn ops() -> &'static [&'static str] {
        &["elected", "leader", "claim"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<Claim>, String> {
        let Ending::Ok(answer) = ending else { return Ok(None) };
        let (epoch, node) = match if *answer == Value::Nil { asked } else { answer } {
            Value::Nil => return Ok(None),
            Value::List(pair) if pair.len() == 2 => (&pair[0], &pair[1]),
            other => return Err(format!("{f} answered {}: it is a pair [epoch node]", shown(other))),
        };
        if *epoch == Value::Nil || *node == Value::Nil {
            return Ok(None);
        }
        let (epoch, node) = (self.epochs.number(epoch), self.nodes.number(node));
        let first = *self.first.entry(epoch).or_insert(node);
        let other = first != node;
        Ok(Some(Claim { epoch, node, other }))
    }

    fn model(&self) -> Leaders {
        Leaders
    }

    fn quick(&self, calls: &[Call<Claim>]) -> Option<Quick> {
        let second = calls.iter().position(|call| call.op.other);
        let culprits = second.map_or(Vec::new(), |second| {
            let Claim { epoch, node, .. } = calls[second].op;
            let rival = |n: &usize| calls[*n].op.epoch == epoch && calls[*n].op.node != node;
            let rival = (0..calls.len()).find(rival);
            let mut both: Vec<u32> = rival.into_iter().chain([second]).map(|n| n as u32).collect();
            both.sort_unstable();
            both
        });
        Some(Quick {
            by: "equality",
            culprits,
        })
    }

    fn words(&self, op: &Claim) -> String {
        format!(
            "{} led in epoch {}",
            self.nodes.shown(op.node),
            self.epochs.shown(op.epoch)
        )
    }
}
