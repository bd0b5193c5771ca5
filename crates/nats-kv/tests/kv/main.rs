//! The rules that every store keeps, on a real server.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

mod away;
mod kills;
mod sweep;

use firstseen_conformance::{Fixture, conformance};
use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::{Server, nats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A server, and by how much its clock is shifted.
struct Shared {
    server: Mutex<Server>,
    shift_ms: Arc<AtomicU64>,
}

impl Shared {
    async fn new() -> Self {
        Self { server: Mutex::new(nats::start().await), shift_ms: Arc::default() }
    }
}

impl Fixture for Shared {
    type Store = NatsKvStore;

    async fn store(&self) -> NatsKvStore {
        let options = NatsKvOptions::new().shifted_by(Arc::clone(&self.shift_ms));
        // On a machine with other work nobody asks again.
        let options = options.answer_max(Duration::from_secs(60));
        NatsKvStore::connect(&nats::url(&*self.server.lock().await), options).await.unwrap()
    }

    async fn advance(&self, time: Duration) {
        self.shift_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn slack(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn restart(&self) -> bool {
        self.server.lock().await.restart().await;
        true
    }
}

conformance!(Shared::new().await);
