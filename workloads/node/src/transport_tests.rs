use super::*;
use tokio::io::AsyncWriteExt;

fn name(n: usize) -> Name {
    Name::numbered("n", n)
}

/// Generous: only a failing test waits this long.
const LONG: Duration = Duration::from_secs(30);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn pair() -> (Transport, Transport, BTreeMap<Name, SocketAddr>) {
    let ((first, a), (second, b)) = (listen().await, listen().await);
    let peers = BTreeMap::from([(name(1), a), (name(2), b)]);
    let one = Transport::start(name(1), first, &peers);
    let two = Transport::start(name(2), second, &peers);
    (one, two, peers)
}

/// Sends until something arrives: single messages may get lost.
async fn until_heard(from: &Transport, to: Name, at: &mut Transport, bytes: &[u8]) {
    let hear = async {
        loop {
            from.send(to, bytes);
            tokio::select! {
                found = at.recv() => if found.unwrap().1 == bytes { return },
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    timeout(LONG, hear).await.expect("a message arrives");
}

#[tokio::test]
async fn messages_arrive_whole_and_in_order_and_with_their_sender() {
    let (one, mut two, _) = pair().await;
    for n in 0..100_u32 {
        one.send(name(2), &vec![n as u8; n as usize * 1000]);
    }
    for n in 0..100_u32 {
        let (from, bytes) = timeout(LONG, two.recv()).await.unwrap().unwrap();
        assert_eq!((from, bytes), (name(1), vec![n as u8; n as usize * 1000]));
    }
}

#[tokio::test]
async fn a_restarted_peer_is_found_again() {
    let (one, mut two, peers) = pair().await;
    until_heard(&one, name(2), &mut two, b"a").await;
    drop(two);
    let listener = loop {
        match TcpListener::bind(peers[&name(2)]).await {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    let mut two = Transport::start(name(2), listener, &peers);
    until_heard(&one, name(2), &mut two, b"b").await;
}

/// Sends `bytes` as the whole beginning of a connection to a member, which must close it, and stay well.
async fn check_closed(bytes: &[u8]) {
    let (one, mut two, peers) = pair().await;
    let mut stream = TcpStream::connect(peers[&name(2)]).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(LONG, stream.read_to_end(&mut rest))
        .await
        .expect("the member closes it");
    assert!(rest.is_empty(), "{closed:?}");
    until_heard(&one, name(2), &mut two, b"well").await;
}

fn framed(payloads: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        frame::encode(payload.as_bytes(), &mut bytes);
    }
    bytes
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nothing_else() {
    check_closed(b"GET / HTTP/1.1\r\nHost: n2\r\n\r\n").await;
    check_closed(&framed(&["splitbrain/1 n3 n2"])).await;
    check_closed(&framed(&["splitbrain/1 n1 n1"])).await;
    let mut huge = framed(&["splitbrain/1 n1 n2"]);
    huge.extend([0xff; 8]);
    check_closed(&huge).await;
    let mut hurt = framed(&["splitbrain/1 n1 n2", "vote"]);
    *hurt.last_mut().unwrap() ^= 1;
    check_closed(&hurt).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    check_closed(b"").await;
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_ends_the_older() {
    let (_one, mut two, peers) = pair().await;
    let hello = framed(&["splitbrain/1 n1 n2", "old"]);
    let mut old = TcpStream::connect(peers[&name(2)]).await.unwrap();
    old.write_all(&hello).await.unwrap();
    assert_eq!(timeout(LONG, two.recv()).await.unwrap().unwrap().1, b"old");
    let mut new = TcpStream::connect(peers[&name(2)]).await.unwrap();
    new.write_all(&framed(&["splitbrain/1 n1 n2", "new"])).await.unwrap();
    assert_eq!(timeout(LONG, two.recv()).await.unwrap().unwrap().1, b"new");
    assert_eq!(timeout(LONG, old.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_peer_that_is_not_there_costs_no_waiting_and_hears_no_old_news() {
    let (listener, addr) = listen().await;
    let (own, own_addr) = listen().await;
    drop(listener);
    let peers = BTreeMap::from([(name(1), own_addr), (name(2), addr)]);
    let one = Transport::start(name(1), own, &peers);
    one.send(name(2), b"old");
    sleep(crate::outbox::STALE * 2).await;
    let mut two = Transport::start(name(2), TcpListener::bind(addr).await.unwrap(), &peers);
    let hear = async {
        loop {
            one.send(name(2), b"new");
            tokio::select! {
                found = two.recv() => return found.unwrap().1,
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    assert_eq!(timeout(LONG, hear).await.unwrap(), b"new");
}
