//! What this host cannot do to its network, with the reason and the remedy: tried out for real, without leaving traces.
//!
//! A rule of each kind is made in a chain that nothing jumps to, a queue is bound that no rule leads to, and netem is set
//! on an interface made for it. A crash in the middle leaves what healing finds by its mark.
use super::commands::{Attempt, Command, Family, attempt, attempted};
use super::netem;
use super::queue::Queue;
use super::run::run;
use std::collections::BTreeMap;

/// By capability (`iptables`, `netem`, `nfqueue`), why it is missing and what to do about it.
pub fn missing() -> BTreeMap<String, String> {
    let tried = [
        ("iptables", rule(Attempt::Drop)),
        ("netem", netem()),
        ("nfqueue", queue()),
    ];
    let failed = tried
        .into_iter()
        .filter_map(|(name, result)| Some((name, result.err()?)));
    failed.map(|(name, why)| (name.to_string(), why)).collect()
}

fn rule(kind: Attempt) -> Result<(), String> {
    check(&[attempt(Family::V4, kind)], &attempted(Family::V4, kind))
}

fn queue() -> Result<(), String> {
    let module = |why: String| format!("{why}; if it is a module, load it: modprobe nfnetlink_queue xt_NFQUEUE");
    rule(Attempt::Queue).map_err(module)?;
    Queue::open()
        .map(drop)
        .map_err(|e| module(format!("open a netfilter queue: {e}")))
}

fn netem() -> Result<(), String> {
    let made = check(&netem::attempt()?, &netem::attempted());
    made.map_err(|why| format!("{why}; if it is a module, load it: modprobe sch_netem sch_prio cls_u32"))
}

/// Runs commands and takes back what they did. The first failure counts; whatever went wrong, nothing may stay.
fn check(commands: &[Command], back: &Command) -> Result<(), String> {
    let done = commands.iter().try_for_each(|command| run(command).map(drop));
    let undone = run(back).map(drop);
    done.and(undone)
}
