//! The just-in-time linearizer over a whole history.
use super::Found;
use super::bits::Bits;
use super::jit::Jit;
use super::model::{Call, Model};
use super::timeline::{Moment, Timeline};

/// One that can be stopped and gone on with.
pub(crate) struct Breadth<'a, M: Model, B> {
    calls: &'a [Call<M::Op>],
    timeline: &'a Timeline,
    jit: Jit<'a, M, B>,
    orders: bool,
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
            jit: Jit::new(model, orders),
            orders,
            place: 0,
            ending: None,
        }
    }

    /// Operations that were tried in some state.
    pub(crate) fn steps(&self) -> u64 {
        self.jit.steps
    }

    /// Goes on until it is decided, the memory is used up, or some `steps` were taken and more than `narrow` for each
    /// event (`None`).
    pub(crate) fn go(&mut self, steps: u64, narrow: u64, bytes: usize) -> Option<Found> {
        let until = self.jit.steps.saturating_add(steps);
        loop {
            if let Some(call) = self.ending {
                match self.jit.settle(until.max(narrow * self.place as u64), bytes) {
                    Some(true) => self.ending = None,
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

    fn too_much(&self, bytes: usize) -> String {
        format!(
            "the ways in which the object may stand after {} of {} events are more than {} MB hold",
            self.place,
            self.timeline.len(),
            bytes >> 20
        )
    }
}
