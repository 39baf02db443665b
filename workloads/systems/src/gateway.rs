//! The way to etcd: its JSON gateway over HTTP/1.1.
//!
//! etcd serves its gRPC API a second time as JSON under `/v3`. A client of that needs no protoc at build time, and says
//! the same words: keys and values in base64, 64-bit numbers as text, fields that are zero left out.
//!
//! **Several endpoints.** A call goes to the endpoint that answered last. Where no connection could be made the call was
//! never sent, and the next endpoint is tried within the same call. Where a call was sent and no answer came, nobody
//! knows what it did: it ends in [`CallError::Lost`], and only the *next* call goes to the next endpoint. This is what
//! the official client does: it repeats nothing by itself that may have had an effect.
//!
//! **Errors.** [`outcome`] is the one table from an error to `fail` (it definitely did not happen) or `info` (nobody
//! knows), by what the call could have changed.
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use splitbrain_core::Outcome;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection may take to be made. Networks under test have round trips of milliseconds.
const CONNECT: Duration = Duration::from_millis(500);
/// Between two looks at whether an endpoint that keeps a call waiting is still the one in use.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No endpoint could be connected to: it was never sent.
    #[error("no connection: {0}")]
    NotSent(String),
    /// A server answered with an error.
    #[error("{message} (code {code})")]
    Refused {
        /// gRPC's status code.
        code: i64,
        /// In the server's words.
        message: String,
    },
    /// It was sent, and no answer came, or none that makes sense.
    #[error("{0}")]
    Lost(String),
}

impl CallError {
    fn lost(what: impl std::fmt::Display) -> CallError {
        CallError::Lost(what.to_string())
    }

    /// Whether the server said that there is no such lease: no repetition brings it back. The lock API wraps the words
    /// of the store into an error without their code.
    pub fn is_lease_gone(&self) -> bool {
        matches!(self, CallError::Refused { code, message } if *code == NOT_FOUND || message.ends_with(LEASE_GONE))
    }

    /// Whether another endpoint may do better: this one is gone, cut off or without a leader.
    fn is_of_endpoint(&self) -> bool {
        match self {
            CallError::NotSent(_) | CallError::Lost(_) => true,
            CallError::Refused { code, .. } => *code == UNAVAILABLE,
        }
    }
}

const NOT_FOUND: i64 = 5;
const UNAVAILABLE: i64 = 14;
const LEASE_GONE: &str = "requested lease not found";

/// What a call could have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Read,
    /// The store.
    Write,
}

/// The table from an error to how the operation ended.
///
/// A refusal by rule (a malformed request, a lease that is gone, a store that is full) is decided before or instead of
/// the write; a lease that is gone is known by its words too. All else that a server says, `Unavailable` above all (it covers `request timed out` and `leader changed`,
/// where the proposal may still be committed), leaves a write unknown. A read that a server refused had no effect.
pub fn outcome(error: &CallError, effect: Effect) -> Outcome {
    // invalid argument, not found, permission denied, resource exhausted, failed precondition, out of range,
    // unimplemented, unauthenticated
    const BY_RULE: [i64; 8] = [3, 5, 7, 8, 9, 11, 12, 16];
    let reason = error.to_string();
    match error {
        CallError::NotSent(_) => Outcome::Fail(reason),
        CallError::Refused { .. } if effect == Effect::Read => Outcome::Fail(reason),
        CallError::Refused { code, .. } if BY_RULE.contains(code) || error.is_lease_gone() => Outcome::Fail(reason),
        CallError::Refused { .. } | CallError::Lost(_) => Outcome::Info(reason),
    }
}

/// A client of one cluster. For one thread.
#[derive(Debug)]
pub struct Gateway {
    http: reqwest::Client,
    endpoints: Vec<String>,
    current: Cell<usize>,
}

impl Gateway {
    /// A client of `endpoints` (`http://10.0.0.1:2379`), at least one; it connects when it is first used.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(endpoints: Vec<String>) -> anyhow::Result<Gateway> {
        anyhow::ensure!(!endpoints.is_empty(), "an etcd client needs at least one endpoint");
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Gateway {
            http,
            endpoints,
            current: Cell::new(0),
        })
    }

    /// Starts with another endpoint than the first, so that clients do not all ask the same server.
    pub fn starting_at(self, endpoint: usize) -> Gateway {
        self.current.set(endpoint % self.endpoints.len());
        self
    }

    /// One call, answered within `within`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, path: &str, body: &Value, within: Duration) -> Result<Value, CallError> {
        let at = Cell::new(self.current.get());
        let result = match timeout(within, self.read_answer(path, body, &at)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::lost(format!("no answer within {within:?}"))),
        };
        self.settle(result, at.get())
    }

    /// One call that the server answers when its time has come, however long that takes. It is lost when other calls
    /// found its endpoint dead and moved on to the next: over gRPC they would share its connection and end with it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_and_wait(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let at = Cell::new(self.current.get());
        let mut answer = std::pin::pin!(self.read_answer(path, body, &at));
        loop {
            match timeout(LOOK, &mut answer).await {
                Ok(result) => return self.settle(result, at.get()),
                Err(_) if self.current.get() == at.get() => {}
                Err(_) => return Err(CallError::lost("its server was found dead while it waited")),
            }
        }
    }

    /// Leaves the endpoint `at` if `result` says that another may do better.
    fn settle(&self, result: Result<Value, CallError>, at: usize) -> Result<Value, CallError> {
        if result.as_ref().is_err_and(CallError::is_of_endpoint) {
            self.leave(at);
        }
        result
    }

    async fn read_answer(&self, path: &str, body: &Value, at: &Cell<usize>) -> Result<Value, CallError> {
        let response = self.send(path, body, at).await?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(describe_lost)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|_| CallError::lost(format!("status {status}, and no JSON: {:?}", start_of(&bytes))))?;
        refusal(&value).map_or(Ok(()), Err)?;
        if !status.is_success() {
            return Err(CallError::lost(format!("status {status}")));
        }
        Ok(value)
    }

    /// One call whose answer is a stream of values. Once it is open it is as long as the server lets it be.
    ///
    /// # Errors
    /// See [`CallError`]; within `within` there was no answer's beginning.
    pub async fn open(&self, path: &str, body: &Value, within: Duration) -> Result<Answers, CallError> {
        let at = Cell::new(self.current.get());
        let opened = match timeout(within, self.send(path, body, &at)).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(Answers {
                endpoint: at.get(),
                response,
                begun: Vec::new(),
            }),
            Ok(Ok(response)) => Err(CallError::lost(format!("status {}", response.status()))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::lost(format!("no answer within {within:?}"))),
        };
        if opened.is_err() {
            self.leave(at.get());
        }
        opened
    }

    /// Which endpoint the next call goes to first.
    pub fn endpoint(&self) -> usize {
        self.current.get()
    }

    /// Lets the next call go to the endpoint after `at`, unless another call left `at` already.
    pub fn leave(&self, at: usize) {
        if self.current.get() == at {
            self.current.set((at + 1) % self.endpoints.len());
        }
    }

    /// Sends to the first endpoint, from the current one on, that can be connected to; its answer. `at` tells which one
    /// is being asked.
    async fn send(&self, path: &str, body: &Value, at: &Cell<usize>) -> Result<reqwest::Response, CallError> {
        let mut last = String::new();
        for _ in 0..self.endpoints.len() {
            at.set(self.current.get());
            let url = format!("{}{path}", self.endpoints[at.get()]);
            match self.http.post(url).json(body).send().await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() => last = describe(&error),
                Err(error) => return Err(describe_lost(error)),
            }
            self.leave(at.get());
        }
        Err(CallError::NotSent(last))
    }
}

/// The values of a streamed answer.
#[derive(Debug)]
pub struct Answers {
    /// Who sends them.
    pub endpoint: usize,
    response: reqwest::Response,
    begun: Vec<u8>,
}

impl Answers {
    /// The next value; `None` once the server ended the stream. Loses nothing when it is dropped and called again.
    ///
    /// # Errors
    /// The server refused or the connection was lost.
    pub async fn next(&mut self) -> Result<Option<Value>, CallError> {
        loop {
            if let Some(end) = self.begun.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                let value: Value = serde_json::from_slice(&line)
                    .map_err(|_| CallError::lost(format!("no JSON: {:?}", start_of(&line))))?;
                refusal(&value).map_or(Ok(()), Err)?;
                return Ok(Some(value));
            }
            match self.response.chunk().await.map_err(describe_lost)? {
                Some(chunk) => self.begun.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The error that an answer holds: `{"error":"text","code":5}`, and within a stream `{"error":{"grpc_code":5,...}}`.
fn refusal(value: &Value) -> Option<CallError> {
    let error = value.get("error")?;
    let (code, message) = match error {
        Value::Object(_) => (&error["grpc_code"], &error["message"]),
        text => (&value["code"], text),
    };
    Some(CallError::Refused {
        // 2 is gRPC's "unknown", which proves nothing.
        code: code.as_i64().unwrap_or(2),
        message: message.as_str().unwrap_or("no message").to_string(),
    })
}

/// An HTTP error with its causes, without the address, which the report would repeat a thousand times.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn describe_lost(error: reqwest::Error) -> CallError {
    CallError::Lost(describe(&error))
}

fn start_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(80).collect()
}

/// A 64-bit number as the gateway writes it: text, a bare number, or left out where it is zero.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Null => Some(0),
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// Bytes as the gateway writes them.
pub fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Bytes from the gateway, where they are text; left out where they are empty.
pub fn decode(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        other => String::from_utf8(BASE64_STANDARD.decode(other.as_str()?).ok()?).ok(),
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
pub(crate) mod tests;
