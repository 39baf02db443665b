//! Actions: the state is flipped, and then looked at.
//!
//! The look never reads the flag that was just written. A link is judged by a probe through the function that carries
//! packets, a process by what becomes of an input that reaches it. An action on unknown hosts changes nothing.
use crate::Sabotage;
use crate::effects::{self, PROBES};
use crate::host::{Admission, Write};
use crate::net::Fate;
use crate::world::SimWorld;
use rand::RngExt;
use splitbrain_core::{Action, HostRole, Link, Name, Proof, Shape};
use std::fmt::Display;

impl SimWorld {
    /// Carries `action` out and verifies it. The error reads after "failed to".
    pub(crate) fn carry_out(&mut self, action: &Action) -> Result<Vec<Proof>, String> {
        match action {
            // Another unsynced is a power cut, which takes its time: see `begin_act`.
            Action::Kill { hosts, .. } => self.each_host("kill", hosts, SimWorld::kill),
            Action::Start { hosts } => self.each_host("start", hosts, SimWorld::start_again),
            Action::Pause { hosts } => self.each_host("pause", hosts, SimWorld::pause),
            Action::Resume { hosts } => self.each_host("resume", hosts, SimWorld::resume),
            Action::Block { links } => self.each_link("block", links, SimWorld::block),
            Action::Unblock { links } => self.each_link("unblock", links, SimWorld::unblock),
            Action::Shape { links, shape } => self.each_link("shape", links, |world, link| world.shape(link, *shape)),
            Action::Clock { hosts, skew } => {
                self.each_host("skew the clocks of", hosts, |world, name| world.skew(name, *skew))
            }
            Action::Disk { hosts, disk } => {
                self.each_host("break the disk of", hosts, |world, name| world.spoil(name, *disk))
            }
        }
    }

    /// Carries `action` out, at once or, if it is a power cut, when each host comes to write.
    pub(crate) fn begin_act(&mut self, id: u64, action: &Action) {
        let result = match action {
            Action::Kill { hosts, unsynced } if !unsynced.is_kept() => match self.check_hosts("kill", hosts) {
                Ok(()) => return self.cut_power(id, hosts, *unsynced),
                Err(why) => Err(why),
            },
            _ => self.carry_out(action),
        };
        self.acted(id, result);
    }

    fn check_hosts(&self, verb: &str, hosts: &[Name]) -> Result<(), String> {
        for name in hosts {
            let Some(host) = self.hosts.get(name) else {
                return Err(format!("{verb} {name}: there is no such host"));
            };
            if verb == "kill" && host.role == HostRole::Storage {
                return Err(format!(
                    "kill {name}: the storage has no disk and would forget its writes"
                ));
            }
        }
        Ok(())
    }

    fn each_host<S: Into<String>>(
        &mut self,
        verb: &str,
        hosts: &[Name],
        act: impl Fn(&mut SimWorld, Name) -> Result<S, String>,
    ) -> Result<Vec<Proof>, String> {
        self.check_hosts(verb, hosts)?;
        let results = hosts.iter().map(|&name| (name, act(self, name).map(S::into)));
        gather(verb, results.collect())
    }

    fn each_link(
        &mut self,
        verb: &str,
        links: &[Link],
        act: impl Fn(&mut SimWorld, Link) -> Result<String, String>,
    ) -> Result<Vec<Proof>, String> {
        for link in links {
            if let Some(name) = [link.src, link.dst].iter().find(|name| !self.hosts.contains_key(name)) {
                return Err(format!("{verb} {link}: there is no host {name}"));
            }
            if link.src == link.dst {
                return Err(format!("{verb} {link}: a host has no link to itself"));
            }
        }
        let results = links.iter().map(|&link| (link, act(self, link)));
        gather(verb, results.collect())
    }

    fn kill(&mut self, name: Name) -> Result<&'static str, String> {
        if self.hosts[&name].admits() == Admission::Lost {
            return Ok("already dead");
        }
        if self.sabotage != Some(Sabotage::KillDoesNothing) {
            let process = self.running(name).expect("a process that is not lost");
            let mut kept = 0;
            if let Some(Write::Append(records)) = &process.writing {
                // Of records written back to back, some may be on the disk; the last is not, as its end was not seen.
                let most = records.len();
                kept = self.disk.random_range(0..most);
            }
            self.end_in_write(name, kept);
        }
        match self.hosts[&name].admits() {
            Admission::Lost => Ok("no process left, inputs are lost"),
            Admission::Held | Admission::Waits | Admission::Runs => Err("its process is still there".to_string()),
        }
    }

    fn start_again(&mut self, name: Name) -> Result<&'static str, String> {
        if self.hosts[&name].admits() != Admission::Lost {
            return Ok("already running");
        }
        self.start(name).map_err(|why| format!("it ended at once: {why}"))?;
        match self.hosts[&name].admits() {
            Admission::Runs => Ok("its process handles inputs"),
            Admission::Waits => Ok("its process waits for its disk"),
            Admission::Held | Admission::Lost => Err("its process handles no inputs".to_string()),
        }
    }

    fn pause(&mut self, name: Name) -> Result<&'static str, String> {
        let acts = self.sabotage != Some(Sabotage::PauseDoesNothing);
        if let Some(process) = self.running(name).filter(|_| acts) {
            process.paused = true;
        }
        match self.hosts[&name].admits() {
            Admission::Lost => Ok("already dead"),
            Admission::Held => Ok("stopped, inputs are held"),
            Admission::Waits | Admission::Runs => Err("its process still handles inputs".to_string()),
        }
    }

    fn resume(&mut self, name: Name) -> Result<&'static str, String> {
        let Some(process) = self.running(name) else {
            return Ok("already dead");
        };
        if !process.paused {
            return Ok("already running");
        }
        process.paused = false;
        self.catch_up(name);
        match self.hosts[&name].admits() {
            Admission::Runs => Ok("its process handles inputs"),
            Admission::Waits => Ok("its process waits for its disk"),
            Admission::Held | Admission::Lost => Err("its process handles no inputs".to_string()),
        }
    }

    fn block(&mut self, link: Link) -> Result<String, String> {
        if self.sabotage != Some(Sabotage::BlockDoesNothing) {
            self.net.set_blocked(link, true);
        }
        match self.net.probe(link, self.now) {
            Fate::Blocked => Ok("probe dropped".to_string()),
            Fate::Lost | Fate::Carried(..) => Err("a probe was not dropped".to_string()),
        }
    }

    fn unblock(&mut self, link: Link) -> Result<String, String> {
        self.net.set_blocked(link, false);
        for _ in 0..PROBES {
            match self.net.probe(link, self.now) {
                Fate::Blocked => return Err("a probe was dropped".to_string()),
                Fate::Carried(first, _) => return Ok(format!("probe carried in {}", first.at - self.now)),
                Fate::Lost => {}
            }
        }
        Ok(format!("open, but its shape loses {PROBES} of {PROBES} probes"))
    }

    fn shape(&mut self, link: Link, shape: Shape) -> Result<String, String> {
        self.net.set_shape(link, shape);
        let has = self.net.shape_of(link);
        if has != shape {
            return Err(format!("its shape is {has:?}"));
        }
        effects::verify(&mut self.net, link, self.now)
    }
}

/// The proofs, or one error that names each place where the action did not act.
fn gather<P: Display>(verb: &str, results: Vec<(P, Result<String, String>)>) -> Result<Vec<Proof>, String> {
    let (mut proofs, mut failures) = (Vec::new(), Vec::new());
    for (place, result) in results {
        match result {
            Ok(saw) => proofs.push(Proof {
                at: place.to_string(),
                saw,
            }),
            Err(why) => failures.push(format!("{verb} {place}: {why}")),
        }
    }
    if failures.is_empty() {
        Ok(proofs)
    } else {
        Err(failures.join("; "))
    }
}
