//! Other people's checkers on the histories of our benches: `peers CHECKER OPERATIONS CLIENTS`.
//!
//! Checkers: `ours`, `todc` (todc-utils: Wing, Gong and Lowe), `stateright` (its consistency tester). Whoever calls limits
//! the time and memory. Each judges the same history, in which every operation has ended, and says how long it took.
#[path = "../../common/mod.rs"]
mod common;

use common::{Shape, recorded};
use splitbrain_checkers::linear::model::{Call, Model};
use splitbrain_checkers::linear::{Found, Limits, decide};
use splitbrain_checkers::models::register::{NOTHING, Register, RegisterOp};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::time::Instant;
use todc_utils::{Action, History, Specification, WGLChecker};

/// The register, as todc-utils wants it told: an operation holds its answer.
struct Spec;

impl Specification for Spec {
    type State = u32;
    type Operation = RegisterOp;

    fn init() -> u32 {
        NOTHING
    }

    fn apply(op: &RegisterOp, state: &u32) -> (bool, u32) {
        match Register.step(*state, op) {
            Some(next) => (true, next),
            None => (false, *state),
        }
    }
}

/// The register, as stateright wants it told.
#[derive(Clone)]
struct Sequential(u32);

impl SequentialSpec for Sequential {
    type Op = RegisterOp;
    type Ret = ();

    fn invoke(&mut self, op: &RegisterOp) {
        self.is_valid_step(op, &());
    }

    fn is_valid_step(&mut self, op: &RegisterOp, _: &()) -> bool {
        let next = Register.step(self.0, op);
        self.0 = next.unwrap_or(self.0);
        next.is_some()
    }
}

/// Begins and ends in order, each with its client.
fn events(calls: &[Call<RegisterOp>]) -> Vec<(usize, bool, RegisterOp)> {
    let mut places: Vec<(u32, usize, bool)> = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        places.push((call.begin, n, true));
        places.push((call.end, n, false));
    }
    places.sort_unstable();
    let (mut free, mut of, mut clients) = (Vec::new(), vec![0; calls.len()], 0);
    let mut told = Vec::new();
    for (_, n, begins) in places {
        if begins {
            of[n] = free.pop().unwrap_or_else(|| {
                clients += 1;
                clients - 1
            });
        } else {
            free.push(of[n]);
        }
        told.push((of[n], begins, calls[n].op));
    }
    told
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize| args[n].parse::<u32>().expect("a number");
    let shape = Shape {
        operations: number(2),
        clients: number(3),
        values: 5,
        crashed: 0,
    };
    let calls = recorded(shape, 0);
    let events = events(&calls);
    let begin = Instant::now();
    let valid = match args[1].as_str() {
        "ours" => {
            let found = decide(&Register, &calls, &Limits::USUAL, false, &|| false).found;
            matches!(found, Found::Order(_))
        }
        "todc" => {
            let action = |begins, op| if begins { Action::Call(op) } else { Action::Response(op) };
            let actions = events.into_iter().map(|(client, begins, op)| (client, action(begins, op)));
            WGLChecker::<Spec>::is_linearizable(History::from_actions(actions.collect()))
        }
        "stateright" => {
            let mut tester = LinearizabilityTester::new(Sequential(NOTHING));
            for (client, begins, op) in events {
                let told = if begins { tester.on_invoke(client, op) } else { tester.on_return(client, ()) };
                told.expect("a good history");
            }
            tester.is_consistent()
        }
        other => panic!("no checker is named {other}: ours, todc, stateright"),
    };
    assert!(valid, "the history is valid");
    println!("figure {}-{}-by-{} {:.2} ms", args[1], args[2], args[3], begin.elapsed().as_secs_f64() * 1e3);
}
