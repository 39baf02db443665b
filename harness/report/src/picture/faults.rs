//! Faults as spans: from the moment in which one was seen to act to the moment in which it was seen to be gone.
use splitbrain_core::event::{FaultStep, Hit};
use splitbrain_core::plan::{FaultKind, Target};
use splitbrain_core::{Body, Event, Kind, Name, Nanos, Proof};

/// Whether a fault found whom it was aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aimed {
    /// What it was aimed at.
    pub target: Target,
    /// Whether it did.
    pub hit: Hit,
    /// In words.
    pub why: String,
}

/// One fault, all its steps together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpan {
    /// Counts from 1.
    pub number: u32,
    /// What kind; `None` for one that found no target and so was never injected.
    pub kind: Option<FaultKind>,
    /// In words.
    pub what: String,
    /// The hosts that suffer.
    pub targets: Vec<Name>,
    /// When it was asked for.
    pub asked: Nanos,
    /// When it was first seen to act; `None` if it never did.
    pub from: Option<Nanos>,
    /// When its last healing was seen; `None` if it never was.
    pub healed: Option<Nanos>,
    /// What was seen where it acted.
    pub proofs: Vec<Proof>,
    /// What was seen where it was healed.
    pub heal_proofs: Vec<Proof>,
    /// Why a step did not take effect.
    pub errors: Vec<String>,
    /// Where it was aimed at someone.
    pub aimed: Option<Aimed>,
}

impl FaultSpan {
    fn new(number: u32, asked: Nanos) -> FaultSpan {
        FaultSpan {
            number,
            kind: None,
            what: String::new(),
            targets: Vec::new(),
            asked,
            from: None,
            healed: None,
            proofs: Vec::new(),
            heal_proofs: Vec::new(),
            errors: Vec::new(),
            aimed: None,
        }
    }

    /// When it acted, up to `end` where no healing was seen.
    pub fn interval(&self, end: Nanos) -> Option<(Nanos, Nanos)> {
        let from = self.from?;
        Some((from, self.healed.unwrap_or(end).max(from)))
    }

    /// Number, and what: `3 isolate-one: n3 | n1 n2`.
    pub fn label(&self) -> String {
        format!("{} {}", self.number, self.what)
    }
}

fn at(faults: &mut [FaultSpan], number: u32) -> Option<&mut FaultSpan> {
    // The fault of a note is nearly always the last one.
    faults.iter_mut().rev().find(|f| f.number == number)
}

/// Joins the notes on aims, which may come before their fault or stand alone, to the faults.
pub(super) fn aim(faults: &mut Vec<FaultSpan>, time: Nanos, number: u32, aimed: Aimed) {
    if at(faults, number).is_none() {
        faults.push(FaultSpan {
            what: format!("aimed at {}, and not injected", aimed.target),
            ..FaultSpan::new(number, time)
        });
    }
    at(faults, number).expect("it is there or was just added").aimed = Some(aimed);
    faults.sort_by_key(|f| f.number);
}

pub(super) fn step(faults: &mut Vec<FaultSpan>, event: &Event, step: &FaultStep) {
    if at(faults, step.fault).is_none() {
        faults.push(FaultSpan {
            kind: Some(step.kind),
            what: step.what.clone(),
            targets: step.targets.clone(),
            ..FaultSpan::new(step.fault, event.time)
        });
    }
    let fault = at(faults, step.fault).expect("it is there or was just added");
    let healing = matches!(event.body, Body::Heal(_));
    match (event.kind, healing) {
        (Kind::Ok, false) => {
            fault.from.get_or_insert(event.time);
            fault.proofs.extend(step.proofs.iter().cloned());
        }
        (Kind::Ok, true) => {
            fault.healed = Some(event.time);
            fault.heal_proofs.extend(step.proofs.iter().cloned());
        }
        (Kind::Fail, _) => fault.errors.push(format!(
            "{}{}",
            if healing { "not healed: " } else { "" },
            event.error.as_deref().unwrap_or("no reason given")
        )),
        (Kind::Invoke | Kind::Info, _) => {}
    }
}
