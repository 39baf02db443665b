//! Locks that their holder alone may release: owner-aware, reentrant, fenced.
//!
//! Operations: `acquire` (`lock`) and `release` (`unlock`). The holder is the process. At first nobody holds the lock.
//! - *owner-aware*: whoever acquires it may release it, nobody else;
//! - *reentrant*: the holder may acquire it again, up to a depth in all (2, as Hazelcast's tests have it, unless chosen),
//!   and holds it until it has released it as often;
//! - *fenced*: the answer to `acquire` is a fencing token, and each is higher than all before it. An answer of nil or 0
//!   tells no token: the lock is held, and nothing is compared. A reentrant lock has one token for as long as it is held:
//!   who acquires it again is told the same one or none, and learns it then where the first answer told none.
//!
//! Values other than a fenced lock's tokens say nothing.
//!
//! **Cores.** A process does one thing after another, so its own operations take effect in their order, and must
//! alternate (or nest). From the answer of the acquisition to the question of the release that belongs to it the lock is
//! surely held: that is the core of a tenure. Two cores that share an instant exclude each other. If none do, the history
//! fits: each acquisition takes effect just before its answer, each release just after its question, and inner ones lie
//! between by the process's own order. Cores that do not overlap stand in one order, and their tokens must rise in it.
//! The release of a tenure begins in the order of the cores' ends, so that one pass over the calls in their given order
//! meets the cores in order: nothing is sorted.
//!
//! **Crashes.** A crashed release frees the lock right after its question, which is best for all others. A crashed
//! acquisition is best taken never to have happened: it tells no token, and a lock that is held helps nobody. Both hold
//! while the crashed operation is its process's last, as it is where crashed processes are replaced.
//!
//! Caveat: where a process goes on after an operation of its own that has no answer, the order of its operations is not
//! known: the engines decide.
use super::prepared::shown;
use super::{Ending, Quick, Reading};
use crate::linear::model::{Call, Model};
use splitbrain_core::formats::Value;
use std::collections::BTreeMap;

/// Stands for the token that an answer did not tell.
pub const UNTOLD: u32 = 0;

/// A call that took effect, or may have. Owners and tokens are numbered as they are met, tokens from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockOp {
    /// The owner holds it, once more.
    Acquire {
        /// Who.
        owner: u32,
        /// With which token; [`UNTOLD`].
        token: u32,
    },
    /// The owner holds it once less.
    Release {
        /// Who.
        owner: u32,
    },
}

use LockOp::{Acquire, Release};

/// The lock.
#[derive(Clone, Debug)]
pub struct Lock {
    owners: u32,
    depth: u32,
    fenced: bool,
    /// What each token's number stands for.
    tokens: Vec<i64>,
}

/// Who holds it, how often, and whether the token of this tenure is known.
#[derive(Clone, Copy)]
struct Held {
    owner: u32,
    count: u32,
    told: bool,
}

impl Lock {
    /// How many states there are for each highest token: free, or held so.
    fn width(&self) -> u64 {
        1 + 2 * u64::from(self.owners) * u64::from(self.depth)
    }

    /// A state: the highest token so far ([`UNTOLD`]: none), and who holds the lock.
    fn number(&self, highest: u32, held: Option<Held>) -> u32 {
        let holding = |h: Held| 1 + 2 * (h.owner * self.depth + h.count - 1) + u32::from(h.told);
        highest * self.width() as u32 + held.map_or(0, holding)
    }

    fn numbered(&self, state: u32) -> (u32, Option<Held>) {
        let width = self.width() as u32;
        let held = (state % width).checked_sub(1).map(|n| Held {
            owner: n / 2 / self.depth,
            count: n / 2 % self.depth + 1,
            told: n % 2 == 1,
        });
        (state / width, held)
    }

    fn rises(&self, highest: u32, token: u32) -> bool {
        highest == UNTOLD || self.tokens[token as usize - 1] > self.tokens[highest as usize - 1]
    }

    fn is_plain(&self) -> bool {
        !self.fenced && self.depth == 1
    }
}

impl Model for Lock {
    type Op = LockOp;

    fn start(&self) -> u32 {
        self.number(UNTOLD, None)
    }

    fn step(&self, state: u32, op: &LockOp) -> Option<u32> {
        let (highest, held) = self.numbered(state);
        match (*op, held) {
            (Acquire { owner, token }, None) => {
                let told = token != UNTOLD;
                let fits = self.depth > 0 && (!told || self.rises(highest, token));
                let held = Held { owner, count: 1, told };
                fits.then(|| self.number(if told { token } else { highest }, Some(held)))
            }
            (Acquire { owner, token }, Some(held)) if held.owner == owner && held.count < self.depth => {
                let same = token == UNTOLD || (held.told && token == highest);
                let learns = token != UNTOLD && !held.told && self.rises(highest, token);
                let told = held.told || learns;
                let held = Held {
                    count: held.count + 1,
                    told,
                    ..held
                };
                (same || learns).then(|| self.number(if learns { token } else { highest }, Some(held)))
            }
            (Release { owner }, Some(held)) if held.owner == owner => {
                let count = held.count - 1;
                let less = (count > 0).then_some(Held { count, ..held });
                Some(self.number(highest, less))
            }
            _ => None,
        }
    }

    fn looks(&self, _op: &LockOp) -> bool {
        false
    }

    fn needs(&self, op: &LockOp) -> Option<u32> {
        self.is_plain().then(|| match *op {
            Acquire { .. } => self.start(),
            Release { owner } => self.number(UNTOLD, Some(once(owner))),
        })
    }

    fn gives(&self, op: &LockOp) -> Option<u32> {
        self.is_plain().then(|| match *op {
            Acquire { owner, .. } => self.number(UNTOLD, Some(once(owner))),
            Release { .. } => self.start(),
        })
    }
}

fn once(owner: u32) -> Held {
    Held {
        owner,
        count: 1,
        told: false,
    }
}

/// See the module.
pub(super) struct LockReading {
    lock: Lock,
    processes: Vec<i64>,
    owners: BTreeMap<i64, u32>,
    tokens: BTreeMap<i64, u32>,
}

impl LockReading {
    pub fn new(depth: u32, fenced: bool) -> LockReading {
        LockReading {
            lock: Lock {
                owners: 0,
                depth,
                fenced,
                tokens: Vec::new(),
            },
            processes: Vec::new(),
            owners: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    fn owner(&mut self, process: i64) -> u32 {
        let (lock, processes) = (&mut self.lock, &mut self.processes);
        *self.owners.entry(process).or_insert_with(|| {
            processes.push(process);
            lock.owners += 1;
            lock.owners - 1
        })
    }

    fn token(&mut self, told: &Value) -> Result<u32, String> {
        let token = match told {
            Value::Nil | Value::Int(0) => return Ok(UNTOLD),
            Value::Int(token) => *token,
            other => {
                let other = shown(other);
                return Err(format!(
                    "acquire answered {other}: a token is a whole number, 0 or nil if it is not told"
                ));
            }
        };
        let tokens = &mut self.lock.tokens;
        Ok(*self.tokens.entry(token).or_insert_with(|| {
            tokens.push(token);
            tokens.len() as u32
        }))
    }
}

impl Reading for LockReading {
    type Model = Lock;

    fn ops() -> &'static [&'static str] {
        &["acquire", "release", "lock", "unlock"]
    }

    fn call(&mut self, process: i64, f: &str, _asked: &Value, ending: Ending) -> Result<Option<LockOp>, String> {
        if let Ending::Fail(_) = ending {
            return Ok(None);
        }
        let owner = self.owner(process);
        let op = match (f, ending) {
            ("acquire" | "lock", Ending::Ok(told)) if self.lock.fenced => Acquire {
                owner,
                token: self.token(told)?,
            },
            ("acquire" | "lock", _) => Acquire { owner, token: UNTOLD },
            _ => Release { owner },
        };
        let states = (self.lock.tokens.len() as u64 + 1).checked_mul(self.lock.width());
        match states {
            Some(n) if n < u64::from(u32::MAX) => Ok(Some(op)),
            _ => Err("more than four billion pairs of a holder and a token: split the history".to_string()),
        }
    }

    fn model(&self) -> Lock {
        self.lock.clone()
    }

    fn quick(&self, calls: &[Call<LockOp>]) -> Option<Quick> {
        let culprits = Cores::new(&self.lock).judge(calls)?;
        Some(Quick { by: "cores", culprits })
    }

    fn words(&self, op: &LockOp) -> String {
        let process = |owner: u32| self.processes[owner as usize];
        match *op {
            Acquire { owner, token: UNTOLD } => format!("acquire by {}", process(owner)),
            Acquire { owner, token } => {
                let token = self.lock.tokens[token as usize - 1];
                format!("acquire with token {token} by {}", process(owner))
            }
            Release { owner } => format!("release by {}", process(owner)),
        }
    }
}

/// What is known of a process as its calls go by.
#[derive(Clone, Copy, Default)]
struct Owner {
    /// Where its last call ended.
    free: u32,
    count: u32,
    /// The acquisition that began its tenure, and where its core begins.
    first: u32,
    start: u32,
    /// The tenure's token, and who told it.
    token: u32,
    teller: u32,
}

/// A tenure's end, of the last that ended, or of the last with a token.
#[derive(Clone, Copy)]
struct Last {
    tenure: Owner,
    end: u32,
    release: u32,
}

struct Cores<'a> {
    lock: &'a Lock,
    owners: Vec<Owner>,
    last: Option<Last>,
    highest: Option<Last>,
}

/// Why there is no answer: calls of which no order works, or nobody knows.
type Stop = Vec<u32>;

impl<'a> Cores<'a> {
    fn new(lock: &'a Lock) -> Cores<'a> {
        Cores {
            lock,
            owners: vec![Owner::default(); lock.owners as usize],
            last: None,
            highest: None,
        }
    }

    /// Calls of which no order works, none if all fit; `None` where a process goes on before its last call ended.
    fn judge(mut self, calls: &[Call<LockOp>]) -> Option<Vec<u32>> {
        for (place, call) in (0u32..).zip(calls) {
            let (Acquire { owner, .. } | Release { owner }) = call.op;
            let known = &mut self.owners[owner as usize];
            if known.free > call.begin {
                return None;
            }
            known.free = call.end;
            let done = match call.op {
                Acquire { token, .. } if call.ended() => self.acquire(calls, place, owner, token),
                Acquire { .. } => Ok(()),
                Release { .. } => self.release(call, place, owner),
            };
            // What a process did up to the end of a call, no later call of its own can change.
            if let Err(culprits) = done {
                return Some(culprits);
            }
        }
        Some(self.unreleased().err().unwrap_or_default())
    }

    fn acquire(&mut self, calls: &[Call<LockOp>], place: u32, owner: u32, token: u32) -> Result<(), Stop> {
        let known = &mut self.owners[owner as usize];
        if known.count == self.lock.depth {
            return Err(nested(calls, known.first, place, owner, self.lock.depth));
        }
        known.count += 1;
        if known.count == 1 {
            known.first = place;
            known.start = calls[place as usize].end;
            known.token = token;
            known.teller = place;
        } else if token != UNTOLD && known.token == UNTOLD {
            known.token = token;
            known.teller = place;
        } else if token != UNTOLD && known.token != token {
            return Err(vec![known.teller, place]);
        }
        Ok(())
    }

    fn release(&mut self, call: &Call<LockOp>, place: u32, owner: u32) -> Result<(), Stop> {
        let known = &mut self.owners[owner as usize];
        match known.count {
            0 if call.ended() => return Err(vec![place]),
            0 => return Ok(()),
            _ => known.count -= 1,
        }
        if known.count > 0 {
            return Ok(());
        }
        let tenure = *known;
        self.follows(&tenure)?;
        let last = Last {
            tenure,
            end: call.begin,
            release: place,
        };
        self.last = Some(last);
        if tenure.token != UNTOLD {
            self.highest = Some(last);
        }
        Ok(())
    }

    /// Whether a tenure can stand after all that have ended.
    fn follows(&self, tenure: &Owner) -> Result<(), Stop> {
        if let Some(last) = self.last.filter(|last| tenure.start < last.end) {
            return Err(in_order([last.tenure.first, last.release, tenure.first]));
        }
        match self.highest {
            Some(high) if tenure.token != UNTOLD && !self.lock.rises(high.tenure.token, tenure.token) => {
                Err(in_order([high.tenure.teller, high.release, tenure.teller]))
            }
            _ => Ok(()),
        }
    }

    /// Tenures that no release ends.
    fn unreleased(&self) -> Result<(), Stop> {
        let mut before: Option<&Owner> = None;
        for tenure in self.owners.iter().filter(|owner| owner.count > 0) {
            if let Some(before) = before {
                return Err(in_order([before.first, tenure.first]));
            }
            self.follows(tenure)?;
            before = Some(tenure);
        }
        Ok(())
    }
}

fn in_order<const N: usize>(mut places: [u32; N]) -> Vec<u32> {
    places.sort_unstable();
    places.to_vec()
}

/// The acquisitions that are one too many: those since `first` that nothing has released, and the one at `place`.
fn nested(calls: &[Call<LockOp>], first: u32, place: u32, owner: u32, depth: u32) -> Vec<u32> {
    let mut open = Vec::new();
    if depth > 0 {
        for (at, call) in (first..place).zip(&calls[first as usize..]) {
            match call.op {
                Acquire { owner: who, .. } if who == owner => open.push(at),
                Release { owner: who } if who == owner => {
                    open.pop();
                }
                _ => {}
            }
        }
    }
    open.push(place);
    open
}
