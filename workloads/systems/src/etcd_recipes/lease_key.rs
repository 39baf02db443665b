//! One key with a lease: who creates it leads, and the others watch it until it is deleted.
//!
//! The oldest way to elect a leader on a store that compares (Chubby's clients do it, and most that is built on etcd
//! without its recipes). One transaction: if the key's create revision is 0, put it with the lease. The revision of the
//! store after a put that succeeded is the key's create revision: the transaction's answer binds the two. All who lost
//! race again at once when the key is gone, and no order is kept among them.
//!
//! A transaction that had no answer may have had its effect. The next one finds the key there, on the own lease, and
//! tells its create revision: that is a win learnt late, and no watch of one's own key.
use super::calls::{self, Held};
use crate::gateway::{CallError, Gateway};

const KEY: &str = "splitbrain/leader";

/// Tries with `lease` for `name` until the key is its own.
pub(super) async fn campaign(gateway: &Gateway, lease: u64, name: &str) -> Result<Held, CallError> {
    loop {
        let found = calls::create(gateway, KEY, name, lease).await?;
        if found.lease == lease {
            return Ok(Held {
                key: KEY.to_string(),
                revision: found.revision,
            });
        }
        calls::wait_for_delete(gateway, KEY, found.seen).await?;
    }
}
