//! The resource that the leader writes to, as a state machine.
//!
//! A fencing token only helps if someone compares it. The storage gives every accepted write a sequence number, which
//! is the one order that all checkers trust. *Fenced*, it refuses a token lower than the highest one it has seen
//! (Kleppmann, "How to do distributed locking"); *unfenced*, it takes everything, and the history shows the damage.
//!
//! A write also carries `base`, the newest sequence number that its writer had seen: where another leader's write lies
//! between `base` and the write itself, the writer overwrote what it never read (a lost update). For the fence to
//! prevent that too, a new leader's first look carries its token: tokens must go with every request, reads included.
//!
//! Caveat: the storage is in memory. It outlives every fault but its own death, so no plan may kill it.
use serde::{Deserialize, Serialize};
use splitbrain_core::world::Unasked;
use splitbrain_core::{Name, Token};

/// What a candidate asks of the storage. One JSON line each on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRequest {
    /// Chosen by the writer; the reply has it too.
    pub id: u64,
    /// What.
    #[serde(flatten)]
    pub what: StoreOp,
}

/// The storage's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "store", rename_all = "kebab-case")]
pub enum StoreOp {
    /// Append a write.
    Write {
        /// The writer's fencing token.
        token: Token,
        /// The newest `seq` that the writer has seen; 0 for none.
        base: u64,
        /// Unique in a run.
        value: u64,
    },
    /// Tell the newest accepted write.
    Last {
        /// A leader's look: what it reads is what it will write upon, so its token raises the fence here already, or
        /// its predecessor could still slip a write in between. `None` looks only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
    },
}

/// The storage's answer to the request with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReply {
    /// Of the request.
    pub id: u64,
    /// The answer.
    #[serde(flatten)]
    pub result: StoreResult,
}

/// How a request to the storage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum StoreResult {
    /// The write is in, at this position from 1.
    Accepted {
        /// Its position.
        seq: u64,
    },
    /// The write is not in and never will be: its token is too low.
    Rejected {
        /// The highest token seen.
        highest: Token,
    },
    /// The newest accepted write.
    Last {
        /// Its position; 0 if there is none.
        seq: u64,
        /// Its value.
        value: Option<u64>,
    },
}

/// The storage's whole state.
#[derive(Clone, Debug)]
pub struct Storage {
    fenced: bool,
    highest: Token,
    seq: u64,
    last: Option<u64>,
}

impl Storage {
    /// An empty storage that compares tokens, or does not.
    pub fn new(fenced: bool) -> Storage {
        Storage {
            fenced,
            highest: Token(0),
            seq: 0,
            last: None,
        }
    }

    /// Carries one request of host `by` out: the reply to send, and what to tell control *before* it is sent.
    pub fn apply(&mut self, by: Name, request: StoreRequest) -> (StoreReply, Option<Unasked>) {
        let (result, event) = match request.what {
            StoreOp::Last { token } => {
                self.highest = self.highest.max(token.unwrap_or_default());
                let (seq, value) = (self.seq, self.last);
                (StoreResult::Last { seq, value }, None)
            }
            StoreOp::Write { token, value, .. } if self.fenced && token < self.highest => {
                let highest = self.highest;
                (
                    StoreResult::Rejected { highest },
                    Some(Unasked::Rejected {
                        token,
                        highest,
                        value,
                        by,
                    }),
                )
            }
            StoreOp::Write { token, base, value } => {
                self.highest = self.highest.max(token);
                self.seq += 1;
                self.last = Some(value);
                let seq = self.seq;
                (
                    StoreResult::Accepted { seq },
                    Some(Unasked::Stored {
                        seq,
                        token,
                        value,
                        base,
                        by,
                    }),
                )
            }
        };
        (StoreReply { id: request.id, result }, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(storage: &mut Storage, token: u64) -> StoreResult {
        let what = StoreOp::Write {
            token: Token(token),
            base: 0,
            value: token * 10,
        };
        storage
            .apply("n1".parse().unwrap(), StoreRequest { id: 1, what })
            .0
            .result
    }

    #[test]
    fn fenced_refuses_the_old_and_unfenced_takes_it() {
        let mut fenced = Storage::new(true);
        assert_eq!(write(&mut fenced, 2), StoreResult::Accepted { seq: 1 });
        assert_eq!(write(&mut fenced, 1), StoreResult::Rejected { highest: Token(2) });
        assert_eq!(write(&mut fenced, 2), StoreResult::Accepted { seq: 2 });
        let mut unfenced = Storage::new(false);
        assert_eq!(write(&mut unfenced, 2), StoreResult::Accepted { seq: 1 });
        assert_eq!(write(&mut unfenced, 1), StoreResult::Accepted { seq: 2 });
    }

    #[test]
    fn a_leaders_look_raises_the_fence_and_another_look_does_not() {
        let look = |storage: &mut Storage, token| {
            let what = StoreOp::Last { token };
            storage
                .apply("n2".parse().unwrap(), StoreRequest { id: 1, what })
                .0
                .result
        };
        let mut fenced = Storage::new(true);
        write(&mut fenced, 2);
        assert_eq!(
            look(&mut fenced, None),
            StoreResult::Last {
                seq: 1,
                value: Some(20)
            }
        );
        assert_eq!(write(&mut fenced, 2), StoreResult::Accepted { seq: 2 });
        look(&mut fenced, Some(Token(3)));
        assert_eq!(write(&mut fenced, 2), StoreResult::Rejected { highest: Token(3) });
    }

    #[test]
    fn the_wire_form_is_one_flat_object() {
        let what = StoreOp::Write {
            token: Token(2),
            base: 0,
            value: 9,
        };
        let json = serde_json::to_string(&StoreRequest { id: 1, what }).unwrap();
        assert_eq!(json, r#"{"id":1,"store":"write","token":2,"base":0,"value":9}"#);
        let json = serde_json::to_string(&StoreReply {
            id: 1,
            result: StoreResult::Accepted { seq: 4 },
        })
        .unwrap();
        assert_eq!(json, r#"{"id":1,"result":"accepted","seq":4}"#);
    }
}
