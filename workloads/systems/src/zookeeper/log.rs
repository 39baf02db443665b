//! What a ZooKeeper server's own log says of its Zab.
//!
//! Zab numbers leaderships: the *epoch* is the high half of every zxid. When a quorum has acknowledged a new leader's epoch
//! and its history, the leader logs (`Leader.startZkServer`, the same since 3.5)
//!
//! ```text
//! Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x200000000
//! ```
//!
//! and only then opens for clients. The line is about the server that writes it, and its zxid is the first of the new
//! epoch: leader and epoch are bound in one statement. Every end of a leadership goes through `Leader.shutdown`, which
//! logs `Shutdown called` before it does anything. The status command `srvr`, by contrast, pairs a mode with the last
//! zxid that was *processed*, which may be of an older epoch.
//!
//! The form is that of slf4j-simple without the thread's name, `LEVEL LOGGER - MESSAGE`: it writes a line whole, and
//! before the call returns (no buffer, no queue between a server's threads and the pipe).
use splitbrain_core::{Epoch, Reign, Role, Unasked};
use std::net::IpAddr;

/// A line about an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZabLine {
    /// The server looks for a leader.
    Looking,
    /// It was elected by the votes, and looks for a quorum that acknowledges its epoch. It does not lead yet.
    Elected,
    /// It leads this epoch.
    Leads(u64),
    /// Its leadership, or its attempt at one, is over.
    Shutdown,
    /// It follows.
    Follows,
    /// It reached its leader at this address.
    Reached(IpAddr),
    /// It has all that its leader has, and serves under it.
    UpToDate,
}

/// The line's meaning, or `None` where it is not about an election.
pub fn parse(line: &str) -> Option<ZabLine> {
    let (logger, message) = line
        .strip_prefix("INFO org.apache.zookeeper.server.quorum.")?
        .split_once(" - ")?;
    match (logger, message) {
        ("QuorumPeer", "LOOKING") => Some(ZabLine::Looking),
        ("QuorumPeer", "LEADING") => Some(ZabLine::Elected),
        ("QuorumPeer", "FOLLOWING") => Some(ZabLine::Follows),
        ("Leader", _) if message.starts_with("Have quorum of supporters") => {
            let (_, zxid) = message.rsplit_once("last processed zxid: 0x")?;
            Some(ZabLine::Leads(u64::from_str_radix(zxid, 16).ok()? >> 32))
        }
        ("Leader", _) if message.starts_with("Shutdown called") => Some(ZabLine::Shutdown),
        ("Learner", "Learner received UPTODATE message") => Some(ZabLine::UpToDate),
        ("Learner", _) => {
            let address = message.strip_prefix("Successfully connected to leader, using address: ")?;
            ip(address).map(ZabLine::Reached)
        }
        _ => None,
    }
}

/// Java writes an address as `NAME/IP:PORT`, with or without the name, and an IPv6 address with or without brackets.
fn ip(address: &str) -> Option<IpAddr> {
    let (_, address) = address.rsplit_once('/')?;
    let (ip, _) = address.rsplit_once(':')?;
    ip.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// One server's Zab as its log told it so far, in one life of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zab {
    state: State,
    reigns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first line.
    #[default]
    Unknown,
    /// It looks for a leader, or is about to lead.
    Looking,
    Following(Following),
    Leading {
        epoch: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Following {
    reached: Option<IpAddr>,
    serves: bool,
}

impl Zab {
    /// Takes the next line; what is to be told, in order.
    pub fn take(&mut self, line: ZabLine) -> Option<Unasked> {
        match line {
            ZabLine::Looking => self.turn(State::Looking, "looks for a leader"),
            ZabLine::Elected => self.turn(State::Looking, "was elected anew"),
            ZabLine::Shutdown => self.turn(State::Looking, "shut its leadership down"),
            ZabLine::Follows => self.turn(State::Following(Following::default()), "follows"),
            ZabLine::Reached(ip) => {
                if let State::Following(following) = &mut self.state {
                    following.reached = Some(ip);
                }
                None
            }
            ZabLine::UpToDate => {
                if let State::Following(following) = &mut self.state {
                    following.serves = true;
                }
                None
            }
            ZabLine::Leads(epoch) => {
                self.state = State::Leading { epoch };
                self.reigns += 1;
                Some(Unasked::Elected {
                    epoch: Epoch(epoch),
                    token: None,
                    reign: Reign(self.reigns),
                })
            }
        }
    }

    /// The process that wrote the log is gone.
    pub fn end(&mut self) -> Option<Unasked> {
        self.turn(State::Unknown, "ended")
    }

    fn turn(&mut self, state: State, why: &str) -> Option<Unasked> {
        let ended = self.reign();
        self.state = state;
        ended.map(|reign| Unasked::Deposed {
            reign,
            why: format!("the server {why}"),
        })
    }

    /// Its role; `None` before the first line.
    pub fn role(&self) -> Option<Role> {
        match self.state {
            State::Unknown => None,
            State::Looking => Some(Role::Candidate),
            State::Following(_) => Some(Role::Follower),
            State::Leading { .. } => Some(Role::Leader),
        }
    }

    /// The epoch that it leads. A follower's log names no epoch.
    pub fn epoch(&self) -> Option<Epoch> {
        match self.state {
            State::Leading { epoch } => Some(Epoch(epoch)),
            _ => None,
        }
    }

    /// Where the leader is under which it serves.
    pub fn leader(&self) -> Option<IpAddr> {
        match self.state {
            State::Following(Following { reached, serves: true }) => reached,
            _ => None,
        }
    }

    /// The present reign, while it leads.
    pub fn reign(&self) -> Option<Reign> {
        matches!(self.state, State::Leading { .. }).then_some(Reign(self.reigns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(logger: &str, message: &str, expect: Option<ZabLine>) {
        let line = format!("INFO org.apache.zookeeper.server.quorum.{logger} - {message}");
        assert_eq!(parse(&line), expect, "{line}");
    }

    #[test]
    fn lines_of_an_election_are_read() {
        check("QuorumPeer", "LOOKING", Some(ZabLine::Looking));
        check("QuorumPeer", "LEADING", Some(ZabLine::Elected));
        check("QuorumPeer", "FOLLOWING", Some(ZabLine::Follows));
        let quorum = "Have quorum of supporters, sids: [[1, 2],[1, 2]]; starting up and setting last processed zxid: ";
        check("Leader", &format!("{quorum}0x200000000"), Some(ZabLine::Leads(2)));
        check("Leader", &format!("{quorum}0x1f00000003"), Some(ZabLine::Leads(0x1f)));
        let reason = "Shutdown called. For the reason Not sufficient followers synced, only synced with sids: [ [1] ]";
        check("Leader", reason, Some(ZabLine::Shutdown));
        check("Learner", "Learner received UPTODATE message", Some(ZabLine::UpToDate));
        let reached = |ip: &str| Some(ZabLine::Reached(ip.parse().unwrap()));
        let to = "Successfully connected to leader, using address: ";
        check("Learner", &format!("{to}/10.0.0.3:2888"), reached("10.0.0.3"));
        check("Learner", &format!("{to}zk3/10.0.0.3:2888"), reached("10.0.0.3"));
        check(
            "Learner",
            &format!("{to}/[fd00:0:0:0:0:0:0:3]:2888"),
            reached("fd00::3"),
        );
    }

    #[test]
    fn other_lines_are_none() {
        check("Leader", "LEADING - LEADER ELECTION TOOK - 277 MS", None);
        check("QuorumPeer", "Peer state changed: leading - broadcast", None);
        check("Leader", "Have quorum of supporters, sids: [[1]]; starting up", None);
        check(
            "Leader",
            "Have quorum of supporters; last processed zxid: 0xnothing",
            None,
        );
        check(
            "Learner",
            "Disconnected from leader (with address: /10.0.0.3:2888)",
            None,
        );
        check(
            "Learner",
            "Successfully connected to leader, using address: nowhere",
            None,
        );
        // Said by another, or quoted, it means nothing.
        check("QuorumCnxManager", "LOOKING", None);
        assert_eq!(parse("INFO org.apache.zookeeper.server.Leader - Shutdown called"), None);
        assert_eq!(
            parse("WARN org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING"),
            None
        );
        assert_eq!(parse(""), None);
    }

    fn told(zab: &mut Zab, line: ZabLine) -> String {
        match zab.take(line) {
            None => String::new(),
            Some(Unasked::Elected { epoch, reign, token }) => format!("elected {epoch} {reign} {}", token.is_some()),
            Some(Unasked::Deposed { reign, why }) => format!("deposed {reign}: {why}"),
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reign_lasts_from_line_to_line() {
        let mut zab = Zab::default();
        assert_eq!((zab.role(), zab.reign(), zab.epoch()), (None, None, None));
        assert_eq!(told(&mut zab, ZabLine::Looking), "");
        assert_eq!(told(&mut zab, ZabLine::Elected), "");
        assert_eq!(zab.role(), Some(Role::Candidate), "the votes alone make no leader");
        assert_eq!(told(&mut zab, ZabLine::Leads(4)), "elected 4 1 false");
        assert_eq!((zab.role(), zab.epoch()), (Some(Role::Leader), Some(Epoch(4))));
        let why = "deposed 1: the server shut its leadership down";
        assert_eq!(told(&mut zab, ZabLine::Shutdown), why);
        assert_eq!((zab.role(), zab.epoch()), (Some(Role::Candidate), None));
        assert_eq!(told(&mut zab, ZabLine::Looking), "");
        assert_eq!(told(&mut zab, ZabLine::Leads(6)), "elected 6 2 false");
        let why = "the server ended".to_string();
        assert_eq!(zab.end(), Some(Unasked::Deposed { reign: Reign(2), why }));
        assert_eq!((zab.role(), zab.end()), (None, None));
    }

    #[test]
    fn a_follower_names_its_leader_once_it_serves_under_it() {
        let mut zab = Zab::default();
        let ip: IpAddr = "10.0.0.3".parse().unwrap();
        zab.take(ZabLine::Reached(ip));
        assert_eq!(zab.leader(), None, "it does not follow");
        zab.take(ZabLine::Follows);
        zab.take(ZabLine::Reached(ip));
        assert_eq!(zab.leader(), None, "it may never agree with it");
        zab.take(ZabLine::UpToDate);
        assert_eq!((zab.role(), zab.leader()), (Some(Role::Follower), Some(ip)));
        zab.take(ZabLine::Looking);
        assert_eq!(zab.leader(), None);
        zab.take(ZabLine::Follows);
        assert_eq!(zab.leader(), None, "the old one is none of the new election's");
    }
}
