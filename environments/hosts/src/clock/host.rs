//! A host's own clock: `clock_settime` for jumps of the time of day, `adjtimex` for its rate.
//!
//! What the kernel offers decides what can be asked. The time of day can be set; the monotonic clock cannot, by anybody.
//! The rate belongs to both at once, and reaches from 0.9 to 1.1 (`tick`, with `freq` for what is between its steps).
//!
//! The truth is kept by `CLOCK_MONOTONIC_RAW`, which neither of the two moves: [`HostClockUndo`] holds what both clocks read
//! before the fault, so that the true time of day is known at any later moment of the same boot. It is meant to lie in a
//! ledger on disk before the clock is touched, and restores it also from another process.
//!
//! Caveats: a time server's client on the host (chrony, systemd-timesyncd) may correct what we break; the verification
//! then fails. What such a client does to the clock during a fault is undone with it. Time that the machine was suspended is lost.
use super::words;
use serde::{Deserialize, Serialize};
use splitbrain_core::{Clocks as Which, Nanos, Skew};
use std::fs;
use std::io;
use std::time::Duration;

/// Ticks in a second, for `adjtimex`.
const TICK: i64 = 10_000;
/// What the kernel takes for `tick`.
const TICKS: std::ops::RangeInclusive<i64> = 9_000..=11_000;
/// One part per million of `freq`.
const PPM: f64 = 65_536.0;
/// Less than this and a clock counts as right: it takes so long to set one on a busy machine.
const RIGHT: i64 = 5_000_000;
/// How often setting a clock is tried until it is right.
const TRIES: u32 = 20;

/// What must be known to undo a fault of this host's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostClockUndo {
    /// Of the kernel's life in which the rest is true.
    pub boot_id: String,
    /// What `CLOCK_MONOTONIC_RAW` read, in nanoseconds.
    pub raw: i64,
    /// What `CLOCK_REALTIME` read at that moment, in nanoseconds.
    pub realtime: i64,
    /// The kernel's `tick`, in microseconds.
    pub tick: i64,
    /// The kernel's `freq`, in 1/65536 millionths.
    pub freq: i64,
}

impl HostClockUndo {
    /// As this host's clock is now.
    pub(super) fn now() -> Result<HostClockUndo, String> {
        let timex = adjust(&mut timex()).map_err(|e| format!("read the clock's rate (adjtimex): {e}"))?;
        let (realtime, raw) = together();
        Ok(HostClockUndo {
            boot_id: boot_id()?,
            raw,
            realtime,
            tick: timex.tick,
            freq: timex.freq,
        })
    }

    /// What the time of day truly is, `raw` being what the raw clock reads.
    fn truth(&self, raw: i64) -> i64 {
        let passed = (raw - self.raw) as f64;
        let more = passed * (self.rate() - 1.0);
        self.realtime + (raw - self.raw) + more.round() as i64
    }

    /// Of the corrected clock against the raw one, before the fault.
    fn rate(&self) -> f64 {
        self.tick as f64 / TICK as f64 + self.freq as f64 / PPM / 1e6
    }

    /// `tick` and `freq` for a rate relative to what it was; `None` where the kernel takes none such.
    fn at_rate(&self, rate_ppm: u32) -> Option<(i64, i64)> {
        let rate = self.rate() * f64::from(rate_ppm) / 1e6;
        let tick = (rate * TICK as f64).round() as i64;
        let freq = ((rate - tick as f64 / TICK as f64) * 1e6 * PPM).round() as i64;
        TICKS.contains(&tick).then_some((tick, freq))
    }

    /// Gives the host its true time and rate again. What was done, in words. After a reboot there is nothing to undo.
    pub fn restore(&self) -> Result<String, String> {
        if boot_id()? != self.boot_id {
            return Ok("the host has booted since: its clock is its own".to_string());
        }
        set_rate(self.tick, self.freq)?;
        let (realtime, raw) = together();
        let wrong = realtime - self.truth(raw);
        if wrong.abs() > RIGHT / 10 {
            set_realtime(|raw| self.truth(raw))?;
        }
        let (realtime, raw) = together();
        let left = realtime - self.truth(raw);
        if left.abs() > RIGHT {
            return Err(format!(
                "the host's clock is {} off after it was set right",
                words::words(left, 0)
            ));
        }
        Ok(format!(
            "the host's clock was {} off, and is right",
            words::words(wrong, 0)
        ))
    }
}

/// Why a host's clock cannot be asked for this; the error is also the remedy.
pub(super) fn suits(skew: &Skew) -> Result<(), String> {
    let jumps = skew.offset.0 != 0;
    let drifts = skew.rate_ppm != Skew::TRUE_RATE;
    let instead = "skew the processes' clocks instead (clock = \"process\")";
    match skew.clocks {
        _ if skew.is_none() => Ok(()),
        Which::Monotonic => Err(format!("no kernel lets its monotonic clock be set: {instead}")),
        Which::Both if jumps => Err(format!(
            "a host's monotonic clock cannot jump: ask for clocks = \"realtime\", or {instead}"
        )),
        Which::Both if !(900_000..=1_100_000).contains(&skew.rate_ppm) => {
            Err(format!("a host's clock goes at 0.9 to 1.1 times its rate: {instead}"))
        }
        Which::Realtime if drifts => Err(format!(
            "a host's clocks drift together: ask for clocks = \"both\", or {instead}"
        )),
        Which::Both | Which::Realtime => Ok(()),
    }
}

/// Why this host's clock cannot be touched, if it cannot.
pub(super) fn missing() -> Option<String> {
    const CAP_SYS_TIME: u64 = 1 << 25;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
        .unwrap_or(0);
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let remedy = "skew the processes' clocks instead (clock = \"process\"), or use a virtual machine as root";
    (effective & CAP_SYS_TIME == 0 || !initial)
        .then(|| format!("setting the host's clock needs CAP_SYS_TIME, which is not granted here: {remedy}"))
}

/// A fault of the host's clock that is there.
pub(super) struct Fault {
    pub undo: HostClockUndo,
    skew: Skew,
    /// What the raw clock read when it began.
    since: i64,
    /// Whether the offset is there, by turns.
    here: bool,
}

impl Fault {
    /// Begins it and proves it. Under `sabotage` nothing is touched.
    pub fn begin(undo: HostClockUndo, skew: Skew, sabotage: bool) -> Result<(Fault, String), String> {
        suits(&skew)?;
        let (_, since) = together();
        let fault = Fault {
            undo,
            skew,
            since,
            here: true,
        };
        if !sabotage {
            fault.carry_out()?;
        }
        let saw = fault.verify()?;
        Ok((fault, saw))
    }

    fn carry_out(&self) -> Result<(), String> {
        let (tick, freq) = self.undo.at_rate(self.skew.rate_ppm).ok_or_else(|| {
            let (tick, freq) = (self.undo.tick, self.undo.freq);
            format!("the host's clock cannot go so far from where it is (tick {tick}, freq {freq})")
        })?;
        set_rate(tick, freq)?;
        // What the last fault had moved is taken back, or kept.
        set_realtime(|raw| self.ought(raw))
    }

    /// What the time of day ought to read.
    fn ought(&self, raw: i64) -> i64 {
        let drift = (raw - self.since) as f64 * (f64::from(self.skew.rate_ppm) / 1e6 - 1.0);
        let offset = if self.here { self.skew.offset.0 } else { 0 };
        self.undo.truth(raw) + drift.round() as i64 + offset
    }

    /// Lets the offset come or go if it is time.
    pub fn tend(&mut self) -> Result<(), String> {
        let (_, raw) = together();
        let Some(turns) = (raw - self.since).checked_div(i64::try_from(self.skew.strobe.0).unwrap_or(i64::MAX)) else {
            return Ok(());
        };
        let here = turns % 2 == 0;
        if here != self.here {
            self.here = here;
            set_realtime(|raw| self.ought(raw))?;
        }
        Ok(())
    }

    fn verify(&self) -> Result<String, String> {
        let (realtime, raw) = together();
        let wrong = realtime - self.ought(raw);
        let is = words::words(realtime - self.undo.truth(raw), 0);
        if wrong.abs() > RIGHT {
            return Err(format!(
                "the host's clock reads {is}, and ought to read {}: does a time server's client run there?",
                words::words(self.ought(raw) - self.undo.truth(raw), 0)
            ));
        }
        if self.skew.rate_ppm == Skew::TRUE_RATE {
            return Ok(format!("the host's realtime reads {is}"));
        }
        let rate = self.measured_rate()?;
        Ok(format!("the host's clocks go at x{rate:.5}"))
    }

    /// How fast the time of day goes, against the raw clock.
    fn measured_rate(&self) -> Result<f64, String> {
        let want = self.undo.rate() * f64::from(self.skew.rate_ppm) / 1e6;
        let enough = 50e-6 + 0.1 * (want - 1.0).abs();
        let mut rate = 1.0;
        // The kernel takes a tick or two to follow.
        for _ in 0..10 {
            let (realtime, raw) = together();
            std::thread::sleep(Duration::from_millis(100));
            let (later, raw_later) = together();
            rate = (later - realtime) as f64 / (raw_later - raw) as f64;
            if (rate - want).abs() < enough {
                return Ok(rate);
            }
        }
        Err(format!(
            "the host's clock goes at x{rate:.5}, and ought to at x{want:.5}"
        ))
    }
}

/// What the time of day and the raw clock read at about the same moment: the closest of some pairs.
fn together() -> (i64, i64) {
    let pairs = (0..10).map(|_| {
        let before = words::read(libc::CLOCK_MONOTONIC_RAW);
        let realtime = words::read(libc::CLOCK_REALTIME);
        let after = words::read(libc::CLOCK_MONOTONIC_RAW);
        (after - before, (realtime, before + (after - before) / 2))
    });
    pairs.min_by_key(|(took, _)| *took).expect("there are some").1
}

/// Sets the time of day to what it `ought` to read. On a machine that is short of processors, time may pass between the
/// look at the raw clock and the setting (80 ms were seen in an emulated machine), so it is done again until it is right;
/// whoever verifies says so if it never was.
fn set_realtime(ought: impl Fn(i64) -> i64) -> Result<(), String> {
    for _ in 0..TRIES {
        set_once(ought(words::read(libc::CLOCK_MONOTONIC_RAW)))?;
        let (realtime, raw) = together();
        if (realtime - ought(raw)).abs() <= RIGHT / 10 {
            break;
        }
    }
    Ok(())
}

fn set_once(time: i64) -> Result<(), String> {
    let time = libc::timespec {
        tv_sec: time.div_euclid(1_000_000_000),
        tv_nsec: time.rem_euclid(1_000_000_000),
    };
    // SAFETY: the kernel reads one timespec of ours.
    let done = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    if done == 0 {
        return Ok(());
    }
    Err(format!("set the host's clock: {}", io::Error::last_os_error()))
}

fn set_rate(tick: i64, freq: i64) -> Result<(), String> {
    let mut asked = timex();
    asked.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
    asked.tick = tick;
    asked.freq = freq;
    let failed = |e| format!("set the rate of the host's clock (adjtimex): {e}");
    adjust(&mut asked).map(drop).map_err(failed)
}

fn timex() -> libc::timex {
    // SAFETY: plain numbers.
    unsafe { std::mem::zeroed() }
}

fn adjust(timex: &mut libc::timex) -> io::Result<libc::timex> {
    // SAFETY: the kernel reads and writes one timex of ours.
    if unsafe { libc::adjtimex(timex) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(*timex)
}

fn boot_id() -> Result<String, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).map_err(|e| format!("read {path}: {e}"))?;
    Ok(id.trim().to_string())
}

/// The longest period of a strobe that turns by being looked after: callers look every 20 ms.
pub(super) const FINEST: Nanos = Nanos::millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use splitbrain_core::Offset;

    const SECOND: i64 = 1_000_000_000;

    fn undo(tick: i64, freq: i64) -> HostClockUndo {
        HostClockUndo {
            boot_id: "this".into(),
            raw: 100 * SECOND,
            realtime: 1_700_000_000 * SECOND,
            tick,
            freq,
        }
    }

    #[test]
    fn the_truth_is_known_from_the_raw_clock() {
        assert_eq!(undo(10_000, 0).truth(160 * SECOND), 1_700_000_060 * SECOND);
        // Ten millionths fast before: 600 us in a minute.
        let corrected = undo(10_000, 655_360).truth(160 * SECOND);
        assert_eq!(corrected, 1_700_000_060 * SECOND + 600_000);
        let slow = undo(9_999, 0).truth(160 * SECOND);
        assert_eq!(slow, 1_700_000_060 * SECOND - 6_000_000);
    }

    #[test]
    fn rates_become_ticks_and_a_fine_part() {
        for (rate, want) in [
            (1_000_000, Some((10_000, 0))),
            (1_100_000, Some((11_000, 0))),
            (900_000, Some((9_000, 0))),
            (1_000_050, Some((10_001, -50 * 65_536))),
            (1_000_010, Some((10_000, 10 * 65_536))),
            (1_100_100, None),
            (899_900, None),
            (2_000_000, None),
        ] {
            assert_eq!(undo(10_000, 0).at_rate(rate), want, "{rate}");
        }
        // What a time server's client had found out stays in it.
        let (tick, freq) = undo(10_000, 1_000_000).at_rate(1_050_000).unwrap();
        assert_eq!((tick, freq), (10_500, 1_050_000));
    }

    #[test]
    fn what_a_kernel_cannot_do_is_refused_with_a_remedy() {
        let skew = |clocks, offset, rate_ppm| Skew {
            clocks,
            offset: Offset(offset),
            rate_ppm,
            ..Skew::default()
        };
        for (fine, skew) in [
            (true, skew(Which::Realtime, SECOND, 1_000_000)),
            (true, skew(Which::Both, 0, 1_100_000)),
            (true, skew(Which::Both, 0, 900_000)),
            (true, Skew::default()),
            (false, skew(Which::Both, SECOND, 1_000_000)),
            (false, skew(Which::Monotonic, SECOND, 1_000_000)),
            (false, skew(Which::Monotonic, 0, 1_050_000)),
            (false, skew(Which::Realtime, 0, 1_050_000)),
            (false, skew(Which::Both, 0, 2_000_000)),
        ] {
            let answer = suits(&skew);
            assert_eq!(answer.is_ok(), fine, "{skew:?}");
            assert!(answer.is_ok() || answer.unwrap_err().contains("clock = \"process\""));
        }
    }

    #[test]
    fn a_fault_says_what_the_clock_ought_to_read() {
        let fault = |offset, rate_ppm, here| Fault {
            undo: undo(10_000, 0),
            skew: Skew {
                offset: Offset(offset),
                rate_ppm,
                ..Skew::default()
            },
            since: 110 * SECOND,
            here,
        };
        let truth = 1_700_000_020 * SECOND;
        assert_eq!(
            fault(3600 * SECOND, 1_000_000, true).ought(120 * SECOND),
            truth + 3600 * SECOND
        );
        assert_eq!(fault(3600 * SECOND, 1_000_000, false).ought(120 * SECOND), truth);
        assert_eq!(fault(0, 1_100_000, true).ought(120 * SECOND), truth + SECOND);
    }

    #[test]
    fn another_boot_needs_no_undoing() {
        let words = undo(10_000, 0).restore().unwrap();
        assert!(words.contains("booted"), "{words}");
    }

    #[test]
    fn an_undo_survives_a_ledger() {
        let undo = HostClockUndo::now().unwrap();
        let text = serde_json::to_string(&undo).unwrap();
        assert_eq!(serde_json::from_str::<HostClockUndo>(&text).unwrap(), undo);
    }
}
