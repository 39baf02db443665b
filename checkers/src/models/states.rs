//! Large states as small numbers, in the order in which they are met.
//!
//! A step is computed once for each state and operation: whoever searches comes by the same ones again and again.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module. Number 0 is the state at first.
pub struct States<S> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S> {
    numbers: BTreeMap<Rc<S>, u32>,
    met: Vec<Rc<S>>,
    steps: BTreeMap<(u32, u32), u32>,
}

impl<S: Ord + Clone> States<S> {
    pub(super) fn new(start: S) -> States<S> {
        let states = States {
            inner: RefCell::new(Inner {
                numbers: BTreeMap::new(),
                met: Vec::new(),
                steps: BTreeMap::new(),
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
        let state = Rc::new(state);
        inner.met.push(state.clone());
        inner.numbers.insert(state, number);
        number
    }

    /// The state of a number.
    pub(super) fn get(&self, number: u32) -> Rc<S> {
        self.inner.borrow().met[number as usize].clone()
    }

    /// The state to which `change` leads, which `op` stands for.
    pub(super) fn step(&self, from: u32, op: u32, change: impl FnOnce(&mut S)) -> u32 {
        if let Some(to) = self.inner.borrow().steps.get(&(from, op)) {
            return *to;
        }
        let mut state = S::clone(&self.get(from));
        change(&mut state);
        let to = self.number(state);
        self.inner.borrow_mut().steps.insert((from, op), to);
        to
    }
}
