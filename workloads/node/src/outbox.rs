//! What waits to be sent to one receiver: bounded, and never old.
//!
//! A message is put in without waiting and may get lost, as on a network. When the box is full the oldest is dropped,
//! since to an election the newest message is worth most. What has waited for [`STALE`] is dropped too: after a long cut
//! the receiver should hear of the present, not be flooded with the past.
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a message may wait.
pub(crate) const STALE: Duration = Duration::from_millis(500);
/// How many may wait.
const MESSAGES: usize = 4096;
/// How many bytes may wait.
const BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<(Instant, Vec<u8>)> {
        let (put, message) = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some((put, message))
    }

    fn drop_stale(&mut self) {
        while self.messages.front().is_some_and(|(put, _)| put.elapsed() >= STALE) {
            self.pop();
        }
    }
}

impl Outbox {
    /// Never waits.
    pub(crate) fn put(&self, message: Vec<u8>) {
        let mut queue = self.lock();
        queue.bytes += message.len();
        queue.messages.push_back((Instant::now(), message));
        while queue.messages.len() > MESSAGES || queue.bytes > BYTES {
            queue.pop();
        }
        drop(queue);
        self.bell.notify_one();
    }

    /// Waits until a message is there that is not stale, and leaves it there.
    pub(crate) async fn wait(&self) {
        loop {
            {
                let mut queue = self.lock();
                queue.drop_stale();
                if !queue.messages.is_empty() {
                    return;
                }
            }
            self.bell.notified().await;
        }
    }

    /// Takes the oldest message that is not stale. Whoever takes it is the only one who ever can.
    pub(crate) async fn take(&self) -> Vec<u8> {
        loop {
            self.wait().await;
            if let Some((_, message)) = self.lock().pop() {
                return message;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_box_drops_the_oldest() {
        let outbox = Outbox::default();
        for n in 0..MESSAGES + 2 {
            outbox.put(n.to_le_bytes().to_vec());
        }
        assert_eq!(outbox.take().await, 2_usize.to_le_bytes());
    }

    #[tokio::test]
    async fn too_many_bytes_drop_the_oldest() {
        let outbox = Outbox::default();
        outbox.put(vec![1; BYTES]);
        outbox.put(vec![2]);
        assert_eq!(outbox.take().await, [2]);
        assert_eq!(outbox.lock().bytes, 0);
    }

    #[tokio::test]
    async fn the_stale_are_dropped_and_the_fresh_are_not() {
        let outbox = Outbox::default();
        outbox.put(vec![1]);
        let long_ago = Instant::now()
            .checked_sub(STALE)
            .expect("the machine has been up that long");
        outbox.lock().messages[0].0 = long_ago;
        outbox.put(vec![2]);
        assert_eq!(outbox.take().await, [2]);
    }
}
