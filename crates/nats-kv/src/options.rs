//! How a store is set up.

use firstseen_shared::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct NatsKvOptions {
    pub(crate) stream: String,
    pub(crate) replicas: usize,
    pub(crate) answer_max: Duration,
    /// By how much tests shift the clock of the server.
    pub(crate) shift_ms: Arc<AtomicU64>,
}

impl Default for NatsKvOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl NatsKvOptions {
    /// A stream `firstseen` of one replica, and five seconds for an answer.
    pub fn new() -> Self {
        Self {
            stream: "firstseen".to_owned(),
            replicas: 1,
            answer_max: Duration::from_secs(5),
            shift_ms: Arc::default(),
        }
    }

    /// Sets the name of the stream, which is also the first part of its subjects.
    #[must_use]
    pub fn stream(self, stream: impl Into<String>) -> Self {
        Self { stream: stream.into(), ..self }
    }

    /// Sets how many servers keep the stream, if it is not there yet: 1 to 5.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Sets how long a call may take; in a batch each id, and in a listing each request. At least 10 ms.
    #[must_use]
    pub fn answer_max(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// Checks the settings.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let name = &self.stream;
        let why = if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            format!("the stream {name:?} is not 1 to 64 letters, digits, '-' and '_'")
        } else if !(1..=5).contains(&self.replicas) {
            format!("{} replicas are not 1 to 5", self.replicas)
        } else if self.answer_max < Duration::from_millis(10) {
            format!("answer_max of {:?} is below 10ms", self.answer_max)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, what, why))
    }

    /// Shifts the clock of the server.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn shifted_by(self, shift_ms: Arc<AtomicU64>) -> Self {
        Self { shift_ms, ..self }
    }
}
