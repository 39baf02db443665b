//! The recipe by which all race to create one node (Junqueira and Reed, "ZooKeeper", chapter 3, "Getting mastership"; the
//! controllers of Kafka were elected so).
//!
//! Who creates `/splitbrain-leader`, an ephemeral node, leads. Who finds it there watches it until it is gone, and tries
//! again. **Did the create happen?** If the connection is lost before its answer comes, the candidate looks whose the node is:
//! an ephemeral node carries its owner's session.
//!
//! **Epoch and token** are the node's `czxid`, the number of the transaction that created it: unique, and rising with every
//! change of the tree (Programmer's Guide, "Time in ZooKeeper").
//!
//! Caveat: who learns that it was his own node may learn it late, when his session is over.
use crate::zookeeper::candidate::{Node, recover};
use zookeeper_client::{Acls, Client, CreateMode, Error, Stat};

const LEADER: &str = "/splitbrain-leader";

/// Takes part until elected; the own node.
pub(super) async fn campaign(client: &Client, host: &str) -> Result<Node, Error> {
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    loop {
        match client.create(LEADER, host.as_bytes(), &options).await {
            Ok((stat, _)) => return node(stat),
            Err(Error::NodeExists) => {}
            Err(error) => recover("create the leader's node", error).await?,
        }
        match client.check_and_watch_stat(LEADER).await {
            Ok((Some(stat), _)) if stat.ephemeral_owner == client.session_id().0 => return node(stat),
            Ok((Some(_), watcher)) => drop(watcher.changed().await),
            Ok((None, _)) => {}
            Err(error) => recover("look at the leader's node", error).await?,
        }
    }
}

fn node(stat: Stat) -> Result<Node, Error> {
    match u64::try_from(stat.czxid) {
        Ok(number) if number > 0 => Ok(Node {
            path: LEADER.to_string(),
            number,
        }),
        _ => Err(Error::UnexpectedError(format!("a node with czxid {}", stat.czxid))),
    }
}
