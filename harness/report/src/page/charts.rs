//! Availability and latency under the faults, as pictures without a script.
use super::scene::{p, tick_label, ticks};
use crate::picture::service::{Bins, Failover, believers, failovers, leaderless, percentile, served, serving};
use crate::picture::{Ended, OpRow, Picture};
use crate::text::{count, instant, plural, span, visible};
use crate::words;
use maud::{Markup, html};
use splitbrain_core::event::Phase;
use splitbrain_core::{Guarantee, Nanos, Verdict};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 948.0;

/// The section.
pub fn section(picture: &Picture, verdicts: &[Verdict]) -> Markup {
    let (ops, what) = served(picture);
    let bins = Bins::of(picture, &ops);
    let (over, unmeasured) = failovers(picture);
    html! {
        section #availability aria-labelledby="availability-h" {
            h2 #availability-h { "Availability and latency under the faults" }
            (figures(&ops, what))
            (leadership(picture, verdicts, &over, unmeasured))
            div.card {
                (counts(picture, &bins, what))
                (latency(picture, &bins, what))
                (leaders(picture))
                (failover_chart(picture, &over))
            }
        }
    }
}

fn fact(name: &str, value: &str, note: &str) -> Markup {
    html! {
        div { dt { (name) } dd { (value) " " span.quiet { (note) } } }
    }
}

fn share(part: u64, all: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64)
}

fn figures(ops: &[&OpRow], what: &str) -> Markup {
    let of = |e: Ended| ops.iter().filter(|op| op.ended == e).count() as u64;
    let (ok, all) = (of(Ended::Ok), ops.len() as u64);
    let went_well = ops.iter().filter(|op| op.ended == Ended::Ok);
    let mut taken: Vec<u64> = went_well.map(|op| op.end.since(op.start).0).collect();
    taken.sort_unstable();
    let at = |percent| percentile(&taken, percent).map_or("–".into(), |n| span(Nanos(n)));
    html! {
        dl.facts {
            (fact(&format!("{what} ok"), &share(ok, all), &format!("{} of {}", count(ok), count(all))))
            (fact("failed", &count(of(Ended::Fail)), ""))
            (fact("unknown outcome", &count(of(Ended::Info) + of(Ended::Open)), ""))
            (fact("latency p50", &at(50), &format!("p99 {}", at(99))))
        }
    }
}

/// A figure of the checker of recovery, which measures leadership for everybody: what it says is shown, and this page
/// measures only where it is silent.
fn measured(verdicts: &[Verdict], name: &str) -> Option<f64> {
    let own = verdicts.iter().find(|v| v.checker == Guarantee::Recovery.name())?;
    let figure = own.figures.iter().find(|f| f.name == name)?;
    figure.value.is_finite().then_some(figure.value.max(0.0))
}

fn leadership(picture: &Picture, verdicts: &[Verdict], over: &[Failover], unmeasured: u64) -> Markup {
    let phase = picture.phases.iter().find(|p| p.phase == Phase::Faults);
    let (from, to) = phase.map_or((Nanos::ZERO, picture.end), |p| (p.from, p.to));
    let all = to.since(from).0;
    let gaps: Vec<u64> = leaderless(picture, from, to).iter().map(|g| g.1.since(g.0).0).collect();
    let percent =
        measured(verdicts, "leaderless").unwrap_or(100.0 * gaps.iter().sum::<u64>() as f64 / all.max(1) as f64);
    let none = Nanos((all as f64 * percent / 100.0) as u64);
    let mut times: Vec<u64> = over.iter().map(|f| f.next.since(f.stopped).0).collect();
    times.sort_unstable();
    let failover = |name: &str, rank| {
        let told = measured(verdicts, &format!("failover {name}")).map(|s| (s * 1e9) as u64);
        told.or(percentile(&times, rank)).map_or("–".into(), |n| span(Nanos(n)))
    };
    let n = measured(verdicts, "failovers").map_or(times.len() as u64 + unmeasured, |n| n as u64);
    let unmeasured = match measured(verdicts, "failovers unmeasured").map_or(unmeasured, |n| n as u64) {
        0 => String::new(),
        m => format!(", {} not measured", count(m)),
    };
    let several = believers(picture, from, to).into_iter().filter(|b| b.count > 1);
    let several: u64 = several.map(|b| b.to.since(b.from).0).sum();
    html! {
        dl.facts {
            (fact("nobody led", &span(none), &format!("{percent:.1} % of the time under faults")))
            (fact("longest without", &span(Nanos(gaps.iter().copied().max().unwrap_or(0))), "under faults"))
            (fact("failover p50", &failover("p50", 50), &format!("max {}, {}{unmeasured}", failover("max", 100), plural(n, "failover", "failovers"))))
            (fact("possibly several", &span(Nanos(several)), &format!("not proven; {} of the time under faults", share(several, all))))
        }
    }
}

fn x(picture: &Picture, t: Nanos) -> f64 {
    LEFT + (RIGHT - LEFT) * (t.0 as f64 / picture.end.0.max(1) as f64).min(1.0)
}

/// A chart's frame: title, fault bands behind, the time axis below, and what `inner` draws over it.
fn frame(picture: &Picture, title: &str, note: Markup, height: f64, inner: Markup) -> Markup {
    let bottom = height - 20.0;
    html! {
        figure {
            figcaption { b { (title) } " " span.quiet { (note) } }
            div.scroll tabindex="0" role="group" aria-label=(title) {
                svg.scene.chart viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(title) {
                    @for fault in &picture.faults {
                        @if let Some((from, to)) = fault.interval(picture.end) {
                            rect class=(format!("band {}", fault.kind.map_or("none", |k| k.name()))) x=(p(x(picture, from))) y="4"
                                width=(p((x(picture, to) - x(picture, from)).max(1.0))) height=(p(bottom - 4.0)) {
                                title { "fault " (visible(&fault.label())) }
                            }
                        }
                    }
                    @for t in ticks(Nanos::ZERO, picture.end, 9) {
                        line.grid x1=(p(x(picture, t))) x2=(p(x(picture, t))) y1="4" y2=(p(bottom)) {}
                        text.tick x=(p(x(picture, t))) y=(p(height - 6.0)) text-anchor="middle" { (tick_label(t, picture.end)) }
                    }
                    (inner)
                    line.base x1=(LEFT) x2=(RIGHT) y1=(p(bottom)) y2=(p(bottom)) {}
                }
            }
        }
    }
}

fn grid_line(y: f64, label: &str) -> Markup {
    html! {
        line.grid x1=(LEFT) x2=(RIGHT) y1=(p(y)) y2=(p(y)) {}
        text.tick x=(LEFT - 6.0) y=(p(y + 4.0)) text-anchor="end" { (label) }
    }
}

fn counts(picture: &Picture, bins: &Bins, what: &str) -> Markup {
    const HEIGHT: f64 = 170.0;
    let bottom = HEIGHT - 20.0;
    let n = bins.counts[0].len();
    let total = |i: usize| bins.counts.iter().map(|c| c[i]).sum::<u32>();
    let peak = f64::from((0..n).map(total).max().unwrap_or(0).max(1));
    let secs = bins.length.as_secs_f64();
    let bar = |i: usize, below: u32, n: u32| {
        let (x0, x1) = (
            x(picture, Nanos(i as u64 * bins.length.0)),
            x(picture, Nanos((i as u64 + 1) * bins.length.0)),
        );
        let scale = (bottom - 14.0) / peak;
        let y = bottom - f64::from(below + n) * scale;
        (
            p(x0 + 0.3),
            p(y),
            p((x1 - x0 - 0.6).max(0.5)),
            p((f64::from(n) * scale).max(0.8)),
        )
    };
    let inner = html! {
        @for part in [0.5, 1.0] { (grid_line(bottom - (bottom - 14.0) * part, &format!("{:.0}", peak * part / secs))) }
        @for i in 0..n {
            @let parts = [bins.counts[0][i], bins.counts[1][i], bins.counts[2][i]];
            @for (k, class) in ["op-ok", "op-fail", "op-info"].iter().enumerate().filter(|(k, _)| parts[*k] > 0) {
                @let (x, y, w, h) = bar(i, parts[..k].iter().sum(), parts[k]);
                rect class=(class) x=(x) y=(y) width=(w) height=(h) {
                    title { (instant(Nanos(i as u64 * bins.length.0))) " s: " (parts[0]) " ok, " (parts[1]) " failed, " (parts[2]) " unknown" }
                }
            }
        }
    };
    let note = html! { "ok, " span.fail-text { "failed" } " and " span.info-text { "unknown" } ", by completion; bands are faults" };
    frame(picture, &format!("{} per second", capital(what)), note, HEIGHT, inner)
}

fn latency(picture: &Picture, bins: &Bins, what: &str) -> Markup {
    const HEIGHT: f64 = 170.0;
    let bottom = HEIGHT - 20.0;
    let all = || bins.latency.iter().flatten();
    let Some(low) = all().map(|l| l.0.0).min() else {
        return html! {};
    };
    let high = all().map(|l| l.1.0).max().unwrap_or(low);
    // Whole decades, so that the grid lines are round.
    let (low, high) = (
        (low.max(1_000) as f64).log10().floor(),
        (high.max(2_000) as f64).log10().ceil(),
    );
    let decades = (high - low).max(1.0);
    let y = |n: Nanos| bottom - (bottom - 14.0) * ((n.0.max(1) as f64).log10() - low).max(0.0) / decades;
    let middle = |i: usize| x(picture, Nanos(i as u64 * bins.length.0 + bins.length.0 / 2));
    let path = |pick: fn(&(Nanos, Nanos)) -> Nanos| {
        let mut d = String::new();
        let mut pen = false;
        for (i, at) in bins.latency.iter().enumerate() {
            match at {
                Some(l) => {
                    d += &format!("{}{:.1} {:.1}", if pen { "L" } else { "M" }, middle(i), y(pick(l)));
                    pen = true;
                }
                None => pen = false,
            }
        }
        d
    };
    let inner = html! {
        @for k in 0..=decades as i32 {
            @let n = Nanos(10f64.powi(low as i32 + k) as u64);
            (grid_line(y(n), &round_span(n)))
        }
        path.p99 d=(path(|l| l.1)) {}
        path.p50 d=(path(|l| l.0)) {}
        @for (i, l) in bins.latency.iter().enumerate().filter_map(|(i, l)| Some((i, (*l)?))) {
            circle.p99-dot cx=(p(middle(i))) cy=(p(y(l.1))) r="2" { title { "p99 " (span(l.1)) } }
            circle.p50-dot cx=(p(middle(i))) cy=(p(y(l.0))) r="2" { title { "p50 " (span(l.0)) } }
        }
    };
    let note = html! { "of those that went well: " span.p50-text { "p50" } " and " span.p99-text { "p99" } ", logarithmic; a gap is a second without any" };
    frame(picture, &format!("Latency of {what}"), note, HEIGHT, inner)
}

fn round_span(n: Nanos) -> String {
    match n.0 {
        n if n >= 1_000_000_000 => format!("{} s", n / 1_000_000_000),
        n if n >= 1_000_000 => format!("{} ms", n / 1_000_000),
        n => format!("{} µs", n / 1_000),
    }
}

fn leaders(picture: &Picture) -> Markup {
    const HEIGHT: f64 = 74.0;
    let bar = |class: &str, y: f64, from: Nanos, to: Nanos, title: String| {
        html! {
            rect class=(class) x=(p(x(picture, from))) y=(p(y)) width=(p((x(picture, to) - x(picture, from)).max(0.8))) height="16" {
                title { (title) ", " (instant(from)) " to " (instant(to)) " s" }
            }
        }
    };
    let inner = html! {
        text.tick x=(LEFT - 6.0) y="20" text-anchor="end" { "serving" }
        text.tick x=(LEFT - 6.0) y="44" text-anchor="end" { "possible" }
        @for s in serving(picture) { (bar("led-one", 8.0, s.from, s.to, format!("{} served", words::leader(s.epoch)))) }
        @for (from, to) in leaderless(picture, Nanos::ZERO, picture.end) { (bar("led-none", 8.0, from, to, "nobody served".into())) }
        @for b in believers(picture, Nanos::ZERO, picture.end).iter().filter(|b| b.count > 1) {
            (bar("led-many", 32.0, b.from, b.to, format!("up to {} may have believed that they led", b.count)))
        }
    };
    let note = html! {
        span.led-one-text { "one" } " served or " span.led-none-text { "nobody" } " (paused, dead or deposed, and no successor yet); "
        span.led-many-text { "several" } " may have believed at once, which is possible and not proven"
    };
    frame(picture, "Leaders", note, HEIGHT, inner)
}

fn failover_chart(picture: &Picture, over: &[Failover]) -> Markup {
    const HEIGHT: f64 = 130.0;
    let bottom = HEIGHT - 20.0;
    let time = |f: &Failover| f.next.since(f.stopped);
    let Some(peak) = over.iter().map(|f| time(f).0).max() else {
        return html! {};
    };
    let y = |n: u64| bottom - (bottom - 18.0) * n as f64 / peak.max(1) as f64;
    let inner = html! {
        @if peak > 0 { (grid_line(y(peak), &span(Nanos(peak)))) }
        @for f in over {
            @let (at, top) = (x(picture, f.stopped), y(time(f).0));
            line.stick x1=(p(at)) x2=(p(at)) y1=(p(bottom)) y2=(p(top)) {}
            circle.knob cx=(p(at)) cy=(p(top)) r="4.5" {
                title { (words::leader(f.old)) " stopped serving at " (instant(f.stopped)) " s; " (words::leader(f.new)) " began after " (span(time(f))) }
            }
        }
    };
    let note = html! { "from the moment in which a leader stopped serving to the next one; not measured where nobody saw it stop before its successor began" };
    frame(picture, "Failovers", note, HEIGHT, inner)
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}
