//! An agent that says what the test wants.
use super::super::streams::{Input, Output};
use super::*;
use crate::agent::proto::{MAX_DATA, WINDOW};
use std::io::{ErrorKind, Read, Write};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);

struct Rig {
    line: Arc<Line>,
    agent: UnixStream,
    endings: Receiver<Ending>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        let (stream, agent) = UnixStream::pair().unwrap();
        agent.set_read_timeout(Some(LONG)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let endings = Arc::new(Endings::of(1));
        let told = endings.take();
        let who = ("n1".parse().unwrap(), "host n1 (a test)".to_string());
        let line = Line::start(who, stream, dir.path().join("agent.log"), endings).unwrap();
        Rig {
            line,
            agent,
            endings: told,
            dir,
        }
    }

    fn says(&mut self, message: &FromHost) {
        proto::send(&mut self.agent, message).unwrap();
    }

    /// The next thing that the agent hears, but for beats.
    fn hears(&mut self) -> Frame<ToHost> {
        loop {
            match proto::receive(&mut self.agent).unwrap().expect("the line is open") {
                Frame::Message(ToHost::Beat { .. }) => {}
                other => return other,
            }
        }
    }

    /// A process, and the number of its first stream.
    fn process(&self) -> u32 {
        let log = std::fs::File::create(self.dir.path().join("toy.log")).unwrap();
        self.line.expect("toy", 1, true, log)
    }

    /// Returns once all that the agent said so far was taken.
    fn round(&mut self) {
        let answered = self.line.ask(Order::Pause);
        let Frame::Message(ToHost::Do { id, .. }) = self.hears() else {
            panic!("an order")
        };
        self.says(&FromHost::Done {
            id,
            result: Ok(Reply::default()),
        });
        answered.wait(LONG).unwrap();
    }

    fn output(&self, first: u32) -> Output {
        Output {
            line: self.line.clone(),
            number: first + 1,
            taken: 0,
        }
    }

    /// Waits until the host is lost; why.
    fn lost(&self) -> String {
        let mut state = self.line.lock();
        while state.lost.is_none() {
            let (next, timeout) = self.line.changed.wait_timeout(state, LONG).unwrap();
            assert!(!timeout.timed_out(), "the host is not lost");
            state = next;
        }
        state.lost.clone().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.line.cut();
    }
}

#[test]
fn an_order_ends_with_its_host() {
    let mut rig = Rig::new();
    let first = rig.line.ask(Order::Pause);
    let second = rig.line.ask(Order::Resume);
    let Frame::Message(ToHost::Do { id, .. }) = rig.hears() else {
        panic!("an order")
    };
    rig.says(&FromHost::Done {
        id,
        result: Err("it will not".into()),
    });
    assert_eq!(first.wait(LONG).unwrap_err(), "host n1 (a test): it will not");
    std::fs::write(rig.dir.path().join("agent.log"), "no more memory\n").unwrap();
    rig.agent.shutdown(Shutdown::Both).unwrap();
    let lost = "host n1 (a test) was lost: its agent ended: no more memory";
    assert_eq!(second.wait(LONG).unwrap_err(), lost);
    assert_eq!(rig.line.ask(Order::Pause).wait(LONG).unwrap_err(), lost);
    assert_eq!(rig.line.loss().as_deref(), Some(lost));
}

#[test]
fn what_is_no_agent_is_a_lost_host() {
    let mut rig = Rig::new();
    rig.agent.write_all(b"Welcome to Debian\n").unwrap();
    assert!(
        rig.lost().starts_with("what it says is not understood: "),
        "{}",
        rig.lost()
    );
}

#[test]
fn control_ends_the_line_without_a_loss() {
    let rig = Rig::new();
    rig.process();
    rig.line.cut();
    assert_eq!(rig.line.loss(), None);
    assert!(rig.endings.recv_timeout(LONG).is_err());
}

#[test]
fn what_is_read_is_granted_anew() {
    let mut rig = Rig::new();
    let first = rig.process();
    let mut output = rig.output(first);
    let part = vec![b'x'; MAX_DATA];
    for _ in 0..WINDOW as usize / MAX_DATA {
        proto::send_data(&mut rig.agent, first + 1, &part).unwrap();
    }
    let mut got = vec![0; WINDOW as usize];
    output.read_exact(&mut got).unwrap();
    let mut granted = 0;
    while granted < WINDOW {
        match rig.hears() {
            Frame::Message(ToHost::Credit { stream, bytes }) if stream == first + 1 => granted += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(granted, WINDOW);
    rig.says(&FromHost::Closed { stream: first + 1 });
    assert_eq!(output.read(&mut got).unwrap(), 0);
}

#[test]
fn a_host_that_sends_more_than_was_granted_is_lost() {
    let mut rig = Rig::new();
    let first = rig.process();
    let mut output = rig.output(first);
    let part = vec![b'x'; MAX_DATA];
    for _ in 0..=WINDOW as usize / MAX_DATA {
        // It may be cut off before the last was sent.
        let _ = proto::send_data(&mut rig.agent, first + 1, &part);
    }
    assert_eq!(
        rig.lost(),
        format!("it sent more of stream {} than it was granted", first + 1)
    );
    // What came before is still read, then it ends.
    let mut got = Vec::new();
    output.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), WINDOW as usize);
    let ending = rig.endings.recv_timeout(LONG).unwrap();
    assert!(
        ending.process == "toy" && ending.how.starts_with("the host was lost: "),
        "{ending:?}"
    );
}

#[test]
fn a_writer_waits_for_credit_and_not_for_the_dead() {
    let mut rig = Rig::new();
    let first = rig.process();
    let mut input = Input {
        line: rig.line.clone(),
        number: first,
    };
    let total = WINDOW as usize + 10;
    let writer = std::thread::spawn(move || {
        input.write_all(&vec![b'x'; total]).unwrap();
        // Nobody grants this.
        input.write_all(&vec![b'x'; WINDOW as usize]).unwrap_err().kind()
    });
    let mut came = 0;
    while came < WINDOW as usize {
        match rig.hears() {
            Frame::Data(stream, bytes) if stream == first => came += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came, WINDOW as usize);
    rig.says(&FromHost::Credit {
        stream: first,
        bytes: 20,
    });
    assert!(matches!(rig.hears(), Frame::Data(_, bytes) if bytes.len() == 10));
    assert!(matches!(rig.hears(), Frame::Data(_, bytes) if bytes.len() == 10));
    rig.line.killed();
    assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
    assert_eq!(rig.line.loss(), None);
}

#[test]
fn an_ending_comes_after_the_last_words() {
    let mut rig = Rig::new();
    let first = rig.process();
    rig.says(&FromHost::Exited {
        process: "toy".into(),
        life: 1,
        how: "exit status 3".into(),
    });
    proto::send_data(&mut rig.agent, first + 2, b"cannot go on\n").unwrap();
    rig.round();
    assert!(rig.endings.try_recv().is_err());
    rig.says(&FromHost::Closed { stream: first + 2 });
    let ending = rig.endings.recv_timeout(LONG).unwrap();
    assert_eq!((ending.how.as_str(), ending.life), ("exit status 3", 1));
    let log = std::fs::read_to_string(rig.dir.path().join("toy.log")).unwrap();
    assert_eq!(log, "cannot go on\n");
}

#[test]
fn beats_tell_the_time() {
    let mut rig = Rig::new();
    let Some(Frame::Message(ToHost::Beat { n })) = proto::receive(&mut rig.agent).unwrap() else {
        panic!("a beat comes first")
    };
    let raw = Nanos::secs(77);
    rig.says(&FromHost::Beat { n, raw });
    let after = raw::now();
    rig.round();
    let at = rig.line.lock().clock.at(raw).expect("it was told");
    assert!(at.least <= raw::signed(after) && at.most >= at.least, "{at:?} {after}");
}
