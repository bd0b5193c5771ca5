//! The rules that every store keeps (rule 93), on each server, and on a cluster, which refuses a call with keys in two slots.

use crate::servers::to_cluster;
use crate::support::{LATE, open};
use firstseen_conformance::{Fixture, conformance};
use firstseen_servers::{Server, redis, valkey};
use firstseen_valkey::{Clock, ValkeyOptions, ValkeyStore};
use std::time::Duration;
use tokio::sync::Mutex;

/// Keeps what it has written when it is killed, and never waits for a disk: only the loss of power takes that.
const KEPT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];

/// A server, and the clock of all of its stores, which stands still.
struct Shared {
    server: Mutex<Server>,
    clock: Clock,
}

impl Shared {
    async fn redis() -> Self {
        Self::of(redis::start_with(&KEPT).await)
    }

    async fn valkey() -> Self {
        Self::of(valkey::start_with(&KEPT).await)
    }

    async fn cluster() -> Self {
        let server = valkey::start_with(&[&KEPT[..], &valkey::CLUSTER].concat()).await;
        to_cluster(&server).await;
        Self::of(server)
    }

    fn of(server: Server) -> Self {
        Self { server: Mutex::new(server), clock: Clock::standing() }
    }
}

impl Fixture for Shared {
    type Store = ValkeyStore;

    async fn store(&self) -> ValkeyStore {
        let options = ValkeyOptions::new().clock(self.clock.clone()).answer_max(LATE);
        open(&*self.server.lock().await, options).await.unwrap()
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn restart(&self) -> bool {
        self.server.lock().await.restart().await;
        true
    }
}

mod redis_server {
    use super::{Shared, conformance};
    conformance!(Shared::redis().await);
}

mod valkey_server {
    use super::{Shared, conformance};
    conformance!(Shared::valkey().await);
}

mod cluster_of_one {
    use super::{Shared, conformance};
    conformance!(Shared::cluster().await);
}
