use super::*;
use crate::store_client::StoreClient;
use splitbrain_core::Token;
use splitbrain_protocols::storage::{StoreOp, StoreReply, StoreResult};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use tokio::time::timeout;

/// Generous: only a failing test waits this long.
const LONG: Duration = Duration::from_secs(30);

/// A storage in a thread of its own, and its standard streams.
struct Served {
    addr: SocketAddr,
    input: PipeWriter,
    output: BufReader<PipeReader>,
    thread: std::thread::JoinHandle<()>,
}

fn start(fenced: bool) -> Served {
    let (stdin, input) = std::io::pipe().unwrap();
    let (output, stdout) = std::io::pipe().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        crate::member::runtime().unwrap().block_on(async {
            serve(
                TcpListener::from_std(listener).unwrap(),
                fenced,
                Stdio::over(stdin, stdout),
            )
            .await;
        });
    });
    let output = BufReader::new(output);
    let mut served = Served {
        addr,
        input,
        output,
        thread,
    };
    assert_eq!(served.event(), Unasked::Ready);
    served
}

impl Served {
    fn event(&mut self) -> Unasked {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        match Line::parse(line.trim_end().as_bytes()).unwrap() {
            Line::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Closes standard input; the rest of what it said.
    fn end(self) -> Vec<String> {
        drop(self.input);
        self.thread.join().unwrap();
        self.output.lines().map(Result::unwrap).collect()
    }
}

fn write(id: u64, token: u64) -> StoreRequest {
    let what = StoreOp::Write {
        token: Token(token),
        base: 0,
        value: id,
    };
    StoreRequest { id, what }
}

fn name(n: usize) -> Name {
    Name::numbered("n", n)
}

/// Writes with tokens 2, 1, 2 as n1, n2, n1 and compares the three results.
async fn check(fenced: bool, expect: [StoreResult; 3]) {
    let mut served = start(fenced);
    let (one, mut to_one) = StoreClient::spawn(name(1), served.addr);
    let (two, mut to_two) = StoreClient::spawn(name(2), served.addr);
    let mut results = Vec::new();
    for (id, token) in [(1, 2), (2, 1), (3, 2)] {
        let (client, replies) = if id == 2 {
            (&two, &mut to_two)
        } else {
            (&one, &mut to_one)
        };
        client.send(&write(id, token));
        let reply = timeout(LONG, replies.recv()).await.unwrap().unwrap();
        assert_eq!(reply.id, id);
        // The event was said before the reply was sent: reading it cannot block.
        let by = match served.event() {
            Unasked::Stored { by, .. } | Unasked::Rejected { by, .. } => by,
            other => panic!("{other:?}"),
        };
        assert_eq!(by, name(if id == 2 { 2 } else { 1 }));
        results.push(reply.result);
    }
    assert_eq!(results, expect);
    assert!(served.end().is_empty());
}

#[tokio::test]
async fn fenced_rejects_a_stale_token() {
    let (one, two) = (StoreResult::Accepted { seq: 1 }, StoreResult::Accepted { seq: 2 });
    check(true, [one, StoreResult::Rejected { highest: Token(2) }, two]).await;
}

#[tokio::test]
async fn unfenced_takes_everything() {
    check(false, [1, 2, 3].map(|seq| StoreResult::Accepted { seq })).await;
}

#[tokio::test]
async fn no_reply_is_sent_before_its_event_is_said() {
    // Nobody reads the events, so the pipe fills up, at 64 KiB on Linux, and the replies must stop too.
    let served = start(true);
    let (client, mut replies) = StoreClient::spawn(name(1), served.addr);
    const WRITES: u64 = 3000;
    for id in 1..=WRITES {
        client.send(&write(id, 1));
    }
    let mut answered = 0;
    while let Ok(Some(reply)) = timeout(Duration::from_secs(1), replies.recv()).await {
        answered = reply.id;
    }
    assert!(answered > 0 && answered < WRITES, "{answered} replies");
    let said = std::thread::spawn(move || served.end());
    assert!(said.join().unwrap().len() as u64 >= answered);
}

/// Sends `bytes` on a connection of its own, until the storage closes it; the replies.
async fn raw(addr: SocketAddr, bytes: &[u8]) -> Vec<StoreReply> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = Vec::new();
    timeout(LONG, stream.read_to_end(&mut text)).await.unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn half_a_request_is_not_carried_out() {
    let served = start(true);
    let whole = json_line(&write(1, 1));
    let cut = &json_line(&write(2, 1))[..];
    let bytes = [&b"{\"hello\":\"n1\"}\n"[..], &whole, &cut[..cut.len() - 1]].concat();
    assert_eq!(raw(served.addr, &bytes).await.len(), 1);
    let said = served.end();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn nonsense_ends_its_connection_only() {
    let mut served = start(true);
    let request = json_line(&write(1, 1));
    let hello = &b"{\"hello\":\"n1\"}\n"[..];
    assert!(raw(served.addr, &request).await.is_empty(), "no hello, no write");
    assert!(raw(served.addr, b"{\"hello\":\"<b>\"}\n").await.is_empty());
    let after = [hello, b"nonsense\n", &request].concat();
    assert!(
        raw(served.addr, &after).await.is_empty(),
        "nothing after nonsense is carried out"
    );
    assert_eq!(raw(served.addr, &[hello, &request].concat()).await.len(), 1);
    assert!(matches!(served.event(), Unasked::Stored { seq: 1, .. }));
    assert!(served.end().is_empty());
}

#[tokio::test]
async fn a_request_meets_at_most_one_connection() {
    // A storage that takes the request and closes without an answer, as a killed one would.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, _replies) = StoreClient::spawn(name(1), listener.local_addr().unwrap());
    client.send(&write(1, 1));
    let (mut first, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
    let mut lines = read_lines(&mut first, 2).await;
    assert!(lines.pop().unwrap().contains("\"id\":1"));
    drop(first);
    // The next requests may still be lost with the first connection, so some more are sent until one arrives.
    let later = async {
        loop {
            client.send(&write(2, 1));
            tokio::select! {
                accepted = listener.accept() => {
                    if let [_, request] = &read_lines(&mut accepted.unwrap().0, 2).await[..] {
                        return request.clone();
                    }
                }
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    let request = timeout(LONG, later).await.unwrap();
    assert!(!request.contains("\"id\":1"), "{request}");
}

/// The first `n` lines, or fewer if the connection ends.
async fn read_lines(stream: &mut TcpStream, n: usize) -> Vec<String> {
    use tokio::io::AsyncBufReadExt;
    let (mut input, mut found) = (tokio::io::BufReader::new(stream).lines(), Vec::new());
    while found.len() < n {
        match input.next_line().await {
            Ok(Some(line)) => found.push(line),
            _ => break,
        }
    }
    found
}
