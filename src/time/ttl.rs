//! How long a claim lives: parsing, printing and checking lifetimes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Timestamp;
use crate::error::{Error, Result};
use crate::limits::TTL_MS_MAX;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;
const YEAR_MS: u64 = 365 * DAY_MS;

/// Units as written, longest first. Printing uses the first that divides evenly; weeks and years are only parsed,
/// because "14d" says more to most people than "2w", and a year here is always 365 days.
const UNITS: [(&str, u64); 7] = [
    ("y", YEAR_MS),
    ("w", WEEK_MS),
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("m", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];
/// Index of the first unit that is printed.
const PRINTED_FROM: usize = 2;

/// How long a claim is remembered, from the time of the claim. The default is forever.
///
/// ```
/// use firstseen::{Ttl, days};
/// use std::time::Duration;
///
/// assert_eq!("7d".parse::<Ttl>()?, days(7));
/// assert_eq!("1d12h".parse::<Ttl>()?, Ttl::from(Duration::from_secs(36 * 3_600)));
/// assert_eq!(Ttl::from(Duration::from_secs(90)).to_string(), "90s");
/// assert_eq!(Ttl::default(), Ttl::FOREVER);
/// # Ok::<(), firstseen::Error>(())
/// ```
///
/// The text form is whole numbers with units, the longest unit first and each at most once: `y` (365 days), `w`, `d`,
/// `h`, `m` (minutes), `s`, `ms`; or `forever`.
///
/// Arithmetic saturates: too long a lifetime is refused by the call that uses it, and never wraps into a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ttl {
    /// `None` is forever, so that no number of milliseconds, however large, can be mistaken for it.
    ms: Option<u64>,
}

impl Ttl {
    /// The claim never expires.
    pub const FOREVER: Self = Self { ms: None };

    /// Creates a lifetime of `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self { ms: Some(ms) }
    }

    /// Returns the milliseconds, or `None` for a claim that never expires.
    pub const fn as_millis(self) -> Option<u64> {
        self.ms
    }

    /// Refuses a zero lifetime, and one so long that a deadline would overflow.
    pub(crate) fn check(self) -> Result<()> {
        match self.ms {
            Some(0) => Err(Error::invalid(
                "a ttl of 0 would forget a claim at once; give at least 1ms, or \"forever\"",
            )),
            Some(ms) if ms > TTL_MS_MAX => Err(Error::invalid(format!(
                "a ttl of {ms} ms is longer than the limit of {TTL_MS_MAX} ms; use \"forever\""
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the first time at which a claim made `now` is no longer live (I4).
    pub(crate) fn deadline(self, now: Timestamp) -> Timestamp {
        let never = Timestamp::NEVER.as_millis();
        match self.ms {
            None => Timestamp::NEVER,
            // A distant deadline is still a deadline: only forever is NEVER.
            Some(ms) => Timestamp::from_millis(now.as_millis().saturating_add(ms).min(never - 1)),
        }
    }
}

/// Returns a lifetime of whole days (of 24 hours).
pub const fn days(count: u64) -> Ttl {
    Ttl::from_millis(count.saturating_mul(DAY_MS))
}

/// Returns a lifetime of whole hours.
pub const fn hours(count: u64) -> Ttl {
    Ttl::from_millis(count.saturating_mul(HOUR_MS))
}

/// Returns a lifetime of whole minutes.
pub const fn minutes(count: u64) -> Ttl {
    Ttl::from_millis(count.saturating_mul(MINUTE_MS))
}

/// Returns a lifetime of whole seconds.
pub const fn seconds(count: u64) -> Ttl {
    Ttl::from_millis(count.saturating_mul(SECOND_MS))
}

impl From<Duration> for Ttl {
    /// Rounds up to whole milliseconds, so that a claim is never forgotten early.
    fn from(duration: Duration) -> Self {
        let ms = duration.as_nanos().div_ceil(1_000_000);
        Self::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

impl FromStr for Ttl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "forever" {
            return Ok(Self::FOREVER);
        }
        let (mut rest, mut units, mut ms) = (text, &UNITS[..], 0u64);
        loop {
            let (number, behind) = split_after(rest, |c| c.is_ascii_digit());
            let (unit, behind) = split_after(behind, |c| !c.is_ascii_digit());
            let (Ok(count), true) = (number.parse::<u64>(), UNITS.iter().any(|(u, _)| *u == unit))
            else {
                return Err(Error::invalid(format!(
                    "{text:?} is not a ttl; write whole numbers with units (y, w, d, h, m, s or ms), \
                     such as 90s, 7d or 1d12h, or \"forever\""
                )));
            };
            let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
                return Err(Error::invalid(format!(
                    "{text:?} is not a ttl: {unit:?} is repeated or out of order; write the \
                     longest unit first, each once, such as 1d12h30m"
                )));
            };
            ms = ms.saturating_add(count.saturating_mul(units[at].1));
            (rest, units) = (behind, &units[at + 1..]);
            if rest.is_empty() {
                break;
            }
        }
        let ttl = Self::from_millis(ms);
        ttl.check()?;
        Ok(ttl)
    }
}

/// Splits a text after its leading characters of one kind.
fn split_after(text: &str, is_first: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_first(c)).unwrap_or(text.len()))
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ms {
            None => f.pad("forever"),
            Some(ms) => {
                let (unit, unit_ms) = UNITS[PRINTED_FROM..]
                    .iter()
                    .find(|(_, unit_ms)| ms != 0 && ms % unit_ms == 0)
                    .unwrap_or(&("ms", 1));
                f.pad(&format!("{}{unit}", ms / unit_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, ttl) in [
            ("250ms", Ttl::from_millis(250)),
            ("90s", seconds(90)),
            ("30m", minutes(30)),
            ("12h", hours(12)),
            ("7d", days(7)),
            ("1w", days(7)),
            ("1y", days(365)),
            ("1d12h", hours(36)),
            (
                "1y2w3d4h5m6s7ms",
                Ttl::from_millis(((((382 * 24 + 4) * 60) + 5) * 60 + 6) * 1_000 + 7),
            ),
            ("1m30s", seconds(90)),
            ("0d5m", minutes(5)),
            ("forever", Ttl::FOREVER),
        ] {
            assert_eq!(text.parse::<Ttl>().unwrap(), ttl, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        let numbers = [
            "", "7", "d", "7 d", "-7d", "+7d", "1.5h", "7D", "7days", "\u{662}d", "1d12", "1d 12h",
            "dh", "1dh", "1d-12h",
        ];
        for text in numbers.into_iter().chain(["99999999999999999999d", "Forever"]) {
            let message = text.parse::<Ttl>().unwrap_err().to_string();
            assert!(message.contains("such as 90s"), "{text}: {message}");
        }
    }

    #[test]
    fn units_out_of_order_or_twice_are_refused_and_named() {
        for (text, unit) in [("12h1d", "\"d\""), ("1d1d", "\"d\""), ("1h5ms3s", "\"s\"")] {
            let message = text.parse::<Ttl>().unwrap_err().to_string();
            assert!(message.contains(unit) && message.contains("longest unit first"), "{message}");
        }
    }

    #[test]
    fn printing_reads_back_as_the_same_ttl() {
        for ms in [1, 999, 1_000, 1_500, 90_000, 3_600_000, 86_400_000, 90_061_000, TTL_MS_MAX] {
            let ttl = Ttl::from_millis(ms);
            assert_eq!(ttl.to_string().parse::<Ttl>().unwrap(), ttl);
        }
        assert_eq!(Ttl::FOREVER.to_string().parse::<Ttl>().unwrap(), Ttl::FOREVER);
        assert_eq!((days(14).to_string(), seconds(90).to_string()), ("14d".into(), "90s".into()));
        assert_eq!(format!("[{:>5}]", hours(3)), "[   3h]");
    }

    #[test]
    fn too_short_and_too_long_are_refused_and_nothing_wraps() {
        assert!(Ttl::FOREVER.check().is_ok());
        assert!(Ttl::from_millis(1).check().is_ok());
        assert!(Ttl::from_millis(TTL_MS_MAX).check().is_ok());
        assert!(Ttl::from(Duration::ZERO).check().is_err());
        assert!(seconds(0).check().is_err());
        let too_long = [
            Ttl::from_millis(TTL_MS_MAX + 1),
            seconds(u64::MAX),
            minutes(u64::MAX / 2),
            hours(u64::MAX),
            days(u64::MAX / 3),
            Ttl::from(Duration::MAX),
        ];
        assert!("18446744073709551615w".parse::<Ttl>().is_err());
        assert!("0d".parse::<Ttl>().is_err());
        for ttl in too_long {
            let message = ttl.check().unwrap_err().to_string();
            assert!(message.contains(&TTL_MS_MAX.to_string()), "{message}");
        }
    }

    #[test]
    fn durations_round_up() {
        assert_eq!(Ttl::from(Duration::from_nanos(1)), Ttl::from_millis(1));
        assert_eq!(Ttl::from(Duration::from_millis(20)), Ttl::from_millis(20));
        assert_eq!(Ttl::from(Duration::from_micros(20_001)), Ttl::from_millis(21));
    }

    #[test]
    fn only_forever_never_ends() {
        let now = Timestamp::from_millis(1_000);
        assert_eq!(seconds(2).deadline(now), Timestamp::from_millis(3_000));
        assert_eq!(Ttl::FOREVER.deadline(now), Timestamp::NEVER);
        assert!(days(u64::MAX).deadline(now) < Timestamp::NEVER);
    }
}
