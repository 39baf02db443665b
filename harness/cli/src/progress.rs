//! A line of progress while a run goes on: leader, epoch, faults, operations per second. Quiet when piped.
use splitbrain_core::event::{Body, Event, Kind, Phase};
use splitbrain_core::{Name, Nanos, Role};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is shown, and when it was last shown.
pub struct Progress {
    shown: Option<Instant>,
    began: Instant,
    visible: bool,
    width: usize,
    phase: Phase,
    limit: Nanos,
    leaders: BTreeMap<Name, u64>,
    open_faults: BTreeMap<u32, String>,
    faults: u32,
    elections: u32,
    operations: u64,
    operations_shown: u64,
    rate: f64,
}

impl Progress {
    /// Shows on standard error if that is a terminal and `quiet` is false.
    pub fn new(limit: Nanos, quiet: bool) -> Progress {
        let visible = !quiet && std::io::stderr().is_terminal();
        let width = std::env::var("COLUMNS")
            .ok()
            .and_then(|c| c.parse().ok())
            .unwrap_or(100);
        Progress {
            shown: None,
            began: Instant::now(),
            visible,
            width,
            phase: Phase::Setup,
            limit,
            leaders: BTreeMap::new(),
            open_faults: BTreeMap::new(),
            faults: 0,
            elections: 0,
            operations: 0,
            operations_shown: 0,
            rate: 0.0,
        }
    }

    /// Takes note of an event, and redraws at most five times a second.
    pub fn event(&mut self, event: &Event) {
        if !self.visible {
            return;
        }
        self.note(event);
        let due = self.shown.is_none_or(|at| at.elapsed() >= Duration::from_millis(200));
        if due {
            let span = self.shown.map_or(self.began.elapsed(), |at| at.elapsed()).as_secs_f64();
            self.rate = (self.operations - self.operations_shown) as f64 / span.max(0.001);
            self.operations_shown = self.operations;
            self.shown = Some(Instant::now());
            let line = self.line(event.time);
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
        }
    }

    fn note(&mut self, event: &Event) {
        match &event.body {
            Body::Phase { phase } => self.phase = *phase,
            Body::Elected { host, epoch, .. } => {
                self.elections += 1;
                self.leaders.insert(*host, epoch.0);
            }
            Body::Deposed { host, .. } | Body::Started { host, .. } => {
                self.leaders.remove(host);
            }
            Body::Observe {
                host,
                answer: Some(status),
            } if status.role != Role::Leader => {
                self.leaders.remove(host);
            }
            Body::Fault(step) if event.kind == Kind::Ok => {
                self.faults += 1;
                self.open_faults.insert(step.fault, step.what.clone());
            }
            Body::Heal(step) if event.kind == Kind::Ok => {
                self.open_faults.remove(&step.fault);
            }
            body if body.is_operation() && event.kind != Kind::Invoke => self.operations += 1,
            _ => {}
        }
    }

    fn line(&self, now: Nanos) -> String {
        let phase = match self.phase {
            Phase::Setup => "starting",
            Phase::Faults => "running",
            Phase::Heal => "healing",
            Phase::Recovery => "recovering",
            Phase::Final | Phase::End => "finishing",
        };
        let leaders: Vec<_> = self
            .leaders
            .iter()
            .map(|(host, epoch)| format!("{host}@{epoch}"))
            .collect();
        let leaders = if leaders.is_empty() {
            "none".to_string()
        } else {
            leaders.join(" ")
        };
        let faults: Vec<_> = self.open_faults.values().map(String::as_str).collect();
        let line = format!(
            "{phase} {:.1}/{:.0}s  leader {leaders}  elections {}  faults {}  {:.0} ops/s  {}",
            now.as_secs_f64(),
            self.limit.as_secs_f64(),
            self.elections,
            self.faults,
            self.rate,
            faults.join("; ")
        );
        line.chars().take(self.width.saturating_sub(1)).collect()
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.visible && self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
