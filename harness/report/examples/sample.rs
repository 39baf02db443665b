//! Writes the report of a synthetic run to the file that is named, to look at it in a browser:
//! `cargo run -p splitbrain-report --example sample -- /tmp/report.html`

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use splitbrain_core::Nanos;
use splitbrain_report::{Run, html, junit, verdict_table};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "report.html".into());
    let every: Nanos = std::env::args().nth(2).as_deref().unwrap_or("60ms").parse()?;
    let made = synthetic::run(every);
    let run = Run {
        header: &made.header,
        events: &made.events,
        verdicts: &made.verdicts,
        replay: synthetic::REPLAY,
        title: "raft-unfenced",
        torn: 0,
    };
    std::fs::write(&path, html(&run))?;
    println!("{}", verdict_table(run.verdicts, true));
    println!("{}", junit(&run)?);
    Ok(())
}
