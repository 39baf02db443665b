//! Whether an order is one, by the definition and nothing else: what the engines say is replayed here.
use super::model::{Call, Model};

/// Replays `order`, calls by their places. An error says what is wrong with it.
pub fn verify<M: Model>(model: &M, calls: &[Call<M::Op>], order: &[u32]) -> Result<(), String> {
    let mut placed = vec![false; calls.len()];
    let mut state = model.start();
    let mut latest = 0;
    for &number in order {
        let call = &calls[number as usize];
        if std::mem::replace(&mut placed[number as usize], true) {
            return Err(format!("call {number} takes effect twice"));
        }
        // Whoever takes effect after a call that began at `latest` cannot have ended before.
        if call.end < latest {
            return Err(format!("call {number} ended before one that comes earlier began"));
        }
        latest = latest.max(call.begin);
        state = model
            .step(state, &call.op)
            .ok_or_else(|| format!("call {number} cannot have its answer in state {state}"))?;
    }
    match (0..calls.len()).find(|n| calls[*n].ended() && !placed[*n]) {
        Some(number) => Err(format!("call {number} ended and has no place")),
        None => Ok(()),
    }
}
