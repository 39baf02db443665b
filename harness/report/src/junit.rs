//! A run as a JUnit test suite, for the pages of continuous-integration services.
//!
//! One suite a run, one case a checker. A broken promise is a `failure`. *Unknown* is an `error`, not a skipped test:
//! a service that shows skipped tests as green would turn "nobody knows" into "all is well". Hazards leave a case passed
//! and are told in its output.
use crate::words;
use crate::{Run, text};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use splitbrain_core::{Severity, Validity, Verdict};
use std::fmt::Write;
use std::time::Duration;

/// The run as JUnit XML. Fails only if the XML cannot be written.
pub fn junit(run: &Run) -> anyhow::Result<String> {
    let plan = &run.header.plan;
    let mut suite = TestSuite::new(text::visible(run.title));
    let property = |name: &str, value: &str| Property::new(name, text::visible(value));
    suite.properties.extend([
        property("seed", &run.header.seed.to_string()),
        property("system", &plan.system),
        property("environment", &plan.environment),
        property("replay", run.replay),
    ]);
    if let Some(mutant) = &plan.mutant {
        suite.properties.push(property("mutant", mutant));
    }
    if run.torn > 0 {
        suite.properties.push(property("torn-bytes", &run.torn.to_string()));
    }
    let end = run.events.last().map_or(0, |e| e.time.0);
    suite.set_time(Duration::from_nanos(end));
    for verdict in run.verdicts {
        suite.add_test_case(case(run, verdict));
    }
    let mut report = Report::new("splitbrain");
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}

fn case(run: &Run, verdict: &Verdict) -> TestCase {
    let mut status = match verdict.validity {
        Validity::Valid => TestCaseStatus::success(),
        Validity::Invalid => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Validity::Unknown => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    let summary = text::visible(&verdict.summary);
    match verdict.validity {
        Validity::Valid => {}
        Validity::Invalid => {
            let violations = tell(verdict, Severity::Violation);
            status.set_message(summary.as_ref()).set_type("violation");
            status.set_description(format!("{violations}replay: {}\n", text::visible(run.replay)));
        }
        Validity::Unknown => {
            status.set_message(summary.as_ref()).set_type("unknown");
            status.set_description(format!(
                "nobody knows: {summary}\nreplay: {}\n",
                text::visible(run.replay)
            ));
        }
    }
    let mut case = TestCase::new(text::visible(&verdict.checker), status);
    case.set_classname(format!("splitbrain.{}", text::visible(&run.header.plan.system)));
    let mut out = format!("{summary}\n");
    for figure in &verdict.figures {
        let value = text::figure(figure.value, &figure.unit);
        let _ = writeln!(out, "{}: {}", text::visible(&figure.name), text::visible(&value));
    }
    out.push_str(&tell(verdict, Severity::Hazard));
    case.set_system_out(out);
    case
}

fn tell(verdict: &Verdict, severity: Severity) -> String {
    let mut out = String::new();
    for anomaly in verdict.anomalies.iter().filter(|a| a.severity == severity) {
        let word = words::severity(severity);
        let _ = writeln!(
            out,
            "{word} of {}: {}",
            anomaly.guarantee.name(),
            text::visible(&anomaly.title)
        );
        for line in &anomaly.story {
            let _ = writeln!(out, "  {}", text::visible(line));
        }
    }
    let kept = verdict.anomalies.iter().filter(|a| a.severity == severity).count() as u64;
    match words::total(verdict, severity) - kept {
        0 => {}
        more => {
            let _ = writeln!(out, "... and {more} more");
        }
    }
    out
}
