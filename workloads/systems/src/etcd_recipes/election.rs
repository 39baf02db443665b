//! The election recipe (`clientv3/concurrency`: `session.go`, `election.go`, `key.go`), call by call.
//!
//! A candidate puts a key of its own, named after its lease, if it is not there yet. The key's *create revision* is its
//! place in the queue. Then it waits until no key of the election has a lower one: it asks for the newest of those
//! before it, watches that one until it is deleted, and asks again. As in the recipe, nobody checks that the own key is
//! still there when the wait is over: to notice that is the session's part.
use super::calls::{self, Held, WITHIN, lacks};
use crate::gateway::{CallError, Gateway, decode, encode, number};
use serde_json::json;

/// What every key of the election begins with.
const PREFIX: &str = "splitbrain/election/";

/// Campaigns with `lease` for `name` until elected.
pub(super) async fn campaign(gateway: &Gateway, lease: u64, name: &str) -> Result<Held, CallError> {
    let key = format!("{PREFIX}{lease:x}");
    // The key bears the lease in its name: who finds it there has put it there before.
    let revision = calls::create(gateway, &key, name, lease).await?.revision;
    loop {
        let Some((before, seen)) = newest_before(gateway, revision).await? else {
            return Ok(Held { key, revision });
        };
        calls::wait_for_delete(gateway, &before, seen).await?;
    }
}

/// The newest key that was created before `revision`, and the revision at which it was there.
async fn newest_before(gateway: &Gateway, revision: u64) -> Result<Option<(String, u64)>, CallError> {
    let mut end = PREFIX.to_string();
    // The first text after all that begin with the prefix: '/' is followed by '0'.
    end.replace_range(end.len() - 1.., "0");
    let body = json!({
        "key": encode(PREFIX),
        "range_end": encode(&end),
        "sort_order": "DESCEND",
        "sort_target": "CREATE",
        "limit": 1,
        "max_create_revision": revision - 1,
    });
    let answer = gateway.call("/v3/kv/range", &body, WITHIN).await?;
    let Some(found) = answer["kvs"].get(0) else {
        return Ok(None);
    };
    let key = decode(&found["key"]).ok_or_else(|| lacks("a key", &answer))?;
    let seen = number(&answer["header"]["revision"]).ok_or_else(|| lacks("a revision", &answer))?;
    Ok(Some((key, seen)))
}
