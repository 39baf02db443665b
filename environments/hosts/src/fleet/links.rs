//! Actions on links: who carries each out, and what must be seen then.
use super::Fleet;
use super::verify::{Expect, verify};
use crate::agent::proto;
use splitbrain_core::{Link, Name, Proof, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// What a link was last made to be, whether or not that could be proven.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub blocked: bool,
    pub shape: Shape,
}

impl Fleet {
    /// Orders about links, to the hosts where each is carried out; then proof of all links of which both ends could be
    /// reached.
    fn on_links(
        &self,
        links: &[Link],
        orders: BTreeMap<Name, proto::Order>,
        at: impl Fn(&Link) -> Name,
        change: impl Fn(&mut State) -> Expect,
    ) -> Result<Vec<Proof>, String> {
        let (replies, mut failed) = self.try_all(orders.into_iter());
        let mut expected = Vec::new();
        {
            let mut states = self.links.lock().expect("no holder panics");
            for link in links {
                let expect = change(states.entry(*link).or_default());
                let reached = |host| self.line(host).is_ok_and(|line| line.lock().lost.is_none());
                if replies.contains_key(&at(link)) && reached(link.src) && reached(link.dst) {
                    expected.push((*link, expect));
                } else if replies.contains_key(&at(link)) {
                    failed.push(format!("{link}: an end of it was lost, so that it cannot be probed"));
                }
            }
        }
        let verified = verify(self, &expected, self.patience());
        let mut proofs = verified.unwrap_or_else(|why| {
            failed.push(why);
            Vec::new()
        });
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        // What the hosts saw of their own rules, after the probes' word.
        proofs.extend(replies.into_values().flat_map(|reply| reply.proofs));
        Ok(proofs)
    }

    pub(super) fn block(&self, links: &[Link]) -> Result<Vec<Proof>, String> {
        let orders = by(links, |link| (link.dst, link.src), proto::Order::Block);
        self.on_links(
            links,
            orders,
            |link| link.dst,
            |state| {
                state.blocked = true;
                Expect::Blocked
            },
        )
    }

    pub(super) fn unblock(&self, links: &[Link]) -> Result<Vec<Proof>, String> {
        let orders = by(links, |link| (link.dst, link.src), proto::Order::Unblock);
        self.on_links(
            links,
            orders,
            |link| link.dst,
            |state| {
                state.blocked = false;
                Expect::Open {
                    shape: state.shape,
                    gone: Shape::default(),
                }
            },
        )
    }

    pub(super) fn shape(&self, links: &[Link], shape: Shape) -> Result<Vec<Proof>, String> {
        let mut outward = BTreeSet::new();
        for link in links {
            if self.shapes_outward(*link)? {
                outward.insert(link.src);
            }
        }
        let (out, inward): (Vec<Link>, Vec<Link>) = links.iter().partition(|link| outward.contains(&link.src));
        let change = |state: &mut State| {
            let gone = std::mem::replace(&mut state.shape, shape);
            // A link may be blocked and shaped at once; then nothing can be seen but that it still is.
            if state.blocked {
                Expect::Blocked
            } else {
                Expect::Open { shape, gone }
            }
        };
        let mut proofs = Vec::new();
        if !out.is_empty() {
            let orders = by(
                &out,
                |link| (link.src, link.dst),
                |to| proto::Order::ShapeOut(to, shape),
            );
            proofs.extend(self.on_links(&out, orders, |link| link.src, change)?);
        }
        if !inward.is_empty() {
            let orders = by(
                &inward,
                |link| (link.dst, link.src),
                |from| proto::Order::ShapeIn(from, shape),
            );
            proofs.extend(self.on_links(&inward, orders, |link| link.dst, change)?);
        }
        Ok(proofs)
    }

    /// Whether the sender shapes a link; else the receiver does. A refusal names both reasons.
    fn shapes_outward(&self, link: Link) -> Result<bool, String> {
        let find = |name: Name| self.hosts.get(&name).ok_or_else(|| format!("there is no host {name}"));
        let (src, dst) = (find(link.src)?, find(link.dst)?);
        match (src.greeting.missing.get("netem"), dst.greeting.missing.get("nfqueue")) {
            (None, _) => Ok(true),
            (Some(_), None) => Ok(false),
            (Some(netem), Some(nfqueue)) => Err(format!(
                "{link} cannot be shaped: not by {}: {netem}; not by {}: {nfqueue}",
                src.line.label, dst.line.label
            )),
        }
    }
}

/// Orders to the hosts that carry them out, each with the peers that it is about.
fn by(
    links: &[Link],
    ends: impl Fn(&Link) -> (Name, Name),
    order: impl Fn(Vec<Name>) -> proto::Order,
) -> BTreeMap<Name, proto::Order> {
    let mut peers: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for (at, peer) in links.iter().map(ends) {
        peers.entry(at).or_default().push(peer);
    }
    peers.into_iter().map(|(at, peers)| (at, order(peers))).collect()
}
