//! What this host cannot do to its network, with the reason and the remedy: tried out for real, without leaving traces.
//!
//! A rule of each kind is made in a chain that nothing jumps to.
use super::commands::{Attempt, Family, attempt, attempted};
use super::run::run;
use std::collections::BTreeMap;

/// By capability (`iptables`), why it is missing and what to do about it.
pub fn missing() -> BTreeMap<String, String> {
    let tried = [("iptables", rule(Attempt::Drop))];
    let failed = tried
        .into_iter()
        .filter_map(|(name, result)| Some((name, result.err()?)));
    failed.map(|(name, why)| (name.to_string(), why)).collect()
}

fn rule(kind: Attempt) -> Result<(), String> {
    let made = run(&attempt(Family::V4, kind));
    // Whatever went wrong, nothing may stay.
    let gone = run(&attempted(Family::V4, kind));
    made.and(gone).map(drop)
}
