//! Why a history fits no order.
//!
//! **The longest beginning that fits.** The call at whose end no order is left is known from the breadth-first linearizer,
//! and else found by halving: a beginning of a history that fits fits too. What was open there has no answer yet.
//!
//! **Why nothing comes next.** After that order each open call is tried: it cannot have its answer in the state that was
//! reached, or it can, and still leaves no place for the one that ends.
//!
//! **The calls of which no order works.** Leaving out a call that only looks, or the end of any other, only allows more:
//! a call without an end may take effect at any later time or never. So what still fits no order after that names fewer
//! calls, each with an answer or an end that matters. It is sought by leaving out halves, quarters, and so on (Zeller and
//! Hildebrandt, "Simplifying and isolating failure-inducing input", 2002), within a budget: the smallest found, not the
//! smallest there is.
use super::decide::decide;
use super::model::{Call, Model, NEVER};
use super::{Found, Limits};

/// What an attempt may cost.
const ATTEMPT: Limits = Limits {
    bytes: 64 << 20,
    steps: 400_000,
};
/// How many are made.
const ATTEMPTS: u32 = 400;

/// Why a history fits no order. Calls are told by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The call with whose end no order is left.
    pub at: u32,
    /// An order of what ended before, and of what may have taken effect.
    pub order: Vec<u32>,
    /// The state after it.
    pub state: u32,
    /// The calls that were open then, that one first, and whether each could take effect in that state.
    pub open: Vec<(u32, bool)>,
    /// The fewest calls found of which no order works.
    pub core: Vec<u32>,
}

/// Explains why `calls`, which fit no order, do not; `None` where that takes more than the limits, or `stop` says so.
pub fn explain<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    limits: &Limits,
    stop: &dyn Fn() -> bool,
) -> Option<Explained> {
    let at = match decide(model, calls, limits, false, stop).found {
        Found::None { at: Some(at) } => at,
        Found::None { at: None } => halve(model, calls, limits, stop)?,
        _ => return None,
    };
    let end = calls[at as usize].end;
    let (places, fitting) = beginning(model, calls, end - 1);
    let Found::Order(Some(order)) = decide(model, &fitting, limits, true, stop).found else {
        return None;
    };
    let order: Vec<u32> = order.into_iter().map(|n| places[n as usize]).collect();
    let mut state = model.start();
    for &number in &order {
        state = model.step(state, &calls[number as usize].op)?;
    }
    let is_open = |n: &u32| {
        let call = &calls[*n as usize];
        call.begin < end && call.end > end && call.ended() && !order.contains(n)
    };
    let others = (0..calls.len() as u32).filter(is_open);
    let possible = |n: u32| (n, model.step(state, &calls[n as usize].op).is_some());
    let open = std::iter::once(at).chain(others).map(possible).collect();
    let core = core(model, calls, end, stop);
    Some(Explained {
        at,
        order,
        state,
        open,
        core,
    })
}

/// The history up to a place, with what is left of it.
fn beginning<M: Model>(model: &M, calls: &[Call<M::Op>], last: u32) -> (Vec<u32>, Vec<Call<M::Op>>) {
    let cut = |(n, call): (u32, &Call<M::Op>)| {
        let end = if call.end <= last { call.end } else { NEVER };
        (n, Call { end, ..call.clone() })
    };
    let kept = (0..).zip(calls).filter(|(_, call)| call.begin <= last).map(cut);
    kept.filter(|(_, call)| call.ended() || !model.looks(&call.op)).unzip()
}

/// Finds the first end with which no order is left.
fn halve<M: Model>(model: &M, calls: &[Call<M::Op>], limits: &Limits, stop: &dyn Fn() -> bool) -> Option<u32> {
    let mut ends: Vec<(u32, u32)> = (0..)
        .zip(calls)
        .filter(|(_, c)| c.ended())
        .map(|(n, c)| (c.end, n))
        .collect();
    ends.sort_unstable();
    let (mut fits, mut fails) = (0, ends.len());
    while fails - fits > 1 {
        let half = fits + (fails - fits) / 2;
        let (_, kept) = beginning(model, calls, ends[half - 1].0);
        match decide(model, &kept, limits, false, stop).found {
            Found::None { .. } => fails = half,
            Found::Order(_) => fits = half,
            Found::Unknown(_) => return None,
        }
    }
    Some(ends[fails - 1].1)
}

/// The fewest calls found, of those that begin before a place, of which no order works.
fn core<M: Model>(model: &M, calls: &[Call<M::Op>], end: u32, stop: &dyn Fn() -> bool) -> Vec<u32> {
    let (places, calls) = beginning(model, calls, end);
    let fails = |kept: &[bool]| {
        let left = calls.iter().zip(kept).filter_map(|(call, kept)| match *kept {
            true => Some(call.clone()),
            false if model.looks(&call.op) => None,
            false => Some(Call {
                end: NEVER,
                ..call.clone()
            }),
        });
        let left: Vec<_> = left.collect();
        matches!(decide(model, &left, &ATTEMPT, false, stop).found, Found::None { .. })
    };
    let mut kept: Vec<bool> = calls.iter().map(Call::ended).collect();
    let mut attempts = 0;
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut changed = false;
        let held: Vec<usize> = (0..kept.len()).filter(|n| kept[*n]).collect();
        for chunk in held.chunks(size) {
            if attempts == ATTEMPTS || stop() {
                break;
            }
            attempts += 1;
            chunk.iter().for_each(|n| kept[*n] = false);
            if fails(&kept) {
                changed = true;
            } else {
                chunk.iter().for_each(|n| kept[*n] = true);
            }
        }
        if attempts == ATTEMPTS || stop() || (size == 1 && !changed) {
            break;
        }
        size = size.div_ceil(2).max(1);
    }
    let kept = kept.iter().zip(places).filter(|(kept, _)| **kept);
    kept.map(|(_, place)| place).collect()
}
