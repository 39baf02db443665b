//! What goes on while a matrix runs: a line for each cell that ended, and on a terminal one more for those that run.
use super::plan::Planned;
use splitbrain_report::matrix::Cell;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// On standard error, so that what is piped stays the table or the JSON.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    all: usize,
    done: usize,
    running: Vec<(String, Instant)>,
}

impl Progress {
    /// Of `all` cells `done` need not be run. A quiet one says nothing.
    pub fn new(quiet: bool, all: usize, done: usize) -> Progress {
        Progress {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            all,
            done,
            running: Vec::new(),
        }
    }

    /// Says a line.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            // A terminal that is gone takes no words any more, and the cells go on all the same.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// A cell begins.
    pub fn started(&mut self, cell: &Planned) {
        self.running.push((cell.id.clone(), Instant::now()));
        self.draw();
    }

    /// A cell ended; without an outcome, it was interrupted.
    pub fn ended(&mut self, planned: &Planned, cell: Option<&Cell>) {
        self.running.retain(|(id, _)| *id != planned.id);
        self.clear();
        match cell {
            Some(cell) => {
                self.done += 1;
                self.say(&format!(
                    "[{}/{}] {} {}: {}, {} elections, {} faults, {:.1} s",
                    self.done,
                    self.all,
                    cell.ending.symbol(),
                    cell.id,
                    cell.ending.name(),
                    cell.elections,
                    cell.injected,
                    cell.seconds
                ));
            }
            None => self.say(&format!("{}: interrupted", planned.id)),
        }
        self.draw();
    }

    /// Draws the line of those that run.
    pub fn draw(&self) {
        if self.quiet || !self.terminal {
            return;
        }
        let running: Vec<_> = self
            .running
            .iter()
            .map(|(id, began)| format!("{id} ({} s)", began.elapsed().as_secs()))
            .collect();
        let line = format!("{} of {} done; {}", self.done, self.all, running.join(", "));
        let width = crate::inspect::width().saturating_sub(1);
        let line: String = line.chars().take(width).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
    }

    /// Takes that line away.
    pub fn clear(&self) {
        if !self.quiet && self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
