//! The tasks that requests run in: how many there are, and waiting for their end.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Counts tasks.
#[derive(Debug, Clone)]
pub(crate) struct InFlight(Arc<watch::Sender<u64>>);

/// One task, until it is dropped.
#[derive(Debug)]
pub(crate) struct OneInFlight(InFlight);

impl InFlight {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(crate) fn one_more(&self) -> OneInFlight {
        self.0.send_modify(|count| *count += 1);
        OneInFlight(self.clone())
    }

    pub(crate) fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until there is none; returns how many there are then, or after `grace`.
    pub(crate) async fn ended(&self, grace: Duration) -> u64 {
        let mut count = self.0.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = tokio::time::timeout(grace, count.wait_for(|count| *count == 0)).await;
        self.count()
    }
}

impl Drop for OneInFlight {
    fn drop(&mut self) {
        (self.0).0.send_modify(|count| *count -= 1);
    }
}
