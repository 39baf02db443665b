//! `get`, `set` and `cas` on one key of etcd's, by the local member.
//!
//! A `get` is etcd's default, linearizable range; a `cas` is one transaction. Nothing is repeated: what has no answer is
//! `info`.
use crate::gateway::{CallError, Effect, Gateway, decode, encode, outcome};
use serde_json::{Value, json};
use splitbrain_core::{Answer, Outcome};
use std::time::Duration;

const KEY: &str = "splitbrain/register";
/// How long an answer is awaited.
const WITHIN: Duration = Duration::from_secs(2);

/// Reads the register.
pub(super) async fn get(gateway: &Gateway) -> Outcome {
    let asked = gateway.call("/v3/kv/range", &json!({"key": encode(KEY)}), WITHIN).await;
    match asked.and_then(|answer| held(&answer)) {
        Ok(value) => Outcome::Ok(Answer::Value(value)),
        Err(error) => outcome(&error, Effect::Read),
    }
}

fn held(answer: &Value) -> Result<Option<u64>, CallError> {
    let Some(found) = answer["kvs"].get(0) else {
        return Ok(None);
    };
    let value = decode(&found["value"]).and_then(|text| text.parse().ok());
    value
        .map(Some)
        .ok_or_else(|| CallError::Lost(format!("the register holds no number: {found}")))
}

/// Sets the register.
pub(super) async fn set(gateway: &Gateway, value: u64) -> Outcome {
    let body = json!({"key": encode(KEY), "value": encode(&value.to_string())});
    match gateway.call("/v3/kv/put", &body, WITHIN).await {
        Ok(_) => Outcome::Ok(Answer::Done),
        Err(error) => outcome(&error, Effect::Write),
    }
}

/// Sets the register to `to` if it holds `from`.
pub(super) async fn cas(gateway: &Gateway, from: Option<u64>, to: u64) -> Outcome {
    let key = encode(KEY);
    let compare = match from {
        Some(value) => json!({"target": "VALUE", "key": key, "value": encode(&value.to_string())}),
        None => json!({"target": "CREATE", "key": key, "create_revision": "0"}),
    };
    let body = json!({
        "compare": [compare],
        "success": [{"request_put": {"key": key, "value": encode(&to.to_string())}}],
    });
    match gateway.call("/v3/kv/txn", &body, WITHIN).await {
        Ok(answer) if answer["succeeded"] == true => Outcome::Ok(Answer::Done),
        Ok(_) => Outcome::Fail("mismatch".to_string()),
        Err(error) => outcome(&error, Effect::Write),
    }
}
