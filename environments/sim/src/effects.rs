//! What must be seen of a link's shape before it counts as proven.
//!
//! A burst of probes goes through the function that carries packets, on a copy of the link, so that looking at a fault
//! does not change it. An effect that one probe shows with probability p stays unseen in n with (1-p)^n; n is chosen
//! such that this is below 10^-9. Where that takes more than [`MOST`] probes, the effect is not demanded and the proof
//! says so. What the shape forbids must not be seen at all.
use crate::net::{Arrival, Fate, Net};
use splitbrain_core::{Link, Nanos, Shape};

/// Fewest probes of a link.
pub(crate) const PROBES: u32 = 64;
/// Most: enough for 1 %.
const MOST: u32 = 2_100;
/// Probes that show a rate, and what they take to send together.
const TRAIN: u32 = 16;
const TRAIN_SPAN: Nanos = Nanos::millis(500);

/// What became of the probes.
#[derive(Default)]
struct Seen {
    lost: u32,
    carried: u32,
    doubled: u32,
    flipped: u32,
    /// First copies that took less than the delay at its least.
    early: u32,
    /// First copies that took at least that.
    late: u32,
    sum: Nanos,
}

/// Probes the link and says what it saw; the error says what it should have seen.
pub(crate) fn verify(net: &mut Net, link: Link, now: Nanos) -> Result<String, String> {
    let shape = net.shape_of(link);
    let needs = needs(&shape, net.latency());
    let probes = needs
        .iter()
        .filter_map(|need| need.probes)
        .max()
        .unwrap_or(0)
        .max(PROBES);
    let mut seen = Seen::default();
    // Empty probes: a rate does not hold them up.
    for fate in net.burst(link, 0, probes, now) {
        match fate {
            Fate::Blocked => return Ok("shaped, and blocked".to_string()),
            Fate::Lost => seen.lost += 1,
            Fate::Carried(first, second) => seen.carried(first, second, &shape, now),
        }
    }
    seen.allowed(&shape)?;
    let mean = Nanos(seen.sum.0 / u64::from(seen.carried.max(1)));
    let mut saw = format!(
        "shape read back, {} of {probes} probes lost, the others took {mean}",
        seen.lost
    );
    for (count, what) in [(seen.doubled, "sent twice"), (seen.flipped, "corrupted")] {
        if count > 0 {
            saw += &format!(", {count} {what}");
        }
    }
    if shape.reorder_ppm > 0 && seen.early > 0 {
        saw += &format!(", {} before the delay", seen.early);
    }
    for need in needs {
        match (need.probes, (need.count)(&seen)) {
            (Some(_), 0) => return Err(format!("of {probes} probes none was {}", need.what)),
            (None, 0) => saw += &format!(", too rare to show in {MOST} probes: {}", need.what),
            _ => {}
        }
    }
    if shape.rate > 0 {
        saw += &rate(net, link, &shape, now)?;
    }
    Ok(saw)
}

/// An effect to be seen, and in how many probes; `None` if that would take too many.
struct Need {
    what: &'static str,
    probes: Option<u32>,
    count: Count,
}

type Count = fn(&Seen) -> u32;

fn needs(shape: &Shape, latency: Nanos) -> Vec<Need> {
    let share = |ppm: u32| f64::from(ppm.min(1_000_000)) / 1e6;
    let kept = 1.0 - share(shape.loss_ppm);
    let reorder = share(shape.reorder_ppm);
    let least = shape.delay - shape.jitter;
    // Ninety-nine packets of a hundred take less than one and a half times the latency.
    let tell = least > latency + latency;
    let all: [(bool, &'static str, f64, Count); 5] = [
        (shape.loss_ppm > 0, "lost", share(shape.loss_ppm), |s| s.lost),
        (
            shape.duplicate_ppm > 0,
            "sent twice",
            kept * share(shape.duplicate_ppm),
            |s| s.doubled,
        ),
        (
            shape.corrupt_ppm > 0,
            "corrupted",
            kept * share(shape.corrupt_ppm),
            |s| s.flipped,
        ),
        (
            least > Nanos::ZERO && reorder < 1.0,
            "delayed",
            kept * (1.0 - reorder),
            |s| s.late,
        ),
        (
            least > Nanos::ZERO && reorder > 0.0,
            "before the delay",
            if tell { kept * reorder * 0.99 } else { 0.0 },
            |s| s.early,
        ),
    ];
    let asked = all.into_iter().filter(|(asked, ..)| *asked);
    // Where all is lost, nothing is delayed.
    let possible = asked.filter(|(_, what, chance, _)| *chance > 0.0 || *what == "before the delay");
    let need = |(_, what, chance, count)| Need {
        what,
        probes: probes_to_show(chance),
        count,
    };
    possible.map(need).collect()
}

fn probes_to_show(chance: f64) -> Option<u32> {
    let mut unseen = 1.0;
    (1..=MOST).find(|_| {
        unseen *= 1.0 - chance;
        unseen < 1e-9
    })
}

/// Probes long enough to be held up: none may arrive before the rate lets it.
fn rate(net: &mut Net, link: Link, shape: &Shape, now: Nanos) -> Result<String, String> {
    let bytes = (u128::from(shape.rate) * u128::from(TRAIN_SPAN.0) / 1_000_000_000 / u128::from(TRAIN)).max(1);
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let least = if shape.reorder_ppm == 0 {
        shape.delay - shape.jitter
    } else {
        Nanos::ZERO
    };
    let (mut sent, mut last) = (0_u64, Nanos::ZERO);
    for fate in net.burst(link, bytes as usize, TRAIN, now) {
        let Fate::Carried(Arrival { at, .. }, _) = fate else {
            continue;
        };
        sent = sent.saturating_add(bytes);
        let takes = u128::from(sent) * 1_000_000_000 / u128::from(shape.rate);
        // Each packet's time is rounded down to whole nanoseconds.
        let takes = Nanos(u64::try_from(takes).unwrap_or(u64::MAX)) - Nanos(u64::from(TRAIN));
        if at - now < takes + least {
            let rate = shape.rate;
            return Err(format!(
                "{sent} bytes took {}, and at {rate} B/s they take {takes}",
                at - now
            ));
        }
        last = last.max(at - now);
    }
    if sent == 0 {
        return Ok(format!(", too rare to show in {TRAIN} probes: held up by the rate"));
    }
    Ok(format!(", {sent} bytes took {last}"))
}

impl Seen {
    fn carried(&mut self, first: Arrival, second: Option<Arrival>, shape: &Shape, now: Nanos) {
        let took = first.at - now;
        self.carried += 1;
        self.sum += took;
        self.flipped += u32::from(first.flipped.is_some());
        self.doubled += u32::from(second.is_some());
        if took < shape.delay - shape.jitter {
            self.early += 1;
        } else {
            self.late += 1;
        }
    }

    /// What a shape forbids must not be seen.
    fn allowed(&self, shape: &Shape) -> Result<(), String> {
        for (wrong, count, what) in [
            (shape.loss_ppm == 0, self.lost, "lost"),
            (shape.loss_ppm >= 1_000_000, self.carried, "carried"),
            (shape.duplicate_ppm == 0, self.doubled, "sent twice"),
            (shape.corrupt_ppm == 0, self.flipped, "corrupted"),
            (shape.reorder_ppm == 0, self.early, "carried before the delay"),
        ] {
            if wrong && count > 0 {
                return Err(format!("{count} probes were {what}, and none may be"));
            }
        }
        Ok(())
    }
}
