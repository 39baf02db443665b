//! The lock API (`v3lock`: Lock and Unlock), by which the *server* queues for its client.
//!
//! One call takes the lock's name and a lease, and is answered when the lock is held, with the name of a key that "exists
//! so long as the lock is held by the caller". Behind it the server does what the election recipe does at the client.
//!
//! **The fencing token** is that key's create revision. The answer does not tell it: the revision in its header is that
//! of the store when the wait was over. A range on the key binds the two, and so a leadership begins with the answer to
//! that. Where the range finds no key there is no token and nothing is held: etcd 3.4 grants a lock also to a waiter
//! whose lease expired while it waited (Jepsen's analysis of etcd 3.4.3; etcd issue 11456). Then the lock is asked for again.
//!
//! **A call that is lost** (its server died, or was found dead by the session's keepalives) is made again with the same
//! lease, since "calls to Lock with the same lease will be treated as a single acquisition" (the API's documentation);
//! the Java client does so by itself. It is not harmless: when the first server learns that its client is gone it deletes
//! the key, by name, and that may be the key by which the second call has got the lock meanwhile. Nobody tells the
//! holder, whose lease is alive. Who ends the session instead, and comes again with a new lease (the option `lost-call`),
//! has a key of another name, which no older call deletes.
use super::calls::{self, Held, WITHIN, lacks};
use crate::gateway::{CallError, Gateway, decode, encode};
use serde_json::json;

const NAME: &str = "splitbrain/lock";

/// Waits for the lock with `lease`; `None` where it was granted by a key that is gone.
pub(super) async fn lock(gateway: &Gateway, lease: u64) -> Result<Option<Held>, CallError> {
    let body = json!({"name": encode(NAME), "lease": lease});
    let answer = gateway.call_and_wait("/v3/lock/lock", &body).await?;
    let key = decode(&answer["key"])
        .filter(|key| !key.is_empty())
        .ok_or_else(|| lacks("a key", &answer))?;
    let found = calls::look_up(gateway, &key).await?;
    Ok(found.map(|found| Held {
        key,
        revision: found.revision,
    }))
}

/// Lets go of the lock.
pub(super) async fn unlock(gateway: &Gateway, held: &Held) -> Result<(), CallError> {
    let body = json!({"key": encode(&held.key)});
    gateway.call("/v3/lock/unlock", &body, WITHIN).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{Does, server};

    /// The lock's key is `key`; the same text answers the range that follows.
    async fn locked(answer: &'static str) -> Result<Option<Held>, CallError> {
        let gateway = Gateway::new(vec![server(Does::Answer(answer)).await]).unwrap();
        lock(&gateway, 9).await
    }

    #[tokio::test]
    async fn the_token_is_what_the_key_tells_and_not_the_answers_header() {
        let held = locked(r#"{"key":"a2V5","header":{"revision":"7"},"kvs":[{"create_revision":"5","lease":"9"}]}"#);
        let expect = Held {
            key: "key".to_string(),
            revision: 5,
        };
        assert_eq!(held.await, Ok(Some(expect)));
    }

    #[tokio::test]
    async fn a_lock_without_its_key_is_not_held() {
        assert_eq!(locked(r#"{"key":"a2V5","header":{"revision":"7"}}"#).await, Ok(None));
        let nameless = locked(r#"{"header":{"revision":"7"}}"#).await;
        assert!(matches!(nameless, Err(CallError::Lost(_))), "{nameless:?}");
    }
}
