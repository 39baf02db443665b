//! The machines of a run, from the command line to a world on them: docker, SSH and Vagrant.
//!
//! The flags here stand beside the plan's sections `[hosts]`, `[docker]`, `[ssh]` and `[vagrant]` and go before them. The
//! machines come as remotes, a fleet makes them one ground, and the live world runs on that, as it does on the local
//! sandbox.
use crate::exit::Failure;
use clap::Args as ClapArgs;
use splitbrain_core::plan::{ClockOf, HostKeys, Plan};
use splitbrain_core::{HostSpec, Nanos};
use splitbrain_environments::fleet::{self, Fleet};
use splitbrain_environments::ground::Order;
use splitbrain_environments::remote::Remote;
use splitbrain_environments::{Sabotage, docker, ssh};
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

/// Which machines, and how they are reached.
#[derive(Debug, Default, ClapArgs)]
pub struct HostArgs {
    /// ssh: the hosts, as [USER@]HOST[:PORT], comma separated, in the order of the plan's hosts
    #[arg(long, value_delimiter = ',', value_name = "HOST,...", help_heading = "Machines")]
    pub hosts: Vec<String>,
    /// ssh: a private key without a passphrase [default: the agent's, then the usual files in ~/.ssh]
    #[arg(long, value_name = "FILE", help_heading = "Machines")]
    pub identity: Option<String>,
    /// ssh: known host keys [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE", help_heading = "Machines")]
    pub known_hosts: Option<String>,
    /// ssh: take the key of a host that is not known yet, and write it down
    #[arg(long, help_heading = "Machines")]
    pub accept_new_host_keys: bool,
    /// ssh: a host through which the others are reached, as [USER@]HOST[:PORT]
    #[arg(long, value_name = "HOST", help_heading = "Machines")]
    pub jump: Option<String>,
    /// ssh, vagrant: the network of the cluster's own traffic, where a host has several: 10.0.0.0/24
    #[arg(long, value_name = "NETWORK", help_heading = "Machines")]
    pub network: Option<String>,
    /// vagrant: the folder of the Vagrantfile [default: environments/vagrant]
    #[arg(long, value_name = "DIR", help_heading = "Machines")]
    pub vagrant_dir: Option<String>,
    /// docker: an image to use as it is [default: one built from environments/docker/Dockerfile]
    #[arg(long, value_name = "IMAGE", help_heading = "Machines")]
    pub image: Option<String>,
    /// docker: what the Dockerfile starts from [default: debian:bookworm-slim]
    #[arg(long, value_name = "IMAGE", conflicts_with = "image", help_heading = "Machines")]
    pub base_image: Option<String>,
    /// docker: a folder that containers see, read-only: PATH or PATH:PATH_INSIDE; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Machines")]
    pub mount: Vec<String>,
    /// Whose clock a clock fault moves: auto, process (through its vDSO) or host [default: auto]
    #[arg(long, value_parser = parse_clock, help_heading = "Machines")]
    pub clock: Option<ClockOf>,
    /// Silence of control after which a host heals itself [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Machines")]
    pub dead_man: Option<Nanos>,
}

fn parse_clock(s: &str) -> Result<ClockOf, String> {
    match s {
        "auto" => Ok(ClockOf::Auto),
        "process" => Ok(ClockOf::Process),
        "host" => Ok(ClockOf::Host),
        _ => Err("auto, process or host".to_string()),
    }
}

/// What the command line says of machines goes before what the plan says.
pub fn apply(plan: &mut Plan, args: &HostArgs) {
    if !args.hosts.is_empty() {
        plan.ssh.hosts.clone_from(&args.hosts);
    }
    let set = |to: &mut Option<String>, from: &Option<String>| {
        if from.is_some() {
            to.clone_from(from);
        }
    };
    set(&mut plan.ssh.identity, &args.identity);
    set(&mut plan.ssh.known_hosts, &args.known_hosts);
    set(&mut plan.ssh.jump, &args.jump);
    set(&mut plan.ssh.network, &args.network);
    set(&mut plan.docker.image, &args.image);
    set(&mut plan.docker.base_image, &args.base_image);
    if args.accept_new_host_keys {
        plan.ssh.host_keys = HostKeys::AcceptNew;
    }
    if !args.mount.is_empty() {
        plan.docker.mounts.clone_from(&args.mount);
    }
    if let Some(dir) = &args.vagrant_dir {
        plan.vagrant.dir.clone_from(dir);
    }
    plan.hosts.clock = args.clock.unwrap_or(plan.hosts.clock);
    plan.hosts.dead_man = args.dead_man.unwrap_or(plan.hosts.dead_man);
}

/// The flags that say again what `plan` says of machines, each with its value.
pub fn words(plan: &Plan) -> Vec<(&'static str, Option<String>)> {
    let default = Plan::new(&plan.system, &plan.environment);
    let mut words = Vec::new();
    if !plan.ssh.hosts.is_empty() {
        words.push(("--hosts", Some(plan.ssh.hosts.join(","))));
    }
    for (flag, value) in [
        ("--identity", &plan.ssh.identity),
        ("--known-hosts", &plan.ssh.known_hosts),
        ("--jump", &plan.ssh.jump),
        ("--network", &plan.ssh.network),
        ("--image", &plan.docker.image),
        ("--base-image", &plan.docker.base_image),
    ] {
        words.extend(value.as_ref().map(|value| (flag, Some(value.clone()))));
    }
    if plan.ssh.host_keys == HostKeys::AcceptNew {
        words.push(("--accept-new-host-keys", None));
    }
    words.extend(plan.docker.mounts.iter().map(|mount| ("--mount", Some(mount.clone()))));
    if plan.vagrant != default.vagrant {
        words.push(("--vagrant-dir", Some(plan.vagrant.dir.clone())));
    }
    match plan.hosts.clock {
        ClockOf::Auto => {}
        ClockOf::Process => words.push(("--clock", Some("process".to_string()))),
        ClockOf::Host => words.push(("--clock", Some("host".to_string()))),
    }
    if plan.hosts.dead_man != default.hosts.dead_man {
        let time = splitbrain_core::time::words(plan.hosts.dead_man).replace(' ', "");
        words.push(("--dead-man", Some(time)));
    }
    words
}

/// What can be wrong with it whatever the system.
pub fn check(plan: &Plan) -> Result<(), Failure> {
    let dead_man = plan.hosts.dead_man;
    if !(Nanos::secs(2)..=Nanos::secs(3600)).contains(&dead_man) {
        return Err(Failure::usage(format!(
            "a dead-man time of {dead_man} is not between 2s and 1h: control speaks to its hosts twice a second"
        )));
    }
    if plan.environment == "ssh" && plan.ssh.hosts.is_empty() {
        return Err(Failure::usage(
            "--env ssh needs hosts: --hosts user@host:port,... or hosts = [...] in the plan's section [ssh]",
        ));
    }
    Ok(())
}

/// The machines that `plan` names, made or found, one for each of `order`'s hosts or more.
pub fn remotes(plan: &Plan, order: &Order) -> anyhow::Result<Vec<Arc<dyn Remote>>> {
    match plan.environment.as_str() {
        "docker" => docker::create(order, &plan.docker),
        "ssh" => ssh::remotes(&plan.ssh),
        "vagrant" => ssh::vagrant(&plan.vagrant),
        other => unreachable!("{other} has no machines of its own"),
    }
}

/// What makers of machines are told.
pub fn order(
    program: &Path,
    dir: &Path,
    hosts: Vec<HostSpec>,
    plan: &Plan,
    seed: u64,
    layered_disks: bool,
    sabotage: Option<Sabotage>,
) -> Order {
    Order {
        run: mark(),
        program: program.to_path_buf(),
        dir: dir.to_path_buf(),
        hosts,
        seed,
        settings: plan.hosts.clone(),
        layered_disks,
        sabotage,
    }
}

/// The machines as one ground.
pub fn fleet(plan: &Plan, order: Order) -> anyhow::Result<Fleet> {
    let remotes = remotes(plan, &order)?;
    Fleet::start(order, remotes, plan.ssh.network.clone())
}

/// A mark for what a run makes, unlike that of any other.
fn mark() -> String {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:08x}", random & 0xffff_ffff)
}

/// Cleans the machines that the command line or the plan names, and this machine's docker engine. Says what it did.
pub fn heal(plan: Option<&Plan>, images: bool) -> Result<Healed, Failure> {
    let mut healed = Healed::default();
    if docker::doctor().0 {
        match docker::heal(images) {
            Ok(removed) => healed.done.extend(removed),
            Err(e) => healed.failed.push(format!("{e:#}")),
        }
    }
    let Some(plan) = plan else { return Ok(healed) };
    let program = std::env::current_exe().map_err(|e| Failure::harness(format!("failed to find this program: {e}")))?;
    let found = match plan.environment.as_str() {
        "ssh" => ssh::remotes(&plan.ssh),
        "vagrant" => ssh::vagrant(&plan.vagrant),
        _ => return Ok(healed),
    };
    let remotes = found.map_err(|e| Failure::harness(format!("{e:#}")))?;
    for remote in remotes {
        let log = std::fs::File::options()
            .write(true)
            .open("/dev/null")
            .map_err(|e| Failure::harness(format!("failed to open /dev/null: {e}")))?;
        match fleet::heal(remote.as_ref(), &program, log) {
            Ok(host) => {
                let at = remote.describe();
                healed
                    .done
                    .extend(host.removed.into_iter().map(|what| format!("{at}: {what}")));
                healed
                    .failed
                    .extend(host.left.into_iter().map(|what| format!("{at}: still there: {what}")));
            }
            Err(e) => healed.failed.push(format!("{e:#}")),
        }
        if let Err(e) = remote.release() {
            healed.failed.push(format!("{e:#}"));
        }
    }
    Ok(healed)
}

/// What a healing did, and could not do.
#[derive(Debug, Default)]
pub struct Healed {
    /// In words.
    pub done: Vec<String>,
    /// In words.
    pub failed: Vec<String>,
}
