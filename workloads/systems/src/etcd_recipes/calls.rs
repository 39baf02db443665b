//! The calls of which the recipes are made: leases, keys that hang on them, and a wait for the end of one.
//!
//! As in the Go client, what may have had an effect is not repeated here, and a watch goes on at another endpoint where
//! it left off. HTTP/1.1 has no pings as gRPC has; that a watched endpoint is dead shows in the keepalives that go the
//! same way, so a watch is opened anew when they have moved on to another endpoint.
use crate::gateway::{Answers, CallError, Gateway, LOOK, encode, number};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a call's answer is awaited.
pub(super) const WITHIN: Duration = Duration::from_secs(2);
/// Before a watch is opened anew.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A leader's own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub key: String,
    /// Its create revision, which is the epoch and the fencing token.
    pub revision: u64,
}

/// A key as it is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// At which it was created.
    pub revision: u64,
    /// On which it hangs.
    pub lease: u64,
    /// The revision of the store at which it was there.
    pub seen: u64,
}

/// A call's answer lacks what it must have.
pub(super) fn lacks(what: &str, answer: &Value) -> CallError {
    CallError::Lost(format!("an answer without {what}: {answer}"))
}

/// A new lease.
pub(super) async fn grant(gateway: &Gateway, ttl_seconds: u64) -> Result<u64, CallError> {
    let answer = gateway
        .call("/v3/lease/grant", &json!({"TTL": ttl_seconds}), WITHIN)
        .await?;
    number(&answer["ID"])
        .filter(|id| *id != 0)
        .ok_or_else(|| lacks("a lease", &answer))
}

/// Keeps `lease` alive; its time to live in seconds, 0 if it is gone.
pub(super) async fn keep_alive(gateway: &Gateway, lease: u64) -> Result<u64, CallError> {
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
pub(super) async fn revoke(gateway: &Gateway, lease: u64) -> Result<(), CallError> {
    gateway
        .call("/v3/lease/revoke", &json!({"ID": lease}), WITHIN)
        .await
        .map(drop)
}

/// Puts `key` with `value` on `lease` unless it is there; the key as it is then, whosever it may be.
pub(super) async fn create(gateway: &Gateway, key: &str, value: &str, lease: u64) -> Result<Found, CallError> {
    let key = encode(key);
    let body = json!({
        "compare": [{"target": "CREATE", "key": key, "create_revision": "0"}],
        "success": [{"request_put": {"key": key, "value": encode(value), "lease": lease}}],
        "failure": [{"request_range": {"key": key}}],
    });
    let answer = gateway.call("/v3/kv/txn", &body, WITHIN).await?;
    let seen = number(&answer["header"]["revision"]);
    let found = if answer["succeeded"] == true {
        seen.map(|revision| Found {
            revision,
            lease,
            seen: revision,
        })
    } else {
        found(&answer["responses"][0]["response_range"]["kvs"][0], seen)
    };
    found
        .filter(|found| found.revision > 1)
        .ok_or_else(|| lacks("the key's revision", &answer))
}

/// The key as it is, if it is there.
pub(super) async fn look_up(gateway: &Gateway, key: &str) -> Result<Option<Found>, CallError> {
    let answer = gateway
        .call("/v3/kv/range", &json!({"key": encode(key)}), WITHIN)
        .await?;
    let Some(kv) = answer["kvs"].get(0) else {
        return Ok(None);
    };
    let seen = number(&answer["header"]["revision"]);
    let found = found(kv, seen).ok_or_else(|| lacks("the key's revision", &answer))?;
    Ok(Some(found))
}

fn found(kv: &Value, seen: Option<u64>) -> Option<Found> {
    Some(Found {
        revision: number(kv.get("create_revision")?)?,
        lease: number(&kv["lease"])?,
        seen: seen?,
    })
}

/// Deletes the key if it is still the one that was created at its revision.
pub(super) async fn delete(gateway: &Gateway, held: &Held) -> Result<(), CallError> {
    let key = encode(&held.key);
    let body = json!({
        "compare": [{"target": "CREATE", "key": key, "create_revision": held.revision}],
        "success": [{"request_delete_range": {"key": key}}],
    });
    gateway.call("/v3/kv/txn", &body, WITHIN).await.map(drop)
}

/// Watches `key` from revision `from` on until it is deleted.
pub(super) async fn wait_for_delete(gateway: &Gateway, key: &str, mut from: u64) -> Result<(), CallError> {
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
