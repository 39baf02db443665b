//! The driver, with cores made for the purpose.
mod common;

use common::{Child, listen, name, tokio_listener};
use splitbrain_core::wire::Line;
use splitbrain_core::{Nanos, Op, Outcome};
use splitbrain_node::frame::MAX_PAYLOAD;
use splitbrain_node::member::{Parts, drive};
use splitbrain_node::transport::Transport;
use splitbrain_node::wal::Wal;
use splitbrain_protocols::{Input, Output, Protocol};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Does what a closure says, and never ticks.
struct Toy<F>(F);

impl<F: FnMut(Input) -> Vec<Output>> Protocol for Toy<F> {
    fn step(&mut self, _now: Nanos, input: Input) -> Vec<Output> {
        (self.0)(input)
    }
    fn deadline(&self) -> Nanos {
        Nanos::MAX
    }
}

fn say(id: u64, text: &str) -> Output {
    let outcome = Outcome::Fail(text.to_string());
    Output::Say(Line::Answer { id, outcome })
}

/// A member without peers.
fn start(dir: &Path, core: impl Protocol + Send + 'static) -> Child {
    let dir: PathBuf = dir.into();
    Child::spawn(move |stdio| async move {
        let (listener, _) = listen();
        drive(Parts {
            core: Box::new(core),
            wal: Wal::open(&dir)?.0,
            transport: Transport::start(name(1), tokio_listener(listener), &BTreeMap::new()),
            store: None,
            stdio,
        })
        .await
    })
}

fn records(dir: &Path) -> Vec<Vec<u8>> {
    Wal::open(dir).unwrap().1.records
}

/// Steps with `outputs`, of which the writing one must fail: nothing after it may happen.
fn check_nothing_after(dir: &Path, outputs: Vec<Output>) {
    let core = Toy(move |input| match input {
        Input::Start => outputs.clone(),
        _ => vec![say(9, "went on")],
    });
    let mut child = start(dir, core);
    let before = Line::Answer {
        id: 1,
        outcome: Outcome::Fail("before".to_string()),
    };
    assert_eq!(child.line(), Some(before));
    let (ended, after) = child.wait();
    assert_eq!(after, []);
    let error = format!("{:#}", ended.unwrap_err());
    assert!(error.contains("record") || error.contains("log"), "{error}");
}

#[test]
fn nothing_happens_after_a_record_that_was_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let persist = Output::Persist(vec![0; MAX_PAYLOAD + 1]);
    check_nothing_after(dir.path(), vec![say(1, "before"), persist, say(2, "after")]);
    let dir = tempfile::tempdir().unwrap();
    let compact = Output::Compact(vec![vec![0; MAX_PAYLOAD + 1]]);
    check_nothing_after(dir.path(), vec![say(1, "before"), compact, say(2, "after")]);
}

#[test]
fn records_are_kept_in_the_order_of_the_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let persist = |text: &str| Output::Persist(text.as_bytes().to_vec());
    let outputs = vec![
        persist("lost in the compaction"),
        Output::Compact(vec![b"snapshot".to_vec()]),
        persist("a"),
        persist("b"),
        say(1, "between"),
        persist("c"),
    ];
    let core = Toy(move |input| match input {
        Input::Start => outputs.clone(),
        _ => vec![say(2, "done")],
    });
    let mut child = start(dir.path(), core);
    assert!(matches!(child.ask(Op::Observe), Outcome::Fail(text) if text == "between"));
    assert!(matches!(child.line(), Some(Line::Answer { id: 2, .. })));
    child.end().unwrap();
    assert_eq!(records(dir.path()), [&b"snapshot"[..], b"a", b"b", b"c"]);
}

/// Wants a tick every millisecond and tells when it gets one too early, or when time falls.
struct Ticker {
    last: Nanos,
    deadline: Nanos,
    ticks: u64,
}

impl Protocol for Ticker {
    fn step(&mut self, now: Nanos, input: Input) -> Vec<Output> {
        assert!(now >= self.last, "time fell from {} to {now}", self.last);
        self.last = now;
        if input == Input::Tick {
            assert!(now >= self.deadline, "a tick at {now}, before {}", self.deadline);
            self.ticks += 1;
        }
        self.deadline = now + Nanos::millis(1);
        match self.ticks {
            20 => vec![say(20, "ticks")],
            _ => vec![],
        }
    }
    fn deadline(&self) -> Nanos {
        if self.ticks < 20 { self.deadline } else { Nanos::MAX }
    }
}

#[test]
fn ticks_come_at_the_deadline_and_never_before() {
    let dir = tempfile::tempdir().unwrap();
    let core = Ticker {
        last: Nanos::ZERO,
        deadline: Nanos::ZERO,
        ticks: 0,
    };
    let mut child = start(dir.path(), core);
    assert!(matches!(child.line(), Some(Line::Answer { id: 20, .. })));
    child.end().unwrap();
}

#[test]
fn the_process_ends_when_control_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    // Standard input ends.
    start(dir.path(), Toy(|_| vec![])).end().unwrap();
    // Nobody reads standard output.
    let (stdin, _input) = std::io::pipe().unwrap();
    let (output, stdout) = std::io::pipe().unwrap();
    drop(output);
    let dir = dir.path().to_path_buf();
    let child = Child::spawn(move |_| async move {
        let (listener, _) = listen();
        drive(Parts {
            core: Box::new(Ticker {
                last: Nanos::ZERO,
                deadline: Nanos::ZERO,
                ticks: 0,
            }),
            wal: Wal::open(&dir)?.0,
            transport: Transport::start(name(1), tokio_listener(listener), &BTreeMap::new()),
            store: None,
            stdio: splitbrain_node::stdio::Stdio::over(stdin, stdout),
        })
        .await
    });
    child.wait().0.unwrap();
}
