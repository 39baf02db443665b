//! What an agent says, in the order in which it came to believe it.
//!
//! An agent runs on one thread. Its tasks change the shared belief and speak of it in one go, without an await between;
//! [`Voice::say`] therefore never waits, and one task carries the lines to standard output in the order in which they
//! were said. Otherwise a full pipe could let an answer overtake the `elected` that it rests on.
use anyhow::bail;
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Outcome, Unasked};
use splitbrain_node::stdio::{Lines, Stdio};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

/// The mouth of an agent; clones share one order.
#[derive(Clone, Debug)]
pub(crate) struct Voice(UnboundedSender<Line>);

impl Voice {
    /// A voice, and where its lines come out.
    pub(crate) fn new() -> (Voice, UnboundedReceiver<Line>) {
        let (sender, receiver) = unbounded_channel();
        (Voice(sender), receiver)
    }

    /// Says `event`.
    pub(crate) fn event(&self, event: Unasked) {
        self.say(Line::Event(event));
    }

    /// Answers request `id`.
    pub(crate) fn answer(&self, id: u64, outcome: Outcome) {
        self.say(Line::Answer { id, outcome });
    }

    /// Nobody listens any more only when the agent is about to end: what is said then is lost on purpose.
    fn say(&self, line: Line) {
        let _ = self.0.send(line);
    }
}

/// Runs `agent` over the process's standard streams, on this thread, until control is gone or the agent fails. The agent
/// gets its requests and its voice.
///
/// # Errors
/// The agent's own, or control reads no more.
pub(crate) fn run_agent<A, F>(agent: A) -> anyhow::Result<()>
where
    A: FnOnce(Receiver<Request>, Voice) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async { over(Stdio::of_process(), agent).await });
    // What still hangs must not hold the process.
    runtime.shutdown_background();
    ended
}

/// As [`run_agent`], over any streams, in a runtime that is there already.
///
/// # Errors
/// As [`run_agent`].
pub(crate) async fn over<A, F>(stdio: Stdio, agent: A) -> anyhow::Result<()>
where
    A: FnOnce(Receiver<Request>, Voice) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let Stdio { requests, lines } = stdio;
    let (voice, said) = Voice::new();
    let both = async {
        tokio::select! {
            ended = agent(requests, voice) => ended,
            ended = carry(said, &lines) => ended,
        }
    };
    let ended = LocalSet::new().run_until(both).await;
    lines.drain().await;
    ended
}

async fn carry(mut said: UnboundedReceiver<Line>, lines: &Lines) -> anyhow::Result<()> {
    while let Some(line) = said.recv().await {
        if lines.say(&line).await.is_err() {
            bail!("write to standard output: control is gone");
        }
    }
    std::future::pending().await
}
