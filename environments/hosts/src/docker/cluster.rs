//! What the containers of one run share: the engine, the image, the network, and the end.
use super::clean;
use super::container::mounts;
use super::engine::{Engine, explain};
use super::mark::{Control, labels};
use super::program::Program;
use crate::ground::Order;
use anyhow::{Context, Result};
use bollard::models::{Mount, NetworkCreateRequest};
use splitbrain_core::{Name, plan};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// To make a network.
const MAKE: Duration = Duration::from_secs(20);

/// A run's containers' common ground. Dropping it removes all that is left of the run.
pub(super) struct Cluster {
    pub engine: Arc<Engine>,
    pub run: String,
    /// Of the network, and the first part of the containers' names.
    pub name: String,
    /// Its id.
    pub image: String,
    /// Its id: names are not unique.
    pub network: String,
    pub labels: HashMap<String, String>,
    pub mounts: Vec<Mount>,
    program: Mutex<Option<Arc<Program>>>,
    /// Hosts that were not released yet.
    held: Mutex<BTreeSet<Name>>,
}

impl Cluster {
    pub fn create(engine: Arc<Engine>, order: &Order, settings: &plan::Docker, image: String) -> Result<Cluster> {
        let labels = labels(&order.run, &Control::own()?);
        let name = format!("splitbrain-{}", order.run);
        let mounts = mounts(&settings.mounts)?;
        let network = network(&engine, &name, &labels)?;
        Ok(Cluster {
            engine,
            run: order.run.clone(),
            name,
            image,
            network,
            labels,
            mounts,
            program: Mutex::default(),
            held: Mutex::new(order.hosts.iter().map(|host| host.name).collect()),
        })
    }

    /// Our program, packed once for all hosts.
    pub fn program(&self, source: &Path) -> Result<Arc<Program>> {
        let mut packed = self.program.lock().expect("no holder panics");
        match &*packed {
            Some(program) if program.source == source => Ok(program.clone()),
            _ => Ok(packed.insert(Arc::new(Program::pack(source)?)).clone()),
        }
    }

    /// This host's container is gone. With the last one the network goes, and nothing may be left.
    pub fn released(&self, host: Name) -> Result<()> {
        let last = {
            let mut held = self.held.lock().expect("no holder panics");
            held.remove(&host) && held.is_empty()
        };
        if last {
            clean::remove_run(&self.engine, &self.run)
        } else {
            Ok(())
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let held = self.held.get_mut().is_ok_and(|held| !held.is_empty());
        if held && let Err(error) = clean::remove_run(&self.engine, &self.run) {
            eprintln!("{error:#}");
        }
    }
}

/// A bridge of our own from which no packet leaves. The engine chooses its range, which it alone can do without a clash:
/// it knows the machine's routes.
fn network(engine: &Engine, name: &str, labels: &HashMap<String, String>) -> Result<String> {
    let request = NetworkCreateRequest {
        name: name.to_string(),
        driver: Some("bridge".to_string()),
        internal: Some(true),
        labels: Some(labels.clone()),
        ..Default::default()
    };
    let docker = engine.docker();
    let made = engine.run(
        MAKE,
        async move { docker.create_network(request).await.map_err(explain) },
    );
    Ok(made.with_context(|| format!("failed to create the network {name}"))?.id)
}
