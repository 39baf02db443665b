//! Both engines on one history, in turns: the first to decide wins.
//!
//! The breadth-first linearizer decides nearly everything in one pass, since its frontier stays narrow; where many crashed
//! calls may still take effect it widens, and there the depth-first search mostly finds an order at once. Neither can be
//! known beforehand, so they take turns that grow, and what both cost together is a few times what the better one costs
//! alone. Turns are counted in steps: the same history is decided in the same way on any machine.
use super::bits::{Bits, Wide};
use super::breadth::Breadth;
use super::depth::{self, Depth};
use super::model::{Call, Model};
use super::timeline::Timeline;
use super::{Decision, Engine, Found, Limits};

/// The first turn, in steps: some milliseconds.
const TURN: u64 = 100_000;
/// The first turn of the breadth-first linearizer where no call crashed.
const FIRST: u64 = 4_000_000;
/// The breadth-first linearizer keeps its turn while it takes no more steps than this an event.
const NARROW: u64 = 30;

/// Decides whether `calls` fit an order; with `orders`, which. `stop` is asked now and then, and ends it undecided.
pub fn decide<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    limits: &Limits,
    orders: bool,
    stop: &dyn Fn() -> bool,
) -> Decision {
    let timeline = Timeline::new(model, calls);
    if timeline.width <= u64::SLOTS {
        in_turns::<M, u64>(model, calls, &timeline, limits, orders, stop)
    } else if timeline.width <= Wide::SLOTS {
        in_turns::<M, Wide>(model, calls, &timeline, limits, orders, stop)
    } else {
        let why = format!("more than {} operations at once", Wide::SLOTS);
        Decision::new("breadth-first", Found::Unknown(why), 0)
    }
}

/// Decides with one engine alone: to compare the two.
pub fn decide_alone<M: Model>(model: &M, calls: &[Call<M::Op>], engine: Engine, limits: &Limits) -> Decision {
    let timeline = Timeline::new(model, calls);
    if timeline.width > u64::SLOTS {
        let why = format!("more than {} operations at once", u64::SLOTS);
        return Decision::new("one engine", Found::Unknown(why), 0);
    }
    let over = || Found::Unknown("the steps are used up".to_string());
    match engine {
        Engine::BreadthFirst => {
            let mut breadth = Breadth::<M, u64>::new(model, calls, &timeline, true);
            let mut found = None;
            while found.is_none() && breadth.steps() <= limits.steps {
                found = breadth.go(limits.steps, 0, limits.bytes);
            }
            Decision::new("breadth-first", found.unwrap_or_else(over), breadth.steps())
        }
        Engine::DepthFirst => {
            let mut depth = Depth::new(model, calls, &timeline);
            let found = depth.go(limits.steps, limits.bytes).unwrap_or_else(over);
            Decision::new("depth-first", found, depth.steps())
        }
    }
}

fn in_turns<M: Model, B: Bits>(
    model: &M,
    calls: &[Call<M::Op>],
    timeline: &Timeline,
    limits: &Limits,
    orders: bool,
    stop: &dyn Fn() -> bool,
) -> Decision {
    let half = limits.bytes / 2;
    let mut breadth = Some(Breadth::<M, B>::new(model, calls, timeline, orders));
    let mut depth: Option<Depth<M>> = None;
    let mut deep = timeline.width <= depth::SLOTS;
    let mut why = String::new();
    let (mut turn, mut spent) = (TURN, 0);
    // Without crashed calls the frontier rarely widens.
    let mut first = if timeline.crashed == 0 { FIRST } else { TURN };
    loop {
        if let Some(engine) = &mut breadth {
            let before = engine.steps();
            let found = engine.go(std::mem::take(&mut first).max(turn), NARROW, half);
            spent += engine.steps() - before;
            match found {
                Some(Found::Unknown(reason)) => {
                    why = reason;
                    breadth = None;
                }
                Some(found) => return Decision::new("breadth-first", found, spent),
                None => {}
            }
        }
        if deep {
            let engine = depth.get_or_insert_with(|| Depth::new(model, calls, timeline));
            let before = engine.steps();
            let found = engine.go(turn, half);
            spent += engine.steps() - before;
            match found {
                Some(Found::Unknown(reason)) => {
                    why = format!("{why}{}{reason}", if why.is_empty() { "" } else { "; " });
                    (depth, deep) = (None, false);
                }
                Some(found) => return Decision::new("depth-first", found, spent),
                None => {}
            }
        }
        if breadth.is_none() && !deep {
            return Decision::new("both engines", Found::Unknown(why), spent);
        }
        if spent > limits.steps {
            let why = format!("undecided after {spent} steps");
            return Decision::new("both engines", Found::Unknown(why), spent);
        }
        if stop() {
            let why = format!("stopped after {spent} steps: the time was over");
            return Decision::new("both engines", Found::Unknown(why), spent);
        }
        turn = turn.saturating_mul(2).min(100 * TURN);
    }
}
