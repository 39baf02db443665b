//! A storage on loopback, and what it tells of the writes that it took.
use splitbrain_core::Unasked;
use splitbrain_core::wire::Line;
use splitbrain_node::stdio::Stdio;
use splitbrain_node::storage::serve;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long it may take to answer; it is on this machine.
const WITHIN: Duration = Duration::from_secs(5);

/// A fenced storage. It ends with this.
pub(super) struct Loopback {
    /// Where it listens.
    pub addr: SocketAddr,
    events: Receiver<Unasked>,
    _input: PipeWriter,
}

impl Loopback {
    pub fn start() -> io::Result<Loopback> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        thread("storage").spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is in a runtime");
                serve(listener, true, Stdio::over(stdin, stdout)).await;
            });
        })?;
        let (sender, events) = channel();
        thread("storage's events").spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(Line::Event(event)) = Line::parse(line.as_bytes())
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Loopback {
            addr,
            events,
            _input: input,
        })
    }

    /// The first event of `value`: it was told before the write was answered, and is on its way.
    pub fn fate_of(&self, value: u64) -> Option<Unasked> {
        let of = |event: &Unasked| matches!(event, Unasked::Stored { value: v, .. } | Unasked::Rejected { value: v, .. } if *v == value);
        let deadline = Instant::now() + WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if of(&event) => return Some(event),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Another leader looks under `token`: lower ones are refused from then on.
    pub fn raise_fence(&self, token: u64) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(WITHIN))?;
        let request = format!("{{\"hello\":\"other\"}}\n{{\"id\":1,\"store\":\"last\",\"token\":{token}}}\n");
        stream.write_all(request.as_bytes())?;
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply)?;
        if reply.is_empty() {
            return Err(io::Error::other("the storage hung up"));
        }
        Ok(())
    }
}
