//! Reading a plan's `[options]`, and finding what a plan needs on this machine.
//!
//! A system lists its options once, with a sentence each; an option that it does not list is an error that names those
//! that it does, so that a slip of the pen never runs the wrong experiment.
use splitbrain_core::{HostRole, HostSpec, Name, Nanos, Need, Plan};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Refuses options that `known` does not list.
pub(crate) fn refuse_unknown(plan: &Plan, known: &[(&str, &str)]) -> Result<(), String> {
    for name in plan.options.keys() {
        if !known.iter().any(|(k, _)| k == name) {
            let list: Vec<_> = known.iter().map(|(k, _)| *k).collect();
            return Err(format!(
                "'{name}' is no option of {}: it knows {}",
                plan.system,
                list.join(", ")
            ));
        }
    }
    Ok(())
}

/// The option `name` as a time, or `default`; zero is one too.
pub(crate) fn time_or_none(plan: &Plan, name: &str, default: Nanos) -> Result<Nanos, String> {
    match plan.options.get(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| format!("option {name} = '{text}' is no time such as 5s or 300ms")),
    }
}

/// The option `name` as a time longer than nothing, or `default`.
pub(crate) fn time(plan: &Plan, name: &str, default: Nanos) -> Result<Nanos, String> {
    match time_or_none(plan, name, default)? {
        Nanos::ZERO => Err(format!("option {name} must be longer than nothing")),
        time => Ok(time),
    }
}

/// The option `name` as a switch, or `default`.
pub(crate) fn switch(plan: &Plan, name: &str, default: bool) -> Result<bool, String> {
    match plan.options.get(name).map(String::as_str) {
        None => Ok(default),
        Some("true" | "on" | "yes") => Ok(true),
        Some("false" | "off" | "no") => Ok(false),
        Some(text) => Err(format!("option {name} = '{text}' is neither true nor false")),
    }
}

/// Refuses a mutant where the system has none.
pub(crate) fn refuse_mutant(plan: &Plan) -> Result<(), String> {
    match &plan.mutant {
        Some(name) => Err(format!(
            "{} has no mutant '{name}': it is judged as it is installed",
            plan.system
        )),
        None => Ok(()),
    }
}

/// A count from a plan where 0 stands for `default`.
pub(crate) fn count(asked: u32, default: usize) -> usize {
    if asked == 0 { default } else { asked as usize }
}

/// The first executable file called `name` in the folders of `path` (the form of `$PATH`).
pub(crate) fn in_path(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Whether `file` is a file that someone may execute.
pub(crate) fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What every system of installed programs asks of a plan: no mutant, and hosts that are real.
pub(crate) fn refuse_simulation(plan: &Plan) -> Result<(), String> {
    refuse_mutant(plan)?;
    match plan.environment.as_str() {
        "sim" => Err(format!(
            "{} is a real program and cannot be simulated: choose an environment with hosts, such as local",
            plan.system
        )),
        _ => Ok(()),
    }
}

/// The program that a system needs, as hosts call it: the path that `option` names, or the first `need.what` on the
/// PATH. Only for `local` it is looked for: other machines have their own, and one that has none says so when it is
/// started. It is looked for and not run: nothing but an environment runs a command.
///
/// # Errors
/// There is none; how to get it.
pub(crate) fn program(plan: &Plan, option: &str, need: &Need) -> Result<PathBuf, String> {
    let remedy = || {
        format!(
            "apt-get install {}, or set the option {option} to the path of a binary",
            need.package
        )
    };
    match plan.options.get(option) {
        Some(path) if plan.environment != "local" => Ok(PathBuf::from(path)),
        None if plan.environment != "local" => Ok(PathBuf::from(need.what)),
        Some(path) if is_executable(Path::new(path)) => Ok(PathBuf::from(path)),
        Some(path) => Err(format!(
            "option {option} = '{path}' is no executable file: {}",
            remedy()
        )),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            // Servers are often installed where only root's PATH looks.
            in_path(need.what, &path)
                .or_else(|| in_path(need.what, "/usr/local/sbin:/usr/sbin:/sbin".as_ref()))
                .ok_or_else(|| format!("no {} on the PATH: {}", need.what, remedy()))
        }
    }
}

/// [`program`] of a plan that was checked, as an argument.
pub(crate) fn command(plan: &Plan, option: &str, need: &Need) -> String {
    match plan.options.get(option) {
        Some(path) => path.clone(),
        None => program(plan, option, need).map_or_else(|_| need.what.to_string(), |path| text(&path)),
    }
}

/// A path of a site, or of a program, as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("paths of a site are UTF-8").to_string()
}

/// `role` hosts `PREFIX1` to `PREFIXcount`.
pub(crate) fn hosts(prefix: &str, count: usize, role: HostRole, asked: bool) -> Vec<HostSpec> {
    let host = |n| HostSpec {
        name: Name::numbered(prefix, n),
        role,
        asked,
    };
    (1..=count).map(host).collect()
}

/// Hosts at 10.0.0.1 and up, in order, for tests of deployments.
#[cfg(test)]
pub(crate) fn test_site(hosts: &[splitbrain_core::HostSpec]) -> splitbrain_core::Site {
    let place = |n: usize, name: &splitbrain_core::Name| splitbrain_core::system::Place {
        ip: format!("10.0.0.{}", n + 1).parse().expect("it is an address"),
        dir: format!("/data/{name}").into(),
    };
    splitbrain_core::Site {
        places: hosts
            .iter()
            .enumerate()
            .map(|(n, h)| (h.name, place(n, &h.name)))
            .collect(),
        program: "/opt/splitbrain".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &[(&str, &str)]) -> Plan {
        let mut plan = Plan::new("etcd", "local");
        plan.options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        plan
    }

    #[test]
    fn what_a_plan_says_is_read_or_refused_by_name() {
        let good = plan(&[("ttl", "5s"), ("pre-vote", "off")]);
        assert_eq!(time(&good, "ttl", Nanos::secs(1)), Ok(Nanos::secs(5)));
        assert_eq!(time(&good, "other", Nanos::secs(1)), Ok(Nanos::secs(1)));
        assert_eq!(
            time_or_none(&plan(&[("work", "0s")]), "work", Nanos::secs(1)),
            Ok(Nanos::ZERO)
        );
        assert_eq!(switch(&good, "pre-vote", true), Ok(false));
        assert_eq!(switch(&good, "other", true), Ok(true));
        let bad = plan(&[("ttl", "soon"), ("zero", "0s"), ("pre-vote", "maybe")]);
        assert!(time(&bad, "ttl", Nanos::secs(1)).unwrap_err().contains("ttl = 'soon'"));
        assert!(time(&bad, "zero", Nanos::secs(1)).is_err());
        assert!(switch(&bad, "pre-vote", true).unwrap_err().contains("'maybe'"));
        let error = refuse_unknown(&good, &[("ttl", "")]).unwrap_err();
        assert_eq!(error, "'pre-vote' is no option of etcd: it knows ttl");
    }

    #[test]
    fn a_program_is_found_only_where_it_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for folder in [&a, &b] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("tool"), "").unwrap();
        }
        let path = std::env::join_paths([&a, &b]).unwrap();
        assert_eq!(in_path("tool", &path), None);
        std::fs::set_permissions(b.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(in_path("tool", &path), Some(b.join("tool")));
    }
}
