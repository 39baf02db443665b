//! From a plan file and a command line to a plan, and back to the command line that repeats a run.
//!
//! What the command line says goes before what the file says, and both before the defaults. A bad plan is named with its
//! line and column; an unknown system, environment or option with what there is.
use crate::args::{FaultChoice, HealArgs, RunArgs};
use crate::exit::Failure;
use crate::{grounds, shipping};
use splitbrain_core::Plan;
use splitbrain_core::plan::{Deploy, FaultKind, Faults, Part, Storage};
use std::path::Path;

/// The system that `[deploy]` is about.
const OWN: &str = splitbrain_systems::own::NAME;

/// The environments there are, each with a sentence.
pub const ENVIRONMENTS: [(&str, &str); 5] = [
    (
        "local",
        "network namespaces on this machine, real processes, a switch of our own; no root needed",
    ),
    (
        "sim",
        "simulated hosts, network, disks and time; the same seed gives the same history (raft only)",
    ),
    (
        "docker",
        "containers on a private network of an engine on this machine; the right to use it is needed",
    ),
    (
        "ssh",
        "machines that run sshd, see --hosts; root or sudo there, iptables and tc for network faults",
    ),
    (
        "vagrant",
        "the machines of a Vagrantfile, whatever provider runs them; they are reached by ssh",
    ),
];

/// The plan that `args` ask for.
pub fn plan(args: &RunArgs) -> Result<Plan, Failure> {
    let mut plan = match &args.plan {
        Some(path) => read(path)?,
        None => {
            let faults = Faults {
                kinds: vec![FaultKind::Partition, FaultKind::Kill, FaultKind::Pause],
                ..Faults::default()
            };
            Plan {
                name: String::new(),
                faults,
                ..Plan::new("raft", "local")
            }
        }
    };
    apply(&mut plan, args)?;
    grounds::apply(&mut plan, &args.machines);
    if plan.name.is_empty() {
        plan.name.clone_from(&plan.system);
    }
    check(&plan)?;
    Ok(plan)
}

/// The plan whose machines are to be healed, if any are named.
pub fn machines(args: &HealArgs) -> Result<Option<Plan>, Failure> {
    let mut plan = match (&args.plan, &args.env) {
        (Some(path), _) => read(path)?,
        (None, Some(env)) => Plan::new("raft", env),
        (None, None) if !args.machines.hosts.is_empty() => Plan::new("raft", "ssh"),
        (None, None) => return Ok(None),
    };
    if let Some(env) = &args.env {
        plan.environment.clone_from(env);
    }
    grounds::apply(&mut plan, &args.machines);
    grounds::check(&plan)?;
    Ok(Some(plan))
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("failed to read the plan {}: {e}", path.display())))?;
    let mut plan = parse(&text).map_err(|e| Failure::usage(format!("{} is no good plan:\n{e}", path.display())))?;
    if let Some(folder) = path.parent() {
        shipping::resolve(&mut plan.deploy, folder);
    }
    Ok(plan)
}

/// Reads a plan; the error shows line, column and the line itself.
pub fn parse(text: &str) -> Result<Plan, String> {
    toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())
}

/// A plan as its file has it.
pub fn to_toml(plan: &Plan) -> String {
    toml::to_string(plan).expect("a plan always becomes TOML")
}

fn apply(plan: &mut Plan, args: &RunArgs) -> Result<(), Failure> {
    fn set<T: Clone>(to: &mut T, from: &Option<T>) {
        if let Some(value) = from {
            to.clone_from(value);
        }
    }
    if let Some(command) = &args.candidate {
        plan.system = OWN.to_string();
        plan.deploy.candidate.command.clone_from(command);
    }
    if !args.files.is_empty() {
        plan.deploy.candidate.files.clone_from(&args.files);
    }
    plan.deploy.servers = args.servers.clone().or(plan.deploy.servers.take());
    set(&mut plan.system, &args.system);
    set(&mut plan.environment, &args.env);
    set(&mut plan.nodes, &args.nodes);
    set(&mut plan.candidates, &args.candidates);
    set(&mut plan.time_limit, &args.time_limit);
    set(&mut plan.workload, &args.workload);
    set(&mut plan.storage, &args.storage);
    set(&mut plan.rate, &args.rate);
    set(&mut plan.faults.every, &args.every);
    set(&mut plan.faults.lasting, &args.lasting);
    set(&mut plan.faults.shapes, &args.shapes);
    set(&mut plan.faults.targets, &args.targets);
    if args.unfenced {
        plan.storage = Storage::Unfenced;
    }
    if let Some(name) = args.name {
        plan.name = name.to_string();
    }
    plan.seed = args.seed.or(plan.seed);
    plan.mutant = args.mutant.clone().or(plan.mutant.take());
    if let Some(choices) = &args.faults {
        let kinds = choices
            .iter()
            .filter_map(|c| if let FaultChoice::Kind(k) = c { Some(*k) } else { None });
        plan.faults.kinds = kinds.collect();
        if choices.contains(&FaultChoice::Nothing) && choices.len() > 1 {
            return Err(Failure::usage("--faults none goes with no other fault"));
        }
    }
    let mut given = Vec::new();
    let short = [("ttl", &args.ttl), ("etcd-bin", &args.etcd_bin)];
    for (key, value) in short {
        if let Some(value) = value {
            given.push(key.to_string());
            plan.options.insert(key.to_string(), value.clone());
        }
    }
    for option in &args.options {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("-o {option}: an option is KEY=VALUE")))?;
        if given.iter().any(|k| k == key) {
            return Err(Failure::usage(format!("the option '{key}' is given twice")));
        }
        given.push(key.to_string());
        plan.options.insert(key.to_string(), value.to_string());
    }
    Ok(())
}

/// What can be wrong with a plan whatever the system.
fn check(plan: &Plan) -> Result<(), Failure> {
    if !ENVIRONMENTS.iter().any(|(name, _)| *name == plan.environment) {
        let known: Vec<_> = ENVIRONMENTS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!(
            "no environment '{}': there is {}",
            plan.environment,
            known.join(", ")
        )));
    }
    if plan.system != OWN && plan.deploy != Deploy::default() {
        return Err(Failure::usage(format!(
            "a program of your own is the system {OWN}, and not {}: leave --system out, or [deploy] with --candidate, \
             --file and --servers",
            plan.system
        )));
    }
    if plan.name.parse::<splitbrain_core::Name>().is_err() {
        return Err(Failure::usage(format!(
            "the name '{}' is not 1 to 15 of a-z, 0-9 and '-'",
            plan.name
        )));
    }
    if !(plan.rate.is_finite() && plan.rate > 0.0 && plan.rate <= 10_000.0) {
        return Err(Failure::usage(format!(
            "a rate of {:?} writes per second is not above 0 and at most 10000",
            plan.rate
        )));
    }
    if plan.nodes > 50 || plan.candidates > 50 {
        return Err(Failure::usage(
            "more than 50 nodes or candidates are more than one machine carries",
        ));
    }
    let secs = plan.time_limit.as_secs_f64();
    if !(1.0..=86_400.0).contains(&secs) {
        return Err(Failure::usage(format!(
            "a time limit of {} is not between 1s and 1d",
            plan.time_limit
        )));
    }
    let zero = |t: splitbrain_core::Nanos| t.0 < 1_000_000;
    if zero(plan.faults.every) || zero(plan.faults.lasting) || plan.script.iter().any(|s| zero(s.lasting)) {
        return Err(Failure::usage(
            "faults must be at least 1ms apart and last at least 1ms",
        ));
    }
    grounds::check(plan)
}

/// Whether a command line can say all of `plan`: a script, and most of what a service of one's own needs, it cannot.
fn fits_on_a_line(plan: &Plan) -> bool {
    let deploy = Deploy {
        servers: plan.deploy.servers.clone(),
        candidate: Part {
            command: plan.deploy.candidate.command.clone(),
            ..Part::default()
        },
        ..Deploy::default()
    };
    plan.script.is_empty() && plan.deploy == deploy
}

/// The command that runs `plan` with `seed` again. What does not fit on a command line is repeated from the plan in the
/// run's folder, `run`.
pub fn replay(plan: &Plan, seed: u64, run: Option<&Path>) -> String {
    let default = Plan::new(&plan.system, &plan.environment);
    let time = |t: splitbrain_core::Nanos| humantime_text(t).replace(' ', "");
    let mut words = vec!["splitbrain run".to_string()];
    let line = fits_on_a_line(plan);
    if !line {
        let file = run.map_or("plan.toml".into(), |run| run.join("plan.toml"));
        words.push(quoted(&file.display().to_string()));
    } else {
        words.push(format!("--system {} --env {}", plan.system, plan.environment));
        if plan.system == OWN {
            words.push(format!("--candidate {}", quoted(&plan.deploy.candidate.command)));
        }
        if let Some(servers) = &plan.deploy.servers {
            words.push(format!("--servers {}", quoted(servers)));
        }
        if plan.nodes != 0 {
            words.push(format!("--nodes {}", plan.nodes));
        }
        if plan.candidates != 0 {
            words.push(format!("--candidates {}", plan.candidates));
        }
        let kinds: Vec<_> = plan.faults.kinds.iter().map(|k| k.name()).collect();
        words.push(format!(
            "--faults {}",
            if kinds.is_empty() {
                "none".to_string()
            } else {
                kinds.join(",")
            }
        ));
        if plan.faults.every != default.faults.every {
            words.push(format!("--every {}", time(plan.faults.every)));
        }
        if plan.faults.lasting != default.faults.lasting {
            words.push(format!("--lasting {}", time(plan.faults.lasting)));
        }
        if !plan.faults.shapes.is_empty() {
            let shapes: Vec<_> = plan.faults.shapes.iter().map(|s| s.name()).collect();
            words.push(format!("--shapes {}", shapes.join(",")));
        }
        if !plan.faults.targets.is_empty() {
            let targets: Vec<_> = plan.faults.targets.iter().map(|t| t.to_string()).collect();
            words.push(format!("--targets {}", targets.join(",")));
        }
        words.push(format!("--time-limit {}", time(plan.time_limit)));
        if plan.workload != default.workload {
            words.push(format!("--workload {}", plan.workload.name()));
        }
        match plan.storage {
            Storage::Fenced => {}
            Storage::Unfenced => words.push("--unfenced".to_string()),
            Storage::Guarded => words.push("--storage guarded".to_string()),
        }
        if plan.rate != default.rate {
            words.push(format!("--rate {}", plan.rate));
        }
        if let Some(mutant) = &plan.mutant {
            words.push(format!("--mutant {}", quoted(mutant)));
        }
        for (flag, value) in grounds::words(plan) {
            let value = value.map(|value| format!(" {}", quoted(&value))).unwrap_or_default();
            words.push(format!("{flag}{value}"));
        }
        for (key, value) in &plan.options {
            words.push(format!("-o {}", quoted(&format!("{key}={value}"))));
        }
    }
    if line && plan.name != plan.system {
        words.push(format!("--name {}", quoted(&plan.name)));
    }
    words.push(format!("--seed {seed}"));
    words.join(" ")
}

fn humantime_text(t: splitbrain_core::Nanos) -> String {
    // Serialised as plans write it, so that the command line and the file agree.
    #[derive(serde::Serialize)]
    struct Text(#[serde(with = "splitbrain_core::time::text")] splitbrain_core::Nanos);
    match serde_json::to_value(Text(t)) {
        Ok(serde_json::Value::String(text)) => text,
        other => unreachable!("a time always becomes text: {other:?}"),
    }
}

/// Quoted for a shell where it needs to be.
pub fn quoted(s: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@".contains(c);
    if !s.is_empty() && s.chars().all(plain) {
        s.to_string()
    } else {
        format!("'{}'", s.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn from_line(line: &str) -> Plan {
        let Command::Run(args) = Args::parse_from(line.split_whitespace()).command else {
            panic!("not a run")
        };
        plan(&args).unwrap()
    }

    fn check_replay(line: &str) {
        let mut first = from_line(line);
        let again = replay(&first, 7, None);
        first.seed = Some(7);
        // None of the words here has a blank: what a shell makes of the line is the line without its quotes.
        assert_eq!(from_line(&again.replace('\'', "")), first, "{again}");
    }

    #[test]
    fn the_replay_line_gives_the_same_plan() {
        check_replay("splitbrain run");
        check_replay("splitbrain run --workload jobs --storage guarded");
        check_replay("splitbrain run --name nightly --system etcd-election --faults none --ttl 3s --time-limit 1m");
        check_replay(
            "splitbrain run --env sim --nodes 3 --faults pause,kill --shapes bridge --targets leader,host:n1 \
             --every 500ms --lasting 1m30s --unfenced --rate 3.5 --mutant forget-vote -o heartbeat=20ms",
        );
    }

    #[test]
    fn the_replay_line_names_the_program() {
        check_replay("splitbrain run --candidate ./mine");
        check_replay("splitbrain run --candidate ./mine --servers etcd --nodes 1 --workload lock -o recovery=20s");
        let with_file = from_line("splitbrain run --candidate ./mine --file mine");
        assert_eq!(
            replay(&with_file, 7, Some(Path::new("/s/candidate/1"))),
            "splitbrain run /s/candidate/1/plan.toml --seed 7"
        );
    }

    #[test]
    fn the_replay_line_names_the_machines() {
        check_replay("splitbrain run --env docker --base-image base:1 --mount /opt/etcd --clock process");
        check_replay(
            "splitbrain run --env ssh --hosts root@10.0.0.1,a@[fd00::2]:2222 --identity ~/.ssh/id --known-hosts k \
             --accept-new-host-keys --jump me@bastion --network 10.0.0.0/24 --dead-man 20s",
        );
        check_replay("splitbrain run --env vagrant --vagrant-dir boxes --clock host --faults clock,disk");
    }

    #[test]
    fn a_scripted_run_is_repeated_from_its_own_plan() {
        let mut plan = from_line("splitbrain run --env sim");
        let script = "at = \"1s\"\nlasting = \"1s\"\nfault = \"kill\"\n";
        plan.script.push(toml::from_str(script).unwrap());
        assert_eq!(
            replay(&plan, 7, Some(Path::new("/s/raft/1"))),
            "splitbrain run /s/raft/1/plan.toml --seed 7"
        );
    }

    #[test]
    fn a_plan_comes_back_as_it_was_written() {
        let plan = from_line("splitbrain run --env sim --targets leader --seed 3");
        assert_eq!(parse(&to_toml(&plan)).unwrap(), plan);
    }

    #[test]
    fn a_bad_plan_is_named_with_line_and_column() {
        let error = parse("system = \"raft\"\nenvironment = \"sim\"\nnods = 3\n").unwrap_err();
        assert!(error.contains("line 3, column 1") && error.contains("nods"), "{error}");
        let error = parse("system = \"raft\"\nenvironment = \"sim\"\ntime-limit = \"soon\"\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("soon"), "{error}");
    }
}
