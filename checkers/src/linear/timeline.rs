//! A history's beginnings and ends in one line, with a slot for each open call.
use super::model::{Call, Model};

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A call begins that will end.
    Begin(u32),
    /// It ends.
    End(u32),
    /// A call begins that never ends.
    Crash(u32),
}

/// All of them, in order.
pub(crate) struct Timeline {
    /// A call's number doubled; odd at its end.
    moments: Vec<u32>,
    /// The slot that a call has while it is open. Of calls that never end: 0.
    pub(crate) slots: Vec<u16>,
    /// How many calls are open at once at most, those that never end left out.
    pub(crate) width: usize,
    /// How many calls end, and how many never do.
    pub(crate) ends: usize,
    pub(crate) crashed: usize,
}

impl Timeline {
    /// Calls without an end that only look say nothing and are left out.
    pub(crate) fn new<M: Model>(model: &M, calls: &[Call<M::Op>]) -> Timeline {
        let mut timeline = Timeline {
            moments: in_order(model, calls),
            slots: vec![0; calls.len()],
            width: 0,
            ends: 0,
            crashed: 0,
        };
        let mut free: Vec<u16> = Vec::new();
        for moment in &timeline.moments {
            let call = (moment / 2) as usize;
            if moment % 2 == 1 {
                timeline.ends += 1;
                free.push(timeline.slots[call]);
            } else if calls[call].ended() {
                timeline.slots[call] = free.pop().unwrap_or_else(|| {
                    timeline.width += 1;
                    u16::try_from(timeline.width - 1).unwrap_or(u16::MAX)
                });
            } else {
                timeline.crashed += 1;
            }
        }
        timeline
    }

    pub(crate) fn len(&self) -> usize {
        self.moments.len()
    }

    pub(crate) fn at<O>(&self, place: usize, calls: &[Call<O>]) -> Moment {
        let moment = self.moments[place];
        let call = moment / 2;
        match moment % 2 == 1 {
            true => Moment::End(call),
            false if calls[call as usize].ended() => Moment::Begin(call),
            false => Moment::Crash(call),
        }
    }
}

/// Sorts by place: by counting where the places are dense, as they are where every event is an operation's.
fn in_order<M: Model>(model: &M, calls: &[Call<M::Op>]) -> Vec<u32> {
    const EMPTY: u32 = u32::MAX;
    assert!(calls.len() < (u32::MAX / 2) as usize, "more calls than a number holds");
    let matters = |call: &&Call<M::Op>| call.ended() || !model.looks(&call.op);
    let latest = calls
        .iter()
        .filter(matters)
        .map(|c| if c.ended() { c.end } else { c.begin })
        .max();
    let moments = || {
        let calls = calls.iter().zip(0u32..).filter(|(call, _)| matters(call));
        calls.flat_map(|(call, n)| {
            [(call.begin, 2 * n), (call.end, 2 * n + 1)]
                .into_iter()
                .take(1 + usize::from(call.ended()))
        })
    };
    let latest = latest.unwrap_or(0) as usize;
    if latest > 8 * calls.len() + 64 {
        let mut sorted: Vec<(u32, u32)> = moments().collect();
        sorted.sort_unstable();
        return sorted.into_iter().map(|(_, moment)| moment).collect();
    }
    let mut places = vec![EMPTY; latest + 1];
    for (place, moment) in moments() {
        debug_assert_eq!(places[place as usize], EMPTY, "two at one place");
        places[place as usize] = moment;
    }
    places.retain(|moment| *moment != EMPTY);
    places
}
