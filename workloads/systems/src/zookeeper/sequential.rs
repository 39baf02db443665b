//! The recipe of ZooKeeper's documentation ("Recipes and Solutions", "Leader Election").
//!
//! A candidate makes a node `ELECTION/GUID-n_`, ephemeral and sequential: the server appends a number. Whose node has the
//! smallest leads; every other watches the node right before his own, and only that one, until it is deleted, and then looks
//! again. So a leader's end wakes one candidate and not a herd.
//!
//! **Did the create happen?** If the connection is lost before its answer comes, the candidate lists the children and looks
//! for its GUID (the note on recoverable errors at "Locks"). The GUID is the session's id, which is unique in an ensemble, and
//! the number of the campaign.
//!
//! **Epoch and token** are the number, plus one, since none is 0. The parent counts them: a number belongs to one node for
//! as long as the parent is not made anew, and numbers rise up to 2^31, when the count turns negative (documentation,
//! "Sequence Nodes"). Nobody deletes the parent here, and no run is that long.
//!
//! Caveats of the recipe itself, which is followed to the letter. A list may come from a server that lags behind: a node that
//! was made and whose answer was lost may be missing in it, and is made again; the candidate then waits for its own elder
//! node, until its session ends. And a candidate that finds itself first may be so late that its session is over.
//! "Watches" here is `getData` with a watch, which leaves no watch behind where the node is gone already.
use crate::zookeeper::candidate::{Node, make_folder, recover};
use zookeeper_client::{Acls, Client, CreateMode, Error};

const ELECTION: &str = "/splitbrain-election";

/// Takes part until elected; the own node.
pub(super) async fn campaign(client: &Client, attempt: u64, host: &str) -> Result<Node, Error> {
    let guid = format!("{}-{attempt}", client.session_id());
    let own = volunteer(client, &guid, host).await?;
    loop {
        let children = match client.list_children(ELECTION).await {
            Ok(children) => children,
            Err(error) => {
                recover("list the candidates", error).await?;
                continue;
            }
        };
        match place(&children, &own) {
            Place::First => {
                let number = number(&own).expect("it was checked when the node was made") + 1;
                let path = format!("{ELECTION}/{own}");
                return Ok(Node { path, number });
            }
            Place::Behind(before) => wait_for_deletion(client, before).await?,
            // The session is over, which this client has not heard of yet.
            Place::Nowhere => return Err(Error::NoNode),
        }
    }
}

/// Makes the own node; its name.
async fn volunteer(client: &Client, guid: &str, host: &str) -> Result<String, Error> {
    let prefix = format!("{guid}-n_");
    let path = format!("{ELECTION}/{prefix}");
    let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    loop {
        match client.create(&path, host.as_bytes(), &options).await {
            Ok((_, sequence)) => return named(format!("{prefix}{sequence}")),
            Err(Error::NoNode) => {
                if let Err(error) = make_folder(client, ELECTION).await {
                    recover("make the election's node", error).await?;
                }
            }
            Err(error) => {
                recover("volunteer", error).await?;
                if let Some(own) = find(client, &prefix).await? {
                    return named(own);
                }
            }
        }
    }
}

fn named(own: String) -> Result<String, Error> {
    match number(&own) {
        Some(_) => Ok(own),
        None => Err(Error::UnexpectedError(format!("a node called {own} has no place"))),
    }
}

/// The node that begins with `prefix`, if it was made after all.
async fn find(client: &Client, prefix: &str) -> Result<Option<String>, Error> {
    loop {
        match client.list_children(ELECTION).await {
            Ok(children) => return Ok(children.into_iter().find(|child| child.starts_with(prefix))),
            Err(Error::NoNode) => return Ok(None),
            Err(error) => recover("look for the own node", error).await?,
        }
    }
}

/// Returns when the node is deleted, or may have been.
async fn wait_for_deletion(client: &Client, node: &str) -> Result<(), Error> {
    match client.get_and_watch_data(&format!("{ELECTION}/{node}")).await {
        Ok((_, _, watcher)) => drop(watcher.changed().await),
        Err(Error::NoNode) => {}
        Err(error) => recover("watch the candidate before", error).await?,
    }
    Ok(())
}

/// Where a node stands among the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    First,
    /// Behind this one.
    Behind(&'a str),
    Nowhere,
}

fn place<'a>(children: &'a [String], own: &str) -> Place<'a> {
    if !children.iter().any(|child| child == own) {
        return Place::Nowhere;
    }
    let own = number(own);
    let before = children
        .iter()
        .filter(|child| number(child).is_some() && number(child) < own);
    match before.max_by_key(|child| number(child)) {
        Some(child) => Place::Behind(child),
        None => Place::First,
    }
}

/// The number that the server appended.
fn number(node: &str) -> Option<u64> {
    node.rsplit_once("-n_")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(children: &[&str], own: &str, expect: Place<'_>) {
        let children: Vec<String> = children.iter().map(|child| child.to_string()).collect();
        assert_eq!(place(&children, own), expect, "{children:?}");
    }

    #[test]
    fn each_stands_behind_the_one_right_before_him() {
        let (a, b, c) = ("0xf-1-n_0000000007", "0x1-9-n_0000000010", "0xa-2-n_0000000011");
        check(&[c, a, b], a, Place::First);
        check(&[c, a, b], b, Place::Behind(a));
        check(&[c, a, b], c, Place::Behind(b));
        check(&[c, a], c, Place::Behind(a));
        check(&[c, a], b, Place::Nowhere);
        check(&[], a, Place::Nowhere);
        // Who has no number is no candidate.
        check(&["lost+found", a, "0x1-1-n_x"], a, Place::First);
        // Names do not count, numbers do: ten is after nine, however it is written.
        check(&["0x1-1-n_9", "0x1-1-n_10"], "0x1-1-n_10", Place::Behind("0x1-1-n_9"));
    }
}
