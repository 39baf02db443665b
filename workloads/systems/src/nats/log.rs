//! What a server's debug log says of its Raft.
//!
//! A server says "Switching to leader" and names no term. It does when it campaigns: "Sending out voteRequest {term:5
//! ...}". Both lines are written by the one goroutine that runs the group's Raft, which also makes every change of the
//! term; a goroutine's lines are in the log in the order in which they were written. So a server that switches to leader
//! leads in the term of its last voteRequest, *unless* the term was changed in between, and all that changes a
//! candidate's term writes a line before it does (nats-server 2.9.10, `server/raft.go`):
//!
//! - a higher term in someone's vote request or vote: "Stepping down from candidate, detected higher term";
//! - another leader's entries: "Received append entry in candidate state", perhaps followed by "AppendEntry did not
//!   match", which sets the term *back* to that of the last entry;
//! - a new campaign: another voteRequest, with its term, before any vote can be counted.
//!
//! None of the first two ends a candidacy at once: the goroutine may count votes and switch to leader before it gets to
//! stepping down. Such a leadership has no epoch here. It is not rare: this version counts granted votes of older terms
//! too, several of one peer if need be (upstream's pull request 5149 ended that), and a candidate that was cut off for
//! some campaigns hears of all of them at once when it is healed, old leader's entries included.
//!
//! A leader that meets a higher term is likewise still leader for a moment, and its term is another's already. Here its
//! reign ends with the line that tells of the higher term, or with "Switching to follower", whichever comes first.
use splitbrain_core::{Epoch, Reign, Role, Unasked};

/// The group that elects the meta leader; each stream has a group of its own.
const GROUP: &str = " - _meta_] ";

/// A line about the meta group's Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftLine {
    /// It begins, or follows from here on.
    Follows,
    /// It has asked for votes in a term.
    Asks {
        /// The term.
        term: u64,
    },
    /// Its term may be another from here on, and it is to step down.
    Yields,
    /// It won.
    Leads,
}

/// The line's meaning, or `None` where it is not about an election of the meta group.
pub fn parse(line: &str) -> Option<RaftLine> {
    let (_, raft) = line.split_once("] RAFT [")?;
    let (id, message) = raft.split_once(GROUP)?;
    if id.contains(|c: char| !c.is_ascii_alphanumeric()) {
        return None;
    }
    if let Some(request) = message.strip_prefix("Sending out voteRequest {term:") {
        let (term, _) = request.split_once(' ')?;
        return Some(RaftLine::Asks {
            term: term.parse().ok()?,
        });
    }
    const YIELDS: [&str; 5] = [
        "Stepping down from candidate, detected higher term",
        "Received append entry in candidate state",
        "Received append entry from another leader, stepping down",
        "Term higher than ours and we are not a follower",
        "AppendEntry did not match",
    ];
    match message.trim_end() {
        "Started" | "Switching to follower" => Some(RaftLine::Follows),
        "Switching to leader" => Some(RaftLine::Leads),
        message if YIELDS.iter().any(|yields| message.starts_with(yields)) => Some(RaftLine::Yields),
        _ => None,
    }
}

/// One server's part in the meta group as its log told it so far, in one life of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raft {
    role: Option<Role>,
    /// Of its candidacy or leadership; [`Epoch::NONE`] where the log leaves it open.
    term: Epoch,
    reigns: u64,
}

impl Raft {
    /// Takes the next line; what is to be told, in order.
    pub fn take(&mut self, line: RaftLine) -> Vec<Unasked> {
        let (role, term, why) = match line {
            RaftLine::Follows => (Role::Follower, Epoch::NONE, "switches to follower"),
            RaftLine::Asks { term } => (Role::Candidate, Epoch(term), "campaigns"),
            RaftLine::Yields if self.role == Some(Role::Candidate) => (Role::Candidate, Epoch::NONE, ""),
            RaftLine::Yields => (Role::Follower, Epoch::NONE, "met another's term"),
            RaftLine::Leads if self.role == Some(Role::Candidate) => (Role::Leader, self.term, "leads anew"),
            RaftLine::Leads => (Role::Leader, Epoch::NONE, "leads anew"),
        };
        let mut told: Vec<_> = self.depose(why).into_iter().collect();
        (self.role, self.term) = (Some(role), term);
        if role == Role::Leader {
            self.reigns += 1;
            told.push(Unasked::Elected {
                epoch: term,
                token: None,
                reign: Reign(self.reigns),
            });
        }
        told
    }

    /// The process that wrote the log is gone.
    pub fn end(&mut self) -> Option<Unasked> {
        let told = self.depose("nats-server ended");
        (self.role, self.term) = (None, Epoch::NONE);
        told
    }

    /// What it is; `None` before the first line.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The term that it leads, if it leads and the log tells.
    pub fn epoch(&self) -> Option<Epoch> {
        self.reign().and_then(|_| self.term.known())
    }

    /// The present reign, while it leads.
    pub fn reign(&self) -> Option<Reign> {
        (self.role == Some(Role::Leader)).then_some(Reign(self.reigns))
    }

    fn depose(&mut self, why: &str) -> Option<Unasked> {
        let reign = self.reign()?;
        Some(Unasked::Deposed {
            reign,
            why: why.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expect: Option<RaftLine>) {
        let line = format!("[5672] 2026/11/21 02:05:47.636939 [DBG] RAFT [fjFyEjc1 - _meta_] {message}");
        assert_eq!(parse(&line), expect, "{line}");
        // A stream's own group is none of ours.
        assert_eq!(parse(&line.replace("_meta_", "S-R3F-rgWkCUoA")), None, "{line}");
    }

    #[test]
    fn lines_of_the_meta_group_are_read() {
        check("Started", Some(RaftLine::Follows));
        check("Switching to follower", Some(RaftLine::Follows));
        check("Switching to leader", Some(RaftLine::Leads));
        check(
            "Sending out voteRequest {term:17 lastTerm:3 lastIndex:12 candidate:fjFyEjc1 reply:}",
            Some(RaftLine::Asks { term: 17 }),
        );
        for message in [
            "Stepping down from candidate, detected higher term: 6 vs 5",
            "Received append entry in candidate state from \"BXScrY9i\", converting to follower",
            "Received append entry from another leader, stepping down to \"BXScrY9i\"",
            "Term higher than ours and we are not a follower: LEADER, stepping down to \"BXScrY9i\"",
            "AppendEntry did not match 1 5 with 2 7",
        ] {
            check(message, Some(RaftLine::Yields));
        }
    }

    #[test]
    fn other_lines_are_none() {
        // It is written under the old term, and a voteRequest follows it in any case.
        check("Switching to candidate", None);
        check("Received a voteResponse &{term:0 peer:BXScrY9i granted:true}", None);
        check(
            "Received a voteRequest &{term:1 lastTerm:0 lastIndex:0 candidate:fjFyEjc1 reply:$NRG.R.ZHS7D345}",
            None,
        );
        check("Sending out voteRequest {term:many lastTerm:3", None);
        check("Sending out voteRequest {term:17", None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("[5672] 2026/11/21 02:05:47.636939 [INF] Server is ready"), None);
        assert_eq!(
            parse("[5672] [DBG] 127.0.0.1:5 - cid:4 - name \"] RAFT [x] y - _meta_] Switching to leader"),
            None
        );
    }

    fn tell(lines: &[RaftLine]) -> (String, Raft) {
        let mut raft = Raft::default();
        let words = lines.iter().flat_map(|line| raft.take(*line)).map(|event| match event {
            Unasked::Elected { epoch, reign, token } => format!("elected {epoch} {reign} {}", token.is_some()),
            Unasked::Deposed { reign, why } => format!("deposed {reign}: {why}"),
            other => panic!("{other:?}"),
        });
        let told = words.collect::<Vec<_>>().join("; ");
        (told, raft)
    }

    use RaftLine::{Asks, Follows, Leads, Yields};

    #[test]
    fn a_leader_leads_in_the_term_of_its_last_request() {
        let (told, mut raft) = tell(&[Follows, Asks { term: 4 }, Asks { term: 5 }, Leads]);
        assert_eq!(told, "elected 5 1 false");
        let now = |raft: &Raft| (raft.role(), raft.epoch(), raft.reign());
        assert_eq!(now(&raft), (Some(Role::Leader), Some(Epoch(5)), Some(Reign(1))));
        raft.end().expect("it led");
        assert_eq!(now(&raft), (None, None, None));
        assert_eq!(raft.end(), None);
    }

    #[test]
    fn a_term_that_may_have_changed_is_no_epoch() {
        let (told, raft) = tell(&[Follows, Asks { term: 5 }, Yields, Leads]);
        assert_eq!(told, "elected none 1 false");
        assert_eq!((raft.epoch(), raft.reign()), (None, Some(Reign(1))));
        // It asks again, in a term that it names.
        let (told, _) = tell(&[Asks { term: 5 }, Yields, Asks { term: 6 }, Leads]);
        assert_eq!(told, "elected 6 1 false");
        let (told, _) = tell(&[Asks { term: 5 }, Follows, Leads]);
        assert_eq!(told, "elected none 1 false");
        let (told, _) = tell(&[Leads]);
        assert_eq!(told, "elected none 1 false");
    }

    #[test]
    fn a_reign_ends_at_the_first_sign_of_its_end() {
        let (told, raft) = tell(&[
            Asks { term: 5 },
            Leads,
            Yields,
            Follows,
            Asks { term: 7 },
            Leads,
            Follows,
        ]);
        assert_eq!(
            told,
            "elected 5 1 false; deposed 1: met another's term; elected 7 2 false; deposed 2: switches to follower"
        );
        assert_eq!((raft.role(), raft.reign()), (Some(Role::Follower), None));
    }
}
