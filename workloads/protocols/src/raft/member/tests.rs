//! Tests of the member: what it says to control and asks of the storage.
use super::*;
use crate::raft::message::Body;
use crate::storage::{StoreOp, StoreReply, StoreRequest, StoreResult};
use splitbrain_core::seed;

/// A member, its disk, and everything it wanted done that nobody has looked at yet.
struct Bench {
    member: Member,
    now: Nanos,
    disk: Vec<Vec<u8>>,
    said: Vec<String>,
    sent: Vec<(Name, Message)>,
    store: Vec<StoreRequest>,
}

fn name(n: usize) -> Name {
    Name::numbered("n", n)
}

fn config(members: usize) -> MemberConfig {
    MemberConfig {
        name: name(1),
        peers: (1..=members).map(name).collect(),
        tuning: Tuning {
            snapshot_every: 4,
            ..Tuning::default()
        },
        mutant: None,
    }
}

impl Bench {
    fn new(config: MemberConfig, disk: Vec<Vec<u8>>) -> Bench {
        let member = Member::new(config, disk.clone(), seed::stream(1, "n1")).expect("a sound disk");
        let mut bench = Bench {
            member,
            now: Nanos::ZERO,
            disk,
            said: Vec::new(),
            sent: Vec::new(),
            store: Vec::new(),
        };
        bench.step(Input::Start);
        assert_eq!(bench.said(), [r#"{"event":"ready"}"#]);
        bench
    }

    /// The only member of its cluster, elected, its first look answered with `seq`.
    fn leader(seq: u64) -> Bench {
        let mut bench = Bench::new(config(1), Vec::new());
        bench.tick();
        bench.said();
        let id = bench.store().id;
        bench.reply(id, StoreResult::Last { seq, value: Some(7) });
        bench
    }

    /// One of three, elected by n2's votes.
    fn leader_of_three(tuning: Tuning) -> Bench {
        let mut bench = Bench::new(MemberConfig { tuning, ..config(3) }, Vec::new());
        bench.tick();
        bench.hear(2, 1, Body::PreVoteReply { granted: true });
        bench.hear(2, 1, Body::VoteReply { granted: true });
        assert_eq!(bench.said(), [r#"{"event":"elected","epoch":1,"token":1,"reign":1}"#]);
        bench
    }

    fn step(&mut self, input: Input) {
        for output in self.member.step(self.now, input) {
            match output {
                Output::Persist(record) => self.disk.push(record),
                Output::Compact(records) => self.disk = records,
                Output::Send { to, bytes } => self.sent.push((to, codec::decode(&bytes).expect("a message"))),
                Output::Store(request) => self.store.push(request),
                Output::Say(line) => self.said.push(line.to_json()),
            }
        }
    }

    /// Lets the time of the next deadline come.
    fn tick(&mut self) {
        assert!(self.member.deadline() > self.now, "a deadline was left behind");
        self.now = self.member.deadline();
        self.step(Input::Tick);
    }

    fn tick_until(&mut self, end: Nanos) {
        while self.member.deadline() <= end {
            self.tick();
        }
        self.now = end;
    }

    fn ask(&mut self, id: u64, op: Op) {
        self.step(Input::Request(Request { id, op }));
    }

    fn hear(&mut self, from: usize, term: u64, body: Body) {
        let bytes = codec::encode(&Message { term, body });
        let from = name(from);
        self.step(Input::Message { from, bytes });
    }

    fn reply(&mut self, id: u64, result: StoreResult) {
        self.step(Input::Store(StoreReply { id, result }));
    }

    /// What was said since the last look.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// The one request to the storage since the last look.
    fn store(&mut self) -> StoreRequest {
        let requests = std::mem::take(&mut self.store);
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0]
    }

    #[track_caller]
    fn check(&mut self, id: u64, op: Op, answer: &str) {
        self.ask(id, op);
        let said = self.said();
        let last = said.last().expect("an answer");
        assert_eq!(*last, format!(r#"{{"id":{id},{answer}}}"#));
    }
}

fn write(token: u64, base: u64, value: u64) -> StoreOp {
    let token = Token(token);
    StoreOp::Write { token, base, value }
}

#[test]
fn a_leader_looks_before_it_writes() {
    let mut bench = Bench::new(config(1), Vec::new());
    bench.check(1, Op::Observe, r#""ok":{"role":"follower","epoch":0}"#);
    bench.tick();
    let elected = r#"{"event":"elected","epoch":1,"token":1,"reign":1}"#;
    assert_eq!(bench.said()[0], elected);
    bench.check(
        2,
        Op::Observe,
        r#""ok":{"role":"leader","epoch":1,"token":1,"reign":1,"leader":"n1"}"#,
    );
    let look = bench.store();
    assert!(
        matches!(look.what, StoreOp::Last { token: Some(_) }),
        "a leader looks under its token"
    );
    bench.ask(3, Op::Write { value: 30 });
    assert!(bench.store.is_empty());
    bench.reply(look.id, StoreResult::Last { seq: 9, value: None });
    assert_eq!(bench.store().what, write(1, 9, 30));
}

#[test]
fn what_the_leader_saw_is_the_base_of_its_next_write() {
    let mut bench = Bench::leader(9);
    bench.ask(3, Op::Write { value: 30 });
    let id = bench.store().id;
    bench.reply(id, StoreResult::Accepted { seq: 12 });
    assert_eq!(bench.said(), [r#"{"id":3,"ok":{"token":1,"seq":12}}"#]);
    bench.reply(id, StoreResult::Accepted { seq: 99 });
    assert!(bench.said().is_empty(), "an answer is taken once");
    bench.ask(4, Op::Read);
    let id = bench.store().id;
    bench.reply(
        id,
        StoreResult::Last {
            seq: 15,
            value: Some(5),
        },
    );
    assert_eq!(bench.said(), [r#"{"id":4,"ok":{"value":5}}"#]);
    bench.ask(5, Op::Write { value: 31 });
    let request = bench.store();
    assert_eq!(request.what, write(1, 15, 31));
    bench.reply(request.id, StoreResult::Rejected { highest: Token(2) });
    assert_eq!(bench.said(), [r#"{"id":5,"fail":{"reason":"stale-token"}}"#]);
}

#[test]
fn a_silent_storage_leaves_writes_unknown_and_reads_failed() {
    let mut bench = Bench::leader(0);
    bench.ask(3, Op::Write { value: 30 });
    bench.ask(4, Op::Read);
    bench.tick_until(bench.now + Nanos::millis(999));
    assert!(bench.said().is_empty());
    bench.tick_until(bench.now + Nanos::millis(1));
    assert_eq!(
        bench.said(),
        [
            r#"{"id":3,"info":{"reason":"storage timed out"}}"#,
            r#"{"id":4,"fail":{"reason":"storage timed out"}}"#
        ]
    );
}

#[test]
fn a_look_is_repeated_and_the_writes_behind_it_are_bounded() {
    let mut bench = Bench::new(config(1), Vec::new());
    bench.tick();
    bench.said();
    let first = bench.store();
    for id in 0..64 {
        bench.ask(id, Op::Write { value: id });
    }
    assert!(bench.said().is_empty());
    bench.check(64, Op::Write { value: 64 }, r#""fail":{"reason":"busy"}"#);
    bench.tick_until(bench.now + Nanos::secs(1));
    let said = bench.said();
    assert_eq!(said.len(), 64);
    assert_eq!(said[0], r#"{"id":0,"fail":{"reason":"storage timed out"}}"#);
    let second = bench.store();
    assert!(
        matches!(second.what, StoreOp::Last { token: Some(_) }),
        "a leader looks under its token"
    );
    assert_ne!(second.id, first.id);
}

#[test]
fn ids_rise_from_the_newest_in_the_storage() {
    let mut bench = Bench::leader(9);
    bench.ask(3, Op::Next);
    let first = bench.store();
    assert_eq!(first.what, write(1, 9, 8), "the newest was 7");
    bench.ask(4, Op::Next);
    let second = bench.store();
    assert_eq!(
        second.what,
        write(1, 9, 9),
        "an id that is not answered is not tried again"
    );
    bench.reply(second.id, StoreResult::Accepted { seq: 11 });
    assert_eq!(bench.said(), [r#"{"id":4,"ok":{"value":9}}"#]);
    bench.reply(first.id, StoreResult::Rejected { highest: Token(2) });
    assert_eq!(bench.said(), [r#"{"id":3,"fail":{"reason":"stale-token"}}"#]);
    bench.ask(5, Op::Next);
    assert_eq!(bench.store().what, write(1, 11, 10));
    bench.tick_until(bench.now + Nanos::secs(1));
    assert_eq!(bench.said(), [r#"{"id":5,"info":{"reason":"storage timed out"}}"#]);
}

#[test]
fn a_job_is_run_after_a_look_and_only_once() {
    let mut bench = Bench::leader(9);
    let look = |bench: &mut Bench, id, job, value| {
        bench.ask(id, Op::Run { job });
        let look = bench.store();
        let token = Some(Token(1));
        assert_eq!(look.what, StoreOp::Last { token });
        let value = Some(value);
        bench.reply(look.id, StoreResult::Last { seq: 9, value });
    };
    look(&mut bench, 3, 7, 7);
    assert_eq!(bench.said(), [r#"{"id":3,"fail":{"reason":"already-ran"}}"#]);
    look(&mut bench, 4, 8, 7);
    let run = bench.store();
    assert_eq!(run.what, write(1, 9, 8));
    // The run has no answer, and is not in the storage at the next look, but may be on its way.
    look(&mut bench, 5, 9, 7);
    let next = bench.store();
    look(&mut bench, 6, 8, 7);
    assert_eq!(
        bench.said(),
        [r#"{"id":6,"fail":{"reason":"overtaken by a later job"}}"#]
    );
    bench.reply(next.id, StoreResult::Accepted { seq: 10 });
    assert_eq!(bench.said(), [r#"{"id":5,"ok":{"token":1,"seq":10}}"#]);
    bench.ask(7, Op::Run { job: 10 });
    bench.tick_until(bench.now + Nanos::secs(1));
    assert_eq!(
        bench.said(),
        [
            r#"{"id":4,"info":{"reason":"storage timed out"}}"#,
            r#"{"id":7,"fail":{"reason":"storage timed out"}}"#
        ]
    );
}

#[test]
fn a_job_is_not_run_after_its_reign() {
    let mut bench = Bench::leader_of_three(Tuning::default());
    let look = bench.store();
    bench.reply(look.id, StoreResult::Last { seq: 3, value: None });
    bench.ask(1, Op::Run { job: 1 });
    let check = bench.store();
    bench.hear(3, 4, Body::VoteReply { granted: false });
    bench.said();
    bench.reply(check.id, StoreResult::Last { seq: 3, value: None });
    assert_eq!(bench.said(), [r#"{"id":1,"fail":{"reason":"not-leader"}}"#]);
    assert!(bench.store.is_empty());
}

#[test]
fn the_register_is_set_compared_and_read() {
    let mut bench = Bench::leader(0);
    bench.check(1, Op::Get, r#""ok":{"value":null}"#);
    bench.check(2, Op::Set { value: 5 }, r#""ok":{}"#);
    bench.check(3, Op::Cas { from: Some(4), to: 6 }, r#""fail":{"reason":"mismatch"}"#);
    bench.check(4, Op::Cas { from: Some(5), to: 7 }, r#""ok":{}"#);
    bench.check(5, Op::Get, r#""ok":{"value":7}"#);
    bench.check(6, Op::Resign, r#""fail":{"reason":"no follower answers"}"#);
    bench.check(7, Op::Campaign, r#""ok":{}"#);
}

#[test]
fn who_does_not_lead_says_so() {
    let mut bench = Bench::new(config(3), Vec::new());
    let refused = r#""fail":{"reason":"not-leader"}"#;
    let ops = [
        Op::Write { value: 1 },
        Op::Set { value: 1 },
        Op::Cas { from: None, to: 1 },
        Op::Get,
        Op::Resign,
        Op::Next,
        Op::Run { job: 1 },
    ];
    for (op, id) in ops.into_iter().zip(1..) {
        bench.check(id, op, refused);
    }
    bench.check(9, Op::Campaign, r#""ok":{}"#);
    bench.check(10, Op::Observe, r#""ok":{"role":"candidate","epoch":0}"#);
    assert!(bench.store.is_empty());
}

#[test]
fn a_deposed_leader_waits_for_what_it_sent() {
    let mut bench = Bench::leader_of_three(Tuning::default());
    bench.ask(1, Op::Write { value: 10 });
    let look = bench.store();
    bench.reply(look.id, StoreResult::Last { seq: 3, value: None });
    let sent = bench.store();
    bench.ask(2, Op::Set { value: 20 });
    bench.ask(3, Op::Get);
    bench.hear(3, 4, Body::VoteReply { granted: false });
    assert_eq!(
        bench.said(),
        [
            r#"{"event":"deposed","reign":1,"why":"saw a higher term"}"#,
            r#"{"id":2,"info":{"reason":"deposed"}}"#,
            r#"{"id":3,"fail":{"reason":"deposed"}}"#
        ]
    );
    bench.check(4, Op::Observe, r#""ok":{"role":"follower","epoch":4}"#);
    bench.reply(sent.id, StoreResult::Accepted { seq: 4 });
    assert_eq!(bench.said(), [r#"{"id":1,"ok":{"token":1,"seq":4}}"#]);
}

#[test]
fn a_deposed_leader_gives_up_what_it_did_not_send() {
    let mut bench = Bench::leader_of_three(Tuning::default());
    bench.ask(1, Op::Write { value: 10 });
    let look = bench.store();
    bench.hear(3, 4, Body::VoteReply { granted: false });
    assert_eq!(bench.said()[1], r#"{"id":1,"fail":{"reason":"not-leader"}}"#);
    bench.reply(look.id, StoreResult::Last { seq: 3, value: None });
    assert!(bench.store.is_empty());
    // The next reign counts on, and looks anew.
    bench.tick();
    bench.hear(2, 5, Body::PreVoteReply { granted: true });
    bench.hear(2, 5, Body::VoteReply { granted: true });
    assert_eq!(bench.said(), [r#"{"event":"elected","epoch":5,"token":5,"reign":2}"#]);
    assert!(matches!(bench.store().what, StoreOp::Last { .. }));
}

#[test]
fn without_a_quorum_proposals_end_unknown_and_reads_fail() {
    let tuning = Tuning {
        check_quorum: false,
        ..Tuning::default()
    };
    let mut bench = Bench::leader_of_three(tuning);
    bench.ask(1, Op::Set { value: 20 });
    bench.ask(2, Op::Get);
    bench.tick_until(bench.now + Nanos::secs(5));
    assert_eq!(
        bench.said(),
        [
            r#"{"id":1,"info":{"reason":"timed out"}}"#,
            r#"{"id":2,"fail":{"reason":"timed out"}}"#
        ]
    );
    bench.hear(3, 4, Body::VoteReply { granted: false });
    assert_eq!(bench.said().len(), 1, "nothing is answered twice");
}

#[test]
fn a_restart_finds_term_vote_and_log() {
    let mut bench = Bench::leader(0);
    for id in 0..11 {
        bench.check(id, Op::Set { value: id }, r#""ok":{}"#);
    }
    let old = bench.member.raft();
    let again = Bench::new(config(1), bench.disk.clone());
    let new = again.member.raft();
    assert!(new.log().snapshot().index > 0);
    assert_eq!((new.term(), new.vote(), new.log()), (old.term(), old.vote(), old.log()));
}

#[test]
fn a_broken_record_is_named() {
    let mut bench = Bench::leader(0);
    bench.disk[1][0] ^= 4;
    let error = Member::new(config(1), bench.disk, seed::stream(1, "n1")).expect_err("it is broken");
    assert_eq!(error, "read raft record 2: checksum does not match");
}

#[test]
fn a_broken_message_is_lost() {
    let mut bench = Bench::new(config(3), Vec::new());
    let (last_index, last_term, transfer) = (0, 0, false);
    let body = Body::Vote {
        last_index,
        last_term,
        transfer,
    };
    let good = codec::encode(&Message { term: 1, body });
    let from = name(2);
    for i in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[i / 8] ^= 1 << (i % 8);
        bench.step(Input::Message { from, bytes });
    }
    assert!(bench.sent.is_empty() && bench.disk.is_empty());
    bench.step(Input::Message { from, bytes: good });
    assert_eq!((bench.sent.len(), bench.disk.len()), (1, 1));
}

#[test]
fn resigning_is_done_when_another_took_over() {
    let mut bench = Bench::leader_of_three(Tuning::default());
    let result = crate::raft::message::Stored::Upto(1);
    bench.hear(2, 1, Body::AppendReply { round: 1, result });
    bench.sent.clear();
    bench.said();
    bench.ask(1, Op::Resign);
    assert!(bench.said().is_empty());
    let (to, message) = &bench.sent[0];
    assert_eq!((*to, &message.body), (name(2), &Body::TimeoutNow));
    let (last_index, last_term, transfer) = (1, 1, true);
    let body = Body::Vote {
        last_index,
        last_term,
        transfer,
    };
    bench.hear(2, 2, body);
    assert_eq!(
        bench.said(),
        [
            r#"{"event":"deposed","reign":1,"why":"saw a higher term"}"#,
            r#"{"id":1,"ok":{}}"#
        ]
    );
}
