//! Whether what a candidate says holds together.
//!
//! A candidate may be wrong about the world: that is what is tested, and the checkers judge it. It may not contradict
//! itself, for then nothing that it says is evidence. Its lines come in the order in which they were said, so within one
//! life: it becomes ready once; the reigns of its `elected` lines rise; a reign that it said was over, or that a later one
//! followed, is over for good; and only a reign that began ends. One that goes on answering from a reign that it had called
//! over is the usual sign of a program whose answers overtake its events.
//!
//! A candidate that says nothing at all is noticed as well: once everything is healed, nobody has a reason not to answer.
use splitbrain_core::op::{Answer, Role, Status};
use splitbrain_core::world::Unasked;
use splitbrain_core::{Name, Nanos, Reign};
use std::collections::BTreeMap;

/// So many questions in a row without an answer are silence.
const SILENCE: u32 = 3;

/// All that is remembered, by host.
#[derive(Default)]
pub(crate) struct Conduct(BTreeMap<Name, Life>);

/// Of a host's present life.
#[derive(Default)]
struct Life {
    ready: bool,
    /// The highest reign that it named.
    newest: Reign,
    /// The highest reign that it said had begun.
    begun: Reign,
    /// The highest reign that is over.
    over: Reign,
    /// The last answer, and the questions since then that got none.
    heard: Nanos,
    unanswered: u32,
}

impl Conduct {
    /// A host's next life.
    pub fn started(&mut self, host: Name) {
        self.0.insert(host, Life::default());
    }

    /// Takes what `host` said unasked; what is wrong with it.
    pub fn said(&mut self, host: Name, what: &Unasked) -> Result<(), String> {
        let life = self.0.entry(host).or_default();
        match *what {
            Unasked::Ready if std::mem::replace(&mut life.ready, true) => {
                Err("it said ready a second time in one life".to_string())
            }
            Unasked::Elected { reign, .. } if reign <= life.begun => Err(format!(
                "it said elected in reign {reign} after it was elected in reign {}: each reign has a higher number",
                life.begun
            )),
            Unasked::Elected { reign, .. } => {
                life.over = life.over.max(Reign(reign.0.saturating_sub(1)));
                life.begun = reign;
                life.lead(reign)
            }
            Unasked::Deposed { reign, .. } if reign <= life.over => {
                Err(format!("it said deposed of reign {reign}, which was over already"))
            }
            Unasked::Deposed { reign, .. } if reign > life.newest => {
                Err(format!("it said deposed of reign {reign}, which never began"))
            }
            Unasked::Deposed { reign, .. } => {
                life.over = reign;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes an answer of `host`; what is wrong with it.
    pub fn answered(&mut self, host: Name, now: Nanos, answer: Option<&Answer>) -> Result<(), String> {
        let life = self.0.entry(host).or_default();
        (life.heard, life.unanswered) = (now, 0);
        match answer {
            Some(Answer::Status(Status {
                role: Role::Leader,
                reign: Some(reign),
                ..
            })) => life.lead(*reign),
            Some(Answer::Held { reign, .. }) => life.lead(*reign),
            _ => Ok(()),
        }
    }

    /// A question got no answer in time.
    pub fn unanswered(&mut self, host: Name) {
        self.0.entry(host).or_default().unanswered += 1;
    }

    /// Who has answered nothing since `since`, in words.
    pub fn silent(&self, since: Nanos) -> Option<String> {
        let silent = |life: &Life| life.heard < since && life.unanswered >= SILENCE;
        let (host, life) = self.0.iter().find(|(_, life)| silent(life))?;
        Some(format!(
            "{host} stopped answering: everything was healed, and it has not answered since {}",
            life.heard
        ))
    }
}

impl Life {
    fn lead(&mut self, reign: Reign) -> Result<(), String> {
        if reign <= self.over {
            return Err(format!(
                "it says that it leads in reign {reign}, which it said was over"
            ));
        }
        self.newest = self.newest.max(reign);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::wire::Line;
    use splitbrain_core::{Epoch, Outcome};

    /// Says all `lines`; what was wrong with the last, and nothing with those before.
    fn check(lines: &[&str], expect: &str) {
        let host = Name::numbered("c", 1);
        let mut conduct = Conduct::default();
        let mut last = Ok(());
        for line in lines {
            assert_eq!(last, Ok(()), "before {line}");
            last = match Line::parse(line.as_bytes()).unwrap() {
                Line::Event(what) => conduct.said(host, &what),
                Line::Answer {
                    outcome: Outcome::Ok(answer),
                    ..
                } => conduct.answered(host, Nanos::ZERO, Some(&answer)),
                Line::Answer { .. } => conduct.answered(host, Nanos::ZERO, None),
            };
        }
        match last {
            Ok(()) => assert_eq!(expect, ""),
            Err(why) => assert!(!expect.is_empty() && why.contains(expect), "{why}"),
        }
    }

    const READY: &str = r#"{"event":"ready"}"#;
    const ONE: &str = r#"{"event":"elected","epoch":7,"reign":1}"#;
    const TWO: &str = r#"{"event":"elected","epoch":9,"reign":2}"#;
    const ONE_OVER: &str = r#"{"event":"deposed","reign":1,"why":"x"}"#;
    const LEADS_ONE: &str = r#"{"id":1,"ok":{"role":"leader","reign":1}}"#;
    const LEADS_TWO: &str = r#"{"id":1,"ok":{"role":"leader","reign":2}}"#;
    const HOLDS_ONE: &str = r#"{"id":1,"ok":{"reign":1}}"#;
    const FOLLOWS: &str = r#"{"id":1,"ok":{"role":"follower"}}"#;

    #[test]
    fn an_honest_candidate_is_never_blamed() {
        check(&[READY, FOLLOWS, ONE, LEADS_ONE, ONE_OVER, FOLLOWS, TWO, LEADS_TWO], "");
        // A new reign ends the old one, and an answer may come before the event that it rests on.
        check(&[READY, ONE, TWO, LEADS_TWO], "");
        check(&[LEADS_ONE, ONE, ONE_OVER], "");
        check(&[LEADS_ONE, ONE_OVER], "");
    }

    #[test]
    fn a_contradiction_is_named() {
        check(&[READY, READY], "ready a second time");
        check(&[ONE, ONE_OVER, LEADS_ONE], "leads in reign 1, which it said was over");
        check(&[ONE, ONE_OVER, HOLDS_ONE], "leads in reign 1");
        check(&[ONE, TWO, LEADS_ONE], "leads in reign 1");
        check(&[ONE, ONE], "elected in reign 1 after");
        check(&[TWO, ONE], "elected in reign 1 after");
        check(&[ONE, ONE_OVER, ONE_OVER], "over already");
        check(&[READY, ONE_OVER], "never began");
    }

    #[test]
    fn a_new_life_counts_anew() {
        let host = Name::numbered("c", 1);
        let mut conduct = Conduct::default();
        let elected = Unasked::Elected {
            epoch: Epoch(4),
            token: None,
            reign: Reign(1),
        };
        conduct.said(host, &Unasked::Ready).unwrap();
        conduct.said(host, &elected).unwrap();
        conduct.started(host);
        conduct.said(host, &Unasked::Ready).unwrap();
        conduct.said(host, &elected).unwrap();
    }

    #[test]
    fn silence_is_several_questions_without_any_answer() {
        let host = Name::numbered("c", 1);
        let mut conduct = Conduct::default();
        conduct.answered(host, Nanos::secs(3), None).unwrap();
        for _ in 0..SILENCE {
            assert_eq!(conduct.silent(Nanos::secs(5)), None);
            conduct.unanswered(host);
        }
        assert!(
            conduct
                .silent(Nanos::secs(5))
                .unwrap()
                .starts_with("c1 stopped answering")
        );
        assert_eq!(conduct.silent(Nanos::secs(2)), None);
        conduct.answered(host, Nanos::secs(6), None).unwrap();
        assert_eq!(conduct.silent(Nanos::secs(7)), None);
    }
}
