//! A stretch of the run as a picture without a script: the faults, the lanes of the hosts concerned, and the evidence.
use crate::picture::{Ending, Lane, Picture, ReignBar, State};
use crate::text::{clip, instant, visible};
use maud::{Markup, html};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Name, Nanos};

/// Numbered evidence.
pub struct Mark {
    /// When.
    pub time: Nanos,
    /// On whose lane; `None` is the lane of faults.
    pub lane: Option<usize>,
}

/// What to show of a picture.
pub struct Scene<'a> {
    /// Of what.
    pub picture: &'a Picture,
    /// First instant.
    pub from: Nanos,
    /// Last instant.
    pub to: Nanos,
    /// Which lanes, in order.
    pub lanes: Vec<usize>,
    /// Numbered from 1.
    pub marks: Vec<Mark>,
    /// What the picture shows, for those who cannot see it.
    pub label: String,
    /// Its measures.
    pub size: Size,
}

/// The measures of a drawing. One for desks and one for phones: a wide one that is scaled down cannot be read, and one
/// that scrolls hides the proof.
#[derive(Clone, Copy)]
pub struct Size {
    width: f64,
    left: f64,
    right: f64,
    ticks: u64,
    /// How many storage ticks are drawn one by one; beyond that every n-th.
    stores: usize,
}

impl Size {
    /// For windows of 600 px and more.
    pub const WIDE: Size = Size {
        width: 960.0,
        left: 84.0,
        right: 948.0,
        ticks: 7,
        stores: 600,
    };
    /// For phones.
    const NARROW: Size = Size {
        width: 340.0,
        left: 64.0,
        right: 330.0,
        ticks: 3,
        stores: 200,
    };
}

const AXIS: f64 = 24.0;
const FAULT_ROW: f64 = 20.0;
const LANE_HEIGHT: f64 = 56.0;
const LOW_LANE_HEIGHT: f64 = 26.0;

impl Scene<'_> {
    fn x(&self, t: Nanos) -> f64 {
        let span = self.to.since(self.from).0.max(1) as f64;
        let at = t.0 as f64 - self.from.0 as f64;
        let Size { left, right, .. } = self.size;
        (left + (right - left) * at / span).clamp(left, right)
    }

    fn shows(&self, from: Nanos, to: Nanos) -> bool {
        from <= self.to && to >= self.from
    }

    /// The picture as SVG, drawn twice: of the two the window's width chooses one.
    pub fn svg(mut self) -> Markup {
        let wide = self.drawn();
        self.size = Size::NARROW;
        html! {
            div.scroll.wide-only tabindex="0" role="group" aria-label=(self.label) { (wide) }
            div.narrow-only { (self.drawn()) }
        }
    }

    fn drawn(&self) -> Markup {
        let rows = self.fault_rows();
        let top = AXIS + FAULT_ROW * rows.iter().map(|r| r.0 + 1).max().unwrap_or(1) as f64 + 14.0;
        let height = self.lane_top(top, self.lanes.len()) + 6.0;
        html! {
            svg.scene viewBox=(format!("0 0 {} {height}", self.size.width)) role="img" aria-label=(self.label) {
                (self.axis(height))
                text.name x="6" y=(AXIS + 14.0) { "faults" }
                @for (row, i) in &rows { (self.fault(*row, *i)) }
                @for (row, lane) in self.lanes.iter().enumerate() { (self.lane(*lane, self.lane_top(top, row))) }
                (self.evidence(top, height))
            }
        }
    }

    /// Where the lane in that row begins, if the first begins at `top`.
    fn lane_top(&self, top: f64, row: usize) -> f64 {
        let low = |lane: &usize| self.picture.lanes[*lane].low;
        let height = |lane| if low(lane) { LOW_LANE_HEIGHT } else { LANE_HEIGHT };
        top + self.lanes[..row].iter().map(height).sum::<f64>()
    }

    fn axis(&self, height: f64) -> Markup {
        html! {
            @for t in ticks(self.from, self.to, self.size.ticks) {
                @let x = self.x(t);
                line.grid x1=(p(x)) x2=(p(x)) y1="16" y2=(p(height)) {}
                text.tick x=(p(x)) y="11" text-anchor="middle" { (tick_label(t, self.to.since(self.from))) }
            }
        }
    }

    /// Faults that act in the window, each in the first row that is free.
    fn fault_rows(&self) -> Vec<(usize, usize)> {
        let mut free: Vec<Nanos> = Vec::new();
        let mut rows = Vec::new();
        for (i, fault) in self.picture.faults.iter().enumerate() {
            let Some((from, to)) = fault.interval(self.picture.end) else {
                continue;
            };
            if !self.shows(from, to) {
                continue;
            }
            let row = free.iter().position(|until| *until <= from).unwrap_or(free.len());
            if row == free.len() {
                free.push(to);
            }
            free[row] = to;
            rows.push((row, i));
        }
        rows
    }

    fn fault(&self, row: usize, i: usize) -> Markup {
        let fault = &self.picture.faults[i];
        let (from, to) = fault
            .interval(self.picture.end)
            .expect("only those that acted are rowed");
        let (x0, x1) = (self.x(from), self.x(to).max(self.x(from) + 2.0));
        let y = AXIS + FAULT_ROW * row as f64;
        let kind = fault.kind.map_or("none", |k| k.name());
        html! {
            g {
                title { (visible(&fault.label())) ", " (instant(from)) " to " (instant(to)) " s" }
                rect class=(format!("fault {kind}")) x=(p(x0)) y=(p(y)) width=(p(x1 - x0)) height=(FAULT_ROW - 4.0) rx="2" {}
                (fitted(&fault.label(), x0, x1, y + 12.0, "fault-text"))
            }
        }
    }

    fn lane(&self, index: usize, y: f64) -> Markup {
        let lane = &self.picture.lanes[index];
        html! {
            line.lane-line x1="0" x2=(self.size.width) y1=(p(y)) y2=(p(y)) {}
            (self.suffered(lane, y))
            text.name x="6" y=(p(y + if lane.low { 18.0 } else { 24.0 })) { (lane.host.name) }
            @if !lane.low && lane.host.role.name() != lane.host.name.as_str() { text.role x="6" y=(p(y + 38.0)) { (lane.host.role.name()) } }
            @if self.picture.storage() == Some(index) {
                (self.storage(y))
            } @else {
                @for span in lane.states.iter().filter(|s| self.shows(s.from, s.to)) {
                    @let (x0, x1) = (self.x(span.from), self.x(span.to));
                    @if span.state != State::Paused {
                        rect class=(span.state.name()) x=(p(x0)) y=(p(y + 8.0)) width=(p((x1 - x0).max(1.0))) height="24" {
                            title { (span.state.name()) " " (instant(span.from)) " to " (instant(span.to)) " s" }
                        }
                        (fitted(span.state.name(), x0, x1, y + 24.0, "state-text"))
                    }
                }
                @for bar in self.reigns(lane) { (self.reign(bar, y)) }
                @for span in lane.states.iter().filter(|s| s.state == State::Paused && self.shows(s.from, s.to)) {
                    @let (x0, x1) = (self.x(span.from), self.x(span.to));
                    rect.paused x=(p(x0)) y=(p(y + 6.0)) width=(p((x1 - x0).max(1.0))) height="28" {
                        title { "paused " (instant(span.from)) " to " (instant(span.to)) " s" }
                    }
                    (fitted("paused", x0, x1, y + 45.0, "state-text"))
                }
                @for bar in self.reigns(lane) { (self.epoch(bar, y)) }
            }
        }
    }

    /// Above a lane: the faults of its links, clocks and disk. What happens to its processes is drawn in the lane itself.
    fn suffered(&self, lane: &Lane, y: f64) -> Markup {
        let of_process = |kind| matches!(kind, FaultKind::Kill | FaultKind::Pause);
        let shown = self.picture.faults.iter().filter_map(|fault| {
            let kind = fault.kind.filter(|kind| !of_process(*kind))?;
            let (from, to) = fault.interval(self.picture.end)?;
            let suffers = fault.targets.contains(&lane.host.name) && self.shows(from, to);
            suffers.then_some((kind, from, to, fault))
        });
        html! {
            @for (kind, from, to, fault) in shown {
                @let (x0, x1) = (self.x(from), self.x(to));
                rect class=(format!("band {} line", kind.name())) x=(p(x0)) y=(p(y + 2.0)) width=(p((x1 - x0).max(1.0))) height="3" {
                    title { (visible(&fault.label())) ", " (instant(from)) " to " (instant(to)) " s" }
                }
            }
        }
    }

    /// The reigns in the window, of those that begin within the same half pixel the longest: a leadership that flaps
    /// ten thousand times must not make a page of ten thousand bars that nobody can tell apart.
    fn reigns<'p>(&self, lane: &'p Lane) -> Vec<&'p ReignBar> {
        let mut out: Vec<&ReignBar> = Vec::new();
        for bar in lane.reigns.iter().filter(|b| self.shows(b.from, b.to)) {
            match out.last_mut() {
                Some(last) if (self.x(bar.from) * 2.0).floor() == (self.x(last.from) * 2.0).floor() => {
                    if bar.to.since(bar.from) > last.to.since(last.from) {
                        *last = bar;
                    }
                }
                _ => out.push(bar),
            }
        }
        out
    }

    fn reign(&self, bar: &ReignBar, y: f64) -> Markup {
        let class = format!("e{}", bar.rank % 10);
        let (x0, xd, x1) = (self.x(bar.from), self.x(bar.definite), self.x(bar.to));
        let ending = match &bar.ending {
            Ending::Deposed(why) => format!("deposed: {}", visible(why)),
            Ending::Answered => "answered that it does not lead".into(),
            Ending::Died => "died".into(),
            Ending::Open => "open".into(),
        };
        html! {
            g {
                title {
                    @if bar.epoch.is_none() { "no epoch" } @else { "epoch " (bar.epoch) } ", reign " (bar.reign) ": definite " (instant(bar.from)) " to " (instant(bar.definite))
                    " s, possible to " (instant(bar.to)) " s, " (ending)
                }
                rect class=(format!("possible {class}")) x=(p(x0)) y=(p(y + 8.0)) width=(p((x1 - x0).max(1.5))) height="24" rx="2" {}
                @if bar.definite >= self.from {
                    rect class=(class) x=(p(x0)) y=(p(y + 8.0)) width=(p((xd - x0).max(1.5))) height="24" rx="2" {}
                }
            }
        }
    }

    /// The epoch's number, or the reign's where there are no epochs, above the hatches: in the proven part with a rim of its colour, or, where that is too short,
    /// on the page's ground.
    fn epoch(&self, bar: &ReignBar, y: f64) -> Markup {
        let (x0, xd, x1) = (self.x(bar.from), self.x(bar.definite), self.x(bar.to));
        let text = bar.name();
        let rim = format!("epoch-rim r{}", bar.rank % 10);
        html! {
            @if room(x0, xd) >= text.len() {
                (fitted(&text, x0, xd, y + 24.0, &rim))
                (fitted(&text, x0, xd, y + 24.0, "epoch-text"))
            } @else {
                (fitted(&text, x0, x1, y + 24.0, "epoch-loose"))
            }
        }
    }

    fn storage(&self, y: f64) -> Markup {
        let stores = &self.picture.stores;
        let first = stores.partition_point(|s| s.time < self.from);
        let last = stores.partition_point(|s| s.time <= self.to);
        let shown = &stores[first..last];
        let step = shown.len().div_ceil(self.size.stores).max(1);
        html! {
            line.grid x1=(self.size.left) x2=(self.size.right) y1=(p(y + 30.0)) y2=(p(y + 30.0)) {}
            // Refused writes are few and are what the eye looks for: none of them is left out.
            @for (i, row) in shown.iter().enumerate().filter(|(i, r)| i % step == 0 || r.seq.is_none()) {
                @let x = self.x(row.time);
                @let class = self.picture.rank_of(row).map_or("e-none".into(), |rank| format!("e{}", rank % 10));
                @if row.seq.is_some() {
                    rect class=(class) x=(p(x - 1.0)) y=(p(y + 10.0)) width="2.5" height="20" data-i=(i) {}
                } @else {
                    rect.rejected x=(p(x - 1.0)) y=(p(y + 31.0)) width="2.5" height="12" {}
                }
            }
        }
    }

    fn evidence(&self, top: f64, height: f64) -> Markup {
        let mut taken: Vec<(f64, f64)> = Vec::new();
        html! {
            @for (i, mark) in self.marks.iter().enumerate() {
                @let x = self.x(mark.time).max(self.size.left + 2.0);
                @let row = mark.lane.and_then(|lane| self.lanes.iter().position(|l| *l == lane));
                @let base = row.map_or(top - 10.0, |row| self.lane_top(top, row) + 44.0);
                @let (cx, cy) = place(&mut taken, x, base, self.size.right);
                // What lies outside stands hollow at the edge, and no line claims that it happened there.
                @let inside = self.shows(mark.time, mark.time);
                @if inside { line.proof x1=(p(x)) x2=(p(x)) y1="18" y2=(p(height)) {} }
                g {
                    title { (i + 1) ": " (instant(mark.time)) " s" }
                    circle class=(if inside { "mark" } else { "outside" }) cx=(p(cx)) cy=(p(cy)) r="9" {}
                    text class=(if inside { "mark-text" } else { "outside-text" }) x=(p(cx)) y=(p(cy + 3.8)) text-anchor="middle" { (i + 1) }
                }
                @if !inside {
                    @let (arrow, anchor, x) = if mark.time < self.from { ("◂", "end", cx - 10.0) } else { ("▸", "start", cx + 10.0) };
                    text.outside-text x=(p(x)) y=(p(cy + 4.0)) text-anchor=(anchor) { (arrow) }
                }
            }
        }
    }
}

/// A place for a marker near (x, y) that covers no other marker: to the right, as far as there is room, then upwards.
fn place(taken: &mut Vec<(f64, f64)>, x: f64, y: f64, right: f64) -> (f64, f64) {
    let mut at = (x.min(right - 4.0), y);
    while taken
        .iter()
        .any(|t| (t.0 - at.0).abs() < 18.0 && (t.1 - at.1).abs() < 18.0)
    {
        at.0 += 19.0;
        if at.0 > right {
            at = (x.min(right - 4.0), at.1 - 19.0);
        }
    }
    taken.push(at);
    at
}

/// How many characters fit between two abscissas.
fn room(x0: f64, x1: f64) -> usize {
    ((x1 - x0 - 8.0) / 6.4).max(0.0) as usize
}

/// Text between two abscissas, cut to fit, or nothing where not even four letters would.
fn fitted(text: &str, x0: f64, x1: f64, y: f64, class: &str) -> Markup {
    let room = room(x0, x1);
    html! {
        @if room >= 4 { text class=(class) x=(p(x0 + 4.0)) y=(p(y)) { (clip(text, room)) } }
    }
}

/// A coordinate with one decimal.
pub fn p(v: f64) -> String {
    format!("{v:.1}")
}

/// Round instants within a window, about `n` of them.
pub fn ticks(from: Nanos, to: Nanos, n: u64) -> Vec<Nanos> {
    let span = to.since(from).0.max(1);
    let rough = span.div_ceil(n).max(1);
    let power = 10u64.pow(rough.ilog10());
    let step = [1, 2, 5, 10]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= rough)
        .unwrap_or(rough);
    let first = from.0.div_ceil(step);
    (first..=to.0 / step).map(|i| Nanos(i * step)).collect()
}

/// An instant as an axis writes it: with as many decimals of a second as the window needs.
pub fn tick_label(t: Nanos, span: Nanos) -> String {
    let decimals = match span.0 {
        s if s >= 7_000_000_000 => 0,
        s if s >= 700_000_000 => 1,
        s if s >= 70_000_000 => 2,
        _ => 3,
    };
    format!("{:.decimals$} s", t.as_secs_f64())
}

/// The lanes of these hosts, in the picture's order, with the storage if `storage`.
pub fn lanes_of(picture: &Picture, hosts: &[Name], storage: bool) -> Vec<usize> {
    (0..picture.lanes.len())
        .filter(|i| hosts.contains(&picture.lanes[*i].host.name) || storage && picture.storage() == Some(*i))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let t = ticks(Nanos::millis(950), Nanos::secs(10), 7);
        assert_eq!(t, [2, 4, 6, 8, 10].map(Nanos::secs).to_vec());
        assert_eq!(ticks(Nanos(5), Nanos(5), 7), vec![Nanos(5)]);
        assert!(ticks(Nanos::ZERO, Nanos::secs(1), 7).len() <= 8);
    }

    #[test]
    fn markers_never_cover_each_other() {
        let mut taken = Vec::new();
        for _ in 0..60 {
            place(&mut taken, 900.0, 200.0, 948.0);
        }
        for (i, a) in taken.iter().enumerate() {
            for b in &taken[..i] {
                assert!((a.0 - b.0).abs() >= 18.0 || (a.1 - b.1).abs() >= 18.0);
            }
        }
    }
}
