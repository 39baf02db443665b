//! Histories of a real object with concurrent clients: valid by construction, with crashes; then, half of them, spoiled.
//!
//! Every operation takes effect at one instant between its invocation and its completion. One that crashes takes effect
//! at any later instant or never; its process says `info` and is replaced, or says nothing and asks again.
use splitbrain_core::Kind;
use splitbrain_core::formats::{OpEvent, Speaker, Value};

/// What an object answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::models) enum Answer {
    Ok(Value),
    Fail(Option<&'static str>),
}

/// A real object, written straight from its definition and from nothing else in this crate.
pub(in crate::models) trait Object: Clone {
    /// What a client may ask next. Is told who.
    fn ask(&mut self, dice: &mut Dice, process: i64) -> (&'static str, Value);

    /// Does what is asked, and answers.
    fn serve(&mut self, process: i64, f: &str, asked: &Value) -> Answer;

    /// Does what is asked, if it may answer so (`None`: nobody knows what it answered, and it may have done nothing).
    /// Objects that may answer in several ways say here which.
    fn may(&mut self, process: i64, f: &str, asked: &Value, answer: Option<&Answer>) -> bool {
        let served = self.serve(process, f, asked);
        answer.is_none_or(|answer| match (answer, &served) {
            // The completion of what answers nothing repeats what was asked, or says what it likes.
            (Answer::Ok(_), Answer::Ok(_)) if !self.tells(f) => true,
            (answer, served) => answer == served,
        })
    }

    /// Whether the value of an `ok` says anything.
    fn tells(&self, f: &str) -> bool;

    /// Whether a failure for this reason says something of the object's state, and not only that nothing happened.
    fn observes(&self, _f: &str, _reason: Option<&str>) -> bool {
        false
    }

    /// Whether each of two answers may stand in the place of the other, right or wrong.
    fn can_swap(&self, _a: &Value, _b: &Value) -> bool {
        true
    }

    /// Some other answer that an object of this kind may give.
    fn wrong(&mut self, dice: &mut Dice, f: &str, right: &Value) -> Value;
}

/// Random numbers (splitmix64).
pub(in crate::models) struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What a history is like.
#[derive(Clone, Copy, Debug)]
pub(in crate::models) struct Size {
    pub operations: usize,
    pub clients: usize,
    /// One operation in so many crashes; 0 for none.
    pub crashes: usize,
}

struct Client {
    process: i64,
    busy: Option<(&'static str, Value, Option<Answer>)>,
}

fn event(process: i64, kind: Kind, f: &str, value: Value, error: Option<&str>) -> OpEvent {
    OpEvent {
        line: 0,
        time: None,
        process: Speaker::Client(process),
        kind,
        f: f.into(),
        key: None,
        value,
        error: error.map(Into::into),
    }
}

/// A history that is valid.
pub(in crate::models) fn valid<O: Object>(object: &mut O, dice: &mut Dice, size: Size) -> Vec<OpEvent> {
    let mut events = Vec::new();
    let client = |process| Client { process, busy: None };
    let mut clients: Vec<Client> = (0..size.clients as i64).map(client).collect();
    let mut crashed: Vec<(i64, &'static str, Value)> = Vec::new();
    let mut asked = 0;
    let mut fresh = size.clients as i64;
    while asked < size.operations || clients.iter().any(|c| c.busy.is_some()) {
        if !crashed.is_empty() && dice.one_in(4) {
            let (process, f, value) = crashed.swap_remove(dice.below(crashed.len()));
            object.serve(process, f, &value);
        }
        let n = dice.below(clients.len());
        let client = &mut clients[n];
        let process = client.process;
        match client.busy.take() {
            None if asked == size.operations => {}
            None => {
                asked += 1;
                let (f, value) = object.ask(dice, process);
                events.push(event(process, Kind::Invoke, f, value.clone(), None));
                client.busy = Some((f, value, None));
            }
            Some((f, value, answer)) if size.crashes > 0 && dice.one_in(2 * size.crashes) => {
                if answer.is_none() && dice.one_in(2) {
                    crashed.push((process, f, value.clone()));
                }
                if dice.one_in(2) {
                    events.push(event(process, Kind::Info, f, value, Some("timeout")));
                    client.process = fresh;
                    fresh += 1;
                }
            }
            Some((f, value, None)) => {
                let answer = object.serve(process, f, &value);
                client.busy = Some((f, value, Some(answer)));
            }
            Some((f, _, Some(Answer::Ok(answer)))) => events.push(event(process, Kind::Ok, f, answer, None)),
            Some((f, value, Some(Answer::Fail(why)))) => events.push(event(process, Kind::Fail, f, value, why)),
        }
    }
    events
}

/// Changes something, after which the history may be invalid.
pub(in crate::models) fn spoil<O: Object>(object: &mut O, dice: &mut Dice, events: &mut [OpEvent]) {
    match dice.below(5) {
        0 | 1 => change_answer(object, dice, events),
        2 => swap_answers(object, dice, events),
        3 => deny_failure(object, dice, events),
        _ => (0..1 + dice.below(4)).for_each(|_| move_event(dice, events)),
    }
}

fn answers(events: &[OpEvent]) -> Vec<usize> {
    (0..events.len()).filter(|e| events[*e].kind == Kind::Ok).collect()
}

fn change_answer<O: Object>(object: &mut O, dice: &mut Dice, events: &mut [OpEvent]) {
    let told: Vec<usize> = answers(events)
        .into_iter()
        .filter(|e| object.tells(&events[*e].f))
        .collect();
    if !told.is_empty() {
        let event = &mut events[*dice.pick(&told)];
        let right = event.value.clone();
        // A second try where chance found the right one again.
        for _ in 0..2 {
            if event.value == right {
                event.value = object.wrong(dice, &event.f, &right);
            }
        }
    }
}

/// Says of something that failed that it happened: two hold a lock.
fn deny_failure<O: Object>(object: &mut O, dice: &mut Dice, events: &mut [OpEvent]) {
    let failed: Vec<usize> = (0..events.len()).filter(|e| events[*e].kind == Kind::Fail).collect();
    if failed.is_empty() {
        return;
    }
    let event = &mut events[*dice.pick(&failed)];
    event.kind = Kind::Ok;
    event.error = None;
    if object.tells(&event.f) {
        event.value = object.wrong(dice, &event.f, &event.value);
    }
}

fn swap_answers<O: Object>(object: &O, dice: &mut Dice, events: &mut [OpEvent]) {
    let told = answers(events);
    if told.len() < 2 {
        return;
    }
    let (a, b) = (*dice.pick(&told), *dice.pick(&told));
    if a != b && events[a].f == events[b].f && object.can_swap(&events[a].value, &events[b].value) {
        let value = std::mem::take(&mut events[a].value);
        events[a].value = std::mem::replace(&mut events[b].value, value);
    }
}

/// Swaps two neighbours of different processes.
fn move_event(dice: &mut Dice, events: &mut [OpEvent]) {
    if events.len() < 2 {
        return;
    }
    let mut at = dice.below(events.len() - 1);
    for _ in 0..1 + dice.below(4) {
        if at + 1 < events.len() && events[at].process != events[at + 1].process {
            events.swap(at, at + 1);
            at += 1;
        }
    }
}
