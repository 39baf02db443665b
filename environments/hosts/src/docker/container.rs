//! One host: a container whose first program is our agent.
//!
//! The container is made when the agent is to start, for its arguments are the container's command: created, given our
//! program, attached, started. Docker's own tiny init stands before the agent and reaps what it leaves. When the agent ends,
//! the container ends, every process in it with it, and the engine removes it.
use super::cluster::Cluster;
use super::engine::{explain, is_conflict, is_missing};
use super::mark::RUN;
use super::program::Program;
use super::{clean, pump};
use crate::remote::{AGENT, Remote};
use anyhow::{Context, Result, bail, ensure};
use bollard::Docker;
use bollard::body_stream;
use bollard::container::AttachContainerResults;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
    InspectContainerOptions, StartContainerOptions, UploadToContainerOptionsBuilder,
};
use splitbrain_core::Name;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// To make and start one.
const START: Duration = Duration::from_secs(30);
/// More than any system here takes (a JVM takes 100 MB), and little enough that a leak does not take the machine.
const MEMORY: i64 = 2 << 30;
/// A program that forks without end must not take the machine either.
const PROCESSES: i64 = 4096;

/// A host that is, or is to be, a container.
pub(super) struct Container {
    cluster: Arc<Cluster>,
    host: Name,
    name: String,
    address: Mutex<Option<IpAddr>>,
}

impl Container {
    pub fn new(cluster: Arc<Cluster>, host: Name) -> Container {
        Container {
            name: format!("{}-{host}", cluster.name),
            cluster,
            host,
            address: Mutex::new(None),
        }
    }

    fn spec(&self, program: &Program, args: &[String]) -> ContainerCreateBody {
        let cluster = &self.cluster;
        let mut command = vec![program.path.clone(), AGENT.to_string()];
        command.extend_from_slice(args);
        let network = HashMap::from([(cluster.network.clone(), EndpointSettings::default())]);
        ContainerCreateBody {
            image: Some(cluster.image.clone()),
            hostname: Some(self.host.to_string()),
            user: Some("0:0".to_string()),
            // Whatever entry point and health check the image has: this container is ours.
            entrypoint: Some(command),
            cmd: Some(Vec::new()),
            healthcheck: Some(bollard::models::HealthConfig {
                test: Some(vec!["NONE".to_string()]),
                ..Default::default()
            }),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            labels: Some(cluster.labels.clone()),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(network),
            }),
            host_config: Some(self.host_config()),
            ..Default::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        HostConfig {
            auto_remove: Some(true),
            init: Some(true),
            cap_add: Some(vec!["NET_ADMIN".to_string()]),
            memory: Some(MEMORY),
            pids_limit: Some(PROCESSES),
            mounts: Some(self.cluster.mounts.clone()),
            network_mode: Some(self.cluster.network.clone()),
            // The engine would write every word of the protocol to its own disk.
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_string()),
                config: None,
            }),
            ..Default::default()
        }
    }
}

impl Remote for Container {
    fn describe(&self) -> String {
        format!("container {}", self.name)
    }

    fn start_agent(&self, program: &Path, args: &[String], log: std::fs::File) -> Result<UnixStream> {
        let failed = || format!("{}: failed to start", self.describe());
        let program = self.cluster.program(program).with_context(failed)?;
        let making = Making {
            docker: self.cluster.engine.docker(),
            spec: self.spec(&program, args),
            name: self.name.clone(),
            run: self.cluster.run.clone(),
            network: self.cluster.network.clone(),
            program,
        };
        let engine = &self.cluster.engine;
        let (address, streams) = engine.run(START, making.up()).with_context(failed)?;
        *self.address.lock().expect("no holder panics") = address;
        let (ours, callers) = UnixStream::pair().with_context(failed)?;
        ours.set_nonblocking(true).with_context(failed)?;
        let kept = engine.clone();
        engine.spawn(async move {
            match tokio::net::UnixStream::from_std(ours) {
                Ok(ours) => pump::pump(ours, streams, log).await,
                Err(error) => eprintln!("failed to serve a container's streams: {error}"),
            }
            drop(kept);
        });
        Ok(callers)
    }

    fn address(&self) -> Option<IpAddr> {
        *self.address.lock().expect("no holder panics")
    }

    fn release(&self) -> Result<()> {
        let failed = || format!("{}: failed to remove it", self.describe());
        clean::remove_container(&self.cluster.engine, &self.name, &self.cluster.run).with_context(failed)?;
        self.cluster.released(self.host)
    }
}

/// What it takes to make a container, on its way to the engine.
struct Making {
    docker: Docker,
    name: String,
    run: String,
    spec: ContainerCreateBody,
    network: String,
    program: Arc<Program>,
}

impl Making {
    /// Makes and starts it. Returns its address, and its streams.
    async fn up(self) -> Result<(Option<IpAddr>, AttachContainerResults)> {
        let id = self.create().await?;
        self.check_loader(&id).await?;
        let upload = UploadToContainerOptionsBuilder::default().path("/").build();
        let sent = self
            .docker
            .upload_to_container(&id, Some(upload), body_stream(self.program.pieces()))
            .await;
        sent.map_err(explain).context("failed to bring our program there")?;
        let attach = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        // Before it starts, so that no word is lost.
        let streams = self.docker.attach_container(&id, Some(attach)).await;
        let streams = streams.map_err(explain).context("failed to attach to it")?;
        let started = self.docker.start_container(&id, None::<StartContainerOptions>).await;
        started.map_err(explain).context("failed to start it")?;
        Ok((self.address(&id).await?, streams))
    }

    async fn create(&self) -> Result<String> {
        let once = async || {
            let options = CreateContainerOptionsBuilder::default().name(&self.name).build();
            self.docker.create_container(Some(options), self.spec.clone()).await
        };
        let made = match once().await {
            // An agent of this run was here before, or is just going.
            Err(error) if is_conflict(&error) => {
                self.make_room().await?;
                once().await
            }
            made => made,
        };
        made.map(|made| made.id).map_err(explain).context("failed to create it")
    }

    /// Removes the container that has the name, if it is this run's.
    async fn make_room(&self) -> Result<()> {
        match self
            .docker
            .inspect_container(&self.name, None::<InspectContainerOptions>)
            .await
        {
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(explain(error)),
            Ok(there) => {
                let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
                ensure!(
                    labels.get(RUN) == Some(&self.run),
                    "a container of this name exists and is not this run's: remove it (`docker rm {}`) or rename it",
                    self.name
                );
                clean::remove(&self.docker, &there.id.unwrap_or_default()).await
            }
        }
    }

    /// Without the loader that our program names, its start would fail with words about a missing file.
    async fn check_loader(&self, id: &str) -> Result<()> {
        let Some(loader) = &self.program.loader else {
            return Ok(());
        };
        let options = ContainerArchiveInfoOptionsBuilder::default().path(loader).build();
        match self.docker.get_container_archive_info(id, Some(options)).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => bail!(
                "its image has no {loader}, which our program needs: use an image of Debian 12, Ubuntu 22.04 or newer"
            ),
            Err(error) => Err(explain(error).context("failed to look into its image")),
        }
    }

    /// Its address, unless it has ended already, as an agent with little to do may: then the engine has taken it back.
    async fn address(&self, id: &str) -> Result<Option<IpAddr>> {
        let there = match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Err(error) if is_missing(&error) => return Ok(None),
            there => there.map_err(explain).context("failed to look at it")?,
        };
        let networks = there.network_settings.and_then(|settings| settings.networks);
        let mut networks = networks.unwrap_or_default().into_values();
        let ours = networks.find(|network| network.network_id.as_ref() == Some(&self.network));
        Ok(ours.and_then(|network| network.ip_address?.parse().ok()))
    }
}

/// Read-only folders of the engine's machine, from `PATH` or `PATH:PATH_INSIDE`.
pub(super) fn mounts(texts: &[String]) -> Result<Vec<Mount>> {
    let mount = |text: &String| {
        let (source, target) = text.split_once(':').unwrap_or((text, text));
        ensure!(
            source.starts_with('/') && target.starts_with('/') && target != "/" && !target.contains(':'),
            "the mount '{text}' is no PATH or PATH:PATH_INSIDE of absolute paths (mounts are read-only)"
        );
        Ok(Mount {
            source: Some(source.to_string()),
            target: Some(target.to_string()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Default::default()
        })
    };
    texts.iter().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_only_and_absolute() {
        let texts = ["/opt/etcd", "/srv/x:/opt/x"].map(String::from);
        let made = mounts(&texts).unwrap();
        let paths: Vec<_> = made
            .iter()
            .map(|m| (m.source.as_deref(), m.target.as_deref()))
            .collect();
        assert_eq!(
            paths,
            [(Some("/opt/etcd"), Some("/opt/etcd")), (Some("/srv/x"), Some("/opt/x"))]
        );
        assert!(made.iter().all(|mount| mount.read_only == Some(true)));
        for bad in ["opt", "/opt:here", "/opt:/", "/opt:/x:rw", ""] {
            assert!(mounts(&[bad.to_string()]).is_err(), "{bad}");
        }
    }
}
