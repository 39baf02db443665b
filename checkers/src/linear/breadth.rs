//! The just-in-time linearizer over a whole history.
//!
//! Crashed calls may widen its frontier without end, and an order mostly is among the configurations that have used the
//! fewest of them. So only those are kept at first (a beam), as many as a number says, and few take effect at the end of
//! one call. An order that is found is one;
//! where none is left, and something had been left out, all begins anew with more room.
use super::Found;
use super::bits::Bits;
use super::jit::Jit;
use super::model::{Call, Model};
use super::timeline::{Moment, Timeline};

/// How many configurations are kept at first, where calls have crashed and where none have.
const SLIM: usize = 16;
const WIDE: usize = 1 << 14;
/// By how much that grows.
const WIDER: usize = 8;

/// One that can be stopped and gone on with.
pub(crate) struct Breadth<'a, M: Model, B> {
    calls: &'a [Call<M::Op>],
    timeline: &'a Timeline,
    jit: Jit<'a, M, B>,
    model: &'a M,
    orders: bool,
    /// How many configurations are kept, and whether more were left out.
    beam: usize,
    cut: bool,
    /// How many crashed calls may take effect at the end of one call.
    spend: u32,
    /// Steps of passes that were given up.
    spent: u64,
    place: usize,
    /// The call whose end is being passed.
    ending: Option<u32>,
}

impl<'a, M: Model, B: Bits> Breadth<'a, M, B> {
    /// `timeline` is not wider than `B` has slots.
    pub(crate) fn new(model: &'a M, calls: &'a [Call<M::Op>], timeline: &'a Timeline, orders: bool) -> Self {
        Breadth {
            calls,
            timeline,
            jit: Jit::new(model, orders, 1),
            model,
            orders,
            beam: if timeline.crashed == 0 { WIDE } else { SLIM },
            cut: false,
            spend: 1,
            spent: 0,
            place: 0,
            ending: None,
        }
    }

    /// Keeps only so many configurations at first.
    #[cfg(test)]
    pub(crate) fn slim(mut self, beam: usize) -> Self {
        self.beam = beam;
        self
    }

    /// Operations that were tried in some state.
    pub(crate) fn steps(&self) -> u64 {
        self.spent + self.jit.steps
    }

    /// Goes on until it is decided, the memory is used up, or some `steps` were taken and more than `narrow` for each
    /// event (`None`).
    pub(crate) fn go(&mut self, steps: u64, narrow: u64, bytes: usize) -> Option<Found> {
        let until = self.jit.steps.saturating_add(steps);
        loop {
            if let Some(call) = self.ending {
                match self.jit.settle(until.max(narrow * self.place as u64), bytes) {
                    Some(true) => {
                        self.ending = None;
                        self.cut |= self.jit.narrow(self.beam);
                    }
                    // What was left out may have fitted.
                    Some(false) if self.cut || self.jit.held_back() => {
                        self.widen();
                        return None;
                    }
                    Some(false) => return Some(Found::None { at: Some(call) }),
                    None if self.jit.bytes() > bytes => return Some(Found::Unknown(self.too_much(bytes))),
                    None => return None,
                }
            }
            if self.place == self.timeline.len() {
                break;
            }
            let moment = self.timeline.at(self.place, self.calls);
            self.place += 1;
            match moment {
                Moment::Begin(call) => {
                    let Call { op, end, .. } = &self.calls[call as usize];
                    let slot = self.timeline.slots[call as usize];
                    self.jit.begin(usize::from(slot), call, op, *end);
                }
                Moment::Crash(call) => self.jit.crash(call, &self.calls[call as usize].op),
                Moment::End(call) => {
                    self.jit.end(usize::from(self.timeline.slots[call as usize]));
                    self.ending = Some(call);
                }
            }
        }
        Some(Found::Order(self.orders.then(|| self.jit.order())))
    }

    /// Begins anew, with more room.
    fn widen(&mut self) {
        self.spent += self.jit.steps;
        self.beam = self.beam.saturating_mul(WIDER);
        self.spend = if self.beam > WIDE { u32::MAX } else { self.spend + 1 };
        self.jit = Jit::new(self.model, self.orders, self.spend);
        (self.cut, self.place, self.ending) = (false, 0, None);
    }

    fn too_much(&self, bytes: usize) -> String {
        format!(
            "the ways in which the object may stand after {} of {} events are more than {} MB hold",
            self.place,
            self.timeline.len(),
            bytes >> 20
        )
    }
}
