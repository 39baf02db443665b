//! Clock faults: making processes, or a host, believe that it is another time.
//!
//! **Per process** ([`process`]). Programs read their clocks through the vDSO, a library that the kernel maps into each of
//! them. Its clock functions are overwritten by a jump to a few bytes of our own ([`stub`]), which make the real system call
//! and move what it says. This works for static and dynamic programs of any language, in any container, without their help,
//! and it moves nobody else. Jumps, rates and strobes of the time of day and of the monotonic clock.
//!
//! **Per host** ([`host`]). Where a host's clock is its own (a virtual machine), the kernel's clock is set or slewed.
//!
//! Each skew is verified *from inside*: one of the process's threads is made to read both clocks through the functions that
//! the program uses, and a process whose clocks do not read as they ought to is an error.
//!
//! A skew belongs to a host: what starts later reads the same wrong time. [`Clocks::tend`] sees to that.
//!
//! Caveats of the way per process:
//! - kernel timers (sleeps, timeouts of `epoll` and `futex`), file times and raw system calls keep true time. A program that
//!   hands the kernel a *deadline* by its monotonic clock, as a JVM does to sleep, sleeps too long by a forward jump and not
//!   at all after a backward one;
//! - the processor-time clocks and the alarm clocks' ids are left alone;
//! - between a program's start and the next look at it (20 ms) it reads true clocks;
//! - in a time namespace of its own a process's monotonic clock is not the host's, and rates begin with a jump.
mod host;
mod process;
mod regs;
mod stub;
mod trace;
mod trial;
mod vdso;
mod words;

pub use host::HostClockUndo;

use crate::sabotage::Sabotage;
use nix::unistd::Pid;
use process::{Identity, Restored, Seen, Target};
use splitbrain_core::plan::ClockOf;
use splitbrain_core::{Proof, Skew};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use trace::Trouble;
use words::{Truth, Words};

/// What a rate must have brought before a second reading can show it, in nanoseconds.
const SHOWS: f64 = 1e6;
/// How often a second reading is taken that shows nothing.
const READINGS: usize = 10;
/// The longest wait for that.
const WAIT: Duration = Duration::from_millis(50);
/// How long a process may become one program after the other.
const EXECS: Duration = Duration::from_secs(2);

/// The clocks of one host: what skew they have, and which processes read it.
///
/// To be used from one thread, and not while another thread of this program waits for any child.
pub struct Clocks {
    sabotage: bool,
    words: Words,
    skew: Skew,
    known: BTreeMap<i32, Known>,
    host: Option<host::Fault>,
    /// Processes may be patched that ought not to be.
    sweeping: bool,
}

struct Known {
    identity: Identity,
    /// None if it could not be patched, which was told.
    target: Option<Target>,
}

/// How a skew is brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Processes,
    Host,
}

/// Chooses the means: what jumps or strobes only the time of day, or drifts both clocks a little, can be done by a host's own clock.
fn means(skew: &Skew, of: ClockOf, missing: Option<String>) -> Result<Means, String> {
    match of {
        ClockOf::Process => Ok(Means::Processes),
        ClockOf::Host => {
            host::suits(skew)?;
            if skew.strobe.0 > 0 && skew.strobe < host::FINEST {
                let finest = splitbrain_core::time::words(host::FINEST);
                return Err(format!(
                    "a host's clock strobes every {finest} at most: use clock = \"process\""
                ));
            }
            missing.map_or(Ok(Means::Host), Err)
        }
        ClockOf::Auto => Ok(means(skew, ClockOf::Host, missing).unwrap_or(Means::Processes)),
    }
}

impl Clocks {
    /// True clocks.
    pub fn new(sabotage: Option<Sabotage>) -> Clocks {
        Clocks {
            sabotage: sabotage == Some(Sabotage::ClockDoesNothing),
            words: Words::default(),
            skew: Skew::default(),
            known: BTreeMap::new(),
            host: None,
            sweeping: false,
        }
    }

    /// What cannot be done here, with reason and remedy: `vdso` (found by trying it on a process made for that),
    /// `host-clock`.
    pub fn missing() -> BTreeMap<String, String> {
        let found = [("vdso", trial::missing()), ("host-clock", host::missing())];
        let found = found
            .into_iter()
            .filter_map(|(what, why)| Some((what.to_string(), why?)));
        found.collect()
    }

    /// What a ledger must hold before [`Clocks::set`] is called with the same arguments: how the host's clock is undone.
    /// `None` if it is not touched.
    pub fn undo(&self, skew: Skew, of: ClockOf) -> Result<Option<HostClockUndo>, String> {
        if let Some(fault) = &self.host {
            return Ok(Some(fault.undo.clone()));
        }
        match means(&skew, of, host::missing())? {
            Means::Host if !skew.is_none() => HostClockUndo::now().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether [`Clocks::tend`] is to be called: a skew is set, or was until a moment ago.
    pub fn busy(&self) -> bool {
        self.sweeping || !self.skew.is_none()
    }

    /// Gives these processes this skew in place of the one that they have, or the host's clock, and proves it. The default skew
    /// makes all clocks true and leaves no byte of ours behind.
    ///
    /// `processes` are all of the host's, children included, by name; those that end meanwhile are left out. The proofs'
    /// places are these names, or `host`; who knows the host puts its name there.
    ///
    /// Takes about a millisecond per process, and 50 ms more to prove a rate.
    pub fn set(&mut self, skew: Skew, of: ClockOf, processes: &[(String, Pid)]) -> Result<Vec<Proof>, String> {
        skew.check()?;
        let means = means(&skew, of, host::missing())?;
        let mut proofs = Vec::new();
        if means == Means::Host && !skew.is_none() {
            self.sweeping = true;
            proofs.extend(self.restore_processes(processes)?);
            let undo = match self.host.take() {
                Some(fault) => fault.undo,
                None => HostClockUndo::now()?,
            };
            let began = host::Fault::begin(undo.clone(), skew, self.sabotage);
            let (fault, saw) = began.map_err(|why| format!("{why}{}", take_back(&undo)))?;
            self.host = Some(fault);
            self.skew = skew;
            proofs.push(proof("host", saw));
            return Ok(proofs);
        }
        if let Some(fault) = self.host.take() {
            proofs.push(proof("host", fault.undo.restore()?));
        }
        if skew.is_none() {
            self.skew = skew;
            self.sweeping = true;
            proofs.extend(self.restore_processes(processes)?);
            if proofs.is_empty() {
                proofs.push(proof("host", "clocks true".to_string()));
            }
        } else {
            self.words = self.words.next(&skew, &Truth::now());
            self.skew = skew;
            proofs.extend(self.skew_processes(processes)?);
        }
        Ok(proofs)
    }

    /// Gives the skew to processes that are new or have become another program, and lets a host's clock strobe. To be called
    /// at least every 20 ms while [`Clocks::busy`], and right after each start of a process.
    ///
    /// An error tells of a process that reads the wrong time, once.
    pub fn tend(&mut self, processes: &[(String, Pid)]) -> Result<(), String> {
        trace::late();
        if let Some(fault) = &mut self.host {
            fault.tend()?;
        }
        self.known
            .retain(|known, _| processes.iter().any(|(_, pid)| pid.as_raw() == *known));
        if self.host.is_some() || self.skew.is_none() {
            if self.sweeping {
                // A child may have been made while its parent was restored.
                let restored = self.restore_processes(processes)?;
                self.sweeping = !restored.is_empty();
            }
            return Ok(());
        }
        let mut errors = Vec::new();
        for (name, pid) in processes {
            let identity = Identity::of(*pid);
            let known = self.known.get(&pid.as_raw());
            if identity.is_none() || known.map(|known| &known.identity) == identity.as_ref() {
                continue;
            }
            if let Err(why) = self.skew_process(name, *pid) {
                errors.push(why);
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("; "))
        }
    }

    fn skew_processes(&mut self, processes: &[(String, Pid)]) -> Result<Vec<Proof>, String> {
        let mut seen = Vec::new();
        for (name, pid) in processes {
            if let Some(first) = self.skew_process(name, *pid)? {
                seen.push((name, *pid, first, None));
            }
        }
        let gain = self
            .words
            .0
            .iter()
            .map(|entry| (entry.rate() - 1.0).abs())
            .fold(0.0, f64::max);
        if gain > 0.0 {
            // Time itself is what is waited for.
            std::thread::sleep(WAIT.min(Duration::from_nanos((SHOWS / gain) as u64)));
            for (name, pid, first, second) in &mut seen {
                // Again if so much time went by around a reading that it shows nothing.
                for _ in 0..READINGS {
                    *second = self.skew_process(name, *pid)?;
                    if second.is_none_or(|second| self.drifts_show(first, &second)) {
                        break;
                    }
                }
            }
        }
        let words = |(name, pid, first, second): (&String, Pid, Seen, Option<Seen>)| {
            let saw = format!("{name} (pid {pid}): {}", self.in_words(&first, second.as_ref()));
            proof(name, saw)
        };
        let proofs: Vec<Proof> = seen.into_iter().map(words).collect();
        if proofs.is_empty() {
            return Ok(vec![proof(
                "host",
                format!("no process runs; those that start get {}", self.skew),
            )]);
        }
        Ok(proofs)
    }

    /// `None` if it has ended.
    fn skew_process(&mut self, name: &str, pid: Pid) -> Result<Option<Seen>, String> {
        let begin = Instant::now();
        while let Some(identity) = Identity::of(pid) {
            match self.give(pid, &identity) {
                Ok(seen) => return Ok(Some(seen)),
                // It has become another program, and is patched as that.
                Err(Trouble::Gone) if begin.elapsed() < EXECS => {}
                Err(Trouble::Gone) if Identity::of(pid).is_none() => break,
                Err(trouble) => {
                    self.known.insert(pid.as_raw(), Known { identity, target: None });
                    let why = match trouble {
                        Trouble::Other(why) => why,
                        _ => format!("pid {pid} becomes one program after the other"),
                    };
                    return Err(format!("{name}: {why}"));
                }
            }
        }
        self.known.remove(&pid.as_raw());
        Ok(None)
    }

    fn give(&mut self, pid: Pid, identity: &Identity) -> Result<Seen, Trouble> {
        let known = self
            .known
            .get(&pid.as_raw())
            .filter(|known| known.identity == *identity);
        if let Some(target) = known.and_then(|known| known.target.as_ref()) {
            return target.give(&self.words, self.sabotage);
        }
        let target = Target::of(pid)?;
        let seen = target.give(&self.words, self.sabotage)?;
        let known = Known {
            identity: target.identity.clone(),
            target: Some(target),
        };
        self.known.insert(pid.as_raw(), known);
        Ok(seen)
    }

    fn drifts_show(&self, first: &Seen, second: &Seen) -> bool {
        let readings = [words::REALTIME, words::MONOTONIC]
            .into_iter()
            .zip(first.readings.iter().zip(&second.readings));
        let mut drifting = readings.filter(|(clock, _)| self.words.0[*clock].drifts());
        drifting.all(|(_, (first, second))| first.drifted_until(second))
    }

    /// `realtime reads +1h and goes x2, monotonic true, stopped 0.9ms`.
    fn in_words(&self, first: &Seen, second: Option<&Seen>) -> String {
        let mut words = Vec::new();
        for (n, clock) in [words::REALTIME, words::MONOTONIC].into_iter().enumerate() {
            let (entry, name) = (&self.words.0[clock], words::ALL[clock].name);
            if entry.is_true() {
                words.push(format!("{name} true"));
                continue;
            }
            let last = second.unwrap_or(first).readings[n];
            let mut word = format!("{name} reads {}", last.difference());
            if entry.strobes() {
                word += " by turns";
            }
            if let (Some(second), true) = (second, entry.drifts()) {
                let rate = f64::from(self.skew.rate_ppm) / 1e6;
                let shows = first.readings[n].drifted_until(&second.readings[n]);
                word += &format!(" and goes x{rate}");
                word += if shows { "" } else { " (too little to be seen so soon)" };
            }
            words.push(word);
        }
        let held = first.held.max(second.map_or(Duration::ZERO, |seen| seen.held));
        words.push(stopped(held));
        words.join(", ")
    }

    /// Restores all of these that carry our mark.
    fn restore_processes(&mut self, processes: &[(String, Pid)]) -> Result<Vec<Proof>, String> {
        let known = std::mem::take(&mut self.known);
        self.words = Words::default();
        let (mut proofs, mut errors) = (Vec::new(), Vec::new());
        for (name, pid) in processes {
            let known = known.get(&pid.as_raw());
            let known = known.filter(|known| Some(&known.identity) == Identity::of(*pid).as_ref());
            match restore(*pid, known.and_then(|known| known.target.as_ref())) {
                Ok(None) | Err(Trouble::Gone) => {}
                Ok(Some(Restored { held, whole })) => {
                    let bytes = if whole {
                        "its vDSO is as it was"
                    } else {
                        "our code stays, unused, until a signal's handler has left it"
                    };
                    let saw = format!("{name} (pid {pid}): clocks true, {bytes}, {}", stopped(held));
                    proofs.push(proof(name, saw));
                }
                Err(Trouble::Other(why)) => errors.push(format!("{name}: {why}")),
                Err(Trouble::Busy) => errors.push(format!("{name}: pid {pid} is never at a good moment")),
            }
        }
        if errors.is_empty() {
            Ok(proofs)
        } else {
            Err(errors.join("; "))
        }
    }
}

/// `None` if it was not patched.
fn restore(pid: Pid, known: Option<&Target>) -> Result<Option<Restored>, Trouble> {
    if let Some(target) = known {
        return target.restore().map(Some);
    }
    // What cannot be looked at was not patched either.
    match Target::of(pid) {
        Ok(target) if target.is_patched()? => target.restore().map(Some),
        _ => Ok(None),
    }
}

/// What is added to an error when a fault of the host's clock was begun in vain.
fn take_back(undo: &HostClockUndo) -> String {
    undo.restore()
        .map_or_else(|why| format!("; and {why}"), |_| String::new())
}

fn proof(at: &str, saw: String) -> Proof {
    Proof {
        at: at.to_string(),
        saw,
    }
}

fn stopped(held: Duration) -> String {
    format!("stopped {:.2}ms", held.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::{Clocks as Which, Nanos, Offset};

    #[test]
    fn the_means_fit_what_is_asked() {
        let hour = Skew {
            clocks: Which::Realtime,
            offset: Offset(3_600_000_000_000),
            ..Skew::default()
        };
        let both = Skew {
            clocks: Which::Both,
            ..hour
        };
        let little = Skew {
            rate_ppm: 1_050_000,
            ..Skew::default()
        };
        let much = Skew {
            rate_ppm: 2_000_000,
            ..Skew::default()
        };
        let quick = Skew {
            strobe: Nanos::millis(5),
            ..hour
        };
        let (host, processes, none) = (Some(Means::Host), Some(Means::Processes), None);
        for (skew, [auto, process, only_host]) in [
            (hour, [host, processes, host]),
            (both, [processes, processes, none]),
            (little, [host, processes, host]),
            (much, [processes, processes, none]),
            (quick, [processes, processes, none]),
        ] {
            for (of, want) in [
                (ClockOf::Auto, auto),
                (ClockOf::Process, process),
                (ClockOf::Host, only_host),
            ] {
                assert_eq!(means(&skew, of, None).ok(), want, "{skew} of {of:?}");
                let missing = Some("no right".to_string());
                let want = if of == ClockOf::Host { none } else { processes };
                assert_eq!(
                    means(&skew, of, missing).ok(),
                    want,
                    "{skew} of {of:?} without the right"
                );
            }
        }
    }
}
