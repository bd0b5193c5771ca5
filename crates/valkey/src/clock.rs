//! The server's clock, in whose place only tests put another.

#[cfg(feature = "testing")]
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "testing")]
use std::time::Duration;

/// What scripts are told of the time. Clones are the same clock.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "tests can reach it"))]
pub struct Clock {
    /// Milliseconds since the epoch, at which the clock stands; zero: it is the server's.
    #[cfg(feature = "testing")]
    ms: Arc<AtomicU64>,
}

impl Clock {
    /// Returns a clock that stands still until it is moved.
    #[cfg(feature = "testing")]
    pub fn standing() -> Self {
        Self { ms: Arc::new(AtomicU64::new(1_767_225_600_000)) }
    }

    /// Moves the clock on.
    #[cfg(feature = "testing")]
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).expect("a time of a test");
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Returns what scripts are told.
    #[cfg(feature = "testing")]
    pub(crate) fn told(&self) -> Vec<u8> {
        self.ms.load(Ordering::Relaxed).to_string().into_bytes()
    }

    /// Returns what scripts are told.
    #[cfg(not(feature = "testing"))]
    #[allow(clippy::unused_self, reason = "in tests it is something")]
    pub(crate) fn told(&self) -> Vec<u8> {
        b"0".to_vec()
    }
}
