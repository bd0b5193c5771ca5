//! The policies of a ledger, and the settings of one call.

use crate::engine::Durability;
use crate::error::{Error, Result};
use crate::ledger::fingerprint::Fingerprint;
use crate::limits;
use crate::time::Ttl;
use std::fmt;
use std::time::Duration;

/// What happens when a lease ends and nobody has said how the attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnLeaseEnd {
    /// The next `begin` starts another attempt. For effects that may happen twice, or that are fenced.
    #[default]
    Retry,
    /// The record is held for an operator. For effects that must not happen twice and cannot be looked up.
    Hold,
    /// The record is dead.
    Fail,
}

/// How long a record waits after a failure: the delays grow by a factor up to a limit, and each is drawn at random from
/// zero to that ("full jitter", after M. Brooker, "Exponential Backoff And Jitter", 2015), so that what failed together
/// does not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    max: Duration,
    has_jitter: bool,
}

impl Default for Backoff {
    /// One second, doubled after each failure, at most five minutes, with jitter.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(300),
            has_jitter: true,
        }
    }
}

impl Backoff {
    /// Creates delays of `base`, `base * factor`, and so on, with jitter; at most `max`. A factor below one, or that is
    /// no number, counts as one.
    pub fn exponential(base: Duration, factor: f64, max: Duration) -> Self {
        let factor = if factor >= 1.0 { factor } else { 1.0 };
        Self { base, factor, max, has_jitter: true }
    }

    /// Creates delays that are all the same, without jitter.
    pub fn constant(delay: Duration) -> Self {
        Self { base: delay, factor: 1.0, max: delay, has_jitter: false }
    }

    /// Sets that the delays are as long as they may be, not drawn at random.
    #[must_use]
    pub fn without_jitter(self) -> Self {
        Self { has_jitter: false, ..self }
    }

    /// Returns how long to wait after this many attempts, the one that has just failed included: for stores that keep
    /// their records elsewhere. With jitter it is drawn anew at each call.
    ///
    /// ```
    /// use firstseen::ledger::Backoff;
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// let backoff = Backoff::exponential(second, 2.0, 60 * second).without_jitter();
    /// assert_eq!([1, 2, 3, 100].map(|n| backoff.delay(n).as_secs()), [1, 2, 4, 60]);
    /// assert!(Backoff::exponential(second, 2.0, 60 * second).delay(3) <= 4 * second);
    /// ```
    pub fn delay(&self, attempts: u32) -> Duration {
        // Without randomness from the system what failed together comes back together, which is no reason to fail.
        let chance = getrandom::u64().unwrap_or_else(|_| u64::from(attempts));
        Duration::from_millis(self.delay_ms(attempts, chance))
    }

    /// Returns the delay in milliseconds after the given number of attempts; `chance` is any number.
    pub(crate) fn delay_ms(&self, attempts: u32, chance: u64) -> u64 {
        let failures = f64::from(attempts.saturating_sub(1));
        let grown =
            Duration::try_from_secs_f64(self.base.as_secs_f64() * self.factor.powf(failures))
                .unwrap_or(Duration::MAX);
        let most = u64::try_from(grown.min(self.max).as_millis()).unwrap_or(u64::MAX);
        if self.has_jitter { mix(chance) % most.saturating_add(1) } else { most }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): spreads numbers that differ little.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The policies of a ledger. They are not stored: every program that opens the ledger brings its own, and they count
/// from its next call on.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerOptions {
    pub(super) lease: Duration,
    pub(super) outlives_process: bool,
    pub(super) on_lease_end: OnLeaseEnd,
    pub(super) attempts_max: u32,
    pub(super) backoff: Backoff,
    pub(super) result_ttl: Option<Ttl>,
    pub(super) dead_ttl: Ttl,
    pub(super) result_bytes_max: usize,
    pub(super) durability: Option<Durability>,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            outlives_process: false,
            on_lease_end: OnLeaseEnd::Retry,
            attempts_max: 5,
            backoff: Backoff::default(),
            result_ttl: None,
            dead_ttl: Ttl::FOREVER,
            result_bytes_max: 1 << 20,
            durability: None,
        }
    }
}

impl LedgerOptions {
    /// Creates options with the defaults: leases of a minute that end with the process, another attempt after a lease
    /// ends, five attempts, [`Backoff::default`], results kept for the ttl of the namespace and up to 1 MiB, dead
    /// letters kept forever.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an attempt may go without a renewal or a saved stage. At least a millisecond.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Sets whether leases go on when the process ends. Set it if the work is done elsewhere, and the process only
    /// keeps the ledger. Otherwise the worker is gone with the process, and its records can be begun again as soon as
    /// the store is open.
    #[must_use]
    pub fn lease_outlives_process(self, outlives_process: bool) -> Self {
        Self { outlives_process, ..self }
    }

    /// Sets what happens when a lease ends.
    #[must_use]
    pub fn on_lease_end(self, on_lease_end: OnLeaseEnd) -> Self {
        Self { on_lease_end, ..self }
    }

    /// Sets after how many attempts a record is dead. They are counted as they start, so that a message that kills its
    /// worker each time ends, too. At least one.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max, ..self }
    }

    /// Sets how long a record waits after a failure.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets how long results are kept, counted from the completion.
    #[must_use]
    pub fn result_ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { result_ttl: Some(ttl.into()), ..self }
    }

    /// Sets how long dead letters are kept, counted from their death.
    #[must_use]
    pub fn dead_ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { dead_ttl: ttl.into(), ..self }
    }

    /// Sets the longest result in bytes, at most [`limits::LEDGER_VALUE_BYTES_MAX`](crate::limits::LEDGER_VALUE_BYTES_MAX).
    #[must_use]
    pub fn result_bytes_max(self, result_bytes_max: usize) -> Self {
        Self { result_bytes_max, ..self }
    }

    /// Sets what an answer guarantees, for all calls of this ledger. The default is that of the store.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        check_lease(self.lease)?;
        self.result_ttl.unwrap_or_default().check()?;
        self.dead_ttl.check()?;
        if self.attempts_max == 0 {
            return Err(Error::invalid(
                "attempts_max of 0 would never start anything; give at least 1",
            ));
        }
        if self.result_bytes_max > limits::LEDGER_VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "result_bytes_max of {} is above the limit of {}",
                self.result_bytes_max,
                limits::LEDGER_VALUE_BYTES_MAX
            )));
        }
        Ok(())
    }
}

/// Returns a lease in milliseconds. None at all is an error: it must never mean "without an end".
pub(super) fn check_lease(lease: Duration) -> Result<u64> {
    match u64::try_from(lease.as_millis()) {
        Ok(0) => Err(Error::invalid(
            "a lease below 1ms would end at once; is there no time left for the work?",
        )),
        Ok(ms) if ms <= limits::TTL_MS_MAX => Ok(ms),
        _ => Err(Error::invalid(format!("a lease of {lease:?} is too long"))),
    }
}

/// The settings of one `begin`.
#[derive(Clone, Default)]
pub struct BeginOptions {
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) worker: String,
    pub(super) lease: Option<Duration>,
    pub(super) version: u32,
}

impl fmt::Debug for BeginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeginOptions")
            .field("fingerprint", &self.fingerprint)
            .field("payload_bytes", &self.payload.as_ref().map(Vec::len))
            .field("worker", &self.worker)
            .field("lease", &self.lease)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl BeginOptions {
    /// Creates options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the fingerprint of the input. If the record has another one, the answer is a mismatch. Taken now, so a
    /// worker that changes its input later does no harm.
    #[must_use]
    pub fn fingerprint(self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint: Some(fingerprint), ..self }
    }

    /// Stores the input of the work until the id is completed, so that a dead letter can be done again. The first one
    /// given counts.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..self }
    }

    /// Names the worker, for those who read the record. It decides nothing: tokens do.
    #[must_use]
    pub fn worker(self, worker: impl Into<String>) -> Self {
        Self { worker: worker.into(), ..self }
    }

    /// Sets the lease of this attempt.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Sets the version of the program, zero if it has none. A record that a newer version has begun is not begun by an
    /// older one, which may not know its stages.
    #[must_use]
    pub fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(lease) = self.lease {
            check_lease(lease)?;
        }
        if self.worker.len() > limits::LEDGER_NAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the name of a worker has {} bytes; it has at most {}",
                self.worker.len(),
                limits::LEDGER_NAME_BYTES_MAX
            )));
        }
        let payload = self.payload.as_ref().map_or(0, Vec::len);
        if payload > limits::LEDGER_VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a payload of {payload} bytes; it has at most {}: store a reference to it",
                limits::LEDGER_VALUE_BYTES_MAX
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_by_the_factor_up_to_the_limit() {
        let (base, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let backoff = Backoff::exponential(base, 3.0, max).without_jitter();
        let delays: Vec<u64> = (1..=5).map(|n| backoff.delay_ms(n, 7)).collect();
        assert_eq!(delays, [100, 300, 900, 1000, 1000]);
        assert_eq!(backoff.delay_ms(u32::MAX, 7), 1000);
        assert_eq!(Backoff::constant(base).delay_ms(9, 7), 100);
        assert_eq!(Backoff::exponential(base, f64::NAN, max).without_jitter().delay_ms(9, 7), 100);
    }

    #[test]
    fn jitter_is_spread_over_the_whole_delay() {
        let backoff = Backoff::exponential(Duration::from_millis(999), 2.0, Duration::from_secs(9));
        let drawn: Vec<u64> = (0..10_000).map(|chance| backoff.delay_ms(1, chance)).collect();
        for tenth in 0..10 {
            let range = tenth * 100..(tenth + 1) * 100;
            let hits = drawn.iter().filter(|ms| range.contains(*ms)).count();
            assert!((800..1200).contains(&hits), "{hits} of 10,000 in {range:?}");
        }
        assert!(drawn.iter().all(|ms| *ms < 1000));
    }

    #[test]
    fn a_lease_of_nothing_is_refused() {
        for lease in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            assert!(LedgerOptions::new().lease(lease).check().is_err(), "{lease:?}");
            assert!(BeginOptions::new().lease(lease).check().is_err(), "{lease:?}");
        }
        assert!(LedgerOptions::new().attempts_max(0).check().is_err());
        assert!(LedgerOptions::new().result_ttl(Ttl::from_millis(0)).check().is_err());
        assert!(LedgerOptions::new().check().is_ok());
    }
}
