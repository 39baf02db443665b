//! Availability and latency under the faults, as pictures without a script.
use super::scene::{p, tick_label, ticks};
use crate::picture::Picture;
use crate::picture::service::{Believers, Bins, Failover, believers, failovers, percentile, served};
use crate::text::{count, instant, plural, span, visible};
use maud::{Markup, html};
use splitbrain_core::Nanos;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 948.0;

/// The section.
pub fn section(picture: &Picture) -> Markup {
    let (ops, what) = served(picture);
    let bins = Bins::of(picture, &ops);
    let (from, to) = picture.under_test();
    let led = believers(picture, from, to);
    let over = failovers(picture);
    html! {
        section #availability aria-labelledby="availability-h" {
            h2 #availability-h { "Availability and latency under the faults" }
            (figures(&ops, what, &led, &over, to.since(from)))
            div.card {
                (counts(picture, &bins, what))
                (latency(picture, &bins, what))
                (leaders(picture))
                (failover_chart(picture, &over))
            }
        }
    }
}

fn figures(
    ops: &[&crate::picture::OpRow],
    what: &str,
    led: &[Believers],
    over: &[Failover],
    under_test: Nanos,
) -> Markup {
    use crate::picture::Ended;
    let of = |e: Ended| ops.iter().filter(|op| op.ended == e).count() as u64;
    let ok = of(Ended::Ok);
    let mut taken: Vec<u64> = ops
        .iter()
        .filter(|op| op.ended == Ended::Ok)
        .map(|op| op.end.since(op.start).0)
        .collect();
    taken.sort_unstable();
    let none: Vec<u64> = led
        .iter()
        .filter(|b| b.count == 0)
        .map(|b| b.to.since(b.from).0)
        .collect();
    let many: u64 = led.iter().filter(|b| b.count > 1).map(|b| b.to.since(b.from).0).sum();
    let mut times: Vec<u64> = over.iter().map(|f| f.recovered.since(f.struck).0).collect();
    times.sort_unstable();
    let share = |part: u64, all: u64| format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64);
    let at = |all: &[u64], percent| percentile(all, percent).map_or("–".into(), |n| span(Nanos(n)));
    let fact = |name: String, value: String, note: String| {
        html! {
            div { dt { (name) } dd { (value) " " span.quiet { (note) } } }
        }
    };
    html! {
        dl.facts {
            (fact(format!("{what} ok"), share(ok, ops.len() as u64), format!("{} of {}", count(ok), count(ops.len() as u64))))
            (fact("failed".into(), count(of(Ended::Fail)), String::new()))
            (fact("unknown outcome".into(), count(of(Ended::Info) + of(Ended::Open)), String::new()))
            (fact("latency p50".into(), at(&taken, 50), format!("p99 {}", at(&taken, 99))))
            (fact("nobody led".into(), span(Nanos(none.iter().sum())), format!("{} of the time", share(none.iter().sum(), under_test.0))))
            (fact("longest without".into(), span(Nanos(none.iter().copied().max().unwrap_or(0))), String::new()))
            (fact("several may have led".into(), span(Nanos(many)), format!("{} of the time", share(many, under_test.0))))
            (fact("failover p50".into(), at(&times, 50), if times.is_empty() { "no leader was struck".into() } else { format!("max {}, {}", at(&times, 100), plural(times.len() as u64, "failover", "failovers")) }))
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
    const HEIGHT: f64 = 58.0;
    let inner = html! {
        text.tick x=(LEFT - 6.0) y="25" text-anchor="end" { "leaders" }
        @for b in believers(picture, Nanos::ZERO, picture.end) {
            @let class = match b.count { 0 => "led-none", 1 => "led-one", _ => "led-many" };
            rect class=(class) x=(p(x(picture, b.from))) y="10" width=(p((x(picture, b.to) - x(picture, b.from)).max(0.8))) height="22" {
                title { (plural(b.count as u64, "leader", "leaders")) ", " (instant(b.from)) " to " (instant(b.to)) " s" }
            }
        }
    };
    let note = html! { "how many may have believed: " span.led-none-text { "nobody" } ", " span.led-one-text { "one" } ", " span.led-many-text { "several" } };
    frame(picture, "Believed leaders", note, HEIGHT, inner)
}

fn failover_chart(picture: &Picture, over: &[Failover]) -> Markup {
    const HEIGHT: f64 = 130.0;
    let bottom = HEIGHT - 20.0;
    let time = |f: &Failover| f.recovered.since(f.struck);
    let Some(peak) = over.iter().map(|f| time(f).0).max() else {
        return html! {};
    };
    let y = |n: u64| bottom - (bottom - 18.0) * n as f64 / peak.max(1) as f64;
    let inner = html! {
        (grid_line(y(peak), &span(Nanos(peak))))
        @for f in over {
            @let (at, top) = (x(picture, f.struck), y(time(f).0));
            line.stick x1=(p(at)) x2=(p(at)) y1=(p(bottom)) y2=(p(top)) {}
            circle.knob cx=(p(at)) cy=(p(top)) r="4.5" {
                title { "fault " (f.fault) " at " (instant(f.struck)) " s: epoch " (f.old) " to " (f.new) " in " (span(time(f))) }
            }
        }
    };
    let note = html! { "from the fault that struck the leader to a leader of a higher epoch" };
    frame(picture, "Failovers", note, HEIGHT, inner)
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}
