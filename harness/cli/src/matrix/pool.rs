//! Runs cells, as many at once as the machine carries.
//!
//! Cells start in the plan's order; the next waits until there is room for it. Each has a thread that starts it and waits
//! for it, since the kernel takes that thread for the parent (see [`splitbrain_environments::own`]). A cell that does not end
//! within its limit is asked to heal and end, then killed.
use super::plan::{MatrixPlan, Planned, Weight};
use super::progress::Progress;
use super::record::{self, Left};
use splitbrain_environments::own::{Bell, Own, Streams, Woken};
use splitbrain_report::matrix::Cell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Scope, scope};
use std::time::{Duration, Instant};

/// How long a cell may heal before it is killed.
const HEALING: Duration = Duration::from_secs(60);
/// How often the running line is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// What interrupts ring.
pub struct Bells {
    /// Heal and end.
    heal: Bell,
    /// End at once.
    now: Bell,
}

impl Bells {
    /// Silent ones.
    pub fn new() -> anyhow::Result<Bells> {
        Ok(Bells {
            heal: Bell::new()?,
            now: Bell::new()?,
        })
    }

    /// The first interrupt asks the cells to heal and end, the second to end at once.
    pub fn interrupt(&self, count: u32) {
        match count {
            1 => {
                let _ = writeln!(
                    std::io::stderr(),
                    "\ninterrupted: the running cells heal and end (once more to end at once)"
                );
                self.heal.ring();
            }
            _ => {
                self.now.ring();
            }
        }
    }

    /// Whether there was one.
    pub fn was_interrupted(&self) -> bool {
        self.heal.was_rung()
    }
}

/// What cells need to run.
pub struct Pool<'a> {
    /// The matrix's folder.
    pub dir: &'a Path,
    /// Its plan.
    pub plan: &'a MatrixPlan,
    /// How many run at once; as the processors carry where absent.
    pub jobs: Option<u32>,
    /// Held by every cell.
    pub lock: &'a File,
    /// Rung to stop.
    pub bells: &'a Bells,
}

impl Pool<'_> {
    /// Runs `todo`, and gives each cell that ended to `keep`. Ends early at an interrupt, or when `keep` fails.
    pub fn run(
        &self,
        todo: &[&Planned],
        mut progress: Progress,
        keep: impl Fn(&Cell) -> Result<(), String>,
    ) -> Result<(), String> {
        let room = self.jobs.unwrap_or_else(processors);
        let (mut waiting, mut used) = (todo.iter().peekable(), 0);
        let (send, ended) = channel();
        let mut failed = None;
        scope(|scope| {
            loop {
                while let Some(cell) = waiting.peek()
                    && used + self.weight(cell, room) <= room
                    && !self.bells.was_interrupted()
                {
                    used += self.weight(cell, room);
                    progress.started(cell);
                    self.start(scope, cell, &send);
                    waiting.next();
                }
                if used == 0 {
                    break;
                }
                match ended.recv_timeout(TICK) {
                    Err(RecvTimeoutError::Timeout) => progress.draw(),
                    Err(RecvTimeoutError::Disconnected) => unreachable!("this function holds a sender"),
                    Ok((planned, cell)) => {
                        used -= self.weight(planned, room);
                        // Nobody is told of an end that is not on the disk yet.
                        if let Some(Err(why)) = cell.as_ref().map(&keep) {
                            failed = Some(why);
                            self.bells.heal.ring();
                        }
                        progress.ended(planned, cell.as_ref());
                    }
                }
            }
        });
        progress.clear();
        failed.map_or(Ok(()), Err)
    }

    fn weight(&self, cell: &Planned, room: u32) -> u32 {
        let processors = match cell.weight {
            Weight::Alone => room,
            // Who says how many at once counts cells.
            _ if self.jobs.is_some() => 1,
            Weight::Simulated => 1,
            Weight::Real => 2,
            Weight::Java => 4,
        };
        processors.min(room)
    }

    fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        cell: &'env Planned,
        send: &std::sync::mpsc::Sender<(&'env Planned, Option<Cell>)>,
    ) {
        let send = send.clone();
        scope.spawn(move || {
            let began = Instant::now();
            let left = self.carry(cell).unwrap_or_else(|e| Left::NotStarted(format!("{e:#}")));
            let cell_ended = record::cell(self.dir, cell, &left, began.elapsed(), self.bells.was_interrupted());
            let _ = send.send((cell, cell_ended));
        });
    }

    /// Runs one cell to its end.
    fn carry(&self, cell: &Planned) -> anyhow::Result<Left> {
        let folder = self.dir.join("cells").join(&cell.id);
        std::fs::create_dir_all(&folder)?;
        let mut args = cell.args.clone();
        args.extend(["--json", "--store"].map(str::to_string));
        args.push(folder.display().to_string());
        let streams = Streams {
            lock: self.lock.try_clone()?,
            out: File::create(record::out(self.dir, cell))?,
            err: File::create(record::err(self.dir, cell))?,
        };
        let mut own = Own::start(&args, &self.plan.folder, streams)?;
        let limit = Duration::from_secs(cell.limit);
        match own.wait(Some(&self.bells.heal), limit)? {
            Woken::Ended(status) => Ok(Left::Ended(status)),
            Woken::Rung => {
                own.interrupt();
                self.healed(&mut own).map(Left::Ended)
            }
            Woken::Late => {
                own.interrupt();
                self.healed(&mut own)?;
                Ok(Left::Hung(limit))
            }
        }
    }

    /// Waits for a cell that was asked to heal and end; one that does not, or is not to, is killed.
    fn healed(&self, own: &mut Own) -> anyhow::Result<std::process::ExitStatus> {
        match own.wait(Some(&self.bells.now), HEALING)? {
            Woken::Ended(status) => Ok(status),
            Woken::Rung | Woken::Late => own.kill(),
        }
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}
