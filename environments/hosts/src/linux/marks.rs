//! What of ours is on this host, by its marks alone: for healing after a crash, and to see whether a host is clean.
//!
//! Our marks are the names of our chains (`SPLITBRAIN-...`), the handle of our root qdisc (`5b1d:`) and the name of the
//! interface that [`super::missing`] makes for an instant. Whatever does not carry one of them is not ours.
use super::commands::{Command, Family, marked, save};
use super::netem;
use super::run::{run, run_if_there};

/// What is found, in words, and what removes it.
type Finding = (Vec<String>, Option<Command>);

fn findings() -> Result<Vec<Finding>, String> {
    let mut all = Vec::new();
    for family in Family::ALL {
        // Without the program, nobody has ever set a rule with it.
        if let Some(listing) = run_if_there(&save(family))? {
            all.push(marked(family, &listing));
        }
    }
    if let Some(listing) = run_if_there(&netem::list())? {
        all.push(netem::marked(&listing));
    }
    if let Some(listing) = run_if_there(&netem::list_interfaces())? {
        all.push(netem::marked_interfaces(&listing));
    }
    Ok(all)
}

/// What is left here that carries our mark, in words.
pub fn leftovers() -> Result<Vec<String>, String> {
    Ok(findings()?.into_iter().flat_map(|(found, _)| found).collect())
}

/// Removes what carries our mark, and nothing else: what was removed, in words. Goes on after a failure, and then fails
/// with all of them.
pub fn heal() -> Result<Vec<String>, String> {
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    for (found, command) in findings()? {
        match command.map_or(Ok(String::new()), |command| run(&command)) {
            Ok(_) => removed.extend(found),
            Err(why) => failures.push(why),
        }
    }
    if failures.is_empty() {
        Ok(removed)
    } else {
        Err(failures.join("; "))
    }
}
