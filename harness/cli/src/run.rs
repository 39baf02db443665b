//! `splitbrain run`: the experiment, from the plan to the report.
use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::interrupts;
use crate::judge::{self, Outcome};
use crate::listing;
use crate::plan_file;
use crate::progress::Progress;
use crate::{shipping, wiring};
use splitbrain_core::event::{Body, Event, Kind};
use splitbrain_core::history::{Header, SCHEMA};
use splitbrain_core::{Guarantee, Nanos, verdict};
use splitbrain_runner::store::{self, RunDir};
use splitbrain_runner::{Drive, Ended, Limits, Recorder, drive};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Recovery is given this long where the system promises no bound.
const RECOVERY_UNPROMISED: Nanos = Nanos::secs(15);

/// `splitbrain run`.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut plan = plan_file::plan(args)?;
    let system = wiring::system(&plan)?;
    let cargo = shipping::gather(&mut plan)?;
    let seed = plan.seed.unwrap_or_else(draw_seed);
    plan.seed = Some(seed);
    let hosts = system.hosts(&plan);
    let promises = system.promises(&plan);
    let header = Header {
        splitbrain: SCHEMA,
        seed,
        plan: plan.clone(),
        hosts,
        promises,
        beliefs: system.beliefs().to_string(),
        versions: listing::versions(&plan, system.as_ref()),
    };
    let mut nemesis = splitbrain_nemesis::Nemesis::new(&plan, seed, &header.hosts).map_err(Failure::usage)?;
    let mut workload = splitbrain_workloads::Workload::new(&plan, seed, &header.hosts, system.operations());

    let dir = RunDir::create(&args.store, &plan.name).map_err(Failure::harness)?;
    let replay = plan_file::replay(&plan, seed, Some(&dir.path));
    if !args.json {
        exit::print(&format!(
            "{} in {}, seed {seed}: {}\n",
            plan.system,
            plan.environment,
            dir.path.display()
        ))?;
    }
    let plan_text = format!("# {replay}\n{}", plan_file::to_toml(&plan));
    dir.write("plan.toml", &plan_text).map_err(Failure::harness)?;
    cargo.keep(&dir).map_err(Failure::harness)?;
    let mut recorder = Recorder::create(&dir.file(store::PLAIN), &header).map_err(Failure::harness)?;

    let stop = catch_interrupts();
    dir.make_latest().map_err(Failure::harness)?;
    let mut world = match wiring::world(args, &plan, system.as_ref(), &header, &dir, &cargo) {
        Ok(world) => world,
        Err(failure) => {
            let written = recorder.close();
            return conclude(
                args,
                &dir,
                Ended::Failed(written.err().unwrap_or(failure.why().to_string())),
            );
        }
    };
    let mut progress = Progress::new(plan.time_limit, args.json);
    let live = wiring::is_live(&plan);
    let mut sink = |event: &Event| {
        progress.event(event);
        recorder.record(event)?;
        // The history is the ledger: what may need healing is on the disk before it is carried out.
        let ledger = matches!(event.body, Body::Fault(_) | Body::Heal(_)) && event.kind == Kind::Invoke;
        if live && ledger { recorder.barrier() } else { Ok(()) }
    };
    let ended = drive(Drive {
        world: world.as_mut(),
        hosts: &header.hosts,
        nemesis: &mut nemesis,
        workload: &mut workload,
        limits: Limits::new(plan.time_limit, recovery_bound(&header)),
        sink: &mut sink,
        stop: &|| stop.load(Ordering::Relaxed) > 0,
    });
    drop(world);
    progress.clear();
    let written = recorder.close();
    let ended = match (ended, written) {
        (Ended::Failed(why), _) | (_, Err(why)) => Ended::Failed(why),
        (ended, Ok(())) => ended,
    };
    conclude(args, &dir, ended)
}

fn recovery_bound(header: &Header) -> Nanos {
    let promised = header
        .promises
        .iter()
        .find(|p| p.guarantee == Guarantee::Recovery)
        .and_then(|p| p.within);
    promised.unwrap_or(RECOVERY_UNPROMISED)
}

/// A seed that is short enough to type.
pub fn draw_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// Counts interrupts. The first asks the loop to heal and end; the second ends at once (the sandbox dies with us).
fn catch_interrupts() -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&count);
    interrupts::watch(move |count| {
        seen.store(count, Ordering::Relaxed);
        if count > 1 {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        // A terminal that hung up takes no words any more, and that is no reason to stop healing.
        let _ = writeln!(
            std::io::stderr(),
            "\ninterrupted: healing what is open (once more to end at once)"
        );
    });
    count
}

/// Judges what was recorded and leaves the run's files, whatever happened before.
fn conclude(args: &RunArgs, dir: &RunDir, ended: Ended) -> Result<ExitCode, Failure> {
    let run = Some(dir.path.as_path());
    let history = judge::open(&dir.path).map_err(|gone| Failure::harness(gone.why()))?;
    let verdicts = judge::judge(&history);
    let mut outcome = Outcome::new(&history, &verdicts, run);
    if let Ended::Failed(why) = &ended {
        outcome.failed = Some(why.clone());
    }
    let mut failures = Vec::new();
    let mut keep = |result: Result<(), String>| failures.extend(result.err());
    keep(dir.write("verdicts.json", &outcome.to_json()));
    keep(dir.write("report.html", &judge::page(&history, &verdicts, run)));
    keep(judge::junit(&history, &verdicts, run).and_then(|xml| dir.write("junit.xml", &xml)));
    keep(dir.seal());
    if args.json {
        exit::print(&outcome.to_json())?;
    } else {
        let report = dir.file("report.html");
        let report = if report.is_file() {
            report.display().to_string()
        } else {
            "could not be written".to_string()
        };
        exit::print(&format!(
            "\n{}\n{}\n\nreport: {}\nrun it again: {}\n",
            judge::table(&verdicts),
            outcome.sentence,
            report,
            outcome.replay
        ))?;
    }
    if let Ended::Failed(why) = &ended {
        let logs = dir.file("logs");
        failures.insert(
            0,
            format!("the run failed: {why}\n  logs of every process: {}", logs.display()),
        );
    }
    // A broken promise is proven by the record, whatever else went wrong.
    let broken = verdict::merge(&verdicts) == splitbrain_core::Validity::Invalid;
    if !failures.is_empty() {
        let code = Failure::harness(failures.join("\n  ")).report();
        return Ok(if broken { ExitCode::from(exit::BROKEN) } else { code });
    }
    Ok(match ended {
        Ended::Interrupted if !broken => ExitCode::from(exit::INTERRUPTED),
        _ => ExitCode::from(exit::of(outcome.validity)),
    })
}
