//! What `cluster/status` says, and the reigns that follow from it.
//!
//! The reply is text for people: lines of `Key: value`, then the servers, one a line. A server goes by its nickname, the
//! first four digits of its id; where two servers share one, it names nobody.
//!
//! **A reign is a term that was led.** A server that leads term 5 in two replies of one life led it all the time between
//! them: who stops to lead must win an election before he leads again, and an election raises the term (Raft paper, 5.2;
//! `ovsdb-server` starts one by raising its term, and counts votes of that term only).
use splitbrain_core::{Epoch, Reign, Role, Unasked};

/// One reply. All of it is of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterStatus {
    /// Whether it is let in already; one that has only lost the others is.
    pub joined: bool,
    pub role: Role,
    pub term: u64,
    /// The Raft address of the leader of `term`, where it knows one.
    pub leader: Option<String>,
}

/// Reads a reply; `None` where it is none.
pub(super) fn parse(reply: &str) -> Option<ClusterStatus> {
    let (head, servers) = reply.split_once("\nServers:\n")?;
    let field = |key: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    };
    let address_of = |nickname: &str| {
        let mut named = servers.lines().filter_map(|line| {
            let (name, rest) = line.trim_start().split_once(" (")?;
            let (_, address) = rest.split_once(')')?.0.split_once(" at ")?;
            (name == nickname).then_some(address)
        });
        // Of two with one nickname neither is meant for sure.
        named.next().filter(|_| named.next().is_none())
    };
    let leader = match field("Leader")? {
        "self" => Some(field("Address")?),
        "unknown" => None,
        nickname => address_of(nickname),
    };
    Some(ClusterStatus {
        joined: field("Status")? != "joining cluster",
        role: match field("Role")? {
            "leader" => Role::Leader,
            "candidate" => Role::Candidate,
            "follower" => Role::Follower,
            _ => return None,
        },
        term: field("Term")?.parse().ok()?,
        leader: leader.map(str::to_string),
    })
}

/// The reigns of one life of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reigns {
    /// The term that it leads.
    leads: Option<u64>,
    begun: u64,
}

impl Reigns {
    /// Takes the next reply; what is to be told, in order.
    pub(super) fn take(&mut self, status: &ClusterStatus) -> Vec<Unasked> {
        let leads = (status.role == Role::Leader).then_some(status.term);
        if self.leads == leads {
            return Vec::new();
        }
        let mut told: Vec<_> = self
            .end(&format!("{} at term {}", word(status.role), status.term))
            .into_iter()
            .collect();
        if let Some(term) = leads {
            self.leads = Some(term);
            self.begun += 1;
            told.push(Unasked::Elected {
                epoch: Epoch(term),
                token: None,
                reign: Reign(self.begun),
            });
        }
        told
    }

    /// It leads no more.
    pub(super) fn end(&mut self, why: &str) -> Option<Unasked> {
        let reign = self.now()?;
        self.leads = None;
        Some(Unasked::Deposed {
            reign,
            why: why.to_string(),
        })
    }

    /// The present reign.
    pub(super) fn now(&self) -> Option<Reign> {
        self.leads.map(|_| Reign(self.begun))
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

    /// Replies of Open vSwitch 3.1.0.
    const LEADER: &str = "\
c703
Name: splitbrain
Cluster ID: f1a3 (f1a363af-5e38-4f10-b568-f051d8d3ff3b)
Server ID: c703 (c703996c-870b-4fe0-bfb4-210ed261edaf)
Address: tcp:127.77.0.1:6644
Status: cluster member
Role: leader
Term: 1
Leader: self
Vote: self

Last Election started 2120 ms ago, reason: timeout
Last Election won: 2120 ms ago
Election timer: 1000
Log: [2, 5]
Entries not yet committed: 0
Entries not yet applied: 0
Connections: <-36cb <-e6f1 ->36cb ->e6f1
Disconnections: 0
Servers:
    c703 (c703 at tcp:127.77.0.1:6644) (self) next_index=2 match_index=4
    36cb (36cb at tcp:127.77.0.2:6644) next_index=5 match_index=4 last msg 31 ms ago
    e6f1 (e6f1 at tcp:127.77.0.3:6644) next_index=5 match_index=4 last msg 31 ms ago
";
    const FOLLOWER: &str = "\
36cb
Name: splitbrain
Cluster ID: f1a3 (f1a363af-5e38-4f10-b568-f051d8d3ff3b)
Server ID: 36cb (36cb41e0-0c29-496c-9be3-3fab975216e4)
Address: tcp:127.77.0.2:6644
Status: cluster member
Role: follower
Term: 1
Leader: c703
Vote: unknown

Election timer: 1000
Log: [2, 5]
Entries not yet committed: 0
Entries not yet applied: 0
Connections: ->0000 <-c703 <-e6f1 ->e6f1
Disconnections: 0
Servers:
    c703 (c703 at tcp:127.77.0.1:6644) last msg 39 ms ago
    36cb (36cb at tcp:127.77.0.2:6644) (self)
    e6f1 (e6f1 at tcp:127.77.0.3:6644)
";

    fn status(role: Role, term: u64, leader: Option<&str>) -> ClusterStatus {
        ClusterStatus {
            joined: true,
            role,
            term,
            leader: leader.map(str::to_string),
        }
    }

    fn follower(from: &str, to: &str) -> Option<ClusterStatus> {
        assert!(FOLLOWER.contains(from), "{from}");
        parse(&FOLLOWER.replace(from, to))
    }

    #[test]
    fn replies_are_read() {
        let first = Some("tcp:127.77.0.1:6644");
        assert_eq!(parse(LEADER), Some(status(Role::Leader, 1, first)));
        assert_eq!(parse(FOLLOWER), Some(status(Role::Follower, 1, first)));
        assert_eq!(
            follower("Leader: c703", "Leader: unknown"),
            Some(status(Role::Follower, 1, None))
        );
        assert_eq!(
            follower(
                "Role: follower\nTerm: 1\nLeader: c703",
                "Role: candidate\nTerm: 18\nLeader: unknown"
            ),
            Some(status(Role::Candidate, 18, None))
        );
        let lost = follower(
            "Status: cluster member",
            "Status: disconnected from the cluster (election timeout)",
        );
        assert_eq!(lost, Some(status(Role::Follower, 1, first)));
        let joining = follower(
            "Status: cluster member",
            "Status: joining cluster\nRemotes for joining: tcp:127.77.0.1:6644",
        );
        assert!(!joining.unwrap().joined);
    }

    #[test]
    fn a_nickname_of_two_servers_names_nobody() {
        let leader = |from, to| follower(from, to).unwrap().leader;
        assert_eq!(leader("    e6f1 (e6f1", "    c703 (c703"), None);
        assert_eq!(leader("    c703 (c703", "    0000 (0000"), None);
    }

    #[test]
    fn what_is_no_reply_is_none() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("unknown cluster"), None);
        assert_eq!(follower("Term: 1\n", ""), None);
        assert_eq!(follower("Term: 1", "Term: many"), None);
        assert_eq!(follower("Role: follower", "Role: <error>"), None);
        assert_eq!(follower("Servers:", "Others:"), None);
    }

    fn told(events: impl IntoIterator<Item = Unasked>) -> String {
        let words = events.into_iter().map(|event| match event {
            Unasked::Elected { epoch, reign, token } => format!("elected {epoch} {reign} {}", token.is_some()),
            Unasked::Deposed { reign, why } => format!("deposed {reign}: {why}"),
            other => panic!("{other:?}"),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_reign_is_a_term_that_is_led() {
        let mut reigns = Reigns::default();
        let mut take = |role, term| {
            let events = told(reigns.take(&status(role, term, None)));
            (events, reigns.now().map(|reign| reign.0))
        };
        assert_eq!(take(Role::Follower, 1), (String::new(), None));
        assert_eq!(take(Role::Leader, 2), ("elected 2 1 false".into(), Some(1)));
        assert_eq!(take(Role::Leader, 2), (String::new(), Some(1)));
        assert_eq!(
            take(Role::Candidate, 3),
            ("deposed 1: candidate at term 3".into(), None)
        );
        assert_eq!(take(Role::Leader, 4), ("elected 4 2 false".into(), Some(2)));
        // It lost and won between two replies.
        assert_eq!(
            take(Role::Leader, 6),
            ("deposed 2: leader at term 6; elected 6 3 false".into(), Some(3))
        );
        assert_eq!(told(reigns.end("gone")), "deposed 3: gone");
        assert_eq!((reigns.now(), reigns.end("gone")), (None, None));
    }
}
