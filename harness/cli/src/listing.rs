//! `list systems`: what each system is, what it needs and which version of that is here, and what it promises.
//!
//! The table is for choosing, so it says everything in a line or two; `--verbose`, or a system's name, gives the promises
//! with their sources and the options. A version is what the installed program says of itself when it is asked, see
//! [`splitbrain_environments::versions`].
use crate::args::ListArgs;
use crate::exit::Failure;
use crate::inspect::{table, width};
use serde_json::{Value, json};
use splitbrain_core::plan::Workload;
use splitbrain_core::promise::Holds;
use splitbrain_core::system::Need;
use splitbrain_core::{Plan, Promise, System};
use splitbrain_environments::versions::{self, Found};
use std::collections::BTreeMap;
use std::path::Path;
use tabled::builder::Builder;
use tabled::settings::Style;

/// Something a system needs, and what of it is here.
struct Installed {
    need: Need,
    found: Option<Found>,
}

impl Installed {
    /// Looks for what `system` needs; `options` may name other binaries.
    fn of(system: &dyn System, options: &BTreeMap<String, String>) -> Vec<Installed> {
        let look = |need: &Need| {
            // Another class path goes before Debian's files, and what is there nobody tells.
            if need.version.is_empty() && options.keys().any(|key| key.ends_with("-classpath")) {
                let need = *need;
                return Installed { need, found: None };
            }
            // The option that names another binary is called after the program.
            let other = options.get(&format!("{}-bin", need.what));
            let found = versions::find(other.map_or(need.what, String::as_str), need.version);
            Installed { need: *need, found }
        };
        system.needs().iter().map(look).collect()
    }

    /// The program's name, or the file's without its folder and ending.
    fn name(&self) -> &'static str {
        Path::new(self.need.what)
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or(self.need.what)
    }

    fn version(&self) -> Option<&str> {
        self.found.as_ref()?.version.as_deref()
    }

    /// In a line: `etcd 3.4.23`, or how to get it.
    fn line(&self) -> String {
        let Need { package, .. } = self.need;
        match (&self.found, self.version()) {
            (None, _) => format!("no {}: apt-get install {package}", self.name()),
            (Some(_), Some(version)) => format!("{} {version}", self.name()),
            (Some(_), None) => format!("{} (no version)", self.name()),
        }
    }

    fn json(&self) -> Value {
        json!({"what": self.need.what, "package": self.need.package, "installed": self.found.is_some(),
               "path": self.found.as_ref().map(|f| &f.path), "version": self.version()})
    }
}

/// The versions of what `system` needs, by program, where the plan's hosts are this machine: nothing is known of others.
pub fn versions(plan: &Plan, system: &dyn System) -> BTreeMap<String, String> {
    if plan.environment != "local" {
        return BTreeMap::new();
    }
    let here = Installed::of(system, &plan.options);
    let told = |i: Installed| i.version().map(|version| (i.name().to_string(), version.to_string()));
    here.into_iter().filter_map(told).collect()
}

/// Those that `args` name; all where none is named.
fn chosen(args: &ListArgs) -> Result<Vec<Box<dyn System>>, Failure> {
    let all = splitbrain_systems::all();
    let known = |name: &str| all.iter().any(|s| s.name() == name);
    if let Some(name) = args.names.iter().find(|name| !known(name)) {
        let there: Vec<_> = all.iter().map(|s| s.name()).collect();
        return Err(Failure::usage(format!(
            "no system '{name}': there is {}",
            there.join(", ")
        )));
    }
    let wanted = |s: &dyn System| args.names.is_empty() || args.names.iter().any(|name| name == s.name());
    Ok(all.into_iter().filter(|s| wanted(s.as_ref())).collect())
}

/// For the terminal.
pub fn text(args: &ListArgs) -> Result<String, Failure> {
    let systems = chosen(args)?;
    if args.verbose || !args.names.is_empty() {
        return Ok(systems.iter().map(|s| details(s.as_ref()) + "\n").collect());
    }
    let row = |s: &dyn System| {
        let here = Installed::of(s, &BTreeMap::new());
        let lines: Vec<_> = here.iter().map(Installed::line).collect();
        let needs = if lines.is_empty() {
            "nothing".to_string()
        } else {
            lines.join("\n")
        };
        let name = format!("{}\n({})", s.name(), s.layer().name());
        vec![name, s.token().to_string(), needs, in_short(&promises(s))]
    };
    let rows = systems.iter().map(|s| row(s.as_ref())).collect();
    Ok(compact(rows) + "more of one: splitbrain list system NAME; of all: splitbrain list systems --verbose\n")
}

/// The table for choosing: what is long and told in lists gets the room.
fn compact(rows: Vec<Vec<String>>) -> String {
    let head = ["system (layer)", "token", "needs, found here", "promises"].map(str::to_string);
    let others = [14, 20, 19];
    let borders = 13;
    let room = width().saturating_sub(others.iter().sum::<usize>() + borders).max(30);
    let widths = [others[0], others[1], others[2], room];
    let fit = |row: Vec<String>| -> Vec<String> {
        row.iter()
            .zip(widths)
            .map(|(text, width)| filled(text, width))
            .collect()
    };
    let rows = std::iter::once(head.to_vec()).chain(rows).map(fit);
    format!("{}\n", Builder::from_iter(rows).build().with(Style::sharp()))
}

/// Each line of `text` in lines of at most `width`, broken between words only.
fn filled(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let mut current = words.next().unwrap_or_default().to_string();
        for word in words {
            if current.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut current));
            } else {
                current.push(' ');
            }
            current += word;
        }
        lines.push(current);
    }
    lines.join("\n")
}

fn promises(system: &dyn System) -> Vec<Promise> {
    system.promises(&Plan::new(system.name(), "local"))
}

/// The conditions in the order in which they are told, each with what is promised under it.
fn by_condition(promises: &[Promise]) -> Vec<(String, Vec<&'static str>)> {
    let rank = |holds: &Holds| match holds {
        Holds::Always => 0,
        Holds::Unless(_) => 1,
        Holds::Never => 2,
    };
    let mut sorted: Vec<&Promise> = promises.iter().collect();
    sorted.sort_by_key(|p| rank(&p.holds));
    let mut groups: Vec<(String, Vec<&'static str>)> = Vec::new();
    for promise in sorted {
        let condition = condition(&promise.holds);
        match groups.iter_mut().find(|(known, _)| *known == condition) {
            Some((_, names)) => names.push(promise.guarantee.name()),
            None => groups.push((condition, vec![promise.guarantee.name()])),
        }
    }
    groups
}

fn condition(holds: &Holds) -> String {
    match holds {
        Holds::Always => "always".to_string(),
        Holds::Never => "never".to_string(),
        Holds::Unless(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(|k| k.name()).collect();
            format!("unless {}", kinds.join(", "))
        }
    }
}

fn in_short(promises: &[Promise]) -> String {
    let lines = by_condition(promises);
    let lines: Vec<_> = lines
        .iter()
        .map(|(c, names)| format!("{c}: {}", names.join(", ")))
        .collect();
    lines.join("\n")
}

/// Everything about one system.
fn details(system: &dyn System) -> String {
    let missing = system.check(&Plan::new(system.name(), "local")).err();
    let missing = missing.map_or(String::new(), |why| format!("\n  not here: {why}"));
    let here = Installed::of(system, &BTreeMap::new());
    let needs: Vec<_> = here
        .iter()
        .map(|i| format!("{} ({})", i.line(), i.need.package))
        .collect();
    let needs = if needs.is_empty() {
        "nothing".to_string()
    } else {
        needs.join("; ")
    };
    let storages: Vec<_> = system
        .storages()
        .iter()
        .map(|s| format!("{s:?}").to_lowercase())
        .collect();
    let mut text = format!(
        "{}: {}{missing}\n  layer: {}\n  token: {}\n  beliefs: {}\n  needs: {needs}\n  operations: {}\n  \
         workloads: {}\n  storage: {}\n",
        system.name(),
        system.describe(),
        system.layer().name(),
        system.token(),
        system.beliefs(),
        system.operations().join(", "),
        workloads(system).join(", "),
        storages.join(", "),
    );
    let row = |p: &Promise| vec![p.guarantee.name().to_string(), condition(&p.holds), p.source.clone()];
    let rows = promises(system).iter().map(row).collect();
    text += &table(&["guarantee", "promised", "why"], rows);
    if !system.options().is_empty() {
        let row = |(name, what): &(&str, &str)| vec![name.to_string(), what.to_string()];
        text += &table(&["option", "meaning"], system.options().iter().map(row).collect());
    }
    text
}

/// What it can be asked.
fn workloads(system: &dyn System) -> Vec<&'static str> {
    let knows = system.operations();
    let able = |w: &Workload| w.operations().iter().all(|op| knows.contains(op));
    Workload::ALL.into_iter().filter(able).map(Workload::name).collect()
}

/// For programs: everything.
pub fn json(args: &ListArgs) -> Result<Value, Failure> {
    let one = |s: &dyn System| {
        let promises: Vec<_> = promises(s)
            .iter()
            .map(|p| json!({"guarantee": p.guarantee, "promised": condition(&p.holds), "why": p.source}))
            .collect();
        let options: Vec<_> = s
            .options()
            .iter()
            .map(|(name, what)| json!({"name": name, "what": what}))
            .collect();
        let here = Installed::of(s, &BTreeMap::new());
        json!({"name": s.name(), "what": s.describe(), "layer": s.layer().name(), "token": s.token(),
               "beliefs": s.beliefs(), "needs": here.iter().map(Installed::json).collect::<Vec<_>>(),
               "storages": s.storages(), "operations": s.operations(), "workloads": workloads(s),
               "options": options, "promises": promises,
               "missing": s.check(&Plan::new(s.name(), "local")).err()})
    };
    Ok(chosen(args)?.iter().map(|s| one(s.as_ref())).collect())
}
