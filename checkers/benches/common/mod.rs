//! Histories of a sound CAS register, as many clients would record them.
use RegisterOp::{Cas, Differs, Read, Set};
use splitbrain_checkers::linear::model::{Call, Model, NEVER};
use splitbrain_checkers::models::register::{NOTHING, Register, RegisterOp};

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((((z ^ (z >> 31)) >> 32) * u64::from(n)) >> 32) as u32
    }
}

/// What is recorded.
#[derive(Clone, Copy)]
pub struct Shape {
    pub operations: u32,
    pub clients: u32,
    /// Written values: 1 to this.
    pub values: u32,
    /// Of 1000 operations so many crash, and take effect at some later time or never.
    pub crashed: u32,
}

struct Busy {
    call: u32,
    done: bool,
}

/// Each client is at any moment idle, waiting for its operation's effect, or waiting for its answer, and stays so for
/// random times of one distribution: two thirds of the clients have an open operation.
pub fn recorded(shape: Shape, seed: u64) -> Vec<Call<RegisterOp>> {
    let chance = &mut Chance(seed);
    let mut calls: Vec<Call<RegisterOp>> = Vec::with_capacity(shape.operations as usize);
    let mut clients: Vec<Option<Busy>> = (0..shape.clients).map(|_| None).collect();
    let mut late: Vec<u32> = Vec::new();
    let (mut state, mut now) = (NOTHING, 0);
    let mut open = 0;
    while (calls.len() as u32) < shape.operations || open > 0 {
        if !late.is_empty() && chance.below(50) == 0 {
            let at = chance.below(late.len() as u32) as usize;
            let call = late.swap_remove(at);
            state = Register.step(state, &calls[call as usize].op).unwrap_or(state);
        }
        let at = chance.below(shape.clients) as usize;
        let begin = now;
        match &mut clients[at] {
            None if (calls.len() as u32) < shape.operations => {
                let value = |chance: &mut Chance| 1 + chance.below(shape.values);
                let op = match chance.below(3) {
                    0 => Read(NOTHING),
                    1 => Set(value(chance)),
                    _ => Cas {
                        from: value(chance),
                        to: value(chance),
                    },
                };
                let call = calls.len() as u32;
                calls.push(Call { op, begin, end: NEVER });
                now += 1;
                if chance.below(1000) < shape.crashed {
                    // Half of them never take effect.
                    if chance.below(2) == 0 {
                        late.push(call);
                    }
                } else {
                    clients[at] = Some(Busy { call, done: false });
                    open += 1;
                }
            }
            None => {}
            Some(busy) if !busy.done => {
                let op = &mut calls[busy.call as usize].op;
                *op = match *op {
                    Read(_) => Read(state),
                    Cas { from, .. } if from != state => Differs(from),
                    op => op,
                };
                state = Register.step(state, op).expect("it was made so");
                busy.done = true;
            }
            Some(busy) => {
                calls[busy.call as usize].end = now;
                now += 1;
                clients[at] = None;
                open -= 1;
            }
        }
    }
    calls.retain(|call| call.ended() || !Register.looks(&call.op));
    calls
}

/// Changes the answer of one read, the `nth` from the middle on.
pub fn with_a_wrong_read(calls: &mut [Call<RegisterOp>], nth: usize, wrong: impl Fn(u32) -> u32) {
    let from = calls.len() / 2;
    let reads = calls[from..].iter_mut().filter(|c| matches!(c.op, Read(_)));
    let read = reads.into_iter().nth(nth).expect("there are many reads");
    if let Read(value) = &mut read.op {
        *value = wrong(*value);
    }
}
