//! The just-in-time linearizer: breadth first, one pass, all configurations at once (after Lowe, "Testing for
//! linearizability", 2017, and Horn and Kroening, "Faster linearizability checking via P-compositionality", 2015).
//!
//! **Configurations.** After each event, the *frontier* holds every way in which the object may stand: its state and which
//! of the open calls have taken effect. A call takes effect only when one that ends needs it to: at the end of a call, a
//! configuration in which it has not taken effect is replaced by all those to which sequences of open calls lead that end
//! with it. A frontier that becomes empty means that no order fits, and the beginning up to there is the shortest that
//! fits none. Memory is the frontier, whatever the history's length.
//!
//! **What keeps the frontier small**, none of it changing the answer:
//! - A call that only looks takes effect as soon as it can.
//! - Of open calls that do the same, the one that ends first takes effect first.
//! - Crashed calls are counted by class, and take effect only right before something that needs it.
//! - *Freed* calls. When a call overwrites the state, every open call that overwrites could as well have taken effect
//!   right before it, unseen; and every open call that looks, right after such a one. Whether it did is decided late: such
//!   calls are marked, and a marked one may end without taking effect now, or together with the marked one that it
//!   needs. So nobody has to guess which of many open writes were lost.
//! - *Domination.* Of two configurations in one state, one is left out if the other can do whatever it can: has used no
//!   more crashed calls, has freed what differs, and no look fewer behind it.
//!
//! **Caveats.** Orders are told only if asked for: that takes memory for each step ever taken.
use super::bits::Bits;
use super::config::{Config, Entry, NO_ENTRY, Since, note};
use super::crashed::Crashed;
use super::met::Met;
use super::model::Model;

/// An open call.
struct Open<O, B> {
    call: u32,
    op: O,
    end: u32,
    /// Open calls that do the same and end earlier.
    elder: B,
}

/// The linearizer: is told events in order.
pub(crate) struct Jit<'a, M: Model, B> {
    pub(super) model: &'a M,
    open: Vec<Option<Open<M::Op, B>>>,
    /// All open calls; of them those that look; those that overwrite.
    pub(super) all: B,
    pub(super) looks: B,
    pub(super) overwrites: B,
    pub(super) crashed: Crashed<M::Op>,
    pub(super) frontier: Vec<Config<B>>,
    found: Vec<Config<B>>,
    /// The call that ends, and the configurations that have yet to pass its end.
    ending: usize,
    queue: Vec<Config<B>>,
    /// All to which sequences of calls lead from one of them: what is yet to be gone on from, and what was met.
    todo: Vec<(Config<B>, Since)>,
    met: Met<B>,
    pub(super) log: Option<Vec<Entry>>,
    /// How many crashed calls may take effect at the end of one call, and whether that held any back.
    spend: u32,
    held_back: bool,
    /// How many had when the expansion began.
    base: u32,
    /// Operations that were tried in some state.
    pub(crate) steps: u64,
}

impl<'a, M: Model, B: Bits> Jit<'a, M, B> {
    /// An object at its beginning. With `orders`, [`Jit::order`] can be asked. At the end of one call at most `spend`
    /// crashed ones take effect.
    pub(crate) fn new(model: &'a M, orders: bool, spend: u32) -> Jit<'a, M, B> {
        let start = Config {
            state: model.start(),
            used: 0,
            done: B::NONE,
            freed: B::NONE,
            then: 0,
            log: NO_ENTRY,
        };
        Jit {
            model,
            open: Vec::new(),
            all: B::NONE,
            looks: B::NONE,
            overwrites: B::NONE,
            crashed: Crashed::new(),
            frontier: vec![start],
            found: Vec::new(),
            ending: 0,
            queue: Vec::new(),
            todo: Vec::new(),
            met: Met::default(),
            log: orders.then(Vec::new),
            spend,
            held_back: false,
            base: 0,
            steps: 0,
        }
    }

    /// Whether crashed calls were held back, so that there may be more ways.
    pub(crate) fn held_back(&self) -> bool {
        self.held_back
    }

    /// About how much memory this takes.
    pub(crate) fn bytes(&self) -> usize {
        let configs = self.frontier.capacity() + self.queue.capacity() + self.found.capacity() + self.todo.capacity();
        let log = self.log.as_ref().map_or(0, Vec::capacity);
        configs * size_of::<(Config<B>, Since)>() + self.met.bytes() + log * size_of::<Entry>() + self.crashed.bytes()
    }

    /// A call begins that ends at `end`; `slot` is free and below [`Bits::SLOTS`].
    pub(crate) fn begin(&mut self, slot: usize, call: u32, op: &M::Op, end: u32) {
        let bit = B::one(slot);
        let mut elder = B::NONE;
        for other in self.all.each() {
            let open = self.open[other].as_mut().expect("it is open");
            if open.op != *op {
                continue;
            }
            match open.end < end {
                true => elder = elder | B::one(other),
                false => open.elder = open.elder | bit,
            }
        }
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        self.open[slot] = Some(Open {
            call,
            op: op.clone(),
            end,
            elder,
        });
        self.all = self.all | bit;
        if self.model.looks(op) {
            self.looks = self.looks | bit;
            for config in &mut self.frontier {
                if self.model.step(config.state, op).is_some() {
                    config.done = config.done | bit;
                    config.log = note(&mut self.log, config.log, call, (false, false));
                }
            }
        } else if self.model.overwrites(op) {
            self.overwrites = self.overwrites | bit;
        }
    }

    /// A call begins that never ends. Those that only look are not told.
    pub(crate) fn crash(&mut self, call: u32, op: &M::Op) {
        self.crashed.begin(call, op, self.model.overwrites(op));
    }

    /// A call ends: [`Jit::settle`] is to be called until it is done.
    pub(crate) fn end(&mut self, slot: usize) {
        self.ending = slot;
        std::mem::swap(&mut self.queue, &mut self.frontier);
    }

    /// Goes on with the call that ends, until it is done (whether an order is left), or until more than `steps` were
    /// taken or more than `bytes` are needed (`None`).
    pub(crate) fn settle(&mut self, steps: u64, bytes: usize) -> Option<bool> {
        let slot = self.ending;
        loop {
            while let Some((config, since)) = self.todo.pop() {
                let candidates = self.all.without(config.done).without(self.looks);
                for next in candidates.each() {
                    self.take_open(config, since, next, slot);
                }
                for class in 0..self.crashed.classes() {
                    self.take_crashed(config, since, class, slot);
                }
                if self.steps > steps || self.bytes() > bytes {
                    return None;
                }
            }
            let Some(config) = self.queue.pop() else {
                break;
            };
            if config.done.has(B::one(slot)) {
                self.found.push(config);
                continue;
            }
            if config.freed.has(B::one(slot)) {
                self.unseen(config, slot);
            }
            self.met.clear();
            self.base = self.crashed.total(config.used);
            self.todo.push((config, Since::Nothing));
        }
        self.close(slot);
        Some(!self.frontier.is_empty())
    }

    /// The call at `slot` has ended.
    fn close(&mut self, slot: usize) {
        let bit = B::one(slot);
        std::mem::swap(&mut self.frontier, &mut self.found);
        for config in &mut self.frontier {
            config.done = config.done.without(bit);
            config.freed = config.freed.without(bit);
        }
        self.all = self.all.without(bit);
        self.looks = self.looks.without(bit);
        self.overwrites = self.overwrites.without(bit);
        self.open[slot] = None;
        for other in self.all.each() {
            let open = self.open[other].as_mut().expect("it is open");
            open.elder = open.elder.without(bit);
        }
        if self.frontier.len() > 1 {
            self.prune();
        }
    }

    /// What a call that overwrites leads to.
    fn after(&self, op: &M::Op) -> u32 {
        let after = self.model.step(self.model.start(), op);
        after.expect("what overwrites is possible in every state")
    }

    fn op(&self, slot: usize) -> &M::Op {
        &self.open[slot].as_ref().expect("it is open").op
    }

    fn call(&self, slot: usize) -> u32 {
        self.open[slot].as_ref().expect("it is open").call
    }

    /// The freed call at `slot` ends without taking effect now: it did so before the state was last overwritten.
    fn unseen(&mut self, config: Config<B>, slot: usize) {
        if self.overwrites.has(B::one(slot)) {
            let ended = self.lost(config, slot);
            self.found.push(ended);
            return;
        }
        let lost = config.freed & self.overwrites;
        for source in lost.each() {
            let elder = self.open[source].as_ref().expect("it is open").elder;
            if elder.has(lost) {
                continue;
            }
            let after = self.after(self.op(source));
            self.steps += 1;
            if self.model.step(after, self.op(slot)).is_some() {
                let ended = self.lost(config, source);
                self.found.push(ended);
            }
        }
        for class in 0..self.crashed.classes() {
            let Some(call) = self.crashed.next(class, config.used, config.then) else {
                continue;
            };
            if !self.crashed.overwrites(class) {
                continue;
            }
            let after = self.after(self.crashed.op(class));
            self.steps += 1;
            if self.model.step(after, self.op(slot)).is_some() {
                let mut ended = config;
                ended.used = self.crashed.with(config.used, class);
                ended.log = note(&mut self.log, ended.log, call, (true, true));
                self.looked_unseen(&mut ended, after);
                self.found.push(ended);
            }
        }
    }

    /// With the freed call that overwrites put right before the one that last did.
    fn lost(&mut self, mut config: Config<B>, slot: usize) -> Config<B> {
        let bit = B::one(slot);
        config.done = config.done | bit;
        config.freed = config.freed.without(bit);
        let call = self.call(slot);
        config.log = note(&mut self.log, config.log, call, (true, true));
        let after = self.after(self.op(slot));
        self.looked_unseen(&mut config, after);
        config
    }

    /// Freed calls that look take effect in a state that was there before the state was last overwritten.
    fn looked_unseen(&mut self, config: &mut Config<B>, state: u32) {
        for look in (config.freed & self.looks).each() {
            self.steps += 1;
            if self.model.step(state, self.op(look)).is_some() {
                config.done = config.done | B::one(look);
                config.freed = config.freed.without(B::one(look));
                let call = self.call(look);
                config.log = note(&mut self.log, config.log, call, (true, false));
            }
        }
    }

    fn take_open(&mut self, config: Config<B>, since: Since, next: usize, target: usize) {
        let open = self.open[next].as_ref().expect("it is open");
        if open.elder.has(self.all.without(config.done)) {
            return;
        }
        let overwrites = self.overwrites.has(B::one(next));
        // What came before must be needed; and what overwrites needs nothing. Nor is it worth overwriting twice: then the
        // first is freed.
        if overwrites && matches!(since, Since::Overwritten | Since::Lent(..)) {
            return;
        }
        self.steps += 1;
        let Some(state) = self.model.step(config.state, &open.op) else {
            return;
        };
        if overwrites && next != target && !self.leads_on(&config, state, target) {
            return;
        }
        match since {
            Since::Lent(before, class) if self.needless(before, self.crashed.op(class), &open.op, state) => {
                return;
            }
            // Whatever can come after the call that ends need not come before it.
            Since::Moved(before, moved) if next == target && self.commute(before, self.op(moved), &open.op, state) => {
                return;
            }
            _ => {}
        }
        let mut then = config;
        then.done = then.done | B::one(next);
        then.freed = then.freed.without(B::one(next));
        let call = open.call;
        let looked = self.enter(&mut then, state, call, overwrites);
        let since = match (overwrites, looked) {
            (true, _) => Since::Overwritten,
            (false, false) => Since::Moved(config.state, next),
            (false, true) => Since::Nothing,
        };
        self.keep(then, since, target);
    }

    fn take_crashed(&mut self, config: Config<B>, since: Since, class: usize, target: usize) {
        let Some(call) = self.crashed.next(class, config.used, self.crashed.begun) else {
            return;
        };
        if self.crashed.total(config.used) - self.base >= self.spend {
            self.held_back = true;
            return;
        }
        let overwrites = self.crashed.overwrites(class);
        if overwrites && matches!(since, Since::Overwritten | Since::Lent(..)) {
            return;
        }
        self.steps += 1;
        let op = self.crashed.op(class);
        let Some(state) = self.model.step(config.state, op) else {
            return;
        };
        if overwrites && !self.leads_on(&config, state, target) {
            return;
        }
        let held = (self.looks | self.overwrites).without(config.done | config.freed);
        // Overwriting a state with itself may still free what is open.
        if state == config.state && (!overwrites || held.is_none()) {
            return;
        }
        if let Since::Lent(before, lent) = since
            && (self.model.step(before, op) == Some(state)
                || (class < lent && self.needless(before, self.crashed.op(lent), op, state)))
        {
            return;
        }
        let mut then = config;
        then.used = self.crashed.with(config.used, class);
        let looked = self.enter(&mut then, state, call, overwrites);
        let since = match (overwrites, looked) {
            (true, _) => Since::Overwritten,
            (false, false) => Since::Lent(config.state, class),
            (false, true) => Since::Nothing,
        };
        self.keep(then, since, target);
    }

    /// Whether it is worth overwriting the state with this one: whether a call that needs a state is possible in it.
    fn leads_on(&self, config: &Config<B>, state: u32, target: usize) -> bool {
        let moves = self.all.without(self.looks | self.overwrites).without(config.done);
        let aim = B::one(target).without(self.overwrites);
        let mut next = (moves | aim).each();
        if next.any(|next| self.model.step(state, self.op(next)).is_some()) {
            return true;
        }
        (0..self.crashed.classes()).any(|class| {
            !self.crashed.overwrites(class)
                && self.crashed.next(class, config.used, self.crashed.begun).is_some()
                && self.model.step(state, self.crashed.op(class)).is_some()
        })
    }

    /// Whether the crashed call that led on from `before` was needed for `op` to lead to `state`.
    fn needless(&self, before: u32, crashed: &M::Op, op: &M::Op, state: u32) -> bool {
        match self.model.step(before, op) {
            None => false,
            Some(without) => without == state || self.model.step(without, crashed) == Some(state),
        }
    }

    /// Whether `first` and then `second`, which lead from `before` to `state`, could as well change places.
    fn commute(&self, before: u32, first: &M::Op, second: &M::Op, state: u32) -> bool {
        let between = self.model.step(before, second);
        between.and_then(|between| self.model.step(between, first)) == Some(state)
    }

    /// Brings a configuration to the state that a call leads to; whether calls that look took effect there.
    fn enter(&mut self, config: &mut Config<B>, state: u32, call: u32, overwrites: bool) -> bool {
        config.log = note(&mut self.log, config.log, call, (false, overwrites));
        if overwrites {
            config.freed = (self.looks | self.overwrites).without(config.done);
            config.then = self.crashed.begun;
        }
        if config.state == state {
            return false;
        }
        config.state = state;
        let before = config.done;
        for look in self.looks.without(before).each() {
            self.steps += 1;
            if self.model.step(state, self.op(look)).is_some() {
                config.done = config.done | B::one(look);
                let call = self.call(look);
                config.log = note(&mut self.log, config.log, call, (false, false));
            }
        }
        config.freed = config.freed.without(config.done);
        config.done != before
    }

    /// Keeps what was reached: as found if the call that ends has taken effect, else to go on from.
    fn keep(&mut self, config: Config<B>, since: Since, target: usize) {
        if config.done.has(B::one(target)) {
            self.found.push(config);
            return;
        }
        if !self.met.insert(config, since, &self.crashed) {
            return;
        }
        self.todo.push((config, since));
    }
}
