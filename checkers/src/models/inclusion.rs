//! Sets that only grow, and are read as a whole.
//!
//! Reads of a set that only grows are ordered by inclusion: of two, one holds all of the other. So their order is known
//! but for equal ones, and each element is *born* between two of them: after the last that lacks it and before the first
//! that holds it. That gives every operation a rank: additions of what the first reads hold, those reads, additions of
//! what the next hold besides, and so on; at the end the additions of what nobody read. An order exists if and only if
//! no operation ended before one of a lower rank began, and one pass over the ranks tells.
//!
//! **What is added twice** is born by the addition that began first: that one can be early most easily. The others find
//! the element there, change nothing, and only must not have ended before it could be born.
//!
//! **Crashed** additions count where their element was read, with an open end, and else not at all.
//!
//! It takes time in the number of operations and of elements read, and the sorting of the reads by size.
use super::set::SetOp::{self, Add, Whole};
use crate::linear::model::{Call, NEVER};

const UNREAD: u32 = u32::MAX;

/// The first end and the last beginning of what has one rank, each with its call.
#[derive(Clone, Copy)]
struct Rank {
    first_end: (u32, u32),
    last_begin: (u32, u32),
}

const NOBODY: Rank = Rank {
    first_end: (NEVER, 0),
    last_begin: (0, 0),
};

impl Rank {
    fn take(&mut self, first_end: (u32, u32), last_begin: (u32, u32)) {
        self.first_end = self.first_end.min(first_end);
        self.last_begin = self.last_begin.max(last_begin);
    }
}

/// All additions of one element.
#[derive(Clone, Copy)]
struct Element {
    /// The first beginning and the first end, each with its call.
    begin: (u32, u32),
    end: (u32, u32),
    /// After how many different reads it was born.
    born: u32,
    /// The first that holds it.
    read: u32,
}

/// The calls of which no order works, or none; `None` where something else is done than adding and reading the whole.
pub(super) fn decide(calls: &[Call<SetOp>], lists: &[Vec<u32>]) -> Option<Vec<u32>> {
    let mut elements: Vec<Element> = Vec::new();
    let mut reads: Vec<(u32, u32, u32)> = Vec::new();
    for (n, call) in (0..).zip(calls) {
        match call.op {
            Add(element) => {
                let element = known(&mut elements, element);
                element.begin = element.begin.min((call.begin, n));
                element.end = element.end.min((call.end, n));
            }
            Whole(list) if call.ended() => reads.push((lists[list as usize].len() as u32, list, n)),
            Whole(_) => {}
            _ => return None,
        }
    }
    reads.sort_unstable();
    let inclusion = Inclusion { calls, lists, reads };
    Some(inclusion.culprits(&mut elements))
}

fn known(elements: &mut Vec<Element>, element: u32) -> &mut Element {
    let at = element as usize;
    if at >= elements.len() {
        let unknown = Element {
            begin: (NEVER, 0),
            end: (NEVER, 0),
            born: UNREAD,
            read: 0,
        };
        elements.resize(at + 1, unknown);
    }
    &mut elements[at]
}

struct Inclusion<'a> {
    calls: &'a [Call<SetOp>],
    lists: &'a [Vec<u32>],
    /// Of each: the number of its elements, its list, its call; the smallest first.
    reads: Vec<(u32, u32, u32)>,
}

impl Inclusion<'_> {
    fn culprits(&self, elements: &mut Vec<Element>) -> Vec<u32> {
        let ranks = match self.ranks(elements) {
            Ok(ranks) => ranks,
            Err(culprits) => return culprits,
        };
        let mut last_begin = (0, 0);
        for (n, rank) in ranks.iter().enumerate() {
            if rank.first_end.0 < last_begin.0 {
                // What stands between the two is a read of the rank before, if none of them is one.
                let read = n.checked_sub(1).and_then(|n| ranks[n / 2 * 2 + 1..].first());
                let between = read.filter(|r| r.first_end.0 != NEVER).map(|r| r.first_end.1);
                let told = [Some(rank.first_end.1), Some(last_begin.1), between];
                return self.with_adds(told.into_iter().flatten());
            }
            last_begin = last_begin.max(rank.last_begin);
        }
        Vec::new()
    }

    /// The ranks in their order; or, where reads hold what was never added, or do not hold each other, those.
    fn ranks(&self, elements: &mut Vec<Element>) -> Result<Vec<Rank>, Vec<u32>> {
        let mut ranks = vec![NOBODY];
        let mut born = 0;
        let mut last = None;
        for &(size, list, n) in &self.reads {
            if last != Some(size) {
                last = Some(size);
                ranks.extend([NOBODY, NOBODY]);
            }
            let adding = ranks.len() - 3;
            for &element in &self.lists[list as usize] {
                let element = known(elements, element);
                if element.begin.0 == NEVER {
                    return Err(vec![n]);
                }
                if element.born == UNREAD {
                    (element.born, element.read) = (adding as u32, n);
                    born += 1;
                    ranks[adding].take(element.end, element.begin);
                }
            }
            if born != size {
                return Err(self.apart(elements, n));
            }
            let Call { begin, end, .. } = self.calls[n as usize];
            ranks[adding + 1].take((end, n), (begin, n));
        }
        let unread = ranks.len() - 1;
        let ended = elements.iter().filter(|e| e.born == UNREAD && e.end.0 != NEVER);
        ended.for_each(|e| ranks[unread].take(e.end, (0, 0)));
        Ok(ranks)
    }

    /// A read, and one that is not larger and holds something that it lacks.
    fn apart(&self, elements: &[Element], read: u32) -> Vec<u32> {
        let list = self.list(read).expect("it is a read");
        let lacks = |e: &(u32, &Element)| e.1.born != UNREAD && list.binary_search(&e.0).is_err();
        let lacked = (0..).zip(elements).find(lacks);
        let other = lacked
            .expect("a read that holds all before it holds as many as were born")
            .1
            .read;
        self.with_adds([read, other])
    }

    fn list(&self, call: u32) -> Option<&Vec<u32>> {
        match self.calls[call as usize].op {
            Whole(list) => Some(&self.lists[list as usize]),
            _ => None,
        }
    }

    /// These calls, and all additions of what they add or read.
    fn with_adds(&self, told: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut told: Vec<u32> = told.into_iter().collect();
        let mut elements: Vec<u32> = Vec::new();
        for n in &told {
            match self.calls[*n as usize].op {
                Add(element) => elements.push(element),
                _ => elements.extend(self.list(*n).into_iter().flatten()),
            }
        }
        elements.sort_unstable();
        let adds = (0..).zip(self.calls).filter(|(_, call)| match call.op {
            Add(element) => elements.binary_search(&element).is_ok(),
            _ => false,
        });
        told.extend(adds.map(|(n, _)| n));
        told.sort_unstable();
        told.dedup();
        told
    }
}
