use super::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(10);

fn refused(code: i64) -> CallError {
    let message = "etcdserver: no".to_string();
    CallError::Refused { code, message }
}

/// `r` and `w`: whether a read and a write ended as fail (`F`) or info (`I`).
fn check(error: CallError, expect: &str) {
    let letter = |effect| match outcome(&error, effect) {
        Outcome::Fail(_) => 'F',
        Outcome::Info(_) => 'I',
        Outcome::Ok(_) => panic!("an error is never ok"),
    };
    let found: String = [letter(Effect::Read), letter(Effect::Write)].iter().collect();
    assert_eq!(found, expect, "{error:?}");
}

#[test]
fn an_error_fails_only_what_definitely_did_not_happen() {
    check(CallError::NotSent("refused".into()), "FF");
    check(CallError::Lost("no answer".into()), "II");
    for (code, expect) in [
        (1, "FI"),  // cancelled
        (2, "FI"),  // unknown
        (3, "FF"),  // invalid argument
        (4, "FI"),  // deadline exceeded
        (5, "FF"),  // not found: the lease is gone
        (6, "FI"),  // already exists
        (7, "FF"),  // permission denied
        (8, "FF"),  // resource exhausted: no space, too many requests
        (9, "FF"),  // failed precondition
        (10, "FI"), // aborted
        (11, "FF"), // out of range: compacted
        (12, "FF"), // unimplemented
        (13, "FI"), // internal
        (14, "FI"), // unavailable: request timed out, leader changed, no leader
        (15, "FI"), // data loss
        (16, "FF"), // unauthenticated
    ] {
        check(refused(code), expect);
    }
}

#[test]
fn a_lease_that_is_gone_is_known_by_its_code_or_by_its_words() {
    // As the lock API of 3.4 says it: with the code of an unknown error.
    let of_the_lock_api = json!({"error": "etcdserver: requested lease not found", "code": 2});
    let error = refusal(&of_the_lock_api).unwrap();
    assert!(error.is_lease_gone() && refused(5).is_lease_gone());
    check(error, "FF");
    // As later ones say it: the lock may be held by the time of the next call.
    let expired = json!({"error": "mutex: session is expired", "code": 2});
    let error = refusal(&expired).unwrap();
    assert!(!error.is_lease_gone() && !refused(14).is_lease_gone());
    check(error, "FI");
    assert!(!CallError::Lost("requested lease not found".into()).is_lease_gone());
}

#[tokio::test]
async fn a_call_that_waits_is_lost_with_its_server_and_not_before() {
    let gateway = Gateway::new(vec![server(Does::KeepSilent).await, nobody().await]).unwrap();
    let body = json!({});
    let call = gateway.call_and_wait("/v3/x", &body);
    let mut call = std::pin::pin!(call);
    let still = timeout(LOOK * 3, &mut call).await;
    assert!(still.is_err(), "{still:?}");
    // As a keepalive does that had no answer.
    gateway.leave(0);
    let lost = timeout(SOON, call).await.unwrap().unwrap_err();
    assert!(matches!(lost, CallError::Lost(_)), "{lost:?}");
    // A connection that could not be made moves on within the call, and it still waits.
    let gateway = Gateway::new(vec![nobody().await, server(Does::KeepSilent).await]).unwrap();
    assert!(
        timeout(LOOK * 3, gateway.call_and_wait("/v3/x", &json!({})))
            .await
            .is_err()
    );
    let gateway = Gateway::new(vec![server(Does::HangUp).await, nobody().await]).unwrap();
    let lost = gateway.call_and_wait("/v3/x", &json!({})).await.unwrap_err();
    assert!(matches!(lost, CallError::Lost(_)), "{lost:?}");
    assert_eq!(gateway.endpoint(), 1);
}

#[test]
fn both_forms_of_a_refusal_are_read() {
    let plain = json!({"error": "etcdserver: no", "message": "etcdserver: no", "code": 5});
    assert_eq!(refusal(&plain), Some(refused(5)));
    let streamed = json!({"error": {"grpc_code": 14, "http_code": 503, "message": "etcdserver: no"}});
    assert_eq!(refusal(&streamed), Some(refused(14)));
    assert_eq!(refusal(&json!({"result": {}})), None);
}

#[test]
fn numbers_and_bytes_read_as_the_gateway_writes_them() {
    let value = json!({"a": "4111120131614286853", "b": 7, "c": "x"});
    let found = ["a", "b", "c", "absent"].map(|name| number(&value[name]));
    assert_eq!(found, [Some(4_111_120_131_614_286_853), Some(7), None, Some(0)]);
    assert_eq!(decode(&json!(encode("a/b"))), Some("a/b".to_string()));
    assert_eq!(decode(&Value::Null), Some(String::new()));
    assert_eq!(decode(&json!("%")), None);
}

/// What a server does with a request that it read.
pub(crate) enum Does {
    Answer(&'static str),
    KeepSilent,
    HangUp,
}

/// A server that reads a request's beginning.
pub(crate) async fn server(does: Does) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
            match does {
                Does::Answer(body) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + body).as_bytes()).await.unwrap();
                }
                Does::KeepSilent => kept.push(stream),
                Does::HangUp => drop(stream),
            }
        }
    });
    format!("http://{address}")
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn what_was_never_sent_goes_to_the_next_endpoint_at_once() {
    let gateway = Gateway::new(vec![nobody().await, server(Does::Answer("{\"ID\":\"7\"}")).await]).unwrap();
    let answer = gateway.call("/v3/x", &json!({}), SOON).await.unwrap();
    assert_eq!(number(&answer["ID"]), Some(7));
    assert_eq!(gateway.current.get(), 1);
    let gateway = Gateway::new(vec![nobody().await, nobody().await]).unwrap();
    let error = gateway.call("/v3/x", &json!({}), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn what_may_have_happened_is_never_sent_twice() {
    for (does, within) in [(Does::KeepSilent, Duration::from_millis(200)), (Does::HangUp, SOON)] {
        let gateway = Gateway::new(vec![server(does).await, server(Does::Answer("{}")).await]).unwrap();
        let error = gateway.call("/v3/x", &json!({}), within).await.unwrap_err();
        assert!(matches!(error, CallError::Lost(_)), "{error:?}");
        // The next call does not go to the lost one again.
        gateway.call("/v3/x", &json!({}), SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_answer() {
    let gateway = Gateway::new(vec![server(Does::Answer("<html>")).await]).unwrap();
    let error = gateway.call("/v3/x", &json!({}), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::Lost(_)), "{error:?}");
}
