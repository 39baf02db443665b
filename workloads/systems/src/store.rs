//! A candidate's way to the storage: one answer to each request, or none in time.
use crate::contender::Resource;
use splitbrain_core::Name;
use splitbrain_node::protocols::storage::{StoreOp, StoreReply, StoreRequest, StoreResult};
use splitbrain_node::store_client::StoreClient;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long the storage's answer is awaited.
const WITHIN: Duration = Duration::from_secs(1);

type Waiting = Rc<RefCell<BTreeMap<u64, oneshot::Sender<StoreResult>>>>;

/// The storage as one candidate sees it. For one thread, in a `LocalSet`.
pub(crate) struct Store {
    client: StoreClient,
    waiting: Waiting,
    last_id: Cell<u64>,
}

impl Store {
    /// Connects to the storage at `addr` as the writer `name` when it is first asked.
    pub(crate) fn new(name: Name, addr: SocketAddr) -> Store {
        let (client, replies) = StoreClient::spawn(name, addr);
        let waiting = Waiting::default();
        tokio::task::spawn_local(hand_out(replies, waiting.clone()));
        Store {
            client,
            waiting,
            last_id: Cell::new(0),
        }
    }

    async fn put(&self, what: StoreOp) -> Option<StoreResult> {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.client.send(&StoreRequest { id, what });
        let answer = timeout(WITHIN, answer).await;
        self.waiting.borrow_mut().remove(&id);
        answer.ok()?.ok()
    }
}

impl Resource for Store {
    fn ask(&self, what: StoreOp) -> Pin<Box<dyn Future<Output = Option<StoreResult>> + '_>> {
        Box::pin(self.put(what))
    }
}

async fn hand_out(mut replies: mpsc::Receiver<StoreReply>, waiting: Waiting) {
    while let Some(StoreReply { id, result }) = replies.recv().await {
        // Nobody waits any more for what comes late.
        if let Some(sender) = waiting.borrow_mut().remove(&id) {
            let _ = sender.send(result);
        }
    }
}
