//! What is refused before the server is asked, and how values are written in SQL.

use crate::error::invalid;
use firstseen_shared::{Policy, Result, Ttl};
use std::time::Duration;

/// The longest id in bytes. An entry of an index has room for twice as much.
pub(crate) const ID_BYTES_MAX: usize = 1024;

/// The longest result in bytes.
pub(crate) const RESULT_BYTES_MAX: usize = 4 << 20;

/// The longest name of a namespace or of a worker in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The longest reason in bytes that is kept of a failed attempt; a longer one is cut.
const REASON_BYTES_MAX: usize = 1024;

/// Times from now are counted up to this, so that no sum overflows: 36 million years.
const MS_MAX: u64 = 1 << 60;

pub(crate) fn check_namespace(what: &'static str, namespace: &str) -> Result<()> {
    if (1..=NAME_BYTES_MAX).contains(&namespace.len()) {
        return Ok(());
    }
    let length = namespace.len();
    Err(invalid(
        what,
        format!("the name of a namespace has 1 to {NAME_BYTES_MAX} bytes, not {length}"),
    ))
}

pub(crate) fn check_id(what: &'static str, id: &[u8]) -> Result<()> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) {
        return Ok(());
    }
    Err(invalid(what, format!("an id has 1 to {ID_BYTES_MAX} bytes, not {}", id.len())))
}

pub(crate) fn check_worker(what: &'static str, worker: &str) -> Result<()> {
    if worker.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let length = worker.len();
    Err(invalid(
        what,
        format!("the name of a worker has at most {NAME_BYTES_MAX} bytes, not {length}"),
    ))
}

pub(crate) fn check_result(what: &'static str, result: &[u8]) -> Result<()> {
    if result.len() <= RESULT_BYTES_MAX {
        return Ok(());
    }
    let length = result.len();
    Err(invalid(
        what,
        format!(
            "a result has at most {RESULT_BYTES_MAX} bytes, not {length}: store a reference to it"
        ),
    ))
}

pub(crate) fn check_policy(what: &'static str, policy: &Policy) -> Result<()> {
    if policy.attempts_max == 0 {
        return Err(invalid(what, "attempts_max of 0 would never start anything; give at least 1"));
    }
    ttl_ms(what, policy.dead_ttl).map(drop)
}

/// Returns a ttl in milliseconds; `None` is for ever.
pub(crate) fn ttl_ms(what: &'static str, ttl: Ttl) -> Result<Option<i64>> {
    match ttl.as_millis() {
        None => Ok(None),
        Some(0) => Err(invalid(
            what,
            "a ttl of 0 would forget it at once; give at least 1ms, or \"forever\"",
        )),
        Some(ms) => Ok(Some(ms.min(MS_MAX).cast_signed())),
    }
}

/// Returns a lease in milliseconds.
pub(crate) fn lease_ms(what: &'static str, lease: Duration) -> Result<i64> {
    match delay_ms(lease) {
        0 => Err(invalid(what, "a lease below 1ms would end at once")),
        ms => Ok(ms),
    }
}

/// Returns a delay in whole milliseconds.
pub(crate) fn delay_ms(delay: Duration) -> i64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).min(MS_MAX).cast_signed()
}

/// Returns the part of a reason that is kept, so that no character is cut.
pub(crate) fn kept(reason: &str) -> &[u8] {
    let length = (0..=REASON_BYTES_MAX.min(reason.len()))
        .rev()
        .find(|length| reason.is_char_boundary(*length));
    &reason.as_bytes()[..length.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_shared::Timestamp;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(kept("short"), b"short");
        assert_eq!(kept(&"x".repeat(2000)).len(), REASON_BYTES_MAX);
        assert_eq!(kept(&"\u{20ac}".repeat(500)).len(), 341 * 3);
    }

    #[test]
    fn times_are_counted_as_long_as_can_be_and_never_overflow() {
        let thousand_years_ms = 1_000 * 366 * 24 * 3_600 * 1_000;
        let now = 1_800_000_000_000_i64;
        for ttl in [Ttl::from_millis(u64::MAX), Ttl::from(Duration::MAX)] {
            let ms = ttl_ms("claim", ttl).unwrap().unwrap();
            assert!(ms > thousand_years_ms && now.checked_add(ms).unwrap() < i64::MAX);
        }
        assert!(lease_ms("begin", Duration::MAX).unwrap() > thousand_years_ms);
        assert_eq!(ttl_ms("claim", Ttl::FOREVER).unwrap(), None);
        assert!(ttl_ms("claim", Ttl::from_millis(0)).is_err());
        assert!(lease_ms("begin", Duration::from_nanos(999_999)).is_err());
        assert!(u64::try_from(i64::MAX).unwrap() < Timestamp::NEVER.as_millis());
    }
}
