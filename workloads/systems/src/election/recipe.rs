//! The calls of etcd's election recipe, one by one (`clientv3/concurrency`: `session.go`, `election.go`, `key.go`).
//!
//! A candidate puts a key of its own, named after its lease, if it is not there yet. The key's *create revision* is its
//! place in the queue. Then it waits until no key of the election has a lower one: it asks for the newest of those
//! before it, watches that one until it is deleted, and asks again. As in the recipe, nobody checks that the own key is
//! still there when the wait is over: to notice that is the session's part.
//!
//! As in the Go client, what may have had an effect is not repeated here, and a watch goes on at another endpoint where
//! it left off. HTTP/1.1 has no pings as gRPC has; that a watched endpoint is dead shows in the keepalives that go the
//! same way, so a watch is opened anew when they have moved on to another endpoint.
use crate::gateway::{Answers, CallError, Gateway, decode, encode, number};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What every key of the election begins with.
pub(crate) const PREFIX: &str = "splitbrain/election/";
/// How long a call's answer is awaited.
const WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at whether a watch's endpoint is still the one in use.
const LOOK: Duration = Duration::from_millis(500);
/// Before a watch is opened anew.
const PAUSE: Duration = Duration::from_millis(100);

/// A call's answer lacks what it must have.
fn lacks(what: &str, answer: &Value) -> CallError {
    CallError::Lost(format!("an answer without {what}: {answer}"))
}

/// A new lease.
pub(crate) async fn grant(gateway: &Gateway, ttl_seconds: u64) -> Result<u64, CallError> {
    let answer = gateway
        .call("/v3/lease/grant", &json!({"TTL": ttl_seconds}), WITHIN)
        .await?;
    number(&answer["ID"])
        .filter(|id| *id != 0)
        .ok_or_else(|| lacks("a lease", &answer))
}

/// Keeps `lease` alive; its time to live in seconds, 0 if it is gone.
pub(crate) async fn keep_alive(gateway: &Gateway, lease: u64) -> Result<u64, CallError> {
    let answer = gateway
        .call("/v3/lease/keepalive", &json!({"ID": lease}), WITHIN)
        .await?;
    let result = &answer["result"];
    if number(&result["ID"]) != Some(lease) {
        return Err(lacks("the lease", &answer));
    }
    number(&result["TTL"]).ok_or_else(|| lacks("a time to live", &answer))
}

/// Ends `lease`, and with it every key that hangs on it.
pub(crate) async fn revoke(gateway: &Gateway, lease: u64) -> Result<(), CallError> {
    gateway
        .call("/v3/lease/revoke", &json!({"ID": lease}), WITHIN)
        .await
        .map(drop)
}

fn key_of(lease: u64) -> String {
    format!("{PREFIX}{lease:x}")
}

/// Campaigns with `lease` for `name` until elected; the create revision of the key.
pub(crate) async fn campaign(gateway: &Gateway, lease: u64, name: &str) -> Result<u64, CallError> {
    let revision = enter(gateway, lease, name).await?;
    loop {
        let Some((key, seen)) = newest_before(gateway, revision).await? else {
            return Ok(revision);
        };
        wait_for_delete(gateway, &key, seen).await?;
    }
}

/// Puts the key unless it is there; its create revision.
async fn enter(gateway: &Gateway, lease: u64, name: &str) -> Result<u64, CallError> {
    let key = encode(&key_of(lease));
    let body = json!({
        "compare": [{"target": "CREATE", "key": key, "create_revision": "0"}],
        "success": [{"request_put": {"key": key, "value": encode(name), "lease": lease}}],
        "failure": [{"request_range": {"key": key}}],
    });
    let answer = gateway.call("/v3/kv/txn", &body, WITHIN).await?;
    let revision = match answer["succeeded"].as_bool() {
        Some(true) => &answer["header"]["revision"],
        _ => &answer["responses"][0]["response_range"]["kvs"][0]["create_revision"],
    };
    number(revision)
        .filter(|r| *r > 1)
        .ok_or_else(|| lacks("the key's revision", &answer))
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

/// Watches `key` from revision `from` on until it is deleted.
async fn wait_for_delete(gateway: &Gateway, key: &str, mut from: u64) -> Result<(), CallError> {
    loop {
        let body = json!({"create_request": {"key": encode(key), "start_revision": from}});
        if let Ok(mut answers) = gateway.open("/v3/watch", &body, WITHIN).await
            && watch(gateway, &mut answers, &mut from).await?
        {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// Whether the key was deleted; else the watch is lost, and is to be opened anew at `from`.
async fn watch(gateway: &Gateway, answers: &mut Answers, from: &mut u64) -> Result<bool, CallError> {
    loop {
        let answer = match timeout(LOOK, answers.next()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(_) => {
                gateway.leave(answers.endpoint);
                return Ok(false);
            }
            Err(_) if gateway.endpoint() == answers.endpoint => continue,
            Err(_) => return Ok(false),
        };
        let result = &answer["result"];
        if result["canceled"] == true {
            return Err(CallError::Lost(format!(
                "the watch was cancelled: {}",
                result["cancel_reason"]
            )));
        }
        let events = result["events"].as_array().map_or(&[][..], Vec::as_slice);
        if events.iter().any(|event| event["type"] == "DELETE") {
            return Ok(true);
        }
        if !events.is_empty()
            && let Some(revision) = number(&result["header"]["revision"])
        {
            *from = revision + 1;
        }
    }
}

/// Deletes the key of `lease` if it is still the one that was created at `revision`.
pub(crate) async fn resign(gateway: &Gateway, lease: u64, revision: u64) -> Result<(), CallError> {
    let key = encode(&key_of(lease));
    let body = json!({
        "compare": [{"target": "CREATE", "key": key, "create_revision": revision}],
        "success": [{"request_delete_range": {"key": key}}],
    });
    gateway.call("/v3/kv/txn", &body, WITHIN).await.map(drop)
}
