//! Actions on links: who carries each out, and what must be seen then.
use super::Fleet;
use super::verify::{Expect, verify};
use crate::agent::proto::Order;
use splitbrain_core::{Link, Name, Proof, Shape};
use std::collections::BTreeMap;

/// What a link was last made to be, whether or not probes have proven it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub blocked: bool,
    pub shape: Shape,
}

/// Where something is done to a link.
#[derive(Clone, Copy, Debug)]
enum Side {
    Sender,
    Receiver,
}

impl Side {
    /// The host that does it, and the one at the other end.
    fn of(self, link: &Link) -> (Name, Name) {
        match self {
            Side::Sender => (link.src, link.dst),
            Side::Receiver => (link.dst, link.src),
        }
    }
}

impl Fleet {
    /// Gives orders about links to the hosts where they are carried out; then proves all links of which both ends can be
    /// reached.
    fn on_links(
        &self,
        links: &[Link],
        side: Side,
        order: impl Fn(Vec<Name>) -> Order,
        change: impl Fn(&mut State) -> Expect,
    ) -> Result<Vec<Proof>, String> {
        let mut peers: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for (at, peer) in links.iter().map(|link| side.of(link)) {
            peers.entry(at).or_default().push(peer);
        }
        let orders = peers.into_iter().map(|(at, peers)| (at, order(peers)));
        let (replies, mut failed) = self.try_all(orders);
        let mut expected = Vec::new();
        {
            let mut states = self.links.lock().expect("no holder panics");
            let reached = |host| self.line(host).is_ok_and(|line| line.lock().lost.is_none());
            for link in links.iter().filter(|link| replies.contains_key(&side.of(link).0)) {
                let expect = change(states.entry(*link).or_default());
                if reached(link.src) && reached(link.dst) {
                    expected.push((*link, expect));
                } else {
                    failed.push(format!("{link}: an end of it was lost, so that it cannot be probed"));
                }
            }
        }
        let mut proofs = verify(self, &expected, self.patience()).unwrap_or_else(|why| {
            failed.push(why);
            Vec::new()
        });
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        // What the host saw of its own rules, after the probes' word.
        for (proof, (link, _)) in proofs.iter_mut().zip(&expected) {
            let (at, peer) = side.of(link);
            for own in replies[&at].proofs.iter().filter(|own| own.at == peer.as_str()) {
                proof.saw += &format!(", {}", own.saw);
            }
        }
        Ok(proofs)
    }

    pub(super) fn block(&self, links: &[Link]) -> Result<Vec<Proof>, String> {
        self.on_links(links, Side::Receiver, Order::Block, |state| {
            state.blocked = true;
            Expect::Blocked
        })
    }

    pub(super) fn unblock(&self, links: &[Link]) -> Result<Vec<Proof>, String> {
        self.on_links(links, Side::Receiver, Order::Unblock, |state| {
            state.blocked = false;
            Expect::Open {
                shape: state.shape,
                gone: Shape::default(),
            }
        })
    }

    pub(super) fn shape(&self, links: &[Link], shape: Shape) -> Result<Vec<Proof>, String> {
        let (mut outward, mut inward) = (Vec::new(), Vec::new());
        for link in links {
            match self.shaper(*link)? {
                Side::Sender => outward.push(*link),
                Side::Receiver => inward.push(*link),
            }
        }
        let change = |state: &mut State| {
            let gone = std::mem::replace(&mut state.shape, shape);
            // A link may be blocked and shaped at once; then nothing can be seen but that it still is.
            if state.blocked {
                Expect::Blocked
            } else {
                Expect::Open { shape, gone }
            }
        };
        let mut proofs = self.on_links(&outward, Side::Sender, |to| Order::ShapeOut(to, shape), change)?;
        let order = |from| Order::ShapeIn(from, shape);
        proofs.extend(self.on_links(&inward, Side::Receiver, order, change)?);
        Ok(proofs)
    }

    /// Who shapes a link. A refusal names both reasons.
    fn shaper(&self, link: Link) -> Result<Side, String> {
        let find = |name: Name| self.hosts.get(&name).ok_or_else(|| format!("there is no host {name}"));
        let (src, dst) = (find(link.src)?, find(link.dst)?);
        match (src.greeting.missing.get("netem"), dst.greeting.missing.get("nfqueue")) {
            (None, _) => Ok(Side::Sender),
            (Some(_), None) => Ok(Side::Receiver),
            (Some(netem), Some(nfqueue)) => Err(format!(
                "{link} cannot be shaped: not by {}: {netem}; not by {}: {nfqueue}",
                src.line.label, dst.line.label
            )),
        }
    }
}
