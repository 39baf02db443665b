//! Where a name becomes a thing.
use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::plan_file::ENVIRONMENTS;
use crate::shipping::Cargo;
use crate::{grounds, support};
use splitbrain_core::history::Header;
use splitbrain_core::plan::Storage;
use splitbrain_core::{HostRole, Plan, System, World};
use splitbrain_environments::ground::Ground;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalConfig, LocalSite};
use splitbrain_protocols::Protocol;
use splitbrain_protocols::raft::{Member, MemberConfig};
use splitbrain_runner::store::RunDir;
use splitbrain_sim::{SimConfig, SimWorld};
use std::process::ExitCode;
use std::sync::Arc;

/// The hidden word after which this binary enters the local sandbox.
const SANDBOX: &str = "sandbox";

/// Becomes the local sandbox or a host's agent if that is what this process was started for; must be called before any
/// thread exists.
pub fn enter_host_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let word = args.next()?;
    let main = match word.to_str()? {
        SANDBOX => splitbrain_environments::local::sandbox::main,
        splitbrain_environments::remote::AGENT => splitbrain_environments::agent::main,
        _ => return None,
    };
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let code = main(&args);
    Some(ExitCode::from(u8::try_from(code).unwrap_or(exit::HARNESS)))
}

/// How to call ourselves as the sandbox.
pub fn sandbox_program() -> Result<Vec<String>, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::harness(format!("failed to find this program: {e}")))?;
    Ok(vec![exe.display().to_string(), SANDBOX.to_string()])
}

/// The system that a plan names, once it says that it can do what the plan asks.
pub fn system(plan: &Plan) -> Result<Box<dyn System>, Failure> {
    let system = splitbrain_systems::find(&plan.system).ok_or_else(|| {
        let known: Vec<_> = splitbrain_systems::all().iter().map(|s| s.name()).collect();
        Failure::usage(format!("no system '{}': there is {}", plan.system, known.join(", ")))
    })?;
    if plan.environment == "sim" && plan.system != "raft" {
        return Err(Failure::usage(format!(
            "sim runs raft only: {} is a real program, use --env local",
            plan.system
        )));
    }
    for key in plan.options.keys() {
        if !system.options().iter().any(|(known, _)| known == key) {
            let known: Vec<_> = system.options().iter().map(|(known, _)| *known).collect();
            return Err(Failure::usage(format!(
                "{} has no option '{key}': it has {}",
                plan.system,
                known.join(", ")
            )));
        }
    }
    let knows = system.operations();
    if let Some(op) = plan.workload.operations().iter().find(|op| !knows.contains(op)) {
        let (workload, system) = (plan.workload.name(), &plan.system);
        return Err(Failure::usage(format!(
            "{system} cannot be asked the workload {workload}: it knows no {op}, only {}",
            knows.join(", ")
        )));
    }
    if plan.storage == Storage::Guarded && !system.storages().contains(&Storage::Guarded) {
        let able: Vec<_> = splitbrain_systems::all()
            .iter()
            .filter(|s| s.storages().contains(&Storage::Guarded))
            .map(|s| s.name())
            .collect();
        return Err(Failure::usage(format!(
            "{} has no storage of its own to guard: --storage guarded is for {}",
            plan.system,
            able.join(", ")
        )));
    }
    let hosts = system.hosts(plan);
    if plan.candidates > 0 && !hosts.iter().any(|h| h.role == HostRole::Candidate) {
        return Err(Failure::usage(format!(
            "{} has no candidates of their own: its members are, see --nodes",
            plan.system
        )));
    }
    if let Some(why) = support::refusal(plan, system.as_ref()) {
        return Err(Failure::usage(why));
    }
    system.check(plan).map_err(Failure::usage)?;
    Ok(system)
}

/// Whether the plan's world can break for real, so that the ledger must be on the disk before each fault.
pub fn is_live(plan: &Plan) -> bool {
    plan.environment != "sim"
}

/// The world that a plan names, with everything started.
pub fn world(
    args: &RunArgs,
    plan: &Plan,
    system: &dyn System,
    header: &Header,
    dir: &RunDir,
    cargo: &Cargo,
) -> Result<Box<dyn World>, Failure> {
    match plan.environment.as_str() {
        "sim" => sim(args, plan, header).map(|world| Box::new(world) as Box<dyn World>),
        "local" => local(args, plan, system, header, dir, cargo).map(|world| Box::new(world) as Box<dyn World>),
        "docker" | "ssh" | "vagrant" => {
            machines(args, plan, system, header, dir, cargo).map(|world| Box::new(world) as Box<dyn World>)
        }
        other => unreachable!("the plan was checked against {ENVIRONMENTS:?}, and is for {other}"),
    }
}

fn sim(args: &RunArgs, plan: &Plan, header: &Header) -> Result<SimWorld, Failure> {
    let tuning = splitbrain_systems::raft::tuning(plan).map_err(Failure::usage)?;
    let mutant = splitbrain_systems::raft::mutant(plan).map_err(Failure::usage)?;
    let peers: Vec<_> = header.hosts.iter().filter(|h| h.asked).map(|h| h.name).collect();
    let seed = header.seed;
    let mut config = SimConfig::new(seed, header.hosts.clone());
    config.fenced = plan.storage == Storage::Fenced;
    let sabotage = args.sabotage.as_deref().map(str::parse).transpose();
    config.sabotage = sabotage.map_err(Failure::usage)?;
    let build = move |name, records, incarnation: u32| {
        let rng = splitbrain_core::seed::stream(seed, &format!("{name}/{incarnation}"));
        let config = MemberConfig {
            name,
            peers: peers.clone(),
            tuning,
            mutant,
        };
        Member::new(config, records, rng).map(|member| Box::new(member) as Box<dyn Protocol>)
    };
    Ok(SimWorld::new(config, Box::new(build)))
}

fn local(
    args: &RunArgs,
    plan: &Plan,
    system: &dyn System,
    header: &Header,
    dir: &RunDir,
    cargo: &Cargo,
) -> Result<LiveWorld, Failure> {
    let sabotage = args.sabotage.as_deref().map(str::parse).transpose();
    let sabotage = sabotage.map_err(Failure::usage)?;
    let config = LocalConfig {
        program: sandbox_program()?,
        dir: dir.path.clone(),
        hosts: header.hosts.clone(),
        seed: header.seed,
        pcap: args.pcap,
        clock: plan.hosts.clock,
        layered_disks: support::layered_disks(plan, system),
        sabotage,
    };
    let failed = |e: anyhow::Error| Failure::harness(format!("{e:#}"));
    let local = LocalSite::create(config).map_err(failed)?;
    cargo.ship(&header.hosts, &local)?;
    let processes = system.deploy(plan, header.seed, local.site());
    LiveWorld::start(Arc::new(local), processes).map_err(failed)
}

fn machines(
    args: &RunArgs,
    plan: &Plan,
    system: &dyn System,
    header: &Header,
    dir: &RunDir,
    cargo: &Cargo,
) -> Result<LiveWorld, Failure> {
    let sabotage = args.sabotage.as_deref().map(str::parse).transpose();
    let sabotage = sabotage.map_err(Failure::usage)?;
    let program = std::env::current_exe().map_err(|e| Failure::harness(format!("failed to find this program: {e}")))?;
    let layered = support::layered_disks(plan, system);
    let order = grounds::order(
        &program,
        &dir.path,
        header.hosts.clone(),
        plan,
        header.seed,
        layered,
        sabotage,
    );
    let failed = |e: anyhow::Error| Failure::harness(format!("{e:#}"));
    let fleet = Arc::new(grounds::fleet(plan, order).map_err(failed)?);
    cargo.ship(&header.hosts, fleet.as_ref())?;
    let processes = system.deploy(plan, header.seed, fleet.site());
    LiveWorld::start(fleet, processes).map_err(failed)
}

/// `splitbrain node`: a member or the storage, on a host.
pub fn node(role: &str, config: &str) -> Result<ExitCode, Failure> {
    let unreadable = |e: serde_json::Error| Failure::usage(format!("failed to read the settings of a {role}: {e}"));
    let result = match role {
        "member" => splitbrain_node::member::run(serde_json::from_str(config).map_err(unreadable)?),
        "storage" => splitbrain_node::storage::run(&serde_json::from_str(config).map_err(unreadable)?),
        _ => {
            return Err(Failure::usage(format!(
                "'{role}' is not run on a host: member or storage"
            )));
        }
    };
    result.map_err(|e| Failure::harness(format!("{e:#}")))?;
    Ok(ExitCode::SUCCESS)
}

/// `splitbrain agent`: a system's candidate or observer, on a host.
pub fn agent(kind: &str, config: &str) -> Result<ExitCode, Failure> {
    splitbrain_systems::agent(kind, config).map_err(|e| Failure::harness(format!("{e:#}")))?;
    Ok(ExitCode::SUCCESS)
}
