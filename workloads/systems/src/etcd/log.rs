//! What a member's own log says of its Raft.
//!
//! Raft within etcd logs each change of its state, and the line names role and term of the same instant. It is written
//! by the goroutine that made the change, right after it, before any message about it leaves. The status API, by
//! contrast, pairs the present leader with the term of the last *applied* entry, which may be another's.
//!
//! Two forms are known: zap's JSON (etcd 3.4 and later), and capnslog's text (the older default).
//!
//! Caveat: etcd samples its log, at most 100 equal lines within a second and every hundredth after. Lines of an election
//! name the term, so that no two are equal within a life.
use serde::Deserialize;
use splitbrain_core::{Epoch, Reign, Role, Unasked};

/// A line about Raft. Members go by etcd's member ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftLine {
    /// The member that writes the log took a role in a term.
    Became {
        /// The member itself.
        id: u64,
        /// Its new role; a pre-candidate is a [`Role::Candidate`] that did not raise the term.
        role: Role,
        /// Its term from here on.
        term: u64,
    },
    /// It took note of a leader of a term, itself included.
    Follows {
        /// The leader.
        leader: u64,
        /// Its term.
        term: u64,
    },
    /// It knows no leader any more.
    LostLeader,
}

/// The line's meaning, or `None` where it is not about an election.
pub fn parse(line: &str) -> Option<RaftLine> {
    #[derive(Deserialize)]
    struct Zap<'a> {
        #[serde(borrow)]
        msg: std::borrow::Cow<'a, str>,
    }
    // Nearly every other line stops here, before it costs anything.
    if !line.contains(" term ") {
        return None;
    }
    if line.starts_with('{') {
        return message(&serde_json::from_str::<Zap>(line).ok()?.msg);
    }
    let start = ["INFO: ", "| raft: "]
        .iter()
        .find_map(|mark| line.find(mark).map(|at| at + mark.len()))?;
    message(&line[start..])
}

fn message(text: &str) -> Option<RaftLine> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let id = |word: &str| u64::from_str_radix(word, 16).ok();
    match words[..] {
        [own, "became", role, "at", "term", term] => Some(RaftLine::Became {
            id: id(own)?,
            role: match role {
                "leader" => Role::Leader,
                "candidate" | "pre-candidate" => Role::Candidate,
                "follower" => Role::Follower,
                _ => return None,
            },
            term: term.parse().ok()?,
        }),
        ["raft.node:", _, "elected", "leader", leader, "at", "term", term]
        | [
            "raft.node:",
            _,
            "changed",
            "leader",
            "from",
            _,
            "to",
            leader,
            "at",
            "term",
            term,
        ] => Some(RaftLine::Follows {
            leader: id(leader)?,
            term: term.parse().ok()?,
        }),
        ["raft.node:", _, "lost", "leader", _, "at", "term", _] => Some(RaftLine::LostLeader),
        _ => None,
    }
}

/// One member's Raft as its log told it so far, in one life of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raft {
    now: Option<(Role, u64)>,
    leader: Option<u64>,
    reigns: u64,
}

impl Raft {
    /// Takes the next line; what is to be told, in order.
    pub fn take(&mut self, line: RaftLine) -> Vec<Unasked> {
        match line {
            RaftLine::Became { id, role, term } => {
                let mut told: Vec<_> = self
                    .depose(|| format!("became {} at term {term}", word(role)))
                    .into_iter()
                    .collect();
                self.now = Some((role, term));
                // A new term has a leader once a line names it; the old one's leader is none of it.
                self.leader = (role == Role::Leader).then_some(id);
                if role == Role::Leader {
                    self.reigns += 1;
                    told.push(Unasked::Elected {
                        epoch: Epoch(term),
                        token: None,
                        reign: Reign(self.reigns),
                    });
                }
                told
            }
            RaftLine::Follows { leader, term } => {
                if self.now.is_some_and(|(_, now)| now == term) {
                    self.leader = Some(leader);
                }
                Vec::new()
            }
            RaftLine::LostLeader => {
                self.leader = None;
                Vec::new()
            }
        }
    }

    /// The process that wrote the log is gone.
    pub fn end(&mut self) -> Option<Unasked> {
        let told = self.depose(|| "etcd ended".to_string());
        self.now = None;
        self.leader = None;
        told
    }

    /// Role and term of the same instant; `None` before the first line.
    pub fn now(&self) -> Option<(Role, u64)> {
        self.now
    }

    /// The leader of the present term, where a line named it.
    pub fn leader(&self) -> Option<u64> {
        self.leader
    }

    /// The present reign, while it leads.
    pub fn reign(&self) -> Option<Reign> {
        matches!(self.now, Some((Role::Leader, _))).then_some(Reign(self.reigns))
    }

    fn depose(&mut self, why: impl FnOnce() -> String) -> Option<Unasked> {
        let reign = self.reign()?;
        Some(Unasked::Deposed { reign, why: why() })
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zap(msg: &str) -> String {
        format!(r#"{{"level":"info","ts":"2026-01-02T03:04:05.678Z","caller":"raft/raft.go:771","msg":"{msg}"}}"#)
    }

    fn check(msg: &str, expect: Option<RaftLine>) {
        let zap_35 =
            format!(r#"{{"level":"info","logger":"raft","caller":"etcdserver/zap_raft.go:77","msg":"{msg}"}}"#);
        for line in [
            zap(msg),
            zap_35,
            format!("raft2026/01/02 03:04:05 INFO: {msg}"),
            format!("2026-01-02 03:04:05.678901 I | raft: {msg}"),
        ] {
            assert_eq!(parse(&line), expect, "{line}");
        }
    }

    fn became(role: Role, term: u64) -> RaftLine {
        let id = 0xbdae_9bbc_11dd_390d;
        RaftLine::Became { id, role, term }
    }

    #[test]
    fn lines_of_every_known_form_are_read() {
        check(
            "bdae9bbc11dd390d became leader at term 2",
            Some(became(Role::Leader, 2)),
        );
        check(
            "bdae9bbc11dd390d became follower at term 0",
            Some(became(Role::Follower, 0)),
        );
        check(
            "bdae9bbc11dd390d became candidate at term 7",
            Some(became(Role::Candidate, 7)),
        );
        check(
            "bdae9bbc11dd390d became pre-candidate at term 7",
            Some(became(Role::Candidate, 7)),
        );
        let follows = |leader| Some(RaftLine::Follows { leader, term: 2 });
        check("raft.node: bdae elected leader 8e9e at term 2", follows(0x8e9e));
        check(
            "raft.node: bdae changed leader from 8e9e to a1 at term 2",
            follows(0xa1),
        );
        check("raft.node: bdae lost leader 8e9e at term 2", Some(RaftLine::LostLeader));
    }

    #[test]
    fn other_lines_are_none() {
        check("bdae9bbc11dd390d is starting a new election at term 1", None);
        check(
            "bdae [logterm: 1, index: 3, vote: 0] cast MsgVote for 8e9e [logterm: 1, index: 3] at term 2",
            None,
        );
        check("bdae stepped down to follower since quorum is not active", None);
        check("bdae9bbc11dd390d became leader at term many", None);
        check("nothing became leader at term 2", None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("{\"msg\":\"a1 became leader at term 2"), None);
        // Text of someone else's, as a key or a name, is no message of Raft's.
        assert_eq!(parse(r#"{"msg":"request","key":"a1 became leader at term 2"}"#), None);
    }

    fn told(raft: &mut Raft, line: RaftLine) -> String {
        let words = raft.take(line).into_iter().map(|event| match event {
            Unasked::Elected { epoch, reign, token } => format!("elected {epoch} {reign} {}", token.is_some()),
            Unasked::Deposed { reign, why } => format!("deposed {reign}: {why}"),
            other => panic!("{other:?}"),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_reign_lasts_from_line_to_line() {
        let mut raft = Raft::default();
        assert_eq!((raft.now(), raft.reign()), (None, None));
        assert_eq!(told(&mut raft, became(Role::Follower, 1)), "");
        assert_eq!(told(&mut raft, became(Role::Candidate, 2)), "");
        assert_eq!(told(&mut raft, became(Role::Leader, 2)), "elected 2 1 false");
        assert_eq!((raft.now(), raft.reign()), (Some((Role::Leader, 2)), Some(Reign(1))));
        assert_eq!(raft.leader(), Some(0xbdae_9bbc_11dd_390d));
        assert_eq!(
            told(&mut raft, became(Role::Follower, 2)),
            "deposed 1: became follower at term 2"
        );
        assert_eq!((raft.reign(), raft.leader()), (None, None));
        assert_eq!(told(&mut raft, became(Role::Leader, 4)), "elected 4 2 false");
        assert_eq!(
            raft.end(),
            Some(Unasked::Deposed {
                reign: Reign(2),
                why: "etcd ended".into()
            })
        );
        assert_eq!((raft.now(), raft.end()), (None, None));
    }

    #[test]
    fn a_leader_belongs_to_the_term_that_its_line_names() {
        let mut raft = Raft::default();
        raft.take(became(Role::Follower, 5));
        raft.take(RaftLine::Follows { leader: 0xa, term: 5 });
        assert_eq!(raft.leader(), Some(0xa));
        // The leader of term 5 is nobody's leader in term 6 until a line says so.
        raft.take(became(Role::Follower, 6));
        assert_eq!(raft.leader(), None);
        raft.take(RaftLine::Follows { leader: 0xa, term: 5 });
        assert_eq!(raft.leader(), None);
        raft.take(RaftLine::Follows { leader: 0xb, term: 6 });
        raft.take(RaftLine::LostLeader);
        assert_eq!(raft.leader(), None);
    }
}
