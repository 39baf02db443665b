//! Who leads, and whether a fault aimed at it found it.
//!
//! A claim counts from an answer or an `elected` heard since the last look, until the claimant is deposed, restarted or
//! says otherwise. Of several claims the highest epoch is the leader's: an old leader may not know yet. From the choice
//! to the confirmation of the injection the claim is watched; a leadership that ended or was overtaken in between has
//! *moved*, and the fault struck somebody who no longer led. Where a system has no epochs all claims are equal.
use splitbrain_core::disk::MayEnd;
use splitbrain_core::event::{Hit, Kind};
use splitbrain_core::op::{Role, Status};
use splitbrain_core::plan::Target;
use splitbrain_core::{Action, Body, Epoch, Event, Name, Reign};
use std::collections::BTreeMap;

/// A leadership as its holder described it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: Epoch,
    pub(crate) reign: Reign,
}

/// An injected fault that was aimed by asking.
struct Aimed {
    fault: u32,
    target: Target,
    host: Name,
    /// The leadership that was aimed at; `None` for a target that was not to lead.
    claim: Option<Claim>,
    /// What the candidates had answered.
    answers: String,
    /// Why the target no longer is what it was aimed at for.
    moved: Option<String>,
}

/// Claims since the last look, and faults whose hit is not decided.
#[derive(Default)]
pub(crate) struct Aim {
    claims: BTreeMap<Name, Claim>,
    /// What each host said last.
    said: BTreeMap<Name, String>,
    aimed: Vec<Aimed>,
    may_end: MayEnd,
}

impl Aim {
    /// Forgets what was heard: only fresh answers count.
    pub(crate) fn look_again(&mut self) {
        self.claims.clear();
        self.said.clear();
    }

    /// Of `among`, who claims to lead in the highest epoch.
    pub(crate) fn leader(&self, among: &[Name]) -> Option<(Name, Claim)> {
        let claims = self.claims.iter().filter(|(host, _)| among.contains(host));
        // Of equal epochs the first by name, so that a split brain does not make the schedule depend on anything.
        let best = claims.rev().max_by_key(|(_, claim)| claim.epoch);
        best.map(|(host, claim)| (*host, *claim))
    }

    /// Whether `host` claims to lead.
    pub(crate) fn leads(&self, host: Name) -> bool {
        self.claims.contains_key(&host)
    }

    /// What the candidates answered, in words.
    pub(crate) fn answers(&self) -> String {
        if self.said.is_empty() {
            return "nobody answered".to_string();
        }
        let words: Vec<String> = self.said.iter().map(|(host, what)| format!("{host} {what}")).collect();
        words.join(", ")
    }

    /// Watches the target of `fault` until its injection is confirmed.
    pub(crate) fn watch(&mut self, fault: u32, target: Target, host: Name, claim: Option<Claim>) {
        let answers = self.answers();
        self.aimed.push(Aimed {
            fault,
            target,
            host,
            claim,
            answers,
            moved: None,
        });
    }

    /// The note on a fault that found nobody to strike.
    pub(crate) fn missed(&self, fault: u32, target: Target) -> Body {
        let who = match target {
            Target::Leader => "nobody leads",
            _ => "everybody left leads",
        };
        Body::Aim {
            fault,
            target,
            hit: Hit::Missed,
            why: format!("{who}: {}", self.answers()),
        }
    }

    /// Takes an event in; perhaps it decides a fault's hit.
    pub(crate) fn notify(&mut self, event: &Event) -> Option<Body> {
        self.may_end.event(event);
        match (&event.body, event.kind) {
            (Body::Observe { host, answer: Some(s) }, Kind::Ok) => self.answered(*host, s),
            (Body::Elected { host, epoch, reign, .. }, _) => {
                let claim = Claim {
                    epoch: *epoch,
                    reign: *reign,
                };
                self.claims.insert(*host, claim);
                self.said.insert(*host, format!("elected{}", in_epoch(*epoch)));
                self.claimed(*host, claim);
            }
            (Body::Deposed { host, reign, .. }, _) => {
                if self.claims.get(host).is_some_and(|claim| claim.reign <= *reign) {
                    self.claims.remove(host);
                    self.said.insert(*host, "deposed".to_string());
                }
                self.lost(*host, |claim| claim.reign <= *reign, "was deposed");
            }
            (Body::Started { host, .. }, _) => {
                self.claims.remove(host);
                self.said.remove(host);
                self.lost(*host, |_| true, "was restarted");
            }
            (Body::Exited { host, .. }, _) => {
                self.claims.remove(host);
                self.said.remove(host);
                // A process may end by the very fault that was aimed at it, before that is confirmed.
                if !self.may_end.contains(*host) {
                    self.lost(*host, |_| true, "ended by itself");
                }
            }
            (Body::Fault(step), Kind::Ok) => {
                if let Action::Kill { hosts, .. } = &step.action {
                    // Its own aim is decided below: it led until now.
                    self.claims.retain(|host, _| !hosts.contains(host));
                }
                return self.confirmed(step.fault);
            }
            (Body::Fault(step), Kind::Fail | Kind::Info) => self.aimed.retain(|aimed| aimed.fault != step.fault),
            _ => {}
        }
        None
    }

    fn answered(&mut self, host: Name, status: &Status) {
        let claim = match *status {
            Status {
                role: Role::Leader,
                epoch,
                reign: Some(reign),
                ..
            } => Some(Claim {
                epoch: epoch.unwrap_or(Epoch::NONE),
                reign,
            }),
            _ => None,
        };
        let Some(claim) = claim else {
            self.claims.remove(&host);
            let role = if status.role == Role::Candidate {
                "campaigns"
            } else {
                "follows"
            };
            self.said.insert(host, role.to_string());
            self.lost(host, |_| true, "said that it does not lead");
            return;
        };
        self.claims.insert(host, claim);
        self.said.insert(host, format!("leads{}", of_epoch(claim.epoch)));
        self.claimed(host, claim);
    }

    /// `host` said that it leads.
    fn claimed(&mut self, host: Name, new: Claim) {
        for aimed in &mut self.aimed {
            let moved = match aimed.claim {
                None if aimed.host == host => format!("{host} leads{}", of_epoch(new.epoch)),
                Some(old) if aimed.host == host && old.reign != new.reign => {
                    format!("{host} leads anew{}", in_epoch(new.epoch))
                }
                Some(old) if aimed.host != host && new.epoch > old.epoch => {
                    format!("{host} leads the newer epoch {}", new.epoch)
                }
                _ => continue,
            };
            aimed.moved.get_or_insert(moved);
        }
    }

    /// `host` lost the leaderships that `which` names.
    fn lost(&mut self, host: Name, which: impl Fn(Claim) -> bool, how: &str) {
        let of_host = self.aimed.iter_mut().filter(|aimed| aimed.host == host);
        for aimed in of_host.filter(|aimed| aimed.claim.is_some_and(&which)) {
            aimed.moved.get_or_insert(format!("{host} {how}"));
        }
    }

    fn confirmed(&mut self, fault: u32) -> Option<Body> {
        let at = self.aimed.iter().position(|aimed| aimed.fault == fault)?;
        let aimed = self.aimed.remove(at);
        let (hit, found) = match (aimed.moved, aimed.claim) {
            (Some(moved), _) => (Hit::Moved, format!("{moved} before the fault took effect")),
            (None, Some(Claim { epoch, .. })) => {
                let host = aimed.host;
                let epoch = of_epoch(epoch);
                (Hit::Hit, format!("{host} led{epoch} when the fault took effect"))
            }
            (None, None) => (
                Hit::Hit,
                format!("{} did not lead when the fault took effect", aimed.host),
            ),
        };
        Some(Body::Aim {
            fault,
            target: aimed.target,
            hit,
            why: format!("{found}; asked before: {}", aimed.answers),
        })
    }
}

/// ` epoch 5`, or nothing.
fn of_epoch(epoch: Epoch) -> String {
    epoch.known().map_or(String::new(), |epoch| format!(" epoch {epoch}"))
}

/// ` in epoch 5`, or nothing.
fn in_epoch(epoch: Epoch) -> String {
    epoch
        .known()
        .map_or(String::new(), |epoch| format!(" in epoch {epoch}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::event::{FaultStep, Process};
    use splitbrain_core::plan::FaultKind;
    use splitbrain_core::{Disk, Nanos, Token};

    fn name(s: &str) -> Name {
        s.parse().unwrap()
    }

    fn event(kind: Kind, body: Body) -> Event {
        Event {
            index: 0,
            time: Nanos::ZERO,
            process: Process::Control,
            kind,
            body,
            error: None,
        }
    }

    fn says(host: &str, leads: Option<(u64, u64)>) -> Event {
        let status = Status {
            role: if leads.is_some() { Role::Leader } else { Role::Follower },
            epoch: leads.map(|l| Epoch(l.0)),
            token: leads.map(|l| Token(l.0)),
            reign: leads.map(|l| Reign(l.1)),
            leader: None,
        };
        let host = name(host);
        let answer = Some(status);
        event(Kind::Ok, Body::Observe { host, answer })
    }

    fn elected(host: &str, epoch: u64, reign: u64) -> Event {
        let body = Body::Elected {
            host: name(host),
            epoch: Epoch(epoch),
            token: None,
            reign: Reign(reign),
        };
        event(Kind::Info, body)
    }

    fn deposed(host: &str, reign: u64) -> Event {
        let body = Body::Deposed {
            host: name(host),
            reign: Reign(reign),
            why: "lease lost".to_string(),
        };
        event(Kind::Info, body)
    }

    fn started(host: &str) -> Event {
        let body = Body::Started {
            host: name(host),
            incarnation: 2,
        };
        event(Kind::Info, body)
    }

    /// n1 leads epoch 5 in reign 2 and is aimed at; then `events` happen, then the injection is confirmed.
    fn check(events: &[Event], want: Hit, words: &str) {
        let mut aim = Aim::default();
        aim.notify(&says("n1", Some((5, 2))));
        aim.notify(&says("n2", None));
        let all = [name("n1"), name("n2"), name("n3")];
        let (leader, claim) = aim.leader(&all).unwrap();
        assert_eq!(leader, name("n1"));
        aim.watch(1, Target::Leader, leader, Some(claim));
        for event in events {
            assert_eq!(aim.notify(event), None);
        }
        let step = FaultStep {
            fault: 1,
            kind: FaultKind::Pause,
            what: String::new(),
            targets: vec![leader],
            action: Action::Pause { hosts: vec![leader] },
            proofs: vec![],
        };
        let Some(Body::Aim { hit, why, .. }) = aim.notify(&event(Kind::Ok, Body::Fault(step))) else {
            panic!("a confirmed fault decides its aim");
        };
        let words = format!("{words}; asked before: n1 leads epoch 5, n2 follows");
        assert_eq!((hit, why), (want, words));
    }

    #[test]
    fn a_leadership_that_lasts_is_hit() {
        let led = "n1 led epoch 5 when the fault took effect";
        check(&[], Hit::Hit, led);
        // Nothing of this ends the reign that was aimed at: an older reign's end, an older epoch, an answer like before.
        check(&[deposed("n1", 1)], Hit::Hit, led);
        check(&[elected("n3", 4, 1), deposed("n3", 1)], Hit::Hit, led);
        check(
            &[says("n1", Some((5, 2))), says("n2", None), started("n2")],
            Hit::Hit,
            led,
        );
    }

    #[test]
    fn a_leader_without_an_epoch_is_found() {
        let mut aim = Aim::default();
        let mut leads = says("n2", Some((0, 3)));
        if let Body::Observe {
            answer: Some(status), ..
        } = &mut leads.body
        {
            status.epoch = None;
        }
        aim.notify(&leads);
        let all = [name("n1"), name("n2")];
        let (leader, claim) = aim.leader(&all).unwrap();
        assert_eq!((leader, claim.epoch, claim.reign), (name("n2"), Epoch::NONE, Reign(3)));
        assert_eq!(aim.answers(), "n2 leads");
        aim.notify(&elected("n1", 0, 1));
        assert_eq!(aim.answers(), "n1 elected, n2 leads");
    }

    #[test]
    fn a_leadership_that_ended_or_was_overtaken_has_moved() {
        let before = "before the fault took effect";
        check(&[deposed("n1", 2)], Hit::Moved, &format!("n1 was deposed {before}"));
        check(&[started("n1")], Hit::Moved, &format!("n1 was restarted {before}"));
        check(
            &[says("n1", None)],
            Hit::Moved,
            &format!("n1 said that it does not lead {before}"),
        );
        check(
            &[elected("n2", 6, 1)],
            Hit::Moved,
            &format!("n2 leads the newer epoch 6 {before}"),
        );
        check(
            &[says("n2", Some((6, 1)))],
            Hit::Moved,
            &format!("n2 leads the newer epoch 6 {before}"),
        );
        check(
            &[elected("n1", 7, 3)],
            Hit::Moved,
            &format!("n1 leads anew in epoch 7 {before}"),
        );
    }

    #[test]
    fn an_end_by_the_fault_itself_is_a_hit() {
        let exited = || {
            let (host, how) = (name("n1"), "member: exit status 1".to_string());
            event(Kind::Info, Body::Exited { host, how })
        };
        let asked = |full| {
            let disk = Disk {
                full,
                ..Disk::default()
            };
            let step = FaultStep {
                fault: 1,
                kind: FaultKind::Disk,
                what: String::new(),
                targets: vec![name("n1")],
                action: Action::Disk {
                    hosts: vec![name("n1")],
                    disk,
                },
                proofs: vec![],
            };
            event(Kind::Invoke, Body::Fault(step))
        };
        check(
            &[asked(true), exited()],
            Hit::Hit,
            "n1 led epoch 5 when the fault took effect",
        );
        check(
            &[asked(false), exited()],
            Hit::Moved,
            "n1 ended by itself before the fault took effect",
        );
    }

    #[test]
    fn of_two_who_claim_the_newer_epoch_leads() {
        let mut aim = Aim::default();
        let all = [name("n1"), name("n2"), name("n3")];
        for event in [
            says("n1", Some((5, 1))),
            says("n2", Some((7, 1))),
            says("n3", Some((6, 4))),
        ] {
            aim.notify(&event);
        }
        assert_eq!(aim.leader(&all).unwrap().0, name("n2"));
        assert_eq!(aim.leader(&[name("n1"), name("n3")]).unwrap().0, name("n3"));
        aim.notify(&deposed("n2", 1));
        assert_eq!(aim.leader(&all).unwrap().0, name("n3"));
        aim.look_again();
        assert_eq!(aim.leader(&all), None);
    }
}
