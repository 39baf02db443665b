//! Guarded storage: etcd itself is what the leader writes to, and compares the leader's key before each write.
//!
//! A write is one transaction: *if* the create revision of the leader's own key is still its token, *then* put the data.
//! The answer of the lock API says what its key is for: it "can be used in conjunction with transactions to safely ensure
//! updates to etcd only occur while holding lock ownership"; the Go client's recipes give the same comparison
//! (`Mutex.IsOwner`). A storage that compares tokens refuses an old leader as soon as a *newer* one has looked; this one
//! refuses it from the moment at which its key is gone, and needs no look of the next one's.
//!
//! **Order.** One key holds the newest write, and each put raises the key's version by one: that is the storage's
//! sequence number, told by a range within the same transaction. What the key holds names token, base and writer, so
//! that whoever watches the key knows all of each write ([`super::mirror`]).
//!
//! **Errors.** A transaction whose comparison failed did nothing. One without an answer may yet be carried out, and is
//! never repeated.
//!
//! **Caveat.** It guards only what is in etcd: with any other resource the comparison and the write are two steps.
use super::calls::{WITHIN, lacks};
use crate::contender::Resource;
use crate::gateway::{CallError, Gateway, decode, encode, number};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use splitbrain_core::{Name, Token};
use splitbrain_node::protocols::storage::{StoreOp, StoreResult};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;

/// The key that is written to.
pub(super) const DATA: &str = "splitbrain/data";

/// By which key a leader held which token.
pub(super) type Keys = Rc<RefCell<BTreeMap<Token, String>>>;

/// What [`DATA`] holds: one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub value: u64,
    pub token: Token,
    pub base: u64,
    pub by: Name,
}

/// A write and its place in the storage's order.
pub(super) fn written(kv: &Value) -> Option<(u64, Written)> {
    let text = decode(&kv["value"])?;
    Some((number(&kv["version"])?, serde_json::from_str(&text).ok()?))
}

/// etcd as one leader's storage. For one thread.
pub(super) struct Guarded {
    by: Name,
    gateway: Rc<Gateway>,
    keys: Keys,
}

impl Guarded {
    pub(super) fn new(by: Name, gateway: Rc<Gateway>, keys: Keys) -> Guarded {
        Guarded { by, gateway, keys }
    }

    async fn carry_out(&self, what: StoreOp) -> Result<StoreResult, CallError> {
        match what {
            StoreOp::Write { token, base, value } => {
                let by = self.by;
                let key = self.keys.borrow().get(&token).cloned();
                let key = key.expect("a leader writes with the token that it was elected with");
                self.write(&key, Written { value, token, base, by }).await
            }
            StoreOp::Last { .. } => self.last().await,
        }
    }

    async fn write(&self, key: &str, write: Written) -> Result<StoreResult, CallError> {
        let text = serde_json::to_string(&write).expect("plain data always becomes JSON");
        let data = encode(DATA);
        let body = json!({
            "compare": [{"target": "CREATE", "key": encode(key), "create_revision": write.token}],
            "success": [
                {"request_put": {"key": data, "value": encode(&text)}},
                {"request_range": {"key": data}},
            ],
        });
        let answer = self.gateway.call("/v3/kv/txn", &body, WITHIN).await?;
        if answer["succeeded"] != true {
            // etcd does not say whose key is there instead.
            let highest = Token::NONE;
            return Ok(StoreResult::Rejected { highest });
        }
        number(&answer["responses"][1]["response_range"]["kvs"][0]["version"])
            .filter(|seq| *seq > 0)
            .map(|seq| StoreResult::Accepted { seq })
            .ok_or_else(|| lacks("the data's version", &answer))
    }

    /// A linearizable range: it sees every write of those whose keys are gone.
    async fn last(&self) -> Result<StoreResult, CallError> {
        let answer = self
            .gateway
            .call("/v3/kv/range", &json!({"key": encode(DATA)}), WITHIN)
            .await?;
        let Some(kv) = answer["kvs"].get(0) else {
            return Ok(StoreResult::Last { seq: 0, value: None });
        };
        let (seq, write) = written(kv).ok_or_else(|| lacks("a write", &answer))?;
        let value = Some(write.value);
        Ok(StoreResult::Last { seq, value })
    }
}

impl Resource for Guarded {
    fn ask(&self, what: StoreOp) -> Pin<Box<dyn Future<Output = Option<StoreResult>> + '_>> {
        Box::pin(async move {
            match self.carry_out(what).await {
                Ok(result) => Some(result),
                Err(error) => {
                    eprintln!("failed to use the guarded storage: {error}");
                    None
                }
            }
        })
    }
}
