//! Whether a call is right. What is refused here has not been sent.

use firstseen_shared::{Ending, Error, ErrorKind, Policy, Result, Start, Ttl};
use std::time::Duration;

/// Longest id in bytes.
pub(crate) const ID_BYTES_MAX: usize = 1_024;
/// Longest name of a namespace or a worker in bytes.
const NAME_BYTES_MAX: usize = 255;

fn invalid(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what, why.into())
}

fn bytes(what: &'static str, whose: &str, bytes: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&bytes) {
        return Ok(());
    }
    Err(invalid(what, format!("{whose} has {bytes} bytes; it has {least} to {most}")))
}

pub(crate) fn namespace(what: &'static str, namespace: &str) -> Result<()> {
    bytes(what, "the name of a namespace", namespace.len(), 1, NAME_BYTES_MAX)
}

pub(crate) fn id(what: &'static str, id: &[u8]) -> Result<()> {
    bytes(what, "an id", id.len(), 1, ID_BYTES_MAX)
}

pub(crate) fn result(what: &'static str, result: &[u8], most: usize) -> Result<()> {
    bytes(what, "a result", result.len(), 0, most)
}

pub(crate) fn ttl(what: &'static str, ttl: Ttl) -> Result<()> {
    match ttl.as_millis() {
        Some(0) => {
            Err(invalid(what, "a ttl of 0 would forget at once; give at least 1ms, or \"forever\""))
        }
        _ => Ok(()),
    }
}

pub(crate) fn lease(what: &'static str, lease: Duration) -> Result<()> {
    match lease.as_millis() {
        0 => Err(invalid(
            what,
            "a lease below 1ms would end at once; is there no time left for the work?",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn start(what: &'static str, start: &Start<'_>) -> Result<()> {
    lease(what, start.lease)?;
    bytes(what, "the name of a worker", start.worker.len(), 0, NAME_BYTES_MAX)
}

pub(crate) fn policy(what: &'static str, policy: &Policy) -> Result<()> {
    ttl(what, policy.dead_ttl)?;
    if policy.attempts_max == 0 {
        return Err(invalid(what, "attempts_max of 0 would never start anything; give at least 1"));
    }
    Ok(())
}

pub(crate) fn ending(what: &'static str, ending: &Ending<'_>, bytes_max: usize) -> Result<()> {
    if let Ending::Completed { result: bytes, ttl: kept, .. } = *ending {
        result(what, bytes, bytes_max)?;
        ttl(what, kept)?;
    }
    Ok(())
}
