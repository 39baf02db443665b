//! Time as a history knows it: nanoseconds since the run began, on the control node's monotonic clock.
//!
//! One type serves for instants and for spans, as in TigerBeetle: a run begins at zero, so an instant is a span. In a
//! plan a time is text such as `60s`, `1m 30s` or `250ms`; in a history it is the bare number.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds since the run began, or the length of a span, by context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The run's first instant.
    pub const ZERO: Nanos = Nanos(0);
    /// Later than every instant of every run.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// `s` seconds.
    pub const fn secs(s: u64) -> Nanos {
        Nanos(s * 1_000_000_000)
    }
    /// `ms` milliseconds.
    pub const fn millis(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }
    /// `us` microseconds.
    pub const fn micros(us: u64) -> Nanos {
        Nanos(us * 1_000)
    }
    /// The same length as seconds, for figures and pictures.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// The distance to an earlier instant; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Nanos {
    type Output = Nanos;
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Nanos) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    /// Saturates at zero: no instant lies before the run.
    fn sub(self, other: Nanos) -> Nanos {
        self.since(other)
    }
}

impl From<Duration> for Nanos {
    fn from(d: Duration) -> Nanos {
        Nanos(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(n: Nanos) -> Duration {
        Duration::from_nanos(n.0)
    }
}

/// Three significant decimals with a unit that fits: `12.346s`, `250.000ms`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1_000_000_000 => write!(f, "{}.{:03}s", n / 1_000_000_000, n / 1_000_000 % 1_000),
            n if n >= 1_000_000 => write!(f, "{}.{:03}ms", n / 1_000_000, n / 1_000 % 1_000),
            n => write!(f, "{}.{:03}us", n / 1_000, n % 1_000),
        }
    }
}

impl FromStr for Nanos {
    type Err = humantime::DurationError;
    /// Reads `60s`, `1m 30s`, `250ms`: the units of the `humantime` crate.
    fn from_str(s: &str) -> Result<Nanos, Self::Err> {
        humantime::parse_duration(s).map(Nanos::from)
    }
}

/// A span with its shortest name: `1h`, `200ms`, `1m 30s`.
pub fn words(n: Nanos) -> String {
    humantime::format_duration(Duration::from(n)).to_string()
}

/// A signed span in nanoseconds: what is added to a clock. As text `1h`, `+1h`, `-200ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "+" };
        write!(f, "{sign}{}", words(Nanos(self.0.unsigned_abs())))
    }
}

impl FromStr for Offset {
    type Err = String;
    fn from_str(s: &str) -> Result<Offset, String> {
        let (negative, rest) = match s.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, s.strip_prefix('+').unwrap_or(s)),
        };
        let bad = |e: String| format!("'{s}' is not an offset such as +1h or -200ms: {e}");
        let span: Nanos = rest.parse().map_err(|e: humantime::DurationError| bad(e.to_string()))?;
        let span = i64::try_from(span.0).map_err(|_| bad("it is too long".to_string()))?;
        Ok(Offset(if negative { -span } else { span }))
    }
}

impl Serialize for Offset {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Offset, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with = "time::text")]`: a time as text (`"60s"`), as plans write it.
pub mod text {
    use super::Nanos;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    /// Writes `60s`, `250ms`.
    pub fn serialize<S: Serializer>(n: &Nanos, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(Duration::from(*n)))
    }

    /// Reads `60s`, `250ms`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Nanos, D::Error> {
        let s = String::deserialize(d)?;
        s.parse()
            .map_err(|e| D::Error::custom(format!("'{s}' is not a duration such as 60s or 250ms: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("60s".parse::<Nanos>().unwrap(), Nanos::secs(60));
        assert_eq!("1m 30s".parse::<Nanos>().unwrap(), Nanos::secs(90));
        assert_eq!("250ms".parse::<Nanos>().unwrap(), Nanos::millis(250));
        assert!("soon".parse::<Nanos>().is_err());
    }

    #[test]
    fn prints_with_a_unit_that_fits() {
        assert_eq!(Nanos::millis(12_346).to_string(), "12.346s");
        assert_eq!(Nanos::micros(250).to_string(), "250.000us");
    }

    #[test]
    fn offsets_have_a_sign() {
        for (text, nanos) in [("+1h", 3_600_000_000_000), ("-200ms", -200_000_000), ("+0s", 0)] {
            assert_eq!(text.parse::<Offset>().unwrap(), Offset(nanos));
            assert_eq!(Offset(nanos).to_string(), text);
        }
        assert_eq!("1h".parse::<Offset>().unwrap(), Offset(3_600_000_000_000));
        assert!("-soon".parse::<Offset>().is_err());
    }

    #[test]
    fn an_instant_never_falls_before_the_run() {
        assert_eq!(Nanos::secs(1) - Nanos::secs(2), Nanos::ZERO);
    }
}
