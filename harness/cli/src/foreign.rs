//! Histories that others recorded: `check --model` judges them, `convert` writes them in other forms.
//!
//! A file's parts, one for each key, are judged on several threads; its time and memory are limited, and what is not
//! decided within them is unknown, with the reason. Times that are told are those of checking alone: reading a file takes
//! longer than judging it.
use crate::args::{CheckArgs, ConvertArgs, FormatChoice};
use crate::exit::{self, Failure};
use serde_json::{Value as Json, json};
use splitbrain_checkers::models::{Budget, Explanation, Judgement, Kind, Options, PartJudgement, Prepared};
use splitbrain_core::Validity;
use splitbrain_core::formats::{Format, Reader, Writer, detect};
use splitbrain_report::text::visible;
use splitbrain_runner::store::{self, OpenError};
use std::fs::File;
use std::io::{BufRead, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// From so many calls on, threads are started.
const MANY: usize = 20_000;
/// How many calls of an order or a core are told in words.
const TOLD: usize = 20;

/// One file, judged.
struct Judged {
    format: Format,
    cut_off: Option<&'static str>,
    prepared: Prepared,
    parts: Vec<PartJudgement>,
    judgement: Judgement,
    took: Duration,
}

/// `splitbrain check --model`.
pub fn check(args: &CheckArgs, kind: Kind) -> Result<ExitCode, Failure> {
    let mut gravest = Validity::Valid;
    let mut files = Vec::new();
    for path in &args.paths {
        let judged = judge(args, kind, path)?;
        gravest = gravest.max(judged.judgement.validity);
        match args.json {
            true => files.push(as_json(args, kind, path, &judged)),
            false => exit::print(&in_words(args, path, &judged))?,
        }
    }
    if args.json {
        let all = json!({"validity": gravest, "files": files});
        exit::print(&(serde_json::to_string_pretty(&all).expect("plain data always becomes JSON") + "\n"))?;
    }
    Ok(ExitCode::from(exit::of(gravest)))
}

/// A file's text, from its beginning, and its format.
fn open(path: &Path, choice: FormatChoice) -> Result<(Box<dyn BufRead>, Format), Failure> {
    let usage = |e: OpenError| match e {
        OpenError::Missing(why) | OpenError::Bad(why) => Failure::usage(why),
    };
    let file = match path.is_dir() {
        true => store::history_file(path).map_err(usage)?,
        false => path.to_path_buf(),
    };
    let mut input = store::open(&file).map_err(usage)?;
    let format = match choice {
        FormatChoice::Is(format) => format,
        FormatChoice::Auto => {
            let failed = |e| Failure::usage(format!("failed to read {}: {e}", file.display()));
            let mut start = Vec::new();
            input.by_ref().take(4096).read_to_end(&mut start).map_err(failed)?;
            let format = detect(&start);
            input = Box::new(std::io::Cursor::new(start).chain(input));
            format.ok_or_else(|| {
                Failure::usage(format!(
                    "{} is in no form that is known: say which with --format {}, edn, jepsen-log or jsonl",
                    file.display(),
                    Format::Own
                ))
            })?
        }
    };
    Ok((input, format))
}

fn judge(args: &CheckArgs, kind: Kind, path: &Path) -> Result<Judged, Failure> {
    let (input, format) = open(path, args.format)?;
    let bad = |why: String| Failure::usage(format!("{}: {}", path.display(), visible(&why)));
    let mut reader = Reader::new(input, format).map_err(|e| bad(e.to_string()))?;
    let options = Options {
        failed_cas: args.failed_cas,
        permits: args.permits,
        depth: args.depth,
        keyed: args.keyed,
        // Our own histories hold other operations too.
        skip_others: args.skip_others || format == Format::Own,
    };
    let mut gathering = kind.gathering(&options);
    while let Some(event) = reader.next_event().map_err(|e| bad(e.to_string()))? {
        gathering.event(event).map_err(bad)?;
    }
    let prepared = gathering.finish();
    let begin = Instant::now();
    let parts = in_parallel(args, &prepared, begin);
    let took = begin.elapsed();
    Ok(Judged {
        format,
        cut_off: reader.cut_off(),
        judgement: prepared.merge(&parts),
        prepared,
        parts,
        took,
    })
}

fn budget(args: &CheckArgs) -> Budget {
    Budget {
        memory: u64::from(args.memory) << 20,
        steps: u64::MAX,
    }
}

/// Judges the parts of a file, in the order of the parts.
fn in_parallel(args: &CheckArgs, prepared: &Prepared, begin: Instant) -> Vec<PartJudgement> {
    let until = Duration::from_nanos(args.timeout.0);
    let over = || begin.elapsed() > until;
    let one = |part| prepared.judge(part, budget(args), &over);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let calls: usize = (0..prepared.parts()).map(|part| prepared.calls(part)).sum();
    // What is judged within milliseconds is not worth starting threads for.
    let worth = if calls < MANY { 1 } else { processors };
    let jobs = args.jobs.map_or(worth, usize::from).min(prepared.parts());
    if jobs <= 1 {
        return (0..prepared.parts()).map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    if part >= prepared.parts() {
                        return;
                    }
                    let judged = one(part);
                    done.lock()
                        .expect("no thread panics while it holds this")
                        .push((part, judged));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics while it holds this");
    done.sort_by_key(|(part, _)| *part);
    done.into_iter().map(|(_, judged)| judged).collect()
}

/// The first part that has the file's verdict, with its explanation if it is invalid.
fn explanation(args: &CheckArgs, judged: &Judged) -> Option<(usize, Explanation)> {
    let part = judged.parts.iter().position(|p| p.validity == Validity::Invalid)?;
    let begin = Instant::now();
    let until = Duration::from_nanos(args.timeout.0).min(Duration::from_secs(10));
    let over = || begin.elapsed() > until;
    Some((part, judged.prepared.explain(part, budget(args), &over)?))
}

fn word(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "valid",
        Validity::Invalid => "invalid",
        Validity::Unknown => "unknown",
    }
}

fn in_words(args: &CheckArgs, path: &Path, judged: &Judged) -> String {
    let Judgement {
        validity, by, summary, ..
    } = &judged.judgement;
    let mut text = format!(
        "{}: {}: {} ({by}, {:.1} ms)\n",
        path.display(),
        word(*validity),
        visible(summary),
        judged.took.as_secs_f64() * 1e3
    );
    if let Some(why) = judged.cut_off {
        text += &format!("  it was cut off: {why}\n");
    }
    if let Some((part, told)) = explanation(args, judged) {
        let call = |n: u32| shown(&judged.prepared, part, n);
        text += "  of these no order works:\n";
        let many = told.core.len().saturating_sub(TOLD);
        told.core
            .iter()
            .rev()
            .take(TOLD)
            .rev()
            .for_each(|n| text += &format!("    {}\n", call(*n)));
        if many > 0 {
            text += &format!("    and {many} before them\n");
        }
        let state = told
            .state
            .as_ref()
            .map_or(String::new(), |state| format!(", after which {}", visible(state)));
        text += &format!(
            "  the longest beginning that fits has {} operations{state}; next:\n",
            told.order.len()
        );
        for (n, possible) in told.open.iter().take(TOLD) {
            let why = if *possible {
                "may be, but does not help"
            } else {
                "cannot be"
            };
            text += &format!("    {}: {why}\n", call(*n));
        }
    }
    if args.order {
        for part in 0..judged.prepared.parts() {
            text += &match judged.prepared.order(part, budget(args), &|| false) {
                Some(order) => order
                    .iter()
                    .map(|n| format!("  {}\n", shown(&judged.prepared, part, *n)))
                    .collect(),
                None => "  no order\n".to_string(),
            };
        }
    }
    text
}

/// A call in words, with its lines.
fn shown(prepared: &Prepared, part: usize, call: u32) -> String {
    let (source, words) = prepared.told(part, call as usize);
    let answered = match source.answered {
        0 => "no answer".to_string(),
        line => format!("answered in line {line}"),
    };
    format!(
        "process {}: {} (asked in line {}, {answered})",
        source.process,
        visible(&words),
        source.asked
    )
}

fn as_json(args: &CheckArgs, kind: Kind, path: &Path, judged: &Judged) -> Json {
    let told = |part: usize, n: u32| {
        let (source, words) = judged.prepared.told(part, n as usize);
        json!({"process": source.process, "asked": source.asked, "answered": source.answered, "what": words})
    };
    let explanation = explanation(args, judged).map(|(part, e)| {
        let all = |calls: &[u32]| calls.iter().map(|n| told(part, *n)).collect::<Vec<_>>();
        let open = e
            .open
            .iter()
            .map(|(n, possible)| json!({"call": told(part, *n), "possible": possible}));
        json!({"core": all(&e.core), "prefix": all(&e.order), "state": e.state, "next": open.collect::<Vec<_>>(),
               "at": told(part, e.at)})
    });
    let orders = args.order.then(|| {
        let order = |part| {
            let order = judged.prepared.order(part, budget(args), &|| false)?;
            Some(order.iter().map(|n| told(part, *n)).collect::<Vec<_>>())
        };
        (0..judged.prepared.parts()).map(order).collect::<Vec<_>>()
    });
    let Judgement {
        validity,
        by,
        summary,
        operations,
        unanswered,
    } = &judged.judgement;
    json!({"file": path, "format": judged.format.name(), "model": kind.name(), "validity": validity, "by": by,
           "summary": summary, "operations": operations, "unanswered": unanswered, "keys": judged.parts.len(),
           "cut_off": judged.cut_off, "milliseconds": judged.took.as_secs_f64() * 1e3, "explanation": explanation,
           "orders": orders})
}

/// `splitbrain convert`.
pub fn convert(args: &ConvertArgs) -> Result<ExitCode, Failure> {
    let (input, format) = open(&args.path, args.format)?;
    let bad = |why: String| Failure::usage(format!("{}: {}", args.path.display(), visible(&why)));
    let mut reader = Reader::new(input, format).map_err(|e| bad(e.to_string()))?;
    let target = args.output.as_deref();
    let name = target.map_or("standard output".to_string(), |path| path.display().to_string());
    let failed = |e: std::io::Error| Failure::harness(format!("failed to write {name}: {e}"));
    let out: Box<dyn Write> = match target {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let mut writer = Writer::new(BufWriter::new(out), args.to);
    let mut write = || -> Result<std::io::Result<()>, Failure> {
        while let Some(event) = reader.next_event().map_err(|e| bad(e.to_string()))? {
            if let Err(e) = writer.event(&event) {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    };
    let written = write()?.and_then(|()| writer.finish()?.flush());
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(e)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
