//! The way to one redis server: one connection, one answer to each command or an error that says what is known.
//!
//! A command is sent once. The client library is used at the level at which it neither repeats a command nor opens a
//! connection again by itself (`MultiplexedConnection`); a connection on which an answer did not come in time is given up,
//! as common clients do, and the next command opens another.
//!
//! Caveat: what was written to a connection that was given up may still reach the server, later than what was sent on the
//! next one. The recipes live with it: every lock request has a value of its own.
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, Value};
use splitbrain_core::Outcome;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a command ended that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It was never sent.
    #[error("{0}")]
    Unsent(String),
    /// The server refused it by an error reply.
    #[error("{0}")]
    Refused(String),
    /// It was sent, and nobody knows.
    #[error("{0}")]
    Lost(String),
}

impl CallError {
    /// Of a command that was sent. An error reply is the answer of a server that did not carry it out: each of our scripts
    /// writes once, with its last call.
    fn of(error: &RedisError) -> CallError {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => CallError::Refused(error.to_string()),
            _ => CallError::Lost(error.to_string()),
        }
    }

    /// What became of the operation that the command was.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            CallError::Unsent(why) | CallError::Refused(why) => Outcome::Fail(why.clone()),
            CallError::Lost(why) => Outcome::Info(why.clone()),
        }
    }
}

/// One server. For one thread.
pub(crate) struct Connection {
    address: SocketAddr,
    within: Duration,
    open: RefCell<Option<MultiplexedConnection>>,
}

impl Connection {
    /// The server at `address`; connecting and answering together may take `within`.
    pub(crate) fn new(address: SocketAddr, within: Duration) -> Connection {
        Connection {
            address,
            within,
            open: RefCell::default(),
        }
    }

    /// Sends `command` once.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, CallError> {
        let deadline = Instant::now() + self.within;
        let known = self.open.borrow().clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => self.connect(deadline).await?,
        };
        let answer = match timeout_at(deadline, connection.send_packed_command(command)).await {
            Ok(Ok(value)) => value.extract_error().map_err(|error| CallError::of(&error)),
            Ok(Err(error)) => Err(CallError::of(&error)),
            Err(_) => Err(CallError::Lost(format!("{} did not answer in time", self.address))),
        };
        if let Err(CallError::Lost(_)) = &answer {
            self.open.take();
        }
        answer
    }

    async fn connect(&self, deadline: Instant) -> Result<MultiplexedConnection, CallError> {
        let unsent = |why: String| CallError::Unsent(format!("no connection to {}: {why}", self.address));
        let to = format!("redis://{}", self.address);
        let client = redis::Client::open(to).map_err(|error| unsent(error.to_string()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match timeout_at(deadline, connecting).await {
            Ok(Ok(connection)) => {
                *self.open.borrow_mut() = Some(connection.clone());
                Ok(connection)
            }
            Ok(Err(error)) => Err(unsent(error.to_string())),
            Err(_) => Err(unsent("timed out".to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn what_may_have_happened_is_never_a_failure() {
        let table: [(RedisError, bool); 8] = [
            ((redis::ServerErrorKind::ReadOnly.into(), "x").into(), true),
            ((redis::ServerErrorKind::BusyLoading.into(), "x").into(), true),
            ((ErrorKind::Extension, "MISCONF").into(), true),
            ((ErrorKind::Parse, "x").into(), false),
            ((ErrorKind::UnexpectedReturnType, "x").into(), false),
            ((ErrorKind::Client, "x").into(), false),
            (io::Error::from(io::ErrorKind::ConnectionReset).into(), false),
            (io::Error::from(io::ErrorKind::TimedOut).into(), false),
        ];
        for (error, fails) in table {
            let outcome = CallError::of(&error).outcome();
            assert_eq!(matches!(outcome, Outcome::Fail(_)), fails, "{error:?}: {outcome:?}");
        }
        assert!(matches!(CallError::Unsent("x".into()).outcome(), Outcome::Fail(_)));
    }

    /// What a server that answers each connection's bytes with one of `answers` makes of one command each.
    async fn asked(answers: &'static [&'static str]) -> (Vec<Result<Value, CallError>>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = Connection::new(listener.local_addr().unwrap(), Duration::from_millis(300));
        let connections = Rc::new(std::cell::Cell::new(0));
        let count = connections.clone();
        let serve = async move {
            let mut answers = answers.iter();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                    // The library introduces itself first; that is no command of ours.
                    let text = String::from_utf8_lossy(&buffer[..n]).to_uppercase();
                    for _ in 0..text.matches("SETINFO").count() {
                        socket.write_all(b"+OK\r\n").await.unwrap();
                    }
                    if text.contains("PING") {
                        match *answers.next().unwrap() {
                            "close" => break,
                            answer => socket.write_all(answer.as_bytes()).await.unwrap(),
                        }
                    }
                }
            }
        };
        let ask = async {
            let mut all = Vec::new();
            for _ in answers {
                all.push(connection.ask(&redis::cmd("PING")).await);
            }
            all
        };
        let all = tokio::select! {
            all = ask => all,
            never = serve => never,
        };
        (all, connections.get())
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn a_connection_without_an_answer_is_given_up_and_nothing_is_repeated() {
        let (all, connections) = block_on(asked(&[
            "+OK\r\n",
            "-LOADING wait\r\n",
            "",
            "+OK\r\n",
            "close",
            "+OK\r\n",
        ]));
        let [fine, refused, silent, again, closed, last] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(
            (fine, again, last),
            (&Ok(Value::Okay), &Ok(Value::Okay), &Ok(Value::Okay))
        );
        assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
        assert!(matches!(silent, Err(CallError::Lost(_))), "{silent:?}");
        assert!(matches!(closed, Err(CallError::Lost(_))), "{closed:?}");
        // The silent one and the closed one were replaced; the one that refused was not.
        assert_eq!(connections, 3);
    }

    #[test]
    fn what_nobody_listens_for_was_never_sent() {
        let error = block_on(async {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let connection = Connection::new(free, Duration::from_secs(5));
            connection.ask(&redis::cmd("PING")).await.unwrap_err()
        });
        assert!(matches!(error, CallError::Unsent(_)), "{error:?}");
    }
}
