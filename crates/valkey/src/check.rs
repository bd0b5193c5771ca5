//! Whether a call is right. What is refused here has not been sent.

use crate::options::ValkeyOptions;
use firstseen_shared::{Ending, Error, ErrorKind, Policy, Result, Start, Ttl};
use std::time::Duration;

/// Longest id in bytes.
pub(crate) const ID_BYTES_MAX: usize = 1_024;
/// Longest name of a namespace or a worker in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest reason in bytes that is kept; a longer one is cut.
const REASON_BYTES_MAX: usize = 1_024;
/// Longest ttl and lease in milliseconds. The end is cut to 48 bits, in the year 10889.
const TIME_MS_MAX: u64 = 1 << 56;
/// What scripts are told of a longer one: they count in doubles.
const TOLD_MS_MAX: u64 = 1 << 48;

fn invalid(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what, why.into())
}

pub(crate) fn namespace(what: &'static str, namespace: &str) -> Result<()> {
    if namespace.is_empty() || namespace.len() > NAME_BYTES_MAX {
        return Err(invalid(
            what,
            format!("a namespace has {} bytes; it has 1 to {NAME_BYTES_MAX}", namespace.len()),
        ));
    }
    Ok(())
}

pub(crate) fn id(what: &'static str, id: &[u8]) -> Result<()> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(invalid(
            what,
            format!("an id has {} bytes; it has 1 to {ID_BYTES_MAX}", id.len()),
        ));
    }
    Ok(())
}

pub(crate) fn result(what: &'static str, result: &[u8], bytes_max: usize) -> Result<()> {
    if result.len() > bytes_max {
        return Err(invalid(
            what,
            format!(
                "a result of {} bytes; at most {bytes_max} are stored: store it elsewhere, and a reference to it here",
                result.len()
            ),
        ));
    }
    Ok(())
}

/// Returns a ttl as scripts take it: milliseconds, or nothing for ever.
pub(crate) fn ttl(what: &'static str, ttl: Ttl) -> Result<Vec<u8>> {
    match ttl.as_millis() {
        None => Ok(Vec::new()),
        Some(0) => {
            Err(invalid(what, "a ttl of 0 would forget at once; give at least 1ms, or \"forever\""))
        }
        Some(ms) if ms > TIME_MS_MAX => Err(invalid(
            what,
            format!(
                "a ttl of {ms} ms is longer than the limit of {TIME_MS_MAX} ms; use \"forever\""
            ),
        )),
        Some(ms) => Ok(told(ms)),
    }
}

/// Returns a lease as scripts take it.
pub(crate) fn lease(what: &'static str, lease: Duration) -> Result<Vec<u8>> {
    match u64::try_from(lease.as_millis()) {
        Ok(0) => Err(invalid(
            what,
            "a lease below 1ms would end at once; is there no time left for the work?",
        )),
        Ok(ms) if ms <= TIME_MS_MAX => Ok(told(ms)),
        _ => Err(invalid(what, format!("a lease of {lease:?} is too long"))),
    }
}

/// Returns a delay as scripts take it, not less than it is.
pub(crate) fn delay(delay: Duration) -> Vec<u8> {
    told(u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn told(ms: u64) -> Vec<u8> {
    ms.min(TOLD_MS_MAX).to_string().into_bytes()
}

/// Returns the start of a reason that is kept.
pub(crate) fn reason(reason: &str) -> &[u8] {
    let end =
        (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    &reason.as_bytes()[..end.unwrap_or_default()]
}

pub(crate) fn policy(what: &'static str, policy: &Policy) -> Result<()> {
    if policy.attempts_max == 0 {
        return Err(invalid(what, "attempts_max of 0 would never start anything; give at least 1"));
    }
    Ok(())
}

pub(crate) fn worker(what: &'static str, start: &Start<'_>) -> Result<()> {
    if start.worker.len() > NAME_BYTES_MAX {
        return Err(invalid(
            what,
            format!(
                "the name of a worker has {} bytes; it has at most {NAME_BYTES_MAX}",
                start.worker.len()
            ),
        ));
    }
    Ok(())
}

/// Checks the settings of a store.
pub(crate) fn options(options: &ValkeyOptions) -> Result<()> {
    const WHAT: &str = "the options of a store";
    let ValkeyOptions { prefix, answer_max, result_bytes_max, connections, .. } = options;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_plain) {
        return Err(invalid(
            WHAT,
            format!("the prefix {prefix:?} is not 1 to 64 letters, digits, '-', '_' and '.'"),
        ));
    }
    if *answer_max < Duration::from_millis(10) || *answer_max > Duration::from_secs(3_600) {
        return Err(invalid(WHAT, format!("answer_max of {answer_max:?} is not 10ms to an hour")));
    }
    if *result_bytes_max > 64 << 20 {
        return Err(invalid(WHAT, "result_bytes_max is above 64 MiB"));
    }
    if !(1..=64).contains(connections) {
        return Err(invalid(WHAT, format!("{connections} connections are not 1 to 64")));
    }
    Ok(())
}

/// Returns what an ending tells the script: how, result, whether it is a failure, ttl or delay, reason.
pub(crate) fn ending(
    what: &'static str,
    ending: &Ending<'_>,
    bytes_max: usize,
) -> Result<[Vec<u8>; 5]> {
    let none = Vec::new;
    Ok(match *ending {
        Ending::Completed { result: bytes, is_failure, ttl: kept } => {
            result(what, bytes, bytes_max)?;
            let is_failure = if is_failure { b"1" } else { b"0" };
            let kept = ttl(what, kept)?;
            [b"completed".to_vec(), bytes.to_vec(), is_failure.to_vec(), kept, none()]
        }
        Ending::Failed { retry_after, reason: text } => {
            [b"failed".to_vec(), none(), none(), delay(retry_after), reason(text).to_vec()]
        }
        Ending::Final { reason: text } => {
            [b"final".to_vec(), none(), none(), none(), reason(text).to_vec()]
        }
        Ending::Held { reason: text } => {
            [b"held".to_vec(), none(), none(), none(), reason(text).to_vec()]
        }
        Ending::Released => [b"released".to_vec(), none(), none(), none(), none()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "a test";

    #[test]
    fn what_would_end_at_once_or_overflow_is_refused() {
        for refused in [0, TIME_MS_MAX + 1, u64::MAX] {
            assert!(ttl(WHAT, Ttl::from_millis(refused)).is_err(), "{refused}");
        }
        assert_eq!(ttl(WHAT, Ttl::FOREVER).ok(), Some(Vec::new()));
        assert_eq!(ttl(WHAT, Ttl::from_millis(1)).ok(), Some(b"1".to_vec()));
        let longest = ttl(WHAT, Ttl::from_millis(TIME_MS_MAX)).ok();
        assert_eq!(longest, Some(TOLD_MS_MAX.to_string().into_bytes()));
        for refused in [Duration::ZERO, Duration::from_nanos(999_999), Duration::MAX] {
            assert!(lease(WHAT, refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn delays_are_not_shortened_and_reasons_are_cut_between_letters() {
        assert_eq!(delay(Duration::ZERO), b"0");
        assert_eq!(delay(Duration::from_micros(1_001)), b"2");
        assert_eq!(delay(Duration::MAX), TOLD_MS_MAX.to_string().into_bytes());
        let long = "\u{e4}".repeat(1_000);
        assert_eq!(reason(&long).len(), 1_024);
        assert_eq!(reason(&format!("a{long}")).len(), 1_023);
        assert_eq!(reason(""), b"");
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        let new = ValkeyOptions::new;
        assert!(options(&new()).is_ok());
        for (wrong, why) in [
            (new().prefix(""), "prefix"),
            (new().prefix("a:b"), "prefix"),
            (new().prefix("{a}"), "prefix"),
            (new().answer_max(Duration::ZERO), "answer_max"),
            (new().connections(0), "connections"),
            (new().result_bytes_max(usize::MAX), "result_bytes_max"),
        ] {
            let error = options(&wrong).expect_err(why);
            assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why));
        }
    }
}
