//! A contender over a storage in memory, driven by hand instead of by a recipe.
use super::*;
use splitbrain_core::wire::Line;
use splitbrain_node::protocols::storage::{Storage, StoreRequest};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

/// The storage, which may swallow the answers to writes.
#[derive(Clone)]
struct Memory {
    storage: Rc<RefCell<Storage>>,
    answers_writes: Rc<Cell<bool>>,
    /// The tokens of the looks that it was asked for.
    looks: Rc<RefCell<Vec<Option<Token>>>>,
}

impl Resource for Memory {
    fn ask(&self, what: StoreOp) -> Pin<Box<dyn Future<Output = Option<StoreResult>> + '_>> {
        if let StoreOp::Last { token } = what {
            self.looks.borrow_mut().push(token);
        }
        let by = "c1".parse().unwrap();
        let (reply, _) = self.storage.borrow_mut().apply(by, StoreRequest { id: 1, what });
        let answered = self.answers_writes.get() || matches!(what, StoreOp::Last { .. });
        Box::pin(async move { answered.then_some(reply.result) })
    }
}

struct Bench {
    contender: Rc<Contender>,
    memory: Memory,
    said: UnboundedReceiver<Line>,
}

impl Bench {
    fn said(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.said.try_recv() {
            lines.push(line.to_json());
        }
        lines
    }

    fn lead(&self, number: u64) {
        self.contender.lead(Epoch(number), Token(number));
    }

    async fn ask(&self, op: Op) -> Outcome {
        self.contender.carry_out(op).await
    }
}

fn written(token: u64, seq: u64) -> Outcome {
    let token = Token(token);
    Outcome::Ok(Answer::Written { token, seq })
}

fn value(value: u64) -> Outcome {
    Outcome::Ok(Answer::Value(Some(value)))
}

fn fail(why: &str) -> Outcome {
    Outcome::Fail(why.to_string())
}

/// Long enough that what would happen at once has happened; what is awaited to happen is awaited without a bound.
const IDLE: Duration = Duration::from_millis(100);

/// Runs `test` with a contender.
fn check<F: Future<Output = ()>>(on_demand: bool, test: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let memory = Memory {
            storage: Rc::new(RefCell::new(Storage::new(true))),
            answers_writes: Rc::new(Cell::new(true)),
            looks: Rc::default(),
        };
        let common = Common {
            host: "c1".parse().unwrap(),
            work: Nanos::millis(20),
            on_demand,
        };
        let (voice, said) = Voice::new();
        let contender = Contender::new(common, Box::new(memory.clone()), voice);
        let tested = test(Bench {
            contender,
            memory,
            said,
        });
        let bounded = timeout(Duration::from_secs(60), tested).await;
        bounded.expect("what a test awaits comes about");
    });
}

#[test]
fn only_a_leader_works_and_under_its_own_token() {
    check(false, |mut bench| async move {
        assert_eq!(bench.ask(Op::Write { value: 1 }).await, fail("not-leader"));
        bench.lead(5);
        assert_eq!(bench.ask(Op::Write { value: 7 }).await, written(5, 1));
        assert_eq!(bench.ask(Op::Read).await, value(7));
        bench.contender.out("the lease is gone");
        assert_eq!(bench.ask(Op::Write { value: 8 }).await, fail("not-leader"));
        bench.lead(6);
        assert_eq!(
            bench.said(),
            [
                r#"{"event":"elected","epoch":5,"token":5,"reign":1}"#,
                r#"{"event":"deposed","reign":1,"why":"the lease is gone"}"#,
                r#"{"event":"elected","epoch":6,"token":6,"reign":2}"#,
            ]
        );
    });
}

#[test]
fn a_write_that_was_under_way_when_the_reign_ended_is_judged_by_the_storage() {
    check(false, |bench| async move {
        bench.lead(5);
        assert_eq!(bench.ask(Op::Write { value: 1 }).await, written(5, 1));
        let write = bench.ask(Op::Write { value: 2 });
        let rival = async {
            let what = StoreOp::Last { token: Some(Token(6)) };
            bench.memory.ask(what).await.unwrap();
        };
        assert_eq!(tokio::join!(write, rival).0, fail("stale-token"));
    });
}

#[test]
fn no_id_is_tried_twice() {
    check(false, |bench| async move {
        bench.lead(5);
        assert_eq!(bench.ask(Op::Next).await, value(1));
        bench.memory.answers_writes.set(false);
        assert!(matches!(bench.ask(Op::Next).await, Outcome::Info(_)));
        bench.memory.answers_writes.set(true);
        assert_eq!(bench.ask(Op::Next).await, value(3), "2 may have been handed out");
        bench.contender.out("over");
        bench.lead(6);
        assert_eq!(bench.ask(Op::Next).await, value(4));
    });
}

#[test]
fn a_job_that_ran_does_not_run_again() {
    check(false, |bench| async move {
        bench.lead(5);
        assert_eq!(bench.ask(Op::Run { job: 1 }).await, written(5, 1));
        assert_eq!(bench.ask(Op::Run { job: 1 }).await, fail("already-ran"));
        bench.memory.answers_writes.set(false);
        assert!(matches!(bench.ask(Op::Run { job: 2 }).await, Outcome::Info(_)));
        bench.memory.answers_writes.set(true);
        assert_eq!(bench.ask(Op::Run { job: 2 }).await, fail("already-ran"));
        assert_eq!(bench.ask(Op::Run { job: 3 }).await, written(5, 3));
    });
}

#[test]
fn without_tokens_a_look_raises_no_fence() {
    check(false, |mut bench| async move {
        bench.contender.lead(Epoch::NONE, Token::NONE);
        assert_eq!(bench.ask(Op::Write { value: 1 }).await, written(0, 1));
        assert!(bench.memory.looks.borrow().iter().all(Option::is_none));
        assert_eq!(bench.said(), [r#"{"event":"elected","reign":1}"#]);
        let Outcome::Ok(Answer::Status(status)) = bench.ask(Op::Observe).await else {
            panic!("a leader knows that it leads");
        };
        assert_eq!((status.epoch, status.token, status.reign), (None, None, Some(Reign(1))));
    });
}

#[test]
fn a_resignation_ends_the_belief_first_and_answers_what_the_recipe_says() {
    check(false, |mut bench| async move {
        bench.lead(5);
        let resign = bench.ask(Op::Resign);
        let recipe = async {
            let resignation = bench.contender.resigned().await;
            assert!(!bench.contender.leads_now());
            resignation.done(Outcome::Info("no answer".into()));
        };
        assert_eq!(tokio::join!(resign, recipe).0, Outcome::Info("no answer".into()));
        assert_eq!(
            bench.said().last().unwrap(),
            r#"{"event":"deposed","reign":1,"why":"resigned"}"#
        );
        assert_eq!(bench.ask(Op::Resign).await, fail("not-leader"));
    });
}

#[test]
fn a_lock_is_campaigned_for_only_while_somebody_waits() {
    check(true, |mut bench| async move {
        let idle = timeout(IDLE, bench.contender.wanted()).await;
        assert!(idle.is_err(), "nobody asked");
        let acquire = bench.ask(Op::Acquire);
        let recipe = async {
            bench.contender.wanted().await;
            bench.lead(5);
        };
        let held = Outcome::Ok(Answer::Held {
            reign: Reign(1),
            token: Some(Token(5)),
        });
        assert_eq!(tokio::join!(acquire, recipe).0, held);
        let release = bench.ask(Op::Release);
        let recipe = async { bench.contender.resigned().await.done(Outcome::Ok(Answer::Done)) };
        assert_eq!(tokio::join!(release, recipe).0, Outcome::Ok(Answer::Done));
        // Nobody comes; then it comes too late, and is let go at once.
        assert_eq!(bench.ask(Op::Acquire).await, fail("busy"));
        bench.said();
        bench.lead(6);
        bench.contender.resigned().await.done(Outcome::Ok(Answer::Done));
        assert!(!bench.contender.leads_now());
        assert_eq!(
            bench.said(),
            [
                r#"{"event":"elected","epoch":6,"token":6,"reign":2}"#,
                r#"{"event":"deposed","reign":2,"why":"nobody waited for the lock any more"}"#,
            ]
        );
    });
}

#[test]
fn a_lost_lock_is_not_taken_again_unasked() {
    check(true, |bench| async move {
        let acquire = bench.ask(Op::Acquire);
        let recipe = async {
            bench.contender.wanted().await;
            bench.lead(5);
        };
        tokio::join!(acquire, recipe);
        bench.contender.out("the lease is gone");
        let again = timeout(IDLE, bench.contender.wanted()).await;
        assert!(again.is_err());
        assert_eq!(bench.ask(Op::Release).await, fail("not-leader"));
    });
}

#[test]
fn a_reign_with_a_validity_time_ends_by_the_clock_and_not_by_a_timer() {
    check(false, |mut bench| async move {
        bench.contender.waiting();
        bench.lead(5);
        bench.contender.valid_until(Instant::now() + IDLE);
        bench.contender.valid_until(Instant::now() + 1000 * IDLE);
        sleep(2 * IDLE).await;
        assert!(bench.contender.leads_now());
        // Nothing waits for this time, and nothing of ours runs before the question.
        bench.contender.valid_until(Instant::now());
        assert_eq!(bench.ask(Op::Write { value: 1 }).await, fail("not-leader"));
        let said = bench.said();
        let deposed = r#"{"event":"deposed","reign":1,"why":"the validity time is over"}"#;
        assert_eq!(said.last().map(String::as_str), Some(deposed), "{said:?}");
        // A recipe that waits for the end learns of it; one that gave no time waits for ever.
        bench.contender.lapsed().await;
        bench.lead(6);
        assert!(timeout(IDLE, bench.contender.lapsed()).await.is_err());
        bench.contender.valid_until(Instant::now() + IDLE);
        bench.contender.lapsed().await;
        assert!(!bench.contender.leads_now());
    });
}
