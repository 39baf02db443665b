//! Effects and states as one line of text each. An entry is `index/term command`.
use splitbrain_core::Name;
use splitbrain_protocols::raft::log::{Command, Entry};
use splitbrain_protocols::raft::message::{Body, Message, Record, Stored};
use splitbrain_protocols::raft::{Effect, Ended, Raft};

pub fn effect(at: Name, effect: &Effect) -> String {
    match effect {
        Effect::Persist(r) => format!("{at} writes {}", record(r)),
        Effect::Compact(records) => {
            let records: Vec<_> = records.iter().map(record).collect();
            format!("{at} rewrites {}", records.join("; "))
        }
        Effect::Send { to, message: m } => format!("{at}>{to} {}", message(m)),
        Effect::Elected { term } => format!("{at} ELECTED in term {term}"),
        Effect::Deposed { term, why } => format!("{at} DEPOSED from term {term}: {why}"),
        Effect::Applied { index, term, .. } => format!("{at} applies {index}/{term}"),
        Effect::Ended { id, how } => format!("{at} ends #{id}: {}", ended(*how)),
    }
}

fn record(record: &Record) -> String {
    match record {
        Record::Ballot { term, vote } => format!("term {term} vote {}", or_nobody(*vote)),
        Record::Append { prev, entries: list } => format!("entries{}", entries(*prev, list)),
        Record::Snapshot(state) => format!("state at {}/{} = {}", state.index, state.term, value(state.value)),
    }
}

fn message(Message { term, body }: &Message) -> String {
    let text = match body {
        Body::PreVote { last_index, last_term } => format!("pre-vote? last {last_index}/{last_term}"),
        Body::PreVoteReply { granted } => format!("pre-vote {}", if *granted { "yes" } else { "no" }),
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => format!(
            "vote? last {last_index}/{last_term}{}",
            if *transfer { " on transfer" } else { "" }
        ),
        Body::VoteReply { granted } => format!("vote {}", if *granted { "yes" } else { "no" }),
        Body::Append {
            prev_index,
            prev_term,
            entries: list,
            commit,
            round,
        } => format!(
            "append after {prev_index}/{prev_term}{} commit {commit} round {round}",
            entries(*prev_index, list)
        ),
        Body::Snapshot { state, round } => format!("snapshot {}/{} round {round}", state.index, state.term),
        Body::AppendReply { round, result } => match result {
            Stored::Upto(index) => format!("stored to {index} round {round}"),
            Stored::Conflict { prev, hint } => format!("conflict at {prev} hint {hint} round {round}"),
            Stored::Stale => "stale".into(),
        },
        Body::TimeoutNow => "campaign now".into(),
    };
    format!("[{term}] {text}")
}

fn entries(prev: u64, entries: &[Entry]) -> String {
    let show = |(index, entry): (u64, &Entry)| {
        let command = match entry.command {
            Command::Noop => "noop".into(),
            Command::Set(value) => format!("set {value}"),
            Command::Cas { from, to } => format!("cas {} {to}", value(from)),
        };
        format!(" {index}/{} {command}", entry.term)
    };
    let shown: Vec<_> = (prev + 1..).zip(entries).map(show).collect();
    shown.join(",")
}

fn ended(how: Ended) -> String {
    match how {
        Ended::Applied => "done".into(),
        Ended::Mismatch => "mismatch".into(),
        Ended::Value { value: v, index } => format!("value {} at {index}", value(v)),
        Ended::Refused(why) => format!("fail {why}"),
        Ended::Unknown(why) => format!("info {why}"),
    }
}

pub fn status(raft: &Raft) -> String {
    use splitbrain_core::Role;
    let role = match raft.role() {
        Role::Leader => "leader",
        Role::Candidate if raft.is_pre_candidate() => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
    };
    let log = raft.log();
    let first = log.snapshot().index;
    let terms: Vec<_> = log.tail(first).iter().map(|e| e.term.to_string()).collect();
    let snapshot = if first > 0 {
        format!("..{first} ")
    } else {
        String::new()
    };
    format!(
        "{role} term {} vote {} leader {} log {snapshot}[{}] commit {} value {}",
        raft.term(),
        or_nobody(raft.vote()),
        or_nobody(raft.leader()),
        terms.join(" "),
        raft.commit(),
        value(raft.state().value)
    )
}

fn or_nobody(name: Option<Name>) -> String {
    name.map_or("-".into(), |n| n.to_string())
}

fn value(value: Option<u64>) -> String {
    value.map_or("-".into(), |v| v.to_string())
}
