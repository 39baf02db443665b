//! What is left over, and its removal.
//!
//! Containers end and go with their control, by the engine's doing. A network stays when control is killed, and so does a
//! container that was created and not yet started. [`heal`] finds them by their labels, and by its label knows whether
//! a thing's control still runs. What was made by a control that cannot be seen from here (on another machine that uses this
//! engine, or before a reboot) is left over if no container of its run runs: one that ran would have ended with its control.
//!
//! Nothing without our label is touched.
use super::engine::{Engine, explain, is_conflict, is_missing};
use super::mark::{CONTROL, Control, Fate, RUN, filter};
use anyhow::{Context, Result, bail, ensure};
use bollard::Docker;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

/// To look, and to remove a few things.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the end of a removal that is under way.
const GOING: Duration = Duration::from_secs(10);

/// A thing of ours.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    what: What,
    id: String,
    name: String,
    run: String,
    control: Option<String>,
    runs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Container,
    Network,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Container => "container",
            What::Network => "network",
        };
        write!(f, "{what} {}", self.name)
    }
}

/// Whose leftovers are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of controls that are known to be dead.
    Dead,
    /// And of those that cannot be seen from here, if nothing of their run runs.
    DeadOrUnseen,
}

/// What is left over of runs whose control is gone.
pub(super) fn leftovers(engine: &Engine, whose: Whose) -> Result<Vec<Thing>> {
    let own = Control::own()?;
    let docker = engine.docker();
    let all = engine.run(PATIENCE, async move { things(&docker, RUN).await })?;
    Ok(left_over(all, whose, |label| own.fate_of(label)))
}

fn left_over(all: Vec<Thing>, whose: Whose, fate: impl Fn(Option<&String>) -> Fate) -> Vec<Thing> {
    let alive: BTreeSet<String> = all
        .iter()
        .filter(|thing| thing.runs)
        .map(|thing| thing.run.clone())
        .collect();
    all.into_iter()
        .filter(|thing| match fate(thing.control.as_ref()) {
            Fate::Alive => false,
            Fate::Dead => true,
            Fate::Unseen => whose == Whose::DeadOrUnseen && !alive.contains(&thing.run),
        })
        .collect()
}

/// Removes what is left over. Returns what was removed, in words.
pub(super) fn heal(engine: &Engine, whose: Whose) -> Result<Vec<String>> {
    let found = leftovers(engine, whose)?;
    let docker = engine.docker();
    engine.run(PATIENCE, async move { remove_all(&docker, found).await })
}

/// Removes all that is left of a run, and looks whether it is gone.
pub(super) fn remove_run(engine: &Engine, run: &str) -> Result<()> {
    let (docker, label) = (engine.docker(), format!("{RUN}={run}"));
    let removed = engine.run(PATIENCE, async move {
        remove_all(&docker, things(&docker, &label).await?).await?;
        let left: Vec<String> = things(&docker, &label).await?.iter().map(Thing::to_string).collect();
        ensure!(left.is_empty(), "still there: {}", left.join(", "));
        Ok(())
    });
    removed.with_context(|| {
        format!("failed to remove what docker has of the run {run} (`splitbrain heal` will do it later)")
    })
}

/// Removes a run's container by its name; a container of this name that is not the run's stays. None is no error.
pub(super) fn remove_container(engine: &Engine, name: &str, run: &str) -> Result<()> {
    let (docker, name, run) = (engine.docker(), name.to_string(), run.to_string());
    engine.run(PATIENCE, async move {
        match docker.inspect_container(&name, None::<InspectContainerOptions>).await {
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(explain(error)),
            Ok(there) => {
                let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
                match there.id {
                    Some(id) if labels.get(RUN) == Some(&run) => remove(&docker, &id).await,
                    _ => Ok(()),
                }
            }
        }
    })
}

async fn remove_all(docker: &Docker, mut things: Vec<Thing>) -> Result<Vec<String>> {
    // Containers first: a network in use cannot be removed.
    things.sort_by_key(|thing| thing.what);
    let mut removed = Vec::new();
    for thing in &things {
        match thing.what {
            What::Container => remove(docker, &thing.id).await,
            What::Network => remove_network(docker, &thing.id).await,
        }
        .with_context(|| format!("failed to remove the {thing}"))?;
        removed.push(thing.to_string());
    }
    Ok(removed)
}

/// Ends and removes a container, whatever it does. Returns when it is gone.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => return Ok(()),
        Err(error) if is_missing(&error) => return Ok(()),
        // It is being removed: it had ended by itself.
        Err(error) if is_conflict(&error) => {}
        Err(error) => return Err(explain(error)),
    }
    let options = WaitContainerOptionsBuilder::default().condition("removed").build();
    let mut gone = docker.wait_container(id, Some(options));
    match tokio::time::timeout(GOING, gone.next()).await {
        Ok(_) => Ok(()),
        Err(_) => bail!("the engine has not finished its removal within {} s", GOING.as_secs()),
    }
}

async fn remove_network(docker: &Docker, id: &str) -> Result<()> {
    match docker.remove_network(id).await {
        Err(error) if !is_missing(&error) => Err(explain(error)),
        _ => Ok(()),
    }
}

/// All containers and networks with this label.
async fn things(docker: &Docker, label: &str) -> Result<Vec<Thing>> {
    let filters = filter(label);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let containers = docker.list_containers(Some(options)).await.map_err(explain);
    let containers = containers.context("failed to list the docker engine's containers")?;
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = docker.list_networks(Some(options)).await.map_err(explain);
    let networks = networks.context("failed to list the docker engine's networks")?;
    let containers = containers.into_iter().filter_map(|it| {
        let names = it.names.unwrap_or_default();
        let name = names.first().map(|name| name.trim_start_matches('/').to_string());
        let runs = it.state == Some(ContainerSummaryStateEnum::RUNNING);
        thing(What::Container, it.id, name, it.labels, runs)
    });
    let networks = networks
        .into_iter()
        .filter_map(|it| thing(What::Network, it.id, it.name, it.labels, false));
    Ok(containers.chain(networks).collect())
}

fn thing(
    what: What,
    id: Option<String>,
    name: Option<String>,
    labels: Option<HashMap<String, String>>,
    runs: bool,
) -> Option<Thing> {
    let mut labels: BTreeMap<String, String> = labels?.into_iter().collect();
    let id = id?;
    Some(Thing {
        what,
        name: name.unwrap_or_else(|| id.clone()),
        id,
        // Asked for by the label, and looked at once more: this is what may be removed.
        run: labels.remove(RUN)?,
        control: labels.remove(CONTROL),
        runs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(what: What, run: &str, control: &str, runs: bool) -> Thing {
        Thing {
            what,
            id: "id".into(),
            name: run.into(),
            run: run.into(),
            control: Some(control.into()),
            runs,
        }
    }

    #[test]
    fn only_what_has_lost_its_control_is_left_over() {
        let all = vec![
            made(What::Container, "a", "alive", true),
            made(What::Network, "a", "alive", false),
            made(What::Network, "d", "dead", false),
            made(What::Container, "d", "dead", true),
            made(What::Network, "far", "unseen", false),
            made(What::Container, "far", "unseen", true),
            made(What::Network, "old", "unseen", false),
        ];
        let fate = |label: Option<&String>| match label.map(String::as_str) {
            Some("alive") => Fate::Alive,
            Some("dead") => Fate::Dead,
            _ => Fate::Unseen,
        };
        let runs = |whose| -> Vec<String> {
            let left = left_over(all.clone(), whose, fate);
            left.iter().map(Thing::to_string).collect()
        };
        assert_eq!(runs(Whose::Dead), ["network d", "container d"]);
        assert_eq!(runs(Whose::DeadOrUnseen), ["network d", "container d", "network old"]);
    }

    #[test]
    fn what_has_no_label_of_ours_is_no_thing() {
        let labels = HashMap::from([("splitbrain.control".to_string(), "1".to_string())]);
        assert!(thing(What::Network, Some("id".into()), None, Some(labels), false).is_none());
        assert!(thing(What::Network, Some("id".into()), None, None, false).is_none());
    }
}
