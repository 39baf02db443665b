//! Large states as small numbers, in the order in which they are met.
//!
//! A step is computed once for each state and operation: whoever searches comes by the same ones again and again.
//!
//! Memory is bounded: where the states would take more than [`MOST`], steps to further ones are refused, and
//! [`States::is_full`] says so. An order that is found in spite of that is one; that none was found means nothing.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes that the states of one search may take, about.
const MOST: usize = 128 << 20;

/// What a state weighs, in bytes.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for Vec<u32> {
    fn weight(&self) -> usize {
        4 * self.len()
    }
}

impl Weigh for i128 {
    fn weight(&self) -> usize {
        0
    }
}

/// See the module. Number 0 is the state at first.
pub struct States<S> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S> {
    numbers: BTreeMap<Rc<S>, u32>,
    met: Vec<Rc<S>>,
    steps: BTreeMap<(u32, u32), u32>,
    weight: usize,
    full: bool,
}

impl<S: Ord + Clone + Weigh> States<S> {
    pub(super) fn new(start: S) -> States<S> {
        let states = States {
            inner: RefCell::new(Inner {
                numbers: BTreeMap::new(),
                met: Vec::new(),
                steps: BTreeMap::new(),
                weight: 0,
                full: false,
            }),
        };
        states.number(start);
        states
    }

    /// The number of a state.
    pub(super) fn number(&self, state: S) -> u32 {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(number) = inner.numbers.get(&state) {
            return *number;
        }
        let number = u32::try_from(inner.met.len()).expect("a search ends before it meets four billion states");
        // What the tables take besides.
        inner.weight += state.weight() + 128;
        let state = Rc::new(state);
        inner.met.push(state.clone());
        inner.numbers.insert(state, number);
        number
    }

    /// The state of a number.
    pub(super) fn get(&self, number: u32) -> Rc<S> {
        self.inner.borrow().met[number as usize].clone()
    }

    /// Whether steps were refused.
    pub(super) fn is_full(&self) -> bool {
        self.inner.borrow().full
    }

    /// The number of a state to which a step leads; `None` if there is no room for it.
    pub(super) fn reach(&self, state: S) -> Option<u32> {
        let is_new = |inner: &Inner<S>| !inner.numbers.contains_key(&state);
        if self.inner.borrow().weight > MOST && is_new(&self.inner.borrow()) {
            self.inner.borrow_mut().full = true;
            return None;
        }
        Some(self.number(state))
    }

    /// The state to which `change` leads, which `op` stands for.
    pub(super) fn step(&self, from: u32, op: u32, change: impl FnOnce(&mut S)) -> Option<u32> {
        if let Some(to) = self.inner.borrow().steps.get(&(from, op)) {
            return Some(*to);
        }
        let mut state = S::clone(&self.get(from));
        change(&mut state);
        let to = self.reach(state)?;
        let inner = &mut *self.inner.borrow_mut();
        inner.weight += 32;
        inner.steps.insert((from, op), to);
        Some(to)
    }
}

#[test]
fn steps_to_what_there_is_no_room_for_are_refused() {
    let states = States::new(vec![0_u32; 0]);
    let large = |n: u32| vec![n; MOST / 16];
    let reached: Vec<Option<u32>> = (0..6).map(|n| states.step(0, n, |state| *state = large(n))).collect();
    assert_eq!(reached, [Some(1), Some(2), Some(3), Some(4), None, None]);
    assert!(states.is_full());
    assert_eq!(states.step(1, 7, |state| *state = large(3)), Some(4));
}
