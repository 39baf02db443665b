//! Jobs that run exactly once.
//!
//! Operations:
//! - `run` (`execute`) of a job: an `ok` acknowledges that it ran in this call, and had not run before; a `fail` with the
//!   reason `already-ran` says that it had; any other says that this call did not run it;
//! - `ran` (`done`) of a job: whether it has run, as `true` or `false`;
//! - `read` (`jobs`): the list of all jobs that have run, each as often as it ran.
//!
//! So a job may be acknowledged once, one that was acknowledged did run and is seen from then on, and one that crashed
//! may have run, once, whenever. Jobs are anything but nil.
//!
//! **Instants.** A job runs at one instant or never, and nothing else happens to it. Every word bounds the instant: it
//! lies within the acknowledged call, or else after the first crashed one begins; before the first end of a word that it
//! had run, after the last beginning of a word that it had not. The history fits if and only if each job's bounds leave
//! something over. A whole list is such a word on every job at once; that is the same as a word on each for as long as no
//! other call with an answer is open beside it, because its own instant then binds none to another.
//!
//! Caveat: where other calls are open beside a whole list, the engines decide.
use super::prepared::shown;
use super::values::Values;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model, NEVER};
use splitbrain_core::formats::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A call that took effect, or may have. Jobs are numbered as they are met, lists too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobOp {
    /// It ran now, and had not before.
    Run(u32),
    /// It had run.
    Ran(u32),
    /// It had not.
    Not(u32),
    /// These had, and no others.
    All(u32),
    /// A job had run twice.
    Never(u32),
}

use JobOp::{All, Never, Not, Ran, Run};

/// Sets of jobs as states, numbered as they are met.
#[derive(Debug)]
struct Sets {
    numbers: BTreeMap<Vec<u32>, u32>,
    met: Vec<Vec<u32>>,
}

impl Sets {
    fn number(&mut self, set: Vec<u32>) -> u32 {
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        let number = u32::try_from(self.met.len()).expect("memory ends before four billion sets do");
        self.met.push(set.clone());
        self.numbers.insert(set, number);
        number
    }
}

/// The jobs that have run.
#[derive(Debug)]
pub struct Jobs {
    lists: Vec<Vec<u32>>,
    states: RefCell<Sets>,
}

impl Model for Jobs {
    type Op = JobOp;

    fn start(&self) -> u32 {
        self.states.borrow_mut().number(Vec::new())
    }

    fn step(&self, state: u32, op: &JobOp) -> Option<u32> {
        let mut states = self.states.borrow_mut();
        let set = &states.met[state as usize];
        let has = |job: &u32| set.binary_search(job);
        match op {
            Run(job) => {
                let at = has(job).err()?;
                let mut set = set.clone();
                set.insert(at, *job);
                Some(states.number(set))
            }
            Ran(job) => has(job).is_ok().then_some(state),
            Not(job) => has(job).is_err().then_some(state),
            All(list) => (self.lists[*list as usize] == *set).then_some(state),
            Never(_) => None,
        }
    }

    fn looks(&self, op: &JobOp) -> bool {
        !matches!(op, Run(_))
    }
}

/// See the module.
pub(super) struct JobReading {
    jobs: Values,
    lists: Vec<Vec<u32>>,
}

impl JobReading {
    pub fn new() -> JobReading {
        JobReading {
            jobs: Values::new(),
            lists: Vec::new(),
        }
    }

    fn job(&mut self, f: &str, job: &Value) -> Result<u32, String> {
        match job {
            Value::Nil => Err(format!("{f} of nothing: it takes a job")),
            job => Ok(self.jobs.number(job)),
        }
    }

    fn all(&mut self, f: &str, answer: &Value) -> Result<JobOp, String> {
        let Value::List(list) = answer else {
            return Err(format!("{f} answered {}: it is a list of jobs", shown(answer)));
        };
        let list: Result<Vec<u32>, String> = list.iter().map(|job| self.job(f, job)).collect();
        let mut list = list?;
        list.sort_unstable();
        if let Some(twice) = list.windows(2).find(|pair| pair[0] == pair[1]) {
            return Ok(Never(twice[0]));
        }
        self.lists.push(list);
        Ok(All(self.lists.len() as u32 - 1))
    }
}

impl Reading for JobReading {
    type Model = Jobs;

    fn ops() -> &'static [&'static str] {
        &["run", "execute", "ran", "done", "read", "jobs"]
    }

    fn call(&mut self, _process: i64, f: &str, asked: &Value, ending: Ending) -> Result<Option<JobOp>, String> {
        Ok(Some(match (f, ending) {
            ("run" | "execute", Ending::Ok(_) | Ending::Unknown) => Run(self.job(f, asked)?),
            ("run" | "execute", Ending::Fail(Some("already-ran"))) => Ran(self.job(f, asked)?),
            ("ran" | "done", Ending::Ok(Value::Bool(ran))) => {
                let job = self.job(f, asked)?;
                if *ran { Ran(job) } else { Not(job) }
            }
            ("ran" | "done", Ending::Ok(other)) => {
                return Err(format!("{f} answered {}: it is true or false", shown(other)));
            }
            ("read" | "jobs", Ending::Ok(list)) => self.all(f, list)?,
            _ => return Ok(None),
        }))
    }

    fn model(&self) -> Jobs {
        let (numbers, met) = (BTreeMap::new(), Vec::new());
        Jobs {
            lists: self.lists.clone(),
            states: RefCell::new(Sets { numbers, met }),
        }
    }

    fn quick(&self, calls: &[Call<JobOp>]) -> Option<Quick> {
        let culprits = if lists_stand_alone(calls) {
            let mut instants = Instants {
                jobs: vec![Instant::default(); self.jobs.count()],
            };
            instants.judge(calls, &self.lists).err().unwrap_or_default()
        } else {
            return None;
        };
        Some(Quick {
            by: "instants",
            culprits,
        })
    }

    fn words(&self, op: &JobOp) -> String {
        let shown = |job: u32| self.jobs.shown(job);
        match *op {
            Run(job) => format!("run {}", shown(job)),
            Ran(job) => format!("{} had run", shown(job)),
            Not(job) => format!("{} had not run", shown(job)),
            Never(job) => format!("{} had run twice", shown(job)),
            All(list) => {
                let list: Vec<String> = self.lists[list as usize].iter().map(|job| shown(*job)).collect();
                format!("these had run: [{}]", list.join(" "))
            }
        }
    }
}

/// Whether no call with an answer is open beside a whole list.
fn lists_stand_alone(calls: &[Call<JobOp>]) -> bool {
    let (mut latest, mut list) = (0, 0);
    calls.iter().filter(|call| call.ended()).all(|call| {
        let whole = matches!(call.op, All(_));
        let alone = list <= call.begin && (!whole || latest <= call.begin);
        latest = latest.max(call.end);
        if whole {
            list = list.max(call.end);
        }
        alone
    })
}

/// A bound, and the call that sets it.
type Bound = Option<(u32, u32)>;

/// What bounds the instant at which a job ran.
#[derive(Clone, Copy, Default)]
struct Instant {
    /// The acknowledged call.
    acked: Option<u32>,
    /// The first crashed call's beginning.
    crashed: Bound,
    /// The first end of a word that it had run.
    ran: Bound,
    /// The last beginning of a word that it had not.
    not: Bound,
}

struct Instants {
    jobs: Vec<Instant>,
}

impl Instants {
    fn judge(&mut self, calls: &[Call<JobOp>], lists: &[Vec<u32>]) -> Result<(), Vec<u32>> {
        for (place, call) in (0u32..).zip(calls) {
            match call.op {
                Run(job) => self.run(place, call, job)?,
                Ran(job) => self.ran(place, call, job),
                Not(job) => self.not(place, call, job),
                Never(_) => return Err(vec![place]),
                All(list) => {
                    let mut rest = lists[list as usize].iter().peekable();
                    for job in 1..self.jobs.len() as u32 {
                        match rest.next_if(|next| **next == job) {
                            Some(_) => self.ran(place, call, job),
                            None => self.not(place, call, job),
                        }
                    }
                }
            }
        }
        self.jobs.iter().try_for_each(|job| job.judge(calls))
    }

    fn run(&mut self, place: u32, call: &Call<JobOp>, job: u32) -> Result<(), Vec<u32>> {
        let job = &mut self.jobs[job as usize];
        if call.end == NEVER {
            // Calls come in the order of their beginnings: the first is the earliest.
            job.crashed.get_or_insert((call.begin, place));
        } else if let Some(first) = job.acked.replace(place) {
            return Err(vec![first, place]);
        }
        Ok(())
    }

    fn ran(&mut self, place: u32, call: &Call<JobOp>, job: u32) {
        let job = &mut self.jobs[job as usize];
        let bound = (call.end, place);
        job.ran = Some(job.ran.map_or(bound, |before| before.min(bound)));
    }

    fn not(&mut self, place: u32, call: &Call<JobOp>, job: u32) {
        let job = &mut self.jobs[job as usize];
        job.not = job.not.max(Some((call.begin, place)));
    }
}

impl Instant {
    /// Whether an instant is left; else the two words, or the one, that leave none.
    fn judge(&self, calls: &[Call<JobOp>]) -> Result<(), Vec<u32>> {
        let acked = self.acked.map(|place| (calls[place as usize], place));
        let (after, before) = match (acked, self.ran) {
            (Some((call, place)), _) => (Some((call.begin, place)), Some((call.end, place))),
            (None, None) => return Ok(()),
            (None, Some((_, place))) if self.crashed.is_none() => return Err(vec![place]),
            (None, Some(_)) => (self.crashed, None),
        };
        let after = after.max(self.not);
        let before = match (before, self.ran) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match (after, before) {
            (Some((from, a)), Some((to, b))) if from > to => {
                let mut both = if acked.is_none() && self.crashed == after {
                    vec![b]
                } else {
                    vec![a, b]
                };
                both.sort_unstable();
                Err(both)
            }
            _ => Ok(()),
        }
    }
}
