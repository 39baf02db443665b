//! What there is, what works here, and what may be left behind: `list`, `doctor`, `heal`.
use crate::args::{DoctorArgs, HealArgs, ListArgs, Listing};
use crate::exit::{self, Failure};
use crate::plan_file::{self, ENVIRONMENTS};
use crate::wiring;
use crate::{grounds, listing, support};
use serde_json::{Value, json};
use splitbrain_checkers::models::Kind;
use splitbrain_core::Plan;
use splitbrain_core::plan::{FaultKind, Grudge, Workload};
use splitbrain_environments::local::Check;
use splitbrain_environments::{docker, ssh};
use splitbrain_runner::store;
use std::process::ExitCode;
use tabled::builder::Builder;
use tabled::settings::peaker::Priority;
use tabled::settings::{Style, Width};

/// How wide a table may be.
pub fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    asked.unwrap_or(110)
}

/// A table as wide as the terminal at most.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut builder = Builder::default();
    builder.push_record(head.iter().copied());
    for row in rows {
        builder.push_record(row);
    }
    let mut table = builder.build();
    table
        .with(Style::sharp())
        .with(Width::wrap(width()).priority(Priority::max(true)).keep_words(true));
    format!("{table}\n")
}

/// `splitbrain list`.
pub fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let all = [
        Listing::Systems,
        Listing::Workloads,
        Listing::Faults,
        Listing::Checkers,
        Listing::Models,
        Listing::Environments,
    ];
    if args.what != Some(Listing::Systems) && (args.verbose || !args.names.is_empty()) {
        return Err(Failure::usage(
            "only systems have more to tell: list systems --verbose, or list system NAME",
        ));
    }
    let wanted: Vec<Listing> = args.what.map_or(all.to_vec(), |what| vec![what]);
    if args.json {
        let mut object = serde_json::Map::new();
        for what in &wanted {
            object.insert(format!("{what:?}").to_lowercase(), listing_json(*what, args)?);
        }
        let text = serde_json::to_string_pretty(&object).expect("plain data always becomes JSON");
        exit::print(&(text + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for what in wanted {
        text += &format!("{what:?}\n{}\n", listing_table(what, args)?);
    }
    exit::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn listing_table(what: Listing, args: &ListArgs) -> Result<String, Failure> {
    let pair = |(name, text): &(&str, &str)| vec![name.to_string(), text.to_string()];
    Ok(match what {
        Listing::Systems => listing::text(args)?,
        Listing::Workloads => {
            let rows = Workload::ALL
                .map(|w| vec![w.name().to_string(), w.describe().to_string()])
                .to_vec();
            table(&["workload", "what is asked"], rows)
        }
        Listing::Faults => {
            let rows = FaultKind::ALL
                .map(|k| vec![k.name().to_string(), k.describe().to_string()])
                .to_vec();
            let shapes: Vec<_> = Grudge::ALL.iter().map(|g| g.name()).collect();
            let targets = "one, minority, majority, all, leader, non-leader, role:ROLE, host:NAME";
            table(&["fault", "what breaks"], rows)
                + &fault_table()
                + &format!("partition shapes: {}\ntargets: {targets}\n", shapes.join(", "))
        }
        Listing::Checkers => table(
            &["checker", "what it judges"],
            splitbrain_checkers::names().iter().map(pair).collect(),
        ),
        Listing::Models => {
            let rows = Kind::all().map(|kind| vec![kind.name().to_string(), kind.sentence().to_string()]);
            table(&["model", "what it stands for"], rows.collect())
        }
        Listing::Environments => table(&["environment", "what it is"], ENVIRONMENTS.iter().map(pair).collect()),
        Listing::Runs => {
            let runs = store::list(&args.store).map_err(Failure::harness)?;
            if runs.is_empty() {
                return Ok(format!("no runs in {}\n", args.store.display()));
            }
            let rows = runs.iter().map(|run| {
                let (system, seed) = run.header.as_ref().map_or(("?".into(), "?".into()), |h| {
                    (
                        format!("{} in {}", h.plan.system, h.plan.environment),
                        h.seed.to_string(),
                    )
                });
                let state = match run.state {
                    store::State::Ended => verdict_of(run),
                    store::State::Running => "running".to_string(),
                    store::State::CutOff => "cut off".to_string(),
                };
                vec![run.id.clone(), system, seed, state]
            });
            table(&["run", "system", "seed", "verdict"], rows.collect())
        }
    })
}

/// How each environment does each fault.
fn fault_table() -> String {
    let mut head = vec!["where"];
    head.extend(FaultKind::ALL.map(FaultKind::name));
    let rows = support::PLACES.map(|place| {
        let cells = FaultKind::ALL.map(|kind| match support::support(place, kind) {
            support::Support::Works(how) => how.to_string(),
            support::Support::OwnNode(how, _) => format!("{how} (raft only)"),
        });
        std::iter::once(place.to_string()).chain(cells).collect()
    });
    table(&head, rows.to_vec())
}

fn verdict_of(run: &store::Listed) -> String {
    let text = std::fs::read_to_string(run.path.join("verdicts.json")).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["validity"].as_str().unwrap_or("not judged").to_string()
}

fn listing_json(what: Listing, args: &ListArgs) -> Result<Value, Failure> {
    Ok(match what {
        Listing::Systems => listing::json(args)?,
        Listing::Workloads => Workload::ALL
            .iter()
            .map(|w| json!({"name": w.name(), "what": w.describe(), "operations": w.operations()}))
            .collect(),
        Listing::Faults => FaultKind::ALL
            .iter()
            .map(|k| json!({"name": k.name(), "what": k.describe()}))
            .collect(),
        Listing::Checkers => splitbrain_checkers::names()
            .iter()
            .map(|(n, w)| json!({"name": n, "what": w}))
            .collect(),
        Listing::Models => Kind::all()
            .map(|kind| json!({"name": kind.name(), "what": kind.sentence()}))
            .collect(),
        Listing::Environments => ENVIRONMENTS
            .iter()
            .map(|(n, w)| json!({"name": n, "what": w}))
            .collect(),
        Listing::Runs => {
            let runs = store::list(&args.store).map_err(Failure::harness)?;
            let json = |run: &store::Listed| {
                let header = run.header.as_ref();
                json!({"run": run.id, "system": header.map(|h| &h.plan.system), "seed": header.map(|h| h.seed),
                       "state": format!("{:?}", run.state).to_lowercase(), "verdict": verdict_of(run)})
            };
            runs.iter().map(json).collect()
        }
    })
}

/// What was checked, whether it is well, and what to do if not.
fn row(check: Check) -> (String, bool, String) {
    let detail = if check.ok {
        check.detail
    } else {
        format!("{}; {}", check.detail, check.remedy)
    };
    (check.name, check.ok, detail)
}

/// `splitbrain doctor`.
pub fn doctor(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let checks = splitbrain_environments::local::doctor(&wiring::sandbox_program()?);
    let mut rows: Vec<(String, bool, String)> = Vec::new();
    rows.extend(checks.into_iter().map(row));
    let needed = rows.iter().all(|(_, ok, _)| *ok);
    let (ok, detail, remedy) = docker::doctor();
    let engine = Check {
        name: "a docker engine".to_string(),
        ok,
        detail,
        remedy,
    };
    rows.push(row(engine));
    rows.extend(ssh::doctor().into_iter().map(row));
    for system in splitbrain_systems::all() {
        let missing = system.check(&Plan::new(system.name(), "local")).err();
        let detail = missing.clone().unwrap_or_else(|| "ready".to_string());
        rows.push((format!("system {}", system.name()), missing.is_none(), detail));
    }
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(n, ok, d)| json!({"check": n, "ok": ok, "detail": d}))
            .collect();
        exit::print(&(serde_json::to_string_pretty(&rows).expect("plain data always becomes JSON") + "\n"))?;
    } else {
        let word = |ok: bool| if ok { "yes" } else { "no" }.to_string();
        let rows = rows.into_iter().map(|(n, ok, d)| vec![n, word(ok), d]).collect();
        exit::print(&table(&["check", "works", "detail"], rows))?;
    }
    // A system that is not installed is no defect of this machine; an environment that cannot run is.
    Ok(ExitCode::from(if needed { 0 } else { exit::HARNESS }))
}

/// `splitbrain heal`.
pub fn heal(args: &HealArgs) -> Result<ExitCode, Failure> {
    let leftovers = splitbrain_environments::local::leftovers().map_err(|e| Failure::harness(format!("{e:#}")))?;
    let plan = plan_file::machines(args)?;
    let healed = grounds::heal(plan.as_ref(), args.images)?;
    let mut failed = healed.failed;
    if leftovers.is_empty() && healed.done.is_empty() && failed.is_empty() {
        exit::print("nothing of ours was left behind\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    for done in healed.done {
        exit::print(&format!("{done}\n"))?;
    }
    for leftover in &leftovers {
        let named = format!("process {} of the killed run {}", leftover.pid, leftover.control);
        match splitbrain_environments::local::end(leftover) {
            Ok(()) => exit::print(&format!("ended {named}\n"))?,
            Err(e) => failed.push(format!("failed to end {named}: {e:#}")),
        }
    }
    if failed.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::harness(failed.join("\n  ")))
    }
}
