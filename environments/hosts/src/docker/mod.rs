//! The `docker` environment: each host is a container of a docker engine.
//!
//! ```text
//! control ==attach== engine ==stdin, stdout, stderr== agent (the container's own program) -- processes
//!                      '-- a private bridge: n1, n2, ... and nobody else
//! ```
//!
//! A container needs nothing but the right `NET_ADMIN` beyond docker's usual ones: faults act inside it. Control talks to
//! its agent over the engine's connection to the container's standard streams, which no fault of ours cuts.
//!
//! **Nothing outlives control.** Its end closes that connection, so that the agent reads the end of its input and ends; the
//! container ends with it, and the engine removes it: rules, queues, processes and files go at once. The network stays until
//! the next run or `splitbrain heal` ([`heal`]), and stands in nobody's way. Images that were built stay, without a name,
//! until [`heal`] is asked to remove them.
//!
//! **What is ours** carries labels ([`mark`]), and nothing else is touched.
//!
//! Caveats: containers share the kernel and the clock of the engine's machine. They have no `/dev/fuse` and no right to
//! mount, so systems that bring no storage layer of their own get no disk faults. Only the engine's unix socket is spoken to.
mod clean;
mod cluster;
mod container;
mod engine;
mod image;
mod mark;
mod program;
mod pump;

use crate::ground::Order;
use crate::remote::Remote;
use anyhow::{Context, Result};
use clean::Whose;
use cluster::Cluster;
use container::Container;
use engine::Engine;
use splitbrain_core::plan;
use std::sync::Arc;

/// Makes what a run's containers stand on, image and network, and returns one host for each that is ordered. A
/// container is made when its agent is started, and its address is known from then on.
///
/// May take minutes when an image has to be built, which is told on standard error. Errors name the engine and the remedy.
pub fn create(order: &Order, settings: &plan::Docker) -> Result<Vec<Arc<dyn Remote>>> {
    let failed = "failed to make containers";
    let engine = Engine::connect().context(failed)?;
    // A network of a run that was killed stands in nobody's way: if it cannot be removed, `heal` will say why.
    let _ = clean::heal(&engine, Whose::Dead);
    let image = image::provide(&engine, settings).context(failed)?;
    let cluster = Arc::new(Cluster::create(engine, order, settings, image).context(failed)?);
    let remote =
        |host: &splitbrain_core::HostSpec| -> Arc<dyn Remote> { Arc::new(Container::new(cluster.clone(), host.name)) };
    Ok(order.hosts.iter().map(remote).collect())
}

/// Removes the containers and networks of runs whose control is gone, and, if asked for, the images that were built for
/// containers and are in no use; the next run builds one anew. Returns what was removed, in words. No engine is an error.
pub fn heal(images: bool) -> Result<Vec<String>> {
    let engine = Engine::connect()?;
    let mut removed = clean::heal(&engine, Whose::DeadOrUnseen).context("failed to clean up after dead runs")?;
    if images {
        removed.extend(image::remove(&engine).context("failed to remove the images that were built")?);
    }
    Ok(removed)
}

/// What [`heal`] would remove. No engine is an error.
pub fn leftovers() -> Result<Vec<String>> {
    let found = clean::leftovers(&*Engine::connect()?, Whose::DeadOrUnseen)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Whether an engine can be used, what was seen of it, and what to do if it cannot.
pub fn doctor() -> (bool, String, String) {
    let seen = Engine::connect().and_then(|engine| {
        let ready = image::at_hand(&engine, &plan::Docker::default())?;
        Ok((engine.words(), ready))
    });
    match seen {
        Ok((words, true)) => (true, format!("{words}; an image is ready"), String::new()),
        Ok((words, false)) => (
            true,
            format!("{words}; an image is built at the first run"),
            String::new(),
        ),
        Err(error) => {
            let text = format!("{error:#}");
            let (detail, remedy) = text.split_once(": ").unwrap_or((&text, ""));
            (false, detail.to_string(), remedy.to_string())
        }
    }
}
